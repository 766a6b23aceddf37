"""SCRAM (RFC 5802, RFC 7677): a login in which no password goes over the wire, and
in which each side shows that it knows it.

The server's side knows no accounts: it says whose keys it needs and is given them, or
keys that nobody has. With channel binding (-PLUS, RFC 9266, RFC 5929) both sides
show that they are at the ends of one TLS connection. What a client says of that is
part of what it signs, so nobody in between can talk it out of it.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted_mta.errors import AuthenticationFailed
from twisted_mta.wire.sasl import MAX_NAME, Credentials, MalformedResponse
from twisted_mta.wire.saslprep import saslprep

#: Of keys that are made now. RFC 7677 4 asks for 4096 at least; whoever steals them
#: needs so many hashes for each guess.
ITERATIONS = 16384

#: That a client computes for a server; more is a server that wants to keep it busy.
ITERATIONS_MOST = 1_000_000

_SALT_OCTETS = 16
_NONCE_OCTETS = 18

# Some clients send nonces of a hundred characters.
_NONCE = r"[\x21-\x2b\x2d-\x7e]{1,512}"
_VALUE = r"[^\0=,]|=2C|=3D"
_GS2 = re.compile(r"(n|y|p=([A-Za-z0-9.\-]{1,64})),(?:a=((?:" + _VALUE + r")+))?,")
_CLIENT_FIRST = re.compile(rf"n=((?:{_VALUE})+),r=({_NONCE})(?:,.*)?", re.DOTALL)
_SERVER_FIRST = re.compile(
    rf"r=({_NONCE}),s=([A-Za-z0-9+/=]+),i=([0-9]{{1,9}})(?:,.*)?"
)
_CLIENT_FINAL = re.compile(
    rf"(c=([A-Za-z0-9+/=]+),r=({_NONCE})(?:,[^,]+)*?),p=([A-Za-z0-9+/=]+)"
)

#: Gives the octets of a channel binding by its name, C{None} if there are none.
Binding = Callable[[str], bytes | None]

#: The hash of each mechanism.
HASHES: Mapping[str, str] = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}

#: Channel bindings, the better one first.
BINDINGS = ("tls-exporter", "tls-server-end-point")


@dataclass(frozen=True, slots=True)
class Keys:
    """What a server keeps of a password for one hash."""

    salt: bytes
    iterations: int
    stored: bytes
    server: bytes

    def __str__(self) -> str:
        """As it is stored (RFC 5803, without the mechanism)."""
        return (
            f"{self.iterations}:{_text(self.salt)}${_text(self.stored)}:"
            f"{_text(self.server)}"
        )


def read_keys(text: str) -> Keys:
    """What C{str} wrote.

    @raise ValueError: it did not.
    """
    first, _, second = text.partition("$")
    iterations, _, salt = first.partition(":")
    stored, _, server = second.partition(":")
    return Keys(_plain(salt), int(iterations), _plain(stored), _plain(server))


def _plain(text: str) -> bytes:
    if not text:
        raise ValueError("nothing there")
    return binascii.a2b_base64(text.encode(), strict_mode=True)


def make_keys(mechanism: str, password: str, like: Keys | None = None) -> Keys:
    """Keys of a password: milliseconds of a processor.

    @param like: with the same salt and iterations as these; C{None}: a new salt.
    @raise ValueError: it can be no password.
    """
    name = HASHES[mechanism]
    if like is None:
        like = Keys(secrets.token_bytes(_SALT_OCTETS), ITERATIONS, b"", b"")
    salted = _salted(name, saslprep(password), like.salt, like.iterations)
    stored = hashlib.new(name, _hmac(name, salted, b"Client Key")).digest()
    server = _hmac(name, salted, b"Server Key")
    return Keys(like.salt, like.iterations, stored, server)


def no_keys(mechanism: str, secret: bytes, name: str) -> Keys:
    """Keys that nobody has, always the same for a name: whoever asks cannot tell
    that there is no such account (RFC 5802 9)."""
    octets = _hmac("sha256", secret, f"{mechanism}\0{name}".encode())
    return Keys(octets[:_SALT_OCTETS], ITERATIONS, b"", b"")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The keys of this name are needed.

    @ivar name: as it was said, prepared.
    """

    name: str


