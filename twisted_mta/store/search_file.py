"""The files of the search index, and who vouches for them.

A directory beside the ledger, which may be removed while no server runs: all in
it is made from the ledger. C{ID.sqlite3} is the index; a new one has a new name,
so that processes that still have an old one open do it no harm. One process at a
time writes, whoever has C{indexer.lock}. It makes sure that the file is sound
before it vouches for it: it puts the name into C{vouched.lock} and locks that.
Others use the file that a living process vouches for, and no other. So a file that
was damaged while nobody had it open is never used.

A file that was closed in order has its size and times in C{clean}. If they are the
same at the next start, it is sound; if they are not, somebody has written into
it, and it is made anew. If there is no C{clean}, the last process was killed: then
SQLite's own check decides.

Nothing here is synchronised but by SQLite (C{synchronous=NORMAL}): a power cut
loses the last commits whole, and they are made again from the ledger.
"""

from __future__ import annotations

import fcntl
import os
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

from twisted_mta.ledger.sqlite import BUSY_MS, PAGE_OCTETS
from twisted_mta.mail import text
from twisted_mta.mail.ids import new_id, to_text

#: What the index's answers depend on: its own form, how text is read from
#: messages, and which characters make words and fold into which.
FORMAT = f"1 {text.VERSION} {unicodedata.unidata_version}"

#: What says that the file is no good.
DAMAGED = (apsw.CorruptError, apsw.NotADBError)

_SUFFIX = ".sqlite3"

# Pages in memory, of the one who writes and of each who searches.
_WRITER_CACHE_KB = 16 << 10
_READER_CACHE_KB = 4 << 10

# An account's documents have numbers from its own number * 2 ** 32 on, so that
# what is found of one account is a range, and neighbours differ by little. The
# words in `posting` are a letter for the place and a word's id in hexadecimal.
# Neither needs what it indexes (content=''), nor where in it (detail=none).
SCHEMA = """
CREATE TABLE meta (format TEXT NOT NULL, gone INTEGER NOT NULL);
CREATE TABLE account (
    id        INTEGER PRIMARY KEY,       -- the ledger's
    number    INTEGER NOT NULL UNIQUE,
    modseq    INTEGER NOT NULL,          -- up to here all emails are documents
    top       INTEGER NOT NULL           -- the next document's number
);
CREATE TABLE document (
    number    INTEGER PRIMARY KEY,
    account   INTEGER NOT NULL,
    email     INTEGER NOT NULL,
    received  INTEGER NOT NULL,          -- days
    sent      INTEGER NOT NULL,          -- days, or 0
    whole     INTEGER NOT NULL           -- 0: not indexed, to be looked at
);
CREATE UNIQUE INDEX document_email ON document (account, email);
CREATE INDEX document_look ON document (number) WHERE whole = 0;
CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE VIRTUAL TABLE gram USING fts5(
    text, content='', columnsize=0, detail=none,
    tokenize='trigram case_sensitive 1'
);
CREATE VIRTUAL TABLE posting USING fts5(
    words, content='', contentless_delete=1, detail=none, tokenize='ascii'
);
"""


def connect(path: Path, writes: bool = False) -> apsw.Connection:
    """Open a connection to an index that is there.

    @raise apsw.Error: it cannot be opened.
    """
    flags = apsw.SQLITE_OPEN_READWRITE
    connection = apsw.Connection(str(path), flags=flags)
    try:
        connection.set_busy_timeout(BUSY_MS)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA temp_store = MEMORY")
        size = _WRITER_CACHE_KB if writes else _READER_CACHE_KB
        connection.execute(f"PRAGMA cache_size = -{size}")
        if not writes:
            connection.execute("PRAGMA query_only = ON")
        ((found,),) = rows(connection, "SELECT format FROM meta")
        if found != FORMAT:
            raise apsw.SchemaChangeError(f"search index of format {found}")
    except BaseException:
        connection.close(True)
        raise
    return connection


def rows(
    connection: apsw.Connection, sql: str, *values: int | str
) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return connection.execute(sql, values).fetchall()


