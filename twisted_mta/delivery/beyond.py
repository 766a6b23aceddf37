"""When to look for mail beyond that for busy hops.

Behind many rows for a hop that has enough to do may be some for others. To find them
those many have to be passed over, one by one, for as long as that hop is busy: half a
microsecond each. So it is not done each time something happens, but as often as it
takes a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Set

from twisted.internet.interfaces import IReactorTime

# So long at least after a look that found nothing, and at most after any.
_LEAST_S = 0.05
_MOST_S = 5.0

# The pause after a look, in times that it took.
_PAUSES = 9


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
        return max(0.0, self._until - self._clock.seconds())

    def looked(self, busy: Set[object], took_s: float, found: bool) -> None:
        """A look has come to its end.

        @param found: something that is due.
        """
        if busy:
            pause_s = max(min(took_s * _PAUSES, _MOST_S), 0.0 if found else _LEAST_S)
            self._busy, self._until = busy, self._clock.seconds() + pause_s
