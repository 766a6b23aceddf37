"""The client's side of SASL: which mechanism to use at a server, and how."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Mapping
from functools import partial

from twisted_mta.wire.sasl import (
    ClientMechanism,
    Credentials,
    LoginClient,
    MalformedResponse,
    PlainClient,
)
from twisted_mta.wire.scram import ScramClient


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


# The strongest first. Under TLS all but the last three tell a server that does not
# know the password nothing of it.
_MECHANISMS: Mapping[str, Callable[[Credentials], ClientMechanism]] = {
    "SCRAM-SHA-256": partial(ScramClient, mechanism="SCRAM-SHA-256"),
    "SCRAM-SHA-1": partial(ScramClient, mechanism="SCRAM-SHA-1"),
    "CRAM-MD5": CramMd5Client,
    "PLAIN": PlainClient,
    "LOGIN": LoginClient,
}


def choose(
    offered: Collection[str], credentials: Credentials
) -> ClientMechanism | None:
    """The strongest mechanism that the server offers and these credentials can do.

    @param offered: names in capitals.
    @return: C{None} if there is none.
    """
    for name, make in _MECHANISMS.items():
        if name in offered:
            try:
                return make(credentials)
            except ValueError:  # SASLprep has no form for them
                continue
    return None
