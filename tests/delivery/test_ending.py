"""Attempts that end together."""

from collections.abc import Sequence
from functools import partial

from tests.delivery.fakes import (
    ALICE,
    CAROL,
    DAVE,
    DEFERRED,
    DELIVERED,
    ERIN,
    FAILED,
    Office,
    TestCase,
)
from twisted_mta.config import schema
from twisted_mta.delivery.beyond import Beyond
from twisted_mta.delivery.ending import Ending
from twisted_mta.delivery.retry import Schedule
from twisted_mta.delivery.rows import of
from twisted_mta.delivery.settlement import judge
from twisted_mta.interfaces import ITransaction
from twisted_mta.mail.address import Address
from twisted_mta.mail.job import Job

Left = tuple[str, str, int, str]


class EndingTests(TestCase):
    def left(self, together: bool) -> tuple[Sequence[bool], list[Left], int, int]:
        """Six attempts end: of two hops of one message, one that fails for one and is
        deferred for another, one that is deferred, one whose lease is another's, and
        one whose row was removed.

        @return: which leases were ours, the rows that are left, how many messages are,
            and how many contents were released.
        """
        office = Office()
        both = self.now(office.send(ALICE, CAROL, ERIN))
        some = self.now(office.send(ALICE, CAROL, DAVE))
        late = self.now(office.send(ALICE, CAROL))
        taken = self.now(office.send(ALICE, CAROL, DAVE))
        removed = self.now(office.send(ALICE, CAROL))
        jobs = self.now(office.queue.claim(10))
        endings = [self.ending(office, job, jobs) for job in jobs]
        order = [both, some, late, taken, removed]
        self.assertEqual(
            [job.envelope.id for job in jobs], [e.id for e in (both, *order)]
        )
        rows = [jobs[4].id, jobs[5].id]

        def disturb(transaction: ITransaction) -> None:
            transaction.execute("UPDATE hop SET lease = 'two' WHERE id = ?", rows[:1])
            transaction.execute("DELETE FROM recipient WHERE hop_id = ?", rows[1:])
            transaction.execute("DELETE FROM hop WHERE id = ?", rows[1:])
            transaction.execute("DELETE FROM queued WHERE id = ?", [removed.id])

        self.now(office.ledger.write(disturb))
        if together:
            ours = self.now(
                office.ledger.write(lambda t: endings[0].together(t, endings))
            )
        else:
            ours = [self.now(office.ledger.write(ending)) for ending in endings]
        left = office.ledger.rows(
            "SELECT address, status, attempts, lease FROM recipient"
            " JOIN hop ON hop.id = hop_id ORDER BY queued_id, address"
        )
        counts = [office.ledger.count(table) for table in ("queued", "released")]
        return ours, left, counts[0], counts[1]

    def ending(self, office: Office, job: Job, jobs: Sequence[Job]) -> Ending:
        outcomes = (
            {CAROL: DELIVERED, ERIN: DELIVERED},
            {CAROL: DELIVERED, ERIN: DELIVERED},
            {CAROL: FAILED, DAVE: DEFERRED},
            {CAROL: DEFERRED},
            {CAROL: DELIVERED, DAVE: FAILED},
            {CAROL: DELIVERED},
        )[jobs.index(job)]
        schedule = Schedule(schema.Queue(), lambda: 0.0)
        settlement = judge(job, outcomes, schedule, office.clock.seconds())
        return Ending(office.ledger, "one", job, settlement, [])

    def test_together(self) -> None:
        """They come to the same as one after the other."""
        ours, left, messages, released = self.left(together=True)
        self.assertEqual(list(ours), [True, True, True, True, False, False])
        self.assertEqual(
            sorted(left),
            [
                (str(CAROL), "4.2.0", 1, ""),
                (str(DAVE), "", 0, "two"),
                (str(DAVE), "4.2.0", 1, ""),
            ],
        )
        self.assertEqual((messages, released), (3, 1))
        alone = self.left(together=False)
        self.assertEqual(alone[0], list(ours))
        self.assertEqual(sorted(alone[1]), sorted(left))
        self.assertEqual(alone[2:], (messages, released))

    def test_brief(self) -> None:
        """With many recipients it is left to another thread."""
        office = Office()
        for count in (1, 30):
            many = [Address(f"x{number}", "elsewhere.test") for number in range(count)]
            self.now(office.send(ALICE, *many))
            (job,) = jobs = self.now(office.queue.claim(10))
            self.assertEqual(self.ending(office, job, jobs).brief, count == 1)


class RowsTests(TestCase):
    def test_of(self) -> None:
        """Any number of ids, each row once."""
        office = Office()
        ids = [self.now(office.send(ALICE, CAROL)).id for _ in range(5)]
        for some in ([], ids[:1], ids[:3], ids, ids + list(range(1, 1500))):
            query = partial(of, what="id FROM queued WHERE id", ids=some)
            found = self.now(office.ledger.read(query))
            known = [id for id in some if id in ids]
            self.assertEqual(sorted(id for (id,) in found), sorted(known))


class BeyondTests(TestCase):
    def test_pauses(self) -> None:
        """What is behind many rows of busy hops is looked for now and then: less often
        the longer it takes, at once if a hop is busy no more."""
        office = Office()
        clock, beyond = office.clock, Beyond(office.clock)
        self.assertEqual(beyond.pause_s({"a"}), 0)
        beyond.in_vain({"a"}, 0.001)
        self.assertAlmostEqual(beyond.pause_s({"a"}), 0.05)
        self.assertAlmostEqual(beyond.pause_s({"a", "b"}), 0.05)
        self.assertEqual(beyond.pause_s(set()), 0)
        self.assertEqual(beyond.pause_s({"b"}), 0)
        clock.advance(0.05)
        self.assertLessEqual(beyond.pause_s({"a"}), 1e-9)
        beyond.in_vain({"a"}, 0.2)
        self.assertAlmostEqual(beyond.pause_s({"a"}), 1.8)
        beyond.in_vain(set(), 1.0)
        self.assertAlmostEqual(beyond.pause_s({"a"}), 1.8)
        beyond.in_vain({"a"}, 60.0)
        self.assertAlmostEqual(beyond.pause_s({"a"}), 5.0)
        clock.rightNow -= 3600
        self.assertAlmostEqual(beyond.pause_s({"a"}), 5.0)
