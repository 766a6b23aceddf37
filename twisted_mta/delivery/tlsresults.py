"""Counts how TLS went, by domain and day (RFC 8460 4).

A session costs an entry in memory; once a minute all of them are added to the ledger,
so that what is known survives a restart, but for what a crash takes of the last minute.
All domains are counted: who wants to know is asked when the day is over
(L{twisted_mta.delivery.tlsreports}). Servers choose what goes wrong, and so how many
different counts there are: beyond a number of them they are not kept apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.errors import Temporary
from twisted_mta.interfaces import ILedger, ITlsResults, ITransaction
from twisted_mta.mail.tlsreport import (
    DAY_S,
    Failure,
    Policy,
    write_failure,
    write_policy,
)

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: How often they are written.
FLUSH_S = 60.0

# Different counts of a minute in memory, 500 octets each; and of a day in the ledger.
_PENDING_MOST = 10_000
_DAY_MOST = 200_000

_ADD = (
    "INSERT INTO tls_result (day, domain, policy, failure, sessions)"
    " VALUES (?, ?, ?, ?, ?) ON CONFLICT (day, domain, policy, failure)"
    " DO UPDATE SET sessions = tls_result.sessions + excluded.sessions"
)
_ADD_TO = (
    "UPDATE tls_result SET sessions = sessions + ?"
    " WHERE day = ? AND domain = ? AND policy = ? AND failure = ?"
)

_Key = tuple[int, str, Policy, Failure | None]


@implementer(ITlsResults)
class TlsResults:
    """Counts."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        ledger: ILedger,
        most: int = _PENDING_MOST,
        day_most: int = _DAY_MOST,
    ) -> None:
        """
        @param most: different counts until they are written, and
        @param day_most: of one day.
        """
        self._clock = clock
        self._ledger = ledger
        self._most = most
        self._day_most = day_most
        self._pending: Counter[_Key] = Counter()

    def count(self, domain: str, policy: Policy, failure: Failure | None) -> None:
        """See L{ITlsResults.count}."""
        day = int(self._clock.seconds() // DAY_S)
        key = day, domain, policy, failure
        if key not in self._pending and len(self._pending) >= self._most:
            if failure is None:
                return
            # Which host it was is not kept apart any more; nothing new comes in.
            key = day, domain, policy, Failure(failure.result)
            if key not in self._pending and len(self._pending) >= 2 * self._most:
                return
        self._pending[key] += 1

    async def flush(self) -> None:
        """Write what was counted since the last time."""
        pending, self._pending = self._pending, Counter()
        if not pending:
            return
        rows = [
            (day, domain, write_policy(policy), write_failure(failure), sessions)
            for (day, domain, policy, failure), sessions in pending.items()
        ]
        try:
            await self._ledger.write(lambda t: _add(t, rows, self._day_most))
        except Temporary as error:
            self._log.warn("tls results: not written yet: {why}", why=error.text)
            # Anew, so that what has come meanwhile has its place first.
            for key, sessions in pending.items():
                if key in self._pending or len(self._pending) < self._most:
                    self._pending[key] += sessions


def _add(
    transaction: ITransaction,
    rows: Sequence[tuple[int, str, str, str, int]],
    most: int,
) -> None:
    newest = max(row[0] for row in rows)
    ((there,),) = transaction.execute(
        "SELECT COUNT(*) FROM tls_result WHERE day = ?", (newest,)
    )
    if there + len(rows) <= most:
        transaction.executemany(_ADD, rows)
    else:
        transaction.executemany(_ADD_TO, [(row[4], *row[:4]) for row in rows])
