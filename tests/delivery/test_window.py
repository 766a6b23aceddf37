"""How many at once, how fast, whose, and whether anybody was there: the pure parts of
the run."""

import unittest

from tests.delivery.fakes import ALICE, BOB, CAROL, DEFERRED, DELIVERED, FAILED
from twisted_mta.delivery.flow import flow
from twisted_mta.delivery.pace import Pace
from twisted_mta.delivery.reach import reached
from twisted_mta.delivery.window import Window
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Envelope, Origin
from twisted_mta.mail.route import Outcome, Result


class WindowTests(unittest.TestCase):
    def test_grows(self) -> None:
        """A whole window of answers makes it one larger, up to the most."""
        window = Window(5, 8)
        sizes = []
        for _ in range(5 + 6 + 7 + 20):
            window.answered()
            sizes.append(window.size)
        self.assertEqual(sizes[:5], [5, 5, 5, 5, 6])
        self.assertEqual(sizes[10:18], [7, 7, 7, 7, 7, 7, 7, 8])
        self.assertEqual(sizes[-1], 8)

    def test_shrinks(self) -> None:
        """A whole window of failures makes it one smaller, down to one, if there are
        answers between them."""
        window = Window(8, 20)
        for _ in range(30):
            window.failed()
            self.assertFalse(window.failed() and window.size > 3)
            window.answered()
        self.assertLess(window.size, 4)

    def test_dead(self) -> None:
        """A window of failures with no answer between them: nobody is there."""
        window = Window(5, 20)
        self.assertEqual([window.failed() for _ in range(5)], [False] * 4 + [True])
        window.begin()
        self.assertEqual(window.size, 5)
        for _ in range(4):
            window.failed()
        window.answered()
        self.assertFalse(window.failed())

    def test_small(self) -> None:
        """One at a time is dead at the first failure; none at all is never more."""
        self.assertTrue(Window(5, 1).failed())
        closed = Window(5, 0)
        closed.answered()
        self.assertEqual(closed.size, 0)

    def test_bound(self) -> None:
        """Another limit holds at once, whichever way it goes."""
        window = Window(5, 20)
        for most, size in ((3, 3), (0, 0), (10, 1), (10, 1)):
            window.bound(most)
            self.assertEqual(window.size, size)
        window.begin()
        self.assertEqual(window.size, 5)


class PaceTests(unittest.TestCase):
    def go(self, pace: Pace, seconds: float) -> list[float]:
        """When messages go that all wait from the beginning."""
        now, times = 1000.0, []
        while now < 1000 + seconds:
            while not pace.wait_s(now):
                pace.took(now)
                times.append(now - 1000)
            now += pace.wait_s(now)
        return times

    def test_even(self) -> None:
        """A low rate is even: each message has its share of the time."""
        times = self.go(Pace(6, 60), 60)
        self.assertEqual([round(at, 6) for at in times], [0, 10, 20, 30, 40, 50])

    def test_burst(self) -> None:
        """Of a high rate a second's worth may go at once, and no more in any time."""
        times = self.go(Pace(600, 60), 60)
        self.assertIn(len([at for at in times if at == 0]), (9, 10))
        self.assertLessEqual(len(times), 610)
        self.assertGreaterEqual(len(times), 600)

    def test_days(self) -> None:
        """What was not used yesterday is not there today."""
        pace = Pace(1000, 86_400)
        self.assertEqual(pace.wait_s(0), 0)
        pace.took(0)
        self.assertAlmostEqual(pace.wait_s(86_400), 0)
        pace.took(86_400)
        self.assertAlmostEqual(pace.wait_s(86_400), 86.4)

    def test_clock_set_back(self) -> None:
        """Nobody waits for a clock to come back to where it was."""
        pace = Pace(60, 60)
        pace.took(1_000_000)
        self.assertLessEqual(pace.wait_s(0), 1)
        pace.took(0)
        self.assertLessEqual(pace.wait_s(1), 1)


class FlowTests(unittest.TestCase):
    def test_flows(self) -> None:
        """Who logged in is a flow, bounces are one, and others are one of 4,000
        by their domain, whoever they say they are."""

        def of(sender: Address | None, login: str = "") -> str:
            return flow(Envelope(1, sender, (CAROL,), 0.0, Origin(login=login)))

        self.assertEqual(of(BOB, "Alice@example.test"), "=alice@example.test")
        self.assertEqual(of(None), "<>")
        self.assertEqual(of(ALICE), of(Address("x", "EXAMPLE.test")))
        self.assertNotEqual(of(ALICE), of(CAROL))
        many = {of(Address("x", f"d{number}.test")) for number in range(50_000)}
        self.assertLessEqual(len(many), 4000)
        self.assertGreater(len(many), 3990)


class ReachTests(unittest.TestCase):
    def test_reached(self) -> None:
        """What outcomes say of a site: replies come from somebody, 421 is of the
        whole site, no answer means nobody."""
        down = Outcome(Result.DEFERRED, "4.4.1", "Cannot connect", "mx.test")
        closing = Outcome(Result.DEFERRED, "4.3.2", "421 4.3.2 Later", "mx.test", True)
        broken_off = Outcome(Result.DEFERRED, "4.4.2", "Lost the connection")
        no_dns = Outcome(Result.DEFERRED, "4.4.3", "No DNS server can say anything")
        no_name = Outcome(Result.FAILED, "5.1.2", "The domain does not exist")
        ours = Outcome(Result.DEFERRED, "4.3.0", "The message cannot be read")
        for outcomes, answer in (
            ([DELIVERED], True),
            ([DEFERRED], True),
            ([FAILED], True),
            ([down], False),
            ([closing], False),
            ([down, DEFERRED], True),
            ([down, ours], False),
            ([broken_off], None),
            ([no_name], None),
            ([no_dns], None),
            ([ours], None),
            ([], None),
        ):
            self.assertIs(reached(outcomes), answer, outcomes)
