"""An agent that knows sites, and a run with it."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from tests.delivery.fakes import (
    DELIVERED,
    Agent,
    Script,
    always,
)
from tests.delivery.test_runner import RunnerCase
from twisted_mta.config import schema
from twisted_mta.delivery.runner import Runner
from twisted_mta.interfaces import IRated, ISited
from twisted_mta.mail.address import Address
from twisted_mta.mail.route import Outcome, Result

DOWN = Outcome(Result.DEFERRED, "4.4.1", "Cannot connect to mx.test: refused")


@implementer(ISited, IRated)
class SitedAgent(Agent):
    """Knows sites; those it does not know are the next hop.

    @ivar asked: how often it was asked.
    """

    rate: tuple[int, float] | None = None

    def __init__(self, clock: Clock, script: Script, sites: Mapping[str, str]) -> None:
        super().__init__(clock, script)
        self.sites = dict(sites)
        self.asked: list[str] = []
        self.slow: list[Deferred[None]] | None = None

    async def site(self, next_hop: str) -> str:
        self.asked.append(next_hop)
        if self.slow is not None:
            waiting: Deferred[None] = Deferred()
            self.slow.append(waiting)
            await waiting
        return self.sites.get(next_hop, next_hop)


class SiteCase(RunnerCase):
    """C{p0.test} and those like it are at one provider."""

    def setUp(self) -> None:
        super().setUp()
        provider = {f"p{number}.test": "mx.provider.test" for number in range(1000)}
        self.agent = SitedAgent(self.clock, always(DELIVERED), provider)

    def send_to(self, *domains: str) -> str:
        return self.send(*(Address("x", domain) for domain in domains))

    def settings(self, **settings: object) -> schema.Queue:
        return schema.Queue(**settings)  # type: ignore[arg-type]

    def runner(self, **settings: object) -> Runner:
        return super().runner(**settings)  # type: ignore[arg-type]

    def tried(self) -> list[str]:
        return [seen.next_hop for seen in self.agent.seen]
