"""Encoded words (RFC 2047): header octets to text, and text to header octets.

Decoding never raises and never loses anything: a word that cannot be decoded
stays as it is written. Encoding gives lines that any program reads.
"""

import binascii
import re
from base64 import b64encode

from twisted_mta.mail import charset, transfer

WORD_MAX = 75
"""Octets of an encoded word that is written (RFC 2047 2)."""

LINE_MAX = 76
"""Octets of a header line with encoded words (RFC 2047 2)."""

_WORD = re.compile(
    # encoded-word, RFC 2047 2, with the language of RFC 2231 5. Words longer
    # than 75 octets are common, so is white space within Q.
    rb"=\?([^\s?*]{1,40}+)(?:\*[^\s?]{0,40}+)?+\?([BbQq])\?([^?]*+)\?="
)
_PLAIN = re.compile(r"[\t -~]*")
_Q_ENCODED = re.compile(rb"[^A-Za-z0-9!*+/-]")


def _octets(encoding: bytes, encoded: bytes) -> bytes:
    if encoding in b"Bb":
        return transfer.base64(encoded)
    return binascii.a2b_qp(encoded, header=True)


def decode(value: bytes) -> str:
    """Decode an unfolded header value.

    White space between encoded words goes (RFC 2047 6.2), and neighbours of
    one charset are decoded together, because many programs cut characters
    apart. Octets outside of encoded words are UTF-8 or Latin-1.
    """
    if b"=?" not in value:
        return charset.guess(value)
    out: list[str] = []
    run: list[bytes] = []  # the octets of neighbouring words of one charset
    label = b""
    at = 0
    for word in _WORD.finditer(value):
        name, encoding, encoded = word.groups()
        if charset.codec(name) is None:
            continue  # it stays as it is, with what is around it
        between = value[at : word.start()]
        at = word.end()
        if run and not between.strip() and name.lower() == label:
            run.append(_octets(encoding, encoded))
            continue
        if run:
            out.append(charset.decode(b"".join(run), label))
        if not run or between.strip():
            out.append(charset.guess(between))
        run = [_octets(encoding, encoded)]
        label = name.lower()
    if run:
        out.append(charset.decode(b"".join(run), label))
    out.append(charset.guess(value[at:]))
    return "".join(out)


def _pieces(text: str, first: int, size: int) -> list[bytes]:
    """Cut into UTF-8 of at most C{size} octets (C{first} for the first), never
    inside a character."""
    pieces = []
    piece = b""
    room = first
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(piece) + len(octets) > room:
            pieces.append(piece)
            piece, room = b"", size
        piece += octets
    pieces.append(piece)
    return [piece for piece in pieces if piece]


def _q(octets: bytes) -> bytes:
    return _Q_ENCODED.sub(
        lambda found: b"_" if found[0] == b" " else b"=%02X" % found[0][0], octets
    )


def encode(text: str, used: int = 0) -> bytes:
    """Encode text for an unstructured field or a phrase.

    Printable ASCII goes as it is, unless it looks like an encoded word; all
    else becomes encoded words of UTF-8, B or Q by which is shorter, folded
    with C{CRLF SP}. Line ends never leave this function unencoded.

    @param used: octets that stand on the first line already, such as the
        field's name.
    """
    if _PLAIN.fullmatch(text) and "=?" not in text:
        return text.encode("ascii")
    whole = text.encode("utf-8", "replace")
    frame = len("=?utf-8?q??=")
    line = WORD_MAX - frame
    head = max(12, LINE_MAX - frame - used)
    if len(_q(whole)) <= (len(whole) + 2) // 3 * 4:
        # A character of UTF-8 takes up to 12 octets in Q, so cut for that.
        words = [
            b"=?utf-8?q?%b?=" % _q(piece)
            for piece in _pieces(text, min(head, line) // 3, line // 3)
        ]
    else:
        words = [
            b"=?utf-8?b?%b?=" % b64encode(piece)
            for piece in _pieces(text, min(head, line) // 4 * 3, line // 4 * 3)
        ]
    return b"\r\n ".join(words)
