"""How far a command has come, in one line of a terminal; nothing elsewhere."""

import time
from types import TracebackType
from typing import TextIO

# A person reads no faster.
_SHOWN_S = 0.1

_CLEAR = "\r\x1b[K"


class Progress:
    """A line that is written over and over.

    @param out: where; if it is no terminal, nothing is written.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._on = out.isatty()
        self._shown_at = float("-inf")
        self._there = False

    def look(self, what: str, done: int, of: int | None = None) -> None:
        """Show how much of something is done.

        @param of: C{None}: nobody knows.
        """
        now = time.monotonic()
        if not self._on or now - self._shown_at < _SHOWN_S:
            return
        self._shown_at = now
        self._there = True
        whole = "" if of is None else f" of {of}"
        self._out.write(f"{_CLEAR}{what}: {done}{whole}")
        self._out.flush()

    def clear(self) -> None:
        """Make room for another line."""
        if self._there:
            self._there = False
            self._out.write(_CLEAR)
            self._out.flush()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()
