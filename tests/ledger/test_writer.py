"""Group commit: what is promised to each unit of a group."""

import threading
from functools import partial

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.python.failure import Failure

from tests.ledger.case import LedgerCase, note, outcome
from twisted_mta.errors import LedgerUnavailable, NoSuchMailbox
from twisted_mta.interfaces import ITransaction
from twisted_mta.ledger import hints, losthints, writer


class GroupTests(LedgerCase):
    """Several units wait, and are committed together."""

    async def setUp(self) -> None:
        await super().setUp()
        self.runs: list[str] = []
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)
        # While this one runs, the others gather behind it.
        self.first = self.ledger.write(lambda transaction: self.gate.wait())

    def unit(self, word: str, error: Exception | None = None) -> Deferred[str]:
        """Note a word, then fail if told to."""

        def work(transaction: ITransaction) -> str:
            self.runs.append(word)
            note(transaction, word)
            if error is not None:
                raise error
            return word

        return self.ledger.write(work)

    async def test_results(self) -> None:
        """Each caller gets its own unit's result; each unit runs once."""
        waiting = [self.unit(word) for word in "abc"]
        self.gate.set()
        self.assertEqual([await each for each in waiting], ["a", "b", "c"])
        self.assertEqual(self.runs, ["a", "b", "c"])
        self.assertEqual(await self.words(), ["a", "b", "c"])

    async def test_a_failing_unit_hurts_nobody_else(self) -> None:
        """Only its caller gets the error, and nothing of it is kept, whatever
        it did before it failed."""
        waiting = [
            self.unit("a"),
            self.unit("b", NoSuchMailbox()),
            self.unit("c"),
            self.unit("d", ValueError("a bug")),
            self.unit("e"),
        ]
        self.gate.set()
        self.assertEqual(
            [await outcome(each) for each in waiting],
            ["a", NoSuchMailbox, "c", ValueError, "e"],
        )
        self.assertEqual(await self.words(), ["a", "c", "e"])

    async def test_units_run_at_most_twice(self) -> None:
        """However many fail."""
        waiting = [self.unit(word, NoSuchMailbox()) for word in "abcdefgh"]
        waiting.append(self.unit("z"))
        self.gate.set()
        for each in waiting:
            await outcome(each)
        self.assertEqual(max(self.runs.count(word) for word in "abcdefghz"), 2)
        self.assertEqual(await self.words(), ["z"])

    async def test_a_constraint_is_the_units_own_failure(self) -> None:
        """A row that is there already is no failure of the storage."""
        waiting = [self.unit("a"), self.unit("a"), self.unit("b")]
        self.gate.set()
        first, second, third = [await outcome(each) for each in waiting]
        self.assertEqual((first, third), ("a", "b"))
        self.assertNotEqual(second, LedgerUnavailable)
        self.assertIsInstance(second, type)
        self.assertEqual(await self.words(), ["a", "b"])

    async def test_a_cancelled_caller_hurts_nobody(self) -> None:
        """Who does not wait any more is not told; the group is committed."""
        gone, stays = self.unit("a"), self.unit("b")
        failures: list[Failure] = []
        gone.addErrback(failures.append)
        gone.cancel()
        self.gate.set()
        await stays
        self.assertEqual(len(failures), 1)
        self.assertTrue(failures[0].check(CancelledError))
        self.assertEqual(await self.words(), ["a", "b"])

    async def test_watchers(self) -> None:
        """Who watches is called once for a group, for units that were
        committed only, when the change can be read."""
        called: list[str] = []
        for topic in ("word:a", "word:b", "twice", "other"):
            self.ledger.watch(topic, partial(called.append, topic))
        again = lambda transaction: transaction.changed("twice")  # noqa: E731
        waiting = [self.unit("a"), self.unit("b", NoSuchMailbox())]
        waiting += [self.ledger.write(again), self.ledger.write(again)]
        self.gate.set()
        for each in waiting:
            await outcome(each)
        await self.ledger.write(lambda transaction: None)
        self.assertEqual(sorted(called), ["twice", "word:a"])

    async def test_a_watcher_that_fails_hurts_nobody(self) -> None:
        """The others are called, and the units have their results."""
        called: list[str] = []
        self.ledger.watch("word:a", [].pop)
        self.ledger.watch("word:a", lambda: called.append("a"))
        waiting = self.unit("a")
        self.gate.set()
        self.assertEqual(await waiting, "a")
        await self.ledger.write(lambda transaction: None)
        self.assertEqual(called, ["a"])
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)

    async def test_close_commits_what_waits(self) -> None:
        """Closing ends when all that was asked for is done; later units are
        refused."""
        waiting = self.unit("a")
        closing = Deferred.fromCoroutine(self.ledger.close())
        self.gate.set()
        await closing
        self.assertEqual(await waiting, "a")
        self.assertEqual(await outcome(self.unit("b")), LedgerUnavailable)
        self.ledger = await self.another()
        self.assertEqual(await self.words(), ["a"])


