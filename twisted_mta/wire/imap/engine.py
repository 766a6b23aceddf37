"""The IMAP server's engine: octets in, commands out (RFC 3501, RFC 7888).

It owns the receive buffer, the framing of lines and literals, and the limits.
It knows no accounts and no mailboxes; of the session's state it knows whether
there was a login, because what a stranger may send is bounded more tightly, and
commands that need a login are not even read before. It trusts nothing that
arrives: short literals are collected within bounds, the literal of an APPEND
passes through as a stream that the session must allow first, and what a refused
command still sends is read and forgotten, so that the next command is found.

How a command is framed, and what each state (C{_read}) expects::

    _command   a line; {n} or {n+} at its end: a literal follows
    _literal   octets of a short literal, then _command for the rest
    _verdict   nothing: the session must accept or refuse an APPEND's literal
    _content   octets of an APPEND's literal, given on in runs
    _tail      the end of an APPEND's line
    _forget    octets of a literal of a refused command, dropped
    _rest      the line after such a literal, dropped; perhaps another literal
    _ended     nothing: there is more to forget than is worth reading
    _idle      DONE
    _auth      a line of base64

A line that is longer than its limit ends the connection: nothing after it could
be told apart. Lines end with CRLF; a bare LF is taken as well, as Dovecot does.
"""

import re
from collections.abc import Callable

from twisted_mta.wire import sasl
from twisted_mta.wire.engine import ReceiveBuffer, RemoteProtocolError
from twisted_mta.wire.imap import replies
from twisted_mta.wire.imap.arguments import append
from twisted_mta.wire.imap.commands import COMMANDS, Spec, State
from twisted_mta.wire.imap.lexer import Cursor, ParseError
from twisted_mta.wire.imap.limits import ImapLimits
from twisted_mta.wire.imap.model import (
    Append,
    AuthResponse,
    BadCommand,
    Continue,
    Event,
    IdleDone,
    LiteralData,
    LiteralEnd,
)

_BY_NAME = {name.encode("ascii"): spec for name, spec in COMMANDS.items()}

_APPEND = COMMANDS["APPEND"]

# A tag is made of ASTRING-CHARs except "+" (RFC 3501 9).
_TAG = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]+")
_HEAD = re.compile(
    rb"([^\x00-\x20\x7f-\xff(){%*\"\\+]+) ((?:UID )?[A-Z]+)(?![^ ])", re.IGNORECASE
)
_ANNOUNCED = re.compile(rb"\{([0-9]+)(\+?)\}\Z")

# A tag longer than this is not sent back: clients use a few octets, and the
# answer to garbage need not be as long as the garbage (ours).
_TAG_OCTETS = 256


class _Again:
    """What a state returns when the next state must look."""


_AGAIN = _Again()


