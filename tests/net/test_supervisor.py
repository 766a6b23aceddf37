"""L{twisted_mta.net.supervisor}, with workers that are none."""

from __future__ import annotations

from collections.abc import Awaitable
from itertools import count
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from twisted_mta.net.channel import Word
from twisted_mta.net.supervisor import IWorker, Supervisor, WorkerFailed

_pids = count(100)


class Worker:
    """Does as the test says.

    @ivar told: the words.
    """

    def __init__(self, boss: Supervisor, number: int, now: float) -> None:
        self._boss = boss
        self.number = self.column = number
        self.started = now
        self.reason = ""
        self.is_ready = False
        self.pid = next(_pids)
        self.told: list[str] = []
        self.killed = False

    def say(self, word: str, **more: Any) -> None:
        self.told.append(word)

    def kill(self) -> None:
        self.killed = True
        self.end("killed by SIGKILL")

    def get_ready(self) -> None:
        """It serves."""
        self.is_ready = True
        self._boss.ready(self)

    def end(self, how: str = "exit status 0", reason: str = "") -> None:
        """It ends."""
        self.reason = reason or self.reason
        self._boss.ended(self, how)


class SupervisorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.hired: list[Worker] = []
        self.heard: list[Word] = []
        self.buried: list[IWorker] = []
        self.no_process = False
        self.supervisor = Supervisor(
            cast(IReactorTime, self.clock),
            self.hire,
            lambda worker, word: self.heard.append(word),
            self.buried.append,
        )

    def hire(self, boss: Supervisor, number: int) -> Worker:
        if self.no_process:
            raise BlockingIOError("no more processes")
        self.hired.append(Worker(boss, number, self.clock.seconds()))
        return self.hired[-1]

    def begun(self, work: Awaitable[None]) -> Deferred[None]:
        return Deferred.fromCoroutine(cast(Any, work))

    def started(self, workers: int = 2) -> list[Worker]:
        """So many workers serve."""
        starting = self.begun(self.supervisor.start(workers))
        for worker in self.hired:
            worker.get_ready()
        self.successResultOf(starting)
        return list(self.hired)

    # --- the start ---

    def test_ready_when_all_are(self) -> None:
        """The start is over when every worker serves."""
        starting = self.begun(self.supervisor.start(3))
        self.assertEqual([worker.number for worker in self.hired], [1, 2, 3])
        for worker in self.hired:
            self.assertNoResult(starting)
            worker.get_ready()
        self.successResultOf(starting)

    def test_one_cannot_start(self) -> None:
        """Then the start fails with what it said; the others can be stopped, and
        none is started again."""
        starting = self.begun(self.supervisor.start(2))
        one, other = self.hired
        other.get_ready()
        one.end("exit status 1", "the ledger cannot be opened")
        failure = self.failureResultOf(starting, WorkerFailed)
        self.assertEqual("the ledger cannot be opened", failure.getErrorMessage())
        stopping = self.begun(self.supervisor.stop(10))
        self.assertEqual(other.told, ["stop"])
        other.end()
        self.successResultOf(stopping)
        self.clock.advance(1000)
        self.assertEqual(len(self.hired), 2)

    def test_one_is_killed_at_the_start(self) -> None:
        """It could say nothing, so how it ended is told."""
        starting = self.begun(self.supervisor.start(2))
        self.hired[1].end("killed by SIGSEGV")
        failure = self.failureResultOf(starting, WorkerFailed)
        self.assertEqual("worker 2: killed by SIGSEGV", failure.getErrorMessage())

    def test_one_hangs_at_the_start(self) -> None:
        """It is killed, and the start fails."""
        starting = self.begun(self.supervisor.start(2))
        self.hired[0].get_ready()
        self.clock.advance(599)
        self.assertNoResult(starting)
        self.clock.advance(1)
        failure = self.failureResultOf(starting, WorkerFailed)
        self.assertEqual(
            "worker 2 was not ready after 600 s", failure.getErrorMessage()
        )
        self.assertEqual([False, True], [one.killed for one in self.hired])

    # --- deaths ---

    def test_one_hangs_later(self) -> None:
        """One that was started again is killed as well, and another is tried."""
        (worker,) = self.started(1)
        worker.end()
        self.clock.advance(0)
        with capturedLogs() as logs:
            self.clock.advance(600)
        self.assertTrue(self.hired[1].killed)
        self.assertIn("was not ready after 600 s", formatEvent(logs[0]))
        self.clock.advance(0)
        self.assertEqual(len(self.hired), 3)

    def test_pauses_grow(self) -> None:
        """A worker that dies is replaced at once, then after 1, 2, 4 ... 60 s."""
        self.started(1)
        for pause in (0, 1, 2, 4, 8, 16, 32, 60, 60):
            self.hired[-1].end("exit status 1")
            before = len(self.hired)
            if pause:
                self.clock.advance(pause - 0.1)
                self.assertEqual(len(self.hired), before)
                self.clock.advance(0.1)
            else:
                self.clock.advance(0)
            self.assertEqual(len(self.hired), before + 1)
        # The tally's column of each is given back.
        self.assertEqual(len(self.buried), 9)

    def test_pauses_begin_anew(self) -> None:
        """Who lived for a minute is replaced at once, whatever was before."""
        self.started(1)
        for _ in range(3):
            self.hired[-1].end()
            self.clock.advance(4)
        self.clock.advance(60)
        self.hired[-1].end()
        before = len(self.hired)
        self.clock.advance(0)
        self.assertEqual(len(self.hired), before + 1)

    def test_places_are_apart(self) -> None:
        """The pause of one place is not that of another."""
        one, other = self.started()
        one.end()
        self.clock.advance(0)
        self.hired[-1].end()
        other.end()
        self.clock.advance(0)
        self.assertEqual([worker.number for worker in self.hired], [1, 2, 1, 2])

    def test_no_process(self) -> None:
        """If the system has no room for a process, it is tried again."""
        (worker,) = self.started(1)
        self.no_process = True
        with capturedLogs() as logs:
            worker.end()
            self.clock.advance(0)
        self.assertIn("no more processes", formatEvent(logs[-1]))
        self.no_process = False
        self.clock.advance(1)
        self.assertEqual(len(self.hired), 2)

    # --- the end ---

    def test_stop(self) -> None:
        """All are told, and awaited; a pause that runs ends."""
        one, other = self.started()
        other.end()
        self.clock.advance(0)
        self.hired[-1].end()
        stopping = self.begun(self.supervisor.stop(10))
        self.assertEqual(one.told, ["stop"])
        self.assertNoResult(stopping)
        one.end()
        self.successResultOf(stopping)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_while_starting(self) -> None:
        """Those that start are told, and the start fails."""
        starting = self.begun(self.supervisor.start(2))
        self.hired[0].get_ready()
        stopping = self.begun(self.supervisor.stop(10))
        self.failureResultOf(starting, WorkerFailed)
        for worker in self.hired:
            self.assertEqual(worker.told, ["stop"])
            worker.end()
        self.successResultOf(stopping)
        self.failureResultOf(self.begun(self.supervisor.start(2)), WorkerFailed)
        self.assertEqual(len(self.hired), 2)

    def test_who_does_not_stop(self) -> None:
        """It is killed in the end."""
        one, other = self.started()
        stopping = self.begun(self.supervisor.stop(10))
        other.end()
        self.clock.advance(9.9)
        self.assertFalse(one.killed)
        self.clock.advance(0.1)
        self.assertTrue(one.killed)
        self.assertFalse(other.killed)
        self.successResultOf(stopping)

    # --- replacing ---

    def test_replace(self) -> None:
        """New ones start one after the other; when all serve the old ones are told,
        one after the other."""
        old = self.started()
        replacing = self.begun(self.supervisor.replace(self.hire, 10))
        self.assertEqual([worker.number for worker in self.hired], [1, 2, 1])
        self.hired[2].get_ready()
        self.assertEqual([worker.number for worker in self.hired], [1, 2, 1, 2])
        self.assertEqual([[], []], [worker.told for worker in old])
        self.hired[3].get_ready()
        self.assertEqual([["stop"], []], [worker.told for worker in old])
        old[0].end()
        self.assertEqual(old[1].told, ["stop"])
        self.assertNoResult(replacing)
        old[1].end()
        self.successResultOf(replacing)
        self.assertEqual(self.supervisor.workers, self.hired[2:])
        self.clock.advance(1000)
        self.assertEqual(len(self.hired), 4)

    def test_replace_by_one_that_cannot_start(self) -> None:
        """The old ones work on, all of them, and the new ones that could are told
        to stop; when an old one dies later, or died meanwhile, what takes its place
        is as it was."""
        old = self.started()
        new: list[Worker] = []

        def hire(boss: Supervisor, number: int) -> Worker:
            new.append(Worker(boss, number, self.clock.seconds()))
            return new[-1]

        replacing = self.begun(self.supervisor.replace(hire, 10))
        new[0].get_ready()
        old[1].end("killed by SIGKILL")
        self.clock.advance(0)
        third = self.hired[2]
        third.get_ready()
        new[1].end("exit status 1", "no such thing")
        self.assertEqual(new[0].told, ["stop"])
        self.assertNoResult(replacing)
        new[0].end()
        failure = self.failureResultOf(replacing, WorkerFailed)
        self.assertEqual("no such thing", failure.getErrorMessage())
        self.assertEqual(self.supervisor.workers, [old[0], third])
        self.assertEqual([[], []], [old[0].told, third.told])
        self.clock.advance(1000)
        self.assertEqual(len(self.hired), 3)
        old[0].end()
        self.clock.advance(60)
        self.assertEqual(len(self.hired), 4)
        self.assertEqual(len(new), 2)

    def test_replace_by_one_that_dies_before_all_serve(self) -> None:
        """One that served for a moment is no better than one that never did."""
        old = self.started()
        replacing = self.begun(self.supervisor.replace(self.hire, 10))
        self.hired[2].get_ready()
        self.hired[2].end("killed by SIGSEGV")
        self.hired[3].end()
        failure = self.failureResultOf(replacing, WorkerFailed)
        self.assertEqual("worker 1: killed by SIGSEGV", failure.getErrorMessage())
        self.assertEqual(self.supervisor.workers, old)

    def test_replace_by_one_that_hangs(self) -> None:
        """It is killed, and the old ones work on."""
        old = self.started()
        replacing = self.begun(self.supervisor.replace(self.hire, 10))
        self.clock.advance(600)
        failure = self.failureResultOf(replacing, WorkerFailed)
        self.assertIn("was not ready", failure.getErrorMessage())
        self.assertEqual(self.supervisor.workers, old)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_replace_without_a_process(self) -> None:
        """If the system has no room for a new one, the old ones work on."""
        old = self.started()
        self.no_process = True
        replacing = self.begun(self.supervisor.replace(self.hire, 10))
        failure = self.failureResultOf(replacing, WorkerFailed)
        self.assertIn("no more processes", failure.getErrorMessage())
        self.assertEqual(self.supervisor.workers, old)

    def test_replace_one_that_dies_meanwhile(self) -> None:
        """The new one is there already."""
        old = self.started(1)
        replacing = self.begun(self.supervisor.replace(self.hire, 10))
        old[0].end("killed by SIGKILL")
        self.hired[1].get_ready()
        self.successResultOf(replacing)
        self.clock.advance(1000)
        self.assertEqual(len(self.hired), 2)

    def test_stop_while_replacing(self) -> None:
        """Old and new ones are told, and none comes after them."""
        old = self.started()
        replacing = self.begun(self.supervisor.replace(self.hire, 10))
        stopping = self.begun(self.supervisor.stop(10))
        self.failureResultOf(replacing, WorkerFailed)
        for worker in (*old, self.hired[2]):
            self.assertEqual(worker.told, ["stop"])
            worker.end()
        self.successResultOf(stopping)
        self.assertEqual(len(self.hired), 3)

    # --- words ---

    def test_words(self) -> None:
        """What all are told, all hear; what one says is heard."""
        one, other = self.started()
        self.supervisor.tell("reload")
        self.assertEqual([one.told, other.told], [["reload"], ["reload"]])
        self.supervisor.heard(one, {"word": "login", "about": "192.0.2.1"})
        self.assertEqual(self.heard, [{"word": "login", "about": "192.0.2.1"}])
