"""Address lists of header fields (RFC 5322 3.4 and the obsolete forms of 4.4).

Reads From, To, Cc and their kin as octets, in the shape IMAP wants them: name,
route, local part, host. What is written wrongly is read as far as it makes
sense; nothing raises. An entry in the usual form is one match of one
expression, everything else goes through a tokenizer; both are linear.
"""

import re
from typing import NamedTuple

ENTRIES_MAX = 1000
"""Addresses and group marks of one field that are read, the rest is dropped
(Postfix and mox: 1000 recipients)."""

FIELD_MAX = 262_144
"""Octets of one field that are read."""


class Entry(NamedTuple):
    """One address, or the start or the end of a group (RFC 3501 7.4.2).

    @ivar name: the display name without quotes, or a comment in its place.
    @ivar route: the obsolete source route, as in C{@a,@b}.
    @ivar local: the local part without quotes; the group's name at its start,
        C{None} at its end. Empty if it is missing.
    @ivar host: the domain, empty if it is missing; C{None} at the start and
        the end of a group.
    """

    name: bytes | None
    route: bytes | None
    local: bytes | None
    host: bytes | None


GROUP_END = Entry(None, None, None, None)

_ATOM = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\xff-]"
_USUAL = re.compile(
    rb"(?:"
    rb'(?:"([^"\\]*+)"|(%b++(?: %b++)*+)|) ?<(%b++)@(%b++)>'
    rb"|(%b++)@(%b++)"
    rb")[ \t]*+(?=,|\Z)" % ((_ATOM,) * 6)
)
_BETWEEN = re.compile(rb"[\s,;]*+")
_TOKEN = re.compile(
    rb'\s++|"(?:[^"\\]++|\\.)*+"?|\[(?:[^\]\\]++|\\.)*+\]?|[^\s"(),:;<>@\[\\]++|.',
    re.DOTALL,
)
_COMMENT = re.compile(rb"[^()\\]++|\\.?|[()]", re.DOTALL)
_PAIR = re.compile(rb"\\(.)", re.DOTALL)


def parse(value: bytes) -> list[Entry]:
    """Read an unfolded value. 1 us for an entry in the usual form, 6 to 10
    for others.

    @return: at most L{ENTRIES_MAX} entries, and the mark that ends a group.
    """
    value = value[:FIELD_MAX]
    entries: list[Entry] = []
    grouped = False
    at = 0
    while len(entries) < ENTRIES_MAX:
        between = _BETWEEN.match(value, at)
        assert between is not None  # it matches nothing as well
        if grouped and b";" in between[0]:
            entries.append(GROUP_END)
            grouped = False
        at = between.end()
        if at == len(value):
            break
        if usual := _USUAL.match(value, at):
            quoted, phrase, local, host, bare, domain = usual.groups()
            name = (quoted or phrase or b"").strip() or None
            entries.append(
                Entry(name, None, bare, domain)
                if bare is not None
                else Entry(name, None, local, host)
            )
            at = usual.end()
            continue
        reader = _Reader(value, at)
        at = reader.read()
        if reader.group is not None:
            if grouped:  # a group within a group is not allowed: end the first
                entries.append(GROUP_END)
            entries.append(Entry(None, None, reader.group, None))
            grouped = True
        elif (entry := reader.entry()) is not None:
            entries.append(entry)
    if grouped:
        entries.append(GROUP_END)
    return entries


def addresses(value: bytes) -> list[tuple[bytes, bytes]]:
    """Only the local parts and hosts of an unfolded value."""
    return [
        (entry.local or b"", entry.host)
        for entry in parse(value)
        if entry.host is not None
    ]


def _phrase(words: list[bytes | None]) -> bytes:
    """Words with one space wherever there was white space."""
    return b"".join(b" " if word is None else word for word in words).strip()


def _joined(words: list[bytes | None]) -> bytes:
    """Words without the white space that obsolete syntax has between them."""
    return b"".join(word for word in words if word is not None)


def _comment(value: bytes, at: int) -> tuple[bytes, int]:
    """Read a comment from its parenthesis on, with those within it.

    @return: its text and the offset behind it.
    """
    depth = 0
    start = at
    for token in _COMMENT.finditer(value, at):
        depth += {b"(": 1, b")": -1}.get(token[0], 0)
        if depth == 0:
            text = value[start + 1 : token.start()]
            return _PAIR.sub(rb"\1", text), token.end()
    return value[start + 1 :], len(value)


class _Reader:
    """One entry, token by token.

    The words before an C{@} are in C{_before} and those behind it in
    C{_after}; C{None} among them is white space. A C{<} makes what came before
    it the display name.
    """

    def __init__(self, value: bytes, at: int) -> None:
        self._value = value
        self._at = at
        self._before: list[bytes | None] = []
        self._wordless = True  # no word in _before, which may be long
        self._after: list[bytes | None] | None = None
        self._name: bytes | None = None
        self._comment: bytes | None = None
        self._route: bytes | None = None
        self._angle = ""  # then "open", then "closed"
        self.group: bytes | None = None

    def read(self) -> int:
        """Read until the entry ends.

        @return: the offset of the comma or semicolon behind it, or behind the
            colon that made it a group.
        """
        value = self._value
        while self._at < len(value):
            found = _TOKEN.match(value, self._at)
            assert found is not None  # the last alternative takes anything
            token = found[0]
            if token == b"(":
                text, self._at = _comment(value, self._at)
                self._comment = self._comment or text
                continue
            if token in b",;" and not (token == b"," and self._in_route()):
                return self._at
            self._at = found.end()
            if token == b":" and not self._angle:
                self.group = self._words()
                return self._at
            self._take(token)
        return self._at

    def _in_route(self) -> bool:
        """Whether a comma belongs to a source route: C{<@a,@b:c@d>}."""
        return self._angle == "open" and self._wordless

    def _take(self, token: bytes) -> None:
        if self._angle == "closed":
            return
        if token == b"<" and not self._angle:
            self._name = self._words()
            self._restart()
            self._angle = "open"
        elif token == b">" and self._angle:
            self._angle = "closed"
        elif token == b":" and self._after is not None and self._wordless:
            self._route = b"@" + _joined(self._after)
            self._restart()
        elif token == b"@":
            if self._after is not None:
                if self._in_route():
                    self._after.append(b"@")
                    return
                self._before += [b"@", *self._after]
                self._wordless = False
            self._after = []
        elif token.isspace():
            self._add(None)
        elif token[:1] == b'"':
            text = token[1:-1] if len(token) > 1 and token[-1:] == b'"' else token[1:]
            self._add(_PAIR.sub(rb"\1", text))
        else:
            self._add(token)

    def _restart(self) -> None:
        self._before, self._after = [], None
        self._wordless = True

    def _add(self, word: bytes | None) -> None:
        if self._after is not None:
            self._after.append(word)
        else:
            self._before.append(word)
            self._wordless = self._wordless and not word

    def _words(self) -> bytes:
        """All that was read so far, as a phrase."""
        if self._after is None:
            return _phrase(self._before)
        return _phrase([*self._before, b"@", *self._after])

    def entry(self) -> Entry | None:
        """What was read, or C{None} if that was nothing."""
        local = _joined(self._before)
        if self._angle or self._after is not None:
            host = _joined(self._after or [])
            name = self._name or self._comment or None
            return Entry(name, self._route, local, host)
        if not local:
            return None
        phrase = _phrase(self._before)
        if b" " in phrase:  # words without an address are someone's name
            return Entry(phrase, None, b"", b"")
        return Entry(self._comment or None, None, local, b"")
