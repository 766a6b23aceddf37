"""Sites: which next hops are one, what goes there, and whose mail it is."""

from __future__ import annotations

from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.delivery.fakes import (
    DELIVERED,
    Agent,
    TestCase,
    always,
)
from tests.delivery.sited import SiteCase, SitedAgent
from tests.delivery.test_runner import HOUR
from twisted_mta.config import schema
from twisted_mta.config.units import Rate
from twisted_mta.delivery.naming import Naming
from twisted_mta.delivery.ways import Ways
from twisted_mta.interfaces import ISited
from twisted_mta.mail.address import Address
from twisted_mta.mail.filter import Filter
from twisted_mta.mail.route import RELEASE


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

    def test_rate_of_an_agent(self) -> None:
        """So many messages by an agent in a minute, to whatever sites; each process
        has its share, and other agents go on."""
        self.agent.rate = 12, 60.0
        other = SitedAgent(self.clock, always(DELIVERED), {})
        self.office.router._ways = Ways([schema.Route(domain="o.test", agent="other")])
        agents = {"smtp": self.agent, "other": other}
        self.runner_of(self.queue, agents, share=lambda whole: whole // 2)
        for number in range(20):
            self.send_to(f"d{number}.test")
            self.send_to("o.test")
        self.pass_time(1)
        self.assertEqual(len(other.seen), 20)
        self.assertEqual(len(self.agent.seen), 1)
        self.pass_time(60)
        self.assertEqual(len(self.agent.seen), 7)
        self.pass_time(HOUR)
        at = sorted(seen.at for seen in self.agent.seen)
        self.assertEqual(len(at), 20)
        for earlier, later in zip(at, at[6:], strict=False):
            self.assertGreaterEqual(later - earlier, 59.9)

    def test_rate_of_no_site(self) -> None:
        """What this server itself accepts anew is sent nowhere, and waits for no
        rate."""
        settings = self.settings(rate_per_site=Rate(1, 60.0))
        self.runner_of(self.queue, {RELEASE: self.agent}, settings=settings)
        self.office.router._ways = Ways([schema.Route(domain="*", hold=True)])
        for _ in range(9):
            self.send_to("p1.test")
        self.now(self.office.oversight.requeue(Filter(everything=True)))
        self.now(self.office.oversight.release(Filter(everything=True)))
        self.pass_time(1)
        self.assertEqual(self.tried(), [""] * 9)

    def test_stopped(self) -> None:
        """What waits here for its site's pace is not tried once an operator has held,
        frozen or removed it, or some of its recipients; all others are."""
        sites = (schema.Site(domain="p1.test", rate=Rate(6, 60.0)),)
        for name in ("a", "held", "removed", "b", "c", "d"):
            self.send(Address(name, "p1.test"))
        self.send(Address("e", "p1.test"), Address("f", "p1.test"))
        self.runner(settings=self.settings(sites=sites))
        states = {row.state for row in self.now(self.queue.waiting())}
        self.assertEqual(states, {"active"})
        oversight = self.office.oversight
        self.now(oversight.hold(Filter(recipient="held@*")))
        self.now(oversight.remove(Filter(recipient="removed@*")))
        self.now(oversight.remove(Filter(recipient="f@*")))
        self.pass_time(HOUR)
        (held,) = self.now(self.queue.waiting())
        self.assertEqual((held.recipient, held.state), ("held@p1.test", "held"))
        tried = [who.local for seen in self.agent.seen for who in seen.recipients]
        self.assertEqual(sorted(tried), ["a", "b", "c", "d", "e"])
        self.now(oversight.release(Filter(recipient="held@*")))
        self.assertEqual(self.ledger.count("queued"), 0)

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
