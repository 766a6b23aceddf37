"""MIME structure by byte offsets: what is where in a message.

A message is pushed through a scanner while it arrives; what remains is a tree
of parts with the offsets of their headers and bodies, which is all that IMAP's
section fetches need, and a description of each, from which BODYSTRUCTURE is
written once. No body octet is kept: memory is bounded by the header octets that
are understood (L{header.BLOCK_MAX} for all parts together), one boundary, and
L{PARTS_MAX} parts. Nothing that arrives raises anything, every cut into pieces
gives the same tree, and the work is linear. It knows no IMAP and does not decode.

Lines end with LF, as in L{header}; a bare CR is an octet like any other.
"""

import re
from enum import IntEnum

from twisted_mta.mail import content, header, lineend, parameter
from twisted_mta.mail.content import Content
from twisted_mta.mail.structure import Kind, Part, Structure

__all__ = ["Kind", "Part", "Scanner", "Structure", "scan"]

NESTING_MAX = 100
"""Multiparts and messages within each other (Dovecot, Postfix: 100)."""

PARTS_MAX = 10_000
"""Parts of a message (Dovecot: 10000); the last one holds all that follows."""

BOUNDARY_MAX = 2048
"""Octets of a boundary (Postfix: 2048, RFC 2046: 70); a longer one is none."""

_LINE_MAX = 2 + BOUNDARY_MAX + 2  # octets of a line that decide what it is


# What a part is shown as if it is not, or cannot be, taken apart. Without a
# usable boundary a Content-Type is wrong, so the default of RFC 2045 5.2 holds,
# and people can read what is there.
_OPAQUE = {
    Kind.MULTIPART: (b"text", b"plain"),
    Kind.MESSAGE: (b"application", b"octet-stream"),
}


def _kind(described: Content) -> Kind:
    if described.type == b"multipart":
        return Kind.MULTIPART
    if described.type == b"message" and described.subtype == b"rfc822":
        return Kind.MESSAGE
    return Kind.LEAF


def _opaque(described: Content) -> Content:
    """The description of a part that is a leaf, whatever it says it is."""
    shown = _OPAQUE.get(_kind(described))
    if shown is None:
        return described
    return described._replace(type=shown[0], subtype=shown[1], parameters=())


def _boundary(described: Content) -> bytes | None:
    """A multipart's boundary, C{None} if it cannot be one."""
    value = parameter.octets(described.parameters, b"boundary") or b""
    value = value.rstrip()  # RFC 2046 5.1.1: it does not end with space
    if len(value) > BOUNDARY_MAX or b"\n" in value:
        return None
    return value or None


class _Open:
    """A part whose end has not been seen."""

    __slots__ = (
        "body_start",
        "boundary",
        "children",
        "content",
        "header",
        "header_start",
        "kind",
        "lines_before",
        "whole",
    )

    def __init__(self, header_start: int, default: Content, whole: bool) -> None:
        self.header_start = self.body_start = header_start
        self.content = default
        self.whole = whole  # a message: its header is kept
        self.kind = Kind.LEAF
        self.boundary: bytes | None = None
        self.children: list[Part] = []
        self.header = b""
        self.lines_before = 0

    def close(self, end: int, lines: int) -> Part:
        described = self.content
        if self.kind is Kind.LEAF or not self.children:
            self.kind = Kind.LEAF
            described = _opaque(described)
        return Part(
            self.header_start,
            self.body_start,
            end,
            self.kind,
            tuple(self.children),
            lines - self.lines_before,
            described,
            self.header,
        )


class _State(IntEnum):
    HEADER = 0
    BODY = 1
    DELIMITER = 2
    """In the rest of the line of a boundary that starts a part."""


_BLANK = re.compile(rb"\n\r?\n")
_BLANK_OR_DASHES = re.compile(rb"\n(?:\r?\n|--)")


