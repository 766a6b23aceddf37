"""What an operator has ordered for all mail that is to come, as one process knows it:
which next hops are frozen, and what is held when it is accepted.

Both are kept in the ledger, and here a copy that is read anew when the ledger's topic
says that it changed: accepting a message costs no query. Another process's order is
known here some milliseconds after it was given (two seconds if the hint is lost).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_mta.errors import MailError
from twisted_mta.interfaces import Cancel, ILedger, ITransaction
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.filter import read
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.route import ToAgent
from twisted_mta.mail.standing import Rule

#: The ledger's topic of these orders.
TOPIC = "standing"

#: What C{hop.held} can be.
FREE, HELD, FROZEN = 0, 1, 2

# After the ledger failed.
_TROUBLE_S = 5.0

#: Rules that there may be: each is held against each message for elsewhere, 1 us a
#: piece, and those that fit its sender and account against each of its recipients.
RULES_MOST = 100


class Standing:
    """The orders that stand.

    @ivar frozen: the next hops that are not tried.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, ledger: ILedger) -> None:
        self._clock = clock
        self._ledger = ledger
        self.frozen: frozenset[str] = frozenset()
        self._rules: Sequence[Rule] = ()
        self._unwatch: Cancel | None = None
        self._reading: Deferred[None] | None = None
        self._again = False
        self._later: IDelayedCall | None = None

    async def open(self) -> None:
        """Read them, and from now on when they change.

        @raise MailError: they cannot be read.
        """
        self._unwatch = self._ledger.watch(TOPIC, self._changed)
        await self._read()

    async def close(self) -> None:
        """Read them no more."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        if self._reading is not None:
            await self._reading
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def held(
        self,
        transaction: ITransaction,
        envelope: Envelope,
        routes: Sequence[ToAgent],
    ) -> Sequence[tuple[int, str]]:
        """What rows that are accepted begin with: for each C{hop.held}, and why if it
        is held."""
        rules = self._rules_for(envelope) if self._rules else ()
        sites = {route.next_hop for route in routes} if self.frozen else ()
        stopped = self._still_frozen(transaction, sites)
        return [self._held(envelope, route, rules, stopped) for route in routes]

    def _held(
        self,
        envelope: Envelope,
        route: ToAgent,
        rules: Sequence[Rule],
        stopped: Collection[str],
    ) -> tuple[int, str]:
        if route.hold:
            return HELD, "held by its route"
        if envelope.quarantined:
            return HELD, "quarantined by a policy"
        for rule in rules:
            if rule.filter.fits_way(str(route.recipient), route.agent, route.next_hop):
                reason = f": {rule.reason}" if rule.reason else ""
                return HELD, f"held by rule {rule.id}{reason}"
        return (FROZEN if route.next_hop in stopped else FREE), ""

    def _rules_for(self, envelope: Envelope) -> Sequence[Rule]:
        """The rules that some recipient of a message may fit."""
        sender = "" if envelope.sender is None else str(envelope.sender)
        account = envelope.origin.login
        return [rule for rule in self._rules if rule.filter.fits_from(sender, account)]

    def thawed(
        self, transaction: ITransaction, rows: Sequence[tuple[Any, ...]]
    ) -> Sequence[tuple[Any, ...]]:
        """Those of the rows to be claimed whose next hops are not frozen. One that is
        was accepted by a process that did not know it yet, and is put aside.

        @param rows: begin with the row's id, and have the next hop at 7.
        """
        sites = {row[7] for row in rows} if self.frozen else ()
        stopped = self._still_frozen(transaction, sites)
        if not stopped:
            return rows
        stray = [(FROZEN, row[0]) for row in rows if row[7] in stopped]
        transaction.executemany("UPDATE hop SET held = ? WHERE id = ?", stray)
        return [row for row in rows if row[7] not in stopped]

    def _still_frozen(
        self, transaction: ITransaction, sites: Collection[str]
    ) -> Collection[str]:
        """Those of some next hops that are frozen. The copy may not know yet that one
        was thawed, and whoever thaws looks for rows only once: none is to be put aside
        after that. So where the copy says so the ledger is asked, 10 us."""
        known = [site for site in sites if site in self.frozen]
        return set(known).intersection(frozen(transaction)) if known else ()

    def _changed(self) -> None:
        if self._reading is not None:
            self._again = True
        else:
            self._reading = Deferred.fromCoroutine(self._keep_up())
            if self._reading.called:
                self._reading = None

    async def _keep_up(self) -> None:
        try:
            await self._read()
            while self._again:
                self._again = False
                await self._read()
        except MailError as error:
            self._log.warn("orders for the queue cannot be read: {why}", why=error.text)
            self._look_again()
        except Exception:
            self._log.failure("orders for the queue cannot be read")
            self._look_again()
        finally:
            self._reading = None

    def _look_again(self) -> None:
        if self._later is None and self._unwatch is not None:
            self._later = self._clock.callLater(_TROUBLE_S, self._retry)

    def _retry(self) -> None:
        self._later = None
        self._changed()

    async def _read(self) -> None:
        self.frozen, self._rules = await self._ledger.read(_orders)


def _orders(transaction: ITransaction) -> tuple[frozenset[str], Sequence[Rule]]:
    return frozenset(frozen(transaction)), rules(transaction)


def frozen(transaction: ITransaction) -> list[str]:
    """The next hops that are frozen."""
    return [site for (site,) in transaction.execute("SELECT next_hop FROM frozen")]


def rules(transaction: ITransaction) -> Sequence[Rule]:
    """The hold rules, the oldest first."""
    rows = transaction.execute(
        "SELECT id, added_at, who, reason, filter FROM hold_rule ORDER BY id"
    )
    return tuple(
        Rule(to_text(id), added_at, who, reason, read(text))
        for id, added_at, who, reason, text in rows
    )