class ScramServer:
    """The server's side of one exchange. First L{first}, then L{found} with the keys,
    then L{final}.

    @ivar shown: after L{final}: which of the keys the client has shown that it has.
    """

    def __init__(self, mechanism: str, binding: Binding) -> None:
        """
        @param mechanism: its name, with C{-PLUS} or without.
        @param binding: of this connection.
        """
        base = mechanism.removesuffix("-PLUS")
        self.mechanism = base
        self._hash = HASHES[base]
        self._plus = base != mechanism
        self._binding = binding
        self._header = b""
        self._bound = b""
        self._client_first = ""
        self._server_first = ""
        self._client_nonce = ""
        self._nonce = ""
        self._keys: tuple[Keys, ...] = ()
        self.shown = 0

    def first(self, response: bytes) -> Wanted:
        """Read the client's first message.

        @raise MalformedResponse: it is none.
        @raise AuthenticationFailed: the client believes that there is no channel
            binding here, or that there is.
        """
        text = _decoded(response)
        header = _GS2.match(text)
        if header is None:
            raise MalformedResponse()
        flag, binding, identity = header.groups()
        bare = text[header.end() :]
        match = _CLIENT_FIRST.fullmatch(bare)
        if match is None:
            raise MalformedResponse()
        name = _name(match[1])
        if identity and _name(identity) != name:
            raise AuthenticationFailed()
        self._header = header[0].encode()
        if binding is not None:
            octets = self._binding(binding) if binding in BINDINGS else None
            if not self._plus or octets is None:
                raise AuthenticationFailed()
            self._bound = octets
        elif self._plus or (flag == "y" and self._offers_plus()):
            # "y": the client could, but was not offered it. It was: somebody in
            # between took it out of what we said.
            raise AuthenticationFailed()
        self._client_first, self._client_nonce = bare, match[2]
        return Wanted(name)

    def _offers_plus(self) -> bool:
        return any(self._binding(name) is not None for name in BINDINGS)

    def found(self, keys: Keys, *others: Keys) -> bytes:
        """Go on with the keys.

        @param others: of more passwords that are good, with the same salt and
            iterations.
        @return: the server's first message.
        """
        self._keys = (keys, *others)
        nonce = _text(secrets.token_bytes(_NONCE_OCTETS))
        self._nonce = self._client_nonce + nonce
        salt = _text(keys.salt)
        self._server_first = f"r={self._nonce},s={salt},i={keys.iterations}"
        return self._server_first.encode()

    def final(self, response: bytes) -> bytes:
        """Read the client's last message.

        @return: the server's, which shows that it has the keys.
        @raise MalformedResponse: it is none.
        @raise AuthenticationFailed: the client does not know the password.
        """
        match = _CLIENT_FINAL.fullmatch(_decoded(response))
        if match is None or not self._keys:
            raise MalformedResponse()
        without_proof, bound, nonce, proof = match.groups()
        signed = f"{self._client_first},{self._server_first},{without_proof}".encode()
        given = _octets(proof)
        if len(given) != hashlib.new(self._hash).digest_size:
            raise MalformedResponse()
        proven = [keys for keys in self._keys if self._proves(given, signed, keys)]
        right = hmac.compare_digest(_octets(bound), self._header + self._bound)
        right &= hmac.compare_digest(nonce.encode(), self._nonce.encode())
        if not right or not proven:
            raise AuthenticationFailed()
        self.shown = self._keys.index(proven[0])
        signature = _hmac(self._hash, proven[0].server, signed)
        return b"v=" + _text(signature).encode()

    def _proves(self, proof: bytes, signed: bytes, keys: Keys) -> bool:
        client_key = _xor(proof, _hmac(self._hash, keys.stored, signed))
        stored = hashlib.new(self._hash, client_key).digest()
        return hmac.compare_digest(stored, keys.stored)


