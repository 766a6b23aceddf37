"""Connections that we open: a Stream whose session is its caller's coroutine.

A listener's Stream runs a session and closes when it ends. Here the caller has
a coroutine already (the delivery of a message), which opens, uses and perhaps
keeps several connections; so the Stream is lent to it until it calls C{close}
or C{abort}. Which host, and what is said, is the caller's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from twisted_mta.net.stream import Stream
from twisted_mta.wire.engine import IEngine, RemoteProtocolError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


class Connection(Stream):
    """A Stream in its caller's hands."""

    def __init__(
        self,
        reactor: IReactorTime,
        engine: IEngine,
        name: str,
        tls: object | None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        """
        @param tls: the client's TLS context, if the connection begins with it.
        @param ended: called when a connection that stood is no more.
        """
        super().__init__(reactor, engine, lambda _: self._lend(), name, tls)
        self._at_end = ended
        self._waiter: Deferred[object] | None = None
        self._lent: Deferred[None] = Deferred()
        self._given_back: Deferred[None] | None = Deferred()

    @property
    def alive(self) -> bool:
        """Nothing is known of its end."""
        return self._closed is None and self._given_back is not None

    @property
    def reason(self) -> str:
        """Why it ended; empty while it stands."""
        return self._closed.reason if self._closed is not None else ""

    @property
    def source(self) -> str:
        """Our address; empty if there is no connection any more."""
        try:
            host: str = cast(Any, self.transport).getHost().host
        except (AttributeError, OSError):
            return ""
        return host

    async def lent(self) -> None:
        """Wait until the connection stands, its TLS included.

        @raise ConnectError: TLS failed.
        """
        await self._lent

    def close(self) -> None:
        """Send what was written, then close."""
        given_back, self._given_back = self._given_back, None
        if given_back is not None:
            given_back.callback(None)  # the session ends, which closes
        else:
            super().close()

    def abort(self) -> None:
        """Close at once; what was written may be lost."""
        super().abort()
        self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        if not self._lent.called:
            error = ConnectError(string=self.reason)  # type: ignore[no-untyped-call]
            self._lent.errback(error)
        self.close()
        if self._at_end is not None:
            self._at_end()

    # The caller's coroutine is not this Stream's task: it waits by a Deferred.

    def _paused(self) -> bool:
        return self._waiter is not None

    def _pause(self) -> Awaitable[object]:
        self._waiter = Deferred()
        return self._waiter

    def _resume(self, event: object) -> None:
        waiter, self._waiter = self._waiter, None
        cast(Deferred[object], waiter).callback(event)

    def _resume_raising(self, error: RemoteProtocolError) -> None:
        waiter, self._waiter = self._waiter, None
        cast(Deferred[object], waiter).errback(error)

    async def _lend(self) -> None:
        given_back = self._given_back
        if given_back is not None:
            self._lent.callback(None)
            await given_back


def quiet(protocol: Protocol) -> Factory[Protocol]:
    """A factory of this one protocol that keeps out of the log."""
    factory: Factory[Protocol] = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    return factory


def _endpoint(
    reactor: Any, address: tuple[str, int], timeout_s: float, source: str | None
) -> Any:
    if address[0].startswith("/"):
        return UNIXClientEndpoint(reactor, address[0], timeout_s)  # type: ignore[no-untyped-call]
    kind = TCP6ClientEndpoint if ":" in address[0] else TCP4ClientEndpoint
    bound = None if source is None else (source, 0)
    return kind(reactor, *address, timeout=timeout_s, bindAddress=bound)


async def connect(
    reactor: IReactorTime,
    address: tuple[str, int],
    engine: IEngine,
    name: str,
    *,
    timeout_s: float,
    tls: object | None = None,
    source: str | None = None,
    ended: Callable[[], None] | None = None,
) -> Connection:
    """Connect.

    @param address: an IP address and a port, or the path of a socket and 0.
    @param engine: the client's engine that the connection drives.
    @param name: what logs call the connection.
    @param timeout_s: for TCP to connect, and again for TLS to begin.
    @param tls: the client's TLS context for implicit TLS.
    @param source: our address to connect from; any if C{None}.
    @param ended: called when a connection that stood is no more.
    @return: a connection that is the caller's to close, C{close} or C{abort}.
    @raise ConnectError: it could not, in that time.
    """
    connection = Connection(reactor, engine, name, tls, ended)
    connection.limit(timeout_s)
    endpoint = _endpoint(reactor, address, timeout_s, source)
    try:
        await endpoint.connect(quiet(connection))
    except OSError as error:  # a source that is not ours, a family not there
        text = error.strerror or str(error)
        raise ConnectError(string=text)  # type: ignore[no-untyped-call]
    try:
        await connection.lent()
    except CancelledError:
        connection.abort()
        raise
    return connection
