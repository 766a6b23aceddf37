"""What would be on the disk if the power failed now: a model of a file system
that keeps nothing but what was synchronised.

It reads the trace of a server's system calls and takes the harshest view: of
each file only what it had when it was last synchronised, and no new file whose
directory was not.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

# How strace is to write what is read here.
OPTIONS = (
    *("-y", "-xx", "-s", "1000000"),
    *("-e", "trace=write,pwrite64,ftruncate,fsync,fdatasync,sendto"),
)

_LINE = re.compile(r"(?P<thread>\d+) +(?P<rest>.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(?P<rest>.*)")
_CALL = re.compile(
    r"(?P<name>\w+)\(\d+<(?P<path>.*?)>(?:, (?:\"(?P<octets>[^\"]*)\"(?:, )?)?"
    r"(?P<numbers>[\d, ]*).*?)? *\) += (?P<result>-?\d+)(?P<more>.*)"
)


class Disk:
    """The files below a directory.

    @param directory: as it is now, all of which is taken to be durable.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._written = {
            path: bytearray(path.read_bytes())
            for path in directory.rglob("*")
            if path.is_file() and not path.name.endswith("-shm")
        }
        self._durable = {path: bytes(data) for path, data in self._written.items()}
        self._named = set(self._written)

    def replay(self, trace: str) -> Iterator[bytes]:
        """Make the system calls of a trace.

        @return: what the server sends, when it sends it; the disk is then as it
            was at that moment.
        """
        unfinished: dict[str, str] = {}
        for line in trace.splitlines():
            match = _LINE.fullmatch(line)
            if match is None:
                continue
            thread, rest = match["thread"], match["rest"]
            if rest.endswith("<unfinished ...>"):
                unfinished[thread] = rest.removesuffix("<unfinished ...>")
                continue
            if resumed := _RESUMED.match(rest):
                rest = unfinished.pop(thread, "") + resumed["rest"]
            call = _CALL.match(rest)
            # What was made up did not reach the disk.
            if call is None or int(call["result"]) < 0 or "INJECTED" in call["more"]:
                continue
            octets = _octets(call["octets"] or "")
            if call["name"] == "sendto":
                yield octets
            else:
                path = Path(_octets(call["path"]).decode())
                numbers = [
                    int(word) for word in re.findall(r"\d+", call["numbers"] or "")
                ]
                self._call(call["name"], path, octets, numbers)

    def _call(self, name: str, path: Path, octets: bytes, numbers: list[int]) -> None:
        if self._directory not in path.parents:
            return
        if name in ("fsync", "fdatasync"):
            if path.is_dir():
                self._named |= {one for one in self._written if one.parent == path}
            else:
                self._durable[path] = bytes(self._written.get(path, b""))
            return
        data = self._written.setdefault(path, bytearray())
        if name == "ftruncate":
            del data[numbers[0] :]
            return
        start = numbers[1] if name == "pwrite64" else len(data)
        data.extend(bytes(max(0, start - len(data))))
        data[start : start + len(octets)] = octets

    def save(self, directory: Path) -> None:
        """Write what is durable into a new directory."""
        if directory.exists():
            shutil.rmtree(directory)
        for path in self._named:
            copy = directory / path.relative_to(self._directory)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(self._durable.get(path, b""))


def _octets(text: str) -> bytes:
    """A string as strace writes it with C{-xx}; what is not escaped is itself."""
    return re.sub(
        rb"\\x([0-9a-f]{2})",
        lambda match: bytes([int(match[1], 16)]),
        text.encode(),
    )
