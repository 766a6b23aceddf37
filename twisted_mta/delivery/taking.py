"""Which rows a claim takes, as statements.

Every column that an attempt needs is read here, and becomes a L{Job}. It leases
nothing: that is for the one transaction that L{queue <twisted_mta.delivery.queue>}
makes of these.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from twisted_mta.delivery.flow import flow
from twisted_mta.delivery.lease import TAKEN
from twisted_mta.delivery.record import (
    read_address,
    read_envelope,
    read_notification,
)
from twisted_mta.delivery.rows import of
from twisted_mta.delivery.turn import Hop, other_than
from twisted_mta.interfaces import ITransaction
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.job import Job

#: Rows of one claim, which is made in the reactor's thread: 20 us each.
CLAIMED = 40

# Recipients after which no further row is taken: 1 us each.
_RECIPIENTS = 400


def due(
    now: float,
    busy: Sequence[Hop],
    flows: Sequence[str],
    most: int,
    transaction: ITransaction,
) -> list[int]:
    """The first rows that are due, but for those of some hops and flows."""
    passed_over, values = other_than(busy, flows)
    found = transaction.execute(
        f"SELECT h.id FROM hop h WHERE h.held = 0 AND h.due <= ?{passed_over}"
        " ORDER BY h.due, h.id LIMIT ?",
        (now, *values, most),
    )
    return [id for (id,) in found]


_CLAIM = (
    "h.id, q.envelope, q.content_id, q.prefix, q.size, q.eight_bit, h.agent,"
    f" h.next_hop, h.attempts, h.warned, {TAKEN}, h.flow, h.sender, h.prefix"
    " FROM hop h JOIN queued q ON q.id = h.queued_id WHERE"
)


def these(
    now: float, ids: Sequence[int], transaction: ITransaction
) -> Sequence[tuple[Any, ...]]:
    """Those of some rows that are still due."""
    more = " AND h.held = 0 AND h.due <= ? ORDER BY h.due, h.id"
    return of(transaction, f"{_CLAIM} h.id", ids, more, now)


def free(
    now: float, ids: Sequence[int], transaction: ITransaction
) -> Sequence[tuple[Any, ...]]:
    """Those of some rows that are not being tried, due or not."""
    more = " AND (h.lease = '' OR h.due <= ?) ORDER BY h.id"
    return of(transaction, f"{_CLAIM} h.id", ids, more, now)


def still(
    transaction: ITransaction, owner: str, ids: Sequence[int]
) -> Mapping[int, int]:
    """Those of some rows that an owner has and may try, each with the number of its
    recipients. 5 us a row."""
    recipients = "LEFT JOIN recipient r ON r.hop_id = h.id"  # it may have none left
    what = f"h.id, COUNT(r.hop_id) FROM hop h {recipients} WHERE h.id"
    more = " AND h.held = 0 AND h.lease = ? GROUP BY h.id"
    return dict(of(transaction, what, ids, more, owner))


def first(
    now: float, most: int, transaction: ITransaction
) -> Sequence[tuple[Any, ...]]:
    """The first rows that are due."""
    sql = f"SELECT {_CLAIM} h.held = 0 AND h.due <= ? ORDER BY h.due, h.id LIMIT ?"
    return list(transaction.execute(sql, (now, most)))


def in_turn(
    transaction: ITransaction, rows: Sequence[tuple[Any, ...]], flows: Collection[str]
) -> Sequence[tuple[Any, ...]]:
    """The same rows. Those from before there were flows are given theirs, and left out
    if it is one of some: else they would all be taken, and wait here. So is the login
    of their messages, by which an operator finds them."""
    old = {row[0]: (row[12], read_envelope(row[1])) for row in rows if not row[13]}
    if not old:
        return rows
    transaction.executemany(
        "UPDATE hop SET flow = ? WHERE id = ?",
        [(flow(envelope), id) for id, (_, envelope) in old.items()],
    )
    transaction.executemany(
        "UPDATE queued SET login = ? WHERE id = ?",
        [(envelope.origin.login, id) for id, envelope in old.values()],
    )
    return [
        row for row in rows if row[0] not in old or flow(old[row[0]][1]) not in flows
    ]


def within(
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


def with_recipients(
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


def job(row: tuple[Any, ...], envelope: Envelope) -> Job:
    """A row as agents see it."""
    id, _, content, prefix, size, eight_bit, agent, next_hop, *rest = row
    attempts, warned, *_, sender, own_prefix, to = rest
    if own_prefix is not None:
        prefix, size = own_prefix + prefix, size + len(own_prefix)
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
        rewritten=None if sender is None else read_address(sender),
    )
