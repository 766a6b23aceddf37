"""How a message is put to a server that takes less than it holds (RFC 6152 3,
RFC 3030 4): which of its parts are encoded, and how they are labelled then.

Its MIME structure stays. What is signed is left alone, and if it cannot go as it
is the message cannot. Only bodies of parts are encoded: octets above 127 in a header
or between parts, where nothing can say what they mean, go as they are, as Postfix
sends them. A signature over the whole message (DKIM) does not survive; Postfix and
Sendmail convert all the same.

This module plans and knows no octets but headers and counts; who carries the plan out
is L{twisted_mta.mail.conversion}.
"""

import re
from collections.abc import Iterator, Sequence
from enum import Enum, IntEnum, auto
from typing import NamedTuple

from twisted_mta.mail import header, lineend
from twisted_mta.mail.content import Content
from twisted_mta.mail.structure import Kind, Part, Structure

# Octets of one part's header that is changed. Postfix: header_size_limit 100 KB.
HEADER_MOST = 256 * 1024

# RFC 5322 2.1.1, RFC 2045 2.7: without its end.
_LINE = 998

# Quoted-printable takes three octets for each above 127, base64 four for any three.
_DENSE = 6

_HIGH = bytes(range(128, 256))

_LABEL = re.compile(
    rb"^content-transfer-encoding[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.I | re.M
)
_END = re.compile(rb"\r?\n\Z")


class Unconvertible(Exception):
    """It cannot be done; the text says why."""


class Level(IntEnum):
    """What a body holds, or a server takes."""

    SEVEN_BIT = 0
    EIGHT_BIT = 1
    BINARY = 2


_LEVELS = {
    b"7bit": Level.SEVEN_BIT,
    b"8bit": Level.EIGHT_BIT,
    b"binary": Level.BINARY,
}
_LABELS = {level: label for label, level in _LEVELS.items()}


class Tally:
    """Counts what is in a body.

    @ivar size: octets.
    @ivar high: those above 127.
    @ivar irregular: it is not made of lines: a NUL, a CR or LF by itself, or a line
        that is too long.
    """

    __slots__ = ("_cr", "_line", "high", "irregular", "size")

    def __init__(self) -> None:
        self.size = self.high = 0
        self.irregular = False
        self._line = 0
        self._cr = False

    def feed(self, octets: bytes) -> None:
        """Look at some of it."""
        self.size += len(octets)
        if not octets.isascii():
            self.high += len(octets) - len(octets.translate(None, _HIGH))
        if self.irregular:
            return
        if self._cr:
            octets = b"\r" + octets
        self._cr = octets.endswith(b"\r")
        if self._cr:
            octets = octets[:-1]
        first, *others = octets.split(b"\n")
        longest = max([self._line + len(first), *map(len, others)])
        self._line = len(others[-1]) if others else self._line + len(first)
        self.irregular = longest > _LINE + 1 or lineend.bare(octets) or b"\0" in octets

    def end(self) -> None:
        """That was all."""
        self.irregular = self.irregular or self._cr


class Leaf(NamedTuple):
    """A part with a body of its own.

    @ivar content: what its header says, even if nothing can be made of that.
    """

    tally: Tally
    content: Content

    def level(self, binary: bool) -> Level:
        """What it needs. Lines are only asked for where a sender said that there
        may be none (RFC 3030): much mail has long lines, and arrives.

        @param binary: he said so.
        """
        if binary and self.tally.irregular and self.content.encoding in _LEVELS:
            return Level.BINARY
        return Level.EIGHT_BIT if self.tally.high else Level.SEVEN_BIT


class Act(Enum):
    """What is done to a piece of the message."""

    COPY = auto()
    LABEL = auto()
    BASE64 = auto()
    QUOTED = auto()


class Step(NamedTuple):
    """One piece and what is done to it.

    @ivar label: for the header, an encoding.
    @ivar whole: the header is a message's.
    """

    start: int
    end: int
    act: Act = Act.COPY
    label: bytes = b""
    whole: bool = False


def leaves(part: Part) -> Iterator[Part]:
    """The parts with bodies of their own, in order."""
    if part.kind is Kind.LEAF:
        yield part
    for child in part.children:
        yield from leaves(child)


