"""What would be on the disk if the power failed now: a model of a file system
that promises nothing but what was synchronised.

The contents of a file are durable when fsync or fdatasync of that file has
returned, its name when fsync of its directory has. All else may be there or not,
each name and each sector for itself and in any order: so do disks with a cache,
and file systems between two commits of their journals.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.calls import Call

# What a disk writes whole or not at all.
_SECTOR_OCTETS = 512

# A file in shared memory, which never is on a disk but may be found there: what
# it holds is then from another time.
_SHARED = "-shm"
_PROCESSES = "processes"
_SHARED_OCTETS = 32 * 1024


@dataclass(frozen=True, slots=True)
class _Write:
    """Octets at an offset, or else the new end of the file."""

    ended: int
    offset: int
    octets: bytes | None


@dataclass(frozen=True, slots=True)
class _Naming:
    """A name is given to a file or a directory, or taken away."""

    ended: int
    path: Path
    file: _File | None
    gone: bool = False


@dataclass(slots=True, eq=False)
class _File:
    """A file, whatever its name is.

    @ivar octets: those that are durable.
    @ivar pending: what was done to it since, in order.
    """

    octets: bytearray = field(default_factory=bytearray)
    pending: list[_Write] = field(default_factory=list)

    def synchronise(self, begun: int) -> None:
        """What had been done when this began is durable."""
        for write in self.pending:
            if write.ended < begun:
                _apply(self.octets, write)
        self.pending = [write for write in self.pending if write.ended >= begun]


# Directories are names of nothing.
_Names = dict[Path, _File | None]

# Of a file's octets and what is pending, those that are found.
_Fate = Callable[[_File], bytes]


class Disk:
    """The files below a directory.

    @param directory: as it is now, all of which is taken to be durable.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._names: _Names = {
            path: None if path.is_dir() else _File(bytearray(path.read_bytes()))
            for path in _below(directory)
            if self._is_ours(path)
        }
        self._durable_names = dict(self._names)
        self._pending: list[_Naming] = []

    def replay(self, calls: list[Call]) -> Iterator[Call]:
        """Make the calls of a trace.

        @return: each fsync, when it has been made but for its effect; and what
            is said elsewhere, when it may have been.
        @raise AssertionError: a call that is not known here.
        """
        # A write may be on the disk from its beginning; a reply may be with the
        # client then. A name can be used, and what was said was heard, at the
        # end.
        for call in sorted(
            calls, key=lambda one: one.ended if one.name in _AT_END else one.begun
        ):
            ours = self._is_ours(call.path)
            if call.name in ("fsync", "fdatasync") or not ours:
                yield call
            if ours:
                self._make(call)

    def _is_ours(self, path: Path) -> bool:
        within = self._directory in (path, *path.parents)
        # Who is alive is not to be found on a disk after a power cut.
        alive = self._directory / _PROCESSES in (path, *path.parents)
        return within and not alive and not path.name.endswith(_SHARED)

    def _make(self, call: Call) -> None:
        match call.name:
            case "fsync" | "fdatasync":
                self._synchronise(call)
            case "write":
                self._write(call, _length(self._file(call.path)), call.octets)
            case "pwrite64":
                self._write(call, int(call.words[-1]), call.octets)
            case "ftruncate":
                self._write(call, int(call.words[-1]), None)
            case "open" | "openat":
                if call.path not in self._names and "O_CREAT" in "".join(call.words):
                    self._name(_Naming(call.ended, call.path, _File()))
            case "mkdir":
                self._name(_Naming(call.ended, call.path, None))
            case "unlink":
                self._name(_Naming(call.ended, call.path, None, gone=True))
            case _:
                raise AssertionError(f"the model does not know {call.name}")

    def _write(self, call: Call, offset: int, octets: bytes | None) -> None:
        file = self._file(call.path)
        file.pending.append(_Write(call.ended, offset, octets))

    def _file(self, path: Path) -> _File:
        file = self._names[path]
        assert file is not None
        return file

    def _name(self, naming: _Naming) -> None:
        self._pending.append(naming)
        _rename(self._names, naming)

    def _synchronise(self, call: Call) -> None:
        file = self._names.get(call.path)
        if file is not None:
            file.synchronise(call.begun)
            return
        later = []
        for naming in self._pending:
            if naming.path.parent == call.path and naming.ended < call.begun:
                _rename(self._durable_names, naming)
            else:
                later.append(naming)
        self._pending = later

    # --- what is found when the power is back ---

    def save_lost(self, directory: Path) -> None:
        """All that was not synchronised is lost."""
        self._save(directory, self._durable_names, lambda file: file.octets)

    def save_kept(self, directory: Path) -> None:
        """It has all come to the disk."""
        self._save(directory, self._names, _kept)

    def save_torn(self, directory: Path, chance: random.Random) -> None:
        """Some of it has."""
        names = dict(self._durable_names)
        lost = set()
        for naming in self._pending:
            # What was done to one name is done in order.
            if naming.path not in lost and chance.random() < 0.5:
                _rename(names, naming)
            else:
                lost.add(naming.path)
        self._save(directory, names, lambda file: _torn(file, chance))
        for ledger in _below(directory):
            if ledger.name == "ledger.sqlite3":
                shared = ledger.with_name(ledger.name + _SHARED)
                shared.write_bytes(chance.randbytes(_SHARED_OCTETS))

    def _save(self, directory: Path, names: _Names, fate: _Fate) -> None:
        wanted = {
            directory / path.relative_to(self._directory): fate(file)
            for path, file in names.items()
            if file is not None and self._is_reached(path, names)
        }
        # Most is as the last time.
        for there in _below(directory):
            if there not in wanted and not there.is_dir():
                there.unlink()
        for path, octets in wanted.items():
            if not path.exists() or path.read_bytes() != octets:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(octets)

    def _is_reached(self, path: Path, names: _Names) -> bool:
        """Whether the directories above it have names."""
        parent = path.parent
        return parent == self._directory or (
            parent in names and self._is_reached(parent, names)
        )


