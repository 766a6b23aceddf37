"""A row of the relay queue, as delivery agents and people see it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from twisted_mta.mail import dsn
from twisted_mta.mail.address import Address
from twisted_mta.mail.dsn import Notification
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.route import Outcome


@dataclass(frozen=True, slots=True)
class Job:
    """One message for one next hop, claimed for one attempt.

    @ivar id: the row's id.
    @ivar envelope: the message's envelope as it was accepted.
    @ivar content: the content's id in the ledger.
    @ivar prefix: the header fields (Received, ...) that go before the content;
        no Return-Path, which only the last server adds (RFC 5321 4.4).
    @ivar size: octets of prefix and content together.
    @ivar eight_bit: the content has octets above 127.
    @ivar recipients: those still to be delivered by this row.
    @ivar attempts: how many attempts were made before this one.
    @ivar warned: the sender was told of the delay.
    @ivar notifications: what the sender asks to be told, of those recipients for
        whom it is not the usual.
    @ivar rewritten: who sends it on this way instead of the envelope's sender, if
        anybody does.
    @ivar note: of an attempt that takes several steps: awaited after each, it records
        who has the message by then, whatever becomes of the rest. C{None}: nobody does.
    """

    id: int
    envelope: Envelope
    content: int
    prefix: bytes
    size: int
    eight_bit: bool
    agent: str
    next_hop: str
    recipients: tuple[Address, ...]
    attempts: int
    warned: bool
    notifications: Mapping[Address, Notification] = field(default_factory=dict)
    rewritten: Address | None = None
    note: Callable[[Mapping[Address, Outcome]], Awaitable[None]] | None = field(
        default=None, compare=False, repr=False
    )

    @property
    def sender(self) -> Address | None:
        """Who sends it, as the next server is told."""
        return self.envelope.sender if self.rewritten is None else self.rewritten

    @property
    def told(self) -> Address | None:
        """Who is told what becomes of it: the sender himself, not his return address
        (SRS), but the one he asked for with a recipient's name in it (VERP)."""
        return self.sender if self.envelope.handling.verp else self.envelope.sender

    def notification(self, recipient: Address) -> Notification:
        """What the sender asks to be told of a recipient."""
        return self.notifications.get(recipient, dsn.USUAL)


@dataclass(frozen=True, slots=True)
class Parked:
    """A row that was claimed and is put off.

    @ivar due: until when, if nothing happens before.
    @ivar site: the site that it waits for; empty: it only waits for its time.
    @ivar outcome: what is known of it, for all its recipients; C{None}: what was.
    """

    job: Job
    due: float
    site: str = ""
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """One recipient of the queue, for an operator's eyes.

    @ivar id: the message's queue id, as text.
    @ivar state: C{"waiting"}, C{"held"}, C{"frozen"} (its next hop is) or
        C{"active"} (an attempt is running).
    @ivar due: when the next attempt is, seconds since the epoch.
    @ivar attempts: how many attempts were made.
    @ivar diagnostic: what the last attempt said, or empty.
    @ivar account: the address that logged in, or empty.
    """

    id: str
    sender: str
    recipient: str
    size: int
    queued_at: float
    state: str
    agent: str
    next_hop: str
    due: float
    attempts: int
    diagnostic: str
    account: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing.

    @ivar more: asks for the next part; empty if this is the last.
    """

    rows: Sequence[Waiting]
    more: str = ""
