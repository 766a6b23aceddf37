"""The tokens of IMAP's command grammar (RFC 3501 9), read from one buffer.

A command is parsed when all of it has arrived: its lines without the last line
end, each literal standing where it was announced. The cursor
knows no command. It trusts only that the buffer is bounded; every rule is one
regular expression without backtracking, so reading is linear.

Cost: about 0.2 microseconds a token.
"""

import re
from calendar import timegm
from datetime import datetime, time
from typing import NoReturn

from twisted_mta.mail import flag, mutf7
from twisted_mta.mail.uidset import UidSet

_CTL_AND_8BIT = rb"\x00-\x20\x7f-\xff"
ATOM = re.compile(rb"[^" + _CTL_AND_8BIT + rb'(){%*"\\\]]+')
ASTRING = re.compile(rb"[^" + _CTL_AND_8BIT + rb'(){%*"\\]+')
_LIST_MAILBOX = re.compile(rb"[^" + _CTL_AND_8BIT + rb'(){"\\]+')
# Octets above 127 are let through as Dovecot does: passwords and search texts
# are sent like this. NUL, CR and LF never are (CVE-2019-11500).
_QUOTED = re.compile(rb'"((?:[^\x00\r\n"\\]++|\\["\\])*+)"')
_ESCAPE = re.compile(rb'\\(["\\])')
_LITERAL = re.compile(rb"\{([0-9]{1,10})\+?\}\r\n")
_SET = re.compile(rb"[0-9:*,]+")
_NUMBER = re.compile(rb"[0-9]{1,10}")
_FLAG = re.compile(rb"\\?[^" + _CTL_AND_8BIT + rb'(){%*"\\\]]+')
_DATE_TIME = re.compile(
    rb'"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4})'
    rb" ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"
    rb'"'
)

MONTHS = {
    month: number
    for number, month in enumerate(
        b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1
    )
}


class ParseError(Exception):
    """A command is malformed.

    @ivar text: for the client's user.
    @ivar status: BAD, or NO where the grammar is kept.
    @ivar code: a response code without brackets, or C{b""}.
    """

    def __init__(self, text: str, status: bytes = b"BAD", code: bytes = b"") -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.code = code


