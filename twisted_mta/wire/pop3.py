"""The server's side of POP3 (RFC 1939, RFC 2449): lines in, commands out.

It knows the form of each command, not when it is allowed or what it means. It
trusts nothing: a line has a limit, an argument is text without control
characters or a small number, and what is neither is a L{BadCommand}. It also
writes what a session answers: status lines, and messages with the lines that
begin with a dot made longer (RFC 1939 section 3).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from twisted_mta.mail import lineend
from twisted_mta.wire import sasl
from twisted_mta.wire.engine import ReceiveBuffer, RemoteProtocolError

# RFC 2449 section 4 ends commands at 255 octets; passwords and initial
# responses are longer at times. Postfix: 2048 for a line of SMTP.
_COMMAND_LIMIT = 2048

_NUMBER = re.compile(r"0*([0-9]{1,9})", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Command:
    """A well-formed command.

    @ivar verb: in capitals, one of L{VERBS}.
    @ivar numbers: message number; with TOP also the count of lines.
    @ivar text: USER, PASS, AUTH (the mechanism in capitals) and LANG.
    @ivar initial: AUTH's initial response, decoded; C{None} if there is none.
    """

    verb: str
    numbers: tuple[int, ...] = ()
    text: str = ""
    initial: bytes | None = None


@dataclass(frozen=True, slots=True)
class BadCommand:
    """A line that is no command.

    @ivar text: why, for the client.
    """

    text: str


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The client's answer to a challenge, decoded; C{None}: it cancelled."""

    response: bytes | None


Event: TypeAlias = Command | BadCommand | AuthResponse


# --- the form of each command -----------------------------------------------


class _Malformed(Exception):
    """Says what the command wants."""


def _nothing(verb: str, argument: str) -> Command:
    if argument.strip(" "):
        raise _Malformed(f"{verb} takes no argument")
    return Command(verb)


def _number(verb: str, argument: str) -> Command:
    numbers = _numbers(argument)
    if len(numbers) != 1:
        raise _Malformed(f"{verb} takes a message number")
    return Command(verb, numbers)


def _number_or_nothing(verb: str, argument: str) -> Command:
    return _number(verb, argument) if argument.strip(" ") else Command(verb)


def _number_and_lines(verb: str, argument: str) -> Command:
    numbers = _numbers(argument)
    if len(numbers) != 2:
        raise _Malformed(f"{verb} takes a message number and a count of lines")
    return Command(verb, numbers)


def _text(verb: str, argument: str) -> Command:
    """All that follows the first space: a password may hold spaces (RFC 1939
    section 7, PASS)."""
    if not argument:
        raise _Malformed(f"{verb} takes an argument")
    return Command(verb, text=argument)


def _language(verb: str, argument: str) -> Command:
    words = argument.split(" ")
    if len(words) != 1:
        raise _Malformed(f"{verb} takes one language at most")
    return Command(verb, text=argument)


def _auth(verb: str, argument: str) -> Command:
    """RFC 5034 section 4."""
    mechanism, _, initial = argument.strip(" ").partition(" ")
    if not initial:
        return Command(verb, text=mechanism.upper())
    try:
        decoded = sasl.decode_initial(initial.encode())
    except sasl.MalformedResponse as error:
        raise _Malformed(error.text)
    return Command(verb, text=mechanism.upper(), initial=decoded)


def _numbers(argument: str) -> tuple[int, ...]:
    matches = [_NUMBER.fullmatch(word) for word in argument.split(" ") if word]
    return tuple(int(match[1]) for match in matches if match) if all(matches) else ()


VERBS: dict[str, Callable[[str, str], Command]] = {
    "AUTH": _auth,
    "CAPA": _nothing,
    "DELE": _number,
    "LANG": _language,
    "LIST": _number_or_nothing,
    "NOOP": _nothing,
    "PASS": _text,
    "QUIT": _nothing,
    "RETR": _number,
    "RSET": _nothing,
    "STAT": _nothing,
    "STLS": _nothing,
    "TOP": _number_and_lines,
    "UIDL": _number_or_nothing,
    "USER": _text,
    "UTF8": _nothing,
}


