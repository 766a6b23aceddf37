"""The search program of SEARCH (RFC 3501 6.4.4, 9), as a tree of keys.

The grammar nests, and a client may nest it as deep as a line is long; so the
open parentheses, ORs and NOTs stand on a list of ours and not on Python's
stack. ORs inside ORs and NOTs inside NOTs are joined while they are read, which
is what deep programs of real clients consist of; the tree that remains is never
deeper than C{MOST_DEPTH}, so that whoever walks it may recurse.
"""

import re
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import TypeAlias

from twisted_mta.mail import flag
from twisted_mta.wire.imap.lexer import ATOM, MONTHS, Cursor, ParseError
from twisted_mta.wire.imap.searchkey import (
    And,
    BodyContains,
    DayField,
    DayRelation,
    Everything,
    HasFlag,
    HeaderContains,
    InSet,
    LargerThan,
    Not,
    OnDay,
    Or,
    SearchKey,
    SmallerThan,
    TextContains,
)

#: Levels of parentheses, ORs and NOTs (ours; no client is known to need ten).
MOST_DEPTH = 50
#: Keys in one program; each is a test of every message (ours; the longest seen
#: are lists of some hundred Message-IDs).
MOST_KEYS = 2000

# Charsets of search texts by their names in MIME, as codecs.
_CHARSETS = {
    "US-ASCII": "utf-8",  # sent with 8-bit octets by clients that mean UTF-8
    "UTF-8": "utf-8",
    "ISO-8859-1": "iso-8859-1",
    "ISO-8859-2": "iso-8859-2",
    "ISO-8859-15": "iso-8859-15",
    "WINDOWS-1251": "cp1251",
    "WINDOWS-1252": "cp1252",
    "KOI8-R": "koi8-r",
    "ISO-2022-JP": "iso-2022-jp",
    "SHIFT_JIS": "shift_jis",
    "EUC-JP": "euc-jp",
    "EUC-KR": "euc-kr",
    "GB2312": "gb2312",
    "BIG5": "big5",
}
_CHARSET = re.compile(rb"CHARSET ", re.IGNORECASE)
_DAY = re.compile(rb'("?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1')

_Leaf: TypeAlias = Callable[[Cursor, str], SearchKey]

_SEEN = HasFlag(flag.SEEN)
_RECENT = HasFlag(flag.RECENT)

_FIXED: dict[bytes, SearchKey] = {
    b"ALL": Everything(),
    b"ANSWERED": HasFlag(flag.ANSWERED),
    b"DELETED": HasFlag(flag.DELETED),
    b"DRAFT": HasFlag(flag.DRAFT),
    b"FLAGGED": HasFlag(flag.FLAGGED),
    b"RECENT": _RECENT,
    b"SEEN": _SEEN,
    b"NEW": And((_RECENT, Not(_SEEN))),
    b"OLD": Not(_RECENT),
    b"UNANSWERED": Not(HasFlag(flag.ANSWERED)),
    b"UNDELETED": Not(HasFlag(flag.DELETED)),
    b"UNDRAFT": Not(HasFlag(flag.DRAFT)),
    b"UNFLAGGED": Not(HasFlag(flag.FLAGGED)),
    b"UNSEEN": Not(_SEEN),
}


def _text(cursor: Cursor, codec: str) -> str:
    cursor.space()
    try:
        return cursor.astring().decode(codec)
    except UnicodeDecodeError:
        cursor.fail("Search text is not in the charset")


def _body(cursor: Cursor, codec: str) -> SearchKey:
    return BodyContains(_text(cursor, codec))


def _anywhere(cursor: Cursor, codec: str) -> SearchKey:
    return TextContains(_text(cursor, codec))


def _address_or_subject(field: str, cursor: Cursor, codec: str) -> SearchKey:
    return HeaderContains(field, _text(cursor, codec))


def _header(cursor: Cursor, codec: str) -> SearchKey:
    field = _text(cursor, "utf-8").lower()
    return HeaderContains(field, _text(cursor, codec))


def _keyword(cursor: Cursor, codec: str) -> SearchKey:
    cursor.space()
    return HasFlag(cursor.keyword(cursor.token(ATOM, "a keyword")))


def _unkeyword(cursor: Cursor, codec: str) -> SearchKey:
    return Not(_keyword(cursor, codec))


def _uid(cursor: Cursor, codec: str) -> SearchKey:
    cursor.space()
    return InSet(cursor.numbers(), uid=True)


def _larger(cursor: Cursor, codec: str) -> SearchKey:
    cursor.space()
    return LargerThan(cursor.number())


def _smaller(cursor: Cursor, codec: str) -> SearchKey:
    cursor.space()
    return SmallerThan(cursor.number())


def _on_day(
    field: DayField, relation: DayRelation, cursor: Cursor, codec: str
) -> SearchKey:
    cursor.space()
    found = _DAY.match(cursor.octets, cursor.at)
    if found is None:
        cursor.fail("Invalid date")
    cursor.at = found.end()
    month = MONTHS.get(found[3].lower(), 0)
    try:
        return OnDay(field, relation, date(int(found[4]), month, int(found[2])))
    except ValueError:
        cursor.fail("Invalid date")


