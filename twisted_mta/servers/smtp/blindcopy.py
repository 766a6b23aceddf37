"""Blind copies stay blind: Bcc is taken out of what is submitted (RFC 6409 8.1, RFC
5322 3.6.3).

The header is held until it is whole, the rest passes through. It trusts nothing: of a
header that does not end, no more than the limit is held.
"""

import re

# Resent-Bcc as well (RFC 5322 3.6.6). A field goes on where a line begins with a space.
_BCC = re.compile(rb"(?im)^(?:resent-)?bcc[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*")
_END = b"\r\n\r\n"


class WithoutBcc:
    """Takes the fields out of one message.

    @param most: octets of a header that are held; a longer one is refused elsewhere.
    """

    __slots__ = ("_held", "_most", "_passing")

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = b""
        self._passing = False

    def pass_on(self, octets: bytes) -> bytes:
        """What goes on of some octets, and of those that were held."""
        if self._passing:
            return octets
        # The end may lie across what was held and what came.
        begin = max(len(self._held) - len(_END) + 1, 0)
        self._held += octets
        at = self._held.find(_END, begin)
        if self._held.startswith(b"\r\n"):
            return self._rest(0)  # no header
        if at < 0:
            return self._rest(0) if len(self._held) > self._most else b""
        return self._rest(at + 2)

    def end(self) -> bytes:
        """What was held when the message ended: all of it is header."""
        return self._rest(len(self._held)) if not self._passing else b""

    def _rest(self, header: int) -> bytes:
        self._passing = True
        held, self._held = self._held, b""
        return _BCC.sub(b"", held[:header]) + held[header:]
