"""The queue run in a world of 2,000 sites, over simulated hours.

The run, the queue and its rows are the real ones; the ledger is the one in memory, as
one that syncs to disk would take minutes for what is hours here.
"""

from __future__ import annotations

import os
import random
from collections import Counter

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.delivery.fakes import HOST, Office, TestCase
from tests.delivery.world import Place, QuickLedger, World
from twisted_mta.config import schema
from twisted_mta.delivery.queue import Queue
from twisted_mta.delivery.retry import Schedule
from twisted_mta.delivery.runner import Runner
from twisted_mta.delivery.succession import Succession
from twisted_mta.mail.address import Address

HOUR = 3600.0
SITES = 2000
PROVIDER = "provider"
DEAD = "dead"
# Another is another world.
SEED = int(os.environ.get("TWISTED_MTA_WORLD", "1"))
# The longest pause, with what chance adds, and what is in the queue before.
LONGEST = 7200 * 1.1 + 120


class WorldCase(TestCase):
    def setUp(self) -> None:
        random.seed(SEED)
        self.office = Office(ledger=QuickLedger())
        self.clock: Clock = self.office.clock
        self.world = World(self.clock, SEED)
        self.queue = self.queue_of("one")
        self.runners: list[Runner] = []
        self.agents = []
        self.sent: dict[int, tuple[str, float]] = {}

    def tearDown(self) -> None:
        for runner in self.runners:
            stopped = Deferred.fromCoroutine(runner.stop())
            while not stopped.called:
                self.clock.advance(1)

    def queue_of(self, owner: str) -> Queue:
        schedule = Schedule(schema.Queue(), self.world.chance.random)
        office = self.office
        return Queue(self.clock, office.ledger, owner, schedule, office.own, HOST)

    def run_of(self, queue: Queue, **settings: object) -> Runner:
        agent = self.world.agent()
        runner = Runner(
            self.clock,
            self.office.ledger,
            queue,
            {"smtp": agent},
            **settings,  # type: ignore[arg-type]
        )
        self.runners.append(runner)
        self.agents.append(agent)
        self.now(runner.start())
        return runner

    def send(self, domain: str, sender: str = "alice@example.test") -> int:
        local, _, of = sender.partition("@")
        envelope = self.now(
            self.office.send(Address(local, of), Address("someone", domain))
        )
        self.sent[envelope.id] = domain, self.world.passed_s
        return envelope.id

    def pass_time(self, seconds: float) -> None:
        """Let time go by, from one timer to the next."""
        end = self.clock.seconds() + seconds
        while calls := self.clock.getDelayedCalls():
            due = min(call.getTime() for call in calls)
            if due > end:
                break
            self.clock.advance(max(due - self.clock.seconds(), 0))
        self.clock.advance(end - self.clock.seconds())

    def site_of(self, domain: str) -> Place:
        return self.world.sites[self.world.of[domain]]

    def add(self, domain: str, site: str, place: Place | None = None) -> None:
        self.world.of[domain] = site
        if place is not None:
            self.world.sites[site] = place

    def waited(self, id: int) -> float:
        domain, at = self.sent[id]
        return self.site_of(domain).arrived[id] - at


class WorldTests(WorldCase):
    def populate(self) -> None:
        """Of 2,000 sites a quarter is in trouble of some kind; one is a provider with
        500 domains, one is down for three hours, with 1,000 messages for it."""
        chance = self.world.chance
        for number in range(SITES - 2):
            kind = number % 20
            place = Place(latency_s=0.05 + chance.random())
            if kind == 0:
                begin = chance.random() * HOUR
                place.down = ((begin, begin + chance.random() * 4 * HOUR),)
            elif kind == 1:
                place.down = tuple((n * 1200.0, n * 1200.0 + 600) for n in range(20))
            elif kind == 2:
                place.latency_s = 20 + chance.random() * 40
            elif kind == 3:
                place.greylist_s = 299.0
            self.add(f"d{number}.test", f"mx.d{number}.test", place)
        self.add("p0.test", PROVIDER, Place(latency_s=0.3))
        for number in range(500):
            self.world.of[f"p{number}.test"] = PROVIDER
        self.add("dead.test", DEAD, Place(down=((0.0, 3 * HOUR),)))

    def test_world(self) -> None:
        """Every message arrives, once, not long after it could; no site is tried more
        than its share, not even when it comes back; two processes work, one dies."""
        self.populate()
        one = self.run_of(self.queue)
        two = self.run_of(self.queue_of("two"))
        succession = Succession(self.clock, self.office.ledger, self.queue)
        self.now(succession.start())
        chance = self.world.chance
        domains = list(self.world.of)
        for minute in range(60):
            for _ in range(60):
                self.send(chance.choice(domains), f"x@s{chance.randrange(50)}.test")
            if minute < 10:
                for _ in range(100):
                    self.send("dead.test", "bulk@bulk.test")
            self.pass_time(60)
            if minute == 30:
                # It is killed: nothing of it goes on, its lock is free.
                two._stopping = True
                for _, task in list(two._running.values()):
                    task.cancel()
                self.runners.remove(two)
                self.office.ledger.dead.append("two")
                self.pass_time(3)
                leases = "SELECT COUNT(*) FROM hop WHERE lease = 'two'"
                self.assertEqual(self.office.ledger.rows(leases), [(0,)])
        self.assertTrue(one)
        self.pass_time(9 * HOUR)
        self.now(succession.stop())
        two._alarm.wake()
        self.assertEqual(self.office.ledger.count("queued"), 0)
        self.judge()

    def judge(self) -> None:
        self.assertEqual(self.world.twice, [])
        for id, (domain, at) in self.sent.items():
            site = self.site_of(domain)
            waited = site.arrived[id] - at
            if len(site.down) > 1:  # it was up for a while, each time in vain
                self.assertLess(waited, 9 * HOUR, domain)
            elif site.down:
                ((begin, end),) = site.down
                chance = end if begin - 60 <= at < end else at
                self.assertLess(site.arrived[id] - chance, LONGEST, domain)
            elif site.greylist_s:
                self.assertLess(waited, 340, domain)
            else:
                self.assertLess(waited, 60 + site.latency_s, domain)
        for name, site in self.world.sites.items():
            self.assertLessEqual(site.most, 20, name)
        dead = self.world.sites[DEAD]
        # Two windows at first, with what had a place before they were found in vain;
        # then two for each pause: 1, 2, 4 ... 64 minutes.
        probes = [at for at in dead.tried if at < 3 * HOUR]
        self.assertLessEqual(len(probes), 20 + 2 * 8)
        # No herd when it is there again: what 20 at a time can be.
        after = Counter(int(at) for at in dead.tried if at >= 3 * HOUR)
        self.assertLessEqual(max(after.values()), 20 / dead.latency_s + 20)
        self.assertLessEqual(max(self.world.seconds.values()), 250)
