"""The client's side of an SMTP connection as octets and replies (RFC 5321).

Functions write commands; the engine reads replies. It knows no state: with
PIPELINING (RFC 2920) a client sends several commands and then reads as many
replies, in order. It trusts no server: replies are bounded in lines and octets,
and what is none ends the connection. It lets no line end into a command.
"""

import base64
import re
from collections.abc import Callable, Sequence

from twisted_mta.mail.address import Address
from twisted_mta.mail.dsn import (
    Notification,
    Notify,
    encode_original,
    encode_xtext,
)
from twisted_mta.mail.envelope import LOCAL, Body, DeliverBy, Handling, Origin
from twisted_mta.mail.reply import Reply
from twisted_mta.wire.engine import ReceiveBuffer, RemoteProtocolError
from twisted_mta.wire.smtp.capabilities import Capabilities

# RFC 5321 4.5.3.1.5 says 512; Postfix reads line_length_limit, 2048.
_MAX_LINE_OCTETS = 2048
# No EHLO known has more than some 30 lines (aiosmtpd and Postfix set no bound).
_MAX_LINES = 128

# RFC 5321 4.2: Reply-code, where 1yz is not used; the second digit goes past 5
# in the wild (571).
_REPLY_LINE = re.compile(r"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
# RFC 2034, RFC 3463 2.
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class SmtpClientEngine:
    """Replies from what a server sends; its buffer holds at most one line
    beyond the last piece pushed, and it keeps at most 128 lines of a reply."""

    def __init__(self) -> None:
        self._buffer = ReceiveBuffer()
        self._code = ""
        self._lines: list[str] = []

    def receive_data(self, octets: bytes, /) -> None:
        """See L{twisted_mta.wire.engine.IEngine}."""
        self._buffer.push(octets)

    def buffered(self) -> int:
        """See L{twisted_mta.wire.engine.IEngine}."""
        return len(self._buffer)

    def discard(self) -> None:
        """TLS begins: forget all (RFC 3207 4.2)."""
        self._buffer.clear()
        self._code = ""
        self._lines = []

    def next_event(self) -> Reply | None:
        """The next reply.

        @raise RemoteProtocolError: what the server sends is none.
        """
        while True:
            try:
                line = self._buffer.line(_MAX_LINE_OCTETS)
            except ValueError:
                raise RemoteProtocolError("reply line too long")
            if line is None:
                return None
            if self._ends(line.decode("utf-8", "replace")):
                code, lines = int(self._code), self._lines
                self._code, self._lines = "", []
                return _reply(code, lines)

    def _ends(self, line: str) -> bool:
        match = _REPLY_LINE.fullmatch(line)
        if match is None:
            raise RemoteProtocolError(f"not an SMTP reply: {line[:80]!a}")
        code, more, text = match.groups()
        if self._code and code != self._code:
            raise RemoteProtocolError("the lines of a reply have different codes")
        if len(self._lines) == _MAX_LINES:
            raise RemoteProtocolError("a reply has too many lines")
        self._code = code
        self._lines.append(_CONTROL.sub("?", text or ""))
        return more != "-"


def _reply(code: int, lines: list[str]) -> Reply:
    """A reply, its enhanced status apart from its text when it has a right one."""
    match = _STATUS.match(lines[0])
    if match is None or match[1][0] != str(code)[0]:
        return Reply(code, "", tuple(lines))
    status = match[1]
    return Reply(
        code,
        status,
        tuple(
            line[len(status) :].lstrip(" ") if line.startswith(status) else line
            for line in lines
        ),
    )


# --- commands ---


def _command(text: str) -> bytes:
    if _CONTROL.search(text):
        raise ValueError(f"control character in a command: {text[:80]!a}")
    return text.encode() + b"\r\n"


def ehlo(name: str) -> bytes:
    """EHLO."""
    return _command(f"EHLO {name}")


def lhlo(name: str) -> bytes:
    """LHLO (RFC 2033 4.1)."""
    return _command(f"LHLO {name}")


def helo(name: str) -> bytes:
    """HELO."""
    return _command(f"HELO {name}")


def mail(
    sender: Address | None,
    size: int | None = None,
    body: Body | None = None,
    smtputf8: bool = False,
    more: Sequence[str] = (),
) -> bytes:
    """MAIL. Give only what the server offers.

    @param sender: C{None} for the null reverse-path.
    @param size: octets, for SIZE (RFC 1870).
    @param body: what the content holds (RFC 6152, RFC 3030).
    @param smtputf8: say SMTPUTF8 (RFC 6531).
    @param more: further parameters, as they are said.
    """
    parameters = "".join(
        (
            f" SIZE={size}" if size is not None else "",
            f" BODY={body.value}" if body is not None else "",
            " SMTPUTF8" if smtputf8 else "",
            *(f" {parameter}" for parameter in more),
        )
    )
    return _command(f"MAIL FROM:<{sender or ''}>{parameters}")


def rcpt(recipient: Address, more: Sequence[str] = ()) -> bytes:
    """RCPT.

    @param more: parameters, as they are said.
    """
    return _command(" ".join((f"RCPT TO:<{recipient}>", *more)))


def report_parameters(handling: Handling) -> Sequence[str]:
    """What MAIL says of notifications to a server that offers DSN (RFC 3461)."""
    said = []
    if handling.ret is not None:
        said.append(f"RET={handling.ret.value}")
    if handling.envid:
        said.append(f"ENVID={encode_xtext(handling.envid)}")
    return said


def recipient_parameters(
    notification: Notification, smtputf8: bool = False
) -> Sequence[str]:
    """What RCPT says of notifications to a server that offers DSN.

    @param smtputf8: MAIL says SMTPUTF8.
    """
    said = []
    if notification.notify is not None:
        words = [flag.name or "" for flag in Notify if flag in notification.notify]
        said.append(f"NOTIFY={','.join(words) or 'NEVER'}")
    if notification.original is not None:
        said.append(f"ORCPT={encode_original(notification.original, smtputf8)}")
    return said


def by_parameter(by: DeliverBy, seconds: int) -> str:
    """What MAIL says of time to a server that offers DELIVERBY (RFC 2852).

    @param seconds: those that are left.
    """
    trace = "T" if by.trace else ""
    return f"BY={seconds};{'R' if by.returns else 'N'}{trace}"


_PROTOCOLS = {"SMTP": "SMTP", LOCAL.protocol: ""}
# Postfix XFORWARD_README: the names of attributes, and what has each of them.
_FORWARDED: Sequence[tuple[str, Callable[[Origin], str]]] = (
    ("ADDR", lambda origin: _forwarded_address(origin.host)),
    ("PORT", lambda origin: str(origin.port or "")),
    ("HELO", lambda origin: origin.helo),
    ("PROTO", lambda origin: _PROTOCOLS.get(origin.protocol, "ESMTP")),
    ("SOURCE", lambda origin: "LOCAL" if origin == LOCAL else "REMOTE"),
)


def xforward(origin: Origin, offers: Capabilities) -> bytes:
    """XFORWARD, with as much as the server wants to know; nothing if it does not
    offer it. What we do not know we say so of."""
    wanted = offers.keywords.get("XFORWARD", ())
    said = [
        f" {name}={encode_xtext(value(origin)) or '[UNAVAILABLE]'}"
        for name, value in _FORWARDED
        if name in wanted
    ]
    return _command(f"XFORWARD{''.join(said)}") if said else b""


def _forwarded_address(host: str) -> str:
    if host.startswith("/"):  # a unix socket has none
        return ""
    return f"IPV6:{host}" if ":" in host else host


def bdat(octets: int, last: bool) -> bytes:
    """BDAT (RFC 3030); so many octets follow.

    @param last: the message ends with them.
    """
    return _command(f"BDAT {octets}{' LAST' if last else ''}")


def auth(mechanism: str, initial: bytes | None = None) -> bytes:
    """AUTH (RFC 4954).

    @param initial: the initial response, in the clear; C{None} for none.
    """
    if initial is None:
        return _command(f"AUTH {mechanism}")
    encoded = base64.b64encode(initial).decode() or "="
    return _command(f"AUTH {mechanism} {encoded}")


def auth_response(response: bytes) -> bytes:
    """A line of a SASL exchange.

    @param response: in the clear.
    """
    return base64.b64encode(response) + b"\r\n"


DATA = b"DATA\r\n"
RSET = b"RSET\r\n"
QUIT = b"QUIT\r\n"
STARTTLS = b"STARTTLS\r\n"
