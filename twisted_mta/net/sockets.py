"""Listening sockets, apart from who accepts at them.

L{Sockets} binds endpoints, which may need root's powers, and accepts nothing.
Later, in the same process or in others that inherited the sockets, a factory is
put behind each of them. A socket has one queue of connections, whoever accepts
from it: as long as one process holds the socket no connection is refused, and
what one process has not accepted another does.

It trusts nothing but Twisted's endpoints: that they listen by C{listenTCP},
C{listenUNIX}, C{listenSSL} or C{adoptStreamPort} of the reactor that they were
made with, and at once. So it serves those that wrap others (C{haproxy:tcp:25})
as well.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from twisted_mta.net.fairness import Fairness
from twisted_mta.net.poller import Poller, polled
from twisted_mta.net.port import Port

# Connections that the kernel keeps until we accept them; Twisted's 50 overflow
# in a burst, and each that does waits a second. It is what Linux allows since 5.4
# (net.core.somaxconn); nginx and Dovecot ask for 511, which 5,000 clients that come
# at once overflow.
_BACKLOG = 4096

# systemd passes its sockets to one process only.
_OF_SYSTEMD = re.compile(r"systemd:.*")


def endpoint(reactor: object, description: str) -> IStreamServerEndpoint:
    """An endpoint; with our backlog, if it is TCP's and names none.

    @raise ValueError: the description is malformed.
    """
    if description.startswith(("tcp:", "tcp6:")) and ":backlog=" not in description:
        description = f"{description}:backlog={_BACKLOG}"
    made = serverFromString(reactor, description)  # type: ignore[no-untyped-call]
    return cast(IStreamServerEndpoint, made)


@dataclass(frozen=True, slots=True)
class Held:
    """A listening socket.

    @ivar port: what bound it; C{None} if it was inherited.
    """

    socket: socket.socket
    port: Any = None


class Sockets:
    """The listening sockets of some endpoints.

    The same description may stand there more than once (C{tcp:0}): its sockets
    are taken in turn.
    """

    def __init__(self, reactor: Any, fairness: Fairness | None = None) -> None:
        """
        @param fairness: with whom to share what comes; C{None}: with nobody.
        """
        self._reactor = polled(reactor)
        self._fairness = fairness
        self._held: dict[str, list[Held]] = {}

    def bind(self, descriptions: Iterable[str]) -> Sequence[tuple[str, Held]]:
        """Bind endpoints; if one cannot be, none of these.

        @return: what was bound, for L{release}.
        @raise CannotListenError: an address is in use or not ours.
        @raise ValueError: a description is malformed, or its endpoint does not
            listen at once.
        """
        bound: list[tuple[str, Held]] = []
        try:
            for description in descriptions:
                port = _bind(self._reactor, description)
                bound.append((description, Held(port.socket, port)))
        except BaseException:
            for _, held in bound:
                held.port.stopListening()
            raise
        for description, held in bound:
            self._held.setdefault(description, []).append(held)
        return bound

    async def release(self, bound: Iterable[tuple[str, Held]]) -> None:
        """Let go of these, and of no others of the same description."""
        for description, held in bound:
            those = self._held.get(description, [])
            if held in those:
                those.remove(held)
                await _let_go(held)

    def inherit(self, sockets: Iterable[tuple[str, int]]) -> None:
        """Take sockets that another process bound, by their descriptors."""
        for description, fd in sockets:
            os.set_inheritable(fd, False)
            held = Held(socket.socket(fileno=fd))
            self._held.setdefault(description, []).append(held)

    def descriptors(self) -> Sequence[tuple[str, int]]:
        """Each description and descriptor, to be inherited."""
        return [
            (description, one.socket.fileno())
            for description, held in self._held.items()
            for one in held
        ]

    async def adopt(self, description: str, factory: Factory) -> IListeningPort:
        """Accept at a socket that is here; it stays here as well."""
        held = self._held[description]
        held.append(held.pop(0))
        adopter: Any = _Adopter(self._reactor, held[-1].socket, self._fairness)
        if self._fairness is not None:
            self._fairness.begin()
        # What an endpoint wraps is not bound again, so it need not be the same.
        listening = endpoint(adopter, _OF_SYSTEMD.sub("tcp:0", description))
        return await listening.listen(factory)

    async def close(self, descriptions: Iterable[str] | None = None) -> None:
        """Let go of the sockets: of all, or for each of these descriptions of the
        one that was bound first. Whoever else holds one may go on accepting. May be
        repeated."""
        if descriptions is None:
            if self._fairness is not None:
                self._fairness.end()
            descriptions = [text for text, held in self._held.items() for _ in held]
        for description in descriptions:
            those = self._held.get(description)
            if those:
                await _let_go(those.pop(0))


async def _let_go(held: Held) -> None:
    if held.port is None:
        held.socket.close()
    else:
        await held.port.stopListening()


def _bind(reactor: Any, description: str) -> Any:
    """A port that listens and does not accept."""
    outcomes: list[Any] = []
    binder: Any = _Binder(reactor)
    listening: Deferred[Any] = endpoint(binder, description).listen(_Nobody())
    listening.addBoth(outcomes.append)
    if not outcomes:
        listening.cancel()
        raise ValueError(f"'{description}' does not listen at once")
    (outcome,) = outcomes
    if isinstance(outcome, Failure):
        outcome.raiseException()
    # A wrapping endpoint may have wrapped the port, too.
    return binder.port


# --- ports that only hold a socket ---


class _Nobody(Factory):
    """Who is behind a socket at first."""

    noisy = False

    def logPrefix(self) -> str:
        return "Socket"


class _HeldTcp(tcp.Port):
    """Others accept. To shut the socket down would do so for them, too."""

    _shouldShutdown = False

    def startReading(self) -> None:
        """Not here."""


class _HeldUnix(unix.Port):
    """The same for a unix socket; it removes the name when it is closed."""

    _shouldShutdown = False

    def startReading(self) -> None:
        """Not here."""


class _Binder:
    """A reactor for endpoints: what listens accepts nothing.

    @ivar port: what was made last.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.port: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self,
        port: int,
        factory: IProtocolFactory,
        backlog: int = _BACKLOG,
        interface: str = "",
    ) -> Any:
        return self._listen(_HeldTcp(port, factory, backlog, interface, self._reactor))

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: object,
        backlog: int = _BACKLOG,
        interface: str = "",
    ) -> Any:
        return self.listenTCP(port, factory, backlog, interface)

    def listenUNIX(
        self,
        address: Any,
        factory: IProtocolFactory,
        backlog: int = _BACKLOG,
        mode: int = 0o666,
        wantPID: int = 0,
    ) -> Any:
        return self._listen(
            _HeldUnix(address, factory, backlog, mode, self._reactor, wantPID)
        )

    def adoptStreamPort(self, fd: int, family: int, factory: IProtocolFactory) -> Any:
        """What systemd bound: its socket is kept and nothing is removed."""
        port = _shared(self._reactor, fd, family, factory)
        port.startReading = lambda: None
        return self._listen(port)

    def _listen(self, port: Any) -> Any:
        port.startListening()
        self.port = port
        return port


