"""Content-Transfer-Encoding (RFC 2045 6), decoded leniently and encoded.

A body that breaks its encoding's rules decodes as far as it can; nothing
raises, and the work is linear.
"""

import binascii

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_OTHER = bytes(sorted(set(range(256)) - set(_BASE64)))
_DELETED = bytes(sorted(set(_OTHER) - set(b"=")))


def base64(octets: bytes) -> bytes:
    """Decode base64 up to its first padding; what is not of the alphabet is
    passed over (RFC 2045 6.8), and a sixth of an octet too few is dropped."""
    clean = octets.translate(None, _DELETED)
    padding = clean.find(b"=")
    if padding >= 0:
        clean = clean[:padding]
    excess = len(clean) % 4
    if excess == 1:
        clean = clean[:-1]
    elif excess:
        clean += b"=="[: 4 - excess]
    return binascii.a2b_base64(clean)


def quoted_printable(octets: bytes) -> bytes:
    """Decode quoted-printable; a C{=} that is no code stays (RFC 2045 6.7)."""
    return binascii.a2b_qp(octets)


_DECODERS = {
    b"base64": base64,
    b"quoted-printable": quoted_printable,
}


def decode(octets: bytes, encoding: bytes) -> bytes:
    """Decode a body.

    @param encoding: in lower case; an unknown one leaves the octets as they
        are, as 7bit, 8bit and binary do.
    """
    decoder = _DECODERS.get(encoding)
    return decoder(octets) if decoder else octets


# --- encoding -----------------------------------------------------------------

_LINE_BASE64 = 57  # octets that make a line of 76 characters (RFC 2045 6.8)


class Base64Text:
    """Writes base64 in lines with CRLF between them, however the octets are cut."""

    __slots__ = ("_begun", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False

    def encode(self, octets: bytes) -> bytes:
        """Some of the body; may be empty."""
        octets = self._rest + octets
        whole = len(octets) - len(octets) % _LINE_BASE64
        self._rest = octets[whole:]
        return self._lines(octets[:whole])

    def end(self) -> bytes:
        """What is left; the last line has no end."""
        rest, self._rest = self._rest, b""
        return self._lines(rest)

    def _lines(self, octets: bytes) -> bytes:
        if not octets:
            return b""
        lines = [
            binascii.b2a_base64(octets[at : at + _LINE_BASE64], newline=False)
            for at in range(0, len(octets), _LINE_BASE64)
        ]
        if self._begun:
            lines.insert(0, b"")
        self._begun = True
        return b"\r\n".join(lines)


class QuotedText:
    """Writes quoted-printable, of text whose lines end with CRLF and are short: a
    line is kept until it is whole."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def encode(self, octets: bytes) -> bytes:
        """Some of the body; may be empty."""
        octets = self._rest + octets
        whole = octets.rfind(b"\n") + 1
        self._rest = octets[whole:]
        return _quoted(octets[:whole])

    def end(self) -> bytes:
        """What is left."""
        rest, self._rest = self._rest, b""
        return _quoted(rest)


def _quoted(octets: bytes) -> bytes:
    # b2a_qp breaks long lines in the way that the first line ends.
    text = binascii.b2a_qp(octets.replace(b"\r\n", b"\n"))
    return text.replace(b"\n", b"\r\n")