class ImapServerEngine:
    """One connection's grammar and limits (L{twisted_mta.wire.engine.IEngine}).

    @ivar authenticated: the session sets it after the login.
    """

    def __init__(self, limits: ImapLimits | None = None) -> None:
        self._limits = limits or ImapLimits()
        self._bounds = self._limits.before
        self._authenticated = False
        self._buffer = ReceiveBuffer()
        self._read: Callable[[], Event | _Again | None] = self._command
        # The command in progress, as far as it has literals.
        self._text = bytearray()
        self._literals = 0
        self._spec = _APPEND
        self._arguments = 0  # where they begin
        self._left = 0  # octets of the literal in progress
        self._waits = False
        self._tag = b"*"
        self._bad = 0
        self._fine = False  # the last command was: forget the bad ones

    # --- IEngine ---

    def receive_data(self, octets: bytes, /) -> None:
        """Take what has arrived."""
        self._buffer.push(octets)

    def next_event(self) -> Event | None:
        """The next event, see L{twisted_mta.wire.imap.model}.

        @raise RemoteProtocolError: a line is too long, a literal too large to
            forget, or too many commands in a row were bad; its C{reply} is BYE.
        """
        if self._bad >= self._bounds.bad:
            raise _goodbye("Too many bad commands")
        event = self._read()
        while isinstance(event, _Again):
            event = self._read()
        return event

    def buffered(self) -> int:
        """How many received octets wait."""
        return len(self._buffer)

    def discard(self) -> None:
        """Forget what is buffered: TLS begins (RFC 3501 6.2.1)."""
        self._buffer.clear()
        self._restart()

    # --- what the session tells ---

    @property
    def authenticated(self) -> bool:
        """Whether the bounds are those after the login."""
        return self._authenticated

    @authenticated.setter
    def authenticated(self, yes: bool) -> None:
        self._authenticated = yes
        self._bounds = self._limits.after if yes else self._limits.before

    def start_idle(self) -> None:
        """IDLE was taken: the next line must be DONE (RFC 2177). The session
        sends the continuation."""
        self._read = self._idle

    def start_auth(self) -> None:
        """A challenge is sent: the next line is its answer. To be called again
        for each challenge."""
        self._read = self._auth

    def accept_literal(self) -> bytes:
        """Take the literal of the L{Append} just given: L{LiteralData} and
        L{LiteralEnd} follow.

        @return: what to send now; empty if the client does not wait.
        """
        self._read = self._content
        return replies.GO_AHEAD if self._waits else b""

    def refuse_literal(self) -> None:
        """Refuse it; the session answers the command with NO. A client that
        does not wait sends the literal all the same: it is forgotten."""
        self._drop_literal()

    def note_bad(self) -> None:
        """Count a command that the session answered with BAD, for one that was
        well formed but not allowed in its state."""
        self._bad += 1
        self._fine = False

    # --- states ---

    def _command(self) -> Event | _Again | None:
        line = self._line()
        if line is None:
            return None
        if line.endswith(b"}") and (found := _ANNOUNCED.search(line)):
            return self._announced(line, found)
        line = line.rstrip(b" ")  # as some clients end them
        if not self._literals:
            return self._parsed(line)
        self._text += line
        command = bytes(self._text)
        self._restart()
        return self._parsed(command)

    def _literal(self) -> Event | _Again | None:
        octets = self._buffer.take(self._left)
        self._text += octets
        self._left -= len(octets)
        if self._left:
            return None
        self._read = self._command
        return _AGAIN

    def _verdict(self) -> Event | _Again | None:
        raise RuntimeError("the literal of APPEND was neither accepted nor refused")

    def _content(self) -> Event | _Again | None:
        if not self._left:
            self._read = self._tail
            return _AGAIN
        octets = self._buffer.take(self._left)
        if not octets:
            return None
        self._left -= len(octets)
        return LiteralData(octets)

    def _tail(self) -> Event | _Again | None:
        line = self._line()
        if line is None:
            return None
        self._restart()
        if not line.rstrip(b" "):
            self._good()
            return LiteralEnd()
        text = "Unexpected octets after the message"
        if found := _ANNOUNCED.search(line):
            self._measure(found)
            self._drop_literal()
        return self._refused(self._tag, ParseError(text))

    def _forget(self) -> Event | _Again | None:
        self._left -= len(self._buffer.take(self._left))
        if self._left:
            return None
        self._read = self._rest
        return _AGAIN

    def _rest(self) -> Event | _Again | None:
        line = self._line()
        if line is None:
            return None
        found = _ANNOUNCED.search(line)
        if found is None:
            self._restart()
        else:
            self._measure(found)
            self._drop_literal()
        return _AGAIN

    def _ended(self) -> Event | _Again | None:
        raise _goodbye("The literal is too large")

    def _idle(self) -> Event | _Again | None:
        line = self._line()
        if line is None:
            return None
        self._restart()
        if line.rstrip(b" ").upper() != b"DONE":
            return self._refused(self._tag, ParseError("Expected DONE"))
        return IdleDone()

    def _auth(self) -> Event | _Again | None:
        line = self._line(sasl.MAX_LINE)
        if line is None:
            return None
        self._restart()
        if line == b"*":
            return AuthResponse(None)
        try:
            return AuthResponse(sasl.decode(line))
        except sasl.MalformedResponse:
            return self._refused(self._tag, ParseError("Invalid base64"))

    # --- within ---

    def _line(self, limit: int = 0) -> bytes | None:
        try:
            return self._buffer.line(limit or self._bounds.line)
        except ValueError:
            raise _goodbye("The line is too long")

    def _restart(self) -> None:
        """The next line begins a command."""
        self._read = self._command
        if self._literals:
            self._text = bytearray()
            self._literals = 0

    def _head(self, command: bytes) -> tuple[Spec, int]:
        """A command's row, and where its arguments begin; keeps its tag.

        @raise ParseError: there is none, or it needs a login first.
        """
        found = _HEAD.match(command)
        if found is None:
            tag = _TAG.match(command, 0, _TAG_OCTETS + 1)
            known = tag is not None and command[tag.end() : tag.end() + 1] == b" "
            self._tag = tag[0] if tag is not None and known else b"*"
            raise ParseError("Malformed command")
        tag_octets, name = found[1], found[2]
        if len(tag_octets) > _TAG_OCTETS:
            self._tag = b"*"
            raise ParseError("The tag is too long")
        self._tag = tag_octets
        spec = _BY_NAME.get(name.upper())
        if spec is None:
            raise ParseError("Unknown command")
        if not self._authenticated and State.NOT_AUTHENTICATED not in spec.states:
            raise ParseError("Log in first")
        return spec, found.end()

    def _parsed(self, command: bytes) -> Event:
        try:
            spec, at = self._head(command)
            event = spec.parse(Cursor(command, at), self._tag, spec.name)
        except ParseError as error:
            return self._refused(self._tag, error)
        self._good()
        return event

    def _good(self) -> None:
        """Commands were bad in a row: that ends, unless the session objects to
        this one. So it counts only when the next command has been read."""
        if self._fine:
            self._bad = 0
        self._fine = True

    def _refused(self, tag: bytes, error: ParseError) -> BadCommand:
        if self._fine:
            self._bad = 0
        self._fine = False
        self._bad += 1
        return BadCommand(tag, error.text, error.status, error.code)

    def _measure(self, found: re.Match[bytes]) -> None:
        """Learn what a literal's announcement says."""
        digits = found[1]
        self._waits = not found[2]
        # RFC 3501 9, number; longer ones are not even made numbers.
        self._left = int(digits) if len(digits) <= 10 else 1 << 63

    def _announced(self, line: bytes, found: re.Match[bytes]) -> Event | _Again:
        """A line of a command ended with {n} or {n+}."""
        self._measure(found)
        try:
            if not self._literals:
                self._spec, self._arguments = self._head(line)
            if self._spec is _APPEND:
                append = self._append(line[: found.start()])
                if append is not None:
                    self._read = self._verdict
                    return append
            self._check_literal(len(self._text) + len(line))
        except ParseError as error:
            event = self._refused(self._tag, error)
            self._drop_literal()
            return event
        self._literals += 1
        self._text += line
        self._text += b"\r\n"
        self._read = self._literal
        return Continue(replies.GO_AHEAD) if self._waits else _AGAIN

    def _append(self, line: bytes) -> Append | None:
        """The APPEND whose message is announced after C{line}; C{None} if the
        literal is the mailbox's name."""
        before = bytes(self._text) + line
        if before[self._arguments :] == b" ":
            return None
        if self._left > 0xFFFFFFFF:
            raise ParseError("The literal is too large")
        cursor = Cursor(before, self._arguments)
        return append(cursor, self._tag, _APPEND.name, self._left, self._waits)

    def _check_literal(self, octets: int) -> None:
        """Whether a literal fits the bounds.

        @param octets: of the command so far.
        """
        bounds = self._bounds
        if (
            self._left > bounds.literal
            or self._literals >= bounds.literals
            or octets + self._left > bounds.command
        ):
            raise ParseError("The literal is too large, or there are too many")

    def _drop_literal(self) -> None:
        """Go on without the literal in progress."""
        self._restart()
        if self._waits:
            return  # the client waits for +, reads the answer and goes on
        too_much = self._left > self._bounds.forgotten
        self._read = self._ended if too_much else self._forget


def _goodbye(text: str) -> RemoteProtocolError:
    return RemoteProtocolError(text, replies.bye(text))
