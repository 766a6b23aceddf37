"""What a start cleans up, and what is refused."""

import errno
import fcntl
import os
from functools import partial
from pathlib import Path

import apsw
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from tests.ledger.case import LedgerCase, note, outcome
from tests.ledger.test_content import LARGE, SMALL
from twisted_mta.errors import LedgerUnavailable
from twisted_mta.interfaces import ITransaction
from twisted_mta.ledger import collector, hold, migrate
from twisted_mta.ledger.hold import Hold
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.ledger.migrate import LedgerTooNew
from twisted_mta.mail.ids import new_id, to_text

NEXT = max(migrate.steps()) + 1
"""The number of a migration that is still to be written."""


def orphan(directory: Path) -> Path:
    """A file as a crash leaves it, between its first octet and the commit."""
    id = new_id()
    path = directory / "content" / f"{id & 255:02x}" / to_text(id)
    path.write_bytes(LARGE)
    return path


class OrphanTests(LedgerCase):
    """Files that no row names."""

    async def restart(self) -> None:
        """As after a crash, for all that the files can tell."""
        await self.ledger.close()
        self.ledger = await self.another()

    async def test_orphans_go(self) -> None:
        """A start removes them, and keeps those that have a row."""
        lost = orphan(self.directory)
        content = await self.finished(LARGE)
        id = await self.ledger.write(content.take)
        content.abort()
        self.assertEqual(len(self.files()), 2)
        await self.restart()
        self.assertFalse(lost.exists())
        stored = self.ledger.stored(id, len(LARGE))
        self.assertEqual(await stored.read(0, len(LARGE)), LARGE)

    async def test_arriving_files_stay(self) -> None:
        """Another process that starts meanwhile leaves alone what arrives here,
        before and after its commit."""
        content = await self.finished(LARGE)
        await self.another()
        id = await self.ledger.write(content.take)
        await self.another()
        content.abort()
        stored = self.ledger.stored(id, len(LARGE))
        self.assertEqual(await stored.read(0, len(LARGE)), LARGE)

    async def test_a_file_taken_for_an_orphan_is_made_again(self) -> None:
        """A process may look for orphans between the making of a file and its
        locking."""
        removed: list[Path] = []

        def flock(fd: int, operation: int) -> None:
            if operation == fcntl.LOCK_EX and not removed:
                removed.append(Path(os.readlink(f"/proc/self/fd/{fd}")))
                removed[0].unlink()
            original(fd, operation)

        original = fcntl.flock
        self.patch(fcntl, "flock", flock)
        content = await self.finished(LARGE)
        self.assertEqual(self.files(), removed)
        content.abort()

    async def test_strange_files_are_left_alone(self) -> None:
        """What is not named as content is not ours."""
        strange = self.directory / "content" / "00" / "lost+found"
        strange.touch()
        await self.restart()
        self.assertTrue(strange.exists())


