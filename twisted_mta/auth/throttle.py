"""Slows down clients that guess passwords.

Each failure of a client's network doubles how long its next attempt waits, and
each minute without one halves it, as Dovecot's auth penalty does with its 2 to
15 seconds. A right password does not excuse the wrong ones: whoever owns one
account could guess at the others between. It waits for nothing itself, and its
memory is bounded: the network that failed longest ago is forgotten first.

Where several processes serve, each tells the others of its failures, and they
count together who waits (L{tally <twisted_mta.net.tally>}).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted_mta.net.admission import network
from twisted_mta.net.tally import ITally, Tally

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# Dovecot: AUTH_PENALTY_INIT_SECS and AUTH_PENALTY_MAX_SECS.
_FIRST_S = 2.0
_LONGEST_S = 15.0

# After this long without a failure, the wait is half of what it was.
_HALVED_S = 60.0

# Failures beyond these make nothing longer: 2, 4, 8, 15 s.
_MOST_FAILURES = 4

# Attempts of one network that may wait at the same time: who guesses over fifty
# connections at once gains nothing.
_WAITING = 5

# Networks remembered; some 200 octets each.
_NETWORKS = 20_000


@dataclass(frozen=True, slots=True)
class _Failures:
    count: float
    last_at: float


class Throttle:
    """Counts failures by network."""

    def __init__(
        self,
        clock: IReactorTime,
        tell: Callable[[str], None] = lambda host: None,
        tally: ITally | None = None,
    ) -> None:
        """
        @param tell: called with the address of each failure; whoever it tells
            calls L{heard}.
        @param tally: counts who waits; C{None}: those of this process alone.
        """
        self._clock = clock
        self._tell = tell
        self._tally = Tally() if tally is None else tally
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def __len__(self) -> int:
        """How many networks are remembered."""
        return len(self._failures)

    def delay_s(self, host: str) -> float:
        """How long an attempt from this address waits."""
        count = self._count(network(host))
        return min(_LONGEST_S, _FIRST_S * 2 ** (count - 1)) if count >= 1 else 0.0

    def enter(self, host: str) -> bool:
        """An attempt begins its wait, and ends it with L{leave}.

        @return: whether it may; if not, too many of its network wait already.
        """
        key = _waiting(host)
        if self._tally.add(key, 1) > _WAITING:
            self._tally.add(key, -1)
            return False
        return True

    def leave(self, host: str) -> None:
        """An attempt ended its wait."""
        self._tally.add(_waiting(host), -1)

    def failed(self, host: str) -> None:
        """An attempt from this address failed."""
        self.heard(host)
        self._tell(host)

    def heard(self, host: str) -> None:
        """An attempt from this address failed, perhaps in another process."""
        key = network(host)
        count = min(_MOST_FAILURES, self._count(key) + 1)
        self._failures[key] = _Failures(count, self._clock.seconds())
        self._failures.move_to_end(key)
        if len(self._failures) > _NETWORKS:
            self._failures.popitem(last=False)

    def _count(self, key: str) -> float:
        """Failures, less one for each time that the wait was halved."""
        failures = self._failures.get(key)
        if failures is None:
            return 0
        quiet_s = self._clock.seconds() - failures.last_at
        left = failures.count - quiet_s // _HALVED_S
        if left <= 0:
            del self._failures[key]
            return 0
        return left


def _waiting(host: str) -> str:
    """The key of who waits, apart from those of connections."""
    return f"login {network(host)}"
