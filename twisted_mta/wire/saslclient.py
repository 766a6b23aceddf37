"""The client's side of SASL: which mechanism to use at a server, and how."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from twisted_mta.wire.oauth import Token, bearer, xoauth2
from twisted_mta.wire.sasl import (
    ClientMechanism,
    Credentials,
    LoginClient,
    MalformedResponse,
    PlainClient,
)
from twisted_mta.wire.scram import BINDINGS, ScramClient


class CramMd5Client:
    """CRAM-MD5 (RFC 2195): better than a password in the clear, and no more."""

    name = "CRAM-MD5"

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._said = False

    def initial(self) -> bytes | None:
        return None

    def next(self, challenge: bytes, /) -> bytes:
        if self._said:
            raise MalformedResponse()
        self._said = True
        key = self._credentials.password.encode()
        digest = hmac.new(key, challenge, "md5").hexdigest()
        return f"{self._credentials.name} {digest}".encode()


class TokenClient:
    """OAUTHBEARER or XOAUTH2 (see L{twisted_mta.wire.oauth}). A server that refuses
    says why in a challenge, and wants an answer to it."""

    def __init__(self, name: str, said: bytes, answer: bytes) -> None:
        self.name = name
        self._said = said
        self._answer = answer
        self._asked = 0

    def initial(self) -> bytes | None:
        self._asked += 1
        return self._said

    def next(self, challenge: bytes, /) -> bytes:
        self._asked += 1
        if self._asked > 2:
            raise MalformedResponse()
        return self._said if self._asked == 1 else self._answer


class ExternalClient:
    """EXTERNAL (RFC 4422 A): who we are is in our TLS certificate."""

    name = "EXTERNAL"

    def __init__(self, identity: str) -> None:
        """
        @param identity: whom we want to be; empty: whom the certificate names.
        """
        self._identity = identity
        self._said = False

    def initial(self) -> bytes | None:
        self._said = True
        return self._identity.encode()

    def next(self, challenge: bytes, /) -> bytes:
        if self._said:
            raise MalformedResponse()
        return self.initial() or b""


@dataclass(frozen=True, slots=True)
class Certified:
    """The server has our certificate.

    @ivar name: whom we want to be; empty: whom it names.
    """

    name: str = ""


#: What shows who we are.
Evidence = Credentials | Token | Certified

Binding = Callable[[str], bytes | None]


def unbound(name: str) -> bytes | None:
    """The channel bindings of a connection without TLS."""
    return None


def _scram(base: str, plus: bool) -> Callable[..., ClientMechanism | None]:
    def make(
        evidence: Evidence, bindings: Binding, offered: Collection[str]
    ) -> ClientMechanism | None:
        if not isinstance(evidence, Credentials):
            return None
        found = ((name, bindings(name)) for name in BINDINGS)
        bound = [(name, octets) for name, octets in found if octets is not None]
        if not plus:
            # Whoever took the -PLUS out of what was offered is found out (RFC 5802 6).
            offered_plus = not bound or f"{base}-PLUS" in offered
            return ScramClient(evidence, base, None, offered_plus)
        return ScramClient(evidence, f"{base}-PLUS", bound[0]) if bound else None

    return make


def _password(
    kind: Callable[[Credentials], ClientMechanism],
) -> Callable[..., ClientMechanism | None]:
    def make(evidence: Evidence, *_: object) -> ClientMechanism | None:
        return kind(evidence) if isinstance(evidence, Credentials) else None

    return make


def _token(
    name: str, write: Callable[[str, str], bytes], answer: bytes
) -> Callable[..., ClientMechanism | None]:
    def make(evidence: Evidence, *_: object) -> ClientMechanism | None:
        if not isinstance(evidence, Token):
            return None
        return TokenClient(name, write(evidence.name, evidence.token), answer)

    return make


def _external(evidence: Evidence, *_: object) -> ClientMechanism | None:
    return ExternalClient(evidence.name) if isinstance(evidence, Certified) else None


# The strongest first. Of those with a password, all but the last three tell a server
# that does not know it nothing of it.
_MECHANISMS: Mapping[str, Callable[..., ClientMechanism | None]] = {
    "EXTERNAL": _external,
    "SCRAM-SHA-256-PLUS": _scram("SCRAM-SHA-256", True),
    "SCRAM-SHA-1-PLUS": _scram("SCRAM-SHA-1", True),
    "SCRAM-SHA-256": _scram("SCRAM-SHA-256", False),
    "SCRAM-SHA-1": _scram("SCRAM-SHA-1", False),
    "OAUTHBEARER": _token("OAUTHBEARER", bearer, b"\x01"),  # RFC 7628 3.2.3
    "XOAUTH2": _token("XOAUTH2", xoauth2, b""),
    "CRAM-MD5": _password(CramMd5Client),
    "PLAIN": _password(PlainClient),
    "LOGIN": _password(LoginClient),
}


def choose(
    offered: Collection[str], evidence: Evidence, bindings: Binding = unbound
) -> ClientMechanism | None:
    """The strongest mechanism that the server offers and this evidence can do.

    @param offered: names in capitals.
    @param bindings: gives the octets of a channel binding by its name, C{None} if the
        connection has none.
    @return: C{None} if there is none.
    """
    for name, make in _MECHANISMS.items():
        if name in offered:
            try:
                mechanism = make(evidence, bindings, offered)
            except ValueError:  # SASLprep has no form for them
                continue
            if mechanism is not None:
                return mechanism
    return None
