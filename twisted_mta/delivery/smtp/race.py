"""Connecting to several addresses, of which the first that answers is used.

Happy eyeballs (RFC 8305): one after the other is begun, without waiting for the one
before to fail; when one stands the others are given up. Only addresses that are equally
good belong in a race: a better mail exchanger that is slow is not passed over for a
worse one (RFC 5321 5.1). It knows nothing of what is connected.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from twisted_mta.delivery.alarm import Alarm

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

T = TypeVar("T")
C = TypeVar("C")

# RFC 8305 5 recommends 250 ms, for a person who waits, and 2 s at most. Servers that
# are far away take the former to answer, and each further connection is one that a
# server has to take for nothing.
_DELAY_S = 1.0

# Each has a timeout of its own, which is shorter.
_LONG_S = 3600.0


class Race(Generic[T, C]):
    """A race, for one use.

    @param start: begins for one of them. What it raises means that it failed.
    @param drop: ends what came second.
    @ivar failures: those that failed, and why, in order.
    """

    def __init__(
        self,
        clock: IReactorTime,
        start: Callable[[T], Coroutine[Any, Any, C]],
        drop: Callable[[C], None],
    ) -> None:
        self._start = start
        self._drop = drop
        self._alarm = Alarm(clock)
        self._tasks: list[Deferred[None]] = []
        self._running = 0
        self._over = False
        self._first: tuple[T, C] | None = None
        self.failures: list[tuple[T, Exception]] = []

    async def run(self, runners: Sequence[T]) -> tuple[T, C] | None:
        """Run.

        @param runners: who takes part, the one that begins first.
        @return: who came first, and with what; C{None} if all failed.
        """
        try:
            for runner in runners:
                self._begin(runner)
                if runner is not runners[-1]:
                    # A failure is the next one's turn, too.
                    await self._alarm.wait(_DELAY_S)
                if self._first is not None:
                    break
            while self._first is None and self._running:
                await self._alarm.wait(_LONG_S)
            return self._first
        finally:
            self._over = True
            for task in self._tasks:
                task.cancel()

    def _begin(self, runner: T) -> None:
        self._running += 1
        self._tasks.append(Deferred.fromCoroutine(self._run(runner)))

    async def _run(self, runner: T) -> None:
        """The top of a task."""
        try:
            result = await self._start(runner)
        except CancelledError:
            return
        except Exception as error:
            # One that is given up says so in its own way, and has not failed.
            if not self._over:
                self.failures.append((runner, error))
        else:
            if self._over or self._first is not None:
                self._drop(result)
            else:
                self._first = runner, result
        finally:
            self._running -= 1
        self._alarm.wake()
