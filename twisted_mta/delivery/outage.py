"""Sites that cannot be reached: which, since when, and when the next one may try.

They are rows of the ledger, so that all processes know of them, also one that starts
later, and what one finds out the others read when a hint comes. There are few changes:
one when a site is found dead, one for each probe that fails, one when it answers. How
long it is until the next probe grows with those that failed.

It does not say who probes: two processes may do it at the same time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime

from twisted_mta.config.schema import Queue as Settings
from twisted_mta.delivery.text import one_line
from twisted_mta.errors import Temporary
from twisted_mta.interfaces import Cancel, ILedger, ITransaction

#: The ledger's topic of outages.
TOPIC = "outage"

#: An agent's name, and the site's.
Key = tuple[str, str]

# The first pause, if the queue's is not shorter: who was restarted is back by then.
# Postfix tries a dead destination again after minimal_backoff_time, 300 s.
_FIRST_S = 60.0

# The pause is longer by up to this part, by chance, as those of single messages.
_SPREAD = 0.1

# What is known at most; the one that was heard of least lately is forgotten, and
# found out anew.
_MOST = 10_000

# Rows of outages that nobody has looked after for so long are removed.
_OLD_S = 7 * 86_400

# The clocks of two processes of one machine are one; this is for a clock that is set.
_CLOCK_S = 5.0


@dataclass(frozen=True, slots=True)
class Outage:
    """A site that is down.

    @ivar since: since when.
    @ivar probe_at: before then nobody tries.
    @ivar pause_s: how long that is from the last failure on.
    @ivar failures: how often it was found down.
    @ivar diagnostic: what was said last.
    """

    since: float
    probe_at: float
    pause_s: float
    failures: int
    diagnostic: str


class Outages:
    """The sites that are down, as one process knows them.

    @param chance: gives a number from 0 up to 1.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ledger: ILedger,
        settings: Settings,
        chance: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._settings = settings
        self._chance = chance
        self._known: OrderedDict[Key, Outage] = OrderedDict()
        self._read_to = float("-inf")
        self._stale = True
        self._unwatch: Cancel | None = None

    def start(self) -> None:
        """Listen to the others."""
        self._unwatch = self._ledger.watch(TOPIC, self._heard)

    def stop(self) -> None:
        """No more."""
        if self._unwatch is not None:
            self._unwatch()

    def _heard(self) -> None:
        self._stale = True

    def of(self, key: Key) -> Outage | None:
        """What is known of a site; C{None}: nothing bad."""
        return self._known.get(key)

    async def refresh(self) -> None:
        """Read what others wrote, if they did.

        @raise Temporary: it cannot be read.
        """
        if not self._stale:
            return
        self._stale = False
        try:
            rows = await self._ledger.read(self._changed)
        except BaseException:
            self._stale = True
            raise
        for agent, site, changed_at, since, probe_at, failures, diagnostic in rows:
            self._read_to = max(self._read_to, changed_at)
            outage = Outage(
                since, probe_at, max(probe_at - changed_at, 0.0), failures, diagnostic
            )
            self._set((agent, site), outage if failures else None)

    def _changed(self, transaction: ITransaction) -> list[tuple[Any, ...]]:
        return list(
            transaction.execute(
                "SELECT agent, site, changed_at, since, probe_at, failures, diagnostic"
                " FROM outage WHERE changed_at >= ? ORDER BY changed_at DESC LIMIT ?",
                (self._read_to - _CLOCK_S, _MOST),
            )
        )[::-1]

    def _set(self, key: Key, outage: Outage | None) -> None:
        self._known.pop(key, None)
        if outage is not None:
            self._known[key] = outage
            if len(self._known) > _MOST:
                self._known.popitem(last=False)

    async def down(self, key: Key, diagnostic: str) -> Outage:
        """A site was found down, for the first time or again. If another process found
        that out just now, it is as that says.

        @raise Temporary: it could not be recorded; this process knows all the same.
        """
        with suppress(Temporary):
            await self.refresh()
        now, before = self._clock.seconds(), self._known.get(key)
        if before is not None and now < before.probe_at:
            return before
        failures = before.failures + 1 if before else 1
        pause_s = self._pause_s(failures)
        outage = Outage(
            before.since if before else now,
            now + pause_s,
            pause_s,
            failures,
            one_line(diagnostic),
        )
        self._set(key, outage)
        await self._write(key, outage)
        return outage

    async def up(self, key: Key) -> None:
        """It answered.

        @raise Temporary: as L{down}.
        """
        before = self._known.get(key)
        if before is not None:
            self._set(key, None)
            now = self._clock.seconds()
            await self._write(key, Outage(now, now, 0.0, 0, ""))

    def _pause_s(self, failures: int) -> float:
        settings = self._settings
        growth = settings.growth_percent / 100
        pause_s = min(_FIRST_S, settings.first_retry) * growth ** min(failures - 1, 64)
        longest = min(pause_s, settings.longest_retry)
        return float(longest * (1 + _SPREAD * self._chance()))

    async def _write(self, key: Key, outage: Outage) -> None:
        now = self._clock.seconds()

        def unit(transaction: ITransaction) -> None:
            transaction.execute("DELETE FROM outage WHERE agent = ? AND site = ?", key)
            transaction.execute(
                "DELETE FROM outage WHERE changed_at < ?", (now - _OLD_S,)
            )
            transaction.execute(
                "INSERT INTO outage (agent, site, changed_at, since, probe_at,"
                " failures, diagnostic) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    *key,
                    now,
                    outage.since,
                    outage.probe_at,
                    outage.failures,
                    outage.diagnostic,
                ),
            )
            transaction.changed(TOPIC)

        await self._ledger.write(unit, brief=True)


def hurry(transaction: ITransaction, now: float) -> None:
    """An operator wants everything tried now: each site may be probed at once, as
    Postfix's flush forgets that destinations are dead. Once: what was found down since
    the order is down, however long it takes to reach all rows.

    @param now: when the order was given.
    """
    transaction.execute(
        "UPDATE outage SET probe_at = ?, changed_at = ?"
        " WHERE failures > 0 AND probe_at > ? AND changed_at <= ?",
        (now, now, now, now),
    )
    transaction.changed(TOPIC)
