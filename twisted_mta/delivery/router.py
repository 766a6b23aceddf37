"""Where mail goes: our domains, their aliases and accounts, and the way out.

The router knows the domains and routes of the config and asks a directory for
the rest. It knows no protocol and no queue. It takes an address literally:
C{user%elsewhere@ours} and C{elsewhere!user@ours} are local parts like any
other, C{|command} and C{/file} are neither run nor written. It trusts nothing
about aliases: they may lead in circles, to nowhere, and to thousands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

import idna
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.config import schema
from twisted_mta.delivery.srs import Returns
from twisted_mta.delivery.text import one_line
from twisted_mta.errors import NoSuchAccount, NoSuchDomain, Temporary
from twisted_mta.interfaces import IDirectory, IRouter
from twisted_mta.mail import srs
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.route import COMPLAINT, Resolved, Route, ToAgent, ToMailbox

# Addresses that one recipient may become. Postfix: virtual_alias_expansion_limit
# 1000; the bound on depth (virtual_alias_recursion_limit, 1000) follows from it.
_EXPANSION = 1000

# Who must be reachable in each domain: RFC 5321 4.5.1, RFC 2142 4.
_ROLES = frozenset({"postmaster", "abuse"})

_DEFAULT = schema.Route(domain="*")

_NONE: Mapping[str, schema.RelayDomain] = {}


def _ascii(domain: str) -> str:
    """The domain as it stands in the DNS (A-labels, RFC 5890).

    @raise NoSuchDomain: no domain can have this name.
    """
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise NoSuchDomain("The domain's name is not valid")


class _Home:
    """One of our domains."""

    __slots__ = ("catch_all", "name", "separator")

    def __init__(self, name: str, settings: schema.Domain) -> None:
        self.name = name.lower()
        self.separator = settings.subaddress
        self.catch_all = split(settings.catch_all) if settings.catch_all else None

    def without_detail(self, local: str) -> str:
        """The local part without its subaddress (RFC 5233), or empty if it has
        none."""
        base, found, _ = (
            local.partition(self.separator) if self.separator else ("", "", "")
        )
        return base if found else ""


@implementer(IRouter)
class Router:
    """Resolves recipients.

    @param domains: ours, by name.
    @param routes: the way out; the first that fits.
    @param postmaster: who gets what is for C{postmaster} and C{abuse} in a
        domain where nobody has that address.
    @param returns: reads return addresses; C{None}: there are none.
    @param relayed: domains of other servers that we take mail for.
    @param complaints: addresses for reports of complaints.
    """

    _log = Logger()

    def __init__(
        self,
        directory: IDirectory,
        domains: Mapping[str, schema.Domain],
        routes: Sequence[schema.Route],
        postmaster: Address,
        returns: Returns | None = None,
        relayed: Mapping[str, schema.RelayDomain] = _NONE,
        complaints: Sequence[Address] = (),
    ) -> None:
        self._directory = directory
        self._homes = {
            _ascii(name): _Home(name, settings) for name, settings in domains.items()
        }
        self._postmaster = postmaster
        self._returns = returns
        self._relayed = {_ascii(name): each for name, each in relayed.items()}
        self._complaints = {address.key for address in complaints}
        self._ways: dict[str, tuple[int, schema.Route]] = {}
        for order, way in enumerate((*routes, _DEFAULT)):
            self._ways.setdefault(_pattern(way.domain), (order, way))

    async def route(self, recipient: Address) -> Resolved:
        """See L{IRouter.route}.

        @raise NoSuchDomain: the domain's name cannot be.
        """
        home = self._home(recipient)
        if home is None:
            way = self._way_out(recipient)
            relayed = bool(self._relayed) and _ascii(recipient.domain) in self._relayed
            return Resolved(relayed, (way,), relayed=relayed)
        if self._returns is not None and srs.is_return(recipient.local):
            original = await self._returns.original(recipient)
            return Resolved(True, await self._original(original), returns=True)
        routes = await self._expand(recipient)
        if self._complaints and recipient.key in self._complaints:
            routes += (ToAgent(COMPLAINT, "", recipient),)
        if routes:
            return Resolved(True, routes)
        if recipient.local.casefold() in _ROLES:
            # Its sender has no one else to write to, so it is not sent back
            # while an operator can still mend the config.
            self._log.error(
                "nobody gets the mail of {to}: {postmaster} leads nowhere",
                to=one_line(str(recipient)),
                postmaster=str(self._postmaster),
            )
            raise Temporary("The mail of this role has nowhere to go", "4.3.5")
        raise NoSuchAccount()

    def ours(self, domain: str) -> bool:
        """Whether mail of a domain ends here."""
        try:
            return _ascii(domain) in self._homes
        except NoSuchDomain:
            return False

    async def _original(self, original: Address) -> tuple[Route, ...]:
        """Where mail goes for whom a return address stands.

        @raise NoSuchAccount: he was one of us, and is no more.
        """
        if self._home(original) is None:
            return (self._way_out(original),)
        routes = await self._expand(original)
        if not routes:
            raise NoSuchAccount()
        return routes

    def _home(self, address: Address) -> _Home | None:
        """Which of our domains it is in. The bare C{postmaster} has none of its
        own and is at home everywhere."""
        if not address.domain:
            return _NOWHERE
        return self._homes.get(_ascii(address.domain))

    async def _expand(self, recipient: Address) -> tuple[Route, ...]:
        """Follow aliases to their ends, each address once."""
        first = await self._step(recipient)
        if isinstance(first, ToMailbox):
            return (first,)
        found: dict[object, Route] = {}
        seen: set[str] = set()
        waiting = deque([recipient])
        while waiting:
            address = waiting.popleft()
            if address.key in seen:
                continue
            seen.add(address.key)
            if len(seen) > _EXPANSION:
                self._log.error(
                    "alias {to} has too many members", to=one_line(str(recipient))
                )
                raise Temporary("The alias leads to too many addresses", "4.3.5")
            try:
                step = first if address is recipient else await self._step(address)
            except NoSuchDomain as error:
                step = ()
                self._log.warn("{to}: {why}", to=one_line(str(address)), why=error)
            match step:
                case ToMailbox():
                    found.setdefault(step.account, step)
                case ToAgent():
                    found.setdefault(step, replace(step, forwarder=recipient))
                case ():
                    if address is not recipient:
                        self._log.warn(
                            "{to} leads to {end}, which does not exist",
                            to=one_line(str(recipient)),
                            end=one_line(str(address)),
                        )
                case _:
                    waiting.extend(step)
        return tuple(found.values())

    async def _step(self, address: Address) -> Route | Sequence[Address]:
        """One step from an address: to an end, or to other addresses."""
        home = self._home(address)
        if home is None:
            return self._way_out(address)
        for local in (address.local, home.without_detail(address.local)):
            if not local or not home.name:
                continue
            exact = Address(local, home.name)
            account = await self._directory.account(exact)
            if account is not None:
                return ToMailbox(account.id, Address(address.local, home.name))
            if targets := await self._directory.aliases(exact):
                return targets
        if address.local.casefold() in _ROLES:
            return (self._postmaster,)
        return (home.catch_all,) if home.catch_all else ()

    def _way_out(self, recipient: Address) -> ToAgent:
        domain = _ascii(recipient.domain)
        relayed = self._relayed.get(domain)
        if relayed is not None and relayed.next_hop is not None:
            return ToAgent(relayed.agent, relayed.next_hop, recipient)
        fitting = (self._ways.get(pattern) for pattern in _patterns(domain))
        _, way = min(
            (found for found in fitting if found is not None),
            key=lambda found: found[0],
        )
        return ToAgent(way.agent, way.next_hop or domain, recipient, way.hold)


_NOWHERE = _Home("", schema.Domain())


def _pattern(domain: str) -> str:
    """A route's domain in the form that L{_patterns} gives."""
    if domain == "*":
        return domain
    dot = "." if domain.startswith(".") else ""
    return dot + _ascii(domain.removeprefix("."))


def _patterns(domain: str) -> list[str]:
    """All that a route may say to fit this domain: itself, each domain above it
    with a dot before, anything."""
    if domain.startswith("["):
        return [domain, "*"]
    labels = domain.split(".")
    above = ["." + ".".join(labels[start:]) for start in range(1, len(labels))]
    return [domain, *above, "*"]
