"""How the SMTP agent behaves, as values; each with its precedent."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from twisted_mta.net.tls import Pair
from twisted_mta.wire.oauth import Token
from twisted_mta.wire.sasl import Credentials
from twisted_mta.wire.saslclient import Certified

# Octets of a token's file: a token goes into a line of 12288 in base64 (RFC 4954 4).
_TOKEN_MOST = 8192


class Tls(Enum):
    """What is asked of the next server."""

    NONE = "none"  # no TLS even if it is offered
    MAY = "may"  # TLS with anybody if it works, else none (RFC 7435)
    ENCRYPT = "encrypt"  # TLS with anybody, or no mail
    # As the DNS says (RFC 7672): TLS with whoever has the certificate of the host's
    # TLSA records; where it has none, as MAY.
    DANE = "dane"
    DANE_ONLY = "dane-only"  # or no mail
    VERIFY = "verify"  # TLS with whoever has a certificate for the host's name
    # TLS if it works, whatever the next domain says of it: what a message asks for (RFC
    # 8689 5), not an operator.
    WAIVED = "waived"
    # The same, and the server promises it for the rest of the way (RFC 8689): what
    # a message asks for, not an operator.
    PROMISED = "promised"

    @property
    def verified(self) -> bool:
        """The certificate must be right."""
        return self in (Tls.DANE_ONLY, Tls.VERIFY, Tls.PROMISED)

    @property
    def required(self) -> bool:
        """Rather no delivery than one in the clear."""
        return self.verified or self is Tls.ENCRYPT

    @property
    def by_dns(self) -> bool:
        """TLSA records are asked for."""
        return self in (Tls.DANE, Tls.DANE_ONLY)

    @property
    def by_policy(self) -> bool:
        """A domain's MTA-STS policy (RFC 8461) may ask for more than this."""
        return self in (Tls.MAY, Tls.ENCRYPT, Tls.DANE)


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
class TokenFile:
    """Where a token is (RFC 7628). It does not live long: whoever gets it anew writes
    it there, so it is read for each login.

    @ivar name: who logs in.
    @ivar path: its first line is the token.
    """

    name: str
    path: Path

    def read(self) -> Token:
        """The token as it is now.

        @raise ValueError: there is none, and why.
        """
        try:
            with self.path.open("rb") as file:
                lines = file.read(_TOKEN_MOST).decode("ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"The token cannot be read: {error}")
        if not lines or not lines[0].strip():
            raise ValueError(f"The first line of {self.path} is empty")
        return Token(self.name, lines[0].strip())


@dataclass(frozen=True, slots=True)
class Settings:
    """An agent's settings.

    @ivar hostname: what we call ourselves in EHLO; a name, or an address
        literal in its brackets.
    @ivar port: where next hops without a port of their own listen.
    @ivar implicit_tls: the connection begins with TLS (smarthosts on 465).
    @ivar credentials: for AUTH. The password goes out in the clear only if
        C{tls} is C{NONE}.
    @ivar pair: the certificate that is shown to servers that ask for one.
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
    @ivar rate: how many messages, in how many seconds; C{None}: any number.
    @ivar connections: at the same time from one address of ours, those that are idle
        included; C{None}: any number.
    @ivar messages: over one connection (Exim: connection_max_messages).
    @ivar without: extensions that are not used even if they are offered (Postfix:
        smtp_discard_ehlo_keywords).
    @ivar xforward: tell a server that offers XFORWARD where each message came from.
    @ivar lmtp: speak LMTP (RFC 2033) to the host that a next hop names, which is no
        domain with mail exchangers.
    """

    hostname: str
    port: int = 25
    tls: Tls = Tls.DANE
    implicit_tls: bool = False
    credentials: Credentials | TokenFile | Certified | None = None
    pair: Pair | None = None
    trust: Path | None = None
    sources: tuple[str, ...] = ()
    own_names: frozenset[str] = frozenset()
    loopback: bool = False
    addresses: int = 5
    sessions: int = 2
    recipients: int = 50
    idle_s: float = 2
    idle_connections: int = 50
    connections: int | None = None
    rate: tuple[int, float] | None = None
    messages: int = 500
    without: frozenset[str] = frozenset()
    xforward: bool = False
    lmtp: bool = False
    timeouts: Timeouts = Timeouts()
