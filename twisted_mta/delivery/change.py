"""What an operator changes in the queue, as units of work on some recipients of rows.

A row is tried as a whole. So where only some of its recipients are meant, they get a
row of their own first. A row that is being tried is left as it is, but for what cannot
make anything worse: its whole can be held, and recipients can be removed from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from twisted_mta.delivery.history import also_for
from twisted_mta.delivery.outage import hurry
from twisted_mta.delivery.record import (
    read_address,
    read_notification,
    write_notification,
)
from twisted_mta.delivery.rows import TOPIC, forget, of
from twisted_mta.delivery.selection import Chosen
from twisted_mta.delivery.standing import FREE, FROZEN, HELD, frozen
from twisted_mta.delivery.text import one_line
from twisted_mta.interfaces import IHistory, ILedger, ITransaction
from twisted_mta.mail.address import Address
from twisted_mta.mail.count import Tally
from twisted_mta.mail.dsn import Notification, original
from twisted_mta.mail.history import Event, Kind
from twisted_mta.mail.ids import new_id
from twisted_mta.mail.route import RELEASE

_HOP = (
    "id, queued_id, agent, next_hop, held, due, lease, attempts, warned"
    " FROM hop WHERE id"
)

# Beside another row, which has what the message has on that way alone.
_NEW = (
    "INSERT INTO hop (id, queued_id, agent, next_hop, held, due, lease, attempts,"
    " warned, sender, prefix, flow) SELECT ?, ?, ?, ?, ?, ?, '', ?, ?, sender, prefix,"
    " flow FROM hop WHERE id = ?"
)

Way = tuple[str, str]


@dataclass(slots=True)
class Row:
    """A row of the queue, and those of its recipients that are meant.

    @ivar chosen: these.
    @ivar rest: how many others there are.
    """

    id: int
    queued: int
    agent: str
    next_hop: str
    held: int
    due: float
    lease: str
    attempts: int
    warned: int
    chosen: list[str] = field(default_factory=list)
    rest: int = 0

    def for_later(self, now: float) -> bool:
        """Its sender has it held until a time (RFC 4865) that is still to come."""
        return self.agent == RELEASE and self.due > now

    def apart(self, transaction: ITransaction) -> None:
        """Have those that are meant in a row of their own, if they are not."""
        if self.rest:
            self.move(transaction, self.agent, self.next_hop, self.held)

    def move(
        self, transaction: ITransaction, agent: str, next_hop: str, held: int
    ) -> None:
        """Put those that are meant into a new row, which is this from now on. The old
        one may be empty then: see L{forget}."""
        old, self.id, self.lease, self.rest = self.id, new_id(), "", 0
        self.agent, self.next_hop, self.held = agent, next_hop, held
        transaction.execute(
            _NEW,
            (
                *(self.id, self.queued, agent, next_hop, held, self.due),
                *(self.attempts, self.warned, old),
            ),
        )
        transaction.executemany(
            "UPDATE recipient SET hop_id = ? WHERE hop_id = ? AND address = ?",
            [(self.id, old, address) for address in self.chosen],
        )


@dataclass(frozen=True, slots=True)
class Order:
    """Who changes something, when and why.

    @ivar now: seconds since the epoch.
    """

    who: str
    now: float
    reason: str = ""

    def event(self, row: Row, kind: Kind, address: str = "", text: str = "") -> Event:
        """What is remembered of it."""
        if not address:
            address = _whom(row)
        return Event(
            message_id=row.queued,
            id=new_id(),
            at=self.now,
            kind=kind,
            who=self.who,
            recipient=one_line(address),
            agent=row.agent,
            next_hop=row.next_hop,
            text=text or self.reason,
        )


def _whom(row: Row) -> str:
    """Of whom a row is, for people. The message may have others in other rows."""
    if len(row.chosen) == 1:
        return row.chosen[0]
    of = f" of {len(row.chosen) + row.rest}" if row.rest else ""
    return f"{len(row.chosen)}{of} recipients"


def rows(
    transaction: ITransaction, chosen: Iterable[Chosen], now: float
) -> tuple[list[Row], list[Row]]:
    """The rows of some recipients, as far as they are still there.

    @return: those that nobody has, and those that are being tried.
    """
    meant: dict[int, set[str]] = {}
    for hop, address in chosen:
        meant.setdefault(hop, set()).add(address)
    found = {row[0]: Row(*row) for row in of(transaction, _HOP, list(meant))}
    for hop, address in of(
        transaction, "hop_id, address FROM recipient WHERE hop_id", list(found)
    ):
        if address in meant[hop]:
            found[hop].chosen.append(address)
        else:
            found[hop].rest += 1
    free: list[Row] = []
    busy: list[Row] = []
    for row in found.values():
        if row.chosen:
            (busy if row.lease and row.due > now else free).append(row)
    return free, busy


def tally(changed: Sequence[Row], busy: Sequence[Row] = ()) -> Tally:
    """What was changed, and what was left."""
    return Tally(
        len({row.queued for row in changed}),
        sum(len(row.chosen) for row in changed),
        sum(len(row.chosen) for row in busy),
    )


def hold(
    history: IHistory, order: Order, chosen: Sequence[Chosen], transaction: ITransaction
) -> Tally:
    """No further attempts."""
    free, busy = rows(transaction, chosen, order.now)
    # Of an attempt that runs, all recipients or none are held.
    whole = [row for row in busy if not row.rest]
    changed = [*free, *whole]
    new = [row for row in changed if row.held != HELD]
    events = [order.event(row, Kind.HELD) for row in new]
    for row in free:
        if row.held != HELD:
            row.apart(transaction)
    transaction.executemany(
        "UPDATE hop SET held = ? WHERE id = ?", [(HELD, row.id) for row in new]
    )
    history.happened(transaction, events)
    transaction.changed(TOPIC)
    return tally(changed, [row for row in busy if row.rest])


def release(
    history: IHistory, order: Order, chosen: Sequence[Chosen], transaction: ITransaction
) -> Tally:
    """The end of a hold: due now, or when their sender wanted; those whose next hop is
    frozen when that is thawed."""
    free, busy = rows(transaction, chosen, order.now)
    whole = [row for row in busy if not row.rest]
    held = [row for row in [*free, *whole] if row.held == HELD]
    sites = frozen(transaction) if held else ()
    events = [order.event(row, Kind.RELEASED) for row in held]
    for row in held:
        row.apart(transaction)
    transaction.executemany(
        "UPDATE hop SET held = ?, due = CASE WHEN lease = '' AND agent <> ? THEN ?"
        " ELSE due END WHERE id = ?",
        [
            (FROZEN if row.next_hop in sites else FREE, RELEASE, order.now, row.id)
            for row in held
        ],
    )
    history.happened(transaction, events)
    transaction.changed(TOPIC)
    return tally(held, [row for row in busy if row.rest and row.held == HELD])


def flush(
    named: bool, order: Order, chosen: Sequence[Chosen], transaction: ITransaction
) -> Tally:
    """Tried now.

    @param named: also what its sender has held until a time (RFC 4865).
    """
    free, busy = rows(transaction, chosen, order.now)
    ready = [
        row for row in free if row.held == FREE and (named or row.agent != RELEASE)
    ]
    for row in ready:
        if row.due > order.now:
            row.apart(transaction)
    transaction.executemany(
        "UPDATE hop SET due = ? WHERE id = ? AND due > ?",
        [(order.now, row.id, order.now) for row in ready],
    )
    hurry(transaction, order.now)
    transaction.changed(TOPIC)
    return tally(ready, busy)


def remove(
    ledger: ILedger,
    history: IHistory,
    order: Order,
    chosen: Sequence[Chosen],
    transaction: ITransaction,
) -> Tally:
    """Gone, and nobody is told. An attempt that is running goes on, and may deliver."""
    free, busy = rows(transaction, chosen, order.now)
    all = [*free, *busy]
    history.happened(
        transaction,
        [
            order.event(row, Kind.REMOVED, address)
            for row in all
            for address in row.chosen
        ],
    )
    transaction.executemany(
        "DELETE FROM recipient WHERE hop_id = ? AND address = ?",
        [(row.id, address) for row in all for address in row.chosen],
    )
    forget(ledger, transaction, [row.id for row in all if not row.rest])
    transaction.changed(TOPIC)
    return tally(all)


def apart(
    order: Order, chosen: Sequence[Chosen], transaction: ITransaction
) -> tuple[Sequence[int], Tally]:
    """Rows of their own for some recipients.

    @return: these rows, and how much that is.
    """
    free, busy = rows(transaction, chosen, order.now)
    for row in free:
        row.apart(transaction)
    return [row.id for row in free], tally(free, busy)


def requeue(
    ledger: ILedger,
    history: IHistory,
    order: Order,
    ways: Mapping[Chosen, Way],
    named: bool,
    chosen: Sequence[Chosen],
    transaction: ITransaction,
) -> Tally:
    """Another way, due now. Who is held stays so.

    @param ways: by row and address, to which agent and next hop; an empty agent: as it
        is.
    @param named: also what its sender has held until a time, which has no way yet.
    """
    free, busy = rows(transaction, chosen, order.now)
    if not named:
        free = [row for row in free if not row.for_later(order.now)]
    sites = frozen(transaction) if free else ()
    events: list[Event] = []
    for row in free:
        old = row.id
        for way, part in _by_way(row, ways).items():
            held = HELD if row.held == HELD else FROZEN if way[1] in sites else FREE
            part.due, part.attempts = order.now, 0
            part.move(transaction, *way, held)
            events += [
                order.event(part, Kind.REQUEUED, address) for address in part.chosen
            ]
        _forget_if_empty(ledger, transaction, old, row.rest)
    history.happened(transaction, events)
    transaction.changed(TOPIC)
    return tally(free, busy)


def _by_way(row: Row, ways: Mapping[Chosen, Way]) -> dict[Way, Row]:
    """The recipients of a row, apart by where they go."""
    parts: dict[Way, Row] = {}
    for address in row.chosen:
        agent, next_hop = ways[row.id, address]
        way = agent or row.agent, next_hop
        if way not in parts:
            parts[way] = Row(
                *(row.id, row.queued, row.agent, row.next_hop, row.held, row.due),
                *(row.lease, row.attempts, row.warned),
            )
        parts[way].chosen.append(address)
    return parts


def redirect(
    ledger: ILedger,
    history: IHistory,
    order: Order,
    to: Address,
    ways: Mapping[int, Way],
    named: bool,
    chosen: Sequence[Chosen],
    transaction: ITransaction,
) -> Tally:
    """Another recipient, due now, who is held if one of the old ones was, and has the
    message once.

    @param ways: by row, where that one's mail goes.
    @param named: now is also for what its sender has held until a time; else it waits
        for that.
    """
    free, busy = rows(transaction, chosen, order.now)
    sites = frozen(transaction) if free else ()
    events: list[Event] = []
    # Of several rows of a message the first is what he has.
    for row in sorted(free, key=lambda row: row.held != HELD):
        old, way, asked = row.id, ways[row.id], _asked(transaction, row)
        events += [
            order.event(row, Kind.REDIRECTED, address, f"to <{one_line(str(to))}>")
            for address in row.chosen
        ]
        transaction.executemany(
            "DELETE FROM recipient WHERE hop_id = ? AND address = ?",
            [(old, address) for address in row.chosen],
        )
        rest, count = row.rest, len(row.chosen)
        row.chosen = []
        if not _has(transaction, row.queued, to):
            if row.for_later(order.now) and not named:
                way = row.agent, row.next_hop
            else:
                row.due, row.attempts = order.now, 0
            held = HELD if row.held == HELD else FROZEN if way[1] in sites else FREE
            row.move(transaction, *way, held)
            also_for(transaction, row.queued, to)
            transaction.execute(
                "INSERT INTO recipient (hop_id, address, status, diagnostic, remote,"
                " replied, notification) VALUES (?, ?, '', '', '', 0, ?)",
                (row.id, str(to), asked),
            )
        row.chosen = [str(to)] * count
        _forget_if_empty(ledger, transaction, old, rest)
    history.happened(transaction, events)
    transaction.changed(TOPIC)
    return tally(free, busy)


def _has(transaction: ITransaction, queued: int, recipient: Address) -> bool:
    """Whether a message waits for somebody already."""
    found = transaction.execute(
        "SELECT 1 FROM hop h JOIN recipient r ON r.hop_id = h.id"
        " WHERE h.queued_id = ? AND r.address = ?",
        (queued, str(recipient)),
    )
    return bool(list(found))


def _asked(transaction: ITransaction, row: Row) -> str:
    """What the sender asks to be told of the first of the recipients, who is the one
    that the sender wrote to."""
    first = row.chosen[0]
    (found,) = transaction.execute(
        "SELECT notification FROM recipient WHERE hop_id = ? AND address = ?",
        (row.id, first),
    )
    asked = read_notification(found[0])
    if asked.original is None:
        asked = Notification(asked.notify, original(read_address(first)))
    return write_notification(asked)


def _forget_if_empty(
    ledger: ILedger, transaction: ITransaction, hop: int, rest: int
) -> None:
    if not rest:
        forget(ledger, transaction, [hop])
