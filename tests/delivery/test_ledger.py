"""Delivery on the real ledger: threads, group commit, several processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.delivery.fakes import (
    ALICE,
    BOB,
    CAROL,
    DEFERRED,
    DELIVERED,
    ERIN,
    FAILED,
    HOST,
    MESSAGE,
    Directory,
)
from twisted_mta.config import schema
from twisted_mta.delivery.acceptance import OwnMail
from twisted_mta.delivery.backlog import Backlog
from twisted_mta.delivery.intake import Intake
from twisted_mta.delivery.notice import Notices
from twisted_mta.delivery.queue import Queue
from twisted_mta.delivery.resend import Resends
from twisted_mta.delivery.retry import Schedule
from twisted_mta.delivery.router import Router
from twisted_mta.delivery.runner import Runner
from twisted_mta.interfaces import IContent, IDeliveryAgent, ITransaction
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.ids import new_id, to_text
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Route
from twisted_mta.store.native import NativeStore

T = TypeVar("T")

CLOCK: Any = reactor


class Process:
    """One process of the server at a ledger."""

    def __init__(self, name: str, directory: Path) -> None:
        self.ledger = Ledger(CLOCK, directory)
        self.store = NativeStore(self.ledger)
        self.router = Router(
            Directory([str(ALICE), str(BOB)]),
            {"example.test": schema.Domain()},
            (),
            ALICE,
        )
        own = OwnMail(self.ledger, self.store, self.router)
        schedule = Schedule(schema.Queue(), lambda: 0.0)
        self.queue = Queue(CLOCK, self.ledger, name, schedule, own, HOST)
        notices = Notices(CLOCK, self.ledger, own, HOST)
        self.resends = Resends(CLOCK, self.ledger, 3600)
        self.intake = Intake(
            self.ledger, self.store, self.queue, own, notices, self.resends
        )

    async def populate(self) -> None:
        """Make the accounts that the directory tells of."""

        def unit(transaction: ITransaction) -> None:
            for id, address in enumerate((ALICE, BOB), 1):
                transaction.execute(
                    "INSERT INTO account (id, address, address_key, password,"
                    " created_at, modseq) VALUES (?, ?, ?, '', 0, 0)",
                    (id, str(address), address.key),
                )
                self.store.provision(transaction, id)

        await self.ledger.write(unit)

    async def send(
        self, *recipients: Address, octets: bytes = MESSAGE, sign: bytes = b""
    ) -> str:
        """@return: the id that the client is told."""
        envelope = Envelope(new_id(), ALICE, recipients, CLOCK.seconds())
        routes: list[Route] = []
        for recipient in recipients:
            routes += (await self.router.route(recipient)).routes
        content = self.intake.content()
        try:
            content.write(octets)
            await content.finish()
            id = await self.intake.accept(
                envelope, routes, content, b"Received: x\r\n", fingerprint=sign
            )
        finally:
            content.abort()
        return to_text(id)

    async def until(self, look: Callable[[], Awaitable[T]], wanted: T) -> None:
        """Look until all is as wanted."""
        while await look() != wanted:
            await deferLater(CLOCK, 0.01)

    async def count(self, table: str) -> int:
        return await self.ledger.read(
            lambda t: int(next(t.execute(f"SELECT COUNT(*) FROM {table}"))[0])
        )


@implementer(IDeliveryAgent)
class Waiter:
    """Notes what it delivers, and says when there have been so many."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.seen: list[tuple[str, bytes]] = []
        self._until: tuple[int, Deferred[None]] | None = None

    def until(self, count: int) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._until = count, done
        self._look()
        return done

    def _look(self) -> None:
        if self._until is not None and len(self.seen) >= self._until[0]:
            _, done = self._until
            self._until = None
            done.callback(None)

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        octets = job.prefix + await content.read(0, content.size)
        self.seen.append((job.next_hop, octets))
        self._look()
        return dict.fromkeys(job.recipients, self.outcome)

    async def close(self) -> None:
        pass


