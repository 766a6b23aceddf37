"""How many connections there may be at once from one address of ours.

Who is over it waits for one that ends, in the order of asking; connections that are
only kept for the next message are ended first. It knows no sockets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred


class Allowance:
    """Counts connections.

    @param most: C{None}: any number.
    @param spare: called when somebody has to wait: end one that is idle.
    """

    def __init__(self, most: int | None, spare: Callable[[], None]) -> None:
        self._most = most
        self._spare = spare
        self._count = 0
        self._waiting: deque[Deferred[None]] = deque()

    @property
    def wanted(self) -> bool:
        """Somebody waits: what is idle is to be ended."""
        return bool(self._waiting)

    async def take(self) -> Callable[[], None]:
        """Wait until there may be one more.

        @return: to be called when it has ended; more often does nothing.
        """
        if self._most is not None and self._count >= self._most:
            waiting: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(waiting)
            self._spare()
            await waiting  # whoever ended has left its place to us
        else:
            self._count += 1
        return self._ended()

    def _ended(self) -> Callable[[], None]:
        there = True

        def ended() -> None:
            nonlocal there
            if there:
                there = False
                self._leave()

        return ended

    def _leave(self) -> None:
        if self._waiting:
            self._waiting.popleft().callback(None)
        else:
            self._count -= 1
