"""From a next hop to the hosts to try, in order (RFC 5321 5.1).

A next hop is a domain, whose mail exchangers the DNS names; or a host that the
operator named: C{host:port}, C{[host]:port}, C{[host]}, C{[192.0.2.1]}, where
no MX is looked up; for LMTP a bare C{host} too, or C{unix:/path}, a socket of this
machine. It does not trust the DNS of strangers: it is asked for a
bounded number of names, yields a bounded number of addresses, and never us.
"""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from itertools import groupby, zip_longest
from operator import itemgetter

from twisted_mta.delivery.smtp.outcome import Unusable, deferred, failed
from twisted_mta.delivery.smtp.settings import Settings
from twisted_mta.errors import NoSuchDomain, ResolverUnavailable
from twisted_mta.interfaces import IResolver
from twisted_mta.mail.domain import ascii_domain
from twisted_mta.mail.lookup import Located

# How many mail exchangers are looked up for one message. gmail.com has 5;
# SPF's limit for a domain's mx is 10 (RFC 7208 4.6.4).
_MOST_NAMES = 20

# The names of a site's hosts as one. Those of gmail.com have 150 characters.
_LONGEST_SITE = 300

# How many addresses of one are looked at, of which some may be ours: with thousands,
# that a reply of 64 KB has, this would take a second. gmail.com's have one or two.
_MOST_ADDRESSES = 50

_HOST = re.compile(
    r"\[(?:IPv6:)?(?P<literal>[^\[\]]+)\](?::(?P<port>\d{1,5}))?", re.IGNORECASE
)
_HOST_PORT = re.compile(r"(?P<literal>[^\[\]:]+):(?P<port>\d{1,5})")
_HOST_NAME = re.compile(r"[A-Za-z0-9_\-.]{1,255}")

#: What a next hop that is a socket's path begins with.
UNIX = "unix:"
# sun_path has 108 octets with its end (unix(7)).
_LONGEST_PATH = 107

