"""Which of several processes accepts a connection.

All of them wake up when one comes. Who wakes first would have most of them, and
that is no measure of who has time. So a process that has clearly more connections
than another waits a moment before it accepts; the other, if it is not busy, is
faster. Who waits looks whether the other has accepted anything meanwhile, and if
not, it is too busy, and is not waited for in the next moments.
"""

from __future__ import annotations

from typing import Any

from twisted_mta.net.tally import ACCEPTED, ACCEPTING, TOTAL, Memory

# To wake up and accept takes 0.2 ms; on a busy machine a process waits longer
# for a processor.
_WAIT_S = 0.003

# How long one that did not accept is not waited for.
_IMPATIENT_S = 0.01


class Fairness:
    """This process among those that accept.

    @param clock: the reactor.
    @param column: this process's in the memory that all share.
    """

    def __init__(self, clock: Any, memory: Memory, column: int) -> None:
        self._clock = clock
        self._memory = memory
        self._column = column
        self._waited_for: tuple[int, int] | None = None
        self._impatient_until = 0.0

    def begin(self) -> None:
        """This process accepts from now on."""
        self._memory.set(self._column, ACCEPTING, 1)

    def end(self) -> None:
        """It does not any more."""
        self._memory.set(self._column, ACCEPTING, 0)

    def leaves_it(self, port: Any) -> bool:
        """A connection may be there. Is it for another process?

        @param port: if so, it does not look for a moment.
        """
        favourite = self._favourite()
        if favourite is None or self._clock.seconds() < self._impatient_until:
            return self._take()
        progress = favourite, self._memory.get(favourite, ACCEPTED)
        if progress == self._waited_for:
            self._impatient_until = self._clock.seconds() + _IMPATIENT_S
            return self._take()
        self._waited_for = progress
        port.stopReading()
        self._clock.callLater(_WAIT_S, _look_again, port)
        return True

    def _take(self) -> bool:
        self._waited_for = None
        count = self._memory.get(self._column, ACCEPTED) + 1
        self._memory.set(self._column, ACCEPTED, count & 0x3FFFFFFF)
        return False

    def _favourite(self) -> int | None:
        """Who has the fewest connections, if we have clearly more."""
        get = self._memory.get
        least, column = min(
            (get(column, TOTAL), column)
            for column in range(self._memory.columns)
            if column == self._column or get(column, ACCEPTING)
        )
        return column if get(self._column, TOTAL) > least * 9 // 8 + 1 else None


def _look_again(port: Any) -> None:
    if port.connected and not port.disconnecting:
        port.startReading()
