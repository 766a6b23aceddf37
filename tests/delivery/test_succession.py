"""L{twisted_mta.delivery.succession}: leases of processes that died."""

from tests.delivery.fakes import ALICE, CAROL, ERIN, OfficeCase
from twisted_mta.delivery.succession import Succession
from twisted_mta.errors import LedgerUnavailable


class SuccessionTests(OfficeCase):
    def setUp(self) -> None:
        super().setUp()
        self.succession = Succession(self.clock, self.ledger, self.queue)

    def test_takes_over(self) -> None:
        """The leases of a process that died end at the start, or within seconds
        later; those of the living do not. The oldest message is first again."""
        first = self.now(self.office.send(ALICE, CAROL))
        self.clock.advance(1)
        second = self.now(self.office.send(ALICE, ERIN))
        dead, living = self.office.another("dead"), self.office.another("living")
        self.assertEqual(len(self.now(dead.claim(1))), 1)
        self.assertEqual(len(self.now(living.claim(1))), 1)
        self.ledger.dead.append("dead")
        self.now(self.succession.start())
        (job,) = self.now(self.queue.claim(10))
        self.assertEqual(job.envelope.id, first.id)

        self.ledger.dead.append("living")
        self.assertEqual(self.now(self.queue.claim(10)), [])
        self.clock.advance(2)
        (job,) = self.now(self.queue.claim(10))
        self.assertEqual(job.envelope.id, second.id)
        self.now(self.succession.stop())

    def test_trouble(self) -> None:
        """While the ledger is away they wait, whatever happens."""
        self.now(self.office.send(ALICE, CAROL))
        self.now(self.office.another("dead").claim(1))
        self.ledger.dead.append("dead")
        self.ledger.broken = [LedgerUnavailable("away"), ValueError("a bug")]
        self.now(self.succession.start())
        self.clock.advance(2)
        self.assertEqual(self.now(self.queue.claim(10)), [])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.clock.advance(2)
        self.assertEqual(len(self.now(self.queue.claim(10))), 1)
        self.now(self.succession.stop())

    def test_stop(self) -> None:
        """It ends, and looks no more."""
        self.now(self.succession.start())
        self.assertIsNone(self.now(self.succession.stop()))
        self.ledger.dead.append("dead")
        self.clock.advance(100)
        self.assertEqual(self.ledger.dead, ["dead"])
