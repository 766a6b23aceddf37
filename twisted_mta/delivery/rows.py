"""Rows of the queue, many at once."""

from collections.abc import Sequence
from typing import Any

from twisted_mta.interfaces import ILedger, ITransaction, SqlValue

#: The ledger's topic of everything in the queue.
TOPIC = "queue"

# Values of one statement: a ledger takes some thousands.
_AT_ONCE = 256


def of(
    transaction: ITransaction,
    what: str,
    ids: Sequence[int] | Sequence[bytes],
    more: str = "",
    *values: SqlValue,
) -> list[tuple[Any, ...]]:
    """The rows of some ids.

    @param what: a query up to the column that is to be one of them, from behind
        C{SELECT}.
    @param more: the rest of the query, with its values.
    """
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        # The last is said several times, so that few statements have to be prepared.
        count = 1 << (len(some) - 1).bit_length()
        marks = ", ".join("?" * count)
        given = [*some, *[some[-1]] * (count - len(some)), *values]
        rows += transaction.execute(f"SELECT {what} IN ({marks}){more}", given)
    return rows


def forget(ledger: ILedger, transaction: ITransaction, hops: Sequence[int]) -> None:
    """Take rows that have nothing left to do out of the queue, and with the last
    row of a message its hold on the content."""
    found = of(transaction, "DISTINCT queued_id FROM hop WHERE id", hops)
    messages = [id for (id,) in found]
    transaction.executemany("DELETE FROM hop WHERE id = ?", [(id,) for id in hops])
    rest = of(transaction, "DISTINCT queued_id FROM hop WHERE queued_id", messages)
    others = {id for (id,) in rest}
    drop(ledger, transaction, [id for id in messages if id not in others])


def drop(ledger: ILedger, transaction: ITransaction, messages: Sequence[int]) -> None:
    """Messages whose rows are gone leave the queue."""
    contents = of(transaction, "content_id FROM queued WHERE id", messages)
    transaction.executemany(
        "DELETE FROM queued WHERE id = ?", [(id,) for id in messages]
    )
    for (content,) in contents:
        ledger.release(transaction, content)