class CollectorTests(LedgerCase):
    """Content that nobody refers to."""

    async def taken(self, octets: bytes, *referring: str) -> int:
        """Content, and rows of the queue that refer to it."""
        content = await self.finished(octets)

        def unit(transaction: ITransaction) -> int:
            id = content.take(transaction)
            for sender in referring:
                transaction.execute(
                    "INSERT INTO queued (id, content_id, size, eight_bit, prefix,"
                    " sender, envelope, queued_at) VALUES (?, ?, 0, 0, ?, ?, '', 0)",
                    (new_id(), id, b"", sender),
                )
            return id

        id = await self.ledger.write(unit)
        content.abort()
        return id

    async def forget(self, id: int, sender: str) -> None:
        """Delete a referring row."""

        def unit(transaction: ITransaction) -> None:
            transaction.execute("DELETE FROM queued WHERE sender = ?", (sender,))
            self.ledger.release(transaction, id)
            self.ledger.release(transaction, id)

        await self.ledger.write(unit)

    async def rows(self) -> int:
        """How much content there is."""
        ((count,),) = await self.ledger.read(
            lambda t: list(t.execute("SELECT COUNT(*) FROM content"))
        )
        return int(count)

    async def test_the_last_one_lets_go(self) -> None:
        """Content stays while a row refers to it, and goes with the last."""
        for octets in (SMALL, LARGE):
            id = await self.taken(octets, "a", "b")
            await self.forget(id, "a")
            await self.ledger.collect()
            self.assertEqual(await self.rows(), 1)
            await self.forget(id, "b")
            await self.ledger.collect()
            self.assertEqual(await self.rows(), 0)
            self.assertEqual(self.files(), [])

    async def test_many(self) -> None:
        """More than fits into one transaction."""
        self.patch(collector, "_AT_ONCE", 3)
        for _ in range(7):
            await self.forget(await self.taken(SMALL, "a"), "a")
        await self.ledger.collect()
        self.assertEqual(await self.rows(), 0)

    async def test_files_that_cannot_be_removed(self) -> None:
        """They are left to the next start, and are in nobody's way."""

        def unlink(path: Path) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        original = os.unlink
        self.patch(os, "unlink", unlink)
        arriving = await self.finished(LARGE)
        arriving.abort()
        for _ in range(2):
            await self.forget(await self.taken(LARGE, "a"), "a")
        await self.ledger.collect()
        self.assertEqual(await self.rows(), 0)
        self.assertEqual(len(self.files()), 3)
        await self.ledger.close()
        self.ledger = await self.another()
        self.assertEqual(len(self.files()), 3)
        await self.ledger.close()
        self.patch(os, "unlink", original)
        self.ledger = await self.another()
        self.assertEqual(self.files(), [])

    async def test_two_processes_collect(self) -> None:
        """At once, and nobody fails."""
        other = await self.another()
        for _ in range(5):
            await self.forget(await self.taken(LARGE, "a"), "a")
        await gatherResults(
            [Deferred.fromCoroutine(each.collect()) for each in (self.ledger, other)]
        )
        self.assertEqual((await self.rows(), self.files()), (0, []))

    async def collected(self) -> None:
        """All that is released goes by itself."""
        while await self.rows() or self.files():
            turn: Deferred[None] = Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn

    async def test_held_content_stays(self) -> None:
        """Nothing is removed while somebody holds it; afterwards it goes by
        itself."""
        self.patch(collector, "_HELD_S", 0.0)
        locks = Hold(self.directory / "content.lock", self.directory / "content")
        id = await self.taken(LARGE, "a")
        with locks.holding():
            await self.forget(id, "a")
            await self.ledger.collect()
            self.assertEqual((await self.rows(), len(self.files())), (1, 1))
        await self.collected()

    async def test_h52_locks_that_cannot_be_had(self) -> None:
        """It is said in a line, and what is released goes once they can."""
        self.patch(collector, "_WAIT_S", 0.0)
        self.patch(collector, "_TROUBLE_S", 0.0)
        content = self.directory / "content"
        elsewhere = content.rename(self.directory / "elsewhere")
        warned: Deferred[LogEvent] = Deferred()

        def watch(event: LogEvent) -> None:
            if "not collected" in event["log_format"] and not warned.called:
                warned.callback(event)

        globalLogPublisher.addObserver(watch)
        self.addCleanup(globalLogPublisher.removeObserver, watch)
        await self.forget(await self.taken(SMALL, "a"), "a")
        self.assertEqual((await warned)["log_level"], LogLevel.warn)
        self.assertEqual(await self.rows(), 1)
        elsewhere.rename(content)
        await self.collected()

    async def test_whoever_holds_waits_for_a_removal(self) -> None:
        """That is under way; no other begins meanwhile."""
        door, content = self.directory / "content.lock", self.directory / "content"
        one, other = Hold(door, content), Hold(door, content)
        with one.removing() as first, other.removing() as second:
            self.assertTrue(first and second)
            self.patch(hold, "_PATIENCE_S", 0.0)
            with self.assertRaises(LedgerUnavailable), one.holding():
                self.fail("held during a removal")
        with one.holding():
            with other.removing() as third:
                self.assertFalse(third)
            with self.assertRaises(LedgerUnavailable), other.holding():
                self.fail("held twice")

    async def test_it_happens_by_itself(self) -> None:
        """Soon after content was released."""
        self.patch(collector, "_WAIT_S", 0.0)
        id = await self.taken(LARGE, "a")
        await self.forget(id, "a")
        await self.collected()

    async def test_a_start_finishes_what_was_begun(self) -> None:
        """Released before a crash, collected after it."""
        self.patch(collector, "_WAIT_S", 0.0)
        await self.forget(await self.taken(SMALL, "a"), "a")
        await self.ledger.close()
        self.ledger = await self.another()
        while await self.rows():
            await self.ledger.write(lambda transaction: None)


class OpenTests(LedgerCase):
    """Opening, closing, and what is refused."""

    async def test_migrations_run_once(self) -> None:
        """A ledger that is opened again has what it had."""
        await self.ledger.write(partial(note, word="kept"))
        await self.ledger.close()
        self.ledger = await self.another()
        self.assertEqual(await self.words(), ["kept"])

    async def test_a_migration_that_is_new(self) -> None:
        """It is run on what is there."""
        steps = {**migrate.steps(), NEXT: "ALTER TABLE note ADD COLUMN more TEXT"}
        await self.ledger.write(partial(note, word="kept"))
        await self.ledger.close()
        self.patch(migrate, "steps", lambda: steps)
        self.ledger = await self.another()
        await self.ledger.write(lambda t: t.execute("UPDATE note SET more = 'more'"))
        self.assertEqual(await self.words(), ["kept"])

    async def test_a_migration_that_fails(self) -> None:
        """Nothing of it is kept, and the ledger opens with the old program."""
        steps = {**migrate.steps(), NEXT: "DROP TABLE note; DROP TABLE nothing"}
        await self.ledger.write(partial(note, word="kept"))
        await self.ledger.close()
        patched = self.patch(migrate, "steps", lambda: steps)
        failed = await outcome(Ledger(reactor, self.directory).open())
        self.assertEqual(failed, apsw.SQLError)
        patched.restore()
        self.ledger = await self.another()
        self.assertEqual(await self.words(), ["kept"])

    async def test_a_newer_ledger_is_refused(self) -> None:
        """With what to do, and untouched."""
        await self.ledger.write(lambda t: t.execute("UPDATE ledger SET version = 99"))
        await self.ledger.close()
        with self.assertRaises(LedgerTooNew) as caught:
            await Ledger(reactor, self.directory).open()
        self.assertIn("version 99", str(caught.exception))
        self.assertIn("newer program", str(caught.exception))

    async def test_what_is_no_ledger_is_refused(self) -> None:
        """With its name."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "ledger.sqlite3").write_bytes(b"something else" * 1_000)
        with self.assertRaises(LedgerUnavailable) as caught:
            await Ledger(reactor, directory).open()
        self.assertIn("ledger.sqlite3", str(caught.exception))

    async def test_close_may_be_repeated(self) -> None:
        """And a closed ledger refuses work."""
        await self.ledger.close()
        await self.ledger.close()
        self.assertEqual(
            await outcome(self.ledger.write(partial(note, word="a"))), LedgerUnavailable
        )
        self.assertEqual(
            await outcome(self.ledger.lookup(lambda t: None)), LedgerUnavailable
        )
        self.assertEqual(
            await outcome(self.ledger.read(lambda t: None)), LedgerUnavailable
        )
