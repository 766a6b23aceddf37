"""How the SMTP agent behaves, as values; each with its precedent."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from twisted_mta.wire.sasl import Credentials


class Tls(Enum):
    """What is asked of the next server."""

    NONE = "none"  # no TLS even if it is offered
    MAY = "may"  # TLS with anybody if it works, else none (RFC 7435)
    ENCRYPT = "encrypt"  # TLS with anybody, or no mail
    VERIFY = "verify"  # TLS with whoever has a certificate for the host's name

    @property
    def required(self) -> bool:
        """Rather no delivery than one in the clear."""
        return self in (Tls.ENCRYPT, Tls.VERIFY)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each answer may take, in seconds: RFC 5321 4.5.3.2, where it
    speaks of it, else Postfix."""

    connect_s: float = 30  # smtp_connect_timeout
    greeting_s: float = 300
    hello_s: float = 300  # smtp_helo_timeout
    tls_s: float = 300  # smtp_starttls_timeout
    auth_s: float = 300
    mail_s: float = 300
    rcpt_s: float = 300
    data_s: float = 120
    block_s: float = 180
    final_s: float = 600
    rset_s: float = 20  # smtp_rset_timeout
    # One message in all, to which its size at 500 octets a second is added
    # (smtp_min_data_rate), so that no server can keep us by dripping.
    message_s: float = 7200


@dataclass(frozen=True, slots=True)
class Settings:
    """An agent's settings.

    @ivar hostname: what we call ourselves in EHLO; a name, or an address
        literal in its brackets.
    @ivar port: where next hops without a port of their own listen.
    @ivar implicit_tls: the connection begins with TLS (smarthosts on 465).
    @ivar credentials: for AUTH. The password goes out in the clear only if
        C{tls} is C{NONE}.
    @ivar trust: a PEM file of the authorities to believe in C{VERIFY}, else
        the system's.
    @ivar sources: our addresses to connect from, at most one of each family.
    @ivar own_names: names under which mail exchangers are this server, beside
        C{hostname}.
    @ivar loopback: a domain's mail exchanger may be on the loopback. Without
        it such a domain loops back to us (Exim: ignore_target_hosts).
    @ivar addresses: how many addresses of a next hop are tried in one attempt
        (Postfix: smtp_mx_address_limit).
    @ivar sessions: at how many of them a message may be refused for now before
        the attempt ends (Postfix: smtp_mx_session_limit).
    @ivar recipients: in one transaction (Postfix:
        smtp_destination_recipient_limit; RFC 5321 4.5.3.1.8 promises 100).
    @ivar idle_s: how long a connection is kept for the next message (Postfix:
        2 s), and
    @ivar idle_connections: how many are kept in all.
    @ivar messages: over one connection (Exim: connection_max_messages).
    """

    hostname: str
    port: int = 25
    tls: Tls = Tls.MAY
    implicit_tls: bool = False
    credentials: Credentials | None = None
    trust: Path | None = None
    sources: tuple[str, ...] = ()
    own_names: frozenset[str] = frozenset()
    loopback: bool = False
    addresses: int = 5
    sessions: int = 2
    recipients: int = 50
    idle_s: float = 2
    idle_connections: int = 50
    messages: int = 500
    timeouts: Timeouts = Timeouts()
