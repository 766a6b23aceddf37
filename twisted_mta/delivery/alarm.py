"""Something to wait for: a time, or being woken before it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Alarm:
    """Something to wait for: a time, or being woken before it."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: Deferred[None] | None = None
        self._woken = False

    def wake(self) -> None:
        """End the wait; if nobody waits, the next one."""
        if self._waiting is None:
            self._woken = True
            return
        waiting, self._waiting = self._waiting, None
        waiting.callback(None)

    async def wait(self, seconds: float) -> None:
        """Wait until woken, at most so long."""
        if self._woken:
            self._woken = False
            return
        self._waiting = Deferred()
        call = self._clock.callLater(seconds, self.wake)
        try:
            await self._waiting
        finally:
            self._waiting = None
            _cancel(call)


def _cancel(call: IDelayedCall) -> None:
    if call.active():
        call.cancel()
