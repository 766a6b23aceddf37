"""How many attempts at one site run at the same time: more as it answers, fewer as it
does not.

Postfix's scheduler (SCHEDULER_README): it begins with a few; a whole window of answers
makes the window one larger, a whole window of failures makes it one smaller, and a
window's worth of failures with no answer between them means that nobody is there. It
knows no clock and no site; what counts as an answer is the caller's.
"""

from __future__ import annotations

# Windows of failures in a row after which a site is dead. Postfix:
# default_destination_concurrency_failed_cohort_limit.
_COHORTS = 1.0

# Sums of n-ths are not exactly 1.
_ROUNDING = 1e-9


class Window:
    """The concurrency of one site.

    @ivar size: attempts at the same time; from 1, or 0 if C{most} is 0.
    """

    __slots__ = ("_better", "_cohorts", "_most", "_wanted", "_worse", "size")

    def __init__(self, initial: int, most: int) -> None:
        """
        @param initial: where it begins, at most C{most}.
        """
        self._wanted = initial
        self._most = most
        self.begin()

    def begin(self) -> None:
        """Begin anew: nothing is known of the site."""
        self.size = min(max(self._wanted, 1), self._most)
        self._better = self._worse = self._cohorts = 0.0

    def bound(self, most: int) -> None:
        """Another limit holds from now on."""
        self._most = most
        self.size = min(max(self.size, 1), most)

    def answered(self) -> None:
        """An attempt reached somebody, whatever the answer was."""
        self._cohorts = 0.0
        if self.size >= self._most:
            return
        self._better += 1 / self.size if self.size else 1.0
        if self._better >= 1 - _ROUNDING:
            self._better = self._worse = 0.0
            self.size += 1

    def failed(self) -> bool:
        """An attempt reached nobody.

        @return: whether the site is dead.
        """
        share = 1 / max(self.size, 1)
        self._cohorts += share
        self._worse += share
        if self._worse >= 1 - _ROUNDING and self.size > 1:
            self._worse = self._better = 0.0
            self.size -= 1
        return self._cohorts >= _COHORTS - _ROUNDING
