"""Which rows of the queue a filter means, as SQL; and walks over them, piece by piece.

A queue may have millions of rows. So a walk goes by key, some messages at a time, each
piece by a query of its own in a thread that reads: nobody waits for it, no piece is
long, and the ledger's log can start anew in between. What changes meanwhile may or may
not be seen; who changes something looks again at what is there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import idna

from twisted_mta.errors import BadFilter, NoSuchQueueId
from twisted_mta.interfaces import ILedger, ITransaction, SqlValue
from twisted_mta.mail.filter import NULL, Filter, address, at_domain, like
from twisted_mta.mail.ids import from_text, to_text

#: What a selection is a condition on. The index of C{hop} by message, or the one by
#: next hop and message, gives the rows in order of time without sorting.
ROWS = (
    "hop h JOIN queued q ON q.id = h.queued_id JOIN recipient r ON r.hop_id = h.id"
    " WHERE"
)

#: The order of a listing.
ORDER = "ORDER BY h.queued_id, h.id, r.address"

#: What a row is, as an expression.
STATE = (
    "CASE WHEN h.lease <> '' AND h.due > ? THEN 'active'"
    " WHEN h.held = 1 THEN 'held' WHEN h.held = 2 THEN 'frozen' ELSE 'waiting' END"
)

#: The domain of an address: what comes after its last C{@}.
DOMAIN = "REPLACE(r.address, RTRIM(r.address, REPLACE(r.address, '@', '')), '')"

# Recipients of a change's piece: some 10 ms of the writer's time.
_CHANGED = 400

# Rows of a count's piece: some 30 ms in a thread that reads.
_COUNTED = 10_000

Chosen = tuple[int, str]


@dataclass(slots=True)
class Selection:
    """A condition on L{ROWS}, with its values in order."""

    conditions: list[str] = field(default_factory=list)
    values: list[SqlValue] = field(default_factory=list)

    def need(self, condition: str, *values: SqlValue) -> None:
        """One more thing that has to be so."""
        self.conditions.append(condition)
        self.values += values

    def where(self, *more: str) -> str:
        """All of it."""
        return " AND ".join([*self.conditions, *more]) or "1 = 1"


def select(filter: Filter, now: float) -> Selection:
    """The rows that are meant.

    @param now: seconds since the epoch.
    """
    found = Selection()
    if filter.ids:
        marks = ", ".join("?" * len(filter.ids))
        found.need(f"h.queued_id IN ({marks})", *map(from_text, filter.ids))
    if filter.states:
        marks = ", ".join("?" * len(filter.states))
        found.need(f"{STATE} IN ({marks})", now, *filter.states)
    if filter.sender == NULL:
        found.need("q.sender IS NULL")
    elif filter.sender is not None:
        found.need(_LIKE.format("q.sender"), like(address(filter.sender)))
    if filter.recipient is not None:
        found.need(_LIKE.format("r.address"), like(address(filter.recipient)))
    if filter.domain is not None:
        found.need(_LIKE.format("r.address"), like(at_domain(filter.domain)))
    _select_way(found, filter)
    if filter.account is not None:
        found.need(_LIKE.format("q.login"), like(address(filter.account)))
    if filter.error is not None:
        found.need(_LIKE.format("r.diagnostic"), like(f"*{filter.error}*"))
    if filter.older_s is not None:
        found.need("q.queued_at <= ?", now - filter.older_s)
    if filter.younger_s is not None:
        found.need("q.queued_at > ?", now - filter.younger_s)
    return found


_LIKE = "{} LIKE ? ESCAPE '!'"


def _select_way(found: Selection, filter: Filter) -> None:
    if filter.site is not None:
        if "*" in filter.site:
            found.need(_LIKE.format("h.next_hop"), like(filter.site))
        else:  # by the index
            found.need("h.next_hop = ?", next_hop(filter.site))
    if filter.agent is not None:
        found.need(_LIKE.format("h.agent"), like(filter.agent))


def next_hop(site: str) -> str:
    """A next hop as rows have it: domains in lower case and as A-labels (RFC 5890), a
    host in brackets or a socket's path as the config writes it."""
    if site.startswith("[") or "/" in site:
        return site
    if site.isascii():
        return site.lower()
    try:
        return idna.encode(site, uts46=True).decode("ascii")
    except idna.IDNAError:
        return site.lower()


