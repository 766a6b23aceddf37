"""Who waits for our connections: one epoll of their own within the reactor's.

Twisted's reactor calls a connection through its log's context, looks at the
descriptor before and at the outcome afterwards: 8 us for each thing that a client
says. A L{Poller} is a single descriptor to the reactor, whichever that is; what is
ready behind it is told to the connections directly, a batch at a time. To them it
is a reactor: what it does not do itself it leaves to the real one. Nothing else
differs: connections are Twisted's (TLS, producers, half closed ends), and they
are told, closed and logged as they would be.

Where there is no epoll (only Linux has it), the real reactor serves.
"""

from __future__ import annotations

import select
from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.tcp import Connector
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mta.net.port import DONE, Port

# Connections that are told before timers and threads have their turn again; the
# rest is ready at the next.
_BATCH = 256

_IN = getattr(select, "EPOLLIN", 0)
_OUT = getattr(select, "EPOLLOUT", 0)
_GONE = getattr(select, "EPOLLHUP", 0) | getattr(select, "EPOLLERR", 0)


def polled(reactor: Any) -> Any:
    """A reactor whose TCP connections are told directly, around another; where
    that cannot be, or is so already, the other itself."""
    if isinstance(reactor, Poller) or not hasattr(select, "epoll"):
        return reactor
    return Poller(reactor)


def unpolled(reactor: Any) -> Any:
    """The reactor itself, for what starts others of its kind."""
    return reactor._reactor if isinstance(reactor, Poller) else reactor


@implementer(IReadDescriptor)
class Poller:
    """See the module.

    It is in the reactor as long as it has connections or ports.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        # Asked for at each wait; the others are found by __getattr__.
        self.seconds = reactor.seconds
        self.callLater = reactor.callLater
        self._epoll: select.epoll | None = None
        self._known: dict[int, Any] = {}
        self._wanted: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    # --- what connections and ports call ---

    def addReader(self, connection: Any) -> None:
        self._want(connection, _IN)

    def addWriter(self, connection: Any) -> None:
        self._want(connection, _OUT)

    def removeReader(self, connection: Any) -> None:
        self._want_not(connection, _IN)

    def removeWriter(self, connection: Any) -> None:
        self._want_not(connection, _OUT)

    def forget(self, connection: Any) -> None:
        """Its descriptor is about to be closed, which the kernel notices by
        itself."""
        fd = connection.fileno()
        if self._known.get(fd) is connection:
            del self._wanted[fd], self._known[fd]
            self._end_if_idle()

    # --- what endpoints call ---

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> Port:
        """See L{IReactorTCP.listenTCP<twisted.internet.interfaces.IReactorTCP>}."""
        made = Port(port, factory, backlog, interface, self)
        made.startListening()
        return made

    def adoptStreamPort(self, fd: int, family: int, factory: Any) -> Any:
        """See L{IReactorSocket.adoptStreamPort
        <twisted.internet.interfaces.IReactorSocket>}."""
        if not Port.serves(family):
            return self._reactor.adoptStreamPort(fd, family, factory)
        made: Any = Port._fromListeningDescriptor(  # type: ignore[no-untyped-call]
            self, fd, family, factory
        )
        made.startListening()
        return made

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> Connector:
        """See L{IReactorTCP.connectTCP<twisted.internet.interfaces.IReactorTCP>}."""
        made = Connector(host, port, factory, timeout, bindAddress, self)
        made.connect()
        return made

    # --- what the reactor calls ---

    def logPrefix(self) -> str:
        return "-"

    def fileno(self) -> int:
        return -1 if self._epoll is None else self._epoll.fileno()

    def doRead(self) -> None:
        known, epoll = self._known, cast(select.epoll, self._epoll)
        for fd, event in epoll.poll(0, _BATCH):
            connection = known.get(fd)
            if connection is None:
                continue  # one that was told before it closed this one
            try:
                if event == _IN:
                    why = connection.doRead()
                else:
                    why = self._told(connection, fd, event)
            except Exception as error:
                self._log.failure("a bug closed a connection")
                why = error
            if why:
                # Whoever raised has perhaps closed it already.
                self._disconnect(connection, why, event != _OUT)

    def connectionLost(self, reason: Failure) -> None:
        pass  # an epoll does not get lost

    # --- within ---

    def _told(self, connection: Any, fd: int, event: int) -> Any:
        """Something else than octets to read, or more than that. Who reads finds
        out about an end by reading: a descriptor may be another's by now."""
        reading = self._wanted[fd] & _IN
        if event & _GONE and not reading:
            return CONNECTION_LOST
        why: Any = None
        if reading and event & (_IN | _GONE):
            why = connection.doRead()
        if not why and event & _OUT and self._known.get(fd) == connection:
            why = connection.doWrite()
        return why

    def _disconnect(self, connection: Any, why: Exception, reading: bool) -> None:
        self.removeReader(connection)
        if (
            reading
            and isinstance(why, ConnectionDone)
            and IHalfCloseableDescriptor.providedBy(connection)
        ):
            connection.readConnectionLost(DONE)
            return
        self.removeWriter(connection)
        failure = DONE if why is CONNECTION_DONE else Failure(why)  # type: ignore[no-untyped-call]
        connection.connectionLost(failure)

    def _want(self, connection: Any, event: int) -> None:
        fd = connection.fileno()
        wanted = self._wanted.get(fd, 0)
        if wanted & event:
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            self._reactor.addReader(self)
        if wanted:
            self._epoll.modify(fd, wanted | event)
        else:
            self._epoll.register(fd, event)
            self._known[fd] = connection
        self._wanted[fd] = wanted | event

    def _want_not(self, connection: Any, event: int) -> None:
        fd = connection.fileno()
        wanted = self._wanted.get(fd, 0)
        if not wanted & event or self._known.get(fd) is not connection:
            return
        left = wanted & ~event
        epoll = cast(select.epoll, self._epoll)
        if left:
            epoll.modify(fd, left)
            self._wanted[fd] = left
            return
        epoll.unregister(fd)
        del self._wanted[fd], self._known[fd]
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if not self._known and self._epoll is not None:
            self._reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None
