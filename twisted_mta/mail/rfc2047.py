"""Encoded words (RFC 2047): header octets to text.

Decoding never raises and never loses anything: a word that cannot be decoded
stays as it is written.
"""

import binascii
import re

from twisted_mta.mail import charset, transfer

_WORD = re.compile(
    # encoded-word, RFC 2047 2, with the language of RFC 2231 5. Words longer
    # than 75 octets are common, so is white space within Q.
    rb"=\?([^\s?*]{1,40}+)(?:\*[^\s?]{0,40}+)?+\?([BbQq])\?([^?]*+)\?="
)


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
