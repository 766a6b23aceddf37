"""What a person sees of a message, as text to be searched (RFC 3501 6.4.4).

Headers and bodies are decoded as far as they can be and folded, so that the
search for a string is C{fold(string) in text}. Nothing raises, and no more than
L{TEXT_MAX} octets of bodies are decoded for a message.
"""

from collections.abc import Generator, Iterator

from twisted_mta.mail import charset, content, header, parameter, rfc2047, transfer
from twisted_mta.mail.structure import Kind, Part, Structure

VERSION = 1
"""To be raised whenever a function here, or one that it calls, reads another text
from a message than before: a search index holds what they gave."""

TEXT_MAX = 16 * 1024 * 1024
"""Octets of all bodies of a message that are searched."""


def fold(text: str) -> str:
    """Text in which case makes no difference; all of Unicode, as
    i;unicode-casemap wants it (RFC 5051), without its decompositions."""
    return text.casefold()


def header_text(block: bytes, name: bytes) -> str:
    """The values of all fields of this name, decoded and folded, a line each.

    @param name: in any case.
    @return: C{""} when there is no such field, or nothing in it;
        L{has_field} tells.
    """
    return fold("\n".join(map(rfc2047.decode, header.every(block, name))))


def has_field(block: bytes, name: bytes) -> bool:
    """Whether there is a field of this name: what C{HEADER name ""} asks."""
    return header.first(block, name) is not None


def block_text(block: bytes) -> str:
    """All fields with their names, decoded and folded, a line each: the
    header's part of what TEXT searches."""
    lines = []
    for field in header.fields(block):
        value = rfc2047.decode(header.value_of(block, field))
        lines.append(f"{field.name.decode('latin-1')}: {value}")
    return fold("\n".join(lines))


def _leaves(root: Part) -> Iterator[Part]:
    """All leaves in order, and the messages within parts before what is in
    them."""
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.kind is Kind.LEAF or part.kind is Kind.MESSAGE:
            yield part
        waiting += reversed(part.children)


def pull_texts(structure: Structure) -> Generator[tuple[int, int] | str, bytes, None]:
    """The texts of a message's body, each decoded and folded: every text part,
    and the header of every message within. For octets that come from afar.

    @param structure: the message's, or what is left of it in a packed one.
    @return: yields two offsets, to be sent the octets between them, or a text.
        Only what is needed is asked for, so a large attachment is not read.
    """
    room = TEXT_MAX
    for part in _leaves(structure.root):
        if room <= 0:
            return
        if part.kind is Kind.MESSAGE:
            message = part.children[0]
            start, end = message.header_start, message.body_start
            octets = yield start, min(end, start + room)
            room -= len(octets)
            yield block_text(octets)
            continue
        start = max(part.header_start, part.body_start - header.BLOCK_MAX)
        described = content.parse((yield start, part.body_start))
        if described.type not in _SEARCHED:
            continue
        octets = yield part.body_start, min(part.end, part.body_start + room)
        room -= len(octets)
        label = parameter.octets(described.parameters, b"charset")
        decoded = transfer.decode(octets, described.encoding)
        yield fold(charset.decode(decoded, label))


# A multipart that is a leaf is one that could not be taken apart: it is shown
# as text.
_SEARCHED = frozenset((b"text", b"multipart"))