class ScramClient:
    """The client's side of one exchange; a server that does not know the password
    either is found out."""

    def __init__(
        self,
        credentials: Credentials,
        mechanism: str = "SCRAM-SHA-256",
        binding: tuple[str, bytes] | None = None,
        offered_plus: bool = True,
    ) -> None:
        """
        @param binding: the name and octets of the channel binding, for C{-PLUS}.
        @param offered_plus: without one: whether we could not have used it anyway.
        @raise ValueError: name or password cannot be one.
        """
        self.name = mechanism
        self._hash = HASHES[mechanism.removesuffix("-PLUS")]
        self._password = saslprep(credentials.password)
        self._user = saslprep(credentials.name)
        flag = "n" if offered_plus else "y"
        self._header = (f"p={binding[0]}" if binding else flag).encode() + b",,"
        self._bound = binding[1] if binding else b""
        self._nonce = _text(secrets.token_bytes(_NONCE_OCTETS))
        self._bare = f"n={_escaped(self._user)},r={self._nonce}"
        self._expected: bytes | None = None
        self._verified = False

    def initial(self) -> bytes | None:
        return self._header + self._bare.encode()

    def next(self, challenge: bytes, /) -> bytes:
        if self._expected is not None:
            self._verify(challenge)
            return b""
        text = _decoded(challenge)
        match = _SERVER_FIRST.fullmatch(text)
        if match is None or not match[1].startswith(self._nonce):
            raise MalformedResponse()
        nonce, iterations = match[1], int(match[3])
        if nonce == self._nonce or not 0 < iterations <= ITERATIONS_MOST:
            raise MalformedResponse()
        salted = _salted(self._hash, self._password, _octets(match[2]), iterations)
        client_key = _hmac(self._hash, salted, b"Client Key")
        stored = hashlib.new(self._hash, client_key).digest()
        without_proof = f"c={_text(self._header + self._bound)},r={nonce}"
        signed = f"{self._bare},{text},{without_proof}".encode()
        proof = _text(_xor(client_key, _hmac(self._hash, stored, signed)))
        server_key = _hmac(self._hash, salted, b"Server Key")
        self._expected = _hmac(self._hash, server_key, signed)
        return f"{without_proof},p={proof}".encode()

    @property
    def verified(self) -> bool:
        """The server has shown that it knows the password."""
        return self._verified

    def _verify(self, challenge: bytes) -> None:
        given = _decoded(challenge).partition(",")[0]
        if not given.startswith("v=") or self._verified:
            raise MalformedResponse()
        if not hmac.compare_digest(_octets(given[2:]), self._expected or b""):
            raise MalformedResponse()
        self._verified = True


def _salted(name: str, password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac(name, password.encode(), salt, iterations)


def _hmac(name: str, key: bytes, octets: bytes) -> bytes:
    return hmac.digest(key, octets, name)


def _xor(first: bytes, second: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(first, second, strict=True))


def _text(octets: bytes) -> str:
    return binascii.b2a_base64(octets, newline=False).decode()


def _octets(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text.encode(), strict_mode=True)
    except binascii.Error:
        raise MalformedResponse()


def _decoded(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise MalformedResponse()


def _escaped(name: str) -> str:
    return name.replace("=", "=3D").replace(",", "=2C")


def _name(escaped: str) -> str:
    try:
        name = saslprep(escaped.replace("=2C", ",").replace("=3D", "="))
    except ValueError:
        raise MalformedResponse()
    if len(name.encode()) > MAX_NAME:
        raise MalformedResponse()
    return name
