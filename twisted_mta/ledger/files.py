"""Files of large content: C{content/xx/ID}, one each, never rewritten.

A file is made while its content arrives, locked by whoever writes it, and made
durable, with its name, before the row that names it is committed. So a file
that nobody has locked and no row names is an orphan of a crash, and may go. The
module knows no row. It trusts that nothing else puts files there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

from twisted_mta.errors import NoSuchMessage
from twisted_mta.ledger.sqlite import translated
from twisted_mta.mail.ids import from_text, to_text

_log = Logger()

# Octets that gather before they are written.
_GATHER = 256 * 1024


class Files:
    """The directories of content.

    @param directory: C{content}; made by L{prepare}.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

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
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.fstat(fd).st_nlink:
                    return ArrivingFile(path, fd)
                # Another process, which starts, took it for an orphan before
                # it was locked.
                os.close(fd)
        except OSError as error:
            raise translated(error)

    def read(self, id: int, offset: int, most: int) -> bytes:
        """Octets of a file.

        @raise NoSuchMessage: it was collected.
        @raise LedgerUnavailable: it cannot be read.
        """
        try:
            fd = os.open(self._path(id), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return _read(fd, offset, most)
            finally:
                os.close(fd)
        except FileNotFoundError:
            raise NoSuchMessage()
        except OSError as error:
            raise translated(error)

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


class ArrivingFile:
    """A file that is written, locked until it is closed."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd
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
        self._flush()
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise translated(error)
        synchronise(self._path.parent)

    def read(self, offset: int, most: int) -> bytes:
        """Octets of what was synchronised."""
        try:
            return _read(self._fd, offset, most)
        except OSError as error:
            raise translated(error)

    def close(self) -> None:
        """Unlock it and leave it to the row that names it, or else to the next
        start's recovery. May be repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def discard(self) -> None:
        """Remove it, if the disk lets us; no row names it."""
        if self._fd >= 0:
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