class SearchFiles:
    """The directory.

    @param directory: made when an indexer needs it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._vouched = directory / "vouched.lock"
        self._doubt = directory / "doubt"

    def vouched(self) -> Path | None:
        """The index to be used, C{None} if there is none at the moment."""
        if self._doubt.exists():
            return None
        try:
            fd = os.open(self._vouched, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            path = self._directory / os.pread(fd, 64, 0).decode("ascii", "replace")
            return path if path.suffix == _SUFFIX and path.exists() else None
        finally:
            os.close(fd)
        return None

    def newest(self) -> Path | None:
        """The index that is there, whether somebody vouches for it or not."""
        return max(self._directory.glob("*" + _SUFFIX), default=None)

    def doubt(self) -> None:
        """The index is damaged, or shall be made anew for another reason: nobody
        uses it until it is."""
        with suppress(FileNotFoundError):
            self._doubt.touch(mode=0o600)

    def custody(self) -> Custody | None:
        """The right to write, unless another has it."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken = _locked(self._directory / "indexer.lock")
        return None if taken is None else Custody(self._directory, taken)


class Custody:
    """The right to write the index, until it is closed or its holder dies."""

    def __init__(self, directory: Path, lock: int) -> None:
        self._directory = directory
        self._clean = directory / "clean"
        self._doubt = directory / "doubt"
        self._lock = lock
        self._vouching: int | None = None

    def open(self) -> tuple[Path, apsw.Connection]:
        """The index, sound: the one that is there or a new one. Others are not
        told before L{vouch}. Reads the whole file if its last writer died.

        @raise apsw.Error: none can be made.
        """
        if self.doubted():
            return self.renew()
        there = sorted(self._directory.glob("*" + _SUFFIX))
        newest = there.pop() if there else None
        for path in there:
            _remove(path)
        if newest is not None:
            connection = self._sound(newest)
            if connection is not None:
                return newest, connection
        return self.renew()

    def doubted(self) -> bool:
        """Whether somebody called L{SearchFiles.doubt}."""
        return self._doubt.exists()

    def renew(self) -> tuple[Path, apsw.Connection]:
        """A new, empty index instead of all that are there."""
        self.retract()
        for path in self._directory.glob("*" + _SUFFIX):
            _remove(path)
        path = self._directory / (to_text(new_id()) + _SUFFIX)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(str(path))
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_OCTETS}")
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            with connection:
                connection.execute(SCHEMA)
                connection.execute("INSERT INTO meta VALUES (?, 0)", (FORMAT,))
        finally:
            connection.close()
        self._doubt.unlink(missing_ok=True)
        return path, connect(path, writes=True)

    def vouch(self, path: Path) -> None:
        """Let others use it."""
        fd = os.open(
            self._directory / "vouched.lock",
            os.O_RDWR | os.O_CREAT | os.O_CLOEXEC,
            0o600,
        )
        # The name first: who sees the lock reads it.
        os.ftruncate(fd, 0)
        os.pwrite(fd, path.name.encode("ascii"), 0)
        fcntl.flock(fd, fcntl.LOCK_EX)
        self._vouching = fd

    def retract(self) -> None:
        """Vouch for none any more."""
        fd, self._vouching = self._vouching, None
        if fd is not None:
            os.close(fd)

    def close(self, path: Path, connection: apsw.Connection) -> None:
        """Close the index in order, and let another write."""
        with suppress(apsw.Error, OSError):
            ((busy, _, _),) = rows(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
            if not busy:
                self._clean.write_text(_stamp(path), "ascii")
        with suppress(apsw.Error):
            connection.close()
        self.give_up()

    def give_up(self) -> None:
        """Let another write."""
        self.retract()
        os.close(self._lock)

    def _sound(self, path: Path) -> apsw.Connection | None:
        """Open an index that is as it should be; C{None} if it is not."""
        stamp = None
        with suppress(FileNotFoundError):
            stamp = self._clean.read_text("ascii", "replace")
            self._clean.unlink()
        if stamp is not None and stamp != _stamp(path):
            return None
        try:
            connection = connect(path, writes=True)
        except (apsw.Error, ValueError):
            return None
        try:
            if stamp is not None or damage(connection) is None:
                return connection
        except apsw.Error:
            pass
        connection.close(True)
        return None


def damage(connection: apsw.Connection) -> str | None:
    """What SQLite finds wrong with an index, the insides of FTS5 included.

    @raise apsw.Error: so much that it cannot say.
    """
    for (said,) in rows(connection, "PRAGMA integrity_check(1)"):
        if said != "ok":
            return str(said)
    return None


def _stamp(path: Path) -> str:
    """What changes when somebody writes into an index, or has to."""
    stat = path.stat()
    log = path.with_name(path.name + "-wal")
    left = log.stat().st_size if log.exists() else 0
    return f"{path.name} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {left}"


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _locked(path: Path) -> int | None:
    """A descriptor with the lock, C{None} if another has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
