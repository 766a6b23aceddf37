"""How a FETCH is answered, found out once for all its messages.

Clients ask for the same items of thousands of messages, so what is asked is made
a template, and of a group of messages a column of values for each place in it:
UID, FLAGS and RFC822.SIZE from the view, all that never changes as one piece that
is rendered from a row of the store, or was before (L{memo
<twisted_mta.servers.imap.memo>}). It sends nothing.

Cost, for each message: 0.3 us for UID and FLAGS; 2 to 3 more to render a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING

from twisted_mta.mail.placement import Message, Part
from twisted_mta.mail.uidset import LARGEST
from twisted_mta.servers.imap.section import cut, parts_of
from twisted_mta.wire.imap import replies

if TYPE_CHECKING:
    from twisted_mta.servers.imap.view import View
    from twisted_mta.wire.imap.model import FetchItem

# A place in the template, and its values for the messages at some positions.
_Column = Callable[["View", Sequence[int]], Iterable[object]]
Render = Callable[[Message], bytes]

_FROM_VIEW: dict[str, tuple[bytes, _Column]] = {
    "UID": (b"UID %d", lambda view, at: view.uids_at(at)),
    "FLAGS": (b"%b", lambda view, at: map(replies.flags_item, view.flags_at(at))),
    "RFC822.SIZE": (b"RFC822.SIZE %d", lambda view, at: view.sizes_at(at)),
}
_FROM_ROW: dict[str, Render] = {
    "UID": lambda row: replies.uid_item(row.uid),
    "RFC822.SIZE": lambda row: replies.size_item(min(row.size, LARGEST)),
    "INTERNALDATE": lambda row: replies.internaldate_item(row.received_at),
    "ENVELOPE": lambda row: b"ENVELOPE " + (row.envelope or b"NIL"),
    "BODYSTRUCTURE": lambda row: b"BODYSTRUCTURE " + (row.bodystructure or b"NIL"),
    "BODY": lambda row: b"BODY " + (row.body or b"NIL"),
}
_PARTS = {
    "ENVELOPE": Part.ENVELOPE,
    "BODYSTRUCTURE": Part.STRUCTURE,
    "BODY": Part.STRUCTURE,
}


class Plan:
    """How the items of one FETCH are answered.

    @ivar items: as they were asked for.
    @ivar parts: what of a message must be brought from the store; C{None}:
        nothing, the view knows it all.
    @ivar octets: whole messages, or parts of them.
    @ivar tells_flags: FLAGS is among the items.
    @ivar sees: reading sets \\Seen.
    @ivar what: names the piece that is rendered; empty: not worth remembering.
    """

    __slots__ = (
        "_before",
        "_behind",
        "_renders",
        "_template",
        "items",
        "octets",
        "parts",
        "sees",
        "tells_flags",
        "what",
    )

    def __init__(self, items: tuple[FetchItem, ...]) -> None:
        self.items = items
        self.tells_flags = any(item.name == "FLAGS" for item in items)
        self.sees = any(item.section and not item.section.peek for item in items)
        parts: set[Part] = set()
        for item in items:
            if item.name in _PARTS:
                parts.add(_PARTS[item.name])
            elif item.section is not None:
                parts |= parts_of(item.section)
        self.octets = Part.OCTETS in parts
        # What the view knows comes first, then what is rendered from a row: all
        # that never changes, so only FLAGS may have to come behind it.
        rest = list(items)
        first: list[str] = []
        while rest and rest[0].name in _FROM_VIEW:
            first.append(rest.pop(0).name)
        rendered = [item for item in rest if item.name != "FLAGS"]
        last = ["FLAGS"] if len(rendered) < len(rest) else []
        self._renders = [_renderer(item) for item in rendered]
        self._before = [_FROM_VIEW[name][1] for name in first]
        self._behind = [_FROM_VIEW[name][1] for name in last]
        places = [_FROM_VIEW[name][0] for name in first]
        places += [b"%b"] if rendered else []
        places += [_FROM_VIEW[name][0] for name in last]
        self._template = b"* %d FETCH (" + b" ".join(places) + b"%b)\r\n"
        self.parts = frozenset(parts) if rendered else None
        partial = any(item.section and item.section.partial for item in items)
        self.what = b""
        if rendered and not partial and not self.octets:
            self.what = b" ".join([item.label for item in rendered])

    def render(self, row: Message) -> bytes | None:
        """What a row says of its message.

        @return: C{None} if it must be streamed from a file.
        """
        if self.octets and row.octets is None:
            return None
        if len(self._renders) == 1:
            return self._renders[0](row)
        return b" ".join([render(row) for render in self._renders])

    def responses(
        self,
        view: View,
        positions: Sequence[int],
        pieces: Sequence[bytes | None],
        seen: Collection[int],
    ) -> list[bytes]:
        """The FETCH responses of messages, ready for the wire.

        @param pieces: what L{render} said of them; without effect if nothing
            is rendered.
        @param seen: the positions whose flags are told though nobody asked,
            because reading has changed them.
        """
        columns: list[Iterable[object]] = [map((1).__add__, positions)]
        columns += [column(view, positions) for column in self._before]
        if self._renders:
            columns.append(pieces)
        columns += [column(view, positions) for column in self._behind]
        columns.append(_changed(view, positions, seen) if seen else repeat(b""))
        template = self._template
        return [template % values for values in zip(*columns)]  # noqa: B905

    def items_of(
        self, view: View, at: int, row: Message
    ) -> Iterator[tuple[FetchItem, bytes | None]]:
        """The items one by one, in the order asked for; with C{None} those that
        are octets of a message that is kept in a file."""
        for item in self.items:
            if item.name == "FLAGS":
                yield item, replies.flags_item(view.flags_of(at))
            elif item.section is not None:
                yield item, None
            else:
                yield item, _FROM_ROW[item.name](row)


def _changed(
    view: View, positions: Sequence[int], seen: Collection[int]
) -> Iterator[bytes]:
    """Flags at the end of a response, where reading has changed them."""
    flags = map(replies.flags_item, view.flags_at(positions))
    for at, item in zip(positions, flags, strict=True):
        yield b" " + item if at in seen else b""


def _renderer(item: FetchItem) -> Render:
    section, label = item.section, item.label
    if section is None:
        return _FROM_ROW[item.name]

    def render(row: Message) -> bytes:
        octets = cut(row, section)
        return replies.item(label, None if octets is None else sendable(octets))

    return render


def sendable(octets: bytes) -> bytes:
    """NUL cannot be in a literal (RFC 3501 9, CHAR8): 0x80 as Dovecot has it."""
    return octets.replace(b"\0", b"\x80") if b"\0" in octets else octets


# Clients say the same again and again.
planned = lru_cache(maxsize=64)(Plan)
