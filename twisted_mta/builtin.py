"""The plugins that are built in: the SMTP delivery agent.

The agent is a plugin like any drop-in, so that the config's C{agents:} can name
several of it, each with its own smarthost account or TLS policy.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from attrs import frozen
from zope.interface import implementer

from twisted_mta.config.units import Rate, Seconds
from twisted_mta.delivery.smtp import exchanger
from twisted_mta.delivery.smtp.agent import SmtpAgent
from twisted_mta.delivery.smtp.settings import Settings, Timeouts, Tls, TokenFile
from twisted_mta.delivery.smtp.sts import StsPolicies
from twisted_mta.delivery.smtp.tlsmemory import Recall, TlsMemory
from twisted_mta.net.tls import CertificateError, Pair, opportunistic, verifying
from twisted_mta.plugin import Environment, IChecksNextHop, IForesees, IPlugin
from twisted_mta.wire.sasl import Credentials
from twisted_mta.wire.saslclient import Certified

# Timeouts that are not for one reply.
_NOT_REPLIES = {"connect_s", "message_s"}

# Extensions that the agent makes use of.
Used = Literal[
    "PIPELINING",
    "SIZE",
    "8BITMIME",
    "SMTPUTF8",
    "CHUNKING",
    "BINARYMIME",
    "DSN",
    "STARTTLS",
    "AUTH",
    "LIMITS",
    "REQUIRETLS",
    "DELIVERBY",
    "MT-PRIORITY",
]

Listening = Callable[[], Iterable[tuple[str, int]]]


@frozen(kw_only=True)
class SmtpAgentConfig:
    """An agent of the kind smtp. The comments are its manual in C{etc/mta.yaml}
    (L{twisted_mta.config.manual})."""

    # Where next hops without a port of their own listen.
    port: int = 25
    # none; may: with anybody if it works; encrypt: with anybody, or no mail; dane: with
    # whom the DNS says (TLSA records, see dns: validating), where it says nothing as
    # may; dane-only: where it says nothing no mail; verify: only with a valid
    # certificate of the host's name. As Postfix's smtp_tls_security_level.
    tls: Literal["none", "may", "encrypt", "dane", "dane-only", "verify"] = "dane"
    # Keep to what domains ask for by MTA-STS (RFC 8461), with may, encrypt and dane.
    mta_sts: bool = True
    # When a host had TLS in the last 30 days and has none now, with may and dane: none;
    # warn in the log; or defer its mail, for
    tls_memory: Literal["none", "warn", "defer"] = "warn"
    # so long at most since its TLS was first missed.
    tls_memory_wait: Seconds = Seconds(86400.0)
    # TLS from the first octet (port 465).
    implicit_tls: bool = False
    # A PEM file of the authorities to believe in verify and for mail exchangers of
    # domains with MTA-STS. None: the system's.
    trust: Path | None = None
    # For AUTH at a smarthost, with the password in the file's first line. It
    # goes out under TLS only, unless tls is none.
    user: str | None = None
    password_file: Path | None = None
    # Or a token (OAUTHBEARER, XOAUTH2), read for each login, so that another
    # program can write it anew before it ends.
    token_file: Path | None = None
    # Our certificate for servers that ask for one, and its key. Without user it
    # logs in (EXTERNAL) where the server offers that.
    certificate: Path | None = None
    key: Path | None = None
    # Our addresses to connect from, at most one of each family. Empty: the
    # system chooses.
    sources: tuple[str, ...] = ()
    # Connections at the same time from each of our addresses, of all workers
    # together; at least one for each worker. None: any number.
    connections: int | None = None
    # The most messages in a time from them together, such as 600/m, of all workers;
    # for a rate of each address make an agent for each. None: any number.
    rate: Rate | None = None
    # More names of this server in the DNS, beside hostname, such as that of a
    # router that passes port 25 on to it: an MX of that name is never tried.
    own_names: tuple[str, ...] = ()
    # An MX may be on the loopback. For tests.
    loopback: bool = False
    # Extensions that are not used even if they are offered, such as [CHUNKING].
    # Postfix: smtp_discard_ehlo_keywords.
    without: tuple[Used, ...] = ()
    # Tell a server that offers XFORWARD, such as a content filter, where each
    # message came from.
    xforward: bool = False
    # How long a connection may take to come about. Postfix: 30 s.
    connect_timeout: Seconds = Seconds(30.0)
    # How long each reply may take. None: as RFC 5321 4.5.3.2 asks, 2 to 10
    # minutes.
    reply_timeout: Seconds | None = None

    def __attrs_post_init__(self) -> None:
        files = (self.password_file, self.token_file)
        if self.user is not None and files.count(None) != 1:
            raise ValueError("'user' needs 'password_file' or 'token_file'; add one")
        if self.user is None and files.count(None) != 2:
            raise ValueError("'password_file' and 'token_file' need 'user'; add it")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("'certificate' and 'key' need each other; add the other")
        _check_certificate(_pair(self))
        if self.trust is not None:
            check_trust(self.trust)
        _credentials(self)
        _sources(self.sources)
        if self.connections is not None and self.connections < 1:
            raise ValueError("connections: must be more than 0")


@implementer(IPlugin, IChecksNextHop, IForesees)
class SmtpAgentPlugin:
    """Builds SMTP agents.

    @param listening: where this server takes mail, so that no agent speaks to
        it by mistake.
    """

    kind = "agent"
    name = "smtp"
    config = SmtpAgentConfig

    def __init__(self, listening: Listening) -> None:
        self._listening = listening

    def build(self, config: SmtpAgentConfig, environment: Environment) -> SmtpAgent:
        """Make an agent.

        @raise ValueError: the password can no longer be read.
        """
        clock, ledger, web = environment.reactor, environment.ledger, environment.web
        policies = None
        if config.mta_sts and web is not None:
            policies = StsPolicies(clock, environment.resolver, ledger, web)
        return SmtpAgent(
            clock,
            environment.resolver,
            Settings(
                hostname=environment.hostname,
                port=config.port,
                tls=Tls(config.tls),
                implicit_tls=config.implicit_tls,
                credentials=_credentials(config),
                pair=_pair(config),
                trust=config.trust,
                sources=_sources(config.sources),
                connections=None
                if config.connections is None
                else max(1, environment.share(config.connections)),
                rate=None
                if config.rate is None
                else (config.rate.count, config.rate.seconds),
                own_names=frozenset(map(str.lower, config.own_names)),
                loopback=config.loopback,
                without=frozenset(config.without),
                xforward=config.xforward,
                timeouts=timeouts(config.connect_timeout, config.reply_timeout),
            ),
            self._listening,
            policies,
            environment.tls_results,
            TlsMemory(clock, ledger, Recall(config.tls_memory), config.tls_memory_wait),
        )

    def check_next_hop(self, config: SmtpAgentConfig, next_hop: str | None) -> None:
        """See L{IChecksNextHop}."""
        if next_hop is None:
            return
        try:
            exchanger.check(exchanger.read(next_hop))
        except ValueError as error:
            raise ValueError(f"must be [HOST]:PORT: {error}")


def timeouts(connect_s: float, reply_s: float | None) -> Timeouts:
    """The timeouts of an agent.

    @param reply_s: for each reply, C{None} for each its own.
    """
    usual = replace(Timeouts(), connect_s=connect_s)
    if reply_s is None:
        return usual
    replies = [f.name for f in fields(Timeouts) if f.name not in _NOT_REPLIES]
    return replace(usual, **dict.fromkeys(replies, reply_s))


def _pair(config: SmtpAgentConfig) -> Pair | None:
    if config.certificate is None or config.key is None:
        return None
    return Pair(config.certificate, config.key)


def _check_certificate(pair: Pair | None) -> None:
    try:
        verifying("localhost", None, pair)
        opportunistic("localhost", pair)
    except CertificateError as error:
        raise ValueError(f"certificate: {error}")


def _credentials(
    config: SmtpAgentConfig,
) -> Credentials | TokenFile | Certified | None:
    if config.user is None:
        return None if config.certificate is None else Certified()
    if config.token_file is not None:
        return TokenFile(config.user, config.token_file)
    return password(config.user, config.password_file)


def password(user: str, file: Path | None) -> Credentials | None:
    """A login whose password is the first line of a file; C{None} without one.

    @raise ValueError: it cannot be read.
    """
    if file is None:
        return None
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"password_file: cannot be read: {error}")
    if not lines or not lines[0]:
        raise ValueError(
            f"password_file: the first line of {file} is empty;"
            " write the password there"
        )
    return Credentials(user, lines[0])


def check_trust(trust: Path) -> None:
    """@raise ValueError: it holds no authorities."""
    try:
        verifying("localhost", trust)
    except CertificateError as error:
        raise ValueError(f"trust: {error}")


def _sources(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The addresses in their usual spelling."""
    try:
        addresses = [ip_address(text) for text in texts]
    except ValueError as error:
        raise ValueError(f"sources: {error}")
    if len({address.version for address in addresses}) < len(addresses):
        raise ValueError("sources: there are two of one family; remove one")
    return tuple(map(str, addresses))
