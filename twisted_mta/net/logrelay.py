"""Lines in the files of twistd's log: this process's own, and those of workers.

A worker writes its lines, with time and name as they shall stand, into a pipe.
The supervisor copies whole lines to where its own go, and reads none of them, so
that a line costs it next to nothing (1 us, where an event of its own costs 40).
If its log is no file, but syslog or what a plugin made, each line becomes an
event again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from twisted.logger import (
    FileLogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogPublisher,
    globalLogPublisher,
)

from twisted_mta.net.logline import Lines, text_of, time_of

# As twistd writes it: 2026-01-31T12:00:00+0100. It is what a log that is no file
# writes by itself.
_TIME = "%Y-%m-%dT%H:%M:%S%z"
_TIME_WRITTEN = re.compile(r"^\d{4}-\d\d-\d\dT[\d:]{8}[+-]\d{4} ")

# What reactors say when they end, which is the supervisor's to tell.
_NO_NEWS = ("Main loop terminated.",)

# A line without an end grows no longer than this; ours are far shorter.
_LONGEST = 1 << 16


def observer(reactor: Any, name: str, write: Callable[[bytes], object]) -> Lines:
    """What writes the events of a worker.

    @param name: the worker's, in each line.
    """

    def line(event: LogEvent) -> str:
        text = text_of(event)
        return "" if text in _NO_NEWS else _line(event, text, f"{name} ")

    def write_lines(text: str) -> None:
        with suppress(OSError):  # the supervisor is gone, and so will we be
            write(text.encode(errors="replace"))

    return Lines(reactor, line, write_lines)


def _line(event: LogEvent, text: str, name: str = "") -> str:
    """One event is one line, or what looks like its continuation."""
    if not text:
        return ""
    at = time_of(int(event["log_time"]), _TIME)
    system = event.get("log_system") or _system(event)
    text = text.replace("\n", "\n\t")
    return f"{at} [{name}{system}] {text}\n"


def _system(event: LogEvent) -> str:
    level = event.get("log_level")
    return f"{event.get('log_namespace', '-')}#{level.name if level else '-'}"


class FileLines(Lines):
    """Writes the events of this process into a file of the log.

    @ivar file: it.
    """

    def __init__(self, reactor: Any, file: Any) -> None:
        super().__init__(reactor, lambda event: _line(event, text_of(event)), self._put)
        self.file = file

    def _put(self, text: str) -> None:
        _append(self.file, text)


def gather(reactor: Any, publisher: LogPublisher = globalLogPublisher) -> None:
    """While the reactor runs, let the files of the log be written by L{FileLines}: a
    process that serves by itself spends 25 us less on each message, and a sixth of
    a login. A log that C{--logger} writes in another form is left to that.

    @param publisher: the log's; for tests.
    """
    replaced = [
        (theirs, FileLines(reactor, theirs._outFile))
        for theirs in tuple(publisher._observers)
        if isinstance(theirs, FileLogObserver) and _writes_as_we_do(theirs)
    ]
    for theirs, ours in replaced:
        publisher.removeObserver(theirs)
        publisher.addObserver(ours)

    def undo() -> None:
        for theirs, ours in replaced:
            publisher.removeObserver(ours)
            ours.end()
            publisher.addObserver(theirs)

    reactor.addSystemEventTrigger("after", "shutdown", undo)


def _writes_as_we_do(observer: FileLogObserver) -> bool:
    event: LogEvent = {
        "log_format": "{what}\nand more",
        "what": "something",
        "log_time": 1.5e9,
        "log_namespace": "mta",
        "log_level": LogLevel.info,
    }
    with suppress(Exception):
        return observer.formatEvent(event) == _line(event, text_of(event))
    return False


def _append(file: Any, text: str) -> None:
    with suppress(OSError, ValueError):  # a full disk stops no mail
        try:
            file.write(text)
        except UnicodeEncodeError:  # a terminal that knows few characters
            code = getattr(file, "encoding", None) or "ascii"
            file.write(text.encode(code, "backslashreplace").decode(code))
        file.flush()


class LogRelay:
    """Copies lines into the log of this process.

    @param publisher: the log's; for tests.
    """

    _log = Logger("workers")

    def __init__(self, publisher: LogPublisher = globalLogPublisher) -> None:
        self._observers: Iterable[Any] = publisher._observers

    def stream(self) -> Callable[[bytes], None]:
        """Where one worker's octets go, in pieces as they come; an empty piece
        is the end."""
        rest = b""

        def write(octets: bytes) -> None:
            nonlocal rest
            lines, end, rest = (rest + octets).rpartition(b"\n")
            if not octets or len(rest) > _LONGEST:
                lines, end, rest = lines + end + rest, b"\n", b""
            if lines:
                self._write((lines + end).decode(errors="replace"))

        return write

    def _write(self, text: str) -> None:
        files = self._files()
        for file in files:
            _append(file, text)
        if not files:
            for line in text.splitlines():
                self._log.info("{line}", line=_TIME_WRITTEN.sub("", line))

    def _files(self) -> list[Any]:
        """The files of the log. twistd's C{LogFile} is renamed and opened anew
        behind this object, so it stays the right one."""
        files = []
        for observer in self._observers:
            if isinstance(observer, FileLogObserver):
                files.append(observer._outFile)
            elif isinstance(observer, FileLines):
                files.append(observer.file)
        return files


def pipe_writer(fd: int) -> Callable[[bytes], object]:
    """Writes whole lines to a pipe; a pipe that is full is waited for, as a
    full terminal is."""

    def write(octets: bytes) -> None:
        while octets:
            octets = octets[os.write(fd, octets) :]

    return write
