"""When to look for mail beyond that for busy hops.

Behind many rows for a hop that has enough to do may be some for others. To find them
those many have to be passed over, one by one, for as long as that hop is busy: half a
microsecond each. So, if nothing was found, it is not done again each time something
happens, but as often as it takes a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Set

from twisted.internet.interfaces import IReactorTime

# The pause after a look that found nothing, in times that it took; at least and at
# most.
_PAUSES = 9
_LEAST_S = 0.05
_MOST_S = 5.0


class Beyond:
    """Remembers the last look past busy hops."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._busy: Set[object] = frozenset()
        self._until = 0.0

    def pause_s(self, busy: Set[object]) -> float:
        """How long not to look yet. If a hop is busy no more, its own rows are
        looked for, which is now.

        @param busy: whose rows would be passed over.
        """
        if not busy or not busy >= self._busy:
            return 0.0
        left_s = self._until - self._clock.seconds()
        return max(0.0, min(left_s, _MOST_S))  # the clock may be set back

    def in_vain(self, busy: Set[object], took_s: float) -> None:
        """A look found nothing that is due."""
        if busy:
            pause_s = max(_LEAST_S, min(took_s * _PAUSES, _MOST_S))
            self._busy, self._until = busy, self._clock.seconds() + pause_s
