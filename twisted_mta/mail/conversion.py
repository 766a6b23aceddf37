"""A message as it is converted, in runs: see L{twisted_mta.mail.downgrade}.

It is read three times (to find its parts, to count what is in them, to write it), so
that memory stays flat whatever its size.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Protocol

from twisted_mta.mail import content
from twisted_mta.mail.downgrade import (
    HEADER_MOST,
    Act,
    Leaf,
    Level,
    Step,
    Tally,
    labelled,
    leaves,
    plan,
)
from twisted_mta.mail.mime import Scanner
from twisted_mta.mail.structure import Part
from twisted_mta.mail.transfer import Base64Text, QuotedText

_RUN_OCTETS = 64 * 1024


class Octets(Protocol):
    """What can be read as content can."""

    size: int

    def read(self, offset: int, most: int, /) -> Awaitable[bytes]:
        """Up to C{most} octets from C{offset}; fewer only at the end."""


class Conversion:
    """A message and what is done to it."""

    def __init__(self, octets: Octets, steps: Sequence[Step]) -> None:
        self._octets = octets
        self._steps = steps

    async def runs(self) -> AsyncIterator[bytes]:
        """The message as it is to be sent."""
        for step in self._steps:
            if step.act is Act.LABEL:
                block = b"".join([run async for run in _read(self._octets, step)])
                yield labelled(block, step.label, step.whole)
                continue
            made = _ENCODERS.get(step.act)
            encoder = made() if made is not None else None
            async for run in _read(self._octets, step):
                yield encoder.encode(run) if encoder is not None else run
            if encoder is not None:
                yield encoder.end()


_ENCODERS: dict[Act, type[Base64Text] | type[QuotedText]] = {
    Act.BASE64: Base64Text,
    Act.QUOTED: QuotedText,
}


async def convert(octets: Octets, level: Level, binary: bool) -> Conversion:
    """See L{twisted_mta.mail.downgrade.plan}.

    @raise Unconvertible: it cannot be.
    """
    scanner = Scanner()
    async for run in _read(octets, Step(0, octets.size)):
        scanner.feed(run)
    structure = scanner.finish()
    counted = [await _count(octets, part) for part in leaves(structure.root)]
    return Conversion(octets, plan(structure, counted, level, binary))


async def _count(octets: Octets, part: Part) -> Leaf:
    tally = Tally()
    async for run in _read(octets, Step(part.body_start, part.end)):
        tally.feed(run)
    tally.end()
    if not (tally.high or tally.irregular):
        return Leaf(tally, part.content)
    # The scanner calls text what it could not take apart.
    end = min(part.body_start, part.header_start + HEADER_MOST)
    said = [run async for run in _read(octets, Step(part.header_start, end))]
    return Leaf(tally, content.parse(b"".join(said), part.content))


async def _read(octets: Octets, piece: Step) -> AsyncIterator[bytes]:
    at = piece.start
    while at < piece.end:
        run = await octets.read(at, min(_RUN_OCTETS, piece.end - at))
        if not run:
            return
        at += len(run)
        yield run
