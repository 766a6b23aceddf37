"""Which octets of a message a BODY[...] item means (RFC 3501 6.4.5).

Sections are found by the offsets that were computed when the message was stored
(L{twisted_mta.mail.structure}), and read from wherever the octets are: in
memory, or in a content of the store, of which no more is read than is asked
for. It knows no connection.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from twisted_mta import errors
from twisted_mta.mail import header
from twisted_mta.mail.placement import Part
from twisted_mta.mail.structure import Structure

if TYPE_CHECKING:
    from twisted_mta.interfaces import IContent, IMailbox
    from twisted_mta.mail.placement import Message
    from twisted_mta.wire.imap.model import BodySection

#: Octets read at once.
RUN_OCTETS = 64 * 1024

_HEADERS = frozenset({"HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT"})
_WHOLE_TEXT = {"HEADER.FIELDS": "HEADER", "HEADER.FIELDS.NOT": "HEADER"}


_HEADER_ALONE = frozenset({Part.HEADER})


class Span(NamedTuple):
    """Octets of a message, from one offset to another."""

    start: int
    end: int


def parts_of(section: BodySection) -> frozenset[Part]:
    """What must be fetched for a section."""
    if not section.path and section.text in _HEADERS:
        return _HEADER_ALONE
    if not section.path and not section.text:
        return frozenset({Part.OCTETS})
    return frozenset({Part.SECTIONS, Part.OCTETS})


# Structures that were unpacked lately: a client may ask for many sections of one
# message.
_unpacked = lru_cache(maxsize=16)(Structure.unpack)


def cut(message: Message, section: BodySection) -> bytes | None:
    """A section of a message that is in memory.

    @param message: with the L{parts_of} the section, its octets among them if
        they are one.
    @return: C{None} if the message has no such section.
    """
    found: bytes | None
    if not section.path and section.text in _HEADERS:
        found = message.header or b""
    else:
        span = _span(message, section)
        if span is None:
            return None
        octets = message.octets or b""
        found = octets if span == (0, len(octets)) else octets[span.start : span.end]
    if section.fields:
        found = _selected(found, section)
    if section.partial is None:
        return found
    offset, most = section.partial
    return found[offset : offset + most]


def _selected(block: bytes, section: BodySection) -> bytes:
    """HEADER.FIELDS or HEADER.FIELDS.NOT of a header block, as much of it as is
    understood."""
    invert = section.text == "HEADER.FIELDS.NOT"
    return header.select(block[: header.BLOCK_MAX], section.fields, invert)


def _span(message: Message, section: BodySection) -> Span | None:
    if not section.path and not section.text:
        return Span(0, message.size)
    text = _WHOLE_TEXT.get(section.text, section.text).encode("ascii")
    found = _unpacked(message.sections or b"").span(section.path, text)
    if found is None:
        return None
    return Span(found[0] + message.prefix, found[1] + message.prefix)


class Source:
    """The octets of one message, prefix included; offsets count from there."""

    __slots__ = ("_content", "_mailbox", "_message", "_prefix")

    def __init__(self, mailbox: IMailbox, message: Message) -> None:
        """@param message: with the L{parts_of} the sections asked for."""
        self._mailbox = mailbox
        self._message = message
        self._prefix = b""
        self._content: IContent | None = None

    async def read(self, start: int, end: int) -> bytes:
        """Octets from one offset to another; both within the message.

        @raise NoSuchMessage: it is gone, or shorter than it should be.
        """
        octets = self._message.octets
        if octets is not None:
            return octets[start:end]
        content = await self._stored()
        behind = len(self._prefix)
        pieces = [self._prefix[start:end]]
        start = max(start, behind)
        while start < end:
            piece = await content.read(start - behind, end - start)
            if not piece:
                raise errors.NoSuchMessage()
            pieces.append(piece)
            start += len(piece)
        return b"".join(pieces)

    async def find(self, section: BodySection) -> bytes | Span | None:
        """A section's octets, or where they are.

        @return: C{None} if the message has no such section.
        """
        message = self._message
        if message.octets is not None or parts_of(section) == _HEADER_ALONE:
            return cut(message, section)
        span = _span(message, section)
        if span is None:
            return None
        if section.fields:
            start, end = span
            block = await self.read(start, min(end, start + header.BLOCK_MAX))
            found = _selected(block, section)
            if section.partial is None:
                return found
            offset, most = section.partial
            return found[offset : offset + most]
        if section.partial is None:
            return span
        offset, most = section.partial
        start = min(span.end, span.start + offset)
        return Span(start, min(span.end, start + most))

    async def prepare(self) -> None:
        """Open what will be read, so that a message that is gone is noticed
        before any of it is sent."""
        if self._message.octets is None:
            await self._stored()

    async def _stored(self) -> IContent:
        if self._content is None:
            uid = self._message.uid
            self._prefix, self._content = await self._mailbox.content(uid)
        return self._content
