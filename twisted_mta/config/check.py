"""Whether settings fit each other: names, networks, limits, what leads to what.

What needs the network framework, its TLS or plugins to be judged (endpoints,
certificates, kinds of agents and policies) is checked by the composition root
instead; whoever only works on the ledger needs none of it.
"""

import ipaddress
import os.path
from collections.abc import Callable, Iterable, Iterator, Set
from pathlib import Path

from twisted_mta.config import routing
from twisted_mta.config.load import Document, Problem, Where, attempt, read
from twisted_mta.config.schema import HOLD_MOST_S, WORKERS_MOST, Config
from twisted_mta.errors import ConfigError
from twisted_mta.mail.address import domain_name, split
from twisted_mta.mail.header import BLOCK_MAX
from twisted_mta.mail.route import COMPLAINT, LOOP, RELEASE
from twisted_mta.mail.verp import delimiters

# The agent that is there without being configured.
DEFAULT_AGENT = "smtp"


# What stands for settings that must be there and cannot be read, so that the
# others are judged all the same.
_STAND_INS = {
    "hostname": "mail.invalid",
    "directory": "/",
    "domains": {},
    "postmaster": "postmaster@mail.invalid",
    "listeners": [],
}

# A setting that cannot be read is left out, then what needs it: an element's
# setting, the element's list.
_DEPTH = 4

# Numbers of which 0 means that there is no such thing.
_MAY_BE_0 = frozenset(
    {"future_release", "greeting_pause", "highest_priority", "min_data_rate"}
)

_WITHOUT_LOGIN = frozenset({"smtp", "lmtp"})

# What to do about nothing.
_NO_LOGIN = "is empty: nobody could log in; name some, or leave it out"

# What to do about text of the wrong form.
_SUCH_AS = "write one such as "


def load(path: Path) -> tuple[Document, Config]:
    """Read and check a configuration file.

    @raise ConfigError: all that is wrong with it.
    """
    return parse(str(path), text_of(path))


def text_of(path: Path) -> str:
    """A configuration file as it stands.

    @raise ConfigError: it cannot be read.
    """
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8"
        raise ConfigError([f"{path}:1:1: cannot be read: {reason}"])


def parse(name: str, text: str) -> tuple[Document, Config]:
    """The same as L{load} for a text."""
    document = read(name, text)
    config, found = survey(document)
    if config is None or found:
        raise ConfigError(document.problems(found))
    return document, config


def survey(document: Document) -> tuple[Config | None, list[Problem]]:
    """All that is wrong with a document, also where parts of it cannot be read.

    @return: the config without what cannot be read, C{None} if nothing can; and
        the problems.
    """
    config, found = attempt(document, Config)
    rest, unreadable = document, found
    for _ in range(_DEPTH):
        if config is not None or not isinstance(document.data, dict):
            break
        rest = rest.without([where for where, _ in unreadable], _STAND_INS)
        config, unreadable = attempt(rest, Config)
    if config is None:
        return None, found
    return config, [*found, *check(config, set(document.data) - set(rest.data))]


def check(config: Config, unread: Set[str] = frozenset()) -> Iterator[Problem]:
    """What is wrong, and where.

    @param unread: settings that could not be read: what depends on them is not
        judged.
    """
    for part, of in _PARTS.items():
        if not of & unread:
            yield from part(config)


def _names(config: Config) -> Iterator[Problem]:
    if not domain_name(config.hostname):
        yield (
            ("hostname",),
            f"'{config.hostname}' is not a host name; {_SUCH_AS}mail.example.org",
        )
    yield from _address(("postmaster",), config.postmaster)


def _domains(config: Config) -> Iterator[Problem]:
    for name, domain in config.domains.items():
        where = ("domains", name)
        if not domain_name(name):
            yield where, f"is not a domain name; {_SUCH_AS}example.org"
        elif name != name.lower():
            yield where, f"write it in lower case: {name.lower()}"
        if domain.catch_all is not None:
            yield from _address((*where, "catch_all"), domain.catch_all)
        if len(domain.subaddress) > 1:
            yield (*where, "subaddress"), "must be one character, or empty"
        yield from routing.domain_problems(where, domain)


