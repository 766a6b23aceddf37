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

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.delivery import taking
from twisted_mta.delivery.acceptance import Acceptance, OwnMail
from twisted_mta.delivery.backlog import Backlog
from twisted_mta.delivery.ending import Ending
from twisted_mta.delivery.flow import flow
from twisted_mta.delivery.history import History, attempted, notified
from twisted_mta.delivery.hoprows import rows
from twisted_mta.delivery.lease import lose, take
from twisted_mta.delivery.notice import POSTMASTER, Notices
from twisted_mta.delivery.parking import Parking, wake
from twisted_mta.delivery.record import (
    read_envelope,
    write_envelope,
)
from twisted_mta.delivery.retry import Schedule
from twisted_mta.delivery.rows import TOPIC, of
from twisted_mta.delivery.settlement import Settlement, judge
from twisted_mta.delivery.standing import Standing
from twisted_mta.delivery.suppression import Suppression
from twisted_mta.delivery.turn import Selection, other_than
from twisted_mta.errors import MailError, Permanent, Temporary
from twisted_mta.interfaces import ILedger, IQueue, ITransaction
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.history import Event, Kind
from twisted_mta.mail.ids import new_id, to_text
from twisted_mta.mail.job import Job, Parked
from twisted_mta.mail.route import RELEASE, Outcome, ToAgent

#: How long a lease lasts, in seconds, if nobody notices that its process died
#: (which is a matter of seconds). Whoever works longer renews it.
LEASE_S = 120.0

Hop = tuple[str, str]

_NONE: Mapping[Hop, int] = {}