_LEAVES: dict[bytes, _Leaf] = {
    b"BCC": partial(_address_or_subject, "bcc"),
    b"CC": partial(_address_or_subject, "cc"),
    b"FROM": partial(_address_or_subject, "from"),
    b"SUBJECT": partial(_address_or_subject, "subject"),
    b"TO": partial(_address_or_subject, "to"),
    b"HEADER": _header,
    b"BODY": _body,
    b"TEXT": _anywhere,
    b"KEYWORD": _keyword,
    b"UNKEYWORD": _unkeyword,
    b"UID": _uid,
    b"LARGER": _larger,
    b"SMALLER": _smaller,
    b"BEFORE": partial(_on_day, "internal", "before"),
    b"ON": partial(_on_day, "internal", "on"),
    b"SINCE": partial(_on_day, "internal", "since"),
    b"SENTBEFORE": partial(_on_day, "sent", "before"),
    b"SENTON": partial(_on_day, "sent", "on"),
    b"SENTSINCE": partial(_on_day, "sent", "since"),
}


def program(cursor: Cursor) -> SearchKey:
    """Charset and keys, up to the command's end.

    @raise ParseError: malformed, nested too deep, or a charset not known.
    """
    codec = "utf-8"
    if found := _CHARSET.match(cursor.octets, cursor.at):
        cursor.at = found.end()
        codec = _codec(cursor)
        cursor.space()
    return _Program(cursor, codec).read()


def _codec(cursor: Cursor) -> str:
    name = cursor.astring().decode("latin-1").upper()
    codec = _CHARSETS.get(name)
    if codec is None:
        known = " ".join(_CHARSETS).encode("ascii")
        raise ParseError("Unknown charset", b"NO", b"BADCHARSET (" + known + b")")
    return codec


class _Open:
    """A parenthesis, OR or NOT whose keys are being read.

    @ivar make: what it becomes.
    @ivar wants: how many keys end it; 0 for a parenthesis, which C{)} ends.
    """

    __slots__ = ("keys", "make", "wants")

    def __init__(
        self, make: Callable[[tuple[SearchKey, ...]], SearchKey], wants: int
    ) -> None:
        self.make = make
        self.wants = wants
        self.keys: list[SearchKey] = []


def _all(keys: tuple[SearchKey, ...]) -> SearchKey:
    return keys[0] if len(keys) == 1 else And(keys)


def _not(keys: tuple[SearchKey, ...]) -> SearchKey:
    return Not(keys[0])


class _Program:
    """Reads one program."""

    def __init__(self, cursor: Cursor, codec: str) -> None:
        self._cursor = cursor
        self._codec = codec
        self._open = [_Open(_all, 0)]
        self._count = 0

    def read(self) -> SearchKey:
        cursor = self._cursor
        while True:
            if cursor.accept(b"("):
                self._push(_Open(_all, 0))
                continue
            key = self._key()
            if key is None:  # an operator: its keys follow
                cursor.space()
                continue
            self._give(key)
            while len(self._open) > 1 and cursor.accept(b")"):
                if self._open[-1].wants:
                    cursor.fail("Missing search key")
                self._give(_all(tuple(self._open.pop().keys)))
            if cursor.ended():
                if len(self._open) > 1:
                    cursor.fail("Search program ends too early")
                return _all(tuple(self._open[0].keys))
            cursor.space()

    def _push(self, group: _Open) -> None:
        if len(self._open) > MOST_DEPTH:
            self._cursor.fail("Search program is nested too deep")
        self._open.append(group)

    def _give(self, key: SearchKey) -> None:
        """Hand a key to what is open, and on when that makes it whole."""
        group = self._open[-1]
        group.keys.append(key)
        while group.wants and len(group.keys) == group.wants:
            self._open.pop()
            whole = group.make(tuple(group.keys))
            group = self._open[-1]
            group.keys.append(whole)

    def _operator(self, name: bytes) -> bool:
        group = self._open[-1]
        if name == b"NOT":
            if group.make is _not:
                self._open.pop()
            else:
                self._push(_Open(_not, 1))
            return True
        if name == b"OR":
            if group.make is Or:
                group.wants += 1
            else:
                self._push(_Open(Or, 2))
            return True
        return False

    def _key(self) -> SearchKey | None:
        cursor = self._cursor
        self._count += 1
        if self._count > MOST_KEYS:
            raise ParseError("Too many search keys", b"NO", b"LIMIT")
        if cursor.octets[cursor.at : cursor.at + 1] in _SET_STARTS:
            return InSet(cursor.numbers(), uid=False)
        name = cursor.token(ATOM, "a search key").upper()
        if (fixed := _FIXED.get(name)) is not None:
            return fixed
        if (leaf := _LEAVES.get(name)) is not None:
            return leaf(cursor, self._codec)
        if not self._operator(name):
            cursor.fail("Unknown search key")
        return None


_SET_STARTS = frozenset(b"%c" % octet for octet in b"0123456789*")
