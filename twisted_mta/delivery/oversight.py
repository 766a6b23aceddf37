"""The queue and its history in an operator's hands: all that is seen and done.

A command and a web page have the same. It works on the ledger alone, from any process,
whether the server runs or not. What it changes it changes in pieces: a million rows
are many transactions of some milliseconds, and if it is cut short in between, the
pieces before are done and those behind are not. What is done stands in the history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from twisted_mta.delivery import change, story
from twisted_mta.delivery.backlog import WAITING, waiting
from twisted_mta.delivery.change import Order, Way
from twisted_mta.delivery.orders import Orders
from twisted_mta.delivery.record import read_address, read_envelope
from twisted_mta.delivery.rows import of
from twisted_mta.delivery.selection import (
    DOMAIN,
    ORDER,
    ROWS,
    STATE,
    Chosen,
    Selection,
    after,
    key,
    pieces,
    select,
    stretches,
)
from twisted_mta.delivery.selection import next_hop as domain_hop
from twisted_mta.delivery.text import one_line
from twisted_mta.errors import BadFilter, NoSuchQueueId, Permanent
from twisted_mta.interfaces import (
    ILedger,
    IOversight,
    IQueue,
    IRouter,
    ITransaction,
    SqlValue,
)
from twisted_mta.mail.address import Address
from twisted_mta.mail.count import Count, Group, Tally
from twisted_mta.mail.filter import Filter
from twisted_mta.mail.history import Finished, Story
from twisted_mta.mail.ids import from_text
from twisted_mta.mail.job import Page
from twisted_mta.mail.route import (
    NO_MAILING,
    RELEASE,
    Mailing,
    Outcome,
    Result,
    ToAgent,
)

# What a count can be by.
_BY = {
    "state": STATE,
    "domain": DOMAIN,
    "site": "h.next_hop",
    "sender": "COALESCE(q.sender, '<>')",
    "account": "q.login",
    "agent": "h.agent",
    "error": "r.diagnostic",
}

# Groups that are told, and those that are counted at once: of more, the smallest are
# left out, so that a million senders need no memory.
_GROUPS = 1_000
_GROUPS_MOST = 50_000

# Rows that are returned to their senders at a time.
_RETURNED = 40

# RFC 3463 3.8, X.7.1: delivery not authorized, message refused.
_RETURN = "5.7.1"

_Unit = Callable[[Sequence[Chosen], ITransaction], Tally]
Progress = Callable[[Tally], None]


@implementer(IOversight)
class Oversight(Orders):
    """Sees and changes what waits, and what has been.

    @param queue: of the ledger.
    @param router: says where mail goes by the config.
    """

    def __init__(
        self, clock: IReactorTime, ledger: ILedger, queue: IQueue, router: IRouter
    ) -> None:
        super().__init__(clock, ledger)
        self._queue = queue
        self._router = router

    # --- seen ---

    async def waiting(self, filter: Filter, most: int = 1000, page: str = "") -> Page:
        """See L{IOversight.waiting}."""
        now = self._clock.seconds()
        selection = select(filter, now)
        if page:
            after(selection, page)

        def query(transaction: ITransaction) -> Page:
            found = list(
                transaction.execute(
                    f"SELECT h.id, r.address, {WAITING} FROM {ROWS} {selection.where()}"
                    f" {ORDER} LIMIT ?",
                    (*selection.values, most + 1),
                )
            )
            more = ""
            if len(found) > most:
                del found[most:]
                hop, address, message, *_ = found[-1]
                more = key((message, hop, address))
            return Page([waiting(now, *row[2:]) for row in found], more)

        return await self._ledger.read(query)

    async def count(self, filter: Filter, by: str = "") -> Count:
        """See L{IOversight.count}."""
        now = self._clock.seconds()
        if by and by not in _BY:
            raise BadFilter(f"Cannot count by {by!r}; it is one of {', '.join(_BY)}")
        selection = select(filter, now)
        messages = recipients = octets = 0
        what, each = "COUNT(*), MAX(q.size)", "GROUP BY h.queued_id"
        async for rows in stretches(self._ledger, what, (), selection, each):
            messages += len(rows)
            recipients += sum(row[0] for row in rows)
            octets += sum(row[1] for row in rows)
        groups, more = (await self._groups(selection, by, now)) if by else ([], 0)
        return Count(messages, recipients, octets, groups, more)

    async def _groups(
        self, selection: Selection, by: str, now: float
    ) -> tuple[Sequence[Group], int]:
        before: Sequence[SqlValue] = (now,) if by == "state" else ()
        what = f"{_BY[by]}, COUNT(DISTINCT h.queued_id), COUNT(*), MIN(q.queued_at)"
        messages: Counter[str] = Counter()
        recipients: Counter[str] = Counter()
        oldest: dict[str, float] = {}
        left = 0
        async for rows in stretches(
            self._ledger, what, before, selection, "GROUP BY 1"
        ):
            for name, some, many, first in rows:
                messages[name] += some
                recipients[name] += many
                oldest[name] = min(oldest.get(name, first), first)
            if len(recipients) > _GROUPS_MOST:
                kept = recipients.most_common(_GROUPS_MOST // 2)
                left += len(recipients) - len(kept)
                recipients = Counter(dict(kept))
                messages = Counter({name: messages[name] for name, _ in kept})
                oldest = {name: oldest[name] for name, _ in kept}
        largest = recipients.most_common(_GROUPS)
        groups = [
            Group(one_line(name), messages[name], many, oldest[name])
            for name, many in largest
        ]
        return groups, left + len(recipients) - len(groups)

    async def story(self, id: str) -> Story:
        """See L{IOversight.story}."""
        try:
            message = from_text(id)
        except ValueError:
            raise NoSuchQueueId(f"No message {id!r} in the queue or its history")
        now = self._clock.seconds()

        def query(transaction: ITransaction) -> Story:
            rows = transaction.execute(
                f"SELECT {WAITING} FROM {ROWS} h.queued_id = ? {ORDER}", (message,)
            )
            return Story(
                id=id,
                waiting=[waiting(now, *row) for row in rows],
                passage=story.passage(transaction, message),
                events=story.events(transaction, message),
            )

        found = await self._ledger.read(query)
        if found.passage is None and not found.events and not found.waiting:
            raise NoSuchQueueId(f"No message {id!r} in the queue or its history")
        return found

    async def finished(
        self, filter: Filter, most: int = 1000, before: str = ""
    ) -> Sequence[Finished]:
        """See L{IOversight.finished}."""
        now = self._clock.seconds()
        try:
            below = from_text(before) if before else (1 << 63) - 1
        except ValueError:
            raise NoSuchQueueId(f"No message {before!r} in the history")
        return await self._ledger.read(
            lambda transaction: story.finished(transaction, filter, now, most, below)
        )

    # --- done ---

    async def hold(
        self,
        filter: Filter,
        who: str = "",
        reason: str = "",
        told: Progress | None = None,
    ) -> Tally:
        """See L{IOversight.hold}."""
        order = self._order(who, reason)
        unit = partial(change.hold, self._queue.history, order)
        return await self._change(filter, unit, told)

    async def release(
        self, filter: Filter, who: str = "", told: Progress | None = None
    ) -> Tally:
        """See L{IOversight.release}."""
        unit = partial(change.release, self._queue.history, self._order(who))
        return await self._change(filter, unit, told)

    async def flush(self, filter: Filter, told: Progress | None = None) -> Tally:
        """See L{IOversight.flush}."""
        unit = partial(change.flush, bool(filter.ids), self._order(""))
        return await self._change(filter, unit, told)

    async def remove(
        self,
        filter: Filter,
        who: str = "",
        reason: str = "",
        told: Progress | None = None,
    ) -> Tally:
        """See L{IOversight.remove}."""
        order = self._order(who, reason)
        unit = partial(change.remove, self._ledger, self._queue.history, order)
        removed = await self._change(filter, unit, told)
        # What a damaged ledger has of a message without recipients goes, too.
        bare = await self._ledger.read(partial(_bare, list(map(from_text, filter.ids))))
        if bare:
            await self._queue.remove([id for id in filter.ids if from_text(id) in bare])
        return removed

    async def requeue(
        self,
        filter: Filter,
        agent: str = "",
        next_hop: str = "",
        who: str = "",
        told: Progress | None = None,
    ) -> Tally:
        """See L{IOversight.requeue}."""
        order, total = self._order(who), Tally()
        async for chosen in pieces(self._ledger, filter, order.now):
            ways: Mapping[Chosen, Way]
            if agent or next_hop:
                ways = {
                    one: (agent, domain_hop(next_hop or read_address(one[1]).domain))
                    for one in chosen
                }
            else:
                ways = await self._ways_of(chosen)
            unit = partial(
                change.requeue,
                *(self._ledger, self._queue.history, order, ways, bool(filter.ids)),
                chosen,
            )
            total += await self._ledger.write(unit)
            _tell(told, total)
        return total

    async def redirect(
        self, filter: Filter, to: Address, who: str = "", told: Progress | None = None
    ) -> Tally:
        """See L{IOversight.redirect}."""
        order, total = self._order(who), Tally()
        await self._way(to, NO_MAILING)  # or nobody has it, whatever is meant
        async for chosen in pieces(self._ledger, filter, order.now):
            mailings = await self._ledger.read(partial(_mailings, chosen))
            found = {one: await self._way(to, one) for one in {*mailings.values()}}
            ways = {hop: found[mailing] for hop, mailing in mailings.items()}
            unit = partial(
                change.redirect,
                *(self._ledger, self._queue.history, order, to, ways),
                *(bool(filter.ids), chosen),
            )
            total += await self._ledger.write(unit)
            _tell(told, total)
        return total

    async def bounce(
        self,
        filter: Filter,
        text: str = "",
        who: str = "",
        told: Progress | None = None,
    ) -> Tally:
        """See L{IOversight.bounce}."""
        said = one_line(text) or "Returned by an operator of this server"
        outcome = Outcome(Result.FAILED, _RETURN, said)
        order, total = self._order(who), Tally()
        async for chosen in pieces(self._ledger, filter, order.now):
            rows, tally = await self._ledger.write(partial(change.apart, order, chosen))
            await self._return(rows, outcome, who or "an operator")
            # Of those whose senders cannot be told now nobody leaves.
            left = await self._ledger.read(partial(_left, rows))
            total += Tally(tally.messages, tally.recipients - left, tally.busy + left)
            _tell(told, total)
        return total

    async def _return(self, rows: Sequence[int], outcome: Outcome, who: str) -> None:
        """Return rows to their senders."""
        waiting = list(rows)
        while waiting:
            jobs = list(await self._queue.seize(waiting[:_RETURNED]))
            tried = {job.id for job in jobs} or set(waiting[:_RETURNED])
            waiting = [id for id in waiting if id not in tried]
            try:
                while jobs:
                    outcomes = dict.fromkeys(jobs[0].recipients, outcome)
                    await self._queue.settle(jobs[0], outcomes, who)
                    del jobs[0]
            finally:
                await self._queue.give_back(jobs)

    # --- within ---

    def _order(self, who: str, reason: str = "") -> Order:
        return Order(one_line(who), self._clock.seconds(), one_line(reason))

    async def _change(
        self, filter: Filter, unit: _Unit, told: Progress | None
    ) -> Tally:
        """Change all that is meant, piece by piece."""
        total = Tally()
        async for chosen in pieces(self._ledger, filter, self._clock.seconds()):
            total += await self._ledger.write(partial(unit, chosen))
            _tell(told, total)
        return total

    async def _way(self, recipient: Address, mailing: Mailing) -> Way:
        """Where mail goes by the config. What is for mailboxes here, for an alias or
        for a route that holds is accepted anew by the server itself.

        @param mailing: routes may ask whose it is.
        @raise MailError: nowhere.
        """
        routes = (await self._router.route(recipient, mailing)).routes
        match routes:
            case (ToAgent(hold=False) as route,) if route.recipient == recipient:
                return route.agent, route.next_hop
            case _:
                return RELEASE, ""

    async def _ways_of(self, chosen: Sequence[Chosen]) -> Mapping[Chosen, Way]:
        """The same for many, who may not exist any more: then the server finds that
        out, and tells the sender.

        @raise Temporary: it cannot be said now.
        """
        mailings = await self._ledger.read(partial(_mailings, chosen))
        found: dict[tuple[str, Mailing], Way] = {}
        ways: dict[Chosen, Way] = {}
        for hop, address in chosen:
            if hop not in mailings:  # it is gone meanwhile
                continue
            one = address, mailings[hop]
            if one not in found:
                try:
                    found[one] = await self._way(read_address(address), one[1])
                except Permanent:
                    found[one] = RELEASE, ""
            ways[hop, address] = found[one]
        return ways


def _tell(told: Progress | None, total: Tally) -> None:
    if told is not None:
        told(total)


def _mailings(
    chosen: Sequence[Chosen], transaction: ITransaction
) -> Mapping[int, Mailing]:
    """What routes may ask of the messages of some rows, by row."""
    hops = list({hop for hop, _ in chosen})
    messages = dict(of(transaction, "id, queued_id FROM hop WHERE id", hops))
    envelopes = of(
        transaction, "id, envelope FROM queued WHERE id", list({*messages.values()})
    )
    mailings = {id: read_envelope(text).mailing for id, text in envelopes}
    return {
        hop: mailings[message]
        for hop, message in messages.items()
        if message in mailings
    }


def _left(rows: Sequence[int], transaction: ITransaction) -> int:
    found = of(transaction, "COUNT(*) FROM recipient WHERE hop_id", rows)
    return sum(count for (count,) in found)


def _bare(messages: Sequence[int], transaction: ITransaction) -> set[int]:
    """Messages without any recipient."""
    more = (
        " AND NOT EXISTS (SELECT 1 FROM hop h JOIN recipient r ON r.hop_id = h.id"
        " WHERE h.queued_id = q.id)"
    )
    return {
        id for (id,) in of(transaction, "id FROM queued q WHERE q.id", messages, more)
    }
