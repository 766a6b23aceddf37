"""Sites: which next hops are one, what goes there, and what if nobody is there."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.delivery.fakes import (
    DEFERRED,
    DELIVERED,
    Agent,
    Script,
    TestCase,
    always,
)
from tests.delivery.test_runner import DAY, HOUR, RunnerCase
from twisted_mta.config import schema
from twisted_mta.config.units import Rate
from twisted_mta.delivery.naming import Naming
from twisted_mta.delivery.runner import Runner
from twisted_mta.interfaces import ISited
from twisted_mta.mail.address import Address
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result

DOWN = Outcome(Result.DEFERRED, "4.4.1", "Cannot connect to mx.test: refused")


@implementer(ISited)
class SitedAgent(Agent):
    """Knows sites; those it does not know are the next hop.

    @ivar asked: how often it was asked.
    """

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


class NamingTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        sites = {"a.test": "mx1.g.test,mx2.g.test", "b.test": "mx1.g.test,mx2.g.test"}
        sites |= {f"m{n}.test": f"m{n}-test.mail.big.test" for n in range(9)}
        self.agent = SitedAgent(self.clock, always(DELIVERED), sites)
        self.plain = Agent(self.clock, always(DELIVERED))

    def naming(self, *rules: schema.Site) -> Naming:
        agents = {"smtp": self.agent, "lmtp": self.plain}
        return Naming(self.clock, agents, rules)  # type: ignore[arg-type]

    def test_seam(self) -> None:
        """The agent that this is tested on keeps to the interface."""
        verifyObject(ISited, self.agent)

    def test_asked(self) -> None:
        """An agent is asked once in a while; one that knows no sites never."""
        naming = self.naming()
        self.assertEqual(naming.known(("lmtp", "there")), "there")
        self.assertIsNone(naming.known(("smtp", "a.test")))
        for _ in range(3):
            self.now(naming.name(("smtp", "a.test")))
        self.assertEqual(naming.known(("smtp", "a.test")), "mx1.g.test,mx2.g.test")
        self.clock.advance(300)
        self.assertIsNone(naming.known(("smtp", "a.test")))
        self.now(naming.name(("smtp", "a.test")))
        self.assertEqual(self.agent.asked, ["a.test"] * 2)

    def test_rules(self) -> None:
        """A rule is for the site of its domain, whichever domain of that site comes
        first; one with a dot makes many sites one."""
        domain = schema.Site(domain="a.test", connections=3)
        below = schema.Site(domain=".big.test", connections=4)
        naming = self.naming(domain, below)
        one = self.now(naming.name(("smtp", "b.test")))
        self.assertEqual(naming.rule(("smtp", one)), domain)
        names = {self.now(naming.name(("smtp", f"m{n}.test"))) for n in range(9)}
        self.assertEqual(names, {".big.test"})
        self.assertEqual(naming.rule(("smtp", ".big.test")), below)
        other = self.now(naming.name(("smtp", "other.test")))
        self.assertIsNone(naming.rule(("smtp", other)))

    def test_rule_of_host(self) -> None:
        """A host that the operator named is meant by its name."""
        rule = schema.Site(domain="relay.test", connections=3)
        naming = self.naming(rule)
        self.assertEqual(naming.rule(("lmtp", "relay.test:587")), rule)


class LimitTests(SiteCase):
    def setUp(self) -> None:
        super().setUp()
        self.agent.hanging = True

    def test_one_site(self) -> None:
        """A thousand domains at one provider have the places of one; others go past
        them; all arrive."""
        self.runner(per_hop=5)
        self.send_to(*(f"p{number}.test" for number in range(1000)))
        self.assertEqual(len(self.agent.hung), 5)
        self.send_to("other.test")
        self.pass_time(1)
        self.assertEqual(self.tried()[-1], "other.test")
        rounds = 0
        while self.ledger.count("queued"):
            self.assertLessEqual(len(self.agent.hung), 6)
            self.agent.let_go()
            self.pass_time(1)
            rounds += 1
            self.assertLess(rounds, 1000)
        self.assertEqual(len(self.agent.seen), 1001)
        self.assertEqual(len(set(self.tried())), 1001)

    def test_grows(self) -> None:
        """It begins with a few attempts at once, and more as they succeed."""
        self.runner()
        self.send_to(*(f"p{number}.test" for number in range(400)))
        most = []
        while self.agent.hung:
            most.append(len(self.agent.hung))
            self.agent.let_go()
            self.pass_time(3)
        self.assertEqual(most[0], 5)
        self.assertEqual(max(most), 20)
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_rule(self) -> None:
        """A site of the config has limits of its own."""
        sites = (schema.Site(domain="p7.test", connections=2),)
        self.runner(settings=self.settings(sites=sites))
        self.send_to(*(f"p{number}.test" for number in range(20)))
        self.send_to("other.test")
        self.pass_time(1)
        self.assertEqual(len(self.agent.hung), 3)
        while self.agent.hung:
            self.agent.let_go()
            self.pass_time(3)
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_rule_found_later(self) -> None:
        """A rule whose domain cannot be looked up at first holds once it can."""
        provider = dict(self.agent.sites)
        self.agent.sites = {"p1.test": "mx.provider.test"}
        sites = (schema.Site(domain="p7.test", connections=2, rate=Rate(600, 60.0)),)
        self.runner(settings=self.settings(sites=sites))
        self.send_to("p1.test")
        self.agent.let_go()
        self.agent.sites = provider
        self.pass_time(301)
        self.send_to("p1.test")
        self.agent.let_go()
        self.pass_time(301)
        for _ in range(10):
            self.send_to("p1.test")
        self.pass_time(1)
        self.assertEqual(len(self.agent.hung), 2)
        while self.agent.hung:
            self.agent.let_go()
            self.pass_time(3)
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_share_of_nothing(self) -> None:
        """What has room for one is left to one process."""
        sites = (schema.Site(domain="p1.test", connections=1),)
        settings = self.settings(sites=sites)
        self.runner(settings=settings, share=lambda whole: whole // 2)
        self.send_to(*(f"p{number}.test" for number in range(5)))
        self.pass_time(10)
        self.assertEqual(self.agent.hung, [])
        other = SitedAgent(self.clock, always(DELIVERED), self.agent.sites)
        self.runner_of(
            self.office.another("two"),
            {"smtp": other},
            settings=settings,
            share=lambda whole: whole - whole // 2,
        )
        self.pass_time(60)
        self.assertEqual(len(other.seen), 5)

    def test_slow_names(self) -> None:
        """While it is not known where a row goes others go on; a stop gives it back."""
        self.agent.slow = []
        self.runner()
        self.send_to("p1.test")
        self.assertEqual(len(self.agent.slow), 1)
        self.agent.slow, asked = None, self.agent.slow
        self.send_to("other.test")
        self.assertEqual(self.tried(), ["other.test"])
        self.agent.slow = []
        self.send_to("p2.test")
        asked[0].callback(None)
        self.assertEqual(self.tried(), ["other.test", "p1.test"])
        self.stop(self.runners[0])
        jobs = self.now(self.office.another("two").claim(9))
        self.assertIn("p2.test", [job.next_hop for job in jobs])

    def test_broken_names(self) -> None:
        """An agent that breaks when it is asked delivers all the same."""

        async def broken(next_hop: str) -> str:
            raise RuntimeError("oops")

        self.patch(self.agent, "site", broken)
        self.runner()
        self.send_to("p1.test")
        self.assertEqual(self.tried(), ["p1.test"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class RateTests(SiteCase):
    def test_rate(self) -> None:
        """So many messages to a site in a minute, over simulated hours; others are
        not held up."""
        sites = (schema.Site(domain="p1.test", rate=Rate(6, 60.0)),)
        self.runner(settings=self.settings(sites=sites))
        for _ in range(100):
            self.send_to("p1.test")
        self.send_to("other.test")
        self.pass_time(1)
        self.assertEqual(len(self.agent.seen), 2)
        self.pass_time(60)
        self.assertEqual(len(self.agent.seen), 8)
        self.pass_time(HOUR)
        self.assertEqual(len(self.agent.seen), 101)
        at = sorted(seen.at for seen in self.agent.seen if seen.next_hop == "p1.test")
        for earlier, later in zip(at, at[6:], strict=False):
            self.assertGreaterEqual(later - earlier, 59.9)

    def test_rate_of_all(self) -> None:
        """The same for every site, and a share of it for each process."""
        settings = self.settings(rate_per_site=Rate(120, 60.0))
        self.runner(settings=settings, share=lambda whole: whole // 2)
        for number in range(40):
            self.send_to("p1.test")
            self.send_to(f"other{number % 2}.test")
        self.pass_time(10)
        self.assertEqual(self.tried().count("p1.test"), 11)
        self.pass_time(HOUR)
        self.assertEqual(len(self.agent.seen), 80)


class OutageTests(SiteCase):
    def setUp(self) -> None:
        super().setUp()
        self.agent.script = always(DOWN)

    def test_thousand(self) -> None:
        """A thousand messages for a site that is down cost a window of attempts, and
        then a probe at a time, ever more rarely; all are due when it answers."""
        self.runner()
        for number in range(1000):
            self.send_to(f"p{number}.test")
        self.assertLessEqual(len(self.agent.seen), 6)
        self.pass_time(60)
        self.assertLessEqual(len(self.agent.seen), 7)
        self.pass_time(2 * HOUR - 60)
        first = self.agent.seen[0].at
        probes = [seen.at - first for seen in self.agent.seen[5:]]
        self.assertLessEqual(len(probes), 8)
        self.assertEqual(self.ledger.count("queued"), 1000)
        waiting = self.now(self.queue.waiting())
        texts = {one.diagnostic for one in waiting}
        self.assertTrue(any("mx.provider.test is down since" in one for one in texts))
        self.assertLessEqual({one.attempts for one in waiting}, set(range(9)))
        self.agent.script = always(DELIVERED)
        self.pass_time(2.2 * HOUR)
        self.assertEqual(self.ledger.count("queued"), 0)
        done = [seen.at for seen in self.agent.seen if seen.at > first + 2 * HOUR]
        self.assertLess(max(done) - min(done), 60)

    def test_others(self) -> None:
        """Another site is not held up, nor is one that answers 450."""
        self.runner()
        self.agent.script = lambda job: always(
            DOWN
            if job.next_hop.startswith("p")
            else DEFERRED
            if job.next_hop == "grey.test"
            else DELIVERED
        )(job)
        for number in range(100):
            self.send_to(f"p{number}.test")
        for _ in range(20):
            self.send_to("grey.test")
            self.send_to("good.test")
        self.assertEqual(self.tried().count("good.test"), 20)
        self.assertEqual(self.tried().count("grey.test"), 20)

    def test_five_days(self) -> None:
        """Who waits for a site that never comes back is told after 4 hours, and gets
        the message back after 5 days, as if it had been tried."""
        self.runner()
        for number in range(30):
            self.send_to(f"p{number}.test")
        self.pass_time(4 * HOUR - 1)
        self.assertEqual(self.store.inbox(1), [])
        self.pass_time(1)
        self.assertEqual(len(self.store.inbox(1)), 30)
        self.pass_time(5 * DAY - 4 * HOUR - 1)
        self.assertEqual(len(self.store.inbox(1)), 30)
        self.assertEqual(self.ledger.count("queued"), 30)
        self.pass_time(1)
        self.assertEqual(self.ledger.count("queued"), 0)
        bounces = self.store.inbox(1)[30:]
        self.assertEqual(len(bounces), 30)
        self.assertTrue(any(b"is down since" in bounce for bounce in bounces))
        self.assertLess(len(self.agent.seen), 90)

    def test_new_mail_probes(self) -> None:
        """New mail does not wait for the next probe if its time has come."""
        self.runner()
        for number in range(5):
            self.send_to(f"p{number}.test")
        self.pass_time(90)
        self.agent.script = always(DELIVERED)
        self.send_to("p9.test")
        answered = self.tried().index("p9.test")
        self.assertEqual(answered, 5)
        # All that was tried in vain is tried again.
        self.pass_time(1)
        self.assertEqual(len(self.agent.seen), 11)
        self.assertEqual(self.ledger.count("queued"), 0)
        self.assertEqual(self.ledger.rows("SELECT failures FROM outage"), [(0,)])

    def test_two_processes(self) -> None:
        """What one finds out the other knows: there is one more probe at most, and
        what waits is delivered by both."""
        other = SitedAgent(self.clock, always(DOWN), self.agent.sites)
        self.runner()
        for number in range(5):
            self.send_to(f"p{number}.test")
        self.runner_of(self.office.another("two"), {"smtp": other})
        for number in range(100):
            self.send_to(f"p{number}.test")
        self.assertEqual(len(other.seen), 0)
        self.pass_time(HOUR)
        self.assertLessEqual(len(self.agent.seen) + len(other.seen), 6 + 2 * 6)
        self.agent.script = other.script = always(DELIVERED)
        self.pass_time(2.2 * HOUR)
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_restart(self) -> None:
        """A process that starts later knows, too."""
        runner = self.runner()
        for number in range(5):
            self.send_to(f"p{number}.test")
        self.stop(runner)
        tried = len(self.agent.seen)
        self.runner()
        self.send_to("p9.test")
        self.assertEqual(len(self.agent.seen), tried)

    def test_flush(self) -> None:
        """An operator who wants all tried now has each dead site probed now."""
        self.runner()
        for number in range(50):
            self.send_to(f"p{number}.test")
        tried = len(self.agent.seen)
        self.pass_time(10)
        self.now(self.queue.flush())
        self.assertEqual(len(self.agent.seen), tried + 1)
        self.agent.script = always(DELIVERED)
        self.now(self.queue.flush())
        self.pass_time(10)
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_poison(self) -> None:
        """A message at which the server hangs up does not keep the site dead."""
        broken_off = Outcome(Result.DEFERRED, "4.4.2", "Lost the connection")
        self.runner()
        for number in range(20):
            self.send_to(f"p{number}.test")
        poison: list[str] = []

        def script(job: Job) -> Mapping[Address, Outcome]:
            poison[:] = poison or [job.next_hop]
            outcome = broken_off if job.next_hop == poison[0] else DELIVERED
            return always(outcome)(job)

        self.agent.script = script
        self.pass_time(HOUR)
        self.assertEqual(self.ledger.count("queued"), 1)

    def test_ledger_away(self) -> None:
        """While the ledger cannot be told this process knows all the same, and goes
        on when it is back."""
        self.agent.hanging = True
        self.runner()
        for number in range(30):
            self.send_to(f"p{number}.test")
        self.ledger.down = True
        self.agent.let_go()
        self.pass_time(30)
        self.ledger.down = False
        self.pass_time(60)
        self.assertLessEqual(len(self.agent.seen), 12)
        self.agent.script, self.agent.hanging = always(DELIVERED), False
        self.agent.let_go()
        self.pass_time(HOUR)
        self.assertEqual(self.ledger.count("queued"), 0)


class FairnessTests(SiteCase):
    """Between senders."""

    def bulk(self, count: int) -> None:
        bulk = Address("news", "bulk.test")
        for start in range(0, count, 100):
            to = [Address("x", f"b{n}.test") for n in range(start, start + 100)]
            self.now(self.office.send(bulk, *to))
            self.clock.advance(0.001)

    def test_behind_many(self) -> None:
        """Who comes after ten thousand rows of one sender is tried at once."""
        self.agent.hanging = True
        self.bulk(10_000)
        self.runner()
        for _ in range(3):
            self.agent.let_go()
            self.pass_time(2)
        before = len(self.agent.seen)
        self.send_to("p1.test")
        self.pass_time(2)
        self.agent.let_go()
        self.assertIn("p1.test", self.tried()[before : before + 200])

    def test_hanging(self) -> None:
        """One sender whose attempts all hang leaves places for others."""
        self.agent.hanging = True
        self.runner(concurrency=100)
        self.bulk(2_000)
        self.assertGreater(len(self.agent.hung), 80)
        self.assertLess(len(self.agent.hung), 95)
        self.pass_time(10)
        before = len(self.agent.seen)
        for number in range(5):
            self.send_to(f"other{number}.test")
        self.pass_time(5)
        self.assertEqual(len(self.agent.seen) - before, 5)

    def test_in_turn(self) -> None:
        """When very much is due, of two senders each has at least a quarter of what is
        tried, whoever has more."""
        self.bulk(5_000)
        for number in range(200):
            self.send_to(f"other{number}.test")
        self.agent.hanging = True
        self.runner(concurrency=50)
        for _ in range(20):
            self.agent.let_go()
            self.pass_time(2)
        last = max(n for n, hop in enumerate(self.tried()) if hop.startswith("other"))
        self.assertLess(last, 200 * 4 + 60)
