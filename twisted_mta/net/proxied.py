"""Connections that come through a proxy: its header first, then the client's octets.

A Preface reads the header and then gives its place to the protocol of the connection,
which is told the client's address. It trusts the proxy, and nobody else: whoever is
not in the networks of the config is not asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mta.wire import proxy
from twisted_mta.wire.proxy import BadHeader

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# How long a header may take: it is the first thing that a proxy says. Postfix
# (postscreen_upstream_proxy_timeout): 5 s.
_HEADER_S = 5.0


class Preface(Protocol):
    """A connection whose header has not come yet."""

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        name: str,
        make: Callable[[str, int], Protocol | None],
    ) -> None:
        """
        @param name: the listener's, for the log.
        @param make: makes the protocol of a client's address and port, which are
            empty and 0 for the proxy itself; C{None}: it may not stay.
        """
        self._reactor = reactor
        self._name = name
        self._make = make
        self._octets = b""
        self._timeout: Any = None

    def connectionMade(self) -> None:
        self._timeout = self._reactor.callLater(_HEADER_S, self._refuse, "none came")

    def dataReceived(self, data: bytes) -> None:
        self._octets += data
        try:
            proxied = proxy.read(self._octets)
        except BadHeader as error:
            self._refuse(str(error))
            return
        if proxied is None:
            return
        self._timeout.cancel()
        protocol = self._make(proxied.host, proxied.port)
        transport = cast(Any, self.transport)
        if protocol is None:
            transport.loseConnection()
            return
        transport.protocol = protocol
        cast(Any, protocol).makeConnection(transport)
        rest, self._octets = self._octets[proxied.length :], b""
        # With implicit TLS that is by now what deciphers; and none if it has ended.
        inner = getattr(transport, "protocol", None)
        if rest and inner is not None:
            inner.dataReceived(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()

    def _refuse(self, why: str) -> None:
        self.log.warn("{name}: no PROXY header: {why}", name=self._name, why=why)
        cast(ITCPTransport, self.transport).abortConnection()
