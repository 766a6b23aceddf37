"""The relay queue: rows of the ledger that wait for a delivery agent.

A message for elsewhere is one row of C{queued}, one of C{hop} for each agent and
next hop, and one of C{recipient} for each recipient of a hop. Several processes
work on them at once: whoever claims a hop has its lease, which is a name and a
time. A process that dies leaves leases that end by themselves, and sooner by
L{Queue.inherit}. When a lease was lost to another process meanwhile, a settlement still
records what was delivered, so that it is not delivered again, and leaves the
rest to the other.

A bounce enters the ledger in the very transaction in which its recipient leaves
the queue: there is no moment at which a message is in neither.

BUGS: the next hop is chosen when the message is accepted; a changed route is
for new messages only, until an operator requeues the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.delivery.acceptance import Acceptance, OwnMail
from twisted_mta.delivery.backlog import Backlog
from twisted_mta.delivery.ending import Ending
from twisted_mta.delivery.history import History, attempted, notified
from twisted_mta.delivery.lease import TAKEN, lose, take
from twisted_mta.delivery.notice import Notices
from twisted_mta.delivery.record import (
    read_address,
    read_envelope,
    read_notification,
    write_envelope,
    write_notification,
)
from twisted_mta.delivery.retry import Schedule
from twisted_mta.delivery.rows import TOPIC, of
from twisted_mta.delivery.settlement import Settlement, judge
from twisted_mta.delivery.standing import Standing
from twisted_mta.errors import MailError, Permanent, Temporary
from twisted_mta.interfaces import ILedger, IQueue, ITransaction
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.history import Event, Kind
from twisted_mta.mail.ids import new_id, to_text
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, ToAgent

#: How long a lease lasts, in seconds, if nobody notices that its process died
#: (which is a matter of seconds). Whoever works longer renews it.
LEASE_S = 120.0

# Rows of one claim, which is made in the reactor's thread: 20 us each; and recipients
# after which no further row is taken: 1 us each.
_CLAIMED = 40
_RECIPIENTS = 400

Hop = tuple[str, str]

_NONE: Mapping[Hop, int] = {}


@implementer(IQueue)
class Queue(Backlog):
    """The queue as one process sees it.

    @param owner: a name for this run of this process that no other has.
    @param own: makes bounces ready for the transaction.
    @param hostname: this server's name, in bounces.
    @param standing: what an operator has ordered; C{None}: nothing.
    @ivar history: of all that it takes and gives.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        ledger: ILedger,
        owner: str,
        schedule: Schedule,
        own: OwnMail,
        hostname: str,
        history: History | None = None,
        standing: Standing | None = None,
    ) -> None:
        super().__init__(clock, ledger, history)
        self._standing = standing or Standing(clock, ledger)
        self._owner = owner
        self._schedule = schedule
        self._notices = Notices(clock, ledger, own, hostname)

    # --- in ---

    def enqueue(
        self,
        transaction: ITransaction,
        envelope: Envelope,
        content: int,
        size: int,
        eight_bit: bool,
        prefix: bytes,
        routes: Sequence[ToAgent],
    ) -> None:
        """See L{IQueue.enqueue}."""
        # Who is due earlier is tried earlier, however many wait: a level of priority is
        # a minute. Levels below 0 are as 0 (RFC 6710 5): nothing waits for nothing.
        due = self._clock.seconds() - 60 * max(envelope.handling.priority, 0)
        due = max(due, envelope.handling.release_at)
        sender = None if envelope.sender is None else str(envelope.sender)
        transaction.execute(
            "INSERT INTO queued (id, content_id, size, eight_bit, prefix, sender,"
            " envelope, queued_at, login) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                envelope.id,
                content,
                size,
                int(eight_bit),
                prefix,
                sender,
                write_envelope(envelope),
                envelope.received_at,
                envelope.origin.login,
            ),
        )
        hops: dict[tuple[str, str, int], int] = {}
        reasons: set[str] = set()
        recipients: dict[tuple[int, str], str] = {}
        ordered = self._standing.held(envelope, routes)
        for route, (held, reason) in zip(routes, ordered, strict=True):
            if reason:
                reasons.add(reason)
            hop = route.agent, route.next_hop, held
            if hop not in hops:
                hops[hop] = new_id()
            asked = write_notification(route.notification)
            recipients[hops[hop], str(route.recipient)] = asked
        transaction.executemany(
            "INSERT INTO hop (id, queued_id, agent, next_hop, held, due, lease,"
            " attempts, warned) VALUES (?, ?, ?, ?, ?, ?, '', 0, 0)",
            [
                (id, envelope.id, agent, next_hop, held, due)
                for (agent, next_hop, held), id in hops.items()
            ],
        )
        transaction.executemany(
            "INSERT INTO recipient (hop_id, address, status, diagnostic, remote,"
            " replied, notification) VALUES (?, ?, '', '', '', 0, ?)",
            [(*key, asked) for key, asked in recipients.items()],
        )
        if reasons:
            at = envelope.received_at
            event = Event(envelope.id, new_id(), at, Kind.HELD, text="; ".join(reasons))
            self.history.happened(transaction, [event])
        transaction.changed(TOPIC)

    # --- to the agents ---

    async def claim(
        self, most: int, room: Mapping[Hop, int] = _NONE, per_hop: int | None = None
    ) -> Sequence[Job]:
        """See L{IQueue.claim}."""
        now = self._clock.seconds()
        busy = [hop for hop in room if not room[hop]]
        if busy:
            # They may have many rows, which are passed over without the lock.
            found = await self._ledger.read(partial(_due, now, busy, most))
            if not found:
                return []
            rows_of = partial(_these, now, found)
        else:
            rows_of = partial(_first, now, min(most, _CLAIMED))

        def unit(transaction: ITransaction) -> list[tuple[Any, ...]]:
            rows = self._standing.thawed(transaction, rows_of(transaction))
            taken = _within(rows, room, most if per_hop is None else per_hop)
            claimed = _with_recipients(transaction, taken)
            take(transaction, self.history, self._owner, now, now + LEASE_S, claimed)
            return claimed

        rows = await self._ledger.write(unit, brief=True)
        # A message for a thousand domains is a thousand rows, but one envelope.
        envelopes = {text: read_envelope(text) for text in {row[1] for row in rows}}
        return [_job(row, envelopes[row[1]]) for row in rows]

    async def seize(self, rows: Sequence[int]) -> Sequence[Job]:
        """See L{IQueue.seize}."""
        now = self._clock.seconds()

        def unit(transaction: ITransaction) -> list[tuple[Any, ...]]:
            free = " AND (h.lease = '' OR h.due <= ?) ORDER BY h.id"
            found = of(transaction, f"{_CLAIM} h.id", rows, free, now)
            seized = _with_recipients(transaction, found)
            take(transaction, self.history, self._owner, now, now + LEASE_S, seized)
            return seized

        seized = await self._ledger.write(unit)
        return [_job(row, read_envelope(row[1])) for row in seized]

    async def renew(self, jobs: Collection[Job]) -> None:
        """See L{IQueue.renew}."""
        until = self._clock.seconds() + LEASE_S
        rows = [(self._owner, until, job.id, self._owner) for job in jobs]
        if rows:
            await self._ledger.write(lambda transaction: _lease(transaction, rows))

    async def give_back(
        self, jobs: Collection[Job], begun: Collection[Job] = ()
    ) -> None:
        """See L{IQueue.give_back}. Among those that are due, the oldest
        messages come first again."""
        rows = [("", job.envelope.received_at, job.id, self._owner) for job in jobs]
        ids, now = [job.id for job in begun], self._clock.seconds()

        def unit(transaction: ITransaction) -> None:
            lose(transaction, self.history, self._owner, now, ids)
            _lease(transaction, rows)
            transaction.changed(TOPIC)

        if rows:
            await self._ledger.write(unit)

    def inherit(self, transaction: ITransaction, owner: str) -> None:
        """A unit of work, once its owner is bound: end the leases of a process
        that died, as it would have given them back. What it had begun may have come
        to its end at the next server."""
        leased = transaction.execute("SELECT id FROM hop WHERE lease = ?", (owner,))
        ids = [id for (id,) in leased]
        lose(transaction, self.history, owner, self._clock.seconds(), ids)
        transaction.executemany(
            "UPDATE hop SET lease = '', due ="
            " (SELECT queued_at FROM queued WHERE id = hop.queued_id) WHERE id = ?",
            [(id,) for id in ids],
        )
        transaction.changed(TOPIC)

    async def next_due(self, busy: Collection[Hop] = ()) -> float | None:
        """See L{IQueue.next_due}."""
        passed_over, values = _other_than(busy)

        def query(transaction: ITransaction) -> float | None:
            rows = transaction.execute(
                f"SELECT h.due FROM hop h WHERE h.held = 0{passed_over}"
                " ORDER BY h.due LIMIT 1",
                values,
            )
            return next((float(due) for (due,) in rows), None)

        if busy:  # it may have to pass over many rows
            return await self._ledger.read(query)
        return await self._ledger.lookup(query)

    # --- and out ---

    async def settle(
        self, job: Job, outcomes: Mapping[Address, Outcome], who: str = ""
    ) -> None:
        """See L{IQueue.settle}."""
        settlement = judge(job, outcomes, self._schedule, self._clock.seconds())
        notices: list[Acceptance] = []
        try:
            try:
                await self._notices.prepare(self, job, settlement, notices)
            except Temporary as error:
                # The sender cannot be told now, so nobody leaves undelivered.
                self._log_untold(job, error)
                settlement, told = settlement.postponed(), []
            else:
                told = notices
            try:
                ours = await self._commit(job, settlement, told, who)
            except Permanent as error:
                if not told:
                    raise
                # The sender's mailbox does not take it (any more), and would
                # not later: the rest must be recorded all the same.
                self._log_untold(job, error)
                told = []
                ours = await self._commit(job, settlement, told, who)
        finally:
            for notice in notices:
                notice.close()
        if ours:
            self._log_told(job, told)
        else:
            self._log.warn(
                "{id}: the row was taken or removed while it was tried",
                id=to_text(job.envelope.id),
            )

    async def _commit(
        self, job: Job, settlement: Settlement, notices: Sequence[Acceptance], who: str
    ) -> bool:
        """Record a settlement and accept its notices, as one.

        @return: whether the lease was still ours; if not, there were no notices.
        """
        now = self._clock.seconds()
        events = attempted(job, settlement, now, who)
        events += [notified(job.envelope.id, notice.id, now) for notice in notices]
        ending = Ending(
            self._ledger, self._owner, job, settlement, notices, self.history, events
        )
        return await self._ledger.write(ending, brief=ending.brief)

    def _log_untold(self, job: Job, error: MailError) -> None:
        self._log.warn(
            "{id}: the sender cannot be told: {why}",
            id=to_text(job.envelope.id),
            why=error.text,
        )

    def _log_told(self, job: Job, notices: Sequence[Acceptance]) -> None:
        for notice in notices:
            self._log.info(
                "{id}: sender notified, notification={notice}",
                id=to_text(job.envelope.id),
                notice=notice.id,
            )
            notice.log(self._log)


