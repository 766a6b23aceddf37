"""Old history goes, in the background."""

from tests.delivery.fakes import ALICE, BOB, CAROL, DEFERRED, DELIVERED, always
from tests.delivery.test_queue import DAY, QueueCase
from twisted_mta.delivery.sweep import Sweep
from twisted_mta.errors import LedgerUnavailable
from twisted_mta.mail import ids
from twisted_mta.mail.address import Address
from twisted_mta.mail.history import Event, Kind
from twisted_mta.mail.ids import new_id, to_text


class SweepTests(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        # Ids grow with the time of this machine, so the clock has to have that.
        self.patch(ids.time, "time_ns", lambda: int(self.clock.seconds() * 1e9))
        self.patch(ids, "_last", 0)
        self.sweep = Sweep(self.clock, self.ledger, 7 * DAY)

    def send(self, recipient: Address) -> str:
        return to_text(self.now(self.office.send(ALICE, recipient)).id)

    def left(self) -> list[str]:
        return [to_text(id) for (id,) in self.ledger.rows("SELECT id FROM history")]

    def pass_on(self, seconds: float) -> None:
        """Let time pass, with all that is to be done in it."""
        self.clock.pump([seconds, *[0.025] * 20])

    def test_sweeps(self) -> None:
        """What is older than it is to be kept is gone soon after, and the rest is not;
        what waits keeps its history however old."""
        self.now(self.sweep.start())
        done, waits = self.send(BOB), self.send(CAROL)
        job = self.claim()
        self.now(self.queue.settle(job, always(DEFERRED)(job)))
        self.pass_on(6 * DAY)
        later = self.send(BOB)
        self.assertEqual(self.left(), [done, waits, later])
        self.pass_on(DAY)
        self.pass_on(600)
        self.assertEqual(self.left(), [waits, later])
        self.assertEqual(self.ledger.count("event"), 1)
        # Done with now, it can be seen for as long again.
        job = self.claim()
        self.now(self.queue.settle(job, always(DELIVERED)(job)))
        self.pass_on(6 * DAY)
        self.pass_on(600)
        self.assertEqual(self.left(), [waits])
        self.pass_on(DAY)
        self.pass_on(600)
        self.assertEqual(self.left(), [])
        self.assertEqual(self.ledger.count("event"), 0)
        self.now(self.sweep.stop())

    def test_pieces(self) -> None:
        """Much is swept in many small transactions."""
        for _ in range(250):
            self.send(BOB)
        self.clock.advance(8 * DAY)
        before = self.ledger.writes
        self.now(self.sweep.start())
        self.pass_on(30)
        self.assertEqual(self.left(), [])
        self.assertEqual(self.ledger.writes - before, 3)
        self.now(self.sweep.stop())

    def test_event_alone(self) -> None:
        """Events of messages that came before there was a history go, too."""
        event = Event(new_id(), new_id(), self.start, Kind.DELIVERED)
        self.now(self.ledger.write(lambda t: self.queue.history.happened(t, [event])))
        self.clock.advance(8 * DAY)
        self.now(self.sweep.start())
        self.pass_on(30)
        self.assertEqual(self.ledger.count("event"), 0)
        self.now(self.sweep.stop())

    def test_trouble(self) -> None:
        """While the ledger is away it waits, whatever happens."""
        self.send(BOB)
        self.clock.advance(8 * DAY)
        self.ledger.broken = [LedgerUnavailable("away"), ValueError("a bug")]
        self.now(self.sweep.start())
        self.pass_on(30)
        self.pass_on(600)
        self.assertEqual(len(self.left()), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.pass_on(600)
        self.assertEqual(self.left(), [])
        self.now(self.sweep.stop())

    def test_stop(self) -> None:
        """It ends at once, and looks no more."""
        self.send(BOB)
        self.clock.advance(8 * DAY)
        self.now(self.sweep.start())
        self.assertIsNone(self.now(self.sweep.stop()))
        self.pass_on(1000)
        self.assertEqual(len(self.left()), 1)