def asynchronous(
    test: Callable[[Any], Coroutine[Any, Any, None]],
) -> Callable[[Any], Deferred[None]]:
    def run(case: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(test(case))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class LedgerTests(TestCase):
    def setUp(self) -> Deferred[None]:
        self.directory = Path(self.mktemp())
        return Deferred.fromCoroutine(self.open())

    async def open(self) -> None:
        self.one = await self.process("one")
        await self.one.populate()

    async def process(self, name: str) -> Process:
        process = Process(name, self.directory)
        await process.ledger.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(process.ledger.close()))
        return process

    async def runner(self, process: Process, agent: Waiter) -> Runner:
        runner = Runner(CLOCK, process.ledger, process.queue, {"smtp": agent})
        await runner.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(runner.stop()))
        return runner

    @asynchronous
    async def test_through(self) -> None:
        """A hundred messages at once, for here and elsewhere: each is in the
        mailbox once, goes out once, and leaves nothing in the queue, nor its
        content."""
        agent = Waiter(DELIVERED)
        runner = await self.runner(self.one, agent)
        await gatherResults(
            [
                Deferred.fromCoroutine(
                    self.one.send(CAROL, ERIN, octets=MESSAGE + b"%d\r\n" % number)
                )
                for number in range(50)
            ]
            + [Deferred.fromCoroutine(self.one.send(BOB)) for _ in range(50)]
        )
        await agent.until(100)
        await runner.stop()
        self.assertEqual(
            sorted(agent.seen),
            sorted(
                (hop, b"Received: x\r\n" + MESSAGE + b"%d\r\n" % number)
                for number in range(50)
                for hop in ("elsewhere.test", "third.test")
            ),
        )
        for table in ("queued", "hop", "recipient"):
            self.assertEqual(await self.one.count(table), 0)
        self.assertEqual(await self.one.count("email"), 50)
        await self.one.ledger.collect()
        self.assertEqual(await self.one.count("content"), 50)
        self.assertEqual(await self.one.ledger.problems(), [])

    @asynchronous
    async def test_resent(self) -> None:
        """Of messages that a process accepted and whose clients it never heard of
        again, each is accepted once when it comes again to another, large ones too;
        while it lives all are new. Nothing is left of those that were not accepted."""
        signs = [b"%16d" % number for number in range(40)]
        large = MESSAGE + b"0123456789\r\n" * 20_000

        async def sent(process: Process) -> list[str]:
            sending = [
                Deferred.fromCoroutine(
                    process.send(
                        BOB, CAROL, octets=MESSAGE if number else large, sign=sign
                    )
                )
                for number, sign in enumerate(signs)
            ]
            return list(await gatherResults(sending))

        two = await self.process("two")
        first = await sent(self.one)
        second = await sent(two)
        self.assertFalse(set(first) & set(second))
        await self.one.ledger.close()  # with nothing said of them
        self.assertEqual(sorted(await sent(two)), sorted(first))
        await two.ledger.collect()
        self.assertEqual(await two.count("email"), 80)
        self.assertEqual(await two.count("content"), 80)
        self.assertEqual(await two.ledger.problems(), [])
        third = await sent(two)
        self.assertFalse(set(third) & {*first, *second})

    @asynchronous
    async def test_two_processes(self) -> None:
        """Two processes at one ledger try each row once."""
        two = await self.process("two")
        first, second = Waiter(DELIVERED), Waiter(DELIVERED)
        recipients = [Address("x", f"d{number}.test") for number in range(60)]
        await self.one.send(*recipients)
        runners = [
            await self.runner(self.one, first),
            await self.runner(two, second),
        ]
        await self.one.until(lambda: self.one.count("hop"), 0)
        for runner in runners:
            await runner.stop()
        tried = [hop for hop, _ in first.seen + second.seen]
        self.assertEqual(sorted(tried), sorted(r.domain for r in recipients))

    @asynchronous
    async def test_bounce(self) -> None:
        """A large message fails: the bounce is in the sender's mailbox, and the
        large content is collected."""
        agent = Waiter(FAILED)
        runner = await self.runner(self.one, agent)
        await self.one.send(CAROL, octets=MESSAGE + b"0123456789\r\n" * 20_000)
        await agent.until(1)
        await runner.stop()
        self.assertEqual(await self.one.count("queued"), 0)
        await self.one.ledger.collect()
        (bounce,) = await self.one.ledger.read(
            lambda t: [
                bytes(octets)
                for (octets,) in t.execute(
                    "SELECT octets FROM content c JOIN email e ON e.content_id = c.id"
                )
            ]
        )
        self.assertIn(b"Diagnostic-Code: smtp; 550 5.1.1 Nobody", bounce)
        self.assertIn(b"\r\nSubject: hello\r\n", bounce)
        self.assertEqual(await self.one.count("content"), 1)

    @asynchronous
    async def test_operator(self) -> None:
        """An operator's process holds and releases while the server runs, and
        its runner hears of it."""
        agent = Waiter(DEFERRED)
        await self.runner(self.one, agent)
        operator = await self.process("operator")
        backlog = Backlog(CLOCK, operator.ledger)
        id = await self.one.send(CAROL)
        await agent.until(1)

        async def state() -> str:
            return (await backlog.waiting(id))[0].state

        await operator.until(state, "waiting")
        await backlog.hold([id])
        (waiting,) = await backlog.waiting()
        self.assertEqual((waiting.state, waiting.attempts), ("held", 1))
        agent.outcome = DELIVERED
        await backlog.release([id])
        await agent.until(2)
