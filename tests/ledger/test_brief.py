"""Brief units run in the reactor's thread, and are promised the same."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Sequence
from functools import partial

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.ledger.case import LedgerCase, note, outcome
from twisted_mta.errors import LedgerUnavailable, NoSuchMailbox
from twisted_mta.interfaces import ITransaction
from twisted_mta.ledger import writer
from twisted_mta.ledger.group import Group, Waiting


class BriefTests(LedgerCase):
    """Where units run, and what becomes of them when that does not work."""

    async def setUp(self) -> None:
        await super().setUp()
        self.here = threading.current_thread()
        self.threads: list[threading.Thread] = []
        self.groups: list[int] = []
        groups = self.groups

        class Counted(Group):
            def __init__(self, units: Sequence[Waiting]) -> None:
                super().__init__(units)
                groups.append(len(units))

        await self.ledger.write(lambda transaction: None)  # it has a connection
        self.patch(writer, "Group", Counted)

    def write(
        self, word: str, error: Exception | None = None, brief: bool = True
    ) -> Deferred[str]:
        """Note a word, then fail if told to."""

        def unit(transaction: ITransaction) -> str:
            self.threads.append(threading.current_thread())
            note(transaction, word)
            if error is not None:
                raise error
            return word

        return self.ledger.write(unit, brief=brief)

    async def test_run_here(self) -> None:
        """A group of brief units runs in the reactor's thread, once."""
        self.assertEqual(
            await gatherResults([self.write(word) for word in "abc"]), ["a", "b", "c"]
        )
        self.assertEqual(self.threads, [self.here] * 3)
        self.assertEqual(await self.words(), ["a", "b", "c"])

    async def test_long_units_run_there(self) -> None:
        """A group with one unit that is not brief runs in the writer's thread."""
        waiting = [self.write("a"), self.write("b", brief=False), self.write("c")]
        self.assertEqual(await gatherResults(waiting), ["a", "b", "c"])
        self.assertNotIn(self.here, self.threads)
        self.assertEqual(await self.words(), ["a", "b", "c"])

    async def test_failure(self) -> None:
        """A brief unit that raises hurts nobody else of its group."""
        waiting = [
            self.write("a"),
            self.write("b", NoSuchMailbox()),
            self.write("a"),  # a constraint
            self.write("c"),
        ]
        first, second, third, fourth = [await outcome(each) for each in waiting]
        self.assertEqual((first, second, fourth), ("a", NoSuchMailbox, "c"))
        self.assertIsInstance(third, type)
        self.assertEqual(await self.words(), ["a", "c"])

    async def test_another_process_writes(self) -> None:
        """While another process has the lock, the reactor does not wait for it:
        the writer's thread does. What comes meanwhile joins the group."""
        lock = os.open(self.directory / "ledger.lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waiting = [self.write("a")]
            await deferLater(reactor, 0)  # now it has been tried here
            gone_on = self.ledger.lookup(lambda transaction: "answered")
            self.assertEqual(await gone_on, "answered")
            waiting += [self.write("b"), self.write("c")]
            self.assertEqual(self.threads, [])
        finally:
            os.close(lock)
        self.assertEqual(await gatherResults(waiting), ["a", "b", "c"])
        self.assertEqual(self.threads, [self.here] * 3)
        self.assertEqual(self.groups, [3])

    async def test_a_smaller_group_waits_for_more(self) -> None:
        """After a group of three, one unit waits for others, and three begin
        at once; one that no other joins is committed as well."""
        self.patch(writer, "_LINGER_S", 30.0)
        await gatherResults([self.write(word) for word in "abc"])
        first = gatherResults([self.write(word) for word in "def"])
        await deferLater(reactor, 0)  # its commit is under way
        late = [self.write("g")]
        await first
        late += [self.write("h"), self.write("i")]
        self.assertEqual(await gatherResults(late), ["g", "h", "i"])
        self.assertEqual(self.groups, [3, 3, 3])
        self.patch(writer, "_LINGER_S", 0.001)
        first = gatherResults([self.write(word) for word in "jkl"])
        await deferLater(reactor, 0)
        self.assertEqual(await self.write("m"), "m")

    async def test_patience(self) -> None:
        """A process that does not give back the lock makes units fail in the
        end; those that come when it has are committed."""
        self.patch(writer, "PATIENCE_S", 0.0)
        lock = os.open(self.directory / "ledger.lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.assertIs(await outcome(self.write("a")), LedgerUnavailable)
        finally:
            os.close(lock)
        self.patch(writer, "PATIENCE_S", 60.0)
        self.assertEqual(await self.write("b"), "b")
        self.assertEqual(await self.words(), ["b"])

    async def test_no_lock(self) -> None:
        """A system that has no locks makes units fail; when it has them again,
        they are committed."""

        def none(fd: int, how: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        taken = fcntl.flock
        self.patch(fcntl, "flock", none)
        self.assertIs(await outcome(self.write("a")), LedgerUnavailable)
        self.patch(fcntl, "flock", taken)
        self.assertEqual(await self.write("b"), "b")
        self.assertEqual(await self.words(), ["b"])

    async def test_closing_without_the_lock(self) -> None:
        """A process that does not give back the lock does not keep the ledger
        from closing; what nobody was told of is not kept."""
        self.patch(writer, "PATIENCE_S", 0.0)
        lock = os.open(self.directory / "ledger.lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waiting = self.write("a")
            await self.ledger.close()
            self.assertIs(await outcome(waiting), LedgerUnavailable)
        finally:
            os.close(lock)
        self.ledger = await self.another()
        self.assertEqual(await self.words(), [])

    async def test_more_than_a_group(self) -> None:
        """However many wait, all are committed, in order."""
        words = [f"{number:04d}" for number in range(500)]
        waiting = [self.write(word) for word in words]
        self.assertEqual(await gatherResults(waiting), words)
        self.assertEqual(await self.words(), words)

    async def test_close_commits(self) -> None:
        """Closing commits what waits."""
        waiting = self.write("a")
        await self.ledger.close()
        self.assertEqual(await waiting, "a")
        self.ledger = await self.another()
        self.assertEqual(await self.words(), ["a"])


class Noted:
    """A unit that can be run together with its neighbours."""

    def __init__(self, case: TogetherTests, word: str) -> None:
        self._case = case
        self.word = word

    def __call__(self, transaction: ITransaction) -> str:
        self._case.calls.append([self.word])
        note(transaction, self.word)
        return self.word

    def together(
        self, transaction: ITransaction, units: Sequence[Noted]
    ) -> Sequence[str]:
        words = [unit.word for unit in units]
        self._case.calls.append(words)
        transaction.executemany(
            "INSERT INTO note (word) VALUES (?)", [(word,) for word in words]
        )
        return words


class TogetherTests(LedgerCase):
    """Neighbours of one kind become one call."""

    brief = True

    async def setUp(self) -> None:
        await super().setUp()
        await self.ledger.write(lambda transaction: None)  # it has a connection
        self.calls: list[list[str]] = []

    def write(self, *words: str) -> list[Deferred[str]]:
        """Note words; those in capitals by units that stand alone."""
        return [
            self.ledger.write(
                partial(note, word=word) if word.isupper() else Noted(self, word),
                brief=self.brief,
            )
            for word in words
        ]

    async def test_neighbours(self) -> None:
        """Units of a kind that wait side by side are one call, in order, and
        each caller has its own result."""
        waiting = self.write("a", "b", "C", "d", "e", "f", "G", "h")
        results = [await each for each in waiting]
        self.assertEqual(results, ["a", "b", "C", "d", "e", "f", "G", "h"])
        self.assertEqual(self.calls, [["a", "b"], ["d", "e", "f"], ["h"]])

    async def test_failure(self) -> None:
        """If one of them cannot be, each is run by itself, and only that one
        fails."""
        waiting = self.write("a", "b", "a", "c")
        results = [await outcome(each) for each in waiting]
        self.assertEqual(results[:2], ["a", "b"])
        self.assertIsInstance(results[2], type)
        self.assertEqual(results[3], "c")
        self.assertEqual(self.calls[-4:], [["a"], ["b"], ["a"], ["c"]])
        self.assertEqual(await self.words(), ["a", "b", "c"])


class TogetherThereTests(TogetherTests):
    """The same in the writer's thread."""

    brief = False
