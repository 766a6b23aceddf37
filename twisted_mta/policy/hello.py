"""Whether a client gives itself a name that it can have (RFC 5321 4.1.4)."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address

from twisted_mta.errors import NoSuchDomain, ResolverUnavailable
from twisted_mta.interfaces import IResolver
from twisted_mta.mail.verdict import Progress, Verdict
from twisted_mta.policy.action import Action, act, unanswered
from twisted_mta.policy.silent import Silent


class Hello(Silent):
    """Asks at HELO.

    @param ours: names that only this server has.
    @param resolves: the name must have an address or a mail exchanger.
    """

    def __init__(
        self,
        name: str,
        resolver: IResolver,
        action: Action,
        ours: Collection[str],
        resolves: bool,
    ) -> None:
        super().__init__(name)
        self._resolver = resolver
        self._action = action
        self._ours = {each.lower() for each in ours}
        self._resolves = resolves

    async def helo(self, progress: Progress) -> Verdict | None:
        if progress.trusted:
            return None
        said, host = progress.origin.helo.lower().rstrip("."), progress.origin.host
        wrong = self._wrong(said, host)
        if not wrong and self._resolves and not said.startswith("["):
            try:
                wrong = "" if await self._known(said) else "is not in the DNS"
            except ResolverUnavailable:
                return unanswered(self._action, self.name, f"Your name {said}")
        if not wrong:
            return None
        text = f"The name that you gave at HELO, {progress.origin.helo}, {wrong}"
        return act(self._action, self.name, text, f"HELO {said}: {wrong}")

    def _wrong(self, said: str, host: str) -> str:
        if said.startswith("["):
            return "" if _literal(said) == _address(host) else "is not your address"
        if said in self._ours:
            return "is mine, not yours"
        return "" if "." in said else "is not fully qualified"

    async def _known(self, said: str) -> bool:
        try:
            if await self._resolver.addresses(said):
                return True
            return bool(await self._resolver.mx(said))
        except NoSuchDomain:
            return False


def _literal(said: str) -> object:
    return _address(said[1:].removesuffix("]").removeprefix("ipv6:"))


def _address(text: str) -> object:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
