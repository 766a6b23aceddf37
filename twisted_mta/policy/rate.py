"""How much one network may bring in a time.

Counted by all workers together (L{tally <twisted_mta.net.tally>}), in windows: what
came in this one, and of the one before as much as is still within the time, as if it
had come evenly. So two numbers are kept of a network, not when each thing came.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from twisted_mta.mail.verdict import Progress, Verdict
from twisted_mta.net.admission import network
from twisted_mta.net.tally import ITally
from twisted_mta.policy.silent import Silent

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# What this process has counted at most; who came least lately is forgotten.
_COUNTS = 10_000

# Counts of windows that are over, taken back with each new one: never many at once.
_TAKEN_BACK = 4


class Rate(Silent):
    """Asks at CONNECT, MAIL and RCPT.

    @param tally: counts.
    @param limits: how many of what (C{"connections"}, C{"messages"},
        C{"recipients"}) in a time; C{None}: any number.
    @param interval_s: the time.
    """

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        tally: ITally,
        limits: dict[str, int | None],
        interval_s: float,
    ) -> None:
        super().__init__(name)
        self._clock = clock
        self._tally = tally
        self._limits = limits
        self._interval_s = interval_s
        self._counts: OrderedDict[tuple[int, str], int] = OrderedDict()

    async def connect(self, progress: Progress) -> Verdict | None:
        return self._take("connections", progress)

    async def mail(self, progress: Progress) -> Verdict | None:
        return self._take("messages", progress)

    async def rcpt(self, progress: Progress) -> Verdict | None:
        return self._take("recipients", progress)

    def _take(self, what: str, progress: Progress) -> Verdict | None:
        limit, host = self._limits.get(what), progress.origin.host
        if limit is None or progress.trusted or not host or host.startswith("/"):
            return None
        where = network(host)
        windows = self._clock.seconds() / self._interval_s
        window = int(windows)
        key = f"{self._interval_s:g} {what} {where}"
        now = self._tally.add(_row(window, key), 0)
        before = self._tally.add(_row(window - 1, key), 0)
        if now + before * (1 - (windows - window)) + 1 <= limit:
            self._count(window, key)
            return None
        reason = f"{where}: more than {limit} {what} in {self._interval_s:g} s"
        text = f"Too many {what} from your network; please try again later"
        leaves = what == "connections"
        return Verdict.tempfail(
            text, reason, code=421 if leaves else 451, disconnect=leaves
        )

    def _count(self, window: int, key: str) -> None:
        counts = self._counts
        self._tally.add(_row(window, key), 1)
        counts[window, key] = counts.pop((window, key), 0) + 1
        # Those of the oldest windows are first, since nothing is added to them.
        for _ in range(_TAKEN_BACK):
            oldest = next(iter(counts))
            if oldest[0] >= window - 1 and len(counts) <= _COUNTS:
                break
            self._tally.add(_row(*oldest), -counts.pop(oldest))


def _row(window: int, key: str) -> str:
    return f"{window} {key}"
