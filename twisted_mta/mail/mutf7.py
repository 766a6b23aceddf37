"""Modified UTF-7: how IMAP spells mailbox names in ASCII (RFC 3501 5.1.3).

Strict in both directions: a name has exactly one spelling, so that what decodes
also encodes to the same octets and no two spellings name one mailbox.
"""

import re
from binascii import a2b_base64, b2a_base64

_PLAIN = re.compile(rb"[ -%'-~]*")
_SHIFTED = re.compile(rb"&([A-Za-z0-9+,]*)-")
_UNSHIFTED = re.compile(r"[ -~]+|[^ -~]+")


def encode(name: str) -> bytes:
    """Spell a name.

    @raise ValueError: it has a lone surrogate.
    """
    if name.isascii() and name.isprintable():
        return name.encode("ascii").replace(b"&", b"&-")
    return b"".join(map(_run, _UNSHIFTED.findall(name)))


def _run(run: str) -> bytes:
    if " " <= run[0] <= "~":
        return run.encode("ascii").replace(b"&", b"&-")
    octets = b2a_base64(run.encode("utf-16-be"), newline=False)
    return b"&" + octets.rstrip(b"=").replace(b"/", b",") + b"-"


def decode(octets: bytes) -> str:
    """Read a name.

    @raise ValueError: it is not modified UTF-7, or not its only spelling.
    """
    if _PLAIN.fullmatch(octets):
        return octets.decode("ascii")
    parts: list[str] = []
    at = 0
    while at < len(octets):
        if plain := _PLAIN.match(octets, at):
            parts.append(plain[0].decode("ascii"))
            at = plain.end()
        if at == len(octets):
            break
        shifted = _SHIFTED.match(octets, at)
        if shifted is None:
            raise ValueError("not modified UTF-7")
        parts.append(_shifted(shifted[1]) if shifted[1] else "&")
        at = shifted.end()
    name = "".join(parts)
    if encode(name) != octets:
        raise ValueError("not the canonical modified UTF-7")
    return name


def _shifted(octets: bytes) -> str:
    padded = octets.replace(b",", b"/") + b"=" * (-len(octets) % 4)
    return a2b_base64(padded).decode("utf-16-be")
