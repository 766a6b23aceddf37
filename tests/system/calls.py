"""The system calls of a running server, as strace wrote them down.

Threads make calls at the same time, so a call has a beginning and an end; each is
a line of the trace, and the order of the lines is that in which strace, which
stops the thread at both, saw them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# All that changes a file or its name, or makes that durable; and what is said to
# clients and by other servers.
_TRACED = (
    "write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,"
    "fsync,fdatasync,sync_file_range,msync,open,openat,creat,mkdir,mkdirat,rmdir,"
    "unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,"
    "sendto,recvfrom"
)

# How strace is to write what is read here.
OPTIONS = ("-y", "-xx", "-s", "1000000", "-e", f"trace={_TRACED}")

_LINE = re.compile(r"(\d+) +(.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_UNFINISHED = "<unfinished ...>"
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)(.*)")
_DESCRIPTOR = re.compile(r"\d+<([^>]*)>")
_STRING = re.compile(r'"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Call:
    """One call that succeeded.

    @ivar begun: the line of the trace on which it begins.
    @ivar ended: that on which it has been made.
    @ivar path: of the descriptor, or else the first one that is named.
    @ivar octets: what is written, sent or received.
    @ivar words: the arguments, as strace writes them.
    """

    begun: int
    ended: int
    name: str
    path: Path
    octets: bytes
    words: tuple[str, ...]


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """Read a trace, which was made with L{OPTIONS}.

    @return: the calls, in the order in which they end.
    """
    unfinished: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        match = _LINE.fullmatch(line.rstrip("\n"))
        if match is None:
            continue
        thread, rest = match.groups()
        begun = number
        if rest.endswith(_UNFINISHED):
            unfinished[thread] = number, rest.removesuffix(_UNFINISHED)
            continue
        if resumed := _RESUMED.match(rest):
            begun, first = unfinished.pop(thread, (number, ""))
            rest = first + rest[resumed.end() :]
        call = _CALL.match(rest)
        # What was made up did not reach the disk.
        if call and int(call[3]) >= 0 and "INJECTED" not in call[4]:
            yield _read(begun, number, call[1], call[2], int(call[3]))


def _read(begun: int, ended: int, name: str, arguments: str, result: int) -> Call:
    descriptor = _DESCRIPTOR.match(arguments)
    strings = [_octets(text) for text in _STRING.findall(arguments)]
    if descriptor is not None:
        path = _octets(descriptor[1])
        octets = strings[0][:result] if strings else b""
    else:
        path, octets = (strings or [b""])[0], b""
    words = tuple(_STRING.sub("", arguments).split(", "))
    return Call(begun, ended, name, Path(path.decode()), octets, words)


def _octets(text: str) -> bytes:
    """A string as strace writes it with C{-xx}; what is not escaped is itself."""
    if text.startswith("\\x"):
        return bytes.fromhex(text.replace("\\x", ""))
    return text.encode()
