"""What the search index holds of one email: words, by where they stand.

It reads messages as SEARCH does (L{twisted_mta.mail.text}), so that the index
and who looks at a message agree. It knows no index and no ledger.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from twisted_mta.mail import date, header, text, word
from twisted_mta.mail.structure import Structure

DOCUMENT_OCTETS = 1024 * 1024
"""Octets of text and part headers of a message that are indexed. One with more
is looked at by each search. Dovecot's fts_message_max_size has no limit by
default, but it answers nothing from a message that it left out."""

DOCUMENT_WORDS = 50_000
"""Different words of a message that are indexed; the complete works of
Shakespeare have 30,000."""

BODY, HEADER = "b", "h"
FIELDS = {b"subject": "s", b"from": "f", b"to": "t", b"cc": "c"}
"""Fields that are looked for by name so often that their words are kept apart."""


class Document(NamedTuple):
    """An email as the index has it.

    @ivar received: C{date.toordinal()} of its arrival, UTC.
    @ivar sent: of its Date field, 0 for none.
    @ivar words: by place; C{None} for a message that is too large to be indexed.
    """

    email: int
    received: int
    sent: int
    words: Mapping[str, set[str]] | None


class Source(NamedTuple):
    """An email to be indexed.

    @ivar header: its header block, the prefix included.
    @ivar sections: packed.
    @ivar octets: its content, without the prefix; C{None} if that is in a file.
    """

    email: int
    received_at: float
    header: bytes
    sections: bytes
    octets: bytes | None


class TooLarge(Exception):
    """There is more text than is indexed."""


def texts(sections: bytes, octets: bytes) -> Iterator[str]:
    """The texts of a body that is in memory."""
    pulled = text.pull_texts(Structure.unpack(sections))
    step = next(pulled, None)
    while step is not None:
        if isinstance(step, str):
            yield step
            step = next(pulled, None)
        else:
            try:
                step = pulled.send(octets[step[0] : step[1]])
            except StopIteration:
                return


async def read_texts(
    sections: bytes, read: Callable[[int, int], Awaitable[bytes]]
) -> list[str]:
    """The texts of a body that is in a file.

    @param read: gives up to so many octets (second) from an offset (first).
    @raise TooLarge: no more than L{DOCUMENT_OCTETS} were read.
    @raise NoSuchMessage: it was collected.
    """
    found: list[str] = []
    room = DOCUMENT_OCTETS
    pulled = text.pull_texts(Structure.unpack(sections))
    step = next(pulled, None)
    while step is not None:
        if isinstance(step, str):
            found.append(step)
            step = next(pulled, None)
            continue
        start, end = step
        room -= end - start
        if room < 0:
            raise TooLarge
        pieces = []
        while start < end and (piece := await read(start, end - start)):
            pieces.append(piece)
            start += len(piece)
        try:
            step = pulled.send(b"".join(pieces))
        except StopIteration:
            break
    return found


def document(source: Source, body: Iterable[str] | None) -> Document:
    """An email as the index has it.

    @param body: its texts; C{None} if they are too large.
    """
    block = source.header
    said = date.parse(header.first(block, b"date") or b"")
    return Document(
        source.email,
        date.day_of(source.received_at).toordinal(),
        0 if said is None else said.day.toordinal(),
        None if body is None else _words(block, body),
    )


def _words(block: bytes, body: Iterable[str]) -> dict[str, set[str]] | None:
    found = {
        letter: words
        for name, letter in FIELDS.items()
        if (words := word.words(text.header_text(block, name)))
    }
    found[HEADER] = word.words(text.block_text(block))
    found[BODY] = in_body = set()
    for each in body:
        in_body |= word.words(each)
        if len(in_body) > DOCUMENT_WORDS:
            return None
    return found if len(found[HEADER]) <= DOCUMENT_WORDS else None
