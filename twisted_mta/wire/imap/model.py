"""What an IMAP client can say, as values: the events of the server engine.

A L{Command} is syntactically right and nothing more: whether a mailbox exists,
whether a sequence number is in range or the command fits the session's state is
not known here (L{twisted_mta.wire.imap.commands.COMMANDS} says in which states
each is allowed). Mailbox names are decoded from modified UTF-7, INBOX is spelt
in capitals, and keywords such as fetch items are in capitals too.
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from twisted_mta.mail.placement import FlagChange
from twisted_mta.mail.uidset import UidSet
from twisted_mta.wire.imap.searchkey import SearchKey

PartText: TypeAlias = Literal[
    "", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME"
]


# Fetch items (RFC 3501 6.4.5). The macros ALL, FAST and FULL are expanded.


@dataclass(frozen=True, slots=True)
class BodySection:
    """Which octets of a message a BODY[...] or RFC822... item wants.

    @ivar path: part numbers from the outside in, C{()} for the message itself.
    @ivar text: what of that part, C{""} for all of it.
    @ivar fields: for HEADER.FIELDS and .NOT, as the client spelt them.
    @ivar partial: C{(offset, most)} in octets, or C{None} for all.
    @ivar peek: C{True} if reading does not set \\Seen.
    """

    path: tuple[int, ...] = ()
    text: PartText = ""
    fields: tuple[bytes, ...] = ()
    partial: tuple[int, int] | None = None
    peek: bool = False


@dataclass(frozen=True, slots=True)
class FetchItem:
    """One data item of FETCH.

    @ivar name: C{"UID"}, C{"FLAGS"}, C{"INTERNALDATE"}, C{"RFC822.SIZE"},
        C{"ENVELOPE"}, C{"BODYSTRUCTURE"}, C{"BODY"} (the structure without
        extension data), or, with a section, C{"BODY[]"}, C{"RFC822"},
        C{"RFC822.HEADER"}, C{"RFC822.TEXT"}.
    @ivar label: how the response names it, ready for the wire, such as
        C{b"BODY[1.HEADER.FIELDS (From)]<0>"}.
    @ivar section: what to read, C{None} for items that are no content.
    """

    name: str
    label: bytes
    section: BodySection | None = None


# Commands.


@dataclass(frozen=True, slots=True)
class Command:
    """Any command; those without arguments are exactly this: CAPABILITY, NOOP,
    LOGOUT, STARTTLS, CHECK, CLOSE, UNSELECT, IDLE, NAMESPACE, EXPUNGE.

    @ivar tag: the client's tag; may be sent back as it is.
    @ivar name: in capitals, C{"UID "} before it for the UID forms: a key of
        L{twisted_mta.wire.imap.commands.COMMANDS}.
    """

    tag: bytes
    name: str


@dataclass(frozen=True, slots=True)
class Login(Command):
    """LOGIN."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authenticate(Command):
    """AUTHENTICATE (RFC 4959 for the initial response).

    @ivar mechanism: in capitals.
    @ivar initial: the initial response, decoded from base64; C{None} if there
        is none, C{b""} for C{"="}.
    """

    mechanism: str
    initial: bytes | None


@dataclass(frozen=True, slots=True)
class Id(Command):
    """ID (RFC 2971).

    @ivar parameters: field names in lower case, with C{None} for NIL values.
    """

    parameters: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Enable(Command):
    """ENABLE (RFC 5161); capabilities in capitals."""

    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MailboxCommand(Command):
    """SELECT, EXAMINE, DELETE, SUBSCRIBE, UNSUBSCRIBE."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Create(Command):
    """CREATE.

    @ivar mailbox: as sent, so that it may end with the hierarchy separator.
    @ivar special_use: RFC 6154 3, such as C{("\\\\Sent",)}; else empty.
    """

    mailbox: str
    special_use: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rename(Command):
    """RENAME."""

    mailbox: str
    target: str


@dataclass(frozen=True, slots=True)
class List(Command):
    """LIST, in the form of RFC 3501 or of RFC 5258.

    @ivar patterns: one, or several in the form of RFC 5258.
    @ivar selection: of SUBSCRIBED, REMOTE, RECURSIVEMATCH, SPECIAL-USE.
    @ivar returns: of SUBSCRIBED, CHILDREN, SPECIAL-USE.
    @ivar extended: C{True} if any of RFC 5258's syntax was used; only then has
        an empty pattern no special meaning.
    """

    reference: str
    patterns: tuple[str, ...]
    selection: frozenset[str] = frozenset()
    returns: frozenset[str] = frozenset()
    extended: bool = False


@dataclass(frozen=True, slots=True)
class Lsub(Command):
    """LSUB."""

    reference: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Status(Command):
    """STATUS.

    @ivar items: of MESSAGES, RECENT, UIDNEXT, UIDVALIDITY, UNSEEN; each once.
    """

    mailbox: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Append(Command):
    """APPEND, up to its literal, which has not been read.

    The session must call the engine's C{accept_literal} or C{refuse_literal}
    before it asks for the next event.

    @ivar received_at: INTERNALDATE, seconds since the epoch; C{None} for now.
    @ivar size: octets that the literal announces.
    @ivar waits: C{True} if the client waits for C{+} before it sends them.
    """

    mailbox: str
    flags: tuple[str, ...]
    received_at: float | None
    size: int
    waits: bool


@dataclass(frozen=True, slots=True)
class Search(Command):
    """SEARCH and UID SEARCH; the keys' texts are decoded by the charset."""

    key: SearchKey
    uid: bool


@dataclass(frozen=True, slots=True)
class Fetch(Command):
    """FETCH and UID FETCH.

    @ivar items: without repetition, in the client's order. For the UID form,
        UID is among them whether asked for or not.
    """

    numbers: UidSet
    items: tuple[FetchItem, ...]
    uid: bool


@dataclass(frozen=True, slots=True)
class Store(Command):
    """STORE and UID STORE."""

    numbers: UidSet
    change: FlagChange
    silent: bool
    flags: tuple[str, ...]
    uid: bool


@dataclass(frozen=True, slots=True)
class Copy(Command):
    """COPY, MOVE and their UID forms; C{name} tells them apart."""

    numbers: UidSet
    mailbox: str
    uid: bool


@dataclass(frozen=True, slots=True)
class UidExpunge(Command):
    """UID EXPUNGE (RFC 4315)."""

    numbers: UidSet


# Other events.


@dataclass(frozen=True, slots=True)
class BadCommand:
    """A command that cannot be understood; the next event is the next command.

    @ivar tag: C{b"*"} when there was none.
    @ivar status: BAD, or NO for a charset or a size that is not supported.
    @ivar code: a response code without brackets, or C{b""}.
    """

    tag: bytes
    text: str
    status: bytes = b"BAD"
    code: bytes = b""


@dataclass(frozen=True, slots=True)
class Continue:
    """A literal inside a command was announced and will be taken: the session
    must write C{octets} now, nothing else."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class LiteralData:
    """A run of an APPEND's literal."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class LiteralEnd:
    """The APPEND is whole and its line has ended as it must. If it has not,
    there is a L{BadCommand} in place of this and nothing may be stored."""


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The client's answer to a challenge, decoded; C{None}: it cancelled."""

    response: bytes | None


@dataclass(frozen=True, slots=True)
class IdleDone:
    """The client ended IDLE with DONE."""


Event: TypeAlias = (
    Command | BadCommand | Continue | LiteralData | LiteralEnd | AuthResponse | IdleDone
)