def _other_than(busy: Collection[Hop]) -> tuple[str, list[str]]:
    """A condition that leaves hops out, any number of them, and its values."""
    if not busy:
        return "", []
    pairs = ", ".join(["(?, ?)"] * len(busy))
    condition = f" AND (h.agent, h.next_hop) NOT IN (VALUES {pairs})"
    return condition, [value for hop in busy for value in hop]


def _lease(
    transaction: ITransaction, rows: Sequence[tuple[str, float, int, str]]
) -> None:
    """Change leases that are still whose they were: new owner and time, row,
    old owner."""
    transaction.executemany(
        "UPDATE hop SET lease = ?, due = ? WHERE id = ? AND lease = ?", rows
    )


def _due(
    now: float, busy: Sequence[Hop], most: int, transaction: ITransaction
) -> list[int]:
    """The first rows that are due, but for those of some hops."""
    passed_over, values = _other_than(busy)
    found = transaction.execute(
        f"SELECT h.id FROM hop h WHERE h.held = 0 AND h.due <= ?{passed_over}"
        " ORDER BY h.due, h.id LIMIT ?",
        (now, *values, most),
    )
    return [id for (id,) in found]


_CLAIM = (
    "h.id, q.envelope, q.content_id, q.prefix, q.size, q.eight_bit, h.agent,"
    f" h.next_hop, h.attempts, h.warned, {TAKEN}"
    " FROM hop h JOIN queued q ON q.id = h.queued_id WHERE"
)


