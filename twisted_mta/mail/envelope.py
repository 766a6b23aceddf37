"""The envelope: who sends to whom, and how it came to us (RFC 5321 2.3.1)."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from twisted_mta.mail.address import Address
from twisted_mta.mail.route import Mailing


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message came from; what Received and the log say of it.

    @ivar protocol: the C{with} keyword of RFC 3848 and RFC 6531, such as
        C{"ESMTPSA"}; C{"local"} for what this server made itself.
    @ivar host: the peer's address as text, empty for C{"local"}.
    @ivar port: the peer's port.
    @ivar helo: the name it gave itself.
    @ivar tls: C{"TLSv1.3 TLS_AES_256_GCM_SHA384"}, empty without TLS.
    @ivar login: the address it logged in as, empty without AUTH.
    @ivar listener: the name of the listener in the config; of what this server made
        itself, what it is: C{"bounce"} if it tells of a failure, or empty.
    """

    protocol: str = "local"
    host: str = ""
    port: int = 0
    helo: str = ""
    tls: str = ""
    login: str = ""
    listener: str = ""


LOCAL = Origin()
BOUNCE = Origin(listener="bounce")
"""Of a message that tells its recipient of a failure. If it cannot be delivered in its
turn the postmaster is told."""


class Body(Enum):
    """What the content may hold, by the sender's word (RFC 6152, RFC 3030)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"
    BINARY = "BINARYMIME"


class Return(Enum):
    """What a report of failure returns (RFC 3461 4.3)."""

    FULL = "FULL"
    HEADERS = "HDRS"


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """By when (RFC 2852).

    @ivar seconds: from now on; may be past.
    @ivar returns: if it is not delivered by then it is returned; else the sender
        is told, and it goes on.
    @ivar trace: the sender is told of each step.
    """

    seconds: int
    returns: bool
    trace: bool = False


@dataclass(frozen=True, slots=True)
class Handling:
    """What the sender asks of everyone who has the message on its way.

    @ivar ret: C{None} if it was not said.
    @ivar envid: the sender's name for the message, or empty.
    @ivar require_tls: nobody may have it in the clear (RFC 8689).
    @ivar by: counted from when it was received.
    @ivar priority: -9 to 9 (RFC 6710).
    @ivar release_at: before then it goes nowhere (RFC 4865), seconds since the
        epoch; 0: at once.
    @ivar solicit: the classes of solicitation that it belongs to (RFC 3865), in lower
        case.
    @ivar verp: with what the recipient is written into the sender for each of them,
        such as C{"+="} (L{twisted_mta.mail.verp}); empty: he is not.
    @ivar give_up_at: from then on it is worth nothing, seconds since the epoch; 0:
        the queue knows. Of what this server writes.
    @ivar tls_waived: it may go without TLS, whatever anybody asks. The same; others
        say it in its header (RFC 8689 5).
    """

    ret: Return | None = None
    envid: str = ""
    require_tls: bool = False
    by: DeliverBy | None = None
    priority: int = 0
    release_at: float = 0.0
    solicit: tuple[str, ...] = ()
    verp: str = ""
    give_up_at: float = 0.0
    tls_waived: bool = False


USUAL = Handling()


class Envelope(NamedTuple):
    """One message's envelope.

    @ivar id: see L{twisted_mta.mail.ids}; the queue id.
    @ivar sender: the reverse-path, C{None} for the null one (bounces).
    @ivar recipients: as they were given, each once, in order.
    @ivar received_at: seconds since the epoch, UTC.
    @ivar body: what the content may hold, by the sender's word.
    @ivar smtputf8: SMTPUTF8 was said (RFC 6531).
    @ivar handling: what else was said.
    @ivar quarantined: a policy wants it kept apart: in mailboxes for junk, and held
        in the queue.
    """

    id: int
    sender: Address | None
    recipients: tuple[Address, ...]
    received_at: float
    origin: Origin = LOCAL
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    handling: Handling = USUAL
    quarantined: bool = False

    @property
    def mailing(self) -> Mailing:
        """What routes may ask of it."""
        return Mailing(self.sender, self.origin.login)

    @property
    def released_at(self) -> float:
        """Since when it is on its way, seconds since the epoch."""
        return max(self.received_at, self.handling.release_at)