Listening = Callable[[], Iterable[tuple[str, int]]]


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a host is known to be who it should be, by the DNS.

    @ivar bases: the names under which its TLSA records may be, best first (RFC 7672
        2.2.2); none if its addresses are not authentic.
    @ivar vouched: that it takes this mail is authentic, or the operator's word.
    @ivar domains: the names of the domain whose mail it takes, if that is authentic.
    """

    bases: tuple[str, ...] = ()
    vouched: bool = False
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """One address of one host.

    @ivar name: as A-labels; the address itself if that is all that is known.
    @ivar address: an IP address, or the path of a socket.
    @ivar port: 0 of a socket.
    @ivar preference: lower is better; those that are equal share the mail.
    """

    name: str
    address: str
    port: int
    preference: int = field(default=0, compare=False)
    standing: Standing = field(default=Standing(), compare=False)

    def __str__(self) -> str:
        if not self.port:
            return f"{self.name}[{self.address}]"
        return f"{self.name}[{self.address}]:{self.port}"


@dataclass(frozen=True, slots=True)
class NextHop:
    """A next hop, read.

    @ivar name: a domain or host as A-labels, or an IP address.
    @ivar port: C{None} if it names none.
    @ivar exchanged: the name is a domain whose mail exchangers are meant.
    """

    name: str
    port: int | None
    exchanged: bool


def read(next_hop: str) -> NextHop:
    """Read a next hop.

    @raise ValueError: it is none.
    """
    named = _HOST.fullmatch(next_hop) or _HOST_PORT.fullmatch(next_hop)
    if named is None:
        return NextHop(ascii_domain(next_hop), None, True)
    port = int(named["port"]) if named["port"] else None
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"not a port: {port}")
    name = named["literal"]
    return NextHop(name if _is_address(name) else ascii_domain(name), port, False)


def read_host(next_hop: str) -> NextHop | str:
    """Read the next hop of an agent that speaks LMTP.

    @return: a host, or a socket's path.
    @raise ValueError: it is neither. RFC 2033 5: LMTP must not be spoken on port 25.
    """
    if next_hop.startswith(UNIX):
        path = next_hop.removeprefix(UNIX)
        if not path.startswith("/") or "\0" in path:
            raise ValueError(f"not the path of a socket: {path!r}")
        if len(path.encode()) > _LONGEST_PATH:
            raise ValueError(f"longer than {_LONGEST_PATH} octets: {path!r}")
        return path
    hop = read(next_hop)
    if hop.port == 25:
        raise ValueError("LMTP is not spoken on port 25; another has to be named")
    return replace(hop, exchanged=False)


def check(hop: NextHop) -> NextHop:
    """A next hop whose name can be one: people mistype them, and what is no domain does
    not exist, so that its mail would be returned.

    @raise ValueError: it cannot.
    """
    if _is_address(hop.name):
        if hop.exchanged:
            raise ValueError(f"an address needs brackets: [{hop.name}]")
    elif _HOST_NAME.fullmatch(hop.name) is None:
        raise ValueError(f"neither a domain nor a host: {hop.name!r}")
    return hop


class Exchangers:
    """Finds hosts.

    @param listening: the addresses and ports where this server takes mail; an
        empty or unspecified address stands for all that this machine has.
    """

    def __init__(
        self, resolver: IResolver, settings: Settings, listening: Listening
    ) -> None:
        self._resolver = resolver
        self._settings = settings
        self._listening = listening
        self._names = {settings.hostname.lower()} | settings.own_names

    async def find(self, next_hop: str) -> Sequence[Host]:
        """The hosts to try, best first; at least one.

        @raise Unusable: there are none.
        """
        if self._settings.lmtp:
            return await self._of_lmtp(next_hop)
        try:
            hop = read(next_hop)
        except ValueError:
            raise Unusable(failed("5.1.2", f"{next_hop} is not the name of a domain"))
        if hop.exchanged:
            return await self._of_domain(hop.name)
        return await self._of_host(hop)

    async def _of_lmtp(self, next_hop: str) -> Sequence[Host]:
        try:
            hop = read_host(next_hop)
        except ValueError as error:  # the operator's mistake, not the sender's
            raise Unusable(deferred("4.3.5", f"{next_hop}: {error}"))
        if isinstance(hop, str):
            return [Host("localhost", hop, 0)]
        return await self._of_host(hop)

    async def site(self, next_hop: str) -> str:
        """The names of the hosts that take mail for a next hop, the same for all
        domains that have the same; the next hop itself if they are not known."""
        if self._settings.lmtp:
            return next_hop
        try:
            hop = read(next_hop)
            if not hop.exchanged:
                return hop.name if hop.port is None else f"{hop.name}:{hop.port}"
            records = await self._resolver.mx(hop.name)
        except (ValueError, NoSuchDomain, ResolverUnavailable):
            return next_hop
        names = sorted({name.lower() for _, name in records if _is_host(name)})
        site = ",".join(names[:_MOST_NAMES]) or hop.name
        if len(site) > _LONGEST_SITE:
            # Strangers' names are in rows and logs.
            site = f"{names[0]},{sha256(site.encode()).hexdigest()[:16]}"
        return site

    async def _of_host(self, hop: NextHop) -> Sequence[Host]:
        port = self._settings.port if hop.port is None else hop.port
        try:
            located = await self._resolver.locate(hop.name)
        except ResolverUnavailable as error:
            raise Unusable(deferred(error.status, error.text))
        standing = Standing(_bases(hop.name, located), True)
        addresses = located.addresses
        hosts = _mixed([Host(hop.name, one, port, 0, standing) for one in addresses])
        if not hosts:  # the operator's mistake, not the sender's
            raise Unusable(deferred("4.4.4", f"{hop.name} has no address"))
        named = hop.port is not None or self._settings.lmtp
        if not named and any(self._is_us(host) for host in hosts):
            # mail for user@[127.0.0.1]; with a port the operator means it
            raise Unusable(failed("5.4.6", f"{hop.name} is this server"))
        return hosts[: self._settings.addresses]

    async def _of_domain(self, domain: str) -> Sequence[Host]:
        try:
            exchange = await self._resolver.exchange(domain)
        except NoSuchDomain:
            raise Unusable(failed("5.1.2", f"The domain {domain} does not exist"))
        except ResolverUnavailable as error:
            raise Unusable(deferred(error.status, error.text))
        records = exchange.records
        if records == ((0, ""),):
            raise Unusable(failed("5.1.10", f"{domain} accepts no mail (RFC 7505)"))
        domains = tuple(dict.fromkeys((domain, exchange.name or domain)))
        search = _Search(
            self._resolver,
            self._settings.port,
            self._is_us,
            self._settings.addresses,
            domains if exchange.secure else (),
        )
        mine = [preference for preference, name in records if name in self._names]
        search.us = bool(mine)
        best = min(mine, default=65536)
        usable = [(p, n) for p, n in records if p < best and _is_host(n)]
        for preference, group in groupby(
            usable if records else [(0, domain)], key=itemgetter(0)
        ):
            if not await search.group(preference, [name for _, name in group]):
                break
        return search.result(domain)

    def _is_us(self, host: Host) -> bool:
        """Whether connecting there would reach this server."""
        address = ip_address(host.address.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        own = address.is_unspecified or address.is_loopback
        if own and not self._settings.loopback:
            return True
        for where, port in self._listening():
            if port == host.port and (
                where == str(address)
                or (where in ("", "0.0.0.0", "::") and _is_here(str(address)))
            ):
                return True
        return False


class _Search:
    """The search for the hosts of one domain.

    @ivar us: one of its mail exchangers is this server, so that it and those
        that are no better are out (RFC 5321 5.1).
    @param domains: the names of the domain, if its MX records are authentic.
    """

    def __init__(
        self,
        resolver: IResolver,
        port: int,
        is_us: Callable[[Host], bool],
        most: int,
        domains: tuple[str, ...] = (),
    ) -> None:
        self.us = False
        self._domains = domains
        self._resolver = resolver
        self._port = port
        self._is_us = is_us
        self._most = most
        self._names = 0
        self._found: list[Host] = []
        self._trouble: ResolverUnavailable | None = None

    async def group(self, preference: int, names: list[str]) -> bool:
        """Look up hosts that are equally good.

        @return: whether worse ones are to be looked up too.
        """
        random.shuffle(names)
        hosts: list[Host] = []
        for name in names[: _MOST_NAMES - self._names]:
            self._names += 1
            try:
                located = await self._resolver.locate(name)
            except ResolverUnavailable as error:
                self._trouble = error
            else:
                vouched = bool(self._domains)
                standing = Standing(_bases(name, located), vouched, self._domains)
                hosts += _mixed(
                    [
                        Host(name, address, self._port, preference, standing)
                        for address in located.addresses
                    ]
                )[:_MOST_ADDRESSES]
        if any(self._is_us(host) for host in hosts):
            self.us = True
            return False
        self._found += _mixed(hosts)
        return len(self._found) < self._most and self._names < _MOST_NAMES

    def result(self, domain: str) -> Sequence[Host]:
        """What was found.

        @raise Unusable: nothing.
        """
        if self._found:
            return self._found[: self._most]
        if self._trouble is not None:
            raise Unusable(deferred(self._trouble.status, self._trouble.text))
        if self.us:
            text = f"Mail for {domain} loops back to this server"
            raise Unusable(failed("5.4.6", text))
        raise Unusable(failed("5.4.4", f"No mail exchanger of {domain} has an address"))


def _mixed(hosts: list[Host]) -> list[Host]:
    """In an order of chance, IPv6 and IPv4 in turn, so that a family that does
    not work takes at most every other try (Postfix:
    smtp_balance_inet_protocols)."""
    random.shuffle(hosts)
    families = [
        [host for host in hosts if ":" in host.address],
        [host for host in hosts if ":" not in host.address],
    ]
    random.shuffle(families)
    return [host for pair in zip_longest(*families) for host in pair if host]


def _bases(name: str, located: Located) -> tuple[str, ...]:
    """See L{Standing.bases}."""
    if _is_address(name):
        return ()
    if located.secure:
        return tuple(dict.fromkeys((located.name, name)))
    return (name,) if located.alias_secure else ()


def _is_host(name: str) -> bool:
    """Whether an MX may name it: not an address (RFC 5321 5.1), nor octets that
    no host name has."""
    return _HOST_NAME.fullmatch(name) is not None and not _is_address(name)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_here(address: str) -> bool:
    """Whether this machine has an address: only then can it be bound to."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
