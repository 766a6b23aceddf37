"""L{twisted_mta.net.poller} and L{twisted_mta.net.port}: real sockets."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from twisted_mta.net.poller import Poller
from twisted_mta.net.port import Port

reactor: Any = _reactor


class Peer(Protocol):
    """Remembers what it is told; answers what it was taught."""

    def __init__(self, case: PollerTests) -> None:
        self._case = case
        self.heard = b""
        self.lost: list[str] = []

    def connectionMade(self) -> None:
        self._case.peers.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self._case.answer(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.append(reason.type.__name__)


class PollerTests(TestCase):
    """What a poller's connections see is what the reactor's see."""

    async def setUp(self) -> None:
        self.poller = Poller(reactor)
        self.peers: list[Peer] = []
        self.answer: Any = lambda peer: None
        self.port = await self.listen("tcp:0:interface=127.0.0.1")

    async def listen(self, where: str) -> Any:
        factory: Factory[Protocol] = Factory.forProtocol(lambda: Peer(self))
        factory.noisy = False
        endpoint: Any = serverFromString(self.poller, where)  # type: ignore[no-untyped-call]
        port = await endpoint.listen(factory)
        self.addCleanup(port.stopListening)
        return port

    def dial(self, port: Any = None) -> socket.socket:
        where = (port or self.port).getHost()
        client = socket.create_connection((where.host, where.port), 20)
        self.addCleanup(client.close)
        return client

    async def until(self, true: Any) -> None:
        """Let the reactor run until something is so."""
        while not true():
            await deferLater(reactor, 0.001)

    async def peer(self, client: socket.socket) -> Peer:
        """The server's side of a new connection."""
        count = len(self.peers)
        await self.until(lambda: len(self.peers) > count)
        return self.peers[-1]

    async def test_endpoints_use_our_port(self) -> None:
        """Endpoint strings make ports of ours."""
        self.assertIsInstance(self.port, Port)

    async def test_told_in_order(self) -> None:
        """What arrives is told, and then the end, once."""
        client = self.dial()
        peer = await self.peer(client)
        client.sendall(b"x" * 100_000)
        client.close()
        await self.until(lambda: peer.lost)
        self.assertEqual(peer.heard, b"x" * 100_000)
        self.assertEqual(peer.lost, ["ConnectionDone"])

    async def test_reset(self) -> None:
        """A connection that is reset ends as lost."""
        client = self.dial()
        peer = await self.peer(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        await self.until(lambda: peer.lost)
        self.assertEqual(peer.lost, ["ConnectionLost"])

    async def test_no_delay(self) -> None:
        """Connections send at once (TCP_NODELAY), without asking each time."""
        peer = await self.peer(self.dial())
        transport: Any = peer.transport
        self.assertTrue(transport.getTcpNoDelay())

    async def test_close_at_once(self) -> None:
        """A close with nothing left to write happens at once, one with a rest
        after the rest."""

        def bye(peer: Peer) -> None:
            transport: Any = peer.transport
            transport.writeSomeData(b"bye")
            transport.loseConnection()
            self.assertEqual(peer.lost, ["ConnectionDone"])

        self.answer = bye
        client = self.dial()
        await self.peer(client)
        client.sendall(b"x")
        await self.until(lambda: self.peers[-1].lost)
        self.assertEqual(client.recv(10), b"bye")
        self.assertEqual(client.recv(10), b"")

        def much(peer: Peer) -> None:
            transport: Any = peer.transport
            transport.write(b"y" * 3_000_000)
            transport.loseConnection()
            self.assertEqual(peer.lost, [])

        self.answer = much
        client = self.dial()
        await self.peer(client)
        client.sendall(b"x")
        client.setblocking(False)
        heard = 0
        while not self.peers[-1].lost:
            await deferLater(reactor, 0.001)
            with_more = True
            while with_more:
                try:
                    octets = client.recv(1 << 20)
                except BlockingIOError:
                    break
                heard += len(octets)
                with_more = bool(octets)
        client.setblocking(True)
        while octets := client.recv(1 << 20):
            heard += len(octets)
        self.assertEqual(heard, 3_000_000)

    async def test_pause(self) -> None:
        """Who pauses is told nothing until it resumes; the end of a connection
        that is paused is seen when it resumes."""
        client = self.dial()
        peer = await self.peer(client)
        transport: Any = peer.transport
        transport.pauseProducing()
        client.sendall(b"x")
        other = self.dial()
        await self.peer(other)
        self.assertEqual(peer.heard, b"")
        client.shutdown(socket.SHUT_WR)
        transport.resumeProducing()
        await self.until(lambda: peer.lost)
        self.assertEqual(peer.heard, b"x")

    async def test_a_bug_closes_its_own_connection(self) -> None:
        """What a protocol raises is logged and ends its connection, no other."""

        def bug(peer: Peer) -> None:
            if peer is self.peers[0]:
                raise ZeroDivisionError

        self.answer = bug
        first, second = self.dial(), self.dial()
        await self.until(lambda: len(self.peers) == 2)
        first.sendall(b"x")
        second.sendall(b"y")
        await self.until(lambda: self.peers[0].lost and self.peers[1].heard)
        self.assertEqual(self.peers[0].lost, ["ZeroDivisionError"])
        self.assertEqual(self.peers[1].lost, [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_closed_by_another(self) -> None:
        """A connection that another closes in the same moment is told of its end
        once, and its descriptor's next owner of nothing."""

        def close_all(peer: Peer) -> None:
            for each in self.peers:
                transport: Any = each.transport
                transport.abortConnection()

        clients = [self.dial() for _ in range(5)]
        await self.until(lambda: len(self.peers) == 5)
        self.answer = close_all
        for client in clients:
            client.sendall(b"x")
        await self.until(lambda: all(peer.lost for peer in self.peers))
        self.assertEqual([len(peer.lost) for peer in self.peers], [1] * 5)

    async def test_more_than_is_accepted_at_once(self) -> None:
        """However many connect at once, all are accepted."""
        clients = [self.dial() for _ in range(30)]
        await self.until(lambda: len(self.peers) == len(clients))

    async def test_ipv6(self) -> None:
        """IPv6 peers have their address."""
        port = await self.listen("tcp6:0:interface=\\:\\:1")
        peer = await self.peer(self.dial(port))
        transport: Any = peer.transport
        self.assertEqual(transport.getPeer().host, "::1")
        self.assertEqual(transport.getHost().host, "::1")

    async def test_adopted(self) -> None:
        """A socket that somebody else has bound serves as well."""
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            bound.listen()
            bound.setblocking(False)
            factory: Factory[Protocol] = Factory.forProtocol(lambda: Peer(self))
            factory.noisy = False
            port = self.poller.adoptStreamPort(bound.fileno(), bound.family, factory)
            self.addCleanup(port.stopListening)
            await self.peer(self.dial(port))

    async def test_unix_sockets_are_the_reactors(self) -> None:
        """What is not TCP is left to the reactor."""
        path = f"/tmp/twisted-mta-{os.getpid()}.sock"
        await self.listen(f"unix:{path}")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            peer = await self.peer(client)
            client.sendall(b"x")
            await self.until(lambda: peer.heard)

    async def test_leaves_the_reactor(self) -> None:
        """Without ports and connections nothing of it is left in the reactor."""
        client = self.dial()
        peer = await self.peer(client)
        self.assertIn(self.poller, reactor.getReaders())
        await self.port.stopListening()
        client.close()
        await self.until(lambda: peer.lost)
        self.assertNotIn(self.poller, reactor.getReaders())
        self.assertEqual(self.poller.fileno(), -1)

    async def test_connecting(self) -> None:
        """Connections that we open are told the same way."""
        told: Deferred[bytes] = Deferred()

        class Client(Protocol):
            def connectionMade(self) -> None:
                transport: Any = self.transport
                transport.write(b"hello")

            def dataReceived(self, data: bytes) -> None:
                told.callback(data)
                transport: Any = self.transport
                transport.loseConnection()

        self.answer = lambda peer: peer.transport.write(peer.heard)
        factory: Any = Factory.forProtocol(Client)
        factory.noisy = False
        factory.doStart = factory.doStop = lambda: None
        factory.startedConnecting = lambda connector: None
        factory.clientConnectionLost = lambda connector, reason: None
        self.poller.connectTCP("127.0.0.1", self.port.getHost().port, factory)
        self.assertEqual(await told, b"hello")
        await self.until(lambda: self.peers[-1].lost)