def _these(
    now: float, ids: Sequence[int], transaction: ITransaction
) -> Sequence[tuple[Any, ...]]:
    """Those of some rows that are still due."""
    more = " AND h.held = 0 AND h.due <= ? ORDER BY h.due, h.id"
    return of(transaction, f"{_CLAIM} h.id", ids, more, now)


def _first(
    now: float, most: int, transaction: ITransaction
) -> Sequence[tuple[Any, ...]]:
    """The first rows that are due."""
    sql = f"SELECT {_CLAIM} h.held = 0 AND h.due <= ? ORDER BY h.due, h.id LIMIT ?"
    return list(transaction.execute(sql, (now, most)))


def _within(
    rows: Iterable[tuple[Any, ...]], room: Mapping[Hop, int], per_hop: int
) -> list[tuple[Any, ...]]:
    """Those of the rows for which their hops have room."""
    taken: list[tuple[Any, ...]] = []
    left = dict(room)
    for row in rows:
        hop = row[6], row[7]
        more = left.get(hop, per_hop)
        if more:
            left[hop] = more - 1
            taken.append(row)
    return taken


def _with_recipients(
    transaction: ITransaction, rows: Sequence[tuple[Any, ...]]
) -> list[tuple[Any, ...]]:
    """Rows with their recipients, by address; no more rows once there are many of
    those."""
    found: list[tuple[Any, ...]] = []
    count = 0
    for row in rows:
        recipients = transaction.execute(
            "SELECT address, notification FROM recipient WHERE hop_id = ?"
            " ORDER BY address",
            row[:1],
        )
        found.append((*row, list(recipients)))
        count += len(found[-1][-1])
        if count >= _RECIPIENTS:
            break
    return found


def _job(row: tuple[Any, ...], envelope: Envelope) -> Job:
    id, _, content, prefix, size, eight_bit, agent, next_hop, *rest, to = row
    attempts, warned, *_ = rest
    return Job(
        id=id,
        envelope=envelope,
        content=content,
        prefix=prefix,
        size=size,
        eight_bit=bool(eight_bit),
        agent=agent,
        next_hop=next_hop,
        recipients=tuple(read_address(address) for address, _ in to),
        attempts=attempts,
        warned=bool(warned),
        notifications={
            read_address(address): read_notification(asked)
            for address, asked in to
            if asked
        },
    )
