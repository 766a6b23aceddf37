"""Leases of rows that begin, and those of which nobody will tell the end.

An attempt may have come to its end at the next server although the process that made
it did not live to record that. So whoever ends its lease says so in the history.
"""

from collections.abc import Sequence
from typing import Any

from twisted_mta.delivery.history import cut_short
from twisted_mta.delivery.rows import of
from twisted_mta.interfaces import IHistory, ITransaction

#: What L{take} has to know of a row, behind all else that is asked of it.
TAKEN = "h.lease, h.leased_at, q.id"


def take(
    transaction: ITransaction,
    history: IHistory,
    owner: str,
    now: float,
    until: float,
    rows: Sequence[tuple[Any, ...]],
) -> None:
    """Lease rows. One that another process has still not given back had an attempt
    that was cut short.

    @param rows: begin with the row's id, have agent and next hop at 6 and 7, and
        L{TAKEN} from 10 on.
    """
    lost = [
        cut_short(row[12], row[6], row[7], row[11], now)
        for row in rows
        if row[10] not in ("", owner)
    ]
    history.happened(transaction, lost)
    transaction.executemany(
        "UPDATE hop SET lease = ?, due = ?, leased_at = ?, site = '' WHERE id = ?",
        [(owner, until, now, row[0]) for row in rows],
    )


def lose(
    transaction: ITransaction,
    history: IHistory,
    owner: str,
    now: float,
    ids: Sequence[int],
) -> None:
    """Attempts of an owner were cut short."""
    what = "queued_id, agent, next_hop, leased_at FROM hop WHERE id"
    rows = of(transaction, what, ids, " AND lease = ?", owner)
    history.happened(
        transaction,
        [cut_short(id, agent, hop, at, now) for id, agent, hop, at in rows],
    )
