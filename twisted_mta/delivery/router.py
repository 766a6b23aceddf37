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

from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.config import schema
from twisted_mta.delivery.residents import Residents
from twisted_mta.delivery.srs import Returns
from twisted_mta.delivery.text import one_line
from twisted_mta.delivery.ways import Ways, ascii_domain
from twisted_mta.errors import NoSuchAccount, NoSuchDomain, Temporary
from twisted_mta.interfaces import IDirectory, IRouter
from twisted_mta.mail import srs
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.route import (
    COMPLAINT,
    NO_MAILING,
    Mailing,
    Resolved,
    Route,
    ToAgent,
    ToMailbox,
)

# Addresses that one recipient may become. Postfix: virtual_alias_expansion_limit
# 1000; the bound on depth (virtual_alias_recursion_limit, 1000) follows from it.
_EXPANSION = 1000

# Who must be reachable in each domain: RFC 5321 4.5.1, RFC 2142 4.
_ROLES = frozenset({"postmaster", "abuse"})

_NONE: Mapping[str, schema.RelayDomain] = {}


class _Home:
    """One of our domains."""

    __slots__ = ("ascii", "carrier", "catch_all", "name", "residents", "separator")

    def __init__(self, name: str, settings: schema.Domain) -> None:
        self.name = name.lower()
        self.ascii = ascii_domain(name)
        self.separator = settings.subaddress
        # C{None}: its mail goes into mailboxes.
        self.carrier = settings if settings.deliver is not None else None
        self.residents = Residents(settings.recipient_file, self.ascii)
        self.catch_all = split(settings.catch_all) if settings.catch_all else None

    def without_detail(self, local: str) -> str:
        """The local part without its subaddress (RFC 5233), or empty if it has
        none."""
        base, found, _ = (
            local.partition(self.separator) if self.separator else ("", "", "")
        )
        return base if found else ""

    def carried(self, recipient: Address) -> ToAgent | None:
        """The way to who delivers for this domain, if its mail does not end here."""
        if self.carrier is None or self.carrier.deliver is None:
            return None
        next_hop = self.carrier.next_hop or self.ascii
        return ToAgent(self.carrier.deliver, next_hop, recipient)

    def open_to(self, known_by: str) -> bool:
        """Whether another delivers, to whom so says C{recipients}."""
        return self.carrier is not None and self.carrier.recipients == known_by


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
            ascii_domain(name): _Home(name, settings)
            for name, settings in domains.items()
        }
        self._postmaster = postmaster
        self._returns = returns
        self._relayed = {ascii_domain(name): each for name, each in relayed.items()}
        self._complaints = {address.key for address in complaints}
        self._ways = Ways(routes)

    async def route(
        self, recipient: Address, mailing: Mailing = NO_MAILING
    ) -> Resolved:
        """See L{IRouter.route}.

        @raise NoSuchDomain: the domain's name cannot be.
        """
        home = self._home(recipient)
        if home is None:
            way = self._way_out(recipient, mailing)
            relayed = bool(self._relayed) and (
                ascii_domain(recipient.domain) in self._relayed
            )
            return Resolved(relayed, (way,), relayed=relayed)
        if self._returns is not None and srs.is_return(recipient.local):
            original = await self._returns.original(recipient)
            routes = await self._original(original, mailing)
            return Resolved(True, routes, returns=True)
        routes = await self._expand(recipient, mailing)
        if self._complaints and recipient.key in self._complaints:
            routes += (ToAgent(COMPLAINT, "", recipient),)
        if routes:
            return Resolved(True, routes, self._asks(routes))
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
            return ascii_domain(domain) in self._homes
        except NoSuchDomain:
            return False

    async def _original(self, original: Address, mailing: Mailing) -> tuple[Route, ...]:
        """Where mail goes for whom a return address stands.

        @raise NoSuchAccount: he was one of us, and is no more.
        """
        if self._home(original) is None:
            return (self._way_out(original, mailing),)
        routes = await self._expand(original, mailing)
        if not routes:
            raise NoSuchAccount()
        return routes

    def _asks(self, routes: Sequence[Route]) -> bool:
        """Whether only the one who delivers knows if the recipient exists. Of several
        to whom an alias leads nobody is asked: those who exist are to have it."""
        if len(routes) != 1 or not isinstance(routes[0], ToAgent):
            return False
        route = routes[0]
        home = self._home(route.recipient)
        return (
            home is not None
            and home.open_to("ask")
            and route == home.carried(route.recipient)
        )

    def _home(self, address: Address) -> _Home | None:
        """Which of our domains it is in. The bare C{postmaster} has none of its
        own and is at home everywhere."""
        if not address.domain:
            return _NOWHERE
        return self._homes.get(ascii_domain(address.domain))

    async def _expand(self, recipient: Address, mailing: Mailing) -> tuple[Route, ...]:
        """Follow aliases to their ends, each address once."""
        first = await self._step(recipient, mailing)
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
                step = (
                    first
                    if address is recipient
                    else await self._step(address, mailing)
                )
            except NoSuchDomain as error:
                step = ()
                self._log.warn("{to}: {why}", to=one_line(str(address)), why=error)
            match step:
                case ToMailbox():
                    found.setdefault(step.account, step)
                case ToAgent():
                    found.setdefault(step, self._sent_on(step, recipient))
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

    async def _step(
        self, address: Address, mailing: Mailing
    ) -> Route | Sequence[Address]:
        """One step from an address: to an end, or to other addresses."""
        home = self._home(address)
        if home is None:
            return self._way_out(address, mailing)
        names = [address.local]
        if base := home.without_detail(address.local):
            names.append(base)
        here = Address(address.local, home.name)
        if home.name:
            way = self._ways.named(names, home.ascii, mailing)
            if way is not None:
                return _to(way, here, home.ascii)
            carried = home.carried(here)
            if (
                carried is not None
                and home.open_to("listed")
                and any(map(home.residents.has, names))
            ):
                return carried
            for local in names:
                exact = here if local == here.local else Address(local, home.name)
                account = await self._directory.account(exact)
                if account is not None:
                    if carried is not None and home.open_to("accounts"):
                        return carried
                    return ToMailbox(account.id, here)
                if targets := await self._directory.aliases(exact):
                    return targets
        return self._nobody(address, here, home)

    def _nobody(
        self, address: Address, here: Address, home: _Home
    ) -> Route | Sequence[Address]:
        """One step from an address of ours that nobody here has."""
        role = address.local.casefold() in _ROLES
        if role and here.key != self._postmaster.key:
            return (self._postmaster,)
        if home.open_to("ask") or home.open_to("any"):
            return home.carried(here) or ()
        if role:
            return (self._postmaster,)
        return (home.catch_all,) if home.catch_all else ()

    def _sent_on(self, way: ToAgent, by: Address) -> ToAgent:
        """A way that an address of ours leads to. It sends on what then leaves us."""
        leaves = self._home(way.recipient) is None
        return replace(way, forwarder=by) if leaves else way

    def _way_out(self, recipient: Address, mailing: Mailing) -> ToAgent:
        domain = ascii_domain(recipient.domain)
        relayed = self._relayed.get(domain)
        if relayed is not None and relayed.next_hop is not None:
            return ToAgent(relayed.agent, relayed.next_hop, recipient)
        return _to(self._ways.of(recipient, domain, mailing), recipient, domain)


def _to(way: schema.Route, recipient: Address, domain: str) -> ToAgent:
    return ToAgent(way.agent, way.next_hop or domain, recipient, way.hold)


_NOWHERE = _Home("", schema.Domain())
