"""What is next when more is due than can be taken."""

from collections.abc import Sequence
from typing import Any

from tests.delivery.fakes import ALICE, BOB, DEFERRED, OfficeCase, always
from twisted_mta.delivery import turn
from twisted_mta.delivery.flow import flow
from twisted_mta.interfaces import ITransaction, SqlValue
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Envelope, Handling
from twisted_mta.mail.job import Job

BULK = Address("news", "bulk.test")


class SelectionTests(OfficeCase):
    """C{bulk.test} has 2,000 rows, older than everybody else's."""

    def setUp(self) -> None:
        super().setUp()
        for start in range(0, 2000, 100):
            self.send(BULK, *(f"b{n}.test" for n in range(start, start + 100)))
        self.clock.advance(60)

    def send(self, sender: Address, *domains: str) -> None:
        to = [Address("x", domain) for domain in domains]
        self.now(self.office.send(sender, *to))

    def claim(self, *arguments: object, **named: object) -> list[Job]:
        jobs = list(self.now(self.queue.claim(*arguments, **named)))  # type: ignore[arg-type]
        self.clock.advance(0.06)
        return jobs

    def test_crowd(self) -> None:
        """Once it is seen that very much is due, half is of the oldest, half of each
        sender in turn."""
        for number in range(10):
            self.send(Address("x", f"s{number}.test"), f"t{number}.test")
        first = self.claim(40)
        self.assertEqual({job.envelope.sender for job in first}, {BULK})
        second = self.claim(40)
        others = [job for job in second if job.envelope.sender != BULK]
        self.assertEqual(len(others), 10)
        self.assertEqual(len(second), 40)
        ids = {job.id for job in [*first, *second]}
        self.assertEqual(len(ids), 80)

    def test_newcomer(self) -> None:
        """Who comes while there is a crowd waits for a second at most."""
        for _ in range(3):
            self.claim(10)
        self.send(ALICE, "late.test")
        self.clock.advance(1)
        hops = [job.next_hop for job in self.claim(10)]
        self.assertIn("late.test", hops)

    def test_passed_over(self) -> None:
        """Hops and senders that have enough are passed over, in a crowd and without."""
        self.send(ALICE, "b1.test", "a.test")
        self.send(BOB, "b.test")
        for _ in range(3):
            room = {("smtp", "b1.test"): 0}
            jobs = self.claim(40, room, None, [_flow(BULK)])
            for job in jobs:
                self.assertNotEqual(job.envelope.sender, BULK)
                self.assertNotEqual(job.next_hop, "b1.test")
                self.now(self.queue.settle(job, always(DEFERRED)(job)))
            self.claim(40)

    def test_before_flows(self) -> None:
        """Rows of before there were flows are passed over as any others: whose sender
        has enough are not taken."""
        self.send(ALICE, "a.test")
        self.now(self.ledger.write(lambda t: t.execute("UPDATE hop SET flow = ''")))
        taken = []
        for _ in range(60):
            taken += self.claim(40, {}, None, [_flow(BULK)])
        self.assertEqual([job.next_hop for job in taken], ["a.test"])
        self.assertEqual(
            self.ledger.rows("SELECT COUNT(*) FROM hop WHERE lease <> ''"), [(1,)]
        )
        self.assertEqual(len(self.claim(40)), 40)

    def test_all_of_it(self) -> None:
        """All rows are taken, each once, and then it is no crowd any more."""
        seen: list[int] = []
        for _ in range(200):
            seen += [job.id for job in self.claim(40)]
        self.assertEqual(len(seen), 2000)
        self.assertEqual(len(set(seen)), 2000)
        self.assertFalse(self.queue._selection.crowded)
        self.send(ALICE, "a.test")
        self.assertEqual([job.next_hop for job in self.claim(40)], ["a.test"])

    def test_two_processes(self) -> None:
        """Two that look at the same crowd take each row once."""
        other = self.office.another("two")
        seen: list[int] = []
        for _ in range(60):
            seen += [job.id for job in self.claim(40)]
            seen += [job.id for job in self.now(other.claim(40))]
        self.assertEqual(len(seen), 2000)
        self.assertEqual(len(set(seen)), 2000)

    def test_longest_ago(self) -> None:
        """Among many senders whose turn was longest ago is first, so that who comes
        new waits for none of them."""
        for number in range(400):
            sender = Address("x", f"s{number}.test")
            self.send(sender, f"t{number}.test", f"u{number}.test", f"v{number}.test")
        for _ in range(45):
            self.claim(20)
        self.assertTrue(self.queue._selection.crowded)
        self.send(Address("x", "new.test"), "late.test")
        self.clock.advance(1)
        hops = [job.next_hop for job in self.claim(20)]
        self.assertIn("late.test", hops)

    def test_few_statements(self) -> None:
        """A look is a few statements, however many senders there are: each makes a set
        of all hops that are passed over, which may be thousands."""
        for number in range(50):
            self.send(Address("x", f"s{number}.test"), f"t{number}.test")
        said: list[str] = []

        class Counted:
            def __init__(self, transaction: ITransaction) -> None:
                self.transaction = transaction

            def execute(self, sql: str, values: Sequence[SqlValue]) -> Any:
                said.append(sql)
                return self.transaction.execute(sql, values)

        busy = [("smtp", f"b{number}.test") for number in range(99)]
        _, _, found = self.now(
            self.ledger.read(
                lambda t: turn._look(  # type: ignore[arg-type]
                    *(self.clock.seconds(), busy, [], "", {}, 1000),
                    Counted(t),
                )
            )
        )
        self.assertGreater(len({one.flow for one in found}), 40)
        self.assertFalse({one.hop for one in found} & set(busy))
        self.assertLess(len(said), 6)

    def test_priority(self) -> None:
        """In a crowd a higher priority is older by minutes, as ever."""
        self.claim(40)
        handling = Handling(priority=9)
        to = Address("x", "urgent.test")
        self.now(self.office.send(BULK, to, handling=handling))
        self.clock.advance(1)
        hops = [job.next_hop for job in self.claim(4)]
        self.assertIn("urgent.test", hops)


def _flow(sender: Address) -> str:
    return flow(Envelope(1, sender, (), 0.0))