def _below(directory: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(directory):
        yield from (Path(parent, name) for name in (*directories, *files))


_AT_END = frozenset(("fsync", "fdatasync", "open", "openat", "recvfrom"))


def _rename(names: _Names, naming: _Naming) -> None:
    if naming.gone:
        names.pop(naming.path, None)
    else:
        names[naming.path] = naming.file


def _apply(octets: bytearray, write: _Write) -> None:
    end = write.offset + len(write.octets or b"")
    # Between the old end and what is written there are zeros.
    octets.extend(bytes(max(0, end - len(octets))))
    if write.octets is None:
        del octets[write.offset :]
    else:
        octets[write.offset : end] = write.octets


def _length(file: _File) -> int:
    """Octets, with all that is pending."""
    length = len(file.octets)
    for write in file.pending:
        end = write.offset + len(write.octets or b"")
        length = end if write.octets is None else max(length, end)
    return length


def _kept(file: _File) -> bytes:
    octets = bytearray(file.octets)
    for write in file.pending:
        _apply(octets, write)
    return octets


def _torn(file: _File, chance: random.Random) -> bytes:
    """Each sector is as it was after some of the writes, or none, or all."""
    octets = bytearray(file.octets)
    count = len(file.pending)
    kept: dict[int, int] = {}
    new_end = chance.randint(0, count)
    for number, write in enumerate(file.pending):
        if write.octets is None:
            if number < new_end:
                _apply(octets, write)
            continue
        at = write.offset
        end = at + len(write.octets)
        while at < end:
            sector = at // _SECTOR_OCTETS
            until = min(end, (sector + 1) * _SECTOR_OCTETS)
            if sector not in kept:
                kept[sector] = chance.choice((0, count, chance.randint(0, count)))
            if number < kept[sector]:
                piece = write.octets[at - write.offset : until - write.offset]
                _apply(octets, _Write(write.ended, at, piece))
            at = until
    return octets
