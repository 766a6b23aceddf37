"""What the config chooses by kind: delivery agents and policies.

L{Parts} finds the plugins that the config names and checks their settings when
the config is read; they are built later, when there is a ledger to give them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
)
from twisted.logger import Logger

from twisted_mta.builtin import SmtpAgentConfig, SmtpAgentPlugin
from twisted_mta.carriers import carriers
from twisted_mta.config.check import DEFAULT_AGENT
from twisted_mta.config.load import Document, Where, structure
from twisted_mta.config.schema import Config
from twisted_mta.errors import ConfigError
from twisted_mta.interfaces import IDeliveryAgent, IPolicy, ITokenVerifier
from twisted_mta.jsonwebtoken import JwtPlugin
from twisted_mta.net.tls import CertificateError, verifying
from twisted_mta.passage import Passage
from twisted_mta.plugin import Environment, Shelf
from twisted_mta.shipped import POLICIES


class Parts:
    """What the config chooses by kind: agents and policies, with their settings
    checked but not yet built.

    @raise ConfigError: a kind is unknown, or its settings are wrong.
    """

    def __init__(
        self,
        document: Document,
        config: Config,
        listening: Callable[[], Sequence[tuple[str, int]]],
    ) -> None:
        self._config = config
        built_in = [
            SmtpAgentPlugin(listening),
            *carriers(listening),
            *POLICIES,
            JwtPlugin(),
        ]
        shelf = Shelf(built_in, config.plugin_path)
        problems: list[str] = []
        chosen: dict[Where, tuple[Any, Any]] = {}
        for where, kind in _choices(config):
            try:
                chosen[where] = _choose(shelf, document, where, kind)
            except ConfigError as error:
                problems += error.problems
        problems += _endpoint_problems(document, config)
        problems += _dane_problems(document, config, chosen)
        problems += _web_problems(document, config)
        default = shelf.find("agent", DEFAULT_AGENT)
        chosen.setdefault(("agents", DEFAULT_AGENT), (default, default.config()))
        passage = Passage(
            {str(at[1]): one for at, one in chosen.items() if at[0] == "agents"}
        )
        problems += document.problems(passage.problems(config))
        if problems:
            raise ConfigError(problems)
        self._chosen = chosen
        self._order = passage.order

    def agents(self, **environment: Any) -> Mapping[str, IDeliveryAgent]:
        """Build the agents, by their names in the config."""
        made: dict[str, IDeliveryAgent] = {}
        for name in self._order:  # those that others use before them
            plugin, settings = self._chosen["agents", name]
            environment["agents"] = dict(made)
            made[name] = plugin.build(
                settings, self._environment(plugin, name, environment)
            )
        return made

    def policies(self, **environment: Any) -> Sequence[IPolicy]:
        """Build the policies, in the config's order."""
        return [made for _, made in self._build("policies", environment)]

    def verifiers(self, **environment: Any) -> Sequence[ITokenVerifier]:
        """Build the verifiers of tokens, in the config's order."""
        return [made for _, made in self._build("tokens", environment)]

    def _build(
        self, section: str, environment: Mapping[str, Any]
    ) -> Iterator[tuple[Where, Any]]:
        for where, (plugin, settings) in self._chosen.items():
            if where[0] == section:
                made = self._environment(plugin, plugin.name, environment)
                yield where, plugin.build(settings, made)

    def _environment(
        self, plugin: Any, name: str, environment: Mapping[str, Any]
    ) -> Environment:
        return Environment(
            name=name,
            hostname=self._config.hostname,
            log=Logger(f"twisted_mta.plugins.{plugin.name}"),
            **environment,
        )


def _dane_problems(
    document: Document, config: Config, chosen: Mapping[Where, tuple[Any, Any]]
) -> Iterator[str]:
    """An agent that needs what the DNS does not give would deliver nothing."""
    for where, (_, settings) in chosen.items():
        only = isinstance(settings, SmtpAgentConfig) and settings.tls == "dane-only"
        if only and not config.dns.validating:
            text = "dane-only needs servers that validate; see dns: validating"
            yield document.problem((*where, "tls"), text)


def _web_problems(document: Document, config: Config) -> Iterator[str]:
    if config.web.trust is not None:
        try:
            verifying("localhost", config.web.trust)
        except CertificateError as error:
            yield document.problem(("web", "trust"), str(error))


def _choices(config: Config) -> Iterator[tuple[Where, str]]:
    """Where the config chooses what; a choice without a kind has been told."""
    for name, settings in config.agents.items():
        if _has_kind(settings):
            yield ("agents", name), "agent"
    for index, settings in enumerate(config.policies):
        if _has_kind(settings):
            yield ("policies", index), "policy"
    for index, settings in enumerate(config.tokens):
        if _has_kind(settings):
            yield ("tokens", index), "tokens"


def _has_kind(settings: object) -> bool:
    return isinstance(settings, dict) and isinstance(settings.get("kind"), str)


def _choose(
    shelf: Shelf, document: Document, where: Where, kind: str
) -> tuple[Any, Any]:
    settings = document.data
    for step in where:
        settings = settings[step]
    try:
        plugin = shelf.find(kind, settings["kind"])
    except LookupError as error:
        raise ConfigError([document.problem((*where, "kind"), str(error))])
    return plugin, structure(document, plugin.config, where, leave_out=("kind",))


def _endpoint_problems(document: Document, config: Config) -> Iterator[str]:
    for index, listener in enumerate(config.listeners):
        for number, endpoint in enumerate(listener.endpoints):
            try:
                _check_endpoint(endpoint)
            except Exception as error:  # whatever an endpoint's parser raises
                where = ("listeners", index, "endpoints", number)
                yield document.problem(
                    where,
                    f"'{endpoint}' is no endpoint: {error}; write one such as tcp:25",
                )


class _NoReactor:
    """Listens nowhere.

    @ivar port: where it was asked to.
    """

    port = 0

    def listenTCP(self, port: int, *_: object, **__: object) -> None:
        self.port = port


def _check_endpoint(text: str) -> None:
    reactor: Any = _NoReactor()
    endpoint = serverFromString(reactor, text)  # type: ignore[no-untyped-call]
    if isinstance(endpoint, TCP4ServerEndpoint | TCP6ServerEndpoint):
        nobody: Any = None
        endpoint.listen(nobody)  # type: ignore[no-untyped-call]
        if not 0 <= reactor.port < 65536:
            raise ValueError(f"not a port: {reactor.port}")