# --- ports that share a socket ---


class _SharedUnix(unix.Port):
    """One of several that accept at a unix socket. Its name and mode are its
    binder's concern."""

    fairness: Fairness | None = None

    def startListening(self) -> None:
        tcp._reservedFD.reserve()  # type: ignore[no-untyped-call]
        self.factory.doStart()  # type: ignore[union-attr]
        self.connected = True
        self.socket, self._preexistingSocket = self._preexistingSocket, None
        self.fileno = self.socket.fileno  # type: ignore[method-assign,union-attr]
        self._shouldShutdown = False
        self.startReading()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:
        tcp.Port.connectionLost(self, reason)  # type: ignore[no-untyped-call]

    def doRead(self) -> None:
        if self.fairness is None or not self.fairness.leaves_it(self):
            self.numberAccepts = 1
            super().doRead()  # type: ignore[no-untyped-call]


def _shared(reactor: Any, fd: int, family: int, factory: IProtocolFactory) -> Any:
    """A port on a duplicate of a listening socket, not yet accepting."""
    if family == socket.AF_UNIX:
        make: Any = _SharedUnix._fromListeningDescriptor
        return make(reactor, fd, factory)
    kind = Port if isinstance(reactor, Poller) else tcp.Port
    make = kind._fromListeningDescriptor
    return make(reactor, fd, family, factory)


class _Adopter:
    """A reactor for endpoints: wherever they want to listen, it is at one
    socket that does already."""

    def __init__(
        self, reactor: Any, listening: socket.socket, fairness: Fairness | None
    ) -> None:
        self._reactor = reactor
        self._socket = listening
        self._fairness = fairness

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: IProtocolFactory, *_: object, **__: object
    ) -> Any:
        return self._adopt(factory)

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: Any,
        *_: object,
        **__: object,
    ) -> Any:
        return self._adopt(TLSMemoryBIOFactory(contextFactory, False, factory))

    def listenUNIX(
        self, address: object, factory: IProtocolFactory, *_: object, **__: object
    ) -> Any:
        return self._adopt(factory)

    def _adopt(self, factory: IProtocolFactory) -> Any:
        port = _shared(
            self._reactor, self._socket.fileno(), self._socket.family, factory
        )
        port.fairness = self._fairness
        port.startListening()
        return port
