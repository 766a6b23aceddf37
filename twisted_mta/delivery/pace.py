"""How many messages a site gets in a time.

The generic cell rate algorithm (a leaky bucket that is one number): each message takes
its share of the time, and up to a second's worth may go at once, so that a high rate
costs no timer for each message. It knows no clock: the time is given. A clock that is
set back delays nothing by more than one message's share.
"""

from __future__ import annotations

# What may go at once, in seconds of the rate; one message in any case.
_BURST_S = 1.0


class Pace:
    """The rate of one site.

    @param count: how many messages, more than 0,
    @param seconds: in so long.
    """

    __slots__ = ("_each_s", "_next", "_slack_s")

    def __init__(self, count: int, seconds: float) -> None:
        self._each_s = seconds / count
        self._slack_s = max(0.0, min(_BURST_S, seconds) - self._each_s)
        self._next = float("-inf")

    def wait_s(self, now: float) -> float:
        """How long until the next message may go; 0: it may."""
        wait_s = self._next - self._slack_s - now
        return max(0.0, min(wait_s, self._each_s))

    def took(self, now: float) -> None:
        """A message goes."""
        # What was not used before is not kept.
        begin = max(min(self._next, now + self._slack_s + self._each_s), now)
        self._next = begin + self._each_s
