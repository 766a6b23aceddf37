"""What a notification tells, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from twisted_mta.delivery.text import one_line
from twisted_mta.mail.address import Address
from twisted_mta.mail.dsn import Notification
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.route import Outcome

# Characters that all diagnostics of a report have together; of each the first hundred
# are there in any case, and no more than L{twisted_mta.delivery.text} leaves.
_DIAGNOSTICS = 100_000
_DIAGNOSTIC_LEAST, _DIAGNOSTIC_MOST = 100, 1000


class Action(Enum):
    """What became of the message (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class Report:
    """What a notification tells.

    @ivar hostname: this server's name.
    @ivar envelope: of the message.
    @ivar header: the message's header block; at most L{HEADER_MOST
        <twisted_mta.delivery.bounce.HEADER_MOST>} octets of it are returned.
    @ivar recipients: those it is about, each with the last attempt's outcome.
    @ivar now: when the attempt was, seconds since the epoch.
    @ivar action: what became of the message for all of them.
    @ivar retry_until: of a delay, when the server gives up.
    @ivar asked: what the sender asked to be told, where it is not the usual.
    @ivar whole: all of the message, to be returned instead of its header.
    @ivar instead: who is told instead of the sender: the message is itself a
        notification, which its recipient, who sent the message that it is about, does
        not take.
    """

    hostname: str
    envelope: Envelope
    header: bytes
    recipients: Sequence[tuple[Address, Outcome]]
    now: float
    action: Action = Action.FAILED
    retry_until: float | None = None
    asked: Mapping[Address, Notification] = field(default_factory=dict)
    whole: bytes | None = None
    instead: Address | None = None

    @property
    def to(self) -> Address:
        """Who is told."""
        to = self.instead or self.envelope.sender
        assert to is not None  # nobody is told of a message that has no sender
        return to

    def said(self, outcome: Outcome) -> str:
        """A server's words, or our own, for a report of so many recipients."""
        share = _DIAGNOSTICS // max(1, len(self.recipients))
        most = max(_DIAGNOSTIC_LEAST, min(share, _DIAGNOSTIC_MOST))
        return one_line(outcome.diagnostic, most)

    @property
    def international(self) -> bool:
        """Some address cannot be written in ASCII, and whoever is told can read it: he
        has such an address himself, or said SMTPUTF8 (RFC 6533 3)."""
        if not self.to.ascii:
            return True
        if not self.envelope.smtputf8 or self.instead is not None:
            return False
        originals = [one.original for one in self.asked.values()]
        return not all(address.ascii for address, _ in self.recipients) or any(
            one is not None and one.international for one in originals
        )
