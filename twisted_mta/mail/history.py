"""What became of a message, as values: how it came, and what happened to it since."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.job import Waiting


class Kind(StrEnum):
    """What happened."""

    # The ends of an attempt for a recipient.
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"
    # An attempt of which no end is known.
    CUT_SHORT = "cut short"
    # What an operator did, or a rule of theirs.
    HELD = "held"
    RELEASED = "released"
    REQUEUED = "requeued"
    REDIRECTED = "redirected"
    BOUNCED = "bounced"
    REMOVED = "removed"
    # The sender was sent a notice; the text is its id.
    NOTIFIED = "notified"
    # The client sent it again, not having read that it was accepted; the text is where
    # from.
    RESENT = "sent again"
    # It went on as another message; the text is the id of that.
    RENEWED = "went on as"


#: After these a recipient waits no more.
LAST = (Kind.DELIVERED, Kind.FAILED, Kind.BOUNCED, Kind.REMOVED, Kind.RENEWED)


class Event(NamedTuple):
    """Something that happened to a message. The fields are the columns of its row.

    @ivar message_id: the message's id.
    @ivar id: its own; among those of a message they are in order of time.
    @ivar at: seconds since the epoch.
    @ivar who: the operator who did it; empty: the server itself.
    @ivar recipient: whom it is about; empty: all whom the message then waited for.
    @ivar agent: of an attempt, or where it was requeued to; so is C{next_hop}.
    @ivar remote: see L{Outcome <twisted_mta.mail.route.Outcome>}, for C{tls} and
        C{status}, too.
    @ivar text: the reply, a reason, or an id, as the kind says.
    @ivar uncertain: the next server may have the message although it did not say so.
    """

    message_id: int
    id: int
    at: float
    kind: str
    who: str = ""
    recipient: str = ""
    agent: str = ""
    next_hop: str = ""
    remote: str = ""
    tls: str = ""
    status: str = ""
    text: str = ""
    uncertain: bool = False


@dataclass(frozen=True, slots=True)
class Passage:
    """How a message came, and whom it was for.

    @ivar id: as text.
    @ivar received_at: seconds since the epoch.
    @ivar size: octets, the header fields included that were put before it.
    @ivar sender: empty for the null sender.
    @ivar recipients: as they were given; the first thousand.
    @ivar mailboxes: the addresses whose mailboxes here had it at once.
    @ivar queued: the addresses that it waited for in the queue.
    """

    id: str
    received_at: float
    size: int
    sender: str
    origin: Origin
    recipients: Sequence[str]
    mailboxes: Sequence[str]
    queued: Sequence[str]


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of a message.

    @ivar passage: C{None} if it came before there was a history, or while none was
        kept, and has left the queue.
    @ivar waiting: the recipients that it still waits for.
    @ivar events: the oldest first.
    """

    id: str
    passage: Passage | None
    waiting: Sequence[Waiting]
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Finished:
    """A message that has left the queue, or was never in it.

    @ivar done_at: when the last thing happened to it, seconds since the epoch.
    @ivar outcomes: how many recipients came to which end: C{"mailbox"}, or a L{Kind}.
    @ivar text: what was said last.
    """

    passage: Passage
    done_at: float
    outcomes: Sequence[tuple[str, int]]
    text: str
