"""A queue of very many messages: what it takes to look at it, to work on it, and to
start with it. Nothing here measures time; what is looked at is which way SQLite goes,
and how much memory it takes."""

import random
import re
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.task import Clock

from tests.delivery.fakes import HOST, Directory
from tests.ledger.case import LedgerCase
from twisted_mta.config import schema
from twisted_mta.delivery.acceptance import OwnMail
from twisted_mta.delivery.oversight import Oversight
from twisted_mta.delivery.queue import Queue
from twisted_mta.delivery.retry import Schedule
from twisted_mta.delivery.router import Router
from twisted_mta.interfaces import ITransaction
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.mail.address import split
from twisted_mta.mail.count import Tally
from twisted_mta.mail.filter import Filter
from twisted_mta.store.native import NativeStore

MANY = 200_000
DUE = 100

# Message i of site i mod 1000; one in 2,000 is due, the others tomorrow.
_FIRST = 1 << 50
_NUMBERS = (
    "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n"
    f" WHERE i < {MANY - 1})"
)
_ENVELOPE = (
    '{"id":1,"sender":null,"recipients":[],"received_at":0,"origin":{},"body":"7BIT",'
    '"smtputf8":false}'
)
_FILL = (
    f"{_NUMBERS} INSERT INTO queued (id, content_id, size, eight_bit, prefix, sender,"
    f" envelope, queued_at) SELECT {_FIRST} + i * 8192, 1, 100, 0, x'',"
    f" 's' || (i % 5000) || '@a.test', '{_ENVELOPE}', 1000000 + i FROM n",
    f"{_NUMBERS} INSERT INTO hop (id, queued_id, agent, next_hop, held, due, lease,"
    f" attempts, warned) SELECT {_FIRST} + i, {_FIRST} + i * 8192, 'smtp',"
    " 'd' || (i % 1000) || '.test', 0,"
    " CASE WHEN i % 2000 = 7 THEN 0 ELSE 5000000 END, '', 1, 0 FROM n",
    f"{_NUMBERS} INSERT INTO recipient (hop_id, address, status, diagnostic, remote,"
    f" replied) SELECT {_FIRST} + i, 'x' || i || '@d' || (i % 1000) || '.test',"
    " '4.2.0', '450 Later', 'mx', 1 FROM n",
)


# What is read through by an index, was in the statement itself, or is always short.
_AS_IT_IS = re.compile("USING|VALUES CLAUSE|SCAN frozen")


class Recording:
    """A transaction that keeps the statements.

    @ivar plans: what SQLite says of them.
    """

    def __init__(self, transaction: ITransaction, plans: list[str]) -> None:
        self._transaction = transaction
        self._plans = plans

    def execute(self, sql: str, values: Any = ()) -> Iterator[tuple[Any, ...]]:
        if sql.startswith("SELECT"):
            plan = self._transaction.execute(f"EXPLAIN QUERY PLAN {sql}", values)
            self._plans += [row[3] for row in plan]
        return self._transaction.execute(sql, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)


class ScaleTests(LedgerCase):
    async def setUp(self) -> None:
        await super().setUp()

        def fill(transaction: ITransaction) -> None:
            for sql in _FILL:
                transaction.execute(sql)

        await self.ledger.write(fill)
        self.plans: list[str] = []
        clock = Clock()
        clock.advance(2_000_000)
        recorded = self.recorded(self.ledger)
        store = NativeStore(self.ledger)
        router = Router(Directory([]), {}, (), split("postmaster@a.test"))
        own = OwnMail(self.ledger, store, router)
        schedule = Schedule(schema.Queue(), random.random)
        self.queue = Queue(clock, recorded, "us", schedule, own, HOST)
        self.oversight = Oversight(clock, recorded, self.queue, router)

    def recorded(self, ledger: Ledger) -> Any:
        """The ledger, with the plans of all its statements kept."""
        plans = self.plans

        class Recorded:
            def __getattr__(self, name: str) -> Any:
                return getattr(ledger, name)

            def read(self, query: Callable[[Any], Any]) -> Any:
                return ledger.read(lambda t: query(Recording(t, plans)))

            def lookup(self, query: Callable[[Any], Any]) -> Any:
                return ledger.lookup(lambda t: query(Recording(t, plans)))

            def write(self, unit: Callable[[Any], Any], brief: bool = False) -> Any:
                return ledger.write(lambda t: unit(Recording(t, plans)), brief)

        return Recorded()

    def by_index(self) -> None:
        """Nothing was sorted, and no table was read through since the last time."""
        wrong = [
            step
            for step in self.plans
            if "FOR ORDER BY" in step
            or (step.startswith("SCAN") and not _AS_IT_IS.search(step))
        ]
        self.assertEqual(wrong, [])
        self.assertNotEqual(self.plans, [])
        self.plans.clear()

    async def test_many(self) -> None:
        """Listing, counting, claiming and changing go by an index, step by step, and
        take no memory that grows with the queue."""
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for filter in (Filter(), Filter(site="d7.test"), Filter(sender="s7@*")):
            page = await self.oversight.waiting(filter, 10)
            self.assertEqual(len(page.rows), 10)
            page = await self.oversight.waiting(filter, 10, page.more)
            self.assertEqual(len(page.rows), 10)
            self.by_index()
        count = await self.oversight.count(Filter())
        self.assertEqual((count.messages, count.recipients), (MANY, MANY))
        self.by_index()
        count = await self.oversight.count(Filter(), "site")
        self.assertEqual((len(count.groups), count.more), (1000, 0))
        self.assertEqual(count.groups[0].messages, MANY // 1000)
        self.plans.clear()  # the groups of a stretch are sorted

        self.assertEqual(await self.queue.next_due(), 0.0)
        found = 0
        while jobs := await self.queue.claim(100):
            found += len(jobs)
        self.assertEqual(found, DUE)
        self.by_index()
        busy = {("smtp", f"d{number}.test"): 0 for number in range(999)}
        self.assertEqual(await self.queue.claim(100, busy), [])
        self.by_index()

        site = Filter(site="d8.test")
        held = await self.oversight.hold(site)
        self.assertEqual(held, Tally(MANY // 1000, MANY // 1000))
        self.assertEqual((await self.oversight.release(site)).messages, MANY // 1000)
        self.assertEqual(await self.oversight.freeze("d9.test"), MANY // 1000)
        self.assertEqual(await self.oversight.thaw("d9.test"), MANY // 1000)
        removed = await self.oversight.remove(Filter(sender="s7@a.test"))
        self.assertEqual(removed.messages, MANY // 5000)
        self.by_index()
        _, peak = tracemalloc.get_traced_memory()
        self.assertLess(peak, 16 << 20)

    async def test_start(self) -> None:
        """A process that opens it has none of it in memory, and what a dead one had is
        found."""
        await self.queue.claim(10)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        await self.another()
        await self.ledger.write(lambda t: self.queue.inherit(t, "us"))
        self.assertEqual(len(await self.queue.claim(10)), 10)
        _, peak = tracemalloc.get_traced_memory()
        self.assertLess(peak, 16 << 20)
