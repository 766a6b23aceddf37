"""The tree of a message's parts by byte offsets.

It is what the scanner of L{twisted_mta.mail.mime} leaves behind. IMAP's section
numbers are looked up in it, and its offsets alone are kept beside a message, in
a few octets a part, so that a part is fetched without looking at the message.
It knows nothing of the octets themselves.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from twisted_mta.mail import content
from twisted_mta.mail.content import Content


class Kind(IntEnum):
    """What may be inside a part."""

    LEAF = 0
    MULTIPART = 1
    MESSAGE = 2
    """message/rfc822: its only child is the message it holds."""


class Part(NamedTuple):
    """One part. Offsets count from the message's first octet as received.

    @ivar header_start: where its header starts.
    @ivar body_start: behind the blank line that ends its header.
    @ivar end: behind its last octet; the line end before a boundary belongs to
        the boundary (RFC 2046 5.1.1).
    @ivar lines: line ends in the body.
    @ivar content: what its header says about it.
    @ivar header: of a message, the one at the root or one that a part holds,
        the header block, as much of it as was understood; otherwise empty.
    """

    header_start: int
    body_start: int
    end: int
    kind: Kind = Kind.LEAF
    children: tuple["Part", ...] = ()
    lines: int = 0
    content: Content = content.PLAIN
    header: bytes = b""


class Structure(NamedTuple):
    """A whole message's tree; C{root} is the message itself."""

    root: Part

    def part(self, path: tuple[int, ...]) -> Part | None:
        """The part with an IMAP section number (RFC 3501 6.4.5).

        The parts of a multipart count from 1. What is not a multipart has one
        part, number 1, which is itself. A number behind that of a
        message/rfc822 part counts in the message that it holds.

        @param path: C{(4, 2)} for section 4.2; C{()} is the message.
        @return: C{None} if there is no such part.
        """
        node = self.root
        whole = True  # whether node is a message, which may be its own part 1
        for number in path:
            if not whole:
                if node.kind is Kind.LEAF:
                    return None
                if node.kind is Kind.MESSAGE:
                    node, whole = node.children[0], True
            if node.kind is Kind.MULTIPART:
                if not 1 <= number <= len(node.children):
                    return None
                node = node.children[number - 1]
            elif number != 1 or not whole:
                return None
            whole = False
        return node

    def span(self, path: tuple[int, ...], text: bytes = b"") -> tuple[int, int] | None:
        """Where the octets of an IMAP section are.

        @param text: C{b""}, C{b"HEADER"}, C{b"TEXT"} or C{b"MIME"};
            HEADER.FIELDS is L{header.select} of HEADER.
        @return: start and end, or C{None} if there is no such section: HEADER
            and TEXT are of messages only, MIME of parts only.
        """
        node = self.part(path)
        if node is None:
            return None
        if text == b"":
            return (node.body_start if path else node.header_start), node.end
        if text == b"MIME":
            return (node.header_start, node.body_start) if path else None
        if path:
            if node.kind is not Kind.MESSAGE:
                return None
            node = node.children[0]
        if text == b"HEADER":
            return node.header_start, node.body_start
        return (node.body_start, node.end) if text == b"TEXT" else None

    def pack(self) -> bytes:
        """The offsets and kinds alone, in about five octets a part, to be kept
        beside the message."""
        packed = bytearray((_VERSION,))
        waiting = [(self.root, 0)]
        while waiting:
            part, origin = waiting.pop()
            _number(packed, len(part.children) << 2 | part.kind)
            _number(packed, part.header_start - origin)
            _number(packed, part.body_start - part.header_start)
            _number(packed, part.end - part.body_start)
            waiting += [(child, part.body_start) for child in reversed(part.children)]
        return bytes(packed)

    @staticmethod
    def unpack(packed: bytes) -> "Structure":
        """What C{pack} made, with offsets, kinds and children. All else has its
        default: descriptions are in the message, BODYSTRUCTURE is kept ready.

        @raise ValueError: the octets are not of C{pack}, or of a version that
            is not known.
        """
        if packed[:1] != bytes((_VERSION,)):
            raise ValueError("a packed structure of an unknown version")
        numbers = _numbers(packed)
        try:
            root = _unpacked(numbers, 0)
        except StopIteration:
            raise ValueError("a packed structure that is cut")
        return Structure(root)


_VERSION = 1


def _number(packed: bytearray, number: int) -> None:
    """Append seven bits an octet, the lowest first; the last has no high bit."""
    while number > 127:
        packed.append(number & 127 | 128)
        number >>= 7
    packed.append(number)


def _numbers(packed: bytes) -> Iterator[int]:
    number = shift = 0
    for octet in packed[1:]:
        number |= (octet & 127) << shift
        shift += 7
        if octet < 128:
            yield number
            number = shift = 0


def _unpacked(numbers: Iterator[int], origin: int) -> Part:
    """The next part and those within it, which is not deep: the scanner nests
    no more than a hundred."""
    count, kind = divmod(next(numbers), 4)
    header_start = origin + next(numbers)
    body_start = header_start + next(numbers)
    end = body_start + next(numbers)
    children = tuple([_unpacked(numbers, body_start) for _ in range(count)])
    return Part(header_start, body_start, end, Kind(kind), children)
