"""Sites where nobody answers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from tests.delivery.fakes import (
    DEFERRED,
    DELIVERED,
    always,
)
from tests.delivery.sited import DOWN, SiteCase, SitedAgent
from tests.delivery.test_runner import DAY, HOUR
from twisted_mta.config import schema
from twisted_mta.delivery import selection
from twisted_mta.delivery.outage import Outages
from twisted_mta.mail.address import Address
from twisted_mta.mail.filter import Filter
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result


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

    def test_found_twice(self) -> None:
        """What two processes find out at the same time counts once."""
        known = []
        for _ in range(2):
            outages = Outages(self.clock, self.ledger, schema.Queue(), lambda: 0.0)
            outages.start()
            self.addCleanup(outages.stop)
            known.append(outages)
        found = [self.now(one.down(("smtp", "mx.test"), "No")) for one in known]
        self.assertEqual([one.failures for one in found], [1, 1])
        self.assertEqual(found[0].probe_at, found[1].probe_at)
        self.clock.advance(60)
        found = [self.now(one.down(("smtp", "mx.test"), "No")) for one in known]
        self.assertEqual([one.failures for one in found], [2, 2])
        self.assertEqual(self.ledger.rows("SELECT failures FROM outage"), [(2,)])

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

    def test_flush_in_pieces(self) -> None:
        """Of a long queue, too, each is probed once, so that a flush does not make the
        next probe wait as after so many failures."""
        self.patch(selection, "_CHANGED", 4)
        self.runner()
        for number in range(50):
            self.send_to(f"p{number}.test")
        tried = len(self.agent.seen)
        self.pass_time(10)
        flush = self.office.oversight.flush
        everything = Filter(everything=True)
        self.now(flush(everything, told=lambda tally: self.pass_time(0.1)))
        # The first probe is in the very moment of the order, which is no time since.
        self.assertEqual(len(self.agent.seen), tried + 2)
        self.assertEqual(self.ledger.rows("SELECT failures FROM outage"), [(3,)])

    def test_start(self) -> None:
        """A server that says that it is back (ETRN) gets what came while it was down,
        though nobody tried that."""
        self.runner()
        for number in range(10):
            self.send_to("p1.test" if number == 9 else "p0.test")
        tried = len(self.agent.seen)
        self.assertNotIn("p1.test", self.tried())
        self.agent.script = always(DELIVERED)
        self.assertEqual(self.now(self.queue.start("p1.test")), 1)
        self.pass_time(1)
        self.assertEqual(self.tried()[tried], "p1.test")

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

    def test_stopped(self) -> None:
        """Who is stopped before it is recorded that a site is down says nothing that an
        operator would wonder at."""
        self.agent.hanging = True
        runner = self.runner()
        for number in range(8):
            self.send_to(f"p{number}.test")
        self.ledger.down = True
        self.agent.let_go()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            self.stop(runner)
        self.assertEqual([str(one.message) for one in said], [])

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
