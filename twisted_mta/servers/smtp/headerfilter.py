"""What is taken out of the header of a message that is submitted: Bcc, since blind
copies stay blind (RFC 5322 3.6.3), and a Date or Message-ID that nobody can read, which
submission then makes anew (RFC 6409 8.2 and 8.3).

The header is held until it is whole, the rest passes through. It trusts nothing: of a
header that does not end, no more than the limit is held.
"""

import re

from twisted_mta.mail import date

# A blank line, as L{twisted_mta.mail.header.body_start} has it: what comes in chunks
# may have bare line feeds.
_BLANK = re.compile(rb"\n\r?\n")
_BLANK_MOST = 3
_NO_HEADER = (b"\r\n", b"\n")

# Resent-Bcc as well (RFC 5322 3.6.6). A field goes on where a line begins with a space;
# the last line may have no end.
_LINE = rb"[^\n]*(?:\n|\Z)"
_BCC = re.compile(rb"(?im)^(?:resent-)?bcc[ \t]*:%b(?:[ \t]%b)*" % (_LINE, _LINE))

_REPAIRED = re.compile(
    rb"(?im)^(date|message-id)[ \t]*:(%b(?:[ \t]%b)*)" % (_LINE, _LINE)
)
_MESSAGE_ID = re.compile(rb"<[^<>\s]+>")


class HeaderFilter:
    """Takes the fields out of one message.

    @param most: octets of a header that are held; a longer one is refused elsewhere.
    """

    __slots__ = ("_held", "_most", "_passing", "_taken")

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = bytearray()
        self._passing = False
        self._taken = bytearray()

    @property
    def blind(self) -> bytes:
        """The Bcc fields that there were, with CRLF at the ends of their lines."""
        return bytes(self._taken)

    def pass_on(self, octets: bytes) -> bytes:
        """What goes on of some octets, and of those that were held."""
        if self._passing:
            return octets
        # The end may lie across what was held and what came.
        begin = max(len(self._held) - _BLANK_MOST + 1, 0)
        self._held += octets
        if self._held.startswith(_NO_HEADER):
            return self._rest(0)
        blank = _BLANK.search(self._held, begin)
        if blank is not None:
            return self._rest(blank.start() + 1)
        return self._rest(0) if len(self._held) > self._most else b""

    def end(self) -> bytes:
        """What was held when the message ended: all of it is header."""
        return self._rest(len(self._held)) if not self._passing else b""

    def _rest(self, header: int) -> bytes:
        self._passing = True
        held = bytes(self._held)
        self._held = bytearray()
        kept = _BCC.sub(self._take, held[:header])
        return _REPAIRED.sub(_readable, kept) + held[header:]

    def _take(self, field: re.Match[bytes]) -> bytes:
        lines = field[0].removesuffix(b"\n").split(b"\n")
        for line in lines:
            self._taken += line.removesuffix(b"\r") + b"\r\n"
        return b""


def _readable(field: re.Match[bytes]) -> bytes:
    """The field if somebody can read it, else nothing."""
    if field[1].lower() == b"date":
        return field[0] if date.parse(field[2]) is not None else b""
    return field[0] if _MESSAGE_ID.search(field[2]) else b""
