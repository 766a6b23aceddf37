"""Values that mailbox backends give and take (L{twisted_mta.interfaces})."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class MailboxInfo:
    """One mailbox of an account, as LIST shows it.

    @ivar id: stable while the mailbox lives, renames included (RFC 8474).
    @ivar name: decoded; levels are separated by C{/}; C{INBOX} in capitals.
    @ivar special_use: one attribute of RFC 6154 such as C{"\\\\Sent"}, or empty.
    """

    id: int
    name: str
    special_use: str
    subscribed: bool


@dataclass(frozen=True, slots=True)
class MailboxStatus:
    """The counts of a mailbox (RFC 3501 6.3.10, RFC 7162 3.1.2.1).

    @ivar recent: messages that no session was told of as \\Recent.
    @ivar size: octets of all messages.
    """

    messages: int
    recent: int
    unseen: int
    uidnext: int
    uidvalidity: int
    highest_modseq: int
    size: int


class Row(NamedTuple):
    """What a session must know of every message of a mailbox it opened."""

    uid: int
    modseq: int
    flags: frozenset[str]
    size: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened in a mailbox since a modseq.

    @ivar rows: new and changed messages, by ascending UID.
    @ivar vanished: UIDs expunged since, ascending. Asked since 0: empty.
    @ivar modseq: ask since this one next time.
    @ivar uidnext: RFC 3501 2.3.1.1.
    """

    rows: Sequence[Row]
    vanished: Sequence[int]
    modseq: int
    uidnext: int

    def pieces(self, most: int) -> "Iterator[Changes]":
        """The same in pieces of so many rows, to be taken up one after the other;
        what vanished is in the last, and there is always one."""
        last = max(len(self.rows) - 1, 0) // most * most
        for start in range(0, last, most):
            some = self.rows[start : start + most]
            yield Changes(some, (), self.modseq, self.uidnext)
        yield replace(self, rows=self.rows[last:]) if last else self


class Part(Enum):
    """What L{twisted_mta.interfaces.IMailbox.fetch} can bring along."""

    ENVELOPE = "envelope"
    STRUCTURE = "structure"
    SECTIONS = "sections"
    HEADER = "header"
    OCTETS = "octets"


class Message(NamedTuple):
    """One message of a mailbox: its placement and what was asked of its email.

    Fields not asked for are C{None}. (A tuple, since a FETCH makes hundreds of
    thousands a second: 0.2 us each, a frozen dataclass 3.)

    @ivar received_at: INTERNALDATE, seconds since the epoch, UTC.
    @ivar size: RFC822.SIZE: the prefix and the content.
    @ivar email: id of the immutable email (RFC 8474 EMAILID).
    @ivar thread: id of its thread (RFC 8474 THREADID).
    @ivar envelope: IMAP's ENVELOPE list, ready for the wire.
    @ivar bodystructure: IMAP's BODYSTRUCTURE list, ready for the wire.
    @ivar body: IMAP's BODY list, ready for the wire.
    @ivar sections: where the MIME parts lie, L{twisted_mta.mail.mime} packed;
        offsets count from the start of the content, after the prefix.
    @ivar prefix: how many octets of the message are prefix; given along with
        C{sections}, C{header} and C{octets}.
    @ivar header: the header block with its closing empty line, the prefix
        (Return-Path, Received) included.
    @ivar octets: the whole message, C{None} where it is kept in a file of its
        own: then L{twisted_mta.interfaces.IMailbox.content} streams it.
    """

    uid: int
    modseq: int
    flags: frozenset[str]
    size: int
    received_at: float
    email: int
    thread: int
    envelope: bytes | None = None
    bodystructure: bytes | None = None
    body: bytes | None = None
    sections: bytes | None = None
    prefix: int = 0
    header: bytes | None = None
    octets: bytes | None = None


class FlagChange(Enum):
    """What STORE does with the flags it is given (RFC 3501 6.4.6)."""

    REPLACE = "replace"
    ADD = "add"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Appended:
    """Where APPEND put a message (RFC 4315)."""

    uidvalidity: int
    uid: int


@dataclass(frozen=True, slots=True)
class Copied:
    """Where COPY or MOVE put messages (RFC 4315).

    @ivar pairs: (UID here, UID there), ascending by the first.
    """

    uidvalidity: int
    pairs: Sequence[tuple[int, int]]
