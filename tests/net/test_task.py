"""Coroutines that their Stream resumes."""

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from twisted_mta.net.task import PAUSE, Task


class TaskTests(TestCase):
    """What a session's coroutine can wait for."""

    def task(self, coroutine: Any) -> tuple[Task, list[Failure | None]]:
        """A task that has started, and how it ended."""
        ends: list[Failure | None] = []
        task = Task(coroutine, ends.append)
        task.start()
        return task, ends

    def test_pauses(self) -> None:
        """Each pause gets what the task is resumed with; it ends once."""
        got: list[object] = []

        async def twice() -> None:
            got.append(await PAUSE)
            got.append(await PAUSE)

        task, ends = self.task(twice())
        self.assertTrue(task.paused)
        task.resume("one")
        self.assertEqual((got, ends), (["one"], []))
        task.resume("two")
        self.assertEqual((got, ends), (["one", "two"], [None]))
        self.assertFalse(task.paused)

    def test_raises_at_a_pause(self) -> None:
        """An error is raised where the coroutine waits, which may go on."""
        caught: list[str] = []

        async def careful() -> None:
            try:
                await PAUSE
            except ValueError as error:
                caught.append(str(error))
            await PAUSE

        task, ends = self.task(careful())
        task.fail(ValueError("bad"))
        self.assertEqual(caught, ["bad"])
        self.assertTrue(task.paused)
        task.resume(None)
        self.assertEqual(ends, [None])

    def test_deferreds(self) -> None:
        """A Deferred gives its result, or raises its failure."""
        first: Deferred[int] = Deferred()
        second: Deferred[int] = Deferred()
        got: list[object] = []

        async def waits() -> None:
            got.append(await first)
            try:
                await second
            except KeyError as error:
                got.append(error.args)

        task, ends = self.task(waits())
        self.assertFalse(task.paused)
        first.callback(7)
        second.errback(KeyError("gone"))
        self.assertEqual((got, ends), ([7, ("gone",)], [None]))

    def test_many_results_need_no_stack(self) -> None:
        """A Deferred that has its result already costs no level of recursion."""

        async def many() -> None:
            for number in range(5000):
                self.assertEqual(await succeed(number), number)

        _, ends = self.task(many())
        self.assertEqual(ends, [None])

    def test_failure(self) -> None:
        """What the coroutine raises is told once, with its traceback."""

        async def breaks() -> None:
            await PAUSE
            raise RuntimeError("a bug")

        task, ends = self.task(breaks())
        task.resume(None)
        (failure,) = ends
        assert failure is not None
        self.assertIsInstance(failure.value, RuntimeError)
        self.assertIn("breaks", failure.getTraceback())

    def test_pause_within(self) -> None:
        """A pause counts however deep the coroutine awaits it."""

        async def inner() -> object:
            return await PAUSE

        async def outer(got: list[object]) -> None:
            got.append(await inner())

        got: list[object] = []
        task, ends = self.task(outer(got))
        task.resume("deep")
        self.assertEqual((got, ends), (["deep"], [None]))
