"""SASL mechanisms as small state machines (RFC 4422), server and client side.

A mechanism takes and gives decoded octets; how they travel (base64, a
continuation line, C{=} for an empty initial response, C{*} to cancel) is the
same in SMTP, POP3 and IMAP, so the engines do it with L{decode} and L{encode}.
A mechanism knows no accounts: it ends with L{Credentials} that somebody else
checks. It trusts nothing that the other side says.

SCRAM is in L{twisted_mta.wire.scram}, tokens in L{twisted_mta.wire.oauth}.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field
from typing import Protocol

from twisted_mta.errors import AuthenticationFailed, Permanent

# The longest line of an exchange, in octets of base64 (RFC 4954 section 4).
MAX_LINE = 12288

# RFC 4616 section 2 wants 255 octets of each to work; longer names exist
# nowhere, longer passwords only where a program makes them.
MAX_NAME = 255
MAX_PASSWORD = 1024


class MalformedResponse(Permanent):
    """What the other side sent is not of the mechanism's form."""

    status = "5.5.2"
    text = "Malformed authentication data"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password, to be checked.

    @ivar name: as it was typed; neither empty nor with a control character.
    """

    name: str
    password: str = field(repr=False)


class ServerMechanism(Protocol):
    """The server's side of one exchange; made for it, used once."""

    def next(self, response: bytes | None, /) -> bytes | Credentials:
        """Go one step.

        @param response: the client's, decoded. First the initial response, or
            C{None} if it gave none.
        @return: a challenge to send (often empty), or what to check.
        @raise MalformedResponse: the exchange is over.
        @raise AuthenticationFailed: as if the password were wrong.
        """


class ClientMechanism(Protocol):
    """The client's side of one exchange; made for it, used once.

    @ivar name: what AUTH names it.
    """

    name: str

    def initial(self) -> bytes | None:
        """The initial response, C{None} if this mechanism waits for a
        challenge."""

    def next(self, challenge: bytes, /) -> bytes:
        """Answer a challenge.

        @raise MalformedResponse: the server asks for more than there is.
        """


# --- as they travel ---------------------------------------------------------


def decode(line: bytes) -> bytes:
    """Read base64 as RFC 4648 section 4 has it: padded, nothing in between.

    @raise MalformedResponse: it is not, or is too long.
    """
    if len(line) > MAX_LINE:
        raise MalformedResponse()
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        raise MalformedResponse()


def decode_initial(argument: bytes) -> bytes:
    """Read an initial response, where C{=} stands for an empty one (RFC 4954
    section 4, RFC 4959 section 3, RFC 5034 section 4).

    @raise MalformedResponse: see L{decode}.
    """
    return b"" if argument == b"=" else decode(argument)


def encode(octets: bytes) -> bytes:
    """Write base64, without a line end."""
    return binascii.b2a_base64(octets, newline=False)


# --- the server -------------------------------------------------------------


def _name(octets: bytes) -> str:
    """A name that is not empty; RFC 4013 section 2.3 prohibits controls."""
    text = _text(octets, MAX_NAME)
    if any(character < " " or character == "\x7f" for character in text):
        raise MalformedResponse()
    return text


def _text(octets: bytes, most: int) -> str:
    if not 0 < len(octets) <= most or 0 in octets:
        raise MalformedResponse()
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise MalformedResponse()


class Plain:
    """PLAIN (RFC 4616): authorization identity, name, password, with a NUL
    between them.

    Nobody may act for another here: an authorization identity other than the
    name fails like a wrong password.
    """

    def next(self, response: bytes | None, /) -> bytes | Credentials:
        if response is None:
            return b""
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise MalformedResponse()
        identity, name, password = parts
        credentials = Credentials(_name(name), _text(password, MAX_PASSWORD))
        if identity and identity != name:
            raise AuthenticationFailed()
        return credentials


class Login:
    """LOGIN (draft-murchison-sasl-login-00), which nobody standardised and
    Outlook speaks: the name, then the password. An initial response is the
    name, as Dovecot has it."""

    def __init__(self) -> None:
        self._name: str | None = None

    def next(self, response: bytes | None, /) -> bytes | Credentials:
        if response is None:
            return b"Username:"
        if self._name is None:
            self._name = _name(response)
            return b"Password:"
        return Credentials(self._name, _text(response, MAX_PASSWORD))


# --- the client -------------------------------------------------------------


class PlainClient:
    """PLAIN, the client's side."""

    name = "PLAIN"

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._said = False

    def initial(self) -> bytes | None:
        self._said = True
        return f"\0{self._credentials.name}\0{self._credentials.password}".encode()

    def next(self, challenge: bytes, /) -> bytes:
        if self._said:
            raise MalformedResponse()
        return self.initial() or b""


class LoginClient:
    """LOGIN, the client's side: the first challenge asks for the name and the
    second for the password, whatever they say."""

    name = "LOGIN"

    def __init__(self, credentials: Credentials) -> None:
        self._answers = [credentials.password.encode(), credentials.name.encode()]

    def initial(self) -> bytes | None:
        return None

    def next(self, challenge: bytes, /) -> bytes:
        if not self._answers:
            raise MalformedResponse()
        return self._answers.pop()