def _listeners(config: Config) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, listener in enumerate(config.listeners):
        where = ("listeners", index)
        if listener.name in seen:
            yield (*where, "name"), "is used twice; name each listener differently"
        seen.add(listener.name)
        if not listener.endpoints:
            yield (*where, "endpoints"), "is empty; say where to listen"
        yield from _networks((*where, "proxies"), listener.proxies)
        if listener.mechanisms == ():
            yield (*where, "mechanisms"), _NO_LOGIN
        if listener.protocol in _WITHOUT_LOGIN:
            for name in ("mechanisms", "plaintext_login"):
                if getattr(listener, name):
                    why = f"nobody logs in at {listener.protocol}; remove it"
                    yield (*where, name), why
    if not config.login.mechanisms:
        yield ("login", "mechanisms"), _NO_LOGIN


def _files(config: Config) -> Iterator[Problem]:
    for index, listener in enumerate(config.listeners):
        if listener.tls != "none" and not config.certificates:
            where = ("listeners", index, "tls")
            yield where, "needs certificates; add some, or say 'none'"
    for index, directory in enumerate(config.plugin_path):
        if not os.path.isdir(directory):
            yield ("plugin_path", index), f"no such directory: {directory}; make it"


def _limits(config: Config) -> Iterator[Problem]:
    for section in ("connections", "smtp", "imap", "pop3", "queue"):
        settings = getattr(config, section)
        for name in settings.__slots__:
            value = getattr(settings, name, None)
            if not isinstance(value, int | float) or value is False:
                continue
            if value < 0 or (value == 0 and name not in _MAY_BE_0):
                yield (section, name), "must be more than 0"
    if config.workers is not None and not 0 < config.workers <= WORKERS_MOST:
        yield ("workers",), f"must be 1 to {WORKERS_MOST}"
    if config.smtp.header_size >= BLOCK_MAX:
        yield ("smtp", "header_size"), f"must be less than {BLOCK_MAX >> 20}M"
    if config.smtp.future_release > HOLD_MOST_S:
        yield ("smtp", "future_release"), f"must be at most {HOLD_MOST_S // 86400}d"
    if config.smtp.highest_priority > 9:
        yield ("smtp", "highest_priority"), "must be 0 to 9"
    if config.queue.growth_percent < 100:
        yield ("queue", "growth_percent"), "must be at least 100"
    for index, site in enumerate(config.queue.sites):
        where = ("queue", "sites", index)
        if not domain_name(site.domain.removeprefix(".")):
            yield (*where, "domain"), "must be a domain, or .domain"
        elif site.domain != site.domain.lower():
            yield (*where, "domain"), f"write it in lower case: {site.domain.lower()}"
        if site.connections is not None and site.connections < 1:
            yield (*where, "connections"), "must be more than 0"
    for name in ("relay_from", "verify_from", "xclient_from", "xforward_from"):
        yield from _networks(("smtp", name), getattr(config.smtp, name))
    for index, domain in enumerate(config.smtp.etrn):
        if not domain_name(domain):
            where = ("smtp", "etrn", index)
            yield where, f"is not a domain name; {_SUCH_AS}example.org"
    for index, without in enumerate(config.smtp.without):
        yield from _networks(("smtp", "without", index, "networks"), without.networks)
    if config.tls_reports.sender is not None:
        yield from _address(("tls_reports", "sender"), config.tls_reports.sender)
    if config.web.proxy is not None:
        try:
            host_port(config.web.proxy)
        except ValueError as error:
            yield ("web", "proxy"), str(error)
    for index, server in enumerate(config.dns.servers):
        try:
            host_port(server)
        except ValueError as error:
            yield ("dns", "servers", index), str(error)


def _networks(where: Where, networks: Iterable[str]) -> Iterator[Problem]:
    for index, network in enumerate(networks):
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            yield (*where, index), f"is no network: {error}; {_SUCH_AS}10.0.0.0/8"


