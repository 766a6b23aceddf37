"""What an operator orders for all mail that is to come: next hops that are frozen, and
rules by which mail is held when it is accepted. L{twisted_mta.delivery.standing} is
who obeys.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime

from twisted_mta.delivery import standing
from twisted_mta.delivery.rows import TOPIC
from twisted_mta.delivery.selection import next_hop
from twisted_mta.delivery.standing import FREE, FROZEN, RULES_MOST
from twisted_mta.delivery.text import one_line
from twisted_mta.errors import BadFilter, NoSuchRule
from twisted_mta.interfaces import ILedger, ITransaction
from twisted_mta.mail.filter import Filter
from twisted_mta.mail.ids import from_text, new_id, to_text
from twisted_mta.mail.standing import Frozen, Rule

# Rows of one piece: some milliseconds of the writer's time.
_AT_ONCE = 500

# Of a next hop: a domain has 255 characters (RFC 1035 2.3.4).
_SITE_MOST = 300


class Orders:
    """Gives and takes back orders."""

    def __init__(self, clock: IReactorTime, ledger: ILedger) -> None:
        self._clock = clock
        self._ledger = ledger

    # --- frozen next hops ---

    async def freeze(self, site: str, who: str = "", reason: str = "") -> int:
        """See L{IOversight.freeze <twisted_mta.interfaces.IOversight.freeze>}. First
        the order, then the rows that are there: what is accepted meanwhile obeys
        already."""
        given = _name(site)
        said = self._clock.seconds(), one_line(who), one_line(reason)

        def unit(transaction: ITransaction) -> str:
            name = _spelt(transaction, given)
            transaction.execute("DELETE FROM frozen WHERE next_hop = ?", (name,))
            transaction.execute(
                "INSERT INTO frozen (next_hop, since, who, reason) VALUES (?, ?, ?, ?)",
                (name, *said),
            )
            transaction.changed(standing.TOPIC)
            return name

        return await self._mark(await self._ledger.write(unit), FREE, FROZEN)

    async def thaw(self, site: str) -> int:
        """See L{IOversight.thaw <twisted_mta.interfaces.IOversight.thaw>}."""
        given = _name(site)

        def unit(transaction: ITransaction) -> str:
            name = _spelt(transaction, given)
            transaction.execute("DELETE FROM frozen WHERE next_hop = ?", (name,))
            transaction.changed(standing.TOPIC)
            return name

        return await self._mark(await self._ledger.write(unit), FROZEN, FREE)

    async def _mark(self, name: str, old: int, new: int) -> int:
        """Change all rows of a next hop, in pieces.

        @return: how many there were.
        """
        after, count = -1, 0
        while True:

            def query(
                transaction: ITransaction, after: int = after
            ) -> list[tuple[int, int]]:
                rows = transaction.execute(
                    "SELECT queued_id, id FROM hop WHERE next_hop = ? AND held = ?"
                    " AND queued_id >= ? ORDER BY queued_id LIMIT ?",
                    (name, old, after, _AT_ONCE),
                )
                return [(message, id) for message, id in rows]

            found = await self._ledger.read(query)
            if not found:
                return count
            changes = [(new, id, old) for _, id in found]

            def unit(
                transaction: ITransaction,
                changes: Sequence[tuple[int, int, int]] = changes,
            ) -> None:
                transaction.executemany(
                    "UPDATE hop SET held = ? WHERE id = ? AND held = ?", changes
                )
                transaction.changed(TOPIC)

            await self._ledger.write(unit)
            count += len(found)
            after = found[-1][0]

    async def frozen(self) -> Sequence[Frozen]:
        """See L{IOversight.frozen <twisted_mta.interfaces.IOversight.frozen>}."""

        def query(transaction: ITransaction) -> Sequence[Frozen]:
            known = {
                str(site): (float(since), str(who), str(reason))
                for site, since, who, reason in transaction.execute(
                    "SELECT next_hop, since, who, reason FROM frozen"
                )
            }
            counts: dict[str, int] = dict(
                transaction.execute(
                    "SELECT next_hop, COUNT(*) FROM hop WHERE held = ?"
                    " GROUP BY next_hop",
                    (FROZEN,),
                )
            )
            # Rows that a thaw which was cut short has left.
            left = 0.0, "", "thawed in part; thaw it again"
            return [
                Frozen(site, *known.get(site, left), counts.get(site, 0))
                for site in sorted({*known, *counts})
            ]

        return await self._ledger.read(query)

    # --- hold rules ---

    async def add_rule(self, filter: Filter, who: str = "", reason: str = "") -> Rule:
        """See L{IOversight.add_rule <twisted_mta.interfaces.IOversight.add_rule>}."""
        if filter.ids or filter.states or filter.error is not None:
            raise BadFilter(
                "A rule is for mail that is to come, which has no id, state or error"
                " yet"
            )
        if filter.older_s is not None or filter.younger_s is not None:
            raise BadFilter("A rule is for mail that is to come, which has no age yet")
        if filter.empty and not filter.everything:
            raise BadFilter("That would hold all mail; say so if you mean it")
        now = self._clock.seconds()
        rule = Rule(to_text(new_id()), now, one_line(who), one_line(reason), filter)

        def unit(transaction: ITransaction) -> None:
            if len(standing.rules(transaction)) >= RULES_MOST:
                raise BadFilter(f"There are {RULES_MOST} rules; remove one first")
            transaction.execute(
                "INSERT INTO hold_rule (id, added_at, who, reason, filter)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    *(from_text(rule.id), rule.added_at, rule.who, rule.reason),
                    filter.written(),
                ),
            )
            transaction.changed(standing.TOPIC)

        await self._ledger.write(unit)
        return rule

    async def remove_rule(self, id: str) -> None:
        """See L{IOversight.remove_rule
        <twisted_mta.interfaces.IOversight.remove_rule>}."""
        try:
            key = from_text(id)
        except ValueError:
            raise NoSuchRule(f"There is no rule {id!r}")

        def unit(transaction: ITransaction) -> None:
            found = transaction.execute("SELECT 1 FROM hold_rule WHERE id = ?", (key,))
            if not list(found):
                raise NoSuchRule(f"There is no rule {id!r}")
            transaction.execute("DELETE FROM hold_rule WHERE id = ?", (key,))
            transaction.changed(standing.TOPIC)

        await self._ledger.write(unit)

    async def rules(self) -> Sequence[Rule]:
        """See L{IOversight.rules <twisted_mta.interfaces.IOversight.rules>}."""
        return await self._ledger.read(standing.rules)


def _name(site: str) -> str:
    """As it was given.

    @raise BadFilter: there can be no such next hop.
    """
    name = site.strip()
    if not name or len(name) > _SITE_MOST or not name.isprintable() or "*" in name:
        raise BadFilter(f"{site[:50]!r} is no next hop; give one domain or [host]:port")
    return name


def _spelt(transaction: ITransaction, site: str) -> str:
    """As rows name it: a next hop of a route is as the config writes it, so if that is
    what was given, and is there, it is meant."""
    for table in ("frozen", "hop"):
        sql = f"SELECT 1 FROM {table} WHERE next_hop = ? LIMIT 1"
        if list(transaction.execute(sql, (site,))):
            return site
    return next_hop(site)
