"""A coroutine in the hands of its Stream.

C{Deferred.fromCoroutine} serves any coroutine; what it awaits must be a
Deferred, made, fired and unwound for each wait: 10 us, for each command of each
client. A session waits nearly always for its own Stream, so its Task resumes it
itself: the coroutine awaits L{PAUSE}, and L{Task.resume} sends it the event: 1 us.
What else it awaits are Deferreds as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class Pause:
    """What a coroutine awaits to be resumed by its own Task."""

    __slots__ = ()

    def __await__(self) -> Generator[Pause, Any, Any]:
        return (yield self)


PAUSE = Pause()


class Task:
    """A coroutine that runs.

    @ivar paused: it awaits L{PAUSE}.
    """

    __slots__ = ("_coroutine", "_ended", "paused")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, None],
        ended: Callable[[Failure | None], None],
    ) -> None:
        """
        @param ended: called once at its end, with the failure if it failed.
        """
        self._coroutine = coroutine
        self._ended = ended
        self.paused = False

    def start(self) -> None:
        """Run it up to its first wait."""
        self._run(self._coroutine.send, None)

    def resume(self, value: object) -> None:
        """Go on after a pause.

        @param value: what the C{await} gives.
        """
        self.paused = False
        self._run(self._coroutine.send, value)

    def fail(self, error: BaseException) -> None:
        """Go on after a pause: the C{await} raises."""
        self.paused = False
        self._run(self._coroutine.throw, error)

    def _run(self, step: Callable[[Any], Any], value: object) -> None:
        while True:
            try:
                awaited = step(value)
            except StopIteration:
                self._ended(None)
                return
            except BaseException:
                self._ended(Failure())  # type: ignore[no-untyped-call]
                return
            if awaited is PAUSE:
                self.paused = True
                return
            waiting = _Waiting(self, awaited)
            if not waiting.has_result:
                return
            step, value = waiting.next()  # it was there already


class _Waiting:
    """A Deferred that a coroutine awaits. One that has its result is not
    resumed from within, so that a thousand of them need no stack."""

    __slots__ = ("_result", "_synchronous", "_task", "has_result")

    def __init__(self, task: Task, deferred: Deferred[Any]) -> None:
        self._task = task
        self.has_result = False
        self._synchronous = True
        deferred.addBoth(self._got)
        self._synchronous = False

    def _got(self, result: object) -> None:
        self._result = result
        if self._synchronous:
            self.has_result = True
        else:
            self._task._run(*self.next())

    def next(self) -> tuple[Callable[[Any], Any], object]:
        """What to do with the result."""
        coroutine = self._task._coroutine
        if isinstance(self._result, Failure):
            return coroutine.throw, self._result.value
        return coroutine.send, self._result
