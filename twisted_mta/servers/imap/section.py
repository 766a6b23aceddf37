"""Which octets of a message a BODY[...] item means (RFC 3501 6.4.5).

Sections are found by the offsets that were computed when the message was stored
(L{twisted_mta.mail.structure}), and read from wherever the octets are: in
memory, or in a content of the store, of which no more is read than is asked
for. It knows no connection.
"""

from __future__ import annotations

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


class Span(NamedTuple):
    """Octets of a message, from one offset to another."""

    start: int
    end: int


def parts_of(section: BodySection) -> frozenset[Part]:
    """What must be fetched for a section."""
    if not section.path and section.text in _HEADERS:
        return frozenset({Part.HEADER})
    if not section.path and not section.text:
        return frozenset({Part.OCTETS})
    return frozenset({Part.SECTIONS, Part.OCTETS})


class Source:
    """The octets of one message, prefix included; offsets count from there."""

    __slots__ = ("_content", "_mailbox", "_message", "_prefix", "_structure")

    def __init__(self, mailbox: IMailbox, message: Message) -> None:
        """@param message: with the L{parts_of} the sections asked for."""
        self._mailbox = mailbox
        self._message = message
        self._prefix = b""
        self._content: IContent | None = None
        self._structure: Structure | None = None

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
        found: bytes | Span | None
        if not section.path and section.text in _HEADERS:
            found = self._message.header or b""
        else:
            found = self._span(section)
        if section.fields and found is not None:
            block = found if isinstance(found, bytes) else await self._block(*found)
            invert = section.text == "HEADER.FIELDS.NOT"
            found = header.select(block, section.fields, invert)
        return found if found is None else _partial(found, section.partial)

    async def _block(self, start: int, end: int) -> bytes:
        """A header block, as much of it as is understood."""
        return await self.read(start, min(end, start + header.BLOCK_MAX))

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

    def _span(self, section: BodySection) -> Span | None:
        message = self._message
        if not section.path and not section.text:
            return Span(0, message.size)
        if self._structure is None:
            self._structure = Structure.unpack(message.sections or b"")
        text = _WHOLE_TEXT.get(section.text, section.text).encode("ascii")
        found = self._structure.span(section.path, text)
        if found is None:
            return None
        return Span(found[0] + message.prefix, found[1] + message.prefix)


def _partial(found: bytes | Span, partial: tuple[int, int] | None) -> bytes | Span:
    """C{<offset.most>}; what is behind the end is empty."""
    if partial is None:
        return found
    offset, most = partial
    if isinstance(found, Span):
        start = min(found.end, found.start + offset)
        return Span(start, min(found.end, start + most))
    return found[offset : offset + most]