def _outbound(config: Config) -> Iterator[Problem]:
    yield from routing.problems(config, {DEFAULT_AGENT, *config.agents})
    for name, agent in config.agents.items():
        if name in (RELEASE, LOOP, COMPLAINT):
            yield ("agents", name), "this name is the server's own; choose another"
        yield from _kind(("agents", name), agent)
    for index, policy in enumerate(config.policies):
        yield from _kind(("policies", index), policy)
    for index, verifier in enumerate(config.tokens):
        yield from _kind(("tokens", index), verifier)


def _forwarding(config: Config) -> Iterator[Problem]:
    domain = config.forwarding.domain
    if domain is not None and domain not in config.domains:
        where = ("forwarding", "domain")
        yield where, f"'{domain}' is none of 'domains': bounces would not come back"
    for index, verp in enumerate(config.smtp.verp):
        at = ("smtp", "verp", index)
        if verp.sender is None and verp.account is None:
            yield at, "needs 'sender' or 'account'; add one"
        for name in ("sender", "account"):
            if (address := getattr(verp, name)) is not None:
                yield from _address((*at, name), address)
        try:
            delimiters(verp.delimiters)
        except ValueError as error:
            yield (*at, "delimiters"), str(error)


def _relay_domains(config: Config) -> Iterator[Problem]:
    known = {DEFAULT_AGENT, *config.agents}
    for name, each in config.relay_domains.items():
        where = ("relay_domains", name)
        if not domain_name(name):
            yield where, f"is not a domain name; {_SUCH_AS}example.org"
        elif name != name.lower():
            yield where, f"write it in lower case: {name.lower()}"
        elif name in config.domains:
            yield where, "is one of 'domains', so its mail ends here; remove one"
        if each.agent not in known:
            names = ", ".join(sorted(known))
            yield (*where, "agent"), f"no agent '{each.agent}'; known are {names}"
        elif each.next_hop is None and each.agent != DEFAULT_AGENT:
            text = f"needs 'next_hop'; or name it in a route: {{domain: {name}, ...}}"
            yield (*where, "agent"), text
        if each.recipients == ():
            yield (*where, "recipients"), "is empty: nobody would exist; name a file"


def _suppression(config: Config) -> Iterator[Problem]:
    settings = config.suppression
    for name in ("hard_bounces", "within", "keep"):
        value = getattr(settings, name)
        if value is not None and value <= 0:
            yield ("suppression", name), "must be more than 0"
    for index, address in enumerate(settings.complaints):
        at = ("suppression", "complaints", index)
        yield from _address(at, address)
        if address.rpartition("@")[2] not in config.domains:
            yield at, f"'{address}' is in none of 'domains'"
    if settings.complaints and not settings.complaints_from:
        where = ("suppression", "complaints_from")
        yield where, "is empty: no report would be believed; name networks"
    yield from _networks(("suppression", "complaints_from"), settings.complaints_from)


# Each part with the settings that it cannot do without.
_PARTS: dict[Callable[[Config], Iterator[Problem]], set[str]] = {
    _names: set(),
    _domains: set(),
    _listeners: set(),
    _files: {"certificates"},
    _limits: set(),
    _outbound: {"agents"},
    _forwarding: {"domains"},
    _relay_domains: {"agents", "domains"},
    _suppression: {"domains"},
}


def _kind(where: Where, settings: object) -> Iterator[Problem]:
    if not isinstance(settings, dict):
        yield where, "must be a table of 'setting: value'"
    elif not isinstance(settings.get("kind"), str):
        yield where, "'kind' is missing; add it"


def _address(where: Where, text: str) -> Iterator[Problem]:
    try:
        split(text)
    except ValueError as error:
        yield where, f"{error}; {_SUCH_AS}bob@example.org"


def host_port(text: str) -> tuple[str, int]:
    """C{HOST:PORT} or C{[HOST]:PORT}.

    @raise ValueError: it is neither.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"must be HOST:PORT, not '{text}'")
    return host.removeprefix("[").removesuffix("]"), int(port)
