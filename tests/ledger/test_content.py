"""Content while it arrives, and what becomes of it."""

import contextlib
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from tests.ledger.case import LedgerCase, outcome
from twisted_mta.errors import LedgerFull, LedgerUnavailable, NoSuchMessage
from twisted_mta.interfaces import IContentWriter, ITransaction
from twisted_mta.ledger.content import INLINE_OCTETS
from twisted_mta.ledger.files import KEPT_MOST, Files
from twisted_mta.mail import mime

SMALL = b"Subject: small\r\n\r\nbody\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 12_000


@contextmanager
def files_of_at_most(octets: int) -> Iterator[None]:
    """A disk on which no file can grow further."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class ContentTests(LedgerCase):
    """Small content in the ledger, large content in files."""

    async def exists(self, id: int) -> bool:
        """Whether there is a row."""
        rows = await self.ledger.lookup(
            lambda t: list(t.execute("SELECT 1 FROM content WHERE id = ?", (id,)))
        )
        return bool(rows)

    async def nothing_runs(self) -> None:
        """What an abort started has ended."""
        await self.ledger.write(lambda transaction: None)

    async def test_taken(self) -> None:
        """Taken content can be read from anywhere in it, and has a file only
        if it is large."""
        for octets in (b"", SMALL, LARGE):
            content = await self.finished(octets)
            id = await self.ledger.write(content.take)
            content.abort()
            stored = self.ledger.stored(id, content.size)
            self.assertEqual(stored.size, len(octets))
            self.assertEqual(await stored.read(0, len(octets) + 10), octets)
            self.assertEqual(await stored.read(7, 5), octets[7:12])
            self.assertEqual(await stored.read(len(octets), 5), b"")
        await self.nothing_runs()
        self.assertEqual([file.stat().st_size for file in self.files()], [len(LARGE)])

    async def test_the_limit(self) -> None:
        """At the limit content is small, an octet above it is large."""
        await self.finished(b"x" * INLINE_OCTETS)
        self.assertEqual(self.files(), [])
        content = await self.finished(b"x" * (INLINE_OCTETS + 1))
        self.assertEqual(len(self.files()), 1)
        content.abort()
        self.assertEqual(self.files(), [])

    async def test_nobody_else_reads_the_files(self) -> None:
        """The directory is its owner's alone, and so is each file."""
        content = await self.finished(LARGE)
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)
        ledger = self.directory / "ledger.sqlite3"
        for file in (*self.files(), ledger, ledger.with_name("ledger.sqlite3-wal")):
            self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        content.abort()

    async def test_large_content_is_known(self) -> None:
        """Header and structure of large content are those of its octets."""
        content = await self.finished(LARGE)
        self.assertEqual(content.header(), b"Subject: large\r\n\r\n")
        self.assertEqual(content.structure().pack(), mime.scan(LARGE).pack())
        self.assertFalse(content.eight_bit)
        self.assertEqual(await content.read(3, 1_000_000), LARGE[3:])
        content.abort()

    async def test_aborted_while_it_arrives(self) -> None:
        """Nothing is left of it."""
        content = self.ledger.content()
        content.write(LARGE)
        self.assertEqual(len(self.files()), 1)
        content.abort()
        content.abort()
        self.assertEqual(self.files(), [])

    async def test_the_transaction_fails(self) -> None:
        """Content whose transaction was rolled back has neither row nor file."""

        def unit(transaction: ITransaction) -> None:
            taken.append(content.take(transaction))
            raise ValueError

        for octets in (SMALL, LARGE):
            taken: list[int] = []
            content = await self.finished(octets)
            self.assertEqual(await outcome(self.ledger.write(unit)), ValueError)
            content.abort()
            await self.nothing_runs()
            self.assertFalse(await self.exists(taken[0]))
            self.assertEqual(self.files(), [])

    async def test_aborted_before_its_transaction(self) -> None:
        """Whoever waited was cancelled and aborts; the unit, which comes later,
        takes nothing."""
        for octets in (SMALL, LARGE):
            content = await self.finished(octets)
            gate = threading.Event()
            first = self.ledger.write(lambda t, gate=gate: gate.wait())
            waiting = self.ledger.write(content.take)
            content.abort()
            gate.set()
            await first
            self.assertEqual(await outcome(waiting), LedgerUnavailable)
            self.assertEqual(self.files(), [])

    async def test_aborted_within_its_transaction(self) -> None:
        """Aborted between take and commit: if the commit succeeds, row and
        octets are there."""
        for octets in (SMALL, LARGE):
            content = await self.finished(octets)
            waiting = self.paused_after_take(content)
            await self.taken
            content.abort()
            self.gate.set()
            id = await waiting
            await self.nothing_runs()
            stored = self.ledger.stored(id, len(octets))
            self.assertEqual(await stored.read(0, len(octets)), octets)

    def paused_after_take(self, content: IContentWriter) -> Deferred[int]:
        """A unit that waits for C{gate} once it has fired C{taken}."""
        self.gate = gate = threading.Event()
        self.taken: Deferred[None] = Deferred()

        def unit(transaction: ITransaction) -> int:
            id = content.take(transaction)
            reactor.callFromThread(self.taken.callback, None)
            gate.wait()
            return id

        return self.ledger.write(unit)

    async def test_gone(self) -> None:
        """Reading what was collected is NoSuchMessage."""
        for octets in (SMALL, LARGE):
            content = await self.finished(octets)
            id = await self.ledger.write(content.take)
            content.abort()
            stored = self.ledger.stored(id, len(octets))
            await self.ledger.write(lambda t, id=id: self.ledger.release(t, id))
            await self.ledger.collect()
            self.assertEqual(await outcome(stored.read(0, 1)), NoSuchMessage)

    async def test_gone_while_it_is_read(self) -> None:
        """A reader that has begun reads large content to its end, although it
        was collected meanwhile, and then lets go of its file."""
        content = await self.finished(LARGE)
        id = await self.ledger.write(content.take)
        content.abort()
        await self.nothing_runs()
        stored = self.ledger.stored(id, len(LARGE))
        begin = await stored.read(0, 1000)
        await self.ledger.write(lambda t: self.ledger.release(t, id))
        await self.ledger.collect()
        self.assertEqual(self.files(), [])
        self.assertEqual(begin + await stored.read(1000, len(LARGE)), LARGE)
        self.assertEqual(len(self.open_files()), 1)
        del stored
        await self.threads_are_done()
        self.assertEqual(self.open_files(), [])

    async def test_open_files_are_bounded(self) -> None:
        """Of any number of readers only some keep their file open; all read, and
        later ones may keep theirs when others have gone."""
        content = await self.finished(LARGE)
        id = await self.ledger.write(content.take)
        content.abort()
        await self.nothing_runs()
        readers = [self.ledger.stored(id, len(LARGE)) for _ in range(KEPT_MOST + 20)]
        for _ in range(2):
            for reader in readers:
                self.assertEqual(await reader.read(100, 20), LARGE[100:120])
        await self.threads_are_done()
        self.assertEqual(len(self.open_files()), KEPT_MOST)
        del readers, reader
        self.assertEqual(self.open_files(), [])
        again = self.ledger.stored(id, len(LARGE))
        await again.read(0, 1)
        await self.threads_are_done()
        self.assertEqual(len(self.open_files()), 1)

    def open_files(self) -> list[str]:
        """The files of content that this process has open."""
        found = []
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"/proc/self/fd/{fd}"))
        return [name for name in found if f"{self.directory}/content/" in name]

    async def threads_are_done(self) -> None:
        """No thread holds on to what it has done last."""
        everywhere = threading.Barrier(4)  # of the background's threads
        await gatherResults(
            [self.ledger.in_background(everywhere.wait) for _ in range(4)]
        )

    def test_given_up_in_use(self) -> None:
        """A file that a thread still works on keeps its descriptor until the thread
        has done, so that another file cannot have its number."""
        files = Files(self.directory / "content")
        file = files.create(1)
        file.write(b"octets")
        with file._used() as fd:
            file.discard()
            self.assertEqual(os.fstat(fd).st_nlink, 0)
        self.assertRaises(OSError, os.fstat, fd)
        self.assertRaises(LedgerUnavailable, file.read, 0, 1)
        file.close()

    async def test_h52_no_space_while_it_arrives(self) -> None:
        """A file that cannot grow is LedgerFull, and nothing is left of it."""
        content = self.ledger.content()
        with files_of_at_most(1 << 20), self.assertRaises(LedgerFull):
            for _ in range(50):
                content.write(LARGE)
        content.abort()
        self.assertEqual(self.files(), [])
        again = await self.finished(LARGE)
        again.abort()

    async def test_h52_no_space_at_the_end(self) -> None:
        """The same where the last octets are written; finish aborts."""
        content = self.ledger.content()
        content.write(LARGE)
        with files_of_at_most(1 << 16):
            self.assertEqual(await outcome(content.finish()), LedgerFull)
        self.assertEqual(self.files(), [])

    async def test_descriptors(self) -> None:
        """Each content that was large has given back its descriptor."""
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            content = await self.finished(LARGE)
            await self.ledger.write(content.take)
            content.abort()
        await self.nothing_runs()
        self.assertLess(len(os.listdir("/proc/self/fd")), before + 10)
