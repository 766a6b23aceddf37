"""The units of one commit, and how they are run on a connection.

A group is begun, its units are run, and it is committed; each of these in
whichever thread has the connection. A unit that raises must not hurt the others:
then the group is run again, each unit within a savepoint of its own. What the
storage does wrong, on the other hand, is everybody's failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import apsw
from twisted.internet.defer import Deferred

from twisted_mta.errors import MailError
from twisted_mta.ledger.sqlite import BUSY_MS, Transaction, translated

T = TypeVar("T")

Unit = Callable[[Transaction], T]


class Waiting:
    """A unit of work and who waits for it.

    @ivar brief: it is a few statements by key.
    @ivar error: its failure, once its group has come to an end.
    """

    __slots__ = ("brief", "deferred", "error", "result", "unit")

    def __init__(self, unit: Unit[Any], brief: bool) -> None:
        self.unit = unit
        self.brief = brief
        self.deferred: Deferred[Any] = Deferred()
        self.result: Any = None
        self.error: Exception | None = None

    def tell(self) -> None:
        """Tell whoever waits."""
        if self.error is None:
            self.deferred.callback(self.result)
        else:
            self.deferred.errback(self.error)


class _UnitFailed(Exception):
    """A unit raised; the group has to be run again."""


class Group:
    """Some units, to be committed together.

    @ivar topics: what they said has changed, once committed.
    """

    def __init__(self, units: Sequence[Waiting]) -> None:
        self.units = units
        self.topics: set[str] = set()
        self._transaction: Transaction | None = None

    def __len__(self) -> int:
        return len(self.units)

    def tell(self) -> None:
        """Tell all who wait what became of their units."""
        for waiting in self.units:
            waiting.tell()

    def fail(self, error: Exception) -> None:
        """The storage's fault: it is everybody's, and nothing was kept."""
        for waiting in self.units:
            waiting.error = waiting.error or error

    # --- in two steps, with the commit elsewhere ---

    def begin(self, connection: apsw.Connection) -> bool:
        """Run the units up to the COMMIT, without waiting for anything.

        @return: whether it worked; if not, nothing is left of it, and why is
            found out, and said, where it is run again.
        """
        transaction = Transaction(connection)
        connection.set_busy_timeout(0)
        try:
            connection.execute("BEGIN IMMEDIATE")
            for run in _runs(self.units):
                _run(transaction, run)
        except Exception:
            _roll_back(connection)
            return False
        finally:
            connection.set_busy_timeout(BUSY_MS)
        self._transaction = transaction
        return True

    def finish(self, connection: apsw.Connection) -> None:
        """Commit what was begun.

        @raise MailError: it could not be, and nothing is left of it.
        """
        with _rolled_back(connection):
            connection.execute("COMMIT")
        if self._transaction is not None:
            self.topics = set(self._transaction.topics)

    # --- in one ---

    def commit(self, connection: apsw.Connection) -> None:
        """Run the units and commit them.

        @raise MailError: it could not be, and nothing is left of it.
        """
        try:
            self._attempt(connection, _bare)
        except _UnitFailed:
            self._attempt(connection, _guarded)

    def _attempt(
        self,
        connection: apsw.Connection,
        run: Callable[[apsw.Connection, Transaction, Sequence[Waiting]], None],
    ) -> None:
        transaction = self._transaction = Transaction(connection)
        connection.execute("BEGIN IMMEDIATE")
        with _rolled_back(connection):
            run(connection, transaction, self.units)
        self.finish(connection)


def _runs(units: Sequence[Waiting]) -> Iterator[Sequence[Waiting]]:
    """Neighbours of a kind that can be run together, and the others one by one."""
    start = 0
    for at, waiting in enumerate(units):
        first = units[start].unit
        if at > start and not (
            type(waiting.unit) is type(first) and hasattr(first, "together")
        ):
            yield units[start:at]
            start = at
    yield units[start:]


def _run(transaction: Transaction, run: Sequence[Waiting]) -> None:
    """Run units that L{_runs} gave."""
    first = run[0]
    if len(run) == 1:
        first.result = first.unit(transaction)
        return
    together: Any = first.unit
    results = together.together(transaction, [waiting.unit for waiting in run])
    for waiting, result in zip(run, results, strict=True):
        waiting.result = result


def _bare(
    connection: apsw.Connection, transaction: Transaction, units: Sequence[Waiting]
) -> None:
    """Run units that are expected to succeed."""
    try:
        for run in _runs(units):
            _run(transaction, run)
    except Exception as error:
        if _is_of_storage(error, connection):
            raise
        raise _UnitFailed from error


def _guarded(
    connection: apsw.Connection, transaction: Transaction, units: Sequence[Waiting]
) -> None:
    """Run each unit so that its failure is its own."""
    for waiting in units:
        _guarded_one(connection, transaction, waiting)


def _guarded_one(
    connection: apsw.Connection, transaction: Transaction, waiting: Waiting
) -> None:
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


def _is_of_storage(error: Exception, connection: apsw.Connection) -> bool:
    return isinstance(error, apsw.Error) and isinstance(
        translated(error, connection), MailError
    )


@contextmanager
def _rolled_back(connection: apsw.Connection) -> Iterator[None]:
    """What raises within is rolled back."""
    try:
        yield
    except Exception as error:
        # What the system said is known only until the next statement.
        reason = translated(error, connection)
        _roll_back(connection)
        if reason is error:
            raise
        raise reason from error


def _roll_back(connection: apsw.Connection) -> None:
    """SQLite has rolled back by itself after some errors; then this is none."""
    if connection.in_transaction:
        with suppress(apsw.Error):
            connection.execute("ROLLBACK")
