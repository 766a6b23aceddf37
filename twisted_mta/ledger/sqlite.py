"""Connections to the SQLite ledger, and transactions on them.

What is known of SQLite is here: how a connection is set up, what its errors mean
to mail, and which words of the portable schema it spells otherwise. It knows no
table. It trusts the file system to keep what fsync said is kept.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw
from zope.interface import implementer

from twisted_mta.errors import LedgerFull, LedgerUnavailable
from twisted_mta.interfaces import ITransaction, SqlValue

T = TypeVar("T")

# Rows of content and email are 1 to 3 KB. Accepting 2 KB messages into 2 (500)
# mailboxes, in batches of 20, measured: pages of 4 KB 17,300 (13,600) a second
# and a third of the file empty, of 8 KB 19,100 (13,100), of 16 KB 17,900
# (12,900) and twice the log.
PAGE_OCTETS = 8192

# Prepared statements that a connection keeps; the server has some 150.
_STATEMENTS = 256

# How long SQLite waits for a lock that another connection holds. Writers queue
# for the lock file before (L{twisted_mta.ledger.lock}), so what is left is the
# moment in which another process opens, closes or recovers the ledger.
BUSY_MS = 10_000

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

# What says something of the disk, the file or the machine, and nothing of the
# unit of work in which it was raised.
_STORAGE_ERRORS = (
    apsw.FullError,
    apsw.IOError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.NoMemError,
    apsw.ReadOnlyError,
    apsw.PermissionsError,
    apsw.ProtocolError,
    apsw.InterruptError,
    apsw.ConnectionClosedError,
)


def connect(path: Path, cache_octets: int, query_only: bool = False) -> apsw.Connection:
    """Open a connection.

    @param cache_octets: of pages in memory.
    @raise apsw.Error: it cannot be opened.
    """
    connection = apsw.Connection(str(path), statementcachesize=_STATEMENTS)
    connection.set_busy_timeout(BUSY_MS)
    connection.execute(f"PRAGMA page_size = {PAGE_OCTETS}")
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    # FULL: the log is synchronised at each commit. NORMAL loses the last ones.
    connection.execute("PRAGMA synchronous = FULL")
    # Checkpoints are made off the hot path, by L{twisted_mta.ledger.ledger}.
    connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA cache_size = -{cache_octets // 1024}")
    # A log that has grown in a burst goes back to this when it starts anew.
    connection.execute(f"PRAGMA journal_size_limit = {64 << 20}").fetchall()
    if query_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def dialect(sql: str) -> str:
    """Portable data definitions as SQLite is best served: an C{INTEGER PRIMARY
    KEY} is the row's own number and needs no index beside the table; a table
    marked so is kept in the order of its key."""
    sql = sql.replace("BIGINT PRIMARY KEY", "INTEGER PRIMARY KEY")
    return sql.replace("/* clustered */", "WITHOUT ROWID")


@implementer(ITransaction)
class Transaction:
    """What units of work and queries have of a connection.

    @ivar topics: what units said has changed.
    """

    __slots__ = ("_connection", "topics")

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.topics: list[str] = []

    def execute(
        self, sql: str, values: Sequence[SqlValue] = ()
    ) -> Iterator[tuple[Any, ...]]:
        """See L{ITransaction.execute}."""
        return self._connection.execute(sql, values)

    def executemany(self, sql: str, rows: Sequence[Sequence[SqlValue]]) -> None:
        """See L{ITransaction.executemany}."""
        self._connection.executemany(sql, rows)

    def changed(self, topic: str) -> None:
        """See L{ITransaction.changed}."""
        self.topics.append(topic)


def snapshot(connection: apsw.Connection, query: Callable[[Transaction], T]) -> T:
    """Run a query on one state of the ledger. Needs a connection for itself
    meanwhile.

    @raise LedgerUnavailable: it cannot be read.
    """
    try:
        connection.execute("BEGIN")
        try:
            return query(Transaction(connection))
        finally:
            connection.execute("ROLLBACK")
    except apsw.Error as error:
        raise translated(error, connection)


def rows(
    connection: apsw.Connection, sql: str, values: tuple[SqlValue, ...] = ()
) -> list[tuple[Any, ...]]:
    """The rows of a statement, all read before the first is looked at: what is
    done with one does not change the others, and no snapshot is left open, which
    would keep the log from starting anew."""
    return connection.execute(sql, values).fetchall()


def translated(
    error: Exception, connection: apsw.Connection | None = None
) -> Exception:
    """What an error means to mail: the storage's fault, or, unchanged, the fault
    of whoever made the statement."""
    number = getattr(error, "errno", None)
    if connection is not None and isinstance(error, apsw.IOError):
        try:
            number = connection.system_errno
        except apsw.Error:
            number = None
    if isinstance(error, apsw.FullError) or number in _FULL:
        return LedgerFull()
    if isinstance(error, (*_STORAGE_ERRORS, OSError)):
        return LedgerUnavailable()
    return error
