"""How much of something waits, or was changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Group:
    """What has the same state, domain or the like.

    @ivar name: that.
    @ivar oldest: when the oldest of it was accepted, seconds since the epoch.
    """

    name: str
    messages: int
    recipients: int
    oldest: float


@dataclass(frozen=True, slots=True)
class Count:
    """How much waits.

    @ivar octets: of the messages, each once.
    @ivar groups: the largest first; empty if none were asked for.
    @ivar more: groups that are so small that they were left out.
    """

    messages: int
    recipients: int
    octets: int
    groups: Sequence[Group]
    more: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """How much was changed.

    @ivar busy: recipients that were left alone: they are being tried.
    """

    messages: int = 0
    recipients: int = 0
    busy: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.messages + other.messages,
            self.recipients + other.recipients,
            self.busy + other.busy,
        )
