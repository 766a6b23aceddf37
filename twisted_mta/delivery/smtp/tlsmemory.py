"""Which hosts had TLS lately, so that it is noticed when one has none any more.

Whoever sits on the way can take STARTTLS out of what a host offers, and mail that takes
TLS where it can (RFC 7435) then goes in the clear. A host that had it within the month
is worth a word in the log, or waiting. It does not find out who answers for the DNS:
that other host never had TLS. What is known is in the ledger, for all processes, and
written at most once a day for each host.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING

from twisted.logger import Logger

from twisted_mta.delivery.smtp.outcome import TlsFailed, deferred
from twisted_mta.errors import Temporary
from twisted_mta.interfaces import ILedger, ITransaction

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

_DAY_S = 86400.0

# A host without TLS for longer has given it up.
_LATELY_S = 30 * _DAY_S

# Hosts that this process knows to be written down, and not to be; the latter for so
# long: another may have written them.
_KNOWN = 10_000
_NEVER_S = 300.0

# Rows that one writing forgets.
_FORGOTTEN = 100


class Recall(Enum):
    """What is done about a host that had TLS."""

    NONE = "none"  # nothing, and nothing is remembered
    WARN = "warn"  # it is said in the log
    DEFER = "defer"  # its mail waits for a while


class TlsMemory:
    """Remembers hosts.

    @param wait_s: how long mail waits at most for the TLS of a host to come back, from
        when it was first missed.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, ledger: ILedger, recall: Recall, wait_s: float
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._recall = recall
        self._wait_s = wait_s
        # Until when no more has to be known of hosts that have TLS, and that have not.
        self._known: OrderedDict[str, float] = OrderedDict()
        self._never: OrderedDict[str, float] = OrderedDict()

    async def met(self, host: str, remote: str, secure: bool) -> None:
        """A session with a host has begun.

        @param remote: the host, as logs and DSNs name it.
        @param secure: with TLS.
        @raise TlsFailed: it is to wait.
        """
        if self._recall is Recall.NONE:
            return
        now = self._clock.seconds()
        if now < (self._known if secure else self._never).get(host, 0.0):
            return
        try:
            last, missed_at = await self._ledger.lookup(lambda t: _read(t, host))
            if secure:
                await self._had(host, now, last, missed_at)
            elif now - last < _LATELY_S:
                await self._missed(host, remote, now, missed_at)
            else:
                _keep(self._never, host, now + _NEVER_S)
        except Temporary as error:
            self._log.warn("tls: not remembered: {why}", why=error.text)

    async def _had(self, host: str, now: float, last: float, missed_at: float) -> None:
        if now - last >= _DAY_S or missed_at:
            await self._ledger.write(lambda t: _write(t, host, now), brief=True)
            last = now
        self._never.pop(host, None)
        _keep(self._known, host, last + _DAY_S)

    async def _missed(
        self, host: str, remote: str, now: float, missed_at: float
    ) -> None:
        """It had TLS, and has none."""
        self._known.pop(host, None)
        if not missed_at:
            missed_at = now
            await self._ledger.write(lambda t: _miss(t, host, now), brief=True)
        waits = self._recall is Recall.DEFER and now - missed_at < self._wait_s
        self._log.warn(
            "tls: {remote} had TLS within the last 30 days, and has none now; {then}",
            remote=remote,
            then="its mail waits" if waits else "its mail goes in the clear",
        )
        if waits:
            text = "The server had TLS lately, and has none now"
            raise TlsFailed(deferred("4.7.5", text, remote), "starttls-not-supported")


def _keep(hosts: OrderedDict[str, float], host: str, until: float) -> None:
    hosts[host] = until
    hosts.move_to_end(host)
    if len(hosts) > _KNOWN:
        hosts.popitem(last=False)


def _read(transaction: ITransaction, host: str) -> tuple[float, float]:
    """When a host had TLS last, and was first without since; long ago, and never."""
    rows = transaction.execute(
        "SELECT last, missed_at FROM tls_memory WHERE host = ?", (host,)
    )
    for last, missed_at in rows:
        return last, missed_at
    return -_LATELY_S, 0.0


def _write(transaction: ITransaction, host: str, now: float) -> None:
    transaction.execute(
        "INSERT INTO tls_memory (host, last, days, missed_at) VALUES (?, ?, 1, 0)"
        " ON CONFLICT (host) DO UPDATE SET last = excluded.last,"
        " days = tls_memory.days + 1, missed_at = 0",
        (host, now),
    )
    transaction.execute(
        "DELETE FROM tls_memory WHERE host IN (SELECT host FROM tls_memory"
        " WHERE last < ? ORDER BY last LIMIT ?)",
        (now - _LATELY_S, _FORGOTTEN),
    )


def _miss(transaction: ITransaction, host: str, now: float) -> None:
    transaction.execute(
        "UPDATE tls_memory SET missed_at = ? WHERE host = ?", (now, host)
    )
