"""One of several processes that serve together: which it is, what it has of a limit
that is divided, and how it counts and tells what is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted_mta.net.tally import ITally, Tally


@dataclass(frozen=True)
class Place:
    """One of several processes that serve together.

    @ivar number: which, from 1.
    @ivar of: how many there are.
    @ivar tally: counts what they count together.
    @ivar rates: the same for what comes in a time.
    @ivar tell: called with what each login that failed is counted by.
    """

    number: int
    of: int
    tally: ITally
    rates: ITally
    tell: Callable[[str], None]

    def share(self, whole: int) -> int:
        """What this one has of so many; the first have what does not divide."""
        return whole // self.of + (self.number <= whole % self.of)


def alone() -> Place:
    """The place of a process that serves by itself."""
    return Place(1, 1, Tally(), Tally(), lambda host: None)
