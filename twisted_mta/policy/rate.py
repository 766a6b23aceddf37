"""How much one network may bring in a time.

Counted in memory, by each process for itself: of several workers each sees its share
of a client's connections.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted_mta.mail.verdict import Progress, Verdict
from twisted_mta.net.admission import network
from twisted_mta.policy.silent import Silent

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# Networks that are counted at the same time; who came least lately is forgotten.
_NETWORKS = 20_000


@dataclass(slots=True)
class _Bucket:
    """What is left of an allowance, as of a moment."""

    left: float
    at: float


class Rate(Silent):
    """Asks at CONNECT, MAIL and RCPT. An allowance comes back evenly over its time
    (a token bucket), so that a burst of that many is possible and then a trickle.

    @param limits: how many of what (C{"connections"}, C{"messages"},
        C{"recipients"}) in a time; C{None}: any number.
    @param interval_s: the time.
    """

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        limits: dict[str, int | None],
        interval_s: float,
    ) -> None:
        super().__init__(name)
        self._clock = clock
        self._limits = limits
        self._interval_s = interval_s
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

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
        key = what, network(host)
        now = self._clock.seconds()
        bucket = self._buckets.pop(key, None) or _Bucket(limit, now)
        back = (now - bucket.at) * limit / self._interval_s
        bucket.left, bucket.at = min(limit, bucket.left + back), now
        self._buckets[key] = bucket
        if len(self._buckets) > _NETWORKS:
            self._buckets.popitem(last=False)
        if bucket.left >= 1:
            bucket.left -= 1
            return None
        reason = f"{key[1]}: more than {limit} {what} in {self._interval_s:g} s"
        text = f"Too many {what} from your network; please try again later"
        leaves = what == "connections"
        return Verdict.tempfail(
            text, reason, code=421 if leaves else 451, disconnect=leaves
        )