class ThreadTests(LedgerCase):
    """Where things run."""

    async def test_units_run_elsewhere_and_results_come_here(self) -> None:
        """A unit never runs in the reactor's thread, its caller always."""
        here = threading.current_thread()
        there = await self.ledger.write(lambda t: threading.current_thread())
        self.assertIsNot(here, there)
        self.assertIs(threading.current_thread(), here)
        there = await self.ledger.read(lambda t: threading.current_thread())
        self.assertIsNot(here, there)
        there = await self.ledger.lookup(lambda t: threading.current_thread())
        self.assertIs(here, there)

    async def test_durable_before_the_caller_knows(self) -> None:
        """When a result comes, other connections see what was committed."""
        other = await self.another()
        for word in ("one", "two"):
            await self.ledger.write(partial(note, word=word))
            found = await other.lookup(
                lambda t, word=word: list(
                    t.execute("SELECT 1 FROM note WHERE word = ?", (word,))
                )
            )
            self.assertEqual(found, [(1,)])

    async def test_two_processes_write_at_once(self) -> None:
        """Neither waits for long nor fails, and all is there."""
        other = await self.another()
        waiting = [
            ledger.write(partial(note, word=f"{name}{number}"))
            for number in range(50)
            for name, ledger in (("a", self.ledger), ("b", other))
        ]
        for each in waiting:
            await each
        self.assertEqual(len(await self.words()), 100)

    async def test_another_process_is_noticed(self) -> None:
        """What another process commits, and does not tell, calls back who watches
        anything."""
        self.patch(hints.Hints, "send", lambda *_: None)
        self.patch(writer, "_LOOK_S", 0.01)
        noticed: Deferred[None] = Deferred()
        cancel = self.ledger.watch("any", lambda: noticed.callback(None))
        other = await self.another()
        await other.write(partial(note, word="from elsewhere"))
        await noticed
        cancel()
        self.assertEqual(await self.words(), ["from elsewhere"])

    async def test_who_is_told_of_another_process_writes(self) -> None:
        """Who is called back between two groups, since another process wrote, may
        write: nothing of what is committed meanwhile is lost."""
        self.patch(writer, "_LOOK_S", 0.001)
        self.patch(losthints.LostHints, "look", lambda *_: True)
        later: list[Deferred[str]] = []

        def write() -> None:
            word = f"later {len(later)}"
            if len(later) < 200:
                later.append(self.ledger.write(partial(note, word=word), brief=True))

        self.ledger.watch("any", write)
        number = 0
        while len(later) < 200:
            await self.ledger.write(partial(note, word=f"{number}"), brief=True)
            number += 1
        await gatherResults(later)
        self.assertEqual(len(await self.words()), number + 200)

    async def test_own_commits_are_not_taken_for_anothers(self) -> None:
        """What this process commits calls back nobody else."""
        self.patch(writer, "_LOOK_S", 0.001)
        called: list[str] = []
        self.ledger.watch("other", lambda: called.append("other"))
        for number in range(100):
            await self.ledger.write(partial(note, word=f"{number}"))
        self.assertEqual(called, [])
