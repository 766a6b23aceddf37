"""Keeps a number of workers running.

It knows neither what they do nor how they are started. One that dies is started
again, at once if it had lived for a while, else after a pause that grows; one that
hangs while it starts is killed. The first start is all or nothing: if one worker
cannot start, the others are stopped and whoever wanted them learns why. So is a
replacement: the old ones work on until a new one is ready for each.

States of a place: a worker I{starts} (until it is ready), I{serves}, I{stops}
(told to, another may be there already), or there is none and a I{pause} runs.
While all are replaced a I{coming} one may be there besides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_mta.net.channel import Word

# Pauses before a worker is started again. Doubled up to the longest, and back to
# the first for one that lived as long as that. systemd's and Dovecot's services
# wait alike.
_PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
_LIVED_S = 60.0

# One that is not ready by then hangs. A start may bring a ledger's schema up to date
# and clear up after a crash, which is nothing to be hurried: systemd gives a
# service 90 s, MariaDB's unit asks for 15 minutes.
_START_S = 600.0


class WorkerFailed(Exception):
    """A worker could not start; the text says why."""


class IWorker(Protocol):
    """A worker, see L{WorkerProcess <twisted_mta.net.workerprocess>}."""

    number: int
    column: int
    started: float
    reason: str
    is_ready: bool

    @property
    def pid(self) -> int: ...

    def say(self, word: str, **more: Any) -> None: ...

    def kill(self) -> None: ...


#: Starts a worker for the place of a number (from 1).
Hire = Callable[["Supervisor", int], IWorker]


class Supervisor:
    """Keeps workers running.

    @param hire: starts them.
    @param heard: called with what workers say besides how they are.
    @param buried: called with each that ended.
    """

    _log = Logger("workers")

    def __init__(
        self,
        clock: IReactorTime,
        hire: Hire,
        heard: Callable[[IWorker, Word], None],
        buried: Callable[[IWorker], None],
    ) -> None:
        self._clock = clock
        self._hire = hire
        self._heard = heard
        self._buried = buried
        # Those that work or will, by place; those that shall take their places; and
        # those that were told to stop.
        self._serving: dict[int, IWorker] = {}
        self._coming: dict[int, IWorker] = {}
        self._leaving: set[IWorker] = set()
        self._pauses: dict[int, IDelayedCall] = {}
        self._patience: dict[IWorker, IDelayedCall] = {}
        self._deaths: dict[int, int] = {}
        self._started = False
        self._stopping = False
        self._failure = ""
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    @property
    def workers(self) -> list[IWorker]:
        """Those that work or will, by place."""
        both = (*self._serving.values(), *self._coming.values())
        return sorted(both, key=lambda worker: worker.number)

    # --- life ---

    async def start(self, count: int) -> None:
        """Start so many workers, and wait until all are ready.

        @raise WorkerFailed: one cannot start, or L{stop} was called; which the
            others are left to.
        """
        for number in range(1, count + 1 if not self._stopping else 1):
            self._start(number)
        await self._until(self._all_ready)
        if self._failure:
            raise WorkerFailed(self._failure)
        if self._stopping:
            raise WorkerFailed("the server stops")
        self._started = True

    async def stop(self, grace_s: float) -> None:
        """Tell all workers to stop and wait for them.

        @param grace_s: after this they are killed.
        """
        self._stopping = True
        for number in tuple(self._pauses):
            self._end_pause(number)
        self._dismiss(self._serving)
        self._dismiss(self._coming)
        self._look()
        await self._gone(list(self._leaving), grace_s)

    async def replace(self, hire: Hire, grace_s: float) -> None:
        """Put a new worker in each place. They start one after the other; when all
        are ready the old ones are told to stop, one after the other.

        @param hire: starts the new ones, and all that come after them.
        @param grace_s: one that was told to stop is killed after this.
        @raise WorkerFailed: a new one cannot start. None of them is left; the old
            ones work on, unless all stop.
        """
        try:
            for number in sorted({*self._serving, *self._pauses}):
                await self._come(number, hire)
        except WorkerFailed:
            await self._gone(self._dismiss(self._coming), grace_s)
            raise
        self._hire = hire
        old, self._serving, self._coming = self._serving, self._coming, {}
        self._leaving.update(old.values())
        for number in self._serving:
            self._end_pause(number)
        for _, worker in sorted(old.items()):
            if worker in self._leaving and not self._stopping:
                worker.say("stop")
                await self._gone([worker], grace_s)

    def tell(self, word: str) -> None:
        """Tell all workers something."""
        for worker in self.workers:
            worker.say(word)

    # --- what workers do ---

    def ready(self, worker: IWorker) -> None:
        """See L{IBoss.ready <twisted_mta.net.workerprocess.IBoss.ready>}."""
        self._end_patience(worker)
        if self._started:
            self._log.info(
                "worker {number} serves, pid={pid}",
                number=worker.number,
                pid=worker.pid,
            )
        self._look()

    def heard(self, worker: IWorker, word: Word) -> None:
        """See L{IBoss.heard <twisted_mta.net.workerprocess.IBoss.heard>}."""
        self._heard(worker, word)

    def ended(self, worker: IWorker, how: str) -> None:
        """See L{IBoss.ended <twisted_mta.net.workerprocess.IBoss.ended>}."""
        self._end_patience(worker)
        self._buried(worker)
        number = worker.number
        if worker in self._leaving:
            self._leaving.discard(worker)
        elif self._coming.get(number) is worker:
            del self._coming[number]
            self._failure = _why(worker, how)
        elif self._serving.get(number) is worker:
            del self._serving[number]
            self._died(worker, how)
        self._look()

    # --- within ---

    def _start(self, number: int) -> None:
        self._pauses.pop(number, None)
        try:
            self._serving[number] = self._hired(self._hire, number)
        except OSError as error:  # the system has no process or memory left
            if not self._started:
                raise
            self._pause(number, 0.0, f"worker {number} cannot start: {error}")

    def _hired(self, hire: Hire, number: int) -> IWorker:
        """@raise OSError: the system has no room for it."""
        worker = hire(self, number)
        self._patience[worker] = self._clock.callLater(_START_S, self._hangs, worker)
        return worker

    def _hangs(self, worker: IWorker) -> None:
        del self._patience[worker]
        worker.reason = f"worker {worker.number} was not ready after {_START_S:g} s"
        worker.kill()

    def _end_patience(self, worker: IWorker) -> None:
        patience = self._patience.pop(worker, None)
        if patience is not None:
            patience.cancel()

    def _died(self, worker: IWorker, how: str) -> None:
        """One ended that nobody had told to."""
        number = worker.number
        if self._started:
            why = f"worker {number} ended ({worker.reason or how}), pid={worker.pid}"
            self._pause(number, self._clock.seconds() - worker.started, why)
        elif not self._failure:
            self._failure = _why(worker, how)

    def _pause(self, number: int, lived_s: float, why: str) -> None:
        """Start another in a while."""
        deaths = 0 if lived_s >= _LIVED_S else self._deaths.get(number, 0)
        pause_s = _PAUSES_S[min(deaths, len(_PAUSES_S) - 1)]
        self._deaths[number] = deaths + 1
        self._log.error("{why}; another starts in {pause:g} s", why=why, pause=pause_s)
        self._pauses[number] = self._clock.callLater(pause_s, self._start, number)

    def _end_pause(self, number: int) -> None:
        pause = self._pauses.pop(number, None)
        if pause is not None:
            pause.cancel()

    async def _come(self, number: int, hire: Hire) -> None:
        """Start a worker for a place that may be taken, and wait for it.

        @raise WorkerFailed: it, or one that came before it, ended instead.
        """
        self._failure = ""
        try:
            self._coming[number] = new = self._hired(hire, number)
        except OSError as error:
            raise WorkerFailed(f"worker {number} cannot start: {error}")
        await self._until(lambda: bool(self._failure or self._stopping) or new.is_ready)
        if self._stopping:
            raise WorkerFailed("the server stops")
        if self._failure:
            raise WorkerFailed(self._failure)

    def _dismiss(self, these: dict[int, IWorker]) -> list[IWorker]:
        """Tell workers to stop, and take their places from them."""
        workers = list(these.values())
        these.clear()
        self._leaving.update(workers)
        for worker in workers:
            worker.say("stop")
        return workers

    async def _gone(self, workers: list[IWorker], grace_s: float) -> None:
        """Wait for the end of workers that were told to stop."""
        kill = self._clock.callLater(grace_s, self._kill, workers)
        await self._until(lambda: self._leaving.isdisjoint(workers))
        if kill.active():
            kill.cancel()

    def _kill(self, workers: list[IWorker]) -> None:
        for worker in workers:
            if worker in self._leaving:
                self._log.error(
                    "worker {number} did not stop, pid={pid}: killed",
                    number=worker.number,
                    pid=worker.pid,
                )
                worker.kill()

    def _all_ready(self) -> bool:
        """Whether the first start is over, one way or the other."""
        return bool(self._failure) or all(one.is_ready for one in self.workers)

    async def _until(self, true: Callable[[], bool]) -> None:
        """Wait until something holds; it is looked at when a worker changes."""
        if not true():
            waiting: Deferred[None] = Deferred()
            self._waiting.append((true, waiting))
            await waiting

    def _look(self) -> None:
        for entry in tuple(self._waiting):
            if entry in self._waiting and entry[0]():
                self._waiting.remove(entry)
                entry[1].callback(None)


def _why(worker: IWorker, how: str) -> str:
    """Why one did not start, in its own words if it said any."""
    return worker.reason or f"worker {worker.number}: {how}"