def plan(
    structure: Structure, counted: Sequence[Leaf], level: Level, binary: bool
) -> Sequence[Step]:
    """What is to be done, from the message's first octet to its last.

    @param counted: its leaves, in order.
    @param level: what the server takes.
    @param binary: the sender said that there may be binary parts.
    @raise Unconvertible: it cannot be.
    """
    planning = _Planning(iter(counted), level, binary)
    planning.part(structure.root, whole=True)
    return planning.steps


class _Planning:
    def __init__(self, counted: Iterator[Leaf], level: Level, binary: bool) -> None:
        self.steps: list[Step] = []
        self._counted = counted
        self._level = level
        self._binary = binary

    def part(self, part: Part, whole: bool) -> None:
        if part.kind is Kind.LEAF:
            self._leaf(part, next(self._counted), whole)
            return
        declared = _LEVELS.get(part.content.encoding, Level.SEVEN_BIT)
        self._header(part, _LABELS[self._level], whole, declared > self._level)
        if part.content[:2] == (b"multipart", b"signed"):
            for _ in leaves(part):
                if next(self._counted).level(self._binary) > self._level:
                    raise Unconvertible("It is signed and cannot be converted")
            self.steps.append(Step(part.body_start, part.end))
            return
        at = part.body_start
        for child in part.children:
            self.steps.append(Step(at, child.header_start))
            self.part(child, part.kind is Kind.MESSAGE)
            at = child.end
        self.steps.append(Step(at, part.end))

    def _leaf(self, part: Part, leaf: Leaf, whole: bool) -> None:
        needed = leaf.level(self._binary)
        encoding = leaf.content.encoding
        body = Step(part.body_start, part.end)
        if needed <= self._level:
            declared = _LEVELS.get(encoding, Level.SEVEN_BIT)
            self._header(part, _LABELS[needed], whole, declared > self._level)
            self.steps.append(body)
            return
        if encoding not in _LEVELS:
            raise Unconvertible("A part is not what its encoding says")
        if _indivisible(leaf.content):
            raise Unconvertible("A part that must not be encoded has 8-bit octets")
        tally = leaf.tally
        readable = leaf.content.type == b"text" and tally.high * _DENSE < tally.size
        if readable and not tally.irregular:
            self._header(part, b"quoted-printable", whole, True)
            self.steps.append(body._replace(act=Act.QUOTED))
        else:
            self._header(part, b"base64", whole, True)
            self.steps.append(body._replace(act=Act.BASE64))

    def _header(self, part: Part, label: bytes, whole: bool, changed: bool) -> None:
        if not changed or part.body_start == part.end:
            self.steps.append(Step(part.header_start, part.body_start))
            return
        if part.body_start - part.header_start > HEADER_MOST:
            raise Unconvertible("A header is too long to be changed")
        self.steps.append(
            Step(part.header_start, part.body_start, Act.LABEL, label, whole)
        )


def _indivisible(described: Content) -> bool:
    """Whether it is, or may hold, parts of its own (RFC 2045 6.4), so that it cannot
    be encoded as a whole: but for the international forms (RFC 6532 3.7, 6533 6)."""
    if described.type == b"multipart":
        return True
    return described.type == b"message" and not described.subtype.startswith(b"global")


def labelled(block: bytes, encoding: bytes, whole: bool) -> bytes:
    """A header block that says how its body is encoded.

    @param whole: it is a message's, so it says that it is MIME too; of text that did
        not, nobody knows the charset (RFC 1428 3).
    """
    added = []
    if whole and header.first(block, b"MIME-Version") is None:
        added.append(b"MIME-Version: 1.0\r\n")
        if header.first(block, b"Content-Type") is None:
            added.append(b"Content-Type: text/plain; charset=unknown-8bit\r\n")
    added.append(b"Content-Transfer-Encoding: %b\r\n" % encoding)
    block = _LABEL.sub(b"", block)
    end = _END.search(block)
    at = end.start() if end else len(block)
    return block[:at] + b"".join(added) + block[at:]
