"""The end of an attempt as a unit of work: rows leave the queue, or wait on.

Attempts that end at the same time are recorded by as few statements as one. A
settlement is recorded by whoever has the lease; if that was lost to another process
meanwhile, what was delivered is recorded all the same, so that it is not delivered
again, and the rest is left to the other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from twisted_mta.delivery.acceptance import Acceptance
from twisted_mta.delivery.rows import TOPIC, forget, of
from twisted_mta.delivery.settlement import Settlement, Told
from twisted_mta.delivery.suppression import Suppression
from twisted_mta.delivery.text import one_line
from twisted_mta.interfaces import IHistory, ILedger, ITransaction
from twisted_mta.mail.address import Address
from twisted_mta.mail.history import Event, Kind
from twisted_mta.mail.job import Job

# Recipients of an attempt that is recorded in no more time than the reactor can wait:
# 10 us each.
_BRIEF_RECIPIENTS = 16


class Ending:
    """One attempt's end. Run, it says whether the lease was still ours.

    @param owner: whose the lease should be.
    @param told: what the sender is told, accepted in the same transaction; only if
        the lease was ours.
    @param suppression: counts who is refused for good, in the same way.
    @param history: where C{events} are recorded.
    @param events: what the attempt was, and that the sender is told.
    @param so_far: it goes on, and keeps its lease.
    """

    __slots__ = (
        "_events",
        "_history",
        "_job",
        "_ledger",
        "_owner",
        "_refused",
        "_settlement",
        "_so_far",
        "_suppression",
        "_told",
    )

    def __init__(
        self,
        ledger: ILedger,
        owner: str,
        job: Job,
        settlement: Settlement,
        told: Sequence[Acceptance],
        suppression: Suppression | None = None,
        history: IHistory | None = None,
        events: Sequence[Event] = (),
        so_far: bool = False,
    ) -> None:
        self._so_far = so_far
        self._ledger = ledger
        self._owner = owner
        self._job = job
        self._settlement = settlement
        self._told = told
        self._suppression = suppression
        self._refused: Told = ()
        if suppression is not None and settlement.failed:
            self._refused = suppression.hard(job, settlement.failed)
        self._history = history
        self._events = events

    @property
    def brief(self) -> bool:
        """It takes but a few statements."""
        if self._told or self._refused:
            return False
        return len(self._job.recipients) <= _BRIEF_RECIPIENTS

    def __call__(self, transaction: ITransaction) -> bool:
        """The unit of work."""
        return self.together(transaction, (self,))[0]

    def together(
        self, transaction: ITransaction, units: Sequence[Ending]
    ) -> Sequence[bool]:
        """Several of them in as few statements as one, see L{ILedger.write}."""
        found = of(transaction, "id, lease FROM hop WHERE id", _ids(units))
        leases: dict[int, str] = dict(found)
        ours = [leases.get(unit._job.id) == unit._owner for unit in units]
        transaction.executemany(
            "DELETE FROM recipient WHERE hop_id = ? AND address = ?",
            [
                (unit._job.id, str(recipient))
                for unit, is_ours in zip(units, ours, strict=True)
                for recipient in unit._gone(is_ours)
            ],
        )
        there = [unit for unit in units if unit._job.id in leases]
        left = "DISTINCT hop_id FROM recipient WHERE hop_id"
        waiting = {id for (id,) in of(transaction, left, _ids(there))}
        done = [id for id in _ids(there) if id not in waiting]
        forget(self._ledger, transaction, done)
        for unit, is_ours in zip(units, ours, strict=True):
            if is_ours:
                unit._go_on(transaction, waiting)
        if self._history is not None:
            events = [
                event
                for unit, is_ours in zip(units, ours, strict=True)
                for event in unit._events
                if is_ours or event.kind != Kind.NOTIFIED
            ]
            self._history.happened(transaction, events)
        return ours

    def _gone(self, ours: bool) -> Sequence[Address]:
        """Recipients that leave the queue."""
        settled = self._settlement.delivered
        if ours:
            settled += self._settlement.failed
        return [recipient for recipient, _ in settled]

    def _go_on(self, transaction: ITransaction, waiting: Collection[int]) -> None:
        """What is to be done besides, if the lease is ours."""
        if self._job.id in waiting and not self._so_far:
            self._defer(transaction)
            transaction.changed(TOPIC)
        for notice in self._told:
            notice(transaction)
        if self._suppression is not None and self._refused:
            message = self._job.envelope.id
            self._suppression.bounced(transaction, message, self._refused)

    def _defer(self, transaction: ITransaction) -> None:
        job, settlement = self._job, self._settlement
        transaction.executemany(
            "UPDATE recipient SET status = ?, diagnostic = ?, remote = ?,"
            " replied = ? WHERE hop_id = ? AND address = ?",
            [
                (
                    outcome.status,
                    one_line(outcome.diagnostic),
                    one_line(outcome.remote),
                    int(outcome.replied),
                    job.id,
                    str(recipient),
                )
                for recipient, outcome in settlement.deferred
            ],
        )
        transaction.execute(
            "UPDATE hop SET due = ?, lease = '', attempts = ?, warned = ? WHERE id = ?",
            (
                settlement.due,
                job.attempts + 1,
                int(job.warned or settlement.warn),
                job.id,
            ),
        )


def _ids(units: Sequence[Ending]) -> list[int]:
    return [unit._job.id for unit in units]
