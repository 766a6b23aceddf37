"""What is done now and then, in the background.

A chore that fails is done again at its next time; the log says why. One that is under
way when the server stops is cut short: what it does must stand that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mta.delivery.alarm import Alarm
from twisted_mta.errors import Temporary

# A server that has just started has other things to do first.
_FIRST_S = 1.0


class Chore:
    """Does something every so many seconds, and first soon after the start.

    @param what: it is, for the log.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        work: Callable[[], Awaitable[None]],
        every_s: float,
        what: str,
    ) -> None:
        self._work = work
        self._every_s = every_s
        self._what = what
        self._alarm = Alarm(clock)
        self._stopping = False
        self._loop: Deferred[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._loop = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """End, with what is under way."""
        self._stopping = True
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()
            await loop

    async def _run(self) -> None:
        try:
            await self._alarm.wait(_FIRST_S)
            while not self._stopping:
                await self._once()
                await self._alarm.wait(self._every_s)
        except CancelledError:
            pass

    async def _once(self) -> None:
        try:
            await self._work()
        except Temporary as error:
            self._log.warn("{what}: {why}", what=self._what, why=error.text)
        except CancelledError:
            raise
        except Exception:
            self._log.failure("{what} failed; it is done again later", what=self._what)
