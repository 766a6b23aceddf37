"""Whether the routes of a config, and its domains that are delivered elsewhere, make
sense by themselves. What an agent makes of a next hop is checked where agents are
known.
"""

from collections.abc import Iterator, Set
from pathlib import Path

from twisted_mta.config.load import Problem, Where
from twisted_mta.config.schema import Config, Domain, Route
from twisted_mta.mail.address import domain_name, split

_NULL_SENDER = "<>"


def problems(config: Config, known: Set[str]) -> Iterator[Problem]:
    """What is wrong with routes, and with who delivers for domains.

    @param known: names of agents.
    """
    for index, route in enumerate(config.routes):
        where: Where = ("routes", index)
        yield from _agent((*where, "agent"), route.agent, known)
        yield from _asks(where, route, config)
    for name, domain in config.domains.items():
        if domain.deliver is not None:
            yield from _agent(("domains", name, "deliver"), domain.deliver, known)


def _agent(where: Where, name: str, known: Set[str]) -> Iterator[Problem]:
    if name not in known:
        yield where, f"no agent '{name}'; known are {', '.join(sorted(known))}"


def _asks(where: Where, route: Route, config: Config) -> Iterator[Problem]:
    """What a route asks of mail."""
    if all(
        asked is None
        for asked in (route.domain, route.recipient, route.sender, route.login)
    ):
        text = 'fits nothing; say for which mail it is, such as domain: "*"'
        yield where, text
    if route.domain is not None:
        if not _is_domain(route.domain):
            yield (*where, "domain"), "must be a domain, .domain, or *"
        elif route.domain.lower() in config.domains:
            text = (
                f"is one of 'domains'; say there who delivers: {{deliver:"
                f" {route.agent}}}, or name a whole address as 'recipient'"
            )
            yield (*where, "domain"), text
    if route.recipient is not None and not _is_address(route.recipient):
        yield (*where, "recipient"), "must be an address; write one such as a@b.example"
    for name, who in (("sender", route.sender), ("login", route.login)):
        if who is None or (name == "sender" and who == _NULL_SENDER):
            continue
        if not (_is_address(who) if "@" in who else _is_domain(who)):
            more = f", or {_NULL_SENDER} for bounces" if name == "sender" else ""
            yield (*where, name), f"must be an address, a domain, .domain, *{more}"


def domain_problems(where: Where, domain: Domain) -> Iterator[Problem]:
    """What is wrong with how a domain is delivered."""
    if domain.deliver is None:
        for name, unused in (
            ("next_hop", domain.next_hop is not None),
            ("recipients", domain.recipients != "accounts"),
            ("recipient_file", domain.recipient_file is not None),
        ):
            if unused:
                yield (*where, name), "needs 'deliver'; name an agent there"
        return
    listed = domain.recipients == "listed"
    if listed != (domain.recipient_file is not None):
        text = (
            "'recipients: listed' and 'recipient_file' need each other; add the other"
        )
        yield where, text
    if domain.recipient_file is not None:
        yield from _file((*where, "recipient_file"), domain.recipient_file)
    if domain.catch_all is not None and domain.recipients in ("ask", "any"):
        text = f"gets nothing with 'recipients: {domain.recipients}'; remove it"
        yield (*where, "catch_all"), text


def _file(where: Where, path: Path) -> Iterator[Problem]:
    try:
        path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8"
        yield where, f"{path} cannot be read: {reason}"


def _is_domain(text: str) -> bool:
    return text == "*" or domain_name(text.removeprefix("."))


def _is_address(text: str) -> bool:
    try:
        split(text)
    except ValueError:
        return False
    return True
