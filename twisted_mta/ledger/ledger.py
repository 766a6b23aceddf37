"""The SQLite ledger of this machine: one directory that holds all mail.

C{ledger.sqlite3} has the rows and small content, C{content/} the large content,
C{ledger.lock} lets writers queue, C{processes/} says who is there. Any number of
processes may have it open at once, the server and its commands alike. In each,
one thread writes (L{writer <twisted_mta.ledger.writer>}), a few read, and the
reactor's own thread looks up rows by key, which costs less than a thread would
(10 us against 100).

It knows of tables only what content needs. It trusts whoever can enter its
directory, which is made for its owner alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

import apsw
from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from twisted_mta.errors import LedgerUnavailable, MailError
from twisted_mta.interfaces import (
    Cancel,
    IContent,
    IContentWriter,
    ILedger,
    ITransaction,
)
from twisted_mta.ledger import collector, recovery, restoration
from twisted_mta.ledger.audit.audit import Audit
from twisted_mta.ledger.collector import Collector
from twisted_mta.ledger.content import ContentWriter, StoredContent
from twisted_mta.ledger.files import ArrivingFile, Files, make_directory
from twisted_mta.ledger.hints import Hints
from twisted_mta.ledger.hold import Hold
from twisted_mta.ledger.lock import WriteLock
from twisted_mta.ledger.migrate import migrate
from twisted_mta.ledger.presence import Presence
from twisted_mta.ledger.room import Room
from twisted_mta.ledger.sqlite import Transaction, connect, snapshot, translated
from twisted_mta.ledger.writer import Writer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore, IReactorThreads

    from twisted_mta.ledger import hints, writer

    class IReactor(writer.IReactor, hints.IReactor, IReactorThreads, IReactorCore):
        """What a ledger needs of the reactor."""


T = TypeVar("T")

# Threads that read, each with a connection, and threads that wait for the disk.
_READERS = 3
_BACKGROUND = 4

# Pages in memory. The writer's are those that every message touches; the rest
# is in the system's cache anyway.
_WRITER_CACHE = 16 << 20
_READER_CACHE = 2 << 20
_LOOKUP_CACHE = 8 << 20

# Pages of the log (8 KB each, so 8 MB) after which a checkpoint is made.
_CHECKPOINT_PAGES = 1_000


@implementer(ILedger)
class Ledger:
    """See L{ILedger}.

    @param directory: made if it is not there.
    @param reserve: octets of its disk that new mail leaves free.
    @ivar room: what the disk has.
    """

    log = Logger()

    def __init__(self, reactor: IReactor, directory: Path, reserve: int = 0) -> None:
        self._reactor = reactor
        self._directory = directory
        self._path = directory / "ledger.sqlite3"
        self._lock_path = directory / "ledger.lock"
        self._files = Files(directory / "content")
        self._hold = Hold(directory / "content.lock", directory / "content")
        self.room = Room(directory, reserve)
        self._watches: dict[str, list[_Watch]] = {}
        self._readers: SimpleQueue[apsw.Connection] = SimpleQueue()
        self._reading = ThreadPool(0, _READERS, "ledger reader")
        self._background = ThreadPool(0, _BACKGROUND, "ledger background")
        self._presence: Presence | None = None
        self._hints: Hints | None = None
        self._checkpointing = False
        self._is_open = False

    # --- opening and closing ---

    async def open(self) -> None:
        """Make the ledger if there is none, bring it up to date, clean up what
        a crash left, start the threads.

        @raise LedgerUnavailable: it cannot be opened; the text says why.
        """
        for pool in (self._reading, self._background):
            pool.start()
        try:
            await self.in_background(self._prepare)
        except BaseException:
            for pool in (self._reading, self._background):
                pool.stop()
            if self._presence is not None:
                self._presence.leave()
            raise
        self._is_open = True
        try:
            self._hints = Hints(self._reactor, self._present, self._heard)
        except OSError as error:
            # Others are noticed within two seconds all the same.
            self.log.warn("ledger: no hints between processes: {why}", why=error)
        self._writer = Writer(
            self._reactor,
            lambda: connect(self._path, _WRITER_CACHE),
            self._lock,
            self._after_commit,
        )
        self._writer.start()
        self._collector = Collector(
            self._reactor,
            self,
            self._files,
            self._hold,
            self.in_background,
        )
        self._collector.hint()

    def _prepare(self) -> None:
        try:
            make_directory(self._directory)
            self._files.prepare()
            # Before anything is done in this process's name.
            self._presence = Presence(self._directory / "processes")
            self._lock = WriteLock(self._lock_path)
            # SQLite gives the mode of this file to those beside it.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            self._hold.prepare()
            with self._lock:
                # Several workers start at once; one makes the log.
                self._lookups = connect(self._path, _LOOKUP_CACHE)
            migrate(self._lookups, self._lock)
            renewed = restoration.restore(self._lookups, self._lock, self._directory)
            orphans = recovery.remove_orphans(self._lookups, self._files)
            self._lookups.execute("PRAGMA query_only = ON")
            self._checkpointer = connect(self._path, _READER_CACHE)
            for _ in range(_READERS):
                self._readers.put(connect(self._path, _READER_CACHE, query_only=True))
        except (OSError, apsw.Error) as error:
            reason = translated(error)
            if not isinstance(reason, MailError):
                raise
            raise type(reason)(f"{self._path} cannot be opened: {error}")
        if renewed:
            self.log.warn(
                "ledger: this was a backup; {count} mailboxes have a new UIDVALIDITY",
                count=renewed,
            )
        if orphans:
            self.log.info("ledger: {count} orphaned files removed", count=orphans)

    async def close(self) -> None:
        """Commit what waits, end the threads. May be repeated."""
        if not self._is_open:
            return
        await self._collector.close()
        await self._writer.close()
        self._is_open = False
        if self._hints is not None:
            self._hints.close()
        for pool in (self._reading, self._background):
            pool.stop()
        connections = [self._lookups, self._checkpointer]
        while not self._readers.empty():
            connections.append(self._readers.get())
        for connection in connections:
            # The last of all processes makes a checkpoint here.
            with suppress(apsw.Error):
                connection.close()
        self._present.leave()

    # --- ILedger ---

    @property
    def name(self) -> str:
        """See L{ILedger.name}; once it is open."""
        return self._present.name

    def write(
        self, unit: Callable[[ITransaction], T], brief: bool = False
    ) -> Deferred[T]:
        """See L{ILedger.write}."""
        return self._writer.submit(unit, brief)

    def read(self, query: Callable[[ITransaction], T]) -> Deferred[T]:
        """See L{ILedger.read}."""
        return self._in_pool(self._reading, lambda: self._query(query))

    async def lookup(self, query: Callable[[ITransaction], T]) -> T:
        """See L{ILedger.lookup}."""
        if not self._is_open:
            raise LedgerUnavailable("Mail storage is closed")
        # No transaction around it: each statement sees one state of the ledger,
        # and two statements more would double the price of most lookups.
        try:
            return query(Transaction(self._lookups))
        except apsw.Error as error:
            raise translated(error, self._lookups)

    def need(self, octets: int, sparing: bool = False) -> None:
        """See L{ILedger.need}."""
        self.room.need(octets, sparing)

    def content(self) -> IContentWriter:
        """See L{ILedger.content}."""
        return ContentWriter(self, self._files)

    def stored(self, content: int, size: int) -> IContent:
        """See L{ILedger.stored}."""
        return StoredContent(self, self._files, content, size)

    def release(self, transaction: ITransaction, content: int) -> None:
        """See L{ILedger.release}."""
        collector.release(transaction, content)

    def watch(self, topic: str, callback: Callable[[], None]) -> Cancel:
        """See L{ILedger.watch}."""
        entry = _Watch(callback)
        self._watches.setdefault(topic, []).append(entry)

        def cancel() -> None:
            watching = self._watches.get(topic, [])
            if entry in watching:
                watching.remove(entry)
                if not watching:
                    del self._watches[topic]

        return cancel

    async def inherit(self, unit: Callable[[ITransaction, str], None]) -> Sequence[str]:
        """See L{ILedger.inherit}."""
        names = []
        try:
            for remains in self._present.dead():
                try:
                    await self.write(partial(_inherit, unit, remains.name))
                    remains.bury()
                finally:
                    remains.let_go()
                names.append(remains.name)
        except OSError as error:
            raise translated(error)
        return names

    def lives(self, name: str) -> bool:
        """See L{ILedger.lives}."""
        try:
            return self._present.lives(name)
        except OSError as error:
            raise translated(error)

    # --- beside ---

    async def collect(self) -> None:
        """Collect all content that was released, now."""
        await self._collector.collect()

    def problems(self) -> Deferred[list[str]]:
        """Look through the whole ledger.

        @return: what is wrong, a line each; empty if all is well.
        """

        def look() -> list[str]:
            with closing(Audit(self._directory)) as audit:
                found = audit.findings(repair=False)
                return [finding.what for finding, _ in found if finding.problem]

        return self._in_pool(self._reading, look)

    # --- for content ---

    def in_background(self, job: Callable[[], T]) -> Deferred[T]:
        """Run what waits for the disk in a thread."""
        return self._in_pool(self._background, job)

    def settle_file(self, id: int, file: ArrivingFile) -> None:
        """Whoever wrote a file has done with it, and some unit of work has
        tried to take it: keep it if a commit did."""
        Deferred.fromCoroutine(self._settle_file(id, file))

    # --- within ---

    @property
    def _present(self) -> Presence:
        assert self._presence is not None  # since it was opened
        return self._presence

    def _in_pool(self, pool: ThreadPool, job: Callable[[], T]) -> Deferred[T]:
        if pool.joined:
            return fail(LedgerUnavailable("Mail storage is closed"))
        return deferToThreadPool(self._reactor, pool, job)

    def _query(self, query: Callable[[ITransaction], T]) -> T:
        reader = self._readers.get()
        try:
            return snapshot(reader, query)
        finally:
            self._readers.put(reader)

    async def _settle_file(self, id: int, file: ArrivingFile) -> None:
        # A unit of work sees what all units before it did, whoever still waits
        # for them, and whatever they were told.
        try:
            if not await self.write(lambda transaction: _is_taken(transaction, id)):
                file.discard()
        except MailError as error:
            # A start's recovery will find out.
            self.log.warn("ledger: a file is left alone: {why}", why=error.text)
        finally:
            file.close()

    def _after_commit(self, topics: Iterable[str] | None, log_pages: int) -> None:
        self._tell(topics)
        if topics is not None and self._hints is not None:
            self._hints.send(topics)
        if log_pages > _CHECKPOINT_PAGES and not self._checkpointing:
            self._checkpointing = True
            Deferred.fromCoroutine(self._checkpoint())

    def _heard(self, topics: Iterable[str] | None) -> None:
        """Another process committed, and says what changed."""
        self._writer.hinted()
        self._tell(topics)

    def _tell(self, topics: Iterable[str] | None) -> None:
        """Call whoever watches topics, or all if any may have changed."""
        for topic in tuple(self._watches) if topics is None else topics:
            for watch in tuple(self._watches.get(topic, ())):
                try:
                    watch.callback()
                except Exception:
                    self.log.failure("ledger: who watches {topic} failed", topic=topic)

    async def _checkpoint(self) -> None:
        """Copy the log into the ledger while others read and write."""
        try:
            await self.in_background(
                lambda: self._checkpointer.wal_checkpoint(
                    mode=apsw.SQLITE_CHECKPOINT_PASSIVE
                )
            )
        except apsw.Error as error:
            # What was committed is in the log, and stays there.
            self.log.warn("ledger: no checkpoint: {error!r}", error=error)
        finally:
            self._checkpointing = False


@dataclass(frozen=True, slots=True, eq=False)
class _Watch:
    """A callback, apart from the same one watching again."""

    callback: Callable[[], None]


def _inherit(
    unit: Callable[[ITransaction, str], None], name: str, transaction: ITransaction
) -> None:
    unit(transaction, name)


def _is_taken(transaction: ITransaction, id: int) -> bool:
    rows = transaction.execute("SELECT 1 FROM content WHERE id = ?", (id,))
    return next(rows, None) is not None
