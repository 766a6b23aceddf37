"""Which rows are next when more is due than can be taken: by age, and in turn.

As long as little is due, the oldest are first, and who waits waits a moment. Behind a
hundred thousand rows of one sender another's would wait for all of them. So then half
of what is taken is still the oldest (nobody waits for ever), and the other half is
taken from one sender after the other (nobody waits for another's mail). To find out
who has something due is to go from sender to sender in an index, 2 us each, however
many rows each has (a loose index scan); so it is done in a reading thread, for many
rows at once, and as often as takes a tenth of the time.

It promises nothing of the rows it names: they may be taken meanwhile.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest

from twisted.internet.interfaces import IReactorTime

from twisted_mta.interfaces import ILedger, ITransaction, SqlValue

Hop = tuple[str, str]

# Due rows from which on there are turns: some seconds of work. They are counted in an
# index, 20 us, once in a second at most.
_CROWD = 1000
_COUNT_S = 1.0

# Rows of one look; more if it took long (many had to be passed over).
_LOOKED = 1000
_LOOKED_SLOWLY = 5000
_SLOWLY_S = 0.1

# How old a look may be, and the pause after it in times that it took.
_OLD_S = 1.0
_PAUSES = 9
_LEAST_S = 0.05

# Flows of one look; the next goes on behind them.
_FLOWS = 5000

# Hops that are passed over: two values each, of which SQLite takes 32766.
_PASSED_OVER = 10_000

# Rows that are passed over at most to find the oldest that are not of some flows, 2 us
# each; those that are further behind have their turns.
_ROWS_PASSED_OVER = 50_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that was due when it was looked at."""

    id: int
    hop: Hop
    flow: str


class Selection:
    """What one process found in the queue."""

    def __init__(self, clock: IReactorTime, ledger: ILedger) -> None:
        self._clock = clock
        self._ledger = ledger
        self._found: deque[Candidate] = deque()
        self._looked_at = self._counted_at = float("-inf")
        self._took_s = 0.0
        self._from = ""
        # When each flow had its last turn, by count; the latest are last.
        self._turns: dict[str, int] = {}
        self._turn = 0
        #: More is due than is taken in a moment.
        self.crowded = False

    async def count(self) -> None:
        """All that was asked for was there: is it a crowd?"""
        now = self._clock.seconds()
        if 0 <= now - self._counted_at < _COUNT_S:
            return
        self._counted_at = now

        def query(transaction: ITransaction) -> bool:
            return _is_crowd(transaction, now)

        self.crowded = await self._ledger.lookup(query)

    async def next(
        self, most: int, busy: Collection[Hop], flows: Collection[str]
    ) -> Sequence[int]:
        """Rows that are next, of which none is of these hops or flows. None: there are
        none, or it is too early to look again."""
        since_s = self._clock.seconds() - self._looked_at
        rested = not 0 <= since_s < max(_LEAST_S, self._took_s * _PAUSES)
        if rested and (not self._found or not 0 <= since_s < _OLD_S):
            await self._look(busy, flows)
            rested = False
        ids = self._take(most, busy, flows)
        if not ids and rested:
            await self._look(busy, flows)
            ids = self._take(most, busy, flows)
        return ids

    def _take(
        self, most: int, busy: Collection[Hop], flows: Collection[str]
    ) -> Sequence[int]:
        ids: list[int] = []
        left: list[Candidate] = []
        while self._found and len(ids) < most:
            one = self._found.popleft()
            if one.hop in busy or one.flow in flows:
                left.append(one)
            else:
                ids.append(one.id)
                self._had_turn(one.flow)
        self._found.extendleft(reversed(left))
        return ids

    def _had_turn(self, flow: str) -> None:
        self._turn += 1
        self._turns.pop(flow, None)
        self._turns[flow] = self._turn
        if len(self._turns) > _FLOWS:
            del self._turns[next(iter(self._turns))]

    async def _look(self, busy: Collection[Hop], flows: Collection[str]) -> None:
        began = self._clock.seconds()
        most = _LOOKED_SLOWLY if self._took_s > _SLOWLY_S else _LOOKED
        turns = dict(self._turns)
        query = partial(_look, began, list(busy), list(flows), self._from, turns, most)
        self.crowded, self._from, found = await self._ledger.read(query)
        self._found = deque(found)
        self._looked_at = self._clock.seconds()
        self._took_s = self._looked_at - began


def other_than(busy: Sequence[Hop], flows: Sequence[str] = ()) -> tuple[str, list[str]]:
    """A condition that leaves hops and flows out, and its values."""
    condition, values = "", []
    if busy := busy[:_PASSED_OVER]:
        pairs = ", ".join(["(?, ?)"] * len(busy))
        condition = f" AND (h.agent, h.next_hop) NOT IN (VALUES {pairs})"
        values = [value for hop in busy for value in hop]
    if flows := flows[:_PASSED_OVER]:
        condition += f" AND h.flow NOT IN ({', '.join('?' * len(flows))})"
        values += flows
    return condition, values