@implementer(IQueue)
class Queue(Backlog):
    """The queue as one process sees it.

    @param owner: a name for this run of this process that no other has.
    @param own: makes bounces ready for the transaction.
    @param hostname: this server's name, in bounces.
    @param suppression: counts who is refused for good.
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
        suppression: Suppression | None = None,
        history: History | None = None,
        standing: Standing | None = None,
    ) -> None:
        super().__init__(clock, ledger, history)
        self._standing = standing or Standing(clock, ledger)
        self._owner = owner
        self._schedule = schedule
        self._suppression = suppression
        self._notices = Notices(clock, ledger, own, hostname)
        self._selection = Selection(clock, ledger)

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
        held = partial(self._standing.held, transaction)
        hops, recipients, reasons = rows(envelope, routes, due, held)
        of_whom = flow(envelope)
        transaction.executemany(
            "INSERT INTO hop (id, queued_id, agent, next_hop, held, due, sender,"
            " prefix, flow, lease, attempts, warned)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', 0, 0)",
            [(*hop, of_whom) for hop in hops],
        )
        transaction.executemany(
            "INSERT INTO recipient (hop_id, address, notification, status,"
            " diagnostic, remote, replied) VALUES (?, ?, ?, '', '', '', 0)",
            recipients,
        )
        if reasons:
            at = envelope.received_at
            event = Event(envelope.id, new_id(), at, Kind.HELD, text="; ".join(reasons))
            self.history.happened(transaction, [event])
        transaction.changed(TOPIC)

    # --- to the agents ---

    async def claim(
        self,
        most: int,
        room: Mapping[Hop, int] = _NONE,
        per_hop: int | None = None,
        flows: Collection[str] = (),
    ) -> Sequence[Job]:
        """See L{IQueue.claim}."""
        now = self._clock.seconds()
        busy = [hop for hop in room if not room[hop]]
        selection, few = self._selection, min(most, taking.CLAIMED)
        if selection.crowded or busy or flows:
            if selection.crowded:
                found = await selection.next(few, set(busy), flows)
            else:
                # They may have many rows, which are passed over without the lock.
                but = busy, list(flows)
                found = await self._ledger.read(partial(taking.due, now, *but, most))
            if not found:
                return []
            rows_of = partial(taking.these, now, found)
        else:
            rows_of = partial(taking.first, now, few)

        def unit(transaction: ITransaction) -> list[tuple[Any, ...]]:
            rows = self._standing.thawed(transaction, rows_of(transaction))
            rows = taking.in_turn(transaction, rows, flows)
            taken = taking.within(rows, room, most if per_hop is None else per_hop)
            claimed = taking.with_recipients(transaction, taken)
            take(transaction, self.history, self._owner, now, now + LEASE_S, claimed)
            return claimed

        rows = await self._ledger.write(unit, brief=True)
        if len(rows) >= few and not selection.crowded:
            await selection.count()
        # A message for a thousand domains is a thousand rows, but one envelope.
        envelopes = {text: read_envelope(text) for text in {row[1] for row in rows}}
        return [taking.job(row, envelopes[row[1]]) for row in rows]

    async def seize(self, rows: Sequence[int]) -> Sequence[Job]:
        """See L{IQueue.seize}."""
        now = self._clock.seconds()

        def unit(transaction: ITransaction) -> list[tuple[Any, ...]]:
            found = taking.free(now, rows, transaction)
            seized = taking.with_recipients(transaction, found)
            take(transaction, self.history, self._owner, now, now + LEASE_S, seized)
            return seized

        seized = await self._ledger.write(unit)
        return [taking.job(row, read_envelope(row[1])) for row in seized]

    async def renew(self, jobs: Collection[Job]) -> None:
        """See L{IQueue.renew}."""
        until = self._clock.seconds() + LEASE_S
        rows = [(self._owner, until, job.id, self._owner) for job in jobs]
        if rows:
            await self._ledger.write(lambda transaction: _lease(transaction, rows))

    async def stopped(self, jobs: Collection[Job]) -> Sequence[Job]:
        """See L{IQueue.stopped}."""
        ids = [job.id for job in jobs]

        def query(transaction: ITransaction) -> Mapping[int, int]:
            return taking.still(transaction, self._owner, ids)

        brief = len(ids) <= taking.CLAIMED
        found = await (self._ledger.lookup if brief else self._ledger.read)(query)
        return [job for job in jobs if found.get(job.id) != len(job.recipients)]

    async def give_back(
        self, jobs: Collection[Job], begun: Collection[Job] = ()
    ) -> None:
        """See L{IQueue.give_back}. Among those that are due, the oldest
        messages come first again; what its sender has held until a time is not due
        before that, for whatever reason somebody had it."""
        rows = [("", _since(job), job.id, self._owner) for job in jobs]
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
        leased = list(
            transaction.execute(
                "SELECT id, queued_id, agent FROM hop WHERE lease = ?", (owner,)
            )
        )
        ids = [id for id, _, _ in leased]
        lose(transaction, self.history, owner, self._clock.seconds(), ids)
        held = [message for _, message, agent in leased if agent == RELEASE]
        found = of(transaction, "id, envelope FROM queued WHERE id", held)
        until = {id: read_envelope(text).released_at for id, text in found}
        transaction.executemany(
            "UPDATE hop SET lease = '', due = COALESCE(?,"
            " (SELECT queued_at FROM queued WHERE id = hop.queued_id)) WHERE id = ?",
            [
                (until.get(message) if agent == RELEASE else None, id)
                for id, message, agent in leased
            ],
        )
        transaction.changed(TOPIC)

    async def park(self, parked: Sequence[Parked]) -> None:
        """See L{IQueue.park}. Those whose sender is to be told something now are
        settled one by one."""
        now = self._clock.seconds()
        waiting: list[Parked] = []
        for one in parked:
            job = one.job
            landmark = self._schedule.landmark(job.envelope.released_at, now)
            if one.outcome is not None:
                outcomes = dict.fromkeys(job.recipients, one.outcome)
                settlement = judge(job, outcomes, self._schedule, now)
                if settlement.failed or settlement.warn:
                    await self.settle(job, outcomes)
                    until = min(one.due, landmark)
                    await self.await_site([job.id], one.site, until)
                    continue
                handling = job.envelope.handling
                if handling.by is not None or handling.give_up_at:
                    landmark = min(landmark, settlement.due)
            waiting.append(replace(one, due=min(one.due, landmark)))
        if waiting:
            brief = len(waiting) <= taking.CLAIMED
            await self._ledger.write(Parking(self._owner, waiting), brief=brief)

    async def await_site(
        self, ids: Sequence[int], site: str, due: float | None = None
    ) -> None:
        """See L{IQueue.await_site}."""
        rows = [(site, due, id) for id in ids]

        def unit(transaction: ITransaction) -> None:
            transaction.executemany(
                "UPDATE hop SET site = ?, due = COALESCE(?, due)"
                " WHERE id = ? AND lease = ''",
                rows,
            )

        await self._ledger.write(unit, brief=True)

    async def wake(self, agent: str, site: str, most: int) -> int:
        """See L{IQueue.wake}."""
        now = self._clock.seconds()
        return await self._ledger.write(
            lambda transaction: wake(transaction, agent, site, now, most)
        )

    async def next_due(
        self, busy: Collection[Hop] = (), flows: Collection[str] = ()
    ) -> float | None:
        """See L{IQueue.next_due}."""
        passed_over, values = other_than(list(busy), list(flows))

        def query(transaction: ITransaction) -> float | None:
            rows = transaction.execute(
                f"SELECT h.due FROM hop h WHERE h.held = 0{passed_over}"
                " ORDER BY h.due LIMIT 1",
                values,
            )
            return next((float(due) for (due,) in rows), None)

        if busy or flows:  # it may have to pass over many rows
            return await self._ledger.read(query)
        return await self._ledger.lookup(query)

    # --- and out ---

    async def settle(
        self,
        job: Job,
        outcomes: Mapping[Address, Outcome],
        who: str = "",
        so_far: bool = False,
    ) -> None:
        """See L{IQueue.settle}."""
        settlement = judge(job, outcomes, self._schedule, self._clock.seconds())
        if who:  # whoever stays because his sender cannot be told does not go early
            due = max(settlement.due, job.envelope.released_at)
            settlement = replace(settlement, due=due)
        notices: list[Acceptance] = []
        told: Sequence[Acceptance]
        try:
            try:
                await self._notices.prepare(self, job, settlement, notices)
            except Temporary as error:
                # The sender cannot be told now, so nobody leaves undelivered.
                self._log_untold(job, error)
                settlement, told = settlement.postponed(), ()
            else:
                told = tuple(notices)
            while True:
                try:
                    ours = await self._commit(job, settlement, told, who, so_far)
                    break
                except Permanent as error:
                    if not told:
                        raise
                    # The sender's mailbox does not take it (any more), and would
                    # not later: the rest must be recorded all the same.
                    self._log_untold(job, error)
                    settlement, told = await self._instead(
                        job, settlement, told, error, notices
                    )
        finally:
            for notice in notices:
                notice.close()
        if ours:
            self._log_told(job, told)
            if self._suppression is not None and settlement.failed:
                await self._suppression.log(job, settlement.failed)
        else:
            self._log.warn(
                "{id}: the row was taken or removed while it was tried",
                id=to_text(job.envelope.id),
            )

    async def _instead(
        self,
        job: Job,
        settlement: Settlement,
        told: Sequence[Acceptance],
        error: Permanent,
        notices: list[Acceptance],
    ) -> tuple[Settlement, Sequence[Acceptance]]:
        """What is recorded when the sender does not take what he is told: the
        postmaster is told instead, or, if not even he takes it, nobody."""
        try:
            instead = await self._notices.instead(self, told, error, notices)
        except Temporary as later:
            self._log_untold(job, later)
            return settlement.postponed(), []
        return settlement, instead

    async def _commit(
        self,
        job: Job,
        settlement: Settlement,
        notices: Sequence[Acceptance],
        who: str,
        so_far: bool,
    ) -> bool:
        """Record a settlement and accept its notices, as one.

        @return: whether the lease was still ours; if not, there were no notices.
        """
        now = self._clock.seconds()
        events = attempted(job, settlement, now, who)
        events += [notified(job.envelope.id, notice.id, now) for notice in notices]
        ending = Ending(
            *(self._ledger, self._owner, job, settlement, notices, self._suppression),
            self.history,
            events,
            so_far,
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
            told = notice.envelope.recipients
            self._log.info(
                "{id}: {who} notified, notification={notice}",
                id=to_text(job.envelope.id),
                who="postmaster" if told == (POSTMASTER,) else "sender",
                notice=notice.id,
            )
            notice.log(self._log)


def _since(job: Job) -> float:
    """Since when a row is due, as far as can be said."""
    envelope = job.envelope
    return envelope.released_at if job.agent == RELEASE else envelope.received_at


def _lease(
    transaction: ITransaction, rows: Sequence[tuple[str, float, int, str]]
) -> None:
    """Change leases that are still whose they were: new owner and time, row,
    old owner."""
    transaction.executemany(
        "UPDATE hop SET lease = ?, due = ? WHERE id = ? AND lease = ?", rows
    )
