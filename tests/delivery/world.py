"""A world of sites for the queue run to deliver to, by a clock that a test moves."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from tests.delivery.fakes import DEFERRED, DELIVERED, Ledger, Transaction
from twisted_mta.errors import LedgerUnavailable
from twisted_mta.interfaces import IContent, IDeliveryAgent, ISited, ITransaction
from twisted_mta.mail.address import Address
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result

T = TypeVar("T")

UNREACHED = Outcome(Result.DEFERRED, "4.4.1", "Cannot connect: it is down", "mx.test")


class QuickLedger(Ledger):
    """Runs each unit once: tens of thousands of them are to fit into a test."""

    async def write(self, unit: Callable[[ITransaction], T], brief: bool = False) -> T:
        if self.down:
            raise LedgerUnavailable()
        self.writes += 1
        transaction = Transaction(self._connection)
        with self._connection:
            result = unit(transaction)
        for topic in dict.fromkeys(transaction.topics):
            for watched, callback in list(self._watches):
                if watched == topic:
                    callback()
        return result


@dataclass
class Place:
    """A site.

    @ivar latency_s: how long an attempt takes there.
    @ivar down: when it is down: from, to, since the beginning.
    @ivar greylist_s: for how long what comes the first time is deferred.
    @ivar now: attempts that run.
    @ivar most: how many ran at the same time at most.
    @ivar tried: when attempts began.
    @ivar arrived: when each message was delivered.
    """

    latency_s: float = 0.2
    down: tuple[tuple[float, float], ...] = ()
    greylist_s: float = 0.0
    now: int = 0
    most: int = 0
    tried: list[float] = field(default_factory=list)
    arrived: dict[int, float] = field(default_factory=dict)
    first: dict[int, float] = field(default_factory=dict)

    def is_down(self, at: float) -> bool:
        return any(begin <= at < end for begin, end in self.down)


class World:
    """Sites by name, and domains by site."""

    def __init__(self, clock: Clock, seed: int = 1) -> None:
        self.clock = clock
        self.start = clock.seconds()
        self.sites: dict[str, Place] = defaultdict(Place)
        self.of: dict[str, str] = {}
        self.seconds: Counter[int] = Counter()
        self.chance = random.Random(seed)
        self.twice: list[int] = []

    @property
    def passed_s(self) -> float:
        return self.clock.seconds() - self.start

    def agent(self) -> WorldAgent:
        return WorldAgent(self)


@implementer(IDeliveryAgent, ISited)
class WorldAgent:
    """Delivers to a world; one process's."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.dead = False

    async def site(self, next_hop: str) -> str:
        return self._world.of.get(next_hop, next_hop)

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        world = self._world
        site = world.sites[world.of.get(job.next_hop, job.next_hop)]
        site.tried.append(world.passed_s)
        world.seconds[int(world.passed_s)] += 1
        site.now += 1
        site.most = max(site.most, site.now)
        id = job.envelope.id
        down = site.is_down(world.passed_s)
        try:
            await self._sleep(30.0 if down else site.latency_s)
        finally:
            site.now -= 1
        if down:
            outcome = UNREACHED
        elif world.passed_s - site.first.setdefault(id, world.passed_s) < (
            site.greylist_s
        ):
            outcome = DEFERRED
        else:
            if id in site.arrived:
                world.twice.append(id)
            site.arrived[id] = world.passed_s
            outcome = DELIVERED
        return dict.fromkeys(job.recipients, outcome)

    def _sleep(self, seconds: float) -> Awaitable[None]:
        waiting: Deferred[None] = Deferred()
        call = self._world.clock.callLater(seconds, waiting.callback, None)
        waiting._canceller = lambda _: call.cancel()
        return waiting

    async def close(self) -> None:
        pass
