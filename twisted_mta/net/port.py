"""TCP ports and their connections, as Twisted's but leaner.

What costs time in Twisted's for each connection and each read is done once, or not
at all, where nobody asks for it: names for logs, the options of the socket (they
are inherited from the port's), another round through the poller to close what has
nothing left to write. What is not the usual case is left to Twisted's own code: no
descriptor left to accept with, TLS, what the kernel does not take at once.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any, cast

from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mta.net.fairness import Fairness
from twisted_mta.net.hearing import heard

# Connections that are accepted before those that speak have their turn. With 4 of
# them 20 clients that come again and again keep in step, and the commits that they
# share get smaller: 440 us of processor time for each instead of 380. With very
# many, whoever has just left still counts against the limit of its address.
#
# BUGS: within one turn of these he does, too, since the end of his last connection is
# told after the new one. That is seen by who is at the limit of his address, hangs up
# without a word and is back at once, within a millisecond or so: he is asked to come
# again (421), nearly always if a dozen do that without a pause. Who says QUIT or
# LOGOUT never is (0 of 10,000): we close, and count, before he reads the answer. With
# 1 here it is rarer, and not gone; to be told of ends first would take a turn more for
# each connection, or a second look at each that is refused, which floods would like.
_ACCEPTS = 16

# What is read at once: little for those who send commands, more for those who
# filled it the last time.
_READ_LEAST = 4 * 1024
_READ_MOST = 64 * 1024

_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV

DONE = Failure(CONNECTION_DONE)  # type: ignore[no-untyped-call]
"""The usual end of a connection."""


class Incoming(tcp.Server):
    """A connection that was accepted.

    @ivar heard: at its end, if the peer ended it: see L{heard}; C{None} if it is not
        known.
    """

    _read_most = _READ_LEAST
    heard: bool | None = None

    def __init__(
        self,
        skt: socket.socket,
        protocol: Any,
        client: tuple[Any, ...],
        server: tcp.Port,
        peer: IPv4Address | IPv6Address,
        reactor: Any,
    ) -> None:
        FileDescriptor.__init__(self, reactor)
        self.socket = skt
        skt.setblocking(False)
        self.fileno = skt.fileno
        self.protocol = protocol
        self.server = server
        self.client = client
        self._peer = peer
        self.connected = 1
        reactor.addReader(self)

    def __repr__(self) -> str:
        return f"<a connection from {self._peer}>"

    def logPrefix(self) -> str:
        return "-"

    def getPeer(self) -> IPv4Address | IPv6Address:
        return self._peer

    def getHost(self) -> IPv4Address | IPv6Address:
        return type(self._peer)("TCP", *self.socket.getsockname())

    def setTcpNoDelay(self, enabled: bool) -> None:
        """It is on: inherited from the port."""
        if not enabled:
            super().setTcpNoDelay(enabled)

    def doRead(self) -> Any:
        try:
            octets = self.socket.recv(self._read_most)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not octets:
            return CONNECTION_DONE
        if len(octets) == self._read_most < _READ_MOST:
            self._read_most = _READ_MOST
        self.protocol.dataReceived(octets)
        return None

    def writeSomeData(self, data: bytes) -> Any:
        """What the kernel takes of it now, in octets; or the connection's end."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return CONNECTION_LOST

    def connectionLost(self, reason: Failure) -> None:
        """See L{twisted.internet.tcp.Connection}."""
        if (self.TLS or not self.disconnecting) and hasattr(self, "socket"):
            unsent = self.dataBuffer or self._tempDataBuffer
            with suppress(OSError):
                self.heard = not unsent and heard(self.socket)
        if reason is not DONE or not hasattr(self, "socket"):
            super().connectionLost(reason)
            return
        self.disconnected = 1
        self.connected = 0
        if self.producer is not None:
            self.producer.stopProducing()
            self.producer = None
        cast(Any, self.reactor).forget(self)
        protocol = self.protocol
        # Before it is closed: if something was not read, that resets the connection,
        # and what we said last might not be read.
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        del self.protocol, self.socket, self.fileno
        protocol.connectionLost(reason)

    def loseConnection(self) -> None:
        """Close it, at once if nothing is left to write."""
        if (
            self.TLS
            or self.dataBuffer
            or self._tempDataBuffer
            or self.producer is not None
        ):
            super().loseConnection()  # type: ignore[no-untyped-call]
        elif self.connected and not self.disconnecting:
            self.disconnecting = 1
            self.connectionLost(DONE)


class Port(tcp.Port):
    """A port of TCP.

    @ivar fairness: says what is left to other processes that accept at the same
        socket; C{None}: nothing.
    """

    _log = Logger()
    fairness: Fairness | None = None

    @staticmethod
    def serves(family: int) -> bool:
        """Whether this is the port for listening sockets of a family."""
        return family in (socket.AF_INET, socket.AF_INET6)

    def startListening(self) -> None:
        super().startListening()
        # The connections inherit it.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def doRead(self) -> None:
        try:
            for _ in range(_ACCEPTS):
                if self.fairness is not None and self.fairness.leaves_it(self):
                    return
                try:
                    skt, client = self.socket.accept()
                except BlockingIOError:
                    return
                except OSError:
                    # No descriptor left, or the like: Twisted's port knows what
                    # to do.
                    super().doRead()  # type: ignore[no-untyped-call]
                    return
                self._accepted(skt, client)
        except Exception:
            self._log.failure("a bug refused a connection")

    def _accepted(self, skt: socket.socket, client: tuple[Any, ...]) -> None:
        protocol: Any = None
        try:
            if len(client) == 4 and client[3]:  # the address of a link has a scope
                client = (socket.getnameinfo(client, _NUMERIC)[0], *client[1:])
            peer = self._addressType("TCP", *client)
            protocol = self.factory.buildProtocol(peer)  # type: ignore[union-attr]
            if protocol is None:
                skt.close()
                return
            transport = Incoming(skt, protocol, client, self, peer, self.reactor)
        except BaseException:
            skt.close()
            if protocol is not None:
                # Whoever made it may count it until it is told of its end.
                protocol.connectionLost(Failure(CONNECTION_LOST))  # type: ignore[no-untyped-call]
            raise
        try:
            protocol.makeConnection(transport)
        except BaseException:
            transport.abortConnection()  # type: ignore[no-untyped-call]
            raise
