"""L{twisted_mta.net.fairness}: who accepts."""

import unittest

from twisted.internet.task import Clock

from twisted_mta.net.fairness import Fairness
from twisted_mta.net.tally import ACCEPTED, TOTAL, Memory


class Port:
    """A port, as far as this goes."""

    connected = reads = True
    disconnecting = False

    def stopReading(self) -> None:
        self.reads = False

    def startReading(self) -> None:
        self.reads = True


class FairnessTests(unittest.TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.memory = Memory(3)
        self.addCleanup(self.memory.close)
        self.one = Fairness(self.clock, self.memory, 0)
        self.other = Fairness(self.clock, self.memory, 1)
        self.port = Port()

    def leaves(self, fairness: Fairness, own: int, other: int) -> bool:
        """Whether it leaves a connection to others, at these counts."""
        self.memory.set(0, TOTAL, own)
        self.memory.set(1, TOTAL, other)
        return fairness.leaves_it(self.port)

    def test_who_has_fewer(self) -> None:
        """Who has clearly more connections leaves the next one to the other,
        who takes it."""
        self.one.begin()
        self.other.begin()
        self.assertFalse(self.leaves(self.one, 10, 10))
        self.assertFalse(self.leaves(self.one, 11, 10))
        self.assertTrue(self.leaves(self.one, 13, 10))
        self.assertFalse(self.port.reads)
        self.clock.advance(1)
        self.assertTrue(self.port.reads)
        self.assertFalse(self.leaves(self.other, 13, 10))

    def test_nobody_else(self) -> None:
        """Who does not accept (yet, or any more) is not waited for."""
        self.one.begin()
        self.assertFalse(self.leaves(self.one, 100, 0))
        self.other.begin()
        self.assertTrue(self.leaves(self.one, 100, 0))
        self.other.end()
        self.assertFalse(self.leaves(self.one, 100, 0))

    def test_a_busy_other_is_not_waited_for(self) -> None:
        """If the other accepted nothing meanwhile, the connection is taken, and
        so are those of the next moments; then the other gets a chance again."""
        self.one.begin()
        self.other.begin()
        self.assertTrue(self.leaves(self.one, 20, 5))
        self.assertFalse(self.leaves(self.one, 20, 5))
        self.assertFalse(self.leaves(self.one, 21, 5))
        self.clock.advance(1)
        self.assertTrue(self.leaves(self.one, 22, 5))

    def test_one_that_accepts_is_waited_for(self) -> None:
        """As long as the other accepts it is waited for."""
        self.one.begin()
        self.other.begin()
        for accepted in range(5):
            self.memory.set(1, ACCEPTED, accepted)
            self.assertTrue(self.leaves(self.one, 20, 5 + accepted))

    def test_closed_meanwhile(self) -> None:
        """A port that was closed while it waited stays so."""
        self.one.begin()
        self.other.begin()
        self.assertTrue(self.leaves(self.one, 20, 5))
        self.port.disconnecting = True
        self.clock.advance(1)
        self.assertFalse(self.port.reads)
