"""Whether a client's address has a name that leads back to it (FCrDNS)."""

from __future__ import annotations

from ipaddress import ip_address

from twisted_mta.errors import NoSuchDomain, ResolverUnavailable
from twisted_mta.interfaces import IResolver
from twisted_mta.mail.verdict import Progress, Verdict
from twisted_mta.policy.action import Action, act, unanswered
from twisted_mta.policy.silent import Silent

# Names of one address that are looked at; RFC 7208 4.6.4 has the same bound.
_NAMES = 10


class Reverse(Silent):
    """Asks at CONNECT, as Postfix's reject_unknown_client_hostname. Of addresses that
    have no names on the Internet (private ones, this machine) it has no opinion."""

    def __init__(self, name: str, resolver: IResolver, action: Action) -> None:
        super().__init__(name)
        self._resolver = resolver
        self._action = action

    async def connect(self, progress: Progress) -> Verdict | None:
        host = progress.origin.host
        if progress.trusted or not public(host):
            return None
        try:
            found = await self._confirmed(host)
        except ResolverUnavailable:
            return unanswered(self._action, self.name, f"Your address {host}")
        if found:
            return None
        text = f"Your address {host} has no name in the DNS that leads back to it"
        return act(self._action, self.name, text, f"no name for {host}", "7.25")

    async def _confirmed(self, host: str) -> bool:
        try:
            names = await self._resolver.ptr(host)
        except NoSuchDomain:
            return False
        address = ip_address(host)
        for name in names[:_NAMES]:
            try:
                found = await self._resolver.addresses(name)
            except NoSuchDomain:
                continue
            if address in map(ip_address, found):
                return True
        return False


def public(host: str) -> bool:
    """Whether an address is one of the Internet."""
    try:
        return ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return False