class Scanner:
    """Understands a message while it arrives.

    Every line is looked at from the line end before it, so the buffer starts
    with one that the message does not have, at offset -1. One octet before the
    place where the search goes on is kept as well: it may be the CR of a line
    end that belongs to a boundary.

    A body with attachments passes at 1 GB a second, a plain one at 2.5; one that
    is nothing but lines of C{--} at 18 MB.
    """

    __slots__ = (
        "_at",
        "_base",
        "_boundaries",
        "_counted",
        "_header",
        "_lines",
        "_octets",
        "_parts",
        "_room",
        "_saved",
        "_stack",
        "_state",
    )

    def __init__(self) -> None:
        self._octets = b"\n"
        self._base = -1  # the offset in the message of the buffer's start
        self._at = 0  # where in the buffer the search goes on
        self._lines = 0  # line ends before _counted
        self._counted = 0
        self._header = bytearray()
        self._saved = 0  # the offset to which the header is in _header
        self._room = header.BLOCK_MAX
        self._parts = 1
        self._stack = [_Open(0, content.PLAIN, True)]
        self._boundaries: tuple[bytes, ...] = ()
        self._state = _State.HEADER

    def feed(self, octets: bytes) -> None:
        """Look at the next octets of the message, any number of them."""
        self._octets += octets
        self._run(False)

    def finish(self) -> Structure:
        """The message has ended. The scanner is of no more use."""
        self._run(True)
        end = self._base + len(self._octets)
        if self._state is _State.DELIMITER:
            self._open(end)
        if self._state is _State.HEADER:
            self._end_header(end)
        self._close(0, end)
        return Structure(self._stack[0].close(end, self._lines))

    def _run(self, last: bool) -> None:
        steps = (self._in_header, self._in_body, self._in_delimiter)
        while steps[self._state](last):
            pass
        keep = max(0, self._at - 1)
        if keep:
            self._count(self._base + keep)
            if self._state is _State.HEADER:
                self._save(self._base + keep)
            self._octets = self._octets[keep:]
            self._base += keep
            self._at -= keep

    def _count(self, offset: int) -> None:
        """Count line ends up to an offset in the message."""
        if offset > self._counted:
            base = self._base
            self._lines += lineend.count(
                self._octets, self._counted - base, offset - base
            )
            self._counted = offset

    def _save(self, offset: int) -> None:
        """Keep the header's octets up to an offset in the message."""
        if offset > self._saved:
            base = self._base
            stop = min(offset, self._saved + self._room)
            self._header += self._octets[self._saved - base : stop - base]
            self._room -= stop - self._saved
            self._saved = offset

    def _wait(self, last: bool) -> bool:
        """Nothing is decided any more in the buffer; leave what may be the
        start of something that is cut.

        @return: C{False}, for want of octets.
        """
        octets = self._octets
        size = len(octets)
        line = octets.rfind(b"\n", max(self._at, size - _LINE_MAX))
        if line >= 0 and not last:
            rest = octets[line + 1 : line + 3]
            dashes = b"--".startswith(rest) and self._boundaries
            if dashes or (self._state is _State.HEADER and rest in (b"", b"\r")):
                self._at = line
                return False
        self._at = size
        return False

    def _in_header(self, last: bool) -> bool:
        octets = self._octets
        pattern = _BLANK_OR_DASHES if self._boundaries else _BLANK
        at = self._at
        while found := pattern.search(octets, at):
            at = found.end()
            if octets[at - 1] == 10:
                self._at = at - 1
                self._end_header(self._base + at)
                self._descend()
                return True
            if octets.startswith(self._boundaries, at):
                return self._delimiter(at - 3, last)
        return self._wait(last)

    def _in_body(self, last: bool) -> bool:
        octets = self._octets
        if not self._boundaries:
            self._at = len(octets)
            return False
        at = self._at
        while (at := octets.find(b"\n--", at)) >= 0:
            if octets.startswith(self._boundaries, at + 3):
                return self._delimiter(at, last)
            at += 3
        return self._wait(last)

    def _in_delimiter(self, last: bool) -> bool:
        end = self._octets.find(b"\n", self._at)
        if end < 0:
            self._at = len(self._octets)
            return False
        self._at = end
        self._open(self._base + end + 1)
        return True

    def _delimiter(self, line: int, last: bool) -> bool:
        """A line starts with two dashes and a boundary that is open. It need
        not be all of the line (RFC 2046 5.1.1). The longest boundary that fits
        wins, and the innermost of the same.

        @param line: where in the buffer the line end before it is.
        @return: whether all that decides has arrived.
        """
        octets = self._octets
        if (
            not last
            and len(octets) - line <= _LINE_MAX
            and octets.find(b"\n", line + 1) < 0
        ):
            self._at = line
            return False
        level, size = 0, 0
        for depth, part in enumerate(self._stack):
            boundary = part.boundary or b""
            if len(boundary) >= max(1, size) and octets.startswith(boundary, line + 3):
                level, size = depth, len(boundary)
        behind = line + 3 + size
        ends = octets.startswith(b"--", behind)
        if not ends and self._parts >= PARTS_MAX:
            for part in self._stack:
                part.boundary = None
            self._boundaries = ()
            return True
        cr = 1 if line > 0 and octets[line - 1] == 13 else 0
        end = self._base + line - cr
        if self._state is _State.HEADER:
            self._end_header(max(end, self._stack[-1].header_start))
        self._close(level, end)
        self._at = behind
        if ends:
            self._stack[level].boundary = None
            self._state = _State.BODY
        else:
            self._state = _State.DELIMITER
        self._find_boundaries()
        return True

    def _find_boundaries(self) -> None:
        self._boundaries = tuple(
            {part.boundary for part in self._stack if part.boundary}
        )

    def _open(self, start: int) -> None:
        """A part of the innermost multipart starts."""
        digest = self._stack[-1].content.subtype == b"digest"
        default = content.DIGEST if digest else content.PLAIN
        self._push(_Open(start, default, False))

    def _push(self, part: _Open) -> None:
        self._stack.append(part)
        self._parts += 1
        self._saved = part.header_start
        self._header.clear()
        self._state = _State.HEADER

    def _close(self, level: int, end: int) -> None:
        """Close all parts that are further in than this one. None ends before
        its own start: a boundary may follow upon another at once."""
        while len(self._stack) > level + 1:
            part = self._stack.pop()
            end = max(end, part.body_start)
            self._count(end)
            self._stack[-1].children.append(part.close(end, self._lines))
        self._count(end)

    def _end_header(self, body_start: int) -> None:
        """The header of the innermost part ends: learn what the part is."""
        part = self._stack[-1]
        self._save(body_start)
        block = bytes(self._header)
        part.body_start = body_start
        part.content = content.parse(block, part.content)
        if part.whole:
            part.header = block
        self._count(body_start)
        part.lines_before = self._lines
        self._state = _State.BODY

    def _descend(self) -> None:
        """Look into the innermost part's body, if there is something in it and
        no limit is reached."""
        part = self._stack[-1]
        kind = _kind(part.content)
        if kind is Kind.LEAF or len(self._stack) > NESTING_MAX:
            return
        if kind is Kind.MULTIPART:
            part.boundary = _boundary(part.content)
            if part.boundary is not None:
                part.kind = kind
                self._find_boundaries()
        elif part.content.encoding not in _ENCODED and self._parts < PARTS_MAX:
            part.kind = kind
            self._push(_Open(part.body_start, content.PLAIN, True))


# RFC 2046 5.2.1 forbids these for message/rfc822, so inside is no message.
_ENCODED = frozenset((b"base64", b"quoted-printable"))


def scan(octets: bytes) -> Structure:
    """Understand a message that is all there.

    A plain message of 2 KB takes 9 us, of which 6 are its Content- fields; a
    multipart/alternative of the same size 55.
    """
    start = header.body_start(octets)
    if start <= header.BLOCK_MAX:
        block = octets[:start]
        described = content.parse(block)
        if _kind(described) is Kind.LEAF:
            lines = lineend.count(octets, start)
            root = Part(0, start, len(octets), Kind.LEAF, (), lines, described, block)
            return Structure(root)
    scanner = Scanner()
    scanner.feed(octets)
    return scanner.finish()
