"""L{twisted_mta.auth.throttle}."""

import unittest
import unittest.mock
from typing import cast

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock

from twisted_mta.auth import throttle
from twisted_mta.auth.throttle import Throttle
from twisted_mta.net.tally import Tally


class ThrottleTests(unittest.TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.throttle = Throttle(cast(IReactorTime, self.clock))

    def guess(self, host: str, times: int = 1) -> None:
        """Failures from an address."""
        for _ in range(times):
            self.throttle.failed(host)

    def test_h39_penalty_grows(self) -> None:
        """2, 4, 8, then 15 seconds, for that address alone."""
        self.assertEqual(self.throttle.delay_s("192.0.2.1"), 0)
        delays = []
        for _ in range(6):
            self.guess("192.0.2.1")
            delays.append(self.throttle.delay_s("192.0.2.1"))
        self.assertEqual(delays, [2, 4, 8, 15, 15, 15])
        self.assertEqual(self.throttle.delay_s("192.0.2.2"), 0)

    def test_h39_neighbours_of_ipv6(self) -> None:
        """A /64 is one client, whichever of its addresses it takes."""
        self.guess("2001:db8::1")
        self.assertEqual(self.throttle.delay_s("2001:db8::ffff"), 2)
        self.assertEqual(self.throttle.delay_s("2001:db8:0:1::1"), 0)

    def test_h39_told_to_other_processes(self) -> None:
        """A failure costs the same in every process, and is told once; those
        who wait are counted together."""
        told: list[str] = []
        tally = Tally()
        clock = cast(IReactorTime, self.clock)
        one = Throttle(clock, told.append, tally)
        other = Throttle(clock, told.append, tally)
        one.failed("192.0.2.1")
        self.assertEqual(told, ["192.0.2.1"])
        other.heard("192.0.2.1")
        self.assertEqual(told, ["192.0.2.1"])
        self.assertEqual(other.delay_s("192.0.2.1"), 2)
        waits = [each.enter("192.0.2.1") for each in (one, other) * 3]
        self.assertEqual(waits, [True] * 5 + [False])
        one.leave("192.0.2.1")
        self.assertTrue(other.enter("192.0.2.1"))

    def test_halved_by_time(self) -> None:
        """Each minute without a failure halves the wait, until it is forgotten;
        the clock starts again with each failure."""
        self.guess("192.0.2.1", 4)
        delays = []
        for _ in range(5):
            self.clock.advance(60)
            delays.append(self.throttle.delay_s("192.0.2.1"))
        self.assertEqual(delays, [8, 4, 2, 0, 0])
        self.assertEqual(len(self.throttle), 0)
        self.guess("192.0.2.1", 2)
        self.clock.advance(59)
        self.guess("192.0.2.1")
        self.clock.advance(59)
        self.assertEqual(self.throttle.delay_s("192.0.2.1"), 8)

    def test_h39_memory_is_bounded(self) -> None:
        """The network that failed longest ago is forgotten first."""
        with unittest.mock.patch.object(throttle, "_NETWORKS", 3):
            for last in (1, 2, 3, 1, 4):
                self.guess(f"192.0.2.{last}")
        known = [
            last for last in range(1, 5) if self.throttle.delay_s(f"192.0.2.{last}")
        ]
        self.assertEqual(known, [1, 3, 4])
