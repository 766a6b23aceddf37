"""The data items of FETCH (RFC 3501 6.4.5, 9).

It reads what is asked for and spells what the answer will be called; it knows
no message. Clients ask for the same items of one message after another, so the
parsed form of short requests is kept.

Cost: 0.25 microseconds for items seen before, 4 to 8 for others.
"""

import re
from functools import lru_cache

from twisted_mta.wire.imap.lexer import Cursor, ParseError
from twisted_mta.wire.imap.model import BodySection, FetchItem, PartText
from twisted_mta.wire.imap.replies import astring

#: More items than any client asks for, few enough to bound the answer to one
#: message (ours; a client that lists each part of a large multipart needs
#: about one hundred).
MOST_ITEMS = 250
#: Dovecot: MIME parts nest at most 100 deep.
MOST_LEVELS = 100

_REMEMBERED = 256  # octets of a request whose parsed form is kept

_ITEM = re.compile(rb"[A-Za-z0-9.]+")
_SECTION = re.compile(
    rb"((?:[1-9][0-9]{0,8}(?:\.|(?=\])))*+)"
    rb"(HEADER\.FIELDS\.NOT|HEADER\.FIELDS|HEADER|TEXT|MIME|)",
    re.IGNORECASE,
)
_PARTIAL = re.compile(rb"<([0-9]{1,10})\.([1-9][0-9]{0,9})>")

_TEXTS: dict[bytes, PartText] = {
    b"": "",
    b"HEADER": "HEADER",
    b"HEADER.FIELDS": "HEADER.FIELDS",
    b"HEADER.FIELDS.NOT": "HEADER.FIELDS.NOT",
    b"TEXT": "TEXT",
    b"MIME": "MIME",
}


def _item(name: str, section: BodySection | None = None) -> FetchItem:
    return FetchItem(name, name.encode("ascii"), section)


UID = _item("UID")

_ITEMS = {
    item.label: item
    for item in (
        UID,
        _item("FLAGS"),
        _item("INTERNALDATE"),
        _item("RFC822.SIZE"),
        _item("ENVELOPE"),
        _item("BODYSTRUCTURE"),
        _item("BODY"),
        _item("RFC822", BodySection()),
        _item("RFC822.HEADER", BodySection(text="HEADER", peek=True)),
        _item("RFC822.TEXT", BodySection(text="TEXT")),
    )
}

_FAST = ("FLAGS", "INTERNALDATE", "RFC822.SIZE")
_MACROS = {
    b"FAST": _FAST,
    b"ALL": (*_FAST, "ENVELOPE"),
    b"FULL": (*_FAST, "ENVELOPE", "BODY"),
}


def items(cursor: Cursor) -> tuple[FetchItem, ...]:
    """A macro, one item, or several in parentheses; up to the command's end."""
    octets = cursor.octets[cursor.at :]
    if len(octets) <= _REMEMBERED:
        return _short_items(octets)
    return _items(cursor)


@lru_cache(maxsize=256)
def _short_items(octets: bytes) -> tuple[FetchItem, ...]:
    return _items(Cursor(octets))


def _items(cursor: Cursor) -> tuple[FetchItem, ...]:
    macro = _MACROS.get(cursor.octets[cursor.at :].upper())
    if macro is not None:
        return tuple(_item(name) for name in macro)
    found: dict[bytes, FetchItem] = {}
    if not cursor.accept(b"("):
        _keep(found, _one(cursor))
    else:
        _keep(found, _one(cursor))
        while cursor.accept(b" "):
            _keep(found, _one(cursor))
        if not cursor.accept(b")"):
            cursor.fail("Expected the end of the list of items")
    cursor.end()
    return tuple(found.values())


def _keep(found: dict[bytes, FetchItem], item: FetchItem) -> None:
    """Add an item; of BODY[] and BODY.PEEK[] it is the one that sets \\Seen."""
    known = found.get(item.label)
    if known is None and len(found) == MOST_ITEMS:
        raise ParseError("Too many items", b"NO", b"LIMIT")
    if known is None or (known.section is not None and known.section.peek):
        found[item.label] = item


def _one(cursor: Cursor) -> FetchItem:
    name = cursor.token(_ITEM, "an item").upper()
    if name in (b"BODY", b"BODY.PEEK") and cursor.accept(b"["):
        return _body(cursor, name == b"BODY.PEEK")
    item = _ITEMS.get(name)
    if item is None:
        cursor.fail("Unknown item")
    return item


def _body(cursor: Cursor, peek: bool) -> FetchItem:
    """What follows C{BODY[}: section-spec, C{]} and perhaps C{<0.100>}."""
    found = _SECTION.match(cursor.octets, cursor.at)
    if found is None:
        cursor.fail("Invalid section")
    cursor.at = found.end()
    numbers, text = found[1], _TEXTS[found[2].upper()]
    # The dot stands between: after the numbers exactly if a text follows.
    if numbers and numbers.endswith(b".") != bool(text):
        cursor.fail("Invalid section")
    if text == "MIME" and not numbers:
        cursor.fail("MIME needs a part number")
    path = tuple(int(number) for number in numbers.rstrip(b".").split(b".") if number)
    if len(path) > MOST_LEVELS:
        cursor.fail("Too many levels of parts")
    fields = _fields(cursor) if text.startswith("HEADER.FIELDS") else ()
    if not cursor.accept(b"]"):
        cursor.fail("Invalid section")
    partial = _partial(cursor)
    section = BodySection(path, text, fields, partial, peek)
    return FetchItem("BODY[]", _label(section), section)


def _fields(cursor: Cursor) -> tuple[bytes, ...]:
    """header-list: SP and names in parentheses."""
    cursor.space()
    if not cursor.accept(b"("):
        cursor.fail("Expected a list of header fields")
    fields = [cursor.astring()]
    while cursor.accept(b" "):
        fields.append(cursor.astring())
    if not cursor.accept(b")"):
        cursor.fail("Expected the end of the list of header fields")
    return tuple(fields)


def _partial(cursor: Cursor) -> tuple[int, int] | None:
    found = _PARTIAL.match(cursor.octets, cursor.at)
    if found is None:
        return None
    cursor.at = found.end()
    return int(found[1]), int(found[2])


def _label(section: BodySection) -> bytes:
    """How the response names the section (RFC 3501 7.4.2)."""
    names = [b"%d" % number for number in section.path]
    if section.text:
        names.append(section.text.encode("ascii"))
    label = b"BODY[" + b".".join(names)
    if section.fields:
        label += b" (" + b" ".join(map(astring, section.fields)) + b")"
    label += b"]"
    return label if section.partial is None else label + b"<%d>" % section.partial[0]
