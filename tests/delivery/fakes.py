"""What delivery stands on, as small as it can be: a ledger in memory that
answers at once, a store that remembers, a directory, agents by script."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeVar

import apsw
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_mta.config import schema
from twisted_mta.delivery.acceptance import OwnMail
from twisted_mta.delivery.forward import Forwarding
from twisted_mta.delivery.intake import Intake
from twisted_mta.delivery.notice import Notices
from twisted_mta.delivery.oversight import Oversight
from twisted_mta.delivery.queue import Queue
from twisted_mta.delivery.resend import Resends
from twisted_mta.delivery.retry import Schedule
from twisted_mta.delivery.router import Router
from twisted_mta.delivery.srs import Returns
from twisted_mta.delivery.standing import Standing
from twisted_mta.delivery.suppression import Suppression
from twisted_mta.errors import LedgerUnavailable, NoSuchMessage
from twisted_mta.interfaces import (
    Cancel,
    IContent,
    IContentWriter,
    IDeliveryAgent,
    IDirectory,
    ILedger,
    ITransaction,
    ITransactionalDelivery,
    SqlValue,
)
from twisted_mta.ledger.migrate import steps
from twisted_mta.ledger.sqlite import dialect
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.confirmation import Confirmation
from twisted_mta.mail.dsn import USUAL, Notification
from twisted_mta.mail.envelope import USUAL as UNHANDLED
from twisted_mta.mail.envelope import Envelope, Handling
from twisted_mta.mail.ids import new_id
from twisted_mta.mail.job import Job
from twisted_mta.mail.mime import Structure, scan
from twisted_mta.mail.notification import informed
from twisted_mta.mail.route import Outcome, Result, Route
from twisted_mta.mail.submitted import Submitted
from twisted_mta.mail.summary import Email

T = TypeVar("T")

HOST = "mx.example.test"
ALICE = split("alice@example.test")
BOB = split("bob@example.test")
CAROL = split("carol@elsewhere.test")
DAVE = split("dave@elsewhere.test")
ERIN = split("erin@third.test")

MESSAGE = (
    b"From: <alice@example.test>\r\nTo: <carol@elsewhere.test>\r\n"
    b"Subject: hello\r\nMessage-ID: <one@example.test>\r\n\r\nHello, Carol.\r\n"
)

DELIVERED = Outcome(
    Result.DELIVERED, "2.0.0", "250 2.0.0 OK", "mx.elsewhere.test[192.0.2.1]:25", True
)
DEFERRED = Outcome(
    Result.DEFERRED, "4.2.0", "450 4.2.0 Later", "mx.elsewhere.test[192.0.2.1]:25", True
)
FAILED = Outcome(
    Result.FAILED, "5.1.1", "550 5.1.1 Nobody", "mx.elsewhere.test[192.0.2.1]:25", True
)


@implementer(ITransaction)
class Transaction:
    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.topics: list[str] = []

    def execute(
        self, sql: str, values: Sequence[SqlValue] = ()
    ) -> Iterator[tuple[Any, ...]]:
        return iter(self._connection.execute(sql, tuple(values)))

    def executemany(self, sql: str, rows: Sequence[Sequence[SqlValue]]) -> None:
        self._connection.executemany(sql, [tuple(row) for row in rows])

    def changed(self, topic: str) -> None:
        self.topics.append(topic)


@implementer(IContent)
class Content:
    def __init__(self, ledger: Ledger, id: int, size: int) -> None:
        self._ledger = ledger
        self._id = id
        self.size = size

    async def read(self, offset: int, most: int) -> bytes:
        for (octets,) in self._ledger.rows(
            "SELECT octets FROM content WHERE id = ?", self._id
        ):
            return bytes(octets[offset : offset + most])
        raise NoSuchMessage()


@implementer(IContentWriter)
class Writer:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._octets = bytearray()
        self._finished = False

    @property
    def size(self) -> int:
        return len(self._octets)

    @property
    def eight_bit(self) -> bool:
        return not self._octets.isascii()

    def write(self, octets: bytes) -> None:
        self._octets += octets

    async def finish(self) -> None:
        self._finished = True
        self._ledger.open_writers += 1

    async def read(self, offset: int, most: int) -> bytes:
        return bytes(self._octets[offset : offset + most])

    def header(self) -> bytes:
        head, end, _ = bytes(self._octets).partition(b"\r\n\r\n")
        return head + end

    def structure(self) -> Structure:
        return scan(bytes(self._octets))

    def digest(self) -> bytes:
        return sha256(self._octets).digest()

    def take(self, transaction: ITransaction) -> int:
        assert self._finished
        id = new_id()
        transaction.execute(
            "INSERT INTO content (id, size, octets) VALUES (?, ?, ?)",
            (id, self.size, bytes(self._octets)),
        )
        return id

    def take_all(
        self, transaction: ITransaction, contents: Sequence[IContentWriter]
    ) -> Sequence[int]:
        return [content.take(transaction) for content in contents]

    def abort(self) -> None:
        if self._finished:
            self._finished = False
            self._ledger.open_writers -= 1


@implementer(ILedger)
class Ledger:
    """Answers at once. C{broken} exceptions are raised by the next writes;
    C{dead} are the names of processes that died."""

    name = "this"

    def __init__(self) -> None:
        self._connection = apsw.Connection(":memory:")
        for _, step in sorted(steps().items()):
            self._connection.execute(dialect(step))
        self._watches: list[tuple[str, Callable[[], None]]] = []
        self.broken: list[Exception] = []
        self.dead: list[str] = []
        self.down = False
        self.writes = 0
        self.open_writers = 0

    def rows(self, sql: str, *values: SqlValue) -> list[tuple[Any, ...]]:
        return list(self._connection.execute(sql, values))

    def count(self, table: str) -> int:
        return int(self.rows(f"SELECT COUNT(*) FROM {table}")[0][0])

    async def write(self, unit: Callable[[ITransaction], T], brief: bool = False) -> T:
        if self.down:
            raise LedgerUnavailable()
        if self.broken:
            raise self.broken.pop(0)
        self.writes += 1
        # Another unit of the group failed: each unit must stand to run twice.
        try:
            with self._connection:
                unit(Transaction(self._connection))
                raise _Again
        except _Again:
            pass
        transaction = Transaction(self._connection)
        with self._connection:
            result = unit(transaction)
        for topic in dict.fromkeys(transaction.topics):
            for watched, callback in list(self._watches):
                if watched == topic:
                    callback()
        return result

    async def read(self, query: Callable[[ITransaction], T]) -> T:
        if self.down:
            raise LedgerUnavailable()
        return query(Transaction(self._connection))

    async def lookup(self, query: Callable[[ITransaction], T]) -> T:
        if self.down:
            raise LedgerUnavailable()
        return query(Transaction(self._connection))

    def need(self, octets: int, sparing: bool = False) -> None:
        pass

    def content(self) -> IContentWriter:
        return Writer(self)

    def stored(self, content: int, size: int) -> IContent:
        return Content(self, content, size)

    def release(self, transaction: ITransaction, content: int) -> None:
        transaction.execute("INSERT INTO released (content_id) VALUES (?)", (content,))

    def watch(self, topic: str, callback: Callable[[], None]) -> Cancel:
        entry = topic, callback
        self._watches.append(entry)

        def unwatch() -> None:
            if entry in self._watches:
                self._watches.remove(entry)

        return unwatch

    async def inherit(self, unit: Callable[[ITransaction, str], None]) -> Sequence[str]:
        names = []
        for name in tuple(self.dead):

            def inherit(transaction: ITransaction, name: str = name) -> None:
                unit(transaction, name)

            await self.write(inherit)
            self.dead.remove(name)
            names.append(name)
        return names

    def lives(self, name: str) -> bool:
        return name not in self.dead


class _Again(Exception):
    pass


@implementer(ITransactionalDelivery)
class Store:
    """Remembers what was delivered, in a table, so that a rollback is one."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._emails: dict[tuple[int, int], Email] = {}
        self.places: list[tuple[int, str, bool]] = []

    def deliver(
        self, transaction: ITransaction, deliveries: Sequence[tuple[int, Email]]
    ) -> None:
        for account, email in deliveries:
            self._deliver(transaction, account, email)
            self.places.append((account, email.special_use, email.seen))

    def _deliver(self, transaction: ITransaction, account: int, email: Email) -> None:
        transaction.execute(
            "INSERT INTO email (account_id, id, thread_id, content_id, prefix, size,"
            " received_at, envelope, bodystructure, body, sections)"
            " VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                account,
                new_id(),
                email.content,
                email.prefix,
                email.size,
                email.received_at,
                email.summary.envelope,
                email.summary.bodystructure,
                email.summary.body,
                email.summary.sections,
            ),
        )

    def inbox(self, account: int) -> list[bytes]:
        """The messages of an account, oldest first."""
        rows = self._ledger.rows(
            "SELECT e.prefix, c.octets FROM email e JOIN content c"
            " ON c.id = e.content_id WHERE e.account_id = ? ORDER BY e.id",
            account,
        )
        return [bytes(prefix + octets) for prefix, octets in rows]