def existing(transaction: ITransaction, ids: Sequence[str]) -> None:
    """@raise NoSuchQueueId: one of the messages is not in the queue."""
    for id in ids:
        found = transaction.execute(
            "SELECT 1 FROM queued WHERE id = ?", (from_text(id),)
        )
        if next(iter(list(found)), None) is None:
            raise NoSuchQueueId(f"No message {id!r} in the queue")


async def pieces(
    ledger: ILedger, filter: Filter, now: float
) -> AsyncIterator[Sequence[Chosen]]:
    """Recipients that are meant, as row and address, the oldest message first and
    those of a message always together.

    @raise BadFilter: it means everything, and does not say so.
    @raise NoSuchQueueId: it names a message that is not there.
    """
    if filter.empty and not filter.everything:
        raise BadFilter("That would be the whole queue; say so if you mean it")
    selection = select(filter, now)
    after = -1
    while True:

        def query(
            transaction: ITransaction, after: int = after
        ) -> Sequence[tuple[Any, ...]]:
            if after < 0:
                existing(transaction, filter.ids)
            return _piece(transaction, selection, after)

        found = await ledger.read(query)
        if not found:
            return
        after = found[-1][0]
        yield [(hop, recipient) for _, hop, recipient in found]


def _piece(
    transaction: ITransaction, selection: Selection, after: int
) -> Sequence[tuple[int, int, str]]:
    """Message, row and address of the next recipients."""
    sql = f"SELECT h.queued_id, h.id, r.address FROM {ROWS} "
    more = selection.where("h.queued_id > ?")
    values = *selection.values, after, _CHANGED
    rows: list[Any] = list(transaction.execute(f"{sql}{more} {ORDER} LIMIT ?", values))
    if len(rows) < _CHANGED:
        return rows
    last = rows[-1][0]
    whole = [row for row in rows if row[0] != last]
    if whole:
        return whole
    # One message with more recipients than a piece has.
    more = selection.where("h.queued_id = ?")
    return list(transaction.execute(f"{sql}{more} {ORDER}", (*selection.values, last)))


async def stretches(
    ledger: ILedger,
    what: str,
    before: Sequence[SqlValue],
    selection: Selection,
    group: str = "",
) -> AsyncIterator[Sequence[tuple[Any, ...]]]:
    """A query over the whole queue, in stretches of keys: its rows of each stretch.
    No message is in two of them.

    @param what: its columns, with C{before} for their values.
    @param group: what comes behind the condition.
    """
    low = -1
    while low != _LAST:
        query = partial(_stretch, what, before, selection, group, low)
        low, rows = await ledger.read(query)
        yield rows


def _stretch(
    what: str,
    before: Sequence[SqlValue],
    selection: Selection,
    group: str,
    low: int,
    transaction: ITransaction,
) -> tuple[int, list[tuple[Any, ...]]]:
    """One stretch, behind a key.

    @return: its last key, and its rows.
    """
    ends = transaction.execute(
        "SELECT queued_id FROM hop WHERE queued_id > ? ORDER BY queued_id"
        " LIMIT 1 OFFSET ?",
        (low, _COUNTED),
    )
    high = next((int(end) for (end,) in list(ends)), _LAST)
    where = selection.where("h.queued_id > ?", "h.queued_id <= ?")
    values = *before, *selection.values, low, high
    sql = f"SELECT {what} FROM {ROWS} {where} {group}"
    return high, list(transaction.execute(sql, values))


# Above every id.
_LAST = (1 << 63) - 1


def key(row: tuple[int, int, str]) -> str:
    """Where a listing goes on: behind this message, row and address."""
    return f"{to_text(row[0])}.{row[1]}.{row[2]}"


def after(selection: Selection, text: str) -> None:
    """Only what comes behind a key.

    @raise BadFilter: it is none that L{key} wrote.
    """
    message, _, rest = text.partition(".")
    hop, _, recipient = rest.partition(".")
    try:
        last = from_text(message), int(hop)
    except ValueError:
        raise BadFilter("There is no such page of the listing")
    selection.need(
        "h.queued_id >= ? AND (h.queued_id > ? OR h.id > ?"
        " OR (h.id = ? AND r.address > ?))",
        *(last[0], last[0], last[1], last[1], recipient),
    )
