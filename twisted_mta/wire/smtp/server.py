"""The server's side of an SMTP connection as octets and events (RFC 5321).

It reads commands, SASL lines, dot-stuffed content and chunks, and knows which
of them comes next; whether a command is allowed now, and what to answer, is the
session's. It trusts nothing: only CRLF.CRLF ends content, only CRLF ends a
command, and what exceeds a limit is read to its end with flat memory or ends
the connection.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from twisted_mta.mail import lineend
from twisted_mta.wire.engine import ReceiveBuffer, RemoteProtocolError
from twisted_mta.wire.smtp import attribute, grammar
from twisted_mta.wire.smtp.events import (
    Auth,
    AuthResponse,
    BadCommand,
    Bdat,
    Command,
    Data,
    DataCommand,
    EndOfChunk,
    EndOfData,
    Etrn,
    Event,
    Expn,
    Fault,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    XClient,
    XForward,
)
from twisted_mta.wire.smtp.syntax import SyntaxFault

# The states, and what leads from one to the next:
#
#   state    reads               left for     when
#   COMMAND  a line              CONTENT      start_data(), after DataCommand
#                                CHUNK        Bdat was told
#                                SASL         start_auth()
#   SASL     a line              COMMAND      AuthResponse was told
#   CONTENT  to CRLF.CRLF        COMMAND      EndOfData was told
#   CHUNK    a count of octets   COMMAND      EndOfChunk was told
#
# An event is told before the next octet is looked at, so the session's answer
# to DATA or AUTH decides what the octets that follow are.


_COMMAND, _SASL, _CONTENT, _CHUNK = range(4)


class BareLineEnds(Enum):
    """What to do about a CR or LF that stands alone in content, unless it is binary.

    None of them ever ends content: servers that differed on that are what SMTP
    smuggling lives on.
    """

    REFUSE = "refuse"
    NORMALISE = "normalise"


@dataclass(frozen=True, slots=True)
class SmtpLimits:
    """What a client may send, in octets.

    @ivar command: a command line without its end; RFC 5321 4.5.3.1.4 says 512
        and extensions add to it (Postfix line_length_limit: 2048).
    @ivar sasl: a line of a SASL exchange (RFC 4954 4: 12288).
    @ivar content: a whole message (Postfix message_size_limit: 10240000).
    @ivar text_line: a line of content, its end not counted; 0 for any.
        RFC 5321 4.5.3.1.6 says 998, but much legitimate mail has longer lines,
        and nothing here keeps a line in memory (Postfix takes any length).
    """

    command: int = 2048
    sasl: int = 12288
    content: int = 52_428_800
    text_line: int = 0


DEFAULT = SmtpLimits()


_NOT_PRINTABLE = re.compile(rb"[\x00-\x1f\x7f]")

# Other protocols that a browser or a proxy was talked into speaking to this
# port (Postfix smtpd_forbidden_commands): none of their lines is a command.
_OTHER_PROTOCOLS = frozenset({b"CONNECT", b"GET", b"POST", b"PUT", b"USER", b"SSH"})

_RSET, _NOOP, _QUIT, _HELP = Rset(), Noop(), Quit(), Help()
_UNKNOWN = BadCommand(500, "5.5.2", "Command not recognized")
_NO_ARGUMENT = BadCommand(501, "5.5.4", "This command takes no argument")
_BARE_IN_COMMAND = BadCommand(500, "5.5.2", "Commands end with CR LF")
_CONTROL_IN_COMMAND = BadCommand(501, "5.5.2", "Control character in command")
_NOT_UTF8 = BadCommand(501, "5.5.2", "Command is not UTF-8")
_OTHER_PROTOCOL = BadCommand(
    500, "5.7.0", "This port speaks SMTP and nothing else", close=True
)


class SmtpServerEngine:
    """One connection, from after the greeting.

    Its buffer holds at most one line of the limits, or three octets of content,
    beyond the last piece that was pushed and not yet pulled.
    """

    def __init__(
        self,
        limits: SmtpLimits = DEFAULT,
        bare: BareLineEnds = BareLineEnds.REFUSE,
    ) -> None:
        self._limits = limits
        self._bare = bare
        self._buffer = ReceiveBuffer()
        self._state = _COMMAND
        self._smtputf8 = False  # of the transaction
        self._line_start = True  # content: the octets before were CRLF
        self._fault: Fault | None = None
        self._octets = 0  # of the message so far, all its chunks
        self._ruler = lineend.Ruler(limits.text_line + 2)
        self._binary = False  # of the transaction
        self._cr = False  # chunks: it was the last octet, and is not told
        self._remaining = 0  # of the chunk
        self._last = False  # the chunk is the last one
        self._telling = False  # the chunk's octets are told

    def receive_data(self, octets: bytes, /) -> None:
        """See L{twisted_mta.wire.engine.IEngine}."""
        self._buffer.push(octets)

    def buffered(self) -> int:
        """See L{twisted_mta.wire.engine.IEngine}."""
        return len(self._buffer)

    def discard(self) -> None:
        """TLS begins: forget all (RFC 3207 4.2)."""
        self._buffer.clear()
        self._state = _COMMAND
        self._smtputf8 = False
        self._octets = 0
        self._fault = None

    def next_event(self) -> Event | None:
        """The next event.

        @raise RemoteProtocolError: a line is too long.
        """
        return _READERS[self._state](self)

    # --- what the session decides ---

    def begin(self, smtputf8: bool, binary: bool) -> None:
        """A L{Mail} was taken: what it said holds for the recipients and the content.

        @param binary: chunks are BODY=BINARYMIME.
        """
        self._smtputf8, self._binary = smtputf8, binary

    def start_data(self) -> bytes:
        """After L{DataCommand}: content follows.

        @return: the reply that says so.
        """
        self._state = _CONTENT
        self._line_start = True
        self._fault = None
        self._octets = self._ruler.line = 0
        return b"354 End data with <CR><LF>.<CR><LF>\r\n"

    def start_chunk(self, first: bool) -> None:
        """After L{Bdat}: tell its octets.

        @param first: it begins a message.
        """
        self._telling = True
        if first:
            self._octets = self._ruler.line = 0
            self._cr = False

    def start_auth(self, challenge: bytes) -> bytes:
        """The next line is an L{AuthResponse}.

        @param challenge: in base64, or empty.
        @return: the reply that asks for it.
        """
        self._state = _SASL
        return b"334 " + challenge + b"\r\n"

    # --- commands ---

    def _read_line(self, limit: int) -> tuple[bytes, bool] | None:
        """A line, and whether CRLF ended it."""
        octets, at = self._buffer.peek()
        try:
            line = self._buffer.line(limit)
        except ValueError:
            raise RemoteProtocolError(
                "command line too long", b"500 5.5.6 Line too long\r\n"
            )
        if line is None:
            return None
        return line, octets[at + len(line)] == 13

    def _read_command(self) -> Command | None:
        read = self._read_line(self._limits.command)
        if read is None:
            return None
        line, whole = read
        if not whole:
            return _BARE_IN_COMMAND
        if _NOT_PRINTABLE.search(line):
            return _CONTROL_IN_COMMAND
        verb, _, rest = line.partition(b" ")
        verb = verb.upper()
        parse = _COMMANDS.get(verb)
        if parse is None:
            return _OTHER_PROTOCOL if verb in _OTHER_PROTOCOLS else _UNKNOWN
        try:
            return parse(self, rest.decode().strip(" "))
        except UnicodeDecodeError:
            return _NOT_UTF8
        except SyntaxFault as fault:
            return BadCommand(fault.code, fault.status, str(fault), verb == b"BDAT")

    def _read_sasl(self) -> AuthResponse | None:
        read = self._read_line(self._limits.sasl)
        if read is None:
            return None
        self._state = _COMMAND
        return AuthResponse(read[0])

    def _helo(self, argument: str) -> Command:
        return Hello(grammar.hello_name(argument), False, len(self._buffer) > 0)

    def _ehlo(self, argument: str) -> Command:
        return Hello(grammar.hello_name(argument), True, len(self._buffer) > 0)

    def _lhlo(self, argument: str) -> Command:
        early = len(self._buffer) > 0
        return Hello(grammar.hello_name(argument), True, early, lmtp=True)

    def _etrn(self, argument: str) -> Command:
        return Etrn(grammar.etrn_argument(argument))

    def _xclient(self, argument: str) -> Command:
        return XClient(attribute.attributes(argument, attribute.XCLIENT))

    def _xforward(self, argument: str) -> Command:
        return XForward(attribute.attributes(argument, attribute.XFORWARD))

    def _mail(self, argument: str) -> Command:
        return Mail(*grammar.mail_argument(argument))

    def _rcpt(self, argument: str) -> Command:
        return Rcpt(*grammar.rcpt_argument(argument, self._smtputf8))

    def _data(self, argument: str) -> Command:
        return _NO_ARGUMENT if argument else DataCommand(len(self._buffer) > 0)

    def _bdat(self, argument: str) -> Command:
        # A BDAT that cannot be read hides how many octets follow: see close.
        self._remaining, self._last = grammar.bdat_argument(argument)
        self._state = _CHUNK
        self._telling = False
        self._fault = None
        return Bdat(self._remaining, self._last)

    def _auth(self, argument: str) -> Command:
        return Auth(*grammar.auth_argument(argument))

    def _starttls(self, argument: str) -> Command:
        return _NO_ARGUMENT if argument else StartTls(len(self._buffer) > 0)

    def _rset(self, argument: str) -> Command:
        return _NO_ARGUMENT if argument else _RSET

    def _quit(self, argument: str) -> Command:
        return _NO_ARGUMENT if argument else _QUIT

    def _noop(self, _argument: str) -> Command:
        return _NOOP

    def _help(self, _argument: str) -> Command:
        return _HELP

    def _vrfy(self, argument: str) -> Command:
        return Vrfy(argument) if argument else BadCommand(501, "5.5.4", "Say whom")

    def _expn(self, argument: str) -> Command:
        return (
            Expn(argument) if argument else BadCommand(501, "5.5.4", "Say which list")
        )

    # --- content ---

    def _read_content(self) -> Data | EndOfData | None:
        """Runs of content with the dots of RFC 5321 4.5.2 taken out.

        Searched as a whole, never by lines: 11 us for a message of 2 KB. What
        may be the beginning of CRLF.CRLF stays in the buffer, so that a run
        never ends within CRLF.
        """
        while True:
            octets, at = self._buffer.peek()
            if self._line_start and octets.startswith(b".", at):
                follows = octets[at + 1 : at + 3]
                if follows == b"\r\n":
                    return self._end_content()
                if follows in (b"", b"\r"):
                    return None
                at += 1
                self._buffer.skip(1)
            end = octets.find(b"\r\n.\r\n", at)
            stop = end + 2 if end >= 0 else len(octets) - _held(octets, at)
            if stop == at:
                return None
            run = octets[at:stop]
            self._buffer.skip(stop - at)
            self._line_start = run.endswith(b"\r\n")
            if b"\r\n." in run:
                run = run.replace(b"\r\n.", b"\r\n")
            if self._fault is None and (run := self._checked(run)):
                return Data(run)

    def _end_content(self) -> EndOfData:
        self._buffer.skip(3)
        self._state = _COMMAND
        return EndOfData(self._fault)

    def _checked(self, run: bytes) -> bytes:
        """The run as it shall be told; empty if it brought a fault."""
        if self._bare is BareLineEnds.NORMALISE:
            run = lineend.mended(run)
        elif lineend.bare(run):
            self._fault = Fault.BARE_LINE_END
            return b""
        if self._limits.text_line and self._ruler.over(run):
            self._fault = Fault.LINE_TOO_LONG
            return b""
        return self._counted(run)

    def _counted(self, run: bytes) -> bytes:
        self._octets += len(run)
        if self._octets > self._limits.content:
            self._fault = Fault.TOO_LARGE
            return b""
        return run

    def _read_chunk(self) -> Data | EndOfChunk | None:
        while self._remaining:
            octets = self._buffer.take(self._remaining)
            if not octets:
                return None
            self._remaining -= len(octets)
            if self._telling and self._fault is None and (run := self._piece(octets)):
                return Data(run)
        if self._last and self._cr:  # the last octet of all
            self._cr = False
            if self._telling and self._fault is None and (run := self._checked(b"\r")):
                return Data(run)
        self._state = _COMMAND
        return EndOfChunk(self._last, self._fault)

    def _piece(self, octets: bytes) -> bytes:
        """A piece of a chunk as it shall be told. What is not BODY=BINARYMIME has lines
        as after DATA; a CR waits for the next piece, also of another chunk."""
        if self._binary:
            return self._counted(octets)
        if self._cr:
            octets = b"\r" + octets
        self._cr = octets.endswith(b"\r")
        if self._cr:
            octets = octets[:-1]
        return self._checked(octets)


def _held(octets: bytes, at: int) -> int:
    """How many octets at the end may be the beginning of CRLF.CRLF, or half a
    CRLF. A dot that begins a line is held without the CRLF before it."""
    if octets.endswith(b"\r\n.\r", at):
        return 2
    return 1 if octets.endswith((b"\r", b"\r\n."), at) else 0


_READERS: tuple[Callable[[SmtpServerEngine], Event | None], ...] = (
    SmtpServerEngine._read_command,
    SmtpServerEngine._read_sasl,
    SmtpServerEngine._read_content,
    SmtpServerEngine._read_chunk,
)

_COMMANDS: Mapping[bytes, Callable[[SmtpServerEngine, str], Command]] = {
    b"AUTH": SmtpServerEngine._auth,
    b"BDAT": SmtpServerEngine._bdat,
    b"DATA": SmtpServerEngine._data,
    b"EHLO": SmtpServerEngine._ehlo,
    b"ETRN": SmtpServerEngine._etrn,
    b"EXPN": SmtpServerEngine._expn,
    b"HELO": SmtpServerEngine._helo,
    b"HELP": SmtpServerEngine._help,
    b"LHLO": SmtpServerEngine._lhlo,
    b"MAIL": SmtpServerEngine._mail,
    b"NOOP": SmtpServerEngine._noop,
    b"QUIT": SmtpServerEngine._quit,
    b"RCPT": SmtpServerEngine._rcpt,
    b"RSET": SmtpServerEngine._rset,
    b"STARTTLS": SmtpServerEngine._starttls,
    b"VRFY": SmtpServerEngine._vrfy,
    b"XCLIENT": SmtpServerEngine._xclient,
    b"XFORWARD": SmtpServerEngine._xforward,
}