class Cursor:
    """A place in a command, moving forward token by token.

    Each method takes one token and raises L{ParseError} if there is another.
    """

    __slots__ = ("at", "octets")

    def __init__(self, octets: bytes, at: int = 0) -> None:
        self.octets = octets
        self.at = at

    def fail(self, text: str) -> NoReturn:
        """Refuse the command."""
        raise ParseError(text)

    def ended(self) -> bool:
        """Whether nothing is left."""
        return self.at == len(self.octets)

    def end(self) -> None:
        """Nothing more may follow."""
        if self.at != len(self.octets):
            self.fail("Unexpected arguments")

    def accept(self, octets: bytes) -> bool:
        """Take C{octets} if they come next."""
        if self.octets.startswith(octets, self.at):
            self.at += len(octets)
            return True
        return False

    def space(self) -> None:
        """SP."""
        if not self.accept(b" "):
            self.fail("Missing or malformed argument")

    def token(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        """What C{pattern} matches here."""
        found = pattern.match(self.octets, self.at)
        if found is None:
            self.fail(f"Expected {what}")
        self.at = found.end()
        return found[0]

    def word(self) -> str:
        """An atom, in capitals."""
        return self.token(ATOM, "a word").decode("ascii").upper()

    def string(self) -> bytes:
        """string: quoted or a literal."""
        octets, at = self.octets, self.at
        quoted = _QUOTED.match(octets, at)
        if quoted is not None:
            self.at = quoted.end()
            value = quoted[1]
            return _ESCAPE.sub(rb"\1", value) if b"\\" in value else value
        literal = _LITERAL.match(octets, at)
        if literal is None:
            self.fail("Expected a string")
        start = literal.end()
        self.at = start + int(literal[1])
        value = octets[start : self.at]
        if b"\0" in value or self.at > len(octets):
            self.fail("NUL in a literal")
        return value

    def astring(self) -> bytes:
        """astring: an atom, quoted or a literal."""
        found = ASTRING.match(self.octets, self.at)
        if found is None:
            return self.string()
        self.at = found.end()
        return found[0]

    def text(self) -> str:
        """astring, which must be UTF-8."""
        return self._decoded(self.astring())

    def nil_or_text(self) -> str | None:
        """nstring, which must be UTF-8."""
        if self.octets[self.at : self.at + 3].upper() == b"NIL":
            self.at += 3
            return None
        return self._decoded(self.string())

    def _decoded(self, octets: bytes) -> str:
        try:
            return octets.decode()
        except UnicodeDecodeError:
            self.fail("Not UTF-8")

    def mailbox(self) -> str:
        """mailbox: decoded, INBOX in capitals."""
        return self._name(self.astring())

    def list_mailbox(self) -> str:
        """list-mailbox: a mailbox name in which % and * are wildcards."""
        found = _LIST_MAILBOX.match(self.octets, self.at)
        if found is None:
            return self._name(self.string())
        self.at = found.end()
        return self._name(found[0])

    def _name(self, octets: bytes) -> str:
        if octets.upper() == b"INBOX":
            return "INBOX"
        try:
            name = mutf7.decode(octets)
        except ValueError:
            self.fail("Mailbox name is not valid modified UTF-7")
        if not name.isprintable() and any(
            character < " " or "\x7f" <= character < "\xa0" for character in name
        ):
            self.fail("Mailbox name has control characters")
        return name

    def number(self) -> int:
        """number: 0 to 4294967295."""
        number = int(self.token(_NUMBER, "a number"))
        if number > 0xFFFFFFFF:
            self.fail("Number out of range")
        return number

    def numbers(self) -> UidSet:
        """sequence-set."""
        try:
            return UidSet.parse(self.token(_SET, "a sequence set"))
        except ValueError:
            self.fail("Invalid sequence set")

    def flags(self) -> tuple[str, ...]:
        """flag-list in parentheses; canonical, each once, in order."""
        if not self.accept(b"("):
            self.fail("Expected a list of flags")
        if self.accept(b")"):
            return ()
        found = self.bare_flags()
        if not self.accept(b")"):
            self.fail("Expected the end of the list of flags")
        return found

    def bare_flags(self) -> tuple[str, ...]:
        """Flags separated by spaces, at least one."""
        flags = [self.flag()]
        while self.accept(b" "):
            flags.append(self.flag())
        return tuple(dict.fromkeys(flags))

    def flag(self) -> str:
        """A flag that may be set, or a keyword."""
        return self.keyword(self.token(_FLAG, "a flag"))

    def keyword(self, octets: bytes) -> str:
        """The canonical spelling of a flag that was read as an atom."""
        try:
            return flag.canonical(octets.decode("ascii"))
        except flag.KeywordTooLong:
            raise ParseError("Keyword is too long", b"NO", b"LIMIT")
        except ValueError:
            self.fail("Invalid flag")

    def date_time(self) -> float:
        """date-time, as seconds since the epoch."""
        found = _DATE_TIME.match(self.octets, self.at)
        if found is None:
            self.fail("Invalid date and time")
        self.at = found.end()
        year, day, hour, minute, second, zone_hour, zone_minute = (
            int(found[group]) for group in (3, 1, 4, 5, 6, 8, 9)
        )
        month = MONTHS.get(found[2].lower(), 0)
        try:
            # A day and an hour that exist; leap seconds count as the last.
            datetime(year, month, day, hour, minute, min(second, 59))
            zone = time(zone_hour, zone_minute)
        except ValueError:
            self.fail("Invalid date and time")
        if second > 60 or not 1 < year < 9999:  # no zone moves it out of range
            self.fail("Invalid date and time")
        local = timegm((year, month, day, hour, minute, min(second, 59)))
        ahead = zone.hour * 3600 + zone.minute * 60
        return float(local - ahead if found[7] == b"+" else local + ahead)
