"""Files of large content: C{content/xx/ID}, one each, never rewritten.

A file is made while its content arrives, locked by whoever writes it, and made
durable, with its name, before the row that names it is committed. So a file
that nobody has locked and no row names is an orphan of a crash, and may go. The
module knows no row. It trusts that nothing else puts files there.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from twisted.logger import Logger

from twisted_mta.errors import LedgerUnavailable, NoSuchMessage
from twisted_mta.ledger.sqlite import translated
from twisted_mta.mail.ids import from_text, to_text

_log = Logger()

# Octets that gather before they are written.
_GATHER = 256 * 1024


# Files that may stay open between two reads: a quarter of the smallest usual limit
# of open files (1,024; getrlimit(2)), the rest is for connections.
KEPT_MOST = 256


class Files:
    """The directories of content.

    @param directory: C{content}; made by L{prepare}.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # A queue, since places are given back whenever a reader is forgotten.
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(KEPT_MOST):
            self._places.put(None)

    def prepare(self) -> None:
        """Make the directories. There are 256, so that none grows long."""
        for low in range(256):
            self._path(low).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        synchronise(self._directory)
        synchronise(self._directory.parent)

    def create(self, id: int) -> ArrivingFile:
        """A new file.

        @raise LedgerFull: no space.
        @raise LedgerUnavailable: another error of the disk.
        """
        path = self._path(id)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            while True:
                fd = os.open(path, flags, 0o600)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX)
                except OSError:
                    os.close(fd)
                    _unlink(path)
                    raise
                if os.fstat(fd).st_nlink:
                    return ArrivingFile(path, fd)
                # Another process, which starts, took it for an orphan before
                # it was locked.
                os.close(fd)
        except OSError as error:
            raise translated(error)

    def open(self, id: int) -> StoredFile:
        """A file, to be read from.

        @raise NoSuchMessage: it was collected.
        @raise LedgerUnavailable: it cannot be read.
        """
        try:
            return StoredFile(os.open(self._path(id), os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            raise NoSuchMessage()
        except OSError as error:
            raise translated(error)

    def kept_open(self, file: StoredFile) -> bool:
        """Whether a file may stay open for the next read: so many of a process
        do, and those of further readers are opened again for each."""
        with suppress(Empty):
            self._places.get_nowait()
            file.places = self._places
            return True
        return False

    def read(self, id: int, offset: int, most: int) -> bytes:
        """Octets of a file.

        @raise NoSuchMessage: it was collected.
        @raise LedgerUnavailable: it cannot be read.
        """
        return self.open(id).read(offset, most)

    def size(self, id: int) -> int | None:
        """Octets of a file; C{None} if there is none."""
        with suppress(FileNotFoundError):
            return self._path(id).stat().st_size
        return None

    def remove(self, id: int) -> None:
        """Remove a file, if it is there and the disk lets us. What is left of
        it is an orphan, so nothing is synchronised."""
        _unlink(self._path(id))

    def ids(self) -> Iterator[int]:
        """The ids of all files, arriving ones included."""
        for directory in self._directory.iterdir():
            for entry in os.scandir(directory):
                with suppress(ValueError):
                    yield from_text(entry.name)

    def is_arriving(self, id: int) -> bool:
        """Whether some process still writes a file, or has not yet decided."""
        try:
            fd = os.open(self._path(id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _path(self, id: int) -> Path:
        # The lowest eight bits of an id are chance.
        return self._directory / f"{id & 255:02x}" / to_text(id)


class StoredFile:
    """A file that is read. It is closed with the last reference to it, so that a
    thread that still reads, although nobody waits for it, reads this file.

    @ivar places: gets back a place when the file is closed.
    """

    __slots__ = ("_fd", "places")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.places: SimpleQueue[None] | None = None

    def read(self, offset: int, most: int) -> bytes:
        """Octets of it.

        @raise LedgerUnavailable: they cannot be read.
        """
        try:
            return _read(self._fd, offset, most)
        except OSError as error:
            raise translated(error)

    def __del__(self) -> None:
        os.close(self._fd)
        if self.places is not None:
            self.places.put(None)


class ArrivingFile:
    """A file that is written, locked until it is closed."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        # A thread may still work on it when whoever waited for that has given up.
        # Its number must not become another file's meanwhile.
        self._using = threading.Lock()
        self._users = 0
        self._closed = False
        self._gathered: list[bytes] = []
        self._gathered_octets = 0

    def write(self, octets: bytes) -> None:
        """Append octets.

        @raise LedgerFull: no space.
        @raise LedgerUnavailable: another error of the disk.
        """
        self._gathered.append(octets)
        self._gathered_octets += len(octets)
        if self._gathered_octets >= _GATHER:
            self._flush()

    def synchronise(self) -> None:
        """Make the file durable, and its name. Blocks.

        @raise LedgerFull: no space.
        @raise LedgerUnavailable: another error of the disk.
        """
        with self._used() as fd:
            self._flush()
            try:
                os.fsync(fd)
            except OSError as error:
                raise translated(error)
        synchronise(self._path.parent)

    def read(self, offset: int, most: int) -> bytes:
        """Octets of what was synchronised.

        @raise LedgerUnavailable: they cannot be read, or it is closed.
        """
        with self._used() as fd:
            try:
                return _read(fd, offset, most)
            except OSError as error:
                raise translated(error)

    def close(self) -> None:
        """Unlock it and leave it to the row that names it, or else to the next
        start's recovery. May be repeated."""
        with self._using:
            self._closed = True
            self._close_unused()

    @contextmanager
    def _used(self) -> Iterator[int]:
        """The descriptor, which stays open within."""
        with self._using:
            if self._closed:
                raise LedgerUnavailable("The content was given up")
            self._users += 1
        try:
            yield self._fd
        finally:
            with self._using:
                self._users -= 1
                self._close_unused()

    def _close_unused(self) -> None:
        if self._closed and not self._users and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        """Remove it, if the disk lets us; no row names it."""
        if not self._closed:
            _unlink(self._path)
            self.close()

    def _flush(self) -> None:
        octets = memoryview(b"".join(self._gathered))
        self._gathered.clear()
        self._gathered_octets = 0
        try:
            while octets:
                octets = octets[os.write(self._fd, octets) :]
        except OSError as error:
            raise translated(error)


def _unlink(path: Path) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        # The next start tries again.
        _log.warn("ledger: a file is left alone: {error}", error=error)


def _read(fd: int, offset: int, most: int) -> bytes:
    """As much as asked for unless the file ends: a read may stop short."""
    octets = os.pread(fd, most, offset)
    while 0 < len(octets) < most:
        more = os.pread(fd, most - len(octets), offset + len(octets))
        if not more:
            break
        octets += more
    return octets


def make_directory(directory: Path) -> None:
    """Make a directory, its owner's alone, and those above it, if they are not
    there; and make their names durable. Blocks.

    @raise OSError: it cannot be made.
    @raise MailError: its name is not durable.
    """
    new = []
    for one in (directory, *directory.parents):
        if one.exists():
            break
        new.append(one)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for one in new:
        synchronise(one.parent)


def synchronise(directory: Path) -> None:
    """Make the names in a directory durable. Blocks.

    @raise LedgerFull: no space.
    @raise LedgerUnavailable: another error of the disk.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise translated(error)
