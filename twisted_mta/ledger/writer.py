"""Group commit: one thread that makes many units of work one durable transaction.

It takes all units that wait, runs them between one BEGIN and one COMMIT, whose
fsync is the price that they share, and tells all callers with one call into the
reactor's thread. A unit that raises must not hurt the others: the group is rolled
back and run again, this time each unit within a savepoint. So units may run
twice, and a group costs at most twice what it does without failures. The thread
knows no table. It trusts units to change nothing but the transaction.

Measured, 2 KB messages into mailboxes, 20 at a time: see C{docs/design.rst}.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

import apsw
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from twisted_mta.errors import LedgerUnavailable, MailError
from twisted_mta.ledger.lock import WriteLock
from twisted_mta.ledger.sqlite import Transaction, translated

T = TypeVar("T")

Unit = Callable[[Transaction], T]

# Units of one commit: enough that the fsync is shared by all that wait, few
# enough that nobody waits long for the others.
_GROUP_MOST = 256

# The writer's thread gives up the interpreter at each statement and asks for it
# again. While the reactor's thread computes without pause (a search through
# large messages), it is given back after this. Measured beside such a reactor:
# 150 messages a second with Python's default of 5 ms, 240 with 1 ms, 2,650 with
# 0.5 ms; in an ordinary load all are alike, and below 0.1 ms is dearer.
_SWITCH_S = 0.0005

# How often the thread looks whether another process wrote.
_LOOK_S = 1.0

# The log's pages (of 8 KB) after which this thread itself copies what is left
# to copy into the ledger, so that the log starts anew: 64 MB. The bulk has been
# copied by then, by a thread beside.
_LOG_MOST_PAGES = 8_000


class _Waiting:
    """A unit of work and who waits for it."""

    __slots__ = ("deferred", "error", "result", "unit")

    def __init__(self, unit: Unit[Any]) -> None:
        self.unit = unit
        self.deferred: Deferred[Any] = Deferred()
        self.result: Any = None
        self.error: Exception | None = None


class _UnitFailed(Exception):
    """A unit raised; the group has to be run again."""


class Writer:
    """The writer thread of one process.

    @param connect: opens the thread's connection, again after an error of the
        disk.
    @param committed: called in the reactor's thread after each group, with the
        topics that it changed (C{None}: any may have, another process wrote)
        and the length of the log in pages.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorFromThreads,
        connect: Callable[[], apsw.Connection],
        lock: WriteLock,
        committed: Callable[[Iterable[str] | None, int], None],
    ) -> None:
        self._reactor = reactor
        self._connect = connect
        self._lock = lock
        self._committed = committed
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._connection: apsw.Connection | None = None
        self._log_pages = 0
        self._data_version = 0
        self._looked_at = 0.0
        self._ended: Deferred[None] = Deferred()
        self._thread = threading.Thread(target=self._run, name="ledger writer")
        self._closing = False

    def start(self) -> None:
        """Start the thread."""
        if sys.getswitchinterval() > _SWITCH_S:
            sys.setswitchinterval(_SWITCH_S)
        # A daemon: should the process end without close(), what nobody was told
        # of must not keep it alive.
        self._thread.daemon = True
        self._thread.start()

    def submit(self, unit: Unit[T]) -> Deferred[T]:
        """Queue a unit of work.

        @return: fires once it is durable, or fails if nothing of it is kept.
        """
        waiting = _Waiting(unit)
        if self._closing:
            waiting.deferred.errback(LedgerUnavailable("Mail storage is closed"))
        else:
            self._queue.put(waiting)
        return waiting.deferred

    async def close(self) -> None:
        """Commit what waits, then end the thread."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await self._ended

    # --- in the thread ---

    def _run(self) -> None:
        try:
            self._open_early()
            last = False
            while not last:
                group, last = self._next_group()
                if group:
                    self._work(group)
                self._look_for_others()
        finally:
            self._drop_connection()
            self._reactor.callFromThread(self._ended.callback, None)

    def _next_group(self) -> tuple[list[_Waiting], bool]:
        """Wait for units, a second at most.

        @return: the units, and whether they are the last.
        """
        group: list[_Waiting] = []
        with suppress(queue.Empty):
            waiting = self._queue.get(timeout=_LOOK_S)
            while waiting is not None:
                group.append(waiting)
                if len(group) == _GROUP_MOST:
                    return group, False
                waiting = self._queue.get_nowait()
            return group, True
        return group, False

    def _work(self, group: list[_Waiting]) -> None:
        topics: Iterable[str] = ()
        try:
            topics = self._commit(group)
        except Exception as error:
            # The storage's fault: it is everybody's, and nothing was kept.
            for waiting in group:
                waiting.error = waiting.error or error
        self._reactor.callFromThread(self._settle, group, topics)

    def _commit(self, group: list[_Waiting]) -> Iterable[str]:
        """Run and commit a group.

        @return: the topics that it changed.
        @raise MailError: nothing was committed.
        """
        with self._lock:
            try:
                connection = self._connection or self._reconnect()
                try:
                    topics = self._attempt(connection, group, self._bare)
                except _UnitFailed:
                    topics = self._attempt(connection, group, self._guarded)
                if self._log_pages > _LOG_MOST_PAGES:
                    self._restart_log(connection)
                return topics
            except Exception as error:
                self.log.error(
                    "ledger: {count} units were not committed: {error!r}",
                    count=len(group),
                    error=error.__cause__ or error,
                )
                reason = translated(error, self._connection)
                # Before anybody is told.
                self._connect_again()
                if reason is error:
                    raise
                raise reason from error

    def _attempt(
        self,
        connection: apsw.Connection,
        group: list[_Waiting],
        run: Callable[[apsw.Connection, Transaction, _Waiting], None],
    ) -> Iterable[str]:
        transaction = Transaction(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            for waiting in group:
                run(connection, transaction, waiting)
            connection.execute("COMMIT")
        except Exception as error:
            # What the system said is known only until the next statement.
            reason = translated(error, connection)
            _roll_back(connection)
            if reason is error:
                raise
            raise reason from error
        return set(transaction.topics)

    @staticmethod
    def _bare(
        connection: apsw.Connection, transaction: Transaction, waiting: _Waiting
    ) -> None:
        """Run a unit that is expected to succeed."""
        try:
            waiting.result = waiting.unit(transaction)
        except Exception as error:
            if _is_of_storage(error, connection):
                raise
            raise _UnitFailed from error

    @staticmethod
    def _guarded(
        connection: apsw.Connection, transaction: Transaction, waiting: _Waiting
    ) -> None:
        """Run a unit so that its failure is its own."""
        topics = len(transaction.topics)
        connection.execute("SAVEPOINT unit")
        try:
            waiting.result = waiting.unit(transaction)
        except Exception as error:
            if _is_of_storage(error, connection):
                raise
            waiting.error = error
            del transaction.topics[topics:]
            connection.execute("ROLLBACK TO unit")
        connection.execute("RELEASE unit")

    def _reconnect(self) -> apsw.Connection:
        """Open the connection, and overwrite what a commit that failed may have
        left in the log: a crash could otherwise bring it back, although whoever
        asked for it was told that nothing was kept."""
        connection = self._connection = self._connect()
        connection.set_wal_hook(self._note_log)
        connection.execute("UPDATE ledger SET opened = opened + 1")
        self._data_version = _data_version(connection)
        self._looked_at = time.monotonic()
        return connection

    def _connect_again(self) -> None:
        """Drop the connection, if there is one, and try to make another."""
        self._drop_connection()
        try:
            self._reconnect()
        except (apsw.Error, MailError) as error:
            # The next group tries again, and its callers learn of it.
            self._drop_connection()
            self.log.error("ledger: no connection: {error!r}", error=error)

    def _open_early(self) -> None:
        """So that what others write is noticed before the first unit comes."""
        try:
            with self._lock:
                self._connect_again()
        except MailError as error:
            self.log.warn("ledger: no connection yet: {why}", why=error.text)

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(apsw.Error):
                connection.close()

    def _note_log(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _restart_log(self, connection: apsw.Connection) -> None:
        """Copy the rest of the log while nobody can add to it; whoever writes
        next starts it anew, unless somebody still reads it."""
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            # What was committed is in the log, and stays there.
            self.log.warn("ledger: no checkpoint: {error!r}", error=error)

    def _look_for_others(self) -> None:
        """Has another process written? Then anything may have changed."""
        now = time.monotonic()
        if self._connection is None or now < self._looked_at + _LOOK_S:
            return
        self._looked_at = now
        with suppress(apsw.Error):
            version = _data_version(self._connection)
            if version != self._data_version:
                self._data_version = version
                self._reactor.callFromThread(self._committed, None, self._log_pages)

    # --- in the reactor's thread ---

    def _settle(self, group: list[_Waiting], topics: Iterable[str]) -> None:
        for waiting in group:
            if waiting.error is None:
                waiting.deferred.callback(waiting.result)
            else:
                waiting.deferred.errback(waiting.error)
        self._committed(topics, self._log_pages)


def _is_of_storage(error: Exception, connection: apsw.Connection) -> bool:
    return isinstance(error, apsw.Error) and isinstance(
        translated(error, connection), MailError
    )


def _roll_back(connection: apsw.Connection) -> None:
    """SQLite has rolled back by itself after some errors; then this is none."""
    if connection.in_transaction:
        with suppress(apsw.Error):
            connection.execute("ROLLBACK")


def _data_version(connection: apsw.Connection) -> int:
    return int(connection.pragma("data_version"))
