"""The queue by queue ids: look at it, hurry it, hold it, empty it.

It works on the ledger alone, from any process, whether the server runs or not.
What is done to a message is done to all its rows, and to all that are named as one.
What an operator does by filters, and all else, is L{twisted_mta.delivery.oversight}'s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime

from twisted_mta.delivery.history import History
from twisted_mta.delivery.outage import hurry
from twisted_mta.delivery.rows import TOPIC, drop
from twisted_mta.delivery.text import one_line
from twisted_mta.errors import NoSuchQueueId
from twisted_mta.interfaces import ILedger, ITransaction
from twisted_mta.mail.history import Event, Kind
from twisted_mta.mail.ids import from_text, new_id, to_text
from twisted_mta.mail.job import Waiting
from twisted_mta.mail.route import RELEASE

# A row that is being tried keeps its lease.
_DUE = (
    "UPDATE hop SET due = ? WHERE queued_id = ? AND held = 0 AND lease = '' AND due > ?"
)

# What is held until a time (RFC 4865) keeps that, unless an operator names it.
_DUE_UNASKED = f"{_DUE} AND agent <> '{RELEASE}'"


# How often the queue is read through for one domain, since anybody may ask for that:
# who comes on line asks once.
_START_S = 60.0


def _literal(text: str) -> str:
    """As it stands within LIKE."""
    return re.sub(r"([!%_])", r"!\1", text)


class Backlog:
    """What waits in a ledger's queue."""

    def __init__(
        self, clock: IReactorTime, ledger: ILedger, history: History | None = None
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self.history = history or History()
        # When, and how many; of those few domains that the config names.
        self._started: dict[tuple[str, bool], tuple[float, int]] = {}

    async def waiting(self, id: str | None = None) -> Sequence[Waiting]:
        """See L{IQueue.waiting <twisted_mta.interfaces.IQueue.waiting>}."""
        now = self._clock.seconds()
        only, values = "", []
        if id is not None:
            only, values = " WHERE q.id = ?", [_number(id)]

        def query(transaction: ITransaction) -> list[Waiting]:
            rows = transaction.execute(
                f"SELECT {WAITING} FROM queued q JOIN hop h ON h.queued_id = q.id"
                f" JOIN recipient r ON r.hop_id = h.id{only}"
                " ORDER BY q.queued_at, q.id, h.id, r.address",
                values,
            )
            return [waiting(now, *row) for row in rows]

        return await self._ledger.read(query)

    async def flush(self, ids: Sequence[str] | None = None) -> int:
        """See L{IQueue.flush <twisted_mta.interfaces.IQueue.flush>}."""
        now = self._clock.seconds()

        def unit(transaction: ITransaction) -> int:
            if ids is None:
                found = transaction.execute(
                    "SELECT DISTINCT queued_id FROM hop WHERE held = 0 AND lease = ''"
                    f" AND agent <> '{RELEASE}'"
                )
                messages, due = [id for (id,) in found], _DUE_UNASKED
            else:
                messages, due = _existing(transaction, ids, held=False), _DUE
            transaction.executemany(due, [(now, id, now) for id in messages])
            hurry(transaction, now)
            transaction.changed(TOPIC)
            return len(messages)

        return await self._ledger.write(unit)

    async def start(self, domain: str, below: bool = False) -> int:
        """See L{IQueue.start <twisted_mta.interfaces.IQueue.start>}. The queue is read
        through in another thread, but for one domain at most once in a minute."""
        at, count = self._started.get((domain, below), (float("-inf"), 0))
        if self._clock.seconds() < at + _START_S:
            return count
        # Who asks meanwhile does not have it read again.
        self._started[domain, below] = self._clock.seconds(), count
        ends = f"%@{_literal(domain)}", f"%.{_literal(domain)}"

        def query(transaction: ITransaction) -> list[int]:
            rows = transaction.execute(
                "SELECT DISTINCT h.queued_id FROM hop h"
                " JOIN recipient r ON r.hop_id = h.id"
                # What was never tried is due already, or not wanted before (RFC 4865),
                # or its site is down, so that nobody tries.
                " WHERE h.held = 0 AND h.lease = ''"
                " AND (h.attempts > 0 OR h.site <> '')"
                f" AND h.agent <> '{RELEASE}'"
                " AND (r.address LIKE ? ESCAPE '!' OR r.address LIKE ? ESCAPE '!')",
                (ends[0], ends[1] if below else ends[0]),
            )
            return [id for (id,) in rows]

        waiting = await self._ledger.read(query)
        now = self._clock.seconds()
        self._started[domain, below] = now, len(waiting)

        def unit(transaction: ITransaction) -> None:
            transaction.executemany(_DUE_UNASKED, [(now, id, now) for id in waiting])
            hurry(transaction, now)
            transaction.changed(TOPIC)

        if waiting:
            await self._ledger.write(unit)
        return len(waiting)

    async def hold(self, ids: Sequence[str], reason: str = "") -> int:
        """See L{IQueue.hold <twisted_mta.interfaces.IQueue.hold>}.

        @raise NoSuchQueueId:
        """

        def unit(transaction: ITransaction) -> int:
            messages = _existing(transaction, ids)
            self._happened(transaction, messages, Kind.HELD, reason)
            transaction.executemany(
                "UPDATE hop SET held = 1 WHERE queued_id = ?",
                [(id,) for id in messages],
            )
            transaction.changed(TOPIC)
            return len(messages)

        return await self._ledger.write(unit)

    async def release(self, ids: Sequence[str]) -> int:
        """See L{IQueue.release <twisted_mta.interfaces.IQueue.release>}.

        @raise NoSuchQueueId:
        """
        now = self._clock.seconds()

        def unit(transaction: ITransaction) -> int:
            messages = _existing(transaction, ids, held=True)
            self._happened(transaction, messages, Kind.RELEASED)
            transaction.executemany(
                "UPDATE hop SET held = CASE"
                " WHEN next_hop IN (SELECT next_hop FROM frozen) THEN 2 ELSE 0 END,"
                f" due = CASE WHEN lease = '' AND agent <> '{RELEASE}' THEN ?"
                " ELSE due END"
                " WHERE queued_id = ? AND held = 1",
                [(now, id) for id in messages],
            )
            transaction.changed(TOPIC)
            return len(messages)

        return await self._ledger.write(unit)

    async def remove(self, ids: Sequence[str]) -> int:
        """See L{IQueue.remove <twisted_mta.interfaces.IQueue.remove>}. An
        attempt that is running goes on, and may deliver.

        @raise NoSuchQueueId:
        """

        def unit(transaction: ITransaction) -> int:
            messages = _existing(transaction, ids)
            self._happened(transaction, messages, Kind.REMOVED)
            for id in messages:
                transaction.execute(
                    "DELETE FROM recipient WHERE hop_id IN"
                    " (SELECT id FROM hop WHERE queued_id = ?)",
                    (id,),
                )
                transaction.execute("DELETE FROM hop WHERE queued_id = ?", (id,))
            drop(self._ledger, transaction, messages)
            transaction.changed(TOPIC)
            return len(messages)

        return await self._ledger.write(unit)

    def _happened(
        self,
        transaction: ITransaction,
        messages: Sequence[int],
        kind: Kind,
        text: str = "",
    ) -> None:
        now = self._clock.seconds()
        events = [Event(id, new_id(), now, kind, text=text) for id in messages]
        self.history.happened(transaction, events)


def _number(id: str) -> int:
    try:
        return from_text(id)
    except ValueError:
        raise NoSuchQueueId(f"No message {id!r} in the queue")


def _existing(
    transaction: ITransaction, ids: Sequence[str], held: bool | None = None
) -> list[int]:
    """The messages' keys, each once.

    @param held: only of those that have a row which is held, or one which is neither
        held nor frozen.
    @raise NoSuchQueueId: one of them is not there.
    """
    keys = []
    for id in dict.fromkeys(ids):
        key = _number(id)
        if not list(transaction.execute("SELECT 1 FROM queued WHERE id = ?", (key,))):
            raise NoSuchQueueId(f"No message {id!r} in the queue")
        if held is not None:
            sql = "SELECT 1 FROM hop WHERE queued_id = ? AND held = ? LIMIT 1"
            if not list(transaction.execute(sql, (key, int(held)))):
                continue
        keys.append(key)
    return keys


#: The columns that L{waiting} takes.
WAITING = (
    "q.id, q.sender, r.address, q.size, q.queued_at, h.held, h.lease, h.agent,"
    " h.next_hop, h.due, h.attempts, r.diagnostic, q.login"
)


def waiting(
    now: float,
    id: int,
    sender: str | None,
    recipient: str,
    size: int,
    queued_at: float,
    held: int,
    lease: str,
    agent: str,
    next_hop: str,
    due: float,
    attempts: int,
    diagnostic: str,
    login: str,
) -> Waiting:
    """A recipient of the queue as people see it."""
    # A lease that has ended is nobody's.
    active = lease and due > now
    return Waiting(
        id=to_text(id),
        sender=one_line(sender or ""),
        recipient=one_line(recipient),
        size=size,
        queued_at=queued_at,
        state="active" if active else ("waiting", "held", "frozen")[held],
        agent=agent,
        next_hop=next_hop,
        due=due,
        attempts=attempts,
        diagnostic=diagnostic,
        account=one_line(login),
    )
