"""The delivery agents that are built in beside SMTP's, as plugins like any drop-in:
lmtp, pipe, discard, error, several.

The comments of the settings are their manual in C{etc/mta.yaml}
(L{twisted_mta.config.manual}).
"""

import os
import pwd
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from attrs import field, frozen
from zope.interface import implementer

from twisted_mta.builtin import Listening, Used, check_trust, password, timeouts
from twisted_mta.config.units import Octets, Seconds
from twisted_mta.delivery.fixed import Fixed
from twisted_mta.delivery.pipe import settings as pipe
from twisted_mta.delivery.pipe.agent import PipeAgent
from twisted_mta.delivery.pipe.arguments import Arguments, Spelling
from twisted_mta.delivery.several import Several
from twisted_mta.delivery.several import Way as SeveralWay
from twisted_mta.delivery.smtp import exchanger
from twisted_mta.delivery.smtp.agent import SmtpAgent
from twisted_mta.delivery.smtp.settings import Settings, Tls
from twisted_mta.mail.route import Outcome, Result
from twisted_mta.net.poller import unpolled
from twisted_mta.plugin import (
    Environment,
    IChecksNextHop,
    IForesees,
    IPlugin,
    IUsesAgents,
)

_STATUS = re.compile(r"[45]\.\d{1,3}\.\d{1,3}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PORT_OF_SMTP = 25

# What every program gets, unless the config says otherwise.
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


@frozen(kw_only=True)
class LmtpAgentConfig:
    """An agent of the kind lmtp: to a server behind this one that has the mailboxes.
    Its next hops are unix:/PATH, HOST, HOST:PORT or [HOST]:PORT; a route to it has to
    name one."""

    # Where next hops without a port of their own listen. Not 25 (RFC 2033 5).
    port: int = 24
    # none; may: if it works; encrypt: or no mail; verify: only with a valid
    # certificate of the host's name. Over a unix socket there is none in any case.
    tls: Literal["none", "may", "encrypt", "verify"] = "may"
    # A PEM file of the authorities to believe in verify. None: the system's.
    trust: Path | None = None
    # For AUTH, with the password in the file's first line. It goes out under TLS
    # only, unless tls is none.
    user: str | None = None
    password_file: Path | None = None
    # Recipients of one message that are given at once. Postfix: 50.
    recipients: int = 50
    # Extensions that are not used even if they are offered.
    without: tuple[Used, ...] = ()
    # Tell a server that offers XFORWARD where each message came from.
    xforward: bool = False
    # How long a connection may take to come about. Postfix: 30 s.
    connect_timeout: Seconds = Seconds(30.0)
    # How long each reply may take. None: 2 to 10 minutes, as for SMTP.
    reply_timeout: Seconds | None = None

    def __attrs_post_init__(self) -> None:
        if not 0 < self.port < 65536 or self.port == _PORT_OF_SMTP:
            raise ValueError("port: must be 1 to 65535, and not 25; LMTP's own is 24")
        if (self.user is None) != (self.password_file is None):
            raise ValueError("'user' and 'password_file' need each other; add both")
        if self.recipients < 1:
            raise ValueError("recipients: must be more than 0")
        if self.trust is not None:
            check_trust(self.trust)
        password(self.user or "", self.password_file)


@implementer(IPlugin, IChecksNextHop, IForesees)
class LmtpAgentPlugin:
    """Builds LMTP agents.

    @param listening: see L{SmtpAgentPlugin <twisted_mta.builtin.SmtpAgentPlugin>}.
    """

    kind = "agent"
    name = "lmtp"
    config = LmtpAgentConfig

    def __init__(self, listening: Listening) -> None:
        self._listening = listening

    def build(self, config: LmtpAgentConfig, environment: Environment) -> SmtpAgent:
        """Make an agent.

        @raise ValueError: the password can no longer be read.
        """
        return SmtpAgent(
            environment.reactor,
            environment.resolver,
            Settings(
                hostname=environment.hostname,
                port=config.port,
                tls=Tls(config.tls),
                credentials=password(config.user or "", config.password_file),
                trust=config.trust,
                recipients=config.recipients,
                without=frozenset(config.without),
                xforward=config.xforward,
                lmtp=True,
                timeouts=timeouts(config.connect_timeout, config.reply_timeout),
            ),
            self._listening,
        )

    def check_next_hop(self, config: LmtpAgentConfig, next_hop: str | None) -> None:
        """See L{IChecksNextHop}."""
        if next_hop is None:
            raise ValueError(
                "an agent of the kind lmtp needs a 'next_hop', such as"
                " unix:/run/dovecot/lmtp or [192.0.2.1]:24"
            )
        hop = exchanger.read_host(next_hop)
        if not isinstance(hop, str):
            exchanger.check(hop)


@frozen(kw_only=True)
class PipeAgentConfig:
    """An agent of the kind pipe: to a program, which gets the message on its standard
    input and says by its exit status what became of it (sysexits.h)."""

    # The program's path and its arguments; no shell. Within an argument are replaced:
    # {recipient}, and its {local}, {detail} and {domain}; {sender}; {id}, the queue id;
    # {next_hop}; {size}; {client} and {login}, where it came from. {{ and }} are
    # braces. An address that begins with '-' is not put where an argument begins: its
    # mail is returned.
    argv: tuple[str, ...]
    # Who the program runs as. Needed if this server runs as root, else it runs as
    # this server does. Not root.
    user: str | None = None
    # Where it runs.
    directory: Path = Path("/")
    # Its environment beside PATH and LANG, such as {HOME: /var/lib/tickets}.
    environment: dict[str, str] = field(factory=dict)
    # recipient: a run for each; message: one for all recipients of a message that
    # take this way, up to 50; an argument with something of a recipient is there once
    # for each of them.
    runs: Literal["recipient", "message"] = "recipient"
    # Begin with mbox's line "From SENDER  DATE". Lines of the message that look like
    # it stay as they are.
    from_line: bool = False
    # Begin with Return-Path, with the sender.
    return_path: bool = True
    # Begin with Delivered-To, with the recipient, and return mail that has it already.
    # Only where each recipient has a run.
    delivered_to: bool = True
    # lf, as programs expect; or crlf, as mail has it on its way.
    line_end: Literal["lf", "crlf"] = "lf"
    # What separates a local part from its {detail}.
    subaddress: str = "+"
    # What {sender} is for bounces, which have none. Postfix: MAILER-DAEMON.
    null_sender: str = "MAILER-DAEMON"
    # How long a run may take; then its processes get SIGTERM, and SIGKILL 5 s later.
    # Postfix: 1000 s.
    timeout: Seconds = Seconds(1000.0)
    # How much a program may say before it is ended. The first 2K are for the log, and
    # for a bounce.
    output: Octets = Octets(1 << 20)
    # Runs at the same time, over all workers; each has one at least. Postfix: 20.
    concurrency: int = 20

    def __attrs_post_init__(self) -> None:
        arguments = _arguments(self.argv)
        if not os.access(arguments.program, os.X_OK) or os.path.isdir(
            arguments.program
        ):
            raise ValueError(f"argv: {arguments.program} is no program to be run")
        if self.user is not None:
            _check_user(self.user)
        if not self.directory.is_dir():
            raise ValueError(f"directory: no such directory: {self.directory}")
        for name, value in self.environment.items():
            if not _VARIABLE.fullmatch(name) or "\0" in value:
                raise ValueError(f"environment: '{name}' cannot be set")
        if len(self.subaddress) > 1:
            raise ValueError("subaddress: must be one character, or empty")
        if self.null_sender.startswith("-"):
            raise ValueError("null_sender: must not begin with '-'")
        for name in ("timeout", "output", "concurrency"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: must be more than 0")


def _arguments(argv: Sequence[str]) -> Arguments:
    try:
        return Arguments(argv)
    except ValueError as error:
        raise ValueError(f"argv: {error}")


def _check_user(name: str) -> None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ValueError(f"user: nobody is called {name} here")
    if entry.pw_uid == 0:
        raise ValueError("user: no mail for programs that run as root")


@implementer(IPlugin)
class PipeAgentPlugin:
    """Builds agents that run programs."""

    kind = "agent"
    name = "pipe"
    config = PipeAgentConfig

    def build(self, config: PipeAgentConfig, environment: Environment) -> PipeAgent:
        """Make an agent."""
        settings = pipe.Settings(
            arguments=_arguments(config.argv),
            spelling=Spelling(config.subaddress, config.null_sender),
            user=config.user,
            directory=str(config.directory.resolve()),
            environment={**_ENVIRONMENT, **config.environment},
            each=config.runs == "recipient",
            from_line=config.from_line,
            return_path=config.return_path,
            delivered_to=config.delivered_to,
            line_feed=config.line_end == "lf",
            timeout_s=config.timeout,
            output=config.output,
            concurrency=max(1, environment.share(config.concurrency)),
        )
        reactor: Any = unpolled(environment.reactor)
        return PipeAgent(reactor, environment.reactor, settings)


@frozen(kw_only=True)
class DiscardAgentConfig:
    """An agent of the kind discard: mail is taken and thrown away, and the log says
    so."""

    # What the log says.
    text: str = "Discarded"


@implementer(IPlugin, IForesees)
class DiscardAgentPlugin:
    """Builds agents that throw mail away."""

    kind = "agent"
    name = "discard"
    config = DiscardAgentConfig

    def build(self, config: DiscardAgentConfig, environment: Environment) -> Fixed:
        """Make an agent."""
        return Fixed(Outcome(Result.DELIVERED, "2.0.0", config.text))


@frozen(kw_only=True)
class ErrorAgentConfig:
    """An agent of the kind error: its recipients are refused, or, where they come from
    an alias, their mail is returned."""

    # RFC 3463: 5.x.x for good, 4.x.x for now.
    status: str = "5.7.1"
    # What the sender reads.
    text: str = "Mail for this address is not taken"

    def __attrs_post_init__(self) -> None:
        if not _STATUS.fullmatch(self.status):
            raise ValueError("status: must be such as 5.1.1, or 4.2.1")
        if not self.text.isprintable() or not self.text.strip():
            raise ValueError("text: must be a line of text")


@implementer(IPlugin, IForesees)
class ErrorAgentPlugin:
    """Builds agents that return mail."""

    kind = "agent"
    name = "error"
    config = ErrorAgentConfig

    def build(self, config: ErrorAgentConfig, environment: Environment) -> Fixed:
        """Make an agent."""
        final = config.status.startswith("5")
        result = Result.FAILED if final else Result.DEFERRED
        return Fixed(Outcome(result, config.status, config.text))


@frozen(kw_only=True)
class Way:
    """One of several ways."""

    # The agent, see agents.
    agent: str
    # Where that one takes it, as in a route.
    next_hop: str | None = None
    # Its share: of weights 3 and 1 it has three quarters.
    weight: int = 1

    def __attrs_post_init__(self) -> None:
        if self.weight < 1:
            raise ValueError("weight: must be more than 0")


@frozen(kw_only=True)
class Fallback:
    """A way for what no other takes."""

    # The agent, see agents.
    agent: str
    # Where that one takes it, as in a route.
    next_hop: str | None = None


@frozen(kw_only=True)
class SeveralAgentConfig:
    """An agent of the kind several: over other agents."""

    # Ways that share the mail, such as [{agent: smtp, next_hop: "[relay]:25",
    # weight: 3}, ...]. A message keeps its way for later attempts, unless that is
    # down.
    ways: tuple[Way, ...]
    # Ways that are tried in this order, in the same attempt, if nobody was reached.
    fallback: tuple[Fallback, ...] = ()
    # unreachable: no connection, no TLS or login that is asked for, no DNS, or a
    # greeting that says to come later. any: also if a recipient was deferred.
    fallback_on: Literal["unreachable", "any"] = "unreachable"
    # How long a way is passed over once nobody was reached there. Postfix:
    # transport_retry_time 60 s.
    pause: Seconds = Seconds(60.0)

    def __attrs_post_init__(self) -> None:
        if not self.ways:
            raise ValueError("ways: is empty; name at least one")
        if self.pause < 0:
            raise ValueError("pause: must not be less than 0")


@implementer(IPlugin, IForesees, IUsesAgents)
class SeveralAgentPlugin:
    """Builds agents over other agents."""

    kind = "agent"
    name = "several"
    config = SeveralAgentConfig

    def build(self, config: SeveralAgentConfig, environment: Environment) -> Several:
        """Make an agent."""
        return Several(
            environment.reactor,
            environment.agents,
            [SeveralWay(w.agent, w.next_hop, w.weight) for w in config.ways],
            [SeveralWay(w.agent, w.next_hop) for w in config.fallback],
            on_any=config.fallback_on == "any",
            pause_s=config.pause,
        )

    def uses(
        self, config: SeveralAgentConfig
    ) -> Iterator[tuple[tuple[str | int, ...], str, str | None]]:
        """See L{IUsesAgents}."""
        for name in ("ways", "fallback"):
            ways = cast(Sequence[Way | Fallback], getattr(config, name))
            for index, way in enumerate(ways):
                yield (name, index), way.agent, way.next_hop


def carriers(listening: Listening) -> Sequence[Any]:
    """All of them."""
    return (
        LmtpAgentPlugin(listening),
        PipeAgentPlugin(),
        DiscardAgentPlugin(),
        ErrorAgentPlugin(),
        SeveralAgentPlugin(),
    )
