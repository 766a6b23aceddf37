"""Content-Transfer-Encoding (RFC 2045 6), decoded leniently.

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
