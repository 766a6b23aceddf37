"""That content stays: whoever copies a ledger needs the files that its rows name.

The collector of any process may remove content, rows and files, except while
somebody holds it all. Who wants to hold it is let in before the next removal
begins, however much there is to remove. The kernel frees both locks when their
owner dies.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from twisted_mta.errors import LedgerUnavailable
from twisted_mta.ledger.sqlite import translated

# A removal is 50 rows in one commit, and their files.
_LOOK_S = 0.005
_PATIENCE_S = 60.0


class Hold:
    """The locks of one ledger's content.

    @param door: a file, made if it is not there, that is locked by whoever wants
        to hold.
    @param content: the directory that is locked by all who remove.
    """

    def __init__(self, door: Path, content: Path) -> None:
        self._door = door
        self._content = content

    def prepare(self) -> None:
        """Make the file, so that it is the server's own before somebody else, such
        as root, wants to hold."""
        with _opened(self._door, os.O_RDWR | os.O_CREAT):
            pass

    @contextmanager
    def removing(self) -> Iterator[bool]:
        """Remove content within, if this gives true.

        @raise LedgerUnavailable: the locks cannot be had of the disk or the system.
        """
        with ExitStack() as stack:
            try:
                inside = self._entered(stack)
            except OSError as error:
                raise translated(error)
            yield inside

    def _entered(self, stack: ExitStack) -> bool:
        with _opened(self._door, os.O_RDWR | os.O_CREAT) as door:
            if not _locked(door, fcntl.LOCK_SH):
                return False
            content = stack.enter_context(_opened(self._content, os.O_RDONLY))
            return _locked(content, fcntl.LOCK_SH)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Nothing is removed meanwhile. Blocks.

        @raise LedgerUnavailable: a removal, or somebody else who holds, did not
            end within a minute.
        """
        with (
            _opened(self._door, os.O_RDWR | os.O_CREAT) as door,
            _opened(self._content, os.O_RDONLY) as content,
        ):
            give_up_at = time.monotonic() + _PATIENCE_S
            for fd in (door, content):
                while not _locked(fd, fcntl.LOCK_EX):
                    if time.monotonic() > give_up_at:
                        raise LedgerUnavailable(
                            "Something else holds the ledger's content, such as a"
                            " backup that runs; try again later"
                        )
                    time.sleep(_LOOK_S)
            yield


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _locked(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
