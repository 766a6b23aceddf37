"""The envelope: who sends to whom, and how it came to us (RFC 5321 2.3.1)."""

from dataclasses import dataclass
from typing import NamedTuple

from twisted_mta.mail.address import Address


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
    @ivar listener: the name of the listener in the config.
    """

    protocol: str = "local"
    host: str = ""
    port: int = 0
    helo: str = ""
    tls: str = ""
    login: str = ""
    listener: str = ""


LOCAL = Origin()


class Envelope(NamedTuple):
    """One message's envelope.

    @ivar id: see L{twisted_mta.mail.ids}; the queue id.
    @ivar sender: the reverse-path, C{None} for the null one (bounces).
    @ivar recipients: as they were given, each once, in order.
    @ivar received_at: seconds since the epoch, UTC.
    @ivar eight_bit: BODY=8BITMIME was said (RFC 6152).
    @ivar smtputf8: SMTPUTF8 was said (RFC 6531).
    """

    id: int
    sender: Address | None
    recipients: tuple[Address, ...]
    received_at: float
    origin: Origin = LOCAL
    eight_bit: bool = False
    smtputf8: bool = False
