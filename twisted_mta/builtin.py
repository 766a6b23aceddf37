"""The plugins that are built in: the SMTP delivery agent.

The agent is a plugin like any drop-in, so that the config's C{agents:} can name
several of it, each with its own smarthost account or TLS policy.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal

from attrs import frozen
from zope.interface import implementer

from twisted_mta.config.units import Seconds
from twisted_mta.delivery.smtp.agent import SmtpAgent
from twisted_mta.delivery.smtp.settings import Settings, Timeouts, Tls
from twisted_mta.errors import ConfigError
from twisted_mta.plugin import Environment, IPlugin
from twisted_mta.wire.sasl import Credentials

# Timeouts that are not for one reply.
_NOT_REPLIES = {"connect_s", "message_s"}

Listening = Callable[[], Iterable[tuple[str, int]]]


@frozen(kw_only=True)
class SmtpAgentConfig:
    """An agent of the kind smtp.

    @ivar port: where next hops without a port of their own listen.
    @ivar tls: none; may: TLS with anybody if it works; encrypt: TLS with
        anybody, or no mail; verify: only with a valid certificate.
    @ivar implicit_tls: the connection begins with TLS (port 465).
    @ivar user: for AUTH at a smarthost.
    @ivar password_file: a file with the password in its first line.
    @ivar loopback: a domain's mail exchanger may be on the loopback; for tests.
    @ivar connect_timeout: how long a connection may take to come about.
    @ivar reply_timeout: how long a reply may take; not set: RFC 5321 4.5.3.2.
    """

    port: int = 25
    tls: Literal["none", "may", "encrypt", "verify"] = "may"
    implicit_tls: bool = False
    user: str | None = None
    password_file: Path | None = None
    loopback: bool = False
    connect_timeout: Seconds = Seconds(30.0)
    reply_timeout: Seconds | None = None


@implementer(IPlugin)
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

        @raise ConfigError: the password cannot be read.
        """
        return SmtpAgent(
            environment.reactor,
            environment.resolver,
            Settings(
                hostname=environment.hostname,
                port=config.port,
                tls=Tls(config.tls),
                implicit_tls=config.implicit_tls,
                credentials=_credentials(config),
                loopback=config.loopback,
                timeouts=_timeouts(config),
            ),
            self._listening,
        )


def _timeouts(config: SmtpAgentConfig) -> Timeouts:
    timeouts = replace(Timeouts(), connect_s=config.connect_timeout)
    if config.reply_timeout is None:
        return timeouts
    replies = [f.name for f in fields(Timeouts) if f.name not in _NOT_REPLIES]
    return replace(timeouts, **dict.fromkeys(replies, config.reply_timeout))


def _credentials(config: SmtpAgentConfig) -> Credentials | None:
    if config.user is None:
        return None
    if config.password_file is None:
        raise ConfigError(["'user' needs 'password_file'; add it"])
    try:
        lines = config.password_file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{config.password_file}: cannot be read: {error}"])
    if not lines or not lines[0]:
        raise ConfigError([f"{config.password_file}: its first line is empty"])
    return Credentials(config.user, lines[0])
