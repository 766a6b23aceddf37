"""What a client said, as values: the events of the SMTP server engine.

Every command is one frozen class (those of each message are tuples, which are
made four times as fast); L{Data} and the two ends are what follows DATA
or BDAT. They hold decoded text that has passed the grammar, and no octet of the
wire but content and what SASL sends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from twisted_mta.mail.address import Address
from twisted_mta.wire.smtp.parameter import (
    NO_RCPT_PARAMETERS,
    MailParameters,
    RcptParameters,
)


@dataclass(frozen=True, slots=True)
class Hello:
    """HELO, EHLO or LHLO (RFC 2033).

    @ivar extended: it was EHLO or LHLO.
    @ivar early: the client went on speaking without reading the answer, which
        no client may (RFC 5321 4.3.1, RFC 2920 3.1).
    """

    name: str
    extended: bool
    early: bool = False
    lmtp: bool = False


class Mail(NamedTuple):
    """MAIL.

    @ivar sender: C{None} for the null reverse-path.
    """

    sender: Address | None
    parameters: MailParameters


class Rcpt(NamedTuple):
    """RCPT."""

    recipient: Address
    parameters: RcptParameters = NO_RCPT_PARAMETERS


class DataCommand(NamedTuple):
    """DATA. Unless the session calls L{SmtpServerEngine.start_data
    <twisted_mta.wire.smtp.server.SmtpServerEngine.start_data>}, commands follow.

    @ivar early: see L{Hello}; what follows may be content or commands.
    """

    early: bool = False


@dataclass(frozen=True, slots=True)
class Bdat:
    """BDAT: its octets follow at once, whatever the session thinks of it; they
    are told only after L{SmtpServerEngine.start_chunk
    <twisted_mta.wire.smtp.server.SmtpServerEngine.start_chunk>}, and in any case
    there is an L{EndOfChunk}."""

    size: int
    last: bool


@dataclass(frozen=True, slots=True)
class Rset:
    """RSET."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP."""


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT."""


@dataclass(frozen=True, slots=True)
class Vrfy:
    """VRFY.

    @ivar who: what it asks about, as it was said.
    """

    who: str = ""


@dataclass(frozen=True, slots=True)
class Expn:
    """EXPN.

    @ivar what: the list, as it was said.
    """

    what: str = ""


@dataclass(frozen=True, slots=True)
class Etrn:
    """ETRN (RFC 1985).

    @ivar node: the domain, in lower case; with C{@} before it, those below it, too.
    """

    node: str


@dataclass(frozen=True, slots=True)
class XClient:
    """XCLIENT: the client says whom it speaks for.

    @ivar attributes: by name in upper case, decoded; C{None} for what is unknown.
    """

    attributes: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class XForward:
    """XFORWARD: the client says where the mail came from, for the log.

    @ivar attributes: see L{XClient}.
    """

    attributes: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Help:
    """HELP."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS.

    @ivar early: more came in the same breath: injected, to be discarded.
    """

    early: bool = False


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH.

    @ivar mechanism: in upper case.
    @ivar initial: the initial response in base64, C{b"="} for an empty one,
        C{None} for none.
    """

    mechanism: str
    initial: bytes | None


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """A line of a SASL exchange, in base64, or C{b"*"} to cancel."""

    line: bytes


@dataclass(frozen=True, slots=True)
class BadCommand:
    """A line that is no command: unknown verb or wrong syntax.

    @ivar code: with C{status} and C{text}, the reply that it deserves.
    @ivar close: what follows cannot be commands; say it and close.
    """

    code: int
    status: str
    text: str
    close: bool = False


class Data(NamedTuple):
    """A run of content: many lines, cut anywhere but within CRLF."""

    octets: bytes


class Fault(Enum):
    """Why content cannot be taken, found while it was read to its end."""

    BARE_LINE_END = "a CR or LF stands alone"
    TOO_LARGE = "the message is larger than the limit"
    LINE_TOO_LONG = "a line is longer than the limit"


class EndOfData(NamedTuple):
    """CRLF.CRLF came.

    @ivar fault: C{None} if the content was told whole.
    """

    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class EndOfChunk:
    """The octets of a L{Bdat} came.

    @ivar last: as the command said.
    @ivar fault: C{None} if the chunk was told whole, or was not to be told.
    """

    last: bool
    fault: Fault | None = None


Command = (
    Hello
    | Mail
    | Rcpt
    | DataCommand
    | Bdat
    | Rset
    | Noop
    | Quit
    | Vrfy
    | Expn
    | Etrn
    | XClient
    | XForward
    | Help
    | StartTls
    | Auth
    | AuthResponse
    | BadCommand
)
Event = Command | Data | EndOfData | EndOfChunk
