"""A small client of the Web: one request to a server whose certificate is right.

For what mail wants of the Web: policies (RFC 8461 3.3) and where reports go (RFC 8460
5.4). It goes through a proxy where there is no other way (CONNECT, RFC 9110 9.3.6).
It follows no redirection, keeps no connection and trusts nobody with its memory or
time: an answer has a most, header included, and all of a request its seconds.
Names are asked of our own resolver. Strangers choose where it goes, so it goes to no
address of this network (RFC 6890), unless it may.
"""

from __future__ import annotations

import http.client
import io
import re
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from OpenSSL import SSL
from service_identity import CertificateError as Malformed
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IReactorTCP
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mta.errors import ResolverUnavailable
from twisted_mta.interfaces import IResolver
from twisted_mta.net.client import quiet
from twisted_mta.net.tls import CertificateError, verifying

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# Octets of a header. Apache: 8190 a line, 100 lines; nobody needs half of that.
_HEADER_MOST = 32 * 1024

# Addresses of one host that are tried.
_ADDRESSES_MOST = 4

_CONNECT_S = 15.0

# RFC 6052 2.1.
_NAT64 = IPv6Network("64:ff9b::/96")

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,10})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)

# How a handshake ends that the certificate does not pass.
_WRONG = (SSL.Error, VerificationError, Malformed)


class Unanswered(Exception):
    """There is no answer, and why."""


class Untrusted(Unanswered):
    """The server's certificate is not right."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said.

    @ivar type: the media type, lower case, without parameters.
    """

    status: int
    type: str
    body: bytes


class Https:
    """Asks Web servers."""

    def __init__(
        self,
        reactor: IReactorTime,
        resolver: IResolver,
        *,
        trust: Path | None = None,
        proxy: tuple[str, int] | None = None,
        port: int = 443,
        anywhere: bool = False,
    ) -> None:
        """
        @param reactor: the clock; provides TCP.
        @param trust: a PEM file of the authorities to believe, else the system's.
        @param proxy: host and port of a proxy that is asked to connect; it looks up
            the names.
        @param anywhere: also at addresses of this machine and its network.
        """
        self._reactor = reactor
        self._resolver = resolver
        self._trust = trust
        self._proxy = proxy
        self._port = port
        self._anywhere = anywhere

    async def get(self, host: str, path: str, most: int, timeout_s: float) -> Answer:
        """Ask for something.

        @param host: a name as A-labels.
        @param most: octets of the body.
        @param timeout_s: for all of it.
        @raise Unanswered: there is none.
        """
        request = _request("GET", host, path, {"Accept": "text/plain"})
        return await self._ask(host, request, most, timeout_s)

    async def post(
        self, host: str, path: str, type: str, body: bytes, timeout_s: float
    ) -> Answer:
        """Bring something, of a media type.

        @raise Unanswered: nobody said anything to it.
        """
        fields = {"Content-Type": type, "Content-Length": str(len(body))}
        request = _request("POST", host, path, fields) + body
        return await self._ask(host, request, _HEADER_MOST, timeout_s)

    async def _ask(
        self, host: str, request: bytes, most: int, timeout_s: float
    ) -> Answer:
        asking = Deferred.fromCoroutine(self._go(host, request, most))
        try:
            return await asking.addTimeout(timeout_s, self._reactor)
        except TimeoutError:
            raise Unanswered(f"{host} did not answer in time")

    async def _go(self, host: str, request: bytes, most: int) -> Answer:
        try:
            context = verifying(host, self._trust)
        except (CertificateError, ValueError) as error:
            raise Untrusted(f"No TLS with {host}: {error}")
        exchange = _Exchange(host, request, most, context, self._proxied(host))
        await self._connect(host, exchange)
        try:
            return await exchange.answer
        finally:
            exchange.abort()

    def _proxied(self, host: str) -> bytes:
        """What the proxy is told, if there is one."""
        if self._proxy is None:
            return b""
        where = f"{host}:{self._port}"
        return f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode("ascii")

    async def _connect(self, host: str, exchange: _Exchange) -> None:
        why = f"{host} has no address"
        for address, port in await self._where(host):
            kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
            reactor = cast(IReactorTCP, self._reactor)
            endpoint = kind(reactor, address, port, timeout=_CONNECT_S)
            try:
                await endpoint.connect(quiet(exchange))
                return
            except CancelledError:
                raise
            except (ConnectError, OSError) as error:
                why = f"{host} [{address}]: {error}"
        raise Unanswered(why)

    async def _where(self, host: str) -> list[tuple[str, int]]:
        """Addresses and ports to try."""
        name, port = self._proxy or (host, self._port)
        try:
            addresses = await self._resolver.addresses(name)
        except ResolverUnavailable as error:
            raise Unanswered(error.text)
        if not self._anywhere and self._proxy is None:
            far = [one for one in addresses if _is_far(one)]
            if addresses and not far:
                raise Unanswered(f"{host} is at an address of this network")
            addresses = far
        return [(one, port) for one in addresses[:_ADDRESSES_MOST]]