class Pop3Engine:
    """One connection. A line is a command, except after L{challenge}."""

    def __init__(self) -> None:
        self._buffer = ReceiveBuffer()
        self._challenged = False

    def receive_data(self, octets: bytes, /) -> None:
        self._buffer.push(octets)

    def next_event(self) -> Event | None:
        limit = sasl.MAX_LINE if self._challenged else _COMMAND_LIMIT
        try:
            line = self._buffer.line(limit)
        except ValueError:
            raise RemoteProtocolError("line too long", err("Line too long"))
        if line is None:
            return None
        if self._challenged:
            self._challenged = False
            return _response(line)
        return _command(line)

    def buffered(self) -> int:
        return len(self._buffer)

    def discard(self) -> None:
        self._buffer.clear()
        self._challenged = False

    def challenge(self, octets: bytes) -> bytes:
        """A SASL challenge to write; the next line is its answer."""
        self._challenged = True
        return b"+ " + sasl.encode(octets) + b"\r\n"


def _command(line: bytes) -> Command | BadCommand:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return BadCommand("Commands are UTF-8")
    if _CONTROL.search(text):
        return BadCommand("Control character in command")
    word, _, argument = text.partition(" ")
    verb = word.upper()
    form = VERBS.get(verb)
    if form is None:
        return BadCommand("Unknown command")
    try:
        return form(verb, argument)
    except _Malformed as error:
        return BadCommand(str(error))


def _response(line: bytes) -> AuthResponse | BadCommand:
    if line == b"*":
        return AuthResponse(None)
    try:
        return AuthResponse(sasl.decode(line))
    except sasl.MalformedResponse as error:
        return BadCommand(error.text)


# --- what a session writes --------------------------------------------------

END = b".\r\n"


def ok(text: str = "") -> bytes:
    """A positive status line."""
    return f"+OK {text}\r\n".encode() if text else b"+OK\r\n"


def err(text: str, code: str = "") -> bytes:
    """A negative status line.

    @param code: a response code such as C{"SYS/TEMP"} (RFC 2449 section 8, RFC
        3206).
    """
    return f"-ERR [{code}] {text}\r\n".encode() if code else f"-ERR {text}\r\n".encode()


_BARE_LF = re.compile(rb"(?<!\r)\n")
_EMPTY_LINE = re.compile(rb"\n\r?\n")


class MessageText:
    """Writes one message as the lines of a multi-line answer, in runs cut
    anywhere.

    A LF that stands alone becomes a line end: clients that read up to a LF
    (Python's poplib) and clients that read up to CR LF must see the same end.
    """

    def __init__(self) -> None:
        self._line_start = True
        self._held = b""  # a CR at the end of a run: its LF may follow

    def feed(self, octets: bytes) -> bytes:
        """Octets to write for the next run of the message."""
        if self._held:
            octets = self._held + octets
            self._held = b""
        if octets.endswith(b"\r"):
            octets, self._held = octets[:-1], b"\r"
        if not octets:
            return b""
        if lineend.count(octets) != octets.count(b"\r\n"):
            octets = _BARE_LF.sub(b"\r\n", octets)
        starts = self._line_start and octets[0] == 46
        self._line_start = octets[-1] == 10
        octets = octets.replace(b"\n.", b"\n..")
        return b"." + octets if starts else octets

    def finish(self) -> bytes:
        """The end of the message and of the answer."""
        return END if self._line_start and not self._held else b"\r\n" + END


class Top:
    """Cuts a message for TOP: its header, the empty line, and some lines of its
    body (RFC 1939 section 7).

    @ivar done: no more of the message is wanted.
    """

    def __init__(self, lines: int) -> None:
        self.done = False
        self._left = lines
        self._in_header = True
        self._last = b"\n"  # before the first line, so that it may be the empty one

    def feed(self, octets: bytes) -> bytes:
        """What of the next run is wanted."""
        end = 0
        if self._in_header:
            seen = self._last + octets
            found = _EMPTY_LINE.search(seen)
            if found is None:
                self._last = seen[-2:]
                return octets
            self._in_header = False
            end = found.end() - len(self._last)
        while self._left:
            at = octets.find(b"\n", end)
            if at < 0:
                return octets
            end = at + 1
            self._left -= 1
        self.done = True
        return octets[:end]