def _is_crowd(transaction: ITransaction, now: float) -> bool:
    sql = "SELECT 1 FROM hop WHERE held = 0 AND due <= ? LIMIT 1 OFFSET ?"
    return bool(list(transaction.execute(sql, (now, _CROWD))))


def _look(
    now: float,
    busy: Sequence[Hop],
    flows: Sequence[str],
    start: str,
    turns: Mapping[str, int],
    most: int,
    transaction: ITransaction,
) -> tuple[bool, str, Sequence[Candidate]]:
    """Look once.

    @param start: the flow behind which those that have turns begin.
    @param turns: when each had its last; whose was longest ago is first.
    @return: whether it is a crowd, where the next look begins, and rows.
    """
    passed_over, values = other_than(busy)
    columns = "h.id, h.agent, h.next_hop, h.flow"
    end = f"{passed_over} ORDER BY h.due, h.id LIMIT ?"

    def rows(sql: str, *given: SqlValue) -> list[Candidate]:
        found = transaction.execute(sql, given)
        return [Candidate(id, (agent, hop), of) for id, agent, hop, of in found]

    if flows:
        bounded = (
            "(SELECT * FROM hop WHERE held = 0 AND due <= ? ORDER BY due, id"
            f" LIMIT {_ROWS_PASSED_OVER}) h"
        )
        but_for, more = other_than(busy, flows)
        oldest_of_all = (
            f"SELECT {columns} FROM {bounded} WHERE true{but_for}"
            " ORDER BY h.due, h.id LIMIT ?"
        )
    else:
        more = values
        oldest_of_all = (
            f"SELECT {columns} FROM hop h WHERE h.held = 0 AND h.due <= ?{end}"
        )
    oldest = rows(oldest_of_all, now, *more, most // 2)
    due = [one for one in _flows(transaction, now, start) if one not in flows]
    random.shuffle(due)  # two processes do not take the same rows
    due.sort(key=lambda one: turns.get(one, 0))
    each = max(1, most // 2 // len(due)) if due else 0
    of_each = _of_each(transaction, now, due[:most], passed_over, values, each)
    in_turn = [one for round in zip_longest(*of_each) for one in round if one]
    mixed = chain.from_iterable(zip_longest(in_turn, oldest))
    once = {one.id: one for one in mixed if one}
    last = max(due) if len(due) >= _FLOWS else ""
    return _is_crowd(transaction, now), last, list(once.values())


def _of_each(
    transaction: ITransaction,
    now: float,
    flows: Sequence[str],
    passed_over: str,
    values: Sequence[SqlValue],
    most: int,
) -> Sequence[Sequence[Candidate]]:
    """The first rows of each of some flows. It is one statement, so that the hops that
    are passed over, which may be thousands, are made a set once and not for each."""
    if not flows:
        return []
    found: dict[str, list[Candidate]] = {one: [] for one in flows}
    marks = ", ".join(["(?)"] * len(flows))
    rows = transaction.execute(
        f"WITH turn (flow) AS (VALUES {marks})"
        " SELECT r.id, r.agent, r.next_hop, r.flow FROM turn CROSS JOIN hop r"
        " WHERE r.id IN (SELECT h.id FROM hop h WHERE h.held = 0 AND h.lease = ''"
        f" AND h.flow = turn.flow AND h.due <= ?{passed_over}"
        " ORDER BY h.due, h.id LIMIT ?) ORDER BY r.due, r.id",
        (*flows, now, *values, most),
    )
    for id, agent, hop, of in rows:
        found[of].append(Candidate(id, (agent, hop), of))
    return [found[one] for one in flows]


def _flows(transaction: ITransaction, now: float, start: str) -> Iterator[str]:
    """The flows that have something due, those behind C{start} first; a bounded number
    of them. Of each one key of the index is read, and another if nothing is due."""
    next_flow = "SELECT MIN(flow) FROM hop WHERE held = 0 AND lease = '' AND flow"
    sql = (
        f"WITH RECURSIVE turn (flow) AS ({next_flow} > ? UNION ALL"
        f" SELECT ({next_flow} > turn.flow) FROM turn WHERE turn.flow IS NOT NULL)"
        " SELECT flow FROM (SELECT flow FROM turn WHERE flow IS NOT NULL LIMIT ?) t"
        " WHERE EXISTS (SELECT 1 FROM hop h WHERE h.held = 0 AND h.lease = ''"
        " AND h.flow = t.flow AND h.due <= ?)"
    )
    for (one,) in list(transaction.execute(sql, (start, _FLOWS, now))):
        yield one
