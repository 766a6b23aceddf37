"""Content on its way out: with DATA dots are stuffed; nothing but CRLF line ends.

A L{DotStuffing} keeps its state across runs, so that wherever the octets are cut
a dot that begins a line is doubled and a CR or LF never goes out alone: either
would let a message smuggle commands past the next server (RFC 5321 4.5.2, 2.3.8).
"""

import re

from twisted_mta.mail import lineend

_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def lines(octets: bytes) -> bytes:
    """A whole message as it goes out with BDAT: nothing but CRLF line ends, the
    last line's too, so that it is the same message as with DATA."""
    if lineend.bare(octets):
        octets = _BARE.sub(b"\r\n", octets)
    return octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"


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
        if lineend.bare(octets):
            octets = _BARE.sub(b"\r\n", octets)
        first = b"." if self._line_start and octets.startswith(b".") else b""
        self._line_start = octets.endswith(b"\r\n")
        return first + octets.replace(b"\r\n.", b"\r\n..")

    def end(self) -> bytes:
        """What ends the content; the last line gets its end if it has none."""
        if self._cr or not self._line_start:
            return b"\r\n.\r\n"
        return b".\r\n"
