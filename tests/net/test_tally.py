"""L{twisted_mta.net.tally}: what several processes count together."""

import os
import unittest

from twisted_mta.net.admission import Admission
from twisted_mta.net.tally import RATES, Memory, SharedTally


class SharedTests(unittest.TestCase):
    def setUp(self) -> None:
        self.memory = Memory(3)
        self.addCleanup(self.memory.close)
        # As another process has it, by the descriptor that it inherited.
        other = Memory(3, os.dup(self.memory.fd), self.memory.secret)
        self.addCleanup(other.close)
        self.one = SharedTally(self.memory, 0)
        self.other = SharedTally(other, 2)

    def test_one_count(self) -> None:
        """Each process sees what all have counted, in all and by key."""
        self.assertEqual(self.one.add("", 1), 1)
        self.assertEqual(self.other.add("", 2), 3)
        self.assertEqual(self.one.add("192.0.2.1", 5), 5)
        self.assertEqual(self.other.add("192.0.2.1", 1), 6)
        self.assertEqual(self.other.add("192.0.2.1", -1), 5)
        self.assertEqual(self.one.add("192.0.2.1", -5), 0)

    def test_the_dead_count_nothing(self) -> None:
        """What a process had counted is gone when its column is cleared; what
        the others had is not."""
        for key in ("", "192.0.2.1"):
            self.one.add(key, 3)
            self.other.add(key, 4)
        self.memory.clear(2)
        self.assertEqual(self.one.add("", 0), 3)
        self.assertEqual(self.one.add("192.0.2.1", 0), 3)

    def test_rates(self) -> None:
        """Rates are counted together as well, and meet no connections; those of the
        dead end with them."""
        rates = SharedTally(self.memory, 0, RATES)
        others = SharedTally(self.memory, 2, RATES)
        self.assertEqual(rates.add("192.0.2.1", 3), 3)
        self.assertEqual(others.add("192.0.2.1", 4), 7)
        self.assertEqual(self.one.add("192.0.2.1", 1), 1)
        self.memory.clear(2)
        self.assertEqual(rates.add("192.0.2.1", 0), 3)
        self.memory.clear(0)
        self.assertEqual(rates.add("192.0.2.1", 0), 0)

    def test_keys_are_apart(self) -> None:
        """Many networks fall on many rows, and none on that of the total."""
        for number in range(2000):
            self.one.add(f"10.0.{number >> 8}.{number & 255}", 1)
        self.assertEqual(self.one.add("", 0), 0)
        counts = [
            self.one.add(f"10.0.{number >> 8}.{number & 255}", 0)
            for number in range(2000)
        ]
        # 2,000 of 65,536 at chance: some 60 meet another; 5 sigma more here.
        self.assertLess(sum(count > 1 for count in counts), 100)

    def test_h36_admission(self) -> None:
        """Limits hold for all processes together, whichever a client reaches."""
        one = Admission(4, 2, tally=self.one)
        other = Admission(4, 2, tally=self.other)
        self.assertEqual(one.enter("192.0.2.1"), "")
        self.assertEqual(other.enter("192.0.2.1"), "")
        self.assertIn("from 192.0.2.1", one.enter("192.0.2.1"))
        self.assertIn("from 192.0.2.1", other.enter("192.0.2.1"))
        self.assertEqual(one.enter("192.0.2.2"), "")
        self.assertEqual(other.enter("192.0.2.3"), "")
        self.assertEqual(one.enter("192.0.2.4"), "too many connections")
        other.leave("192.0.2.1")
        self.assertEqual(one.enter("192.0.2.1"), "")
        self.assertEqual((one.count, other.count), (3, 1))
