"""Which processes have a ledger open, and which had it open when they died.

Each has a file in C{processes/}, named as the process is and locked (C{flock})
until it ends, however it ends: the kernel lets go of the lock. A process is there
before it does anything in its name, so a file without a lock is that of a dead
one, and whatever stands in its name is nobody's. Who finds such a file locks it
while it takes over, so that two do not, and removes it last: a crash between
leaves it to be found again.

A second lock, of the older kind (C{fcntl}), is for those who only ask whether a
process lives. The kernel drops that kind before it closes anything: whoever reads the
end of a connection to a process that was killed finds it dead. The other kind it drops
when it gets to it, maybe after the connections. Nor does who takes over stand in for
the dead there.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Beside the file of a process there may be its socket.
_SOCKET = ".hints"


class Presence:
    """This process among the others.

    @param directory: C{processes}, made if it is not there.
    @ivar name: this process's, which no other has or had.
    """

    def __init__(self, directory: Path) -> None:
        """@raise OSError: the directory cannot be used."""
        self.directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)
        while True:
            self.name = f"{os.getpid()}-{secrets.token_hex(4)}"
            self._fd = os.open(
                self._file(self.name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            fcntl.lockf(self._fd, fcntl.LOCK_EX)
            if os.fstat(self._fd).st_nlink:
                return
            # Another process took it for a dead one's before it was locked.
            os.close(self._fd)

    def socket(self, name: str) -> Path:
        """Where a process's socket is, if it has one."""
        return self._file(name + _SOCKET)

    def sockets(self) -> list[Path]:
        """The sockets of the other processes, dead ones included."""
        own = self.name + _SOCKET
        return [
            self._file(name)
            for name in os.listdir(self.directory)
            if name.endswith(_SOCKET) and name != own
        ]

    def dead(self) -> Iterator[Remains]:
        """What dead processes left. Each must be buried or let go."""
        for name in os.listdir(self.directory):
            if name == self.name or name.endswith(_SOCKET):
                continue
            with suppress(FileNotFoundError):
                fd = os.open(self._file(name), os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(fd)
                else:
                    yield Remains(name, fd, (self.socket(name), self._file(name)))

    def lives(self, name: str) -> bool:
        """Whether a process is there; one that left, or was buried, is not. 10 us."""
        if name == self.name:
            return True
        # Locks of the older kind are the process's, whoever in it has them.
        ours = name.startswith(f"{os.getpid()}-")
        lock = fcntl.flock if ours else fcntl.lockf
        try:
            fd = os.open(self._file(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            lock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            return True
        finally:
            os.close(fd)
        return False

    def leave(self) -> None:
        """Nothing stands in this process's name any more."""
        with suppress(OSError):  # what is left is as a dead process's
            os.unlink(self._file(self.name))
        os.close(self._fd)

    def _file(self, name: str) -> Path:
        return self.directory / name


class Remains:
    """What a dead process left, locked.

    @ivar name: the process's.
    """

    def __init__(self, name: str, fd: int, files: tuple[Path, ...]) -> None:
        self.name = name
        self._fd = fd
        self._files = files

    def bury(self) -> None:
        """Nothing stands in its name any more."""
        for file in self._files:
            with suppress(OSError):  # then it is found again
                os.unlink(file)
        self.let_go()

    def let_go(self) -> None:
        """Leave it to be found again. May be repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