@implementer(IDirectory)
class Directory:
    def __init__(
        self, accounts: Sequence[str], aliases: Mapping[str, Sequence[str]] = {}
    ) -> None:
        self._accounts = {
            split(text).key: Account(id, split(text))
            for id, text in enumerate(accounts, 1)
        }
        self._aliases = {
            split(text).key: tuple(map(split, targets))
            for text, targets in aliases.items()
        }

    async def account(self, address: Address) -> Account | None:
        return self._accounts.get(address.key)

    async def aliases(self, address: Address) -> Sequence[Address]:
        return self._aliases.get(address.key, ())

    async def submitted(
        self, account: Account, now: float, messages: int = 0, recipients: int = 0
    ) -> Submitted:
        return Submitted()

    async def may_send_as(self, account: Account, address: Address) -> bool:
        return account.address == address


@dataclass(frozen=True)
class Seen:
    """One attempt that an agent was asked for."""

    at: float
    next_hop: str
    recipients: tuple[Address, ...]
    octets: bytes


Script = Callable[[Job], Mapping[Address, Outcome]]


@implementer(IDeliveryAgent)
class Agent:
    """Answers by script; with C{hanging} when told to."""

    def __init__(self, clock: Clock, script: Script) -> None:
        self._clock = clock
        self.script = script
        self.seen: list[Seen] = []
        self.hanging = False
        self.hung: list[tuple[Job, Deferred[None]]] = []
        self.closed = 0

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        octets = job.prefix + await content.read(0, content.size)
        assert len(octets) == job.size
        self.seen.append(
            Seen(self._clock.seconds(), job.next_hop, job.recipients, octets)
        )
        if self.hanging:
            waiting: Deferred[None] = Deferred()
            self.hung.append((job, waiting))
            await waiting
        return self.script(job)

    def let_go(self) -> None:
        """End what hangs."""
        hung, self.hung = self.hung, []
        for _, waiting in hung:
            waiting.callback(None)

    async def close(self) -> None:
        self.closed += 1


