"""What tests of policies share: a DNS in memory, a clock, progress of a session."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_mta.errors import NoSuchDomain, ResolverUnavailable
from twisted_mta.interfaces import IResolver
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.lookup import Exchange, Located
from twisted_mta.mail.tlsa import Tlsa
from twisted_mta.mail.verdict import Progress, Verdict

HOST = "8.8.4.4"
BOB = split("bob@example.test")


@implementer(IResolver)
class Dns:
    """Names that are there, and what they have; C{None}: nobody answers; a Deferred:
    not yet. What is not there does not exist."""

    def __init__(self, zones: Mapping[str, Any]) -> None:
        self.zones = dict(zones)
        self.asked: list[str] = []

    async def _find(self, name: str) -> Any:
        self.asked.append(name)
        if name not in self.zones:
            raise NoSuchDomain()
        found = self.zones[name]
        if found is None:
            raise ResolverUnavailable()
        if isinstance(found, Deferred):
            return await found
        return found

    async def mx(self, domain: str) -> Sequence[tuple[int, str]]:
        found = await self._find(domain)
        return [one for one in found if isinstance(one, tuple)]

    async def addresses(self, host: str) -> Sequence[str]:
        found = await self._find(host)
        return [one for one in found if isinstance(one, str)]

    async def exchange(self, domain: str) -> Exchange:
        return Exchange(tuple(await self.mx(domain)), domain)

    async def locate(self, host: str) -> Located:
        return Located(tuple(await self.addresses(host)), host)

    async def tlsa(self, name: str) -> Sequence[Tlsa]:
        return ()

    async def txt(self, name: str) -> Sequence[bytes]:
        return list(await self._find(f"TXT {name}"))

    async def ptr(self, host: str) -> Sequence[str]:
        return list(await self._find(host))


def progress(
    host: str = HOST,
    helo: str = "mx.client.test",
    sender: Address | None = None,
    trusted: bool = False,
) -> Progress:
    """A session that has come to RCPT."""
    return Progress(
        "smtp-1", Origin("ESMTP", host, helo=helo), sender, (BOB,), trusted=trusted
    )


class PolicyCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)

    def now(self, asked: Coroutine[Any, Any, Verdict | None]) -> Verdict | None:
        verdict: Verdict | None = self.successResultOf(Deferred.fromCoroutine(asked))
        return verdict

    def code(self, asked: Coroutine[Any, Any, Verdict | None]) -> int:
        """Of a refusal; 0 if there is none."""
        verdict = self.now(asked)
        return verdict.reply.code if verdict and verdict.reply else 0
