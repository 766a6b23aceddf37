"""What Linux says of processes: processor time, memory, descriptors.

A family is a process and all that descend from it. It trusts /proc; a process
that ends while it is looked at counts for nothing.
"""

import os
from collections.abc import Iterator
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_s(root: int) -> float:
    """Processor time of a family, of its ended and awaited members too."""
    return sum(_cpu_s(pid) for pid in family(root))


def proportional(root: int) -> int:
    """Octets of memory of a family; of pages that are shared, each process's
    part (PSS)."""
    return sum(_proportional(pid) for pid in family(root))


def descriptors(root: int) -> int:
    """File descriptors that a family has open."""
    count = 0
    for pid in family(root):
        try:
            count += len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            continue
    return count


def family(root: int) -> Iterator[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int(_fields(int(entry.name))[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children.get(pid, ())


def _fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu_s(pid: int) -> float:
    try:
        return sum(int(field) for field in _fields(pid)[11:15]) / _TICK
    except OSError:
        return 0.0


def _proportional(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