def always(outcome: Outcome) -> Script:
    """The same outcome for each recipient."""
    return lambda job: dict.fromkeys(job.recipients, outcome)


@dataclass
class Office:
    """All of delivery but agents, on one ledger in memory."""

    directory: Directory = field(
        default_factory=lambda: Directory([str(ALICE), str(BOB)])
    )
    clock: Clock = field(default_factory=Clock)
    ledger: Ledger = field(default_factory=Ledger)
    routes: Sequence[schema.Route] = ()
    suppressing: schema.Suppression = field(default_factory=schema.Suppression)
    relayed: Mapping[str, schema.RelayDomain] = field(default_factory=dict)
    domain: schema.Domain = field(default_factory=schema.Domain)

    def __post_init__(self) -> None:
        self.clock.advance(1_700_000_000)
        self.store = Store(self.ledger)
        self.returns = Returns(self.clock, self.ledger)
        self.suppression = Suppression(self.clock, self.ledger, self.suppressing)
        self.router = Router(
            self.directory,
            {"example.test": self.domain},
            self.routes,
            ALICE,
            self.returns,
            self.relayed,
            [split(address) for address in self.suppressing.complaints],
        )
        self.own = OwnMail(self.ledger, self.store, self.router)
        self.standing = Standing(self.clock, self.ledger)
        self.queue = self.another("one")
        self.oversight = Oversight(self.clock, self.ledger, self.queue, self.router)
        notices = Notices(self.clock, self.ledger, self.own, HOST)
        self.resends = Resends(self.clock, self.ledger, 3600)
        forwarding = Forwarding(self.returns, None, self.router.ours)
        self.intake = Intake(
            *(self.ledger, self.store, self.queue, self.own, notices, self.resends),
            forwarding,
        )

    def another(self, owner: str) -> Queue:
        """The queue as another process sees it."""
        schedule = Schedule(schema.Queue(), lambda: 0.0)
        return Queue(
            *(self.clock, self.ledger, owner, schedule, self.own, HOST),
            self.suppression,
            standing=self.standing,
        )

    def envelope(self, sender: Address | None, *recipients: Address) -> Envelope:
        return Envelope(new_id(), sender, recipients, self.clock.seconds())

    async def send(
        self,
        sender: Address | None,
        *recipients: Address,
        octets: bytes = MESSAGE,
        prefix: bytes = b"Received: here\r\n",
        asked: Notification = USUAL,
        handling: Handling = UNHANDLED,
    ) -> Envelope:
        """Accept a message as a session does.

        @param asked: what the sender asks to be told of each recipient.
        """
        made = self.envelope(sender, *recipients)._replace(handling=handling)
        return await self.accept(made, octets, prefix, asked)

    async def accept(
        self,
        made: Envelope,
        octets: bytes = MESSAGE,
        prefix: bytes = b"Received: here\r\n",
        asked: Notification = USUAL,
    ) -> Envelope:
        """The same for an envelope."""
        routes: list[Route] = []
        confirmed: list[Confirmation] = []
        for recipient in made.recipients:
            resolved = await self.router.route(recipient, made.mailing)
            informing, told = informed(recipient, resolved.routes, asked)
            routes += informing
            confirmed += told
        content = self.intake.content()
        try:
            content.write(octets)
            await content.finish()
            await self.intake.accept(made, routes, content, prefix, confirmed)
        finally:
            content.abort()
        return made


class TestCase(SynchronousTestCase):
    """With coroutines that never wait."""

    def now(self, coroutine: Awaitable[T]) -> T:
        """The result of a coroutine, at once."""
        assert isinstance(coroutine, Coroutine)
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def fails(self, error: type[Exception], coroutine: Awaitable[object]) -> Any:
        """The error that a coroutine raises, at once."""
        assert isinstance(coroutine, Coroutine)
        return self.failureResultOf(Deferred.fromCoroutine(coroutine), error).value


class OfficeCase(TestCase):
    """With all of delivery.

    @ivar start: when the test began.
    """

    def setUp(self) -> None:
        self.office = Office()
        self.clock, self.ledger = self.office.clock, self.office.ledger
        self.store, self.queue = self.office.store, self.office.queue
        self.start = self.clock.seconds()
