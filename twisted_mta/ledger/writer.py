"""Group commit: many units of work as one durable transaction.

The writer takes all units that wait, runs them between one BEGIN and one COMMIT,
whose fsync is the price that they share, and tells all callers at once. A unit
that raises must not hurt the others: the group is rolled back and run again, this
time each unit within a savepoint. So a unit may run several times, and a group
costs a small multiple of what it does without failures. The writer knows no
table. It trusts units to change nothing but the transaction.

A thread waits: for the lock, for the disk, for long units. But the interpreter
is one, and a thread that runs statements gives it up and asks for it again at
each of them, which costs both threads a sleep: 150 to 200 us for each message.
So a group of brief units runs in the reactor's thread, and only its COMMIT in
the writer's. That is an attempt: if anything raises, the group is rolled back and
goes the thread's way, where every failure is handled. While another process writes,
the thread waits for the lock and the group grows; once it is ours, the reactor's
thread begins the group.

Measured, messages of 2 KB over 20 connections, the whole server: 0.68 s of
processor time per 1,000 with a connection each became 0.48, and 0.36 became 0.28
on reused connections.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar, cast

import apsw
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twisted_mta.errors import LedgerUnavailable, MailError
from twisted_mta.ledger.group import Group, Unit, Waiting
from twisted_mta.ledger.lock import PATIENCE_S, WriteLock
from twisted_mta.ledger.losthints import LostHints
from twisted_mta.ledger.sqlite import translated

if TYPE_CHECKING:
    from twisted.internet.interfaces import (
        IDelayedCall,
        IReactorFromThreads,
        IReactorTime,
    )

    class IReactor(IReactorFromThreads, IReactorTime):
        """What the writer needs of a reactor."""


T = TypeVar("T")

# Units of one commit: enough that the fsync is shared by all that wait, few
# enough that nobody waits long for the others; for brief ones, that the reactor
# goes on after some milliseconds.
_GROUP_MOST = 256
_BRIEF_MOST = 64

# The writer's thread gives up the interpreter at each statement and asks for it
# again. While the reactor's thread computes without pause (a search through
# large messages), it is given back after this. Measured beside such a reactor:
# 150 messages a second with Python's default of 5 ms, 240 with 1 ms, 2,650 with
# 0.5 ms; in an ordinary load all are alike, and below 0.1 ms is dearer.
_SWITCH_S = 0.0005

# A group that has fewer units than the one before it waits a moment for more: each
# group costs some 80 us however large it is, and who has just been answered may be
# back within a millisecond (PostgreSQL: commit_delay, commit_siblings). So many
# units are enough in any case. Measured with 20 connections: 330 us of processor
# time for a message instead of 375, with two processes 410 instead of 465. Someone
# who writes alone never waits.
_ENOUGH = 8
_LINGER_S = 0.001

# How often the writer looks whether another process wrote.
_LOOK_S = 1.0

# The log's pages (of 8 KB) after which this thread itself copies what is left
# to copy into the ledger, so that the log starts anew: 64 MB. The bulk has been
# copied by then, by a thread beside.
_LOG_MOST_PAGES = 8_000


class Writer:
    """The writer of one process: one group at a time.

    @param connect: opens the connection, again after an error of the disk.
    @param lock: closed by the thread when it ends.
    @param committed: called in the reactor's thread after each group, with the
        topics that it changed (C{None}: any may have, another process wrote)
        and the length of the log in pages.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        connect: Callable[[], apsw.Connection],
        lock: WriteLock,
        committed: Callable[[Iterable[str] | None, int], None],
    ) -> None:
        self._reactor = reactor
        self._connect = connect
        self._lock = lock
        self._committed = committed
        self._waiting: deque[Waiting] = deque()
        self._scheduled: IDelayedCall | None = None
        # What is scheduled need not be waited for, once so many wait.
        self._enough = 1
        self._lingers = False
        # Who has the connection: the thread from when it is given work until it
        # calls back, else the reactor's thread.
        self._busy = False
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._connection: apsw.Connection | None = None
        self._log_pages = 0
        self._lost_hints = LostHints()
        # A look that could not be: the thread had the connection.
        self._look_is_due = False
        self._look: IDelayedCall | None = None
        # Since when the thread waits for the lock.
        self._wanted_since: float | None = None
        self._ended: Deferred[None] = Deferred()
        self._thread = threading.Thread(target=self._run, name="ledger writer")
        self._closing = False

    # --- in the reactor's thread ---

    def start(self) -> None:
        """Start the thread."""
        if sys.getswitchinterval() > _SWITCH_S:
            sys.setswitchinterval(_SWITCH_S)
        # A daemon: should the process end without close(), what nobody was told
        # of must not keep it alive.
        self._thread.daemon = True
        self._thread.start()
        self._hand_over(self._open_early)
        self._look = self._reactor.callLater(_LOOK_S, self._tick)

    def submit(self, unit: Unit[T], brief: bool = False) -> Deferred[T]:
        """Queue a unit of work.

        @param brief: it is a few statements by key, and may run in this thread.
        @return: fires once it is durable, or fails if nothing of it is kept.
        """
        waiting = Waiting(unit, brief)
        if self._closing:
            waiting.deferred.errback(LedgerUnavailable("Mail storage is closed"))
            return waiting.deferred
        self._waiting.append(waiting)
        if self._busy:
            return waiting.deferred
        if self._scheduled is None:
            # Not at once: sessions that come next may have units for this group.
            self._scheduled = self._reactor.callLater(0, self._next)
        elif self._lingers and len(self._waiting) >= self._enough:
            self._lingers = False
            self._scheduled.reset(0)
        return waiting.deferred

    def hinted(self) -> None:
        """Another process said what it wrote."""
        self._lost_hints.hinted()

    async def close(self) -> None:
        """Commit what waits, then end the thread."""
        if not self._closing:
            self._closing = True
            if not self._busy and self._scheduled is None:
                self._next()
        await self._ended

    def _next(self) -> None:
        """Begin the next group, if there is one."""
        self._scheduled = None
        self._lingers = False
        if not self._waiting:
            if self._closing:
                self._hand_over(None)
        elif self._lock.take_at_once():
            self._begin()
        else:
            self._wanted_since = self._reactor.seconds()
            self._hand_over(self._wait_for_lock)

    def _begin(self) -> None:
        """Begin a group of those that wait; the lock is ours."""
        connection = self._connection
        brief = connection is not None and self._starts_brief()
        group = self._take(_BRIEF_MOST if brief else _GROUP_MOST)
        if brief and group.begin(cast(apsw.Connection, connection)):
            self._hand_over(partial(self._commit, group.finish, group))
        else:
            self._hand_over(partial(self._commit, group.commit, group))

    def _got_lock(self) -> None:
        """Another process wrote; now it is our turn. The group has grown."""
        self._wanted_since = None
        self._busy = False
        if self._waiting:
            self._begin()
        else:
            self._lock.give_back()
            self._settle(None)

    def _has_no_lock(self) -> None:
        """There is none to be had: those who wait shall try again."""
        self._wanted_since = None
        group = self._take(len(self._waiting))
        group.fail(LedgerUnavailable())
        group.tell()
        self._settle(None)

    def _starts_brief(self) -> bool:
        """Whether the next group can be run here."""
        first = islice(self._waiting, _BRIEF_MOST)
        return bool(self._waiting) and all(waiting.brief for waiting in first)

    def _take(self, most: int) -> Group:
        count = min(most, len(self._waiting))
        return Group([self._waiting.popleft() for _ in range(count)])

    def _hand_over(self, work: Callable[[], None] | None) -> None:
        self._busy = True
        self._work.put(work)

    def _settle(self, group: Group | None) -> None:
        """The thread has done its work. The next group, if it is large enough,
        begins before the callers of this one go on: the disk is slower than they
        are."""
        self._busy = False
        others = self._look_is_due and self._others_wrote()
        if group is not None:
            self._enough = min(len(group), _ENOUGH)
        if len(self._waiting) >= self._enough or self._closing:
            self._next()
        elif self._waiting:
            self._lingers = True
            self._scheduled = self._reactor.callLater(_LINGER_S, self._next)
        if group is not None:
            group.tell()
            self._committed(group.topics, self._log_pages)
        if others:
            # Not before: whoever is told may have units.
            self._committed(None, self._log_pages)

    def _tick(self) -> None:
        """Once a second."""
        self._look = self._reactor.callLater(_LOOK_S, self._tick)
        if self._wanted_since is not None:
            if self._reactor.seconds() - self._wanted_since > PATIENCE_S:
                self._lose_patience()
        elif self._busy:
            self._look_is_due = True
        elif self._others_wrote():
            self._committed(None, self._log_pages)

    def _lose_patience(self) -> None:
        """Another process has had the lock for too long. The thread goes on
        waiting; those who wait for it shall try again."""
        self._wanted_since = self._reactor.seconds()
        group = self._take(len(self._waiting))
        self.log.error(
            "ledger: another process writes since {seconds:.0f} s;"
            " {count} units are given up",
            seconds=PATIENCE_S,
            count=len(group),
        )
        group.fail(LedgerUnavailable("Mail storage is busy; try again later"))
        group.tell()
        if self._closing:
            self._has_ended()

    def _others_wrote(self) -> bool:
        """Whether another process wrote, and did not say what: then anything may
        have changed. Needs the connection."""
        self._look_is_due = False
        if self._connection is None:
            return False
        try:
            version = _data_version(self._connection)
        except apsw.Error:
            return False
        return self._lost_hints.look(version, self._reactor.seconds())

    def _has_ended(self) -> None:
        """The thread has ended, or is left alone."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if not self._ended.called:
            self._ended.callback(None)

    # --- in the thread ---

    def _run(self) -> None:
        try:
            while (work := self._work.get()) is not None:
                work()
        finally:
            self._drop_connection()
            self._lock.close()
            self._reactor.callFromThread(self._has_ended)

    def _wait_for_lock(self) -> None:
        try:
            self._lock.wait()
        except OSError as error:
            self.log.error("ledger: no lock to write: {error}", error=error)
            self._reactor.callFromThread(self._has_no_lock)
        else:
            self._reactor.callFromThread(self._got_lock)

    def _commit(self, commit: Callable[[apsw.Connection], None], group: Group) -> None:
        """Commit a group, and give back the lock."""
        try:
            self._durably(commit, group)
        finally:
            self._lock.give_back()
            self._reactor.callFromThread(self._settle, group)

    def _durably(self, commit: Callable[[apsw.Connection], None], group: Group) -> None:
        """Commit a group, or fail all of it. The lock is held."""
        try:
            connection = self._connection or self._reconnect()
            commit(connection)
            if self._log_pages > _LOG_MOST_PAGES:
                self._restart_log(connection)
        except Exception as error:
            self.log.error(
                "ledger: {count} units were not committed: {error!r}",
                count=len(group),
                error=error.__cause__ or error,
            )
            group.fail(translated(error, self._connection))
            # Before anybody is told.
            self._connect_again()

    def _reconnect(self) -> apsw.Connection:
        """Open the connection, and overwrite what a commit that failed may have
        left in the log: a crash could otherwise bring it back, although whoever
        asked for it was told that nothing was kept."""
        connection = self._connection = self._connect()
        connection.set_wal_hook(self._note_log)
        connection.execute("UPDATE ledger SET opened = opened + 1")
        self._lost_hints.connected(_data_version(connection))
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
        self._reactor.callFromThread(self._settle, None)

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


def _data_version(connection: apsw.Connection) -> int:
    return int(connection.pragma("data_version"))
