"""The config's routes, in the order that counts: the first that fits a message.

It knows recipients, senders and logins as text, and nothing of agents, accounts or
aliases. Routes that name a domain alone, as nearly all do, are a table, which costs the
same however many there are; so are those that name a recipient. Only those that ask of
a sender or a login are looked through.

It trusts no sender: a route by sender chooses a way for mail that is taken in any case,
and never makes a recipient one of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted_mta.config import schema
from twisted_mta.errors import NoSuchDomain
from twisted_mta.mail import domain as domains
from twisted_mta.mail.address import Address
from twisted_mta.mail.route import Mailing

#: What a route says of the null sender, whose mail is bounces.
NULL_SENDER = "<>"

_DEFAULT = schema.Route(domain="*")

# A route with its place in the order, and what it asks beside the recipient's address.
_Fits = Callable[[str, Mailing], bool]
_Entry = tuple[int, schema.Route, _Fits]


def ascii_domain(domain: str) -> str:
    """The domain as it stands in the DNS (A-labels, RFC 5890).

    @raise NoSuchDomain: no domain can have this name.
    """
    try:
        return domains.ascii_domain(domain)
    except ValueError:
        raise NoSuchDomain("The domain's name is not valid")


class Ways:
    """The routes of a config, and the default behind them."""

    def __init__(self, routes: Sequence[schema.Route]) -> None:
        self._by_domain: dict[str, tuple[int, schema.Route]] = {}
        self._by_recipient: dict[str, list[_Entry]] = {}
        self._others: list[_Entry] = []
        for order, route in enumerate((*routes, _DEFAULT)):
            entry = order, route, _fits(route)
            if route.recipient is not None:
                key = _key(*route.recipient.rsplit("@", 1))
                self._by_recipient.setdefault(key, []).append(entry)
            elif route.sender is not None or route.login is not None:
                self._others.append(entry)
            else:
                pattern = _pattern(route.domain or "*")
                self._by_domain.setdefault(pattern, (order, route))

    def named(
        self, locals: Iterable[str], domain: str, mailing: Mailing
    ) -> schema.Route | None:
        """The first route that names this recipient, and fits.

        @param locals: the local part, and that without its detail if it has one.
        @param domain: as A-labels.
        """
        if not self._by_recipient:
            return None
        found = self._naming(locals, domain, mailing)
        return found[1] if found else None

    def of(self, recipient: Address, domain: str, mailing: Mailing) -> schema.Route:
        """The first route that fits. 2 us where none asks of more than a domain.

        @param domain: the recipient's, as A-labels.
        """
        fitting = (self._by_domain.get(pattern) for pattern in _patterns(domain))
        first = min(
            (found for found in fitting if found is not None),
            key=lambda found: found[0],
        )
        if self._by_recipient:
            named = self._naming((recipient.local,), domain, mailing)
            if named is not None and named[0] < first[0]:
                first = named[0], named[1]
        for order, route, fits in self._others:
            if order > first[0]:
                break
            if fits(domain, mailing):
                return route
        return first[1]

    def _naming(
        self, locals: Iterable[str], domain: str, mailing: Mailing
    ) -> _Entry | None:
        entries = [
            entry
            for local in locals
            if local
            for entry in self._by_recipient.get(_key(local, domain), ())
        ]
        return next(
            (one for one in sorted(entries, key=_order) if one[2](domain, mailing)),
            None,
        )


def _order(entry: _Entry) -> int:
    return entry[0]


def _key(local: str, domain: str) -> str:
    return Address(local, ascii_domain(domain)).key


def _fits(route: schema.Route) -> _Fits:
    """What a route asks beside the recipient's address. All of it must be so."""
    domain = None if route.domain in (None, "*") else _pattern(route.domain or "")
    sender = None if route.sender is None else _party(route.sender)
    login = None if route.login is None else _party(route.login)

    def fits(of: str, mailing: Mailing) -> bool:
        if domain is not None and domain not in _patterns(of):
            return False
        if sender is not None and not sender(_text(mailing.sender)):
            return False
        return login is None or login(mailing.login)

    return fits


def _text(sender: Address | None) -> str | None:
    """Without quotes, as a route would name it."""
    return None if sender is None else f"{sender.local}@{sender.domain}"


def _party(text: str) -> Callable[[str | None], bool]:
    """What a route says of who sent a message: an address, a domain, all below one,
    anybody, or the null sender."""
    if text == NULL_SENDER:
        return lambda who: not who
    if "@" in text:
        key = _key(*text.rsplit("@", 1))
        return lambda who: bool(who) and _key(*_split(who)) == key
    pattern = _pattern(text)
    return lambda who: bool(who) and pattern in _patterns(_split(who)[1])


def _split(who: str | None) -> tuple[str, str]:
    """Local part and domain; a domain that cannot be fits no pattern but C{*}."""
    local, _, domain = (who or "").rpartition("@")
    try:
        return local, ascii_domain(domain)
    except NoSuchDomain:
        return local, ""


def _pattern(domain: str) -> str:
    """A route's domain in the form that L{_patterns} gives."""
    if domain == "*":
        return domain
    dot = "." if domain.startswith(".") else ""
    return dot + ascii_domain(domain.removeprefix("."))


def _patterns(domain: str) -> list[str]:
    """All that a route may say to fit this domain: itself, each domain above it
    with a dot before, anything."""
    if domain.startswith("["):
        return [domain, "*"]
    labels = domain.split(".")
    above = ["." + ".".join(labels[start:]) for start in range(1, len(labels))]
    return [domain, *above, "*"]
