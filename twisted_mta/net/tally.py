"""Counts that several processes share: how many connections there are in all,
and by a key such as a network.

L{Tally} is the count of one process alone. L{SharedTally} is the same over
memory that a supervisor gives to its workers: a column of counters for each
process, which alone writes it, so there is no lock; a count is the sum of a row.
What a dead process had counted ends when its column is cleared. Keys are hashed
to rows: two that fall on one are counted together, which for 2,000 networks
happens to 3 in 100 and makes their limit narrower, never wider. The hash has a
secret, so that nobody can choose whom to meet.
"""

from __future__ import annotations

import mmap
import os
import secrets
from collections import Counter
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol

# With 4 octets each a column takes 256 KB at most, and less while few networks
# are there.
_ROWS = 1 << 16
_OCTETS = 4

#: The first rows: how many connections a process has, whether it accepts more,
#: and how many it has accepted (see L{twisted_mta.net.fairness}).
TOTAL, ACCEPTING, ACCEPTED = range(3)
_FIRST_HASHED = 3

#: The tables.
CONNECTIONS, RATES = range(2)
_TABLES = 2


class ITally(Protocol):
    """Counts by key; the empty key is the total."""

    def add(self, key: str, change: int) -> int:
        """Change a count.

        @return: what it is now.
        """


class Tally:
    """The counts of one process."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many counts are not 0."""
        return len(self._counts)

    def add(self, key: str, change: int) -> int:
        """See L{ITally.add}."""
        count = self._counts[key] + change
        if count:
            self._counts[key] = count
        else:
            del self._counts[key]
        return count


class Memory:
    """What the processes share: a file in memory, without a name. It has a table for
    connections and whoever waits, and one for rates, so that the many keys of rates
    meet none of those.

    @ivar fd: of the file; whoever inherits it makes the same of it.
    """

    def __init__(
        self, columns: int, fd: int | None = None, secret: bytes = b""
    ) -> None:
        """
        @param columns: how many processes may count at once.
        @param fd: inherited from who made it.
        @param secret: of who made it.
        """
        octets = _TABLES * columns * _ROWS * _OCTETS
        if fd is None:
            fd = os.memfd_create("twisted-mta counts", os.MFD_CLOEXEC)
            os.ftruncate(fd, octets)
        os.set_inheritable(fd, False)
        self.fd = fd
        self.columns = columns
        self.secret = secret or secrets.token_bytes(16)
        self._map = mmap.mmap(fd, octets)
        self.cells = memoryview(self._map).cast("i")

    def clear(self, column: int) -> None:
        """A process has ended."""
        nothing = memoryview(bytes(_ROWS * _OCTETS)).cast("i")
        for table in range(_TABLES):
            first = (table * self.columns + column) * _ROWS
            self.cells[first : first + _ROWS] = nothing

    def get(self, column: int, row: int) -> int:
        """What stands there."""
        return self.cells[column * _ROWS + row]

    def set(self, column: int, row: int, value: int) -> None:
        """Only who has the column does this."""
        self.cells[column * _ROWS + row] = value

    def close(self) -> None:
        """Give it back."""
        self.cells.release()
        self._map.close()
        os.close(self.fd)


class SharedTally:
    """The counts of all processes, as one of them changes and sees them.

    @param column: the one that this process changes.
    @param table: L{CONNECTIONS} or L{RATES}.
    """

    def __init__(self, memory: Memory, column: int, table: int = CONNECTIONS) -> None:
        self._cells = memory.cells
        cells = memory.columns * _ROWS
        self._own = table * cells + column * _ROWS
        self._all = range(table * cells, (table + 1) * cells, _ROWS)

        @lru_cache(maxsize=4096)
        def row(key: str) -> int:
            if not key:
                return TOTAL
            digest = blake2b(key.encode(), key=memory.secret, digest_size=4).digest()
            hashed = int.from_bytes(digest, "big") % (_ROWS - _FIRST_HASHED)
            return _FIRST_HASHED + hashed

        self._row = row

    def add(self, key: str, change: int) -> int:
        """See L{ITally.add}."""
        cells, row = self._cells, self._row(key)
        cells[self._own + row] += change
        return sum(cells[column + row] for column in self._all)