def _is_far(address: str) -> bool:
    """Whether it is on the Internet; of an IPv6 address that stands for one of IPv4,
    and is passed on to that by a router near us, whether that is."""
    meant = ip_address(address.partition("%")[0])
    if isinstance(meant, IPv6Address):
        number = int(meant)
        if meant in _NAT64 or number >> 32 == 0:  # ::a.b.c.d, long deprecated
            meant = IPv4Address(number & 0xFFFFFFFF)
        else:
            meant = meant.ipv4_mapped or meant.sixtofour or meant
        if isinstance(meant, IPv6Address) and meant.is_site_local:  # RFC 3879
            return False
    return meant.is_global and not (meant.is_multicast or meant.is_reserved)


def _request(method: str, host: str, path: str, fields: dict[str, str]) -> bytes:
    every = {
        "Host": host,
        "User-Agent": "twisted-mta",
        "Connection": "close",
        **fields,
    }
    lines = [
        f"{method} {path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in every.items()),
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii")


@implementer(IHandshakeListener)
class _Exchange(Protocol):
    """One request and its answer.

    @ivar answer: the answer.
    """

    def __init__(
        self, host: str, request: bytes, most: int, context: object, proxied: bytes
    ) -> None:
        self.answer: Deferred[Answer] = Deferred()
        self._host = host
        self._request = request
        self._most = most
        self._context = context
        self._proxied = proxied
        self._octets = bytearray()
        # Where its header ends, and where all of it does if it says so.
        self._body = self._end = 0
        self._secure = False

    def abort(self) -> None:
        """End it."""
        if self.transport is not None:
            cast(Any, self.transport).abortConnection()

    def connectionMade(self) -> None:
        if self._proxied:
            cast(Any, self.transport).write(self._proxied)
        else:
            cast(Any, self.transport).startTLS(self._context)

    def handshakeCompleted(self) -> None:
        self._secure = True
        cast(Any, self.transport).write(self._request)

    def dataReceived(self, data: bytes) -> None:
        if self.answer.called:
            return
        self._octets += data
        if len(self._octets) > _HEADER_MOST + 2 * self._most:  # chunks have lengths
            self._fail(Unanswered(f"{self._host} says too much"))
        elif self._secure:
            if self._is_whole():
                self._read()
        elif b"\r\n\r\n" in self._octets:
            self._through()

    def _through(self) -> None:
        """The proxy has said something."""
        octets, self._octets = bytes(self._octets), bytearray()
        line = octets.partition(b"\r\n")[0].decode("ascii", "replace")
        if not re.match(r"HTTP/1\.\d 2\d\d\b", line):
            self._fail(Unanswered(f"The proxy refuses {self._host}: {line[:100]}"))
        else:
            cast(Any, self.transport).startTLS(self._context)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.answer.called:
            return
        text = reason.getErrorMessage()
        if self._secure and self._octets and _is(reason, ConnectionDone):
            self._read()
        elif not self._secure and _is(reason, *_WRONG):
            self._fail(Untrusted(f"{self._host} shows no valid certificate: {text}"))
        else:
            self._fail(Unanswered(f"{self._host}: {text}"))

    def _is_whole(self) -> bool:
        """Whether the answer has all that it says it has."""
        if not self._body:
            at = self._octets.find(b"\r\n\r\n")
            if at < 0:
                if len(self._octets) > _HEADER_MOST:
                    self._fail(Unanswered(f"{self._host} has too long a header"))
                return False
            self._body = at + 4
            header = bytes(self._octets[: at + 2])
            if length := _LENGTH.search(header):
                self._end = self._body + int(length[1])
            elif not _CHUNKED.search(header):
                self._end = sys.maxsize  # where the connection ends
        if self._end:
            return len(self._octets) >= self._end
        return self._octets.endswith(b"0\r\n\r\n")

    def _read(self) -> None:
        try:
            self.answer.callback(_parse(bytes(self._octets), self._most))
        except (http.client.HTTPException, ValueError, OSError) as error:
            text = f"{self._host} does not speak HTTP: {type(error).__name__}"
            self._fail(Unanswered(text))

    def _fail(self, error: Unanswered) -> None:
        if not self.answer.called:
            self.answer.errback(error)
        self.abort()


def _is(reason: Failure, *kinds: type[Exception]) -> bool:
    return isinstance(reason.value, kinds)


class _Heard:
    """Octets, as the standard library wants a socket."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def makefile(self, mode: str) -> io.BytesIO:
        """What was said."""
        return io.BytesIO(self._octets)


def _parse(octets: bytes, most: int) -> Answer:
    """@raise ValueError: there is more than that, or less than was promised."""
    response = http.client.HTTPResponse(cast(Any, _Heard(octets)))
    response.begin()
    body = response.read(most + 1)
    if len(body) > most:
        raise ValueError("too much")
    if response.length:
        raise ValueError("cut short")
    # As it stands: what is none the library takes for text/plain.
    type = response.headers.get("content-type", "").partition(";")[0]
    return Answer(response.status, type.strip().lower(), body)
