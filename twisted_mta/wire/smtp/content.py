"""Content on its way out: with DATA dots are stuffed; nothing but CRLF line ends.

A L{DotStuffing} keeps its state across runs, so that wherever the octets are cut
a dot that begins a line is doubled and a CR or LF never goes out alone: either
would let a message smuggle commands past the next server (RFC 5321 4.5.2, 2.3.8).
"""

import re

from twisted_mta.mail import lineend

# Octets of a line of text, its end not counted.
_LINE = 998

_BLANK = re.compile(rb"\n\r?\n")


def lines(octets: bytes) -> bytes:
    """A whole message as it goes out with BDAT: nothing but CRLF line ends, the
    last line's too, so that it is the same message as with DATA."""
    octets = lineend.mended(octets)
    return octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"


class Folding:
    """Lines of a body longer than they may be (RFC 5321 4.5.3.1.6) go on in the next,
    behind a space (Postfix: smtp_line_length_limit). Those of the header stay as they
    are: another space could make another address of what was checked."""

    __slots__ = ("_body", "_ruler", "_tail")

    def __init__(self) -> None:
        self._ruler = lineend.Ruler(_LINE)  # or a line that may be too long
        self._body = False
        self._tail = b"\n"  # of the header: what may begin its end

    def encode(self, run: bytes) -> bytes:
        """A run of content, with as few lines more as it takes."""
        if self._body:
            return self._encode_body(run)
        seen = self._tail + run
        blank = _BLANK.search(seen)
        if blank is None:
            self._tail = seen[-2:]
            return run
        self._body = True
        end = blank.end() - len(self._tail)
        return run[:end] + self._encode_body(run[end:])

    def _encode_body(self, run: bytes) -> bytes:
        begun = self._ruler.line
        if not self._ruler.over(run):
            return run
        pieces: list[bytes] = []
        for line in _lines(run):
            text = len(line.rstrip(b"\r\n"))
            at = 0
            while at < text and begun + text - at > _LINE:
                cut = _character(line, max(at, at + _LINE - begun), at)
                pieces += line[at:cut], b"\r\n "
                at, begun = cut, 1
            pieces.append(line[at:])
            begun = 0 if line.endswith(b"\n") else begun + len(line) - at
        self._ruler.line = begun
        return b"".join(pieces)


def _lines(run: bytes) -> list[bytes]:
    """Lines with their ends; a CR by itself ends none."""
    first, *others = run.split(b"\n")
    if not others:
        return [first]
    whole = [line + b"\n" for line in (first, *others[:-1])]
    return [*whole, others[-1]] if others[-1] else whole


def _character(line: bytes, at: int, least: int) -> int:
    """Where to cut at most there, and not within a character of UTF-8."""
    for cut in range(at, max(at - 4, least), -1):
        if line[cut] & 0xC0 != 0x80:
            return cut
    return at


class DotStuffing:
    """The transparency procedure for one message."""

    __slots__ = ("_cr", "_line_start")

    def __init__(self) -> None:
        self._line_start = True
        self._cr = False  # a CR was held back: LF may follow

    def encode(self, octets: bytes) -> bytes:
        """A run of content, as it goes out; may be empty."""
        if self._cr:
            octets = b"\r" + octets
        self._cr = octets.endswith(b"\r")
        if self._cr:
            octets = octets[:-1]
        if not octets:
            return b""
        octets = lineend.mended(octets)
        first = b"." if self._line_start and octets.startswith(b".") else b""
        self._line_start = octets.endswith(b"\r\n")
        return first + octets.replace(b"\r\n.", b"\r\n..")

    def end(self) -> bytes:
        """What ends the content; the last line gets its end if it has none."""
        if self._cr or not self._line_start:
            return b"\r\n.\r\n"
        return b".\r\n"
