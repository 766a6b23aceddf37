"""Events of the log as lines of text, and few writes for many of them.

A busy server says a line about each message. Twisted's own way to text takes 15
us for each, and its file is written and flushed for each; here nearly all are made
by C{str.format_map}, and what is said within one turn of the reactor leaves in one
write. A warning, and all that is worse, leaves at once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from twisted.python.threadable import isInIOThread
from zope.interface import implementer

_URGENT = frozenset((LogLevel.warn, LogLevel.error, LogLevel.critical))


def text_of(event: LogEvent) -> str:
    """An event in words, without time and name. Formats that call functions, and
    failures, are Twisted's."""
    form = event.get("log_format")
    if form and "()" not in form and "log_failure" not in event:
        try:
            return str(form).format_map(event)
        except (LookupError, AttributeError, ValueError):
            pass  # Twisted's says what is wrong with it
    return eventAsText(event, includeTimestamp=False, includeSystem=False)


@lru_cache(maxsize=4)
def time_of(second: int, form: str) -> str:
    """The local time as C{strftime} writes it; made once a second."""
    return time.strftime(form, time.localtime(second))


@implementer(ILogObserver)
class Lines:
    """An observer of the log, for any thread, and for signal handlers, which may come
    in the middle of any of this: nothing here waits for its own thread."""

    def __init__(
        self,
        reactor: Any,
        line: Callable[[LogEvent], str],
        write: Callable[[str], object],
    ) -> None:
        """
        @param line: an event as a line with its end; empty to leave it out.
        @param write: where lines go.
        """
        self._reactor = reactor
        self._line = line
        self._write = write
        self._writing = threading.RLock()
        self._writer = 0  # the thread that does
        self._gathered: deque[str] = deque()
        self._scheduled = False
        self._ended = False

    def __call__(self, event: LogEvent) -> None:
        line = self._line(event)
        if not line:
            return
        self._gathered.append(line)
        if self._ended or event.get("log_level") in _URGENT:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            if isInIOThread():  # type: ignore[no-untyped-call]
                self._reactor.callLater(0, self.flush)
            else:
                self._reactor.callFromThread(self.flush)

    def flush(self) -> None:
        """Write what was said."""
        # What is said from now on, and not written here, is for another time.
        self._scheduled = False
        if self._writer == threading.get_ident():
            # In the middle of a write of our own: files cannot be written within.
            self._scheduled = True
            self._reactor.callFromThread(self.flush)
            return
        with self._writing:
            self._writer = threading.get_ident()
            try:
                while self._gathered:
                    self._write("".join(self._taken()))
            finally:
                self._writer = 0

    def _taken(self) -> list[str]:
        taken = []
        with suppress(IndexError):
            while True:
                taken.append(self._gathered.popleft())
        return taken

    def end(self) -> None:
        """The reactor has ended: from now on each line is written at once."""
        self._ended = True
        self.flush()
