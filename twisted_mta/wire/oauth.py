"""OAUTHBEARER (RFC 7628) and XOAUTH2: a login with a token that somebody else gave.

Whose it is and whether it is good is for a verifier to say; here is only the form.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from twisted_mta.wire.sasl import MAX_NAME, MalformedResponse

# A JWT with many claims has some thousand octets; a line of the exchange 12288.
_TOKEN_MOST = 8192

_BEARER = re.compile(rb"n,(?:a=([^,\x01]*))?,\x01((?:[a-zA-Z]+=[^\x01]*\x01)*)\x01")
_XOAUTH2 = re.compile(rb"user=([^\x01]*)\x01auth=([^\x01]*)\x01(?:[^\x01]+\x01)*\x01")
_AUTH = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+)", re.IGNORECASE)  # RFC 6750 2.1


@dataclass(frozen=True, slots=True)
class Token:
    """A token, to be verified.

    @ivar name: whom the client wants to be; empty: whoever the token is for.
    """

    name: str
    token: str = field(repr=False)


def read_bearer(response: bytes) -> Token:
    """The client's message of OAUTHBEARER.

    @raise MalformedResponse: it is none.
    """
    match = _BEARER.fullmatch(response)
    if match is None:
        raise MalformedResponse()
    pairs = dict(pair.partition(b"=")[::2] for pair in match[2].split(b"\x01") if pair)
    name = (match[1] or b"").replace(b"=2C", b",").replace(b"=3D", b"=")
    return _token(name, pairs.get(b"auth", b""))


def read_xoauth2(response: bytes) -> Token:
    """The client's message of XOAUTH2, which nobody standardised and Google and
    Microsoft speak.

    @raise MalformedResponse: it is none.
    """
    match = _XOAUTH2.fullmatch(response)
    if match is None:
        raise MalformedResponse()
    return _token(match[1], match[2])


def _token(name: bytes, auth: bytes) -> Token:
    try:
        said, bearer = name.decode(), auth.decode("ascii")
    except UnicodeDecodeError:
        raise MalformedResponse()
    match = _AUTH.fullmatch(bearer)
    if match is None or len(match[1]) > _TOKEN_MOST or len(name) > MAX_NAME:
        raise MalformedResponse()
    if not said.isprintable():
        raise MalformedResponse()
    return Token(said, match[1])


def refusal(status: str = "invalid_token") -> bytes:
    """What a client is told before the login fails (RFC 7628 3.2.2)."""
    return json.dumps({"status": status, "schemes": "bearer"}).encode()


def bearer(name: str, token: str) -> bytes:
    """The client's side of OAUTHBEARER."""
    said = name.replace("=", "=3D").replace(",", "=2C")
    return f"n,a={said},\x01auth=Bearer {token}\x01\x01".encode()


def xoauth2(name: str, token: str) -> bytes:
    """The client's side of XOAUTH2."""
    return f"user={name}\x01auth=Bearer {token}\x01\x01".encode()
