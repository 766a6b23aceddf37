"""Connections that we open, to servers on the loopback."""

import gc
import shutil
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    ensureDeferred,
    maybeDeferred,
)
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from tests.net.lines import Lines
from twisted_mta.net.client import connect
from twisted_mta.net.selfsigned import self_signed
from twisted_mta.net.stream import TIMED_OUT, Closed
from twisted_mta.net.tls import Pair, ServerTls, opportunistic, verifying
from twisted_mta.wire.engine import RemoteProtocolError


class Handset(Clock):
    """The real reactor's sockets by a clock that the test moves."""

    connectTCP = reactor.connectTCP


class Server(Protocol):
    """Keeps what it is sent, and says what the test says."""

    def __init__(self, case):
        self.case = case
        self.received = b""
        self.lost = False

    def connectionMade(self):
        self.case.server = self
        if self.case.tls is not None:
            self.transport.startTLS(self.case.tls)

    def dataReceived(self, data):
        self.received += data

    def connectionLost(self, reason):
        self.lost = True


class ConnectTests(TestCase):
    """L{connect} and what it returns."""

    def setUp(self):
        self.clock = Handset()
        self.server = None
        self.tls = None
        factory = Factory.forProtocol(lambda: Server(self))
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.address = ("127.0.0.1", self.port.getHost().port)

    async def tearDown(self):
        await maybeDeferred(self.port.stopListening)
        if self.server is not None:
            self.server.transport.abortConnection()
            await self.until(lambda: self.server.lost)

    async def until(self, so):
        while not so():
            turn = Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn

    async def connect(self, **settings):
        connection = await connect(
            self.clock, self.address, Lines(), "test", timeout_s=30, **settings
        )
        await self.until(lambda: self.server)
        return connection

    async def test_lent(self):
        """The caller writes, reads events and ends the connection."""
        connection = await self.connect()
        self.assertTrue(connection.alive)
        self.server.transport.write(b"one\r\ntwo\r\n")
        self.assertEqual(await connection.next_event(), b"one")
        self.assertEqual(await connection.next_event(), b"two")
        connection.write(b"bye")
        connection.close()
        self.assertFalse(connection.alive)
        await self.until(lambda: self.server.lost)
        self.assertEqual(self.server.received, b"bye")
        await self.until(lambda: not self.clock.getDelayedCalls())

    async def test_closed_by_peer(self):
        """When the peer ends it, what it said before is read, then the end."""
        connection = await self.connect()
        self.server.transport.write(b"last\r\n")
        self.server.transport.loseConnection()
        await self.until(lambda: not connection.alive)
        self.assertEqual(await connection.next_event(), b"last")
        self.assertIsInstance(await connection.next_event(), Closed)
        self.assertIn("closed cleanly", connection.reason)
        self.assertFalse(await connection.drain())
        connection.close()
        connection.abort()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_nothing_is_left(self):
        """One that was lost and let go leaves no coroutine behind."""
        connection = await self.connect()
        self.server.transport.loseConnection()
        self.assertIsInstance(await connection.next_event(), Closed)
        del connection
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_time(self):
        """Waiting ends by the clock."""
        connection = await self.connect()
        connection.limit(5)
        waiting = ensureDeferred(connection.next_event())
        self.clock.advance(5)
        self.assertIs(self.successResultOf(waiting), TIMED_OUT)
        connection.abort()

    async def test_broken_protocol(self):
        """That the peer broke the protocol is told to the caller."""
        connection = await self.connect()
        self.server.transport.write(b"x" * 2000)
        with self.assertRaises(RemoteProtocolError):
            await connection.next_event()
        connection.abort()

    async def test_abort_loses(self):
        """Nothing that was not yet sent goes out after C{abort}."""
        connection = await self.connect()
        connection.write(b"half")
        connection.abort()
        await self.until(lambda: self.server.lost)
        self.assertEqual(self.server.received, b"")

    async def test_peer_gone_while_writing(self):
        """Who streams to a peer that goes away is told by C{drain}."""
        connection = await self.connect()
        self.server.transport.abortConnection()
        while await connection.drain():
            connection.write(b"x" * 65536)
        self.assertIsInstance(await connection.next_event(), Closed)

    async def test_refused(self):
        """A port where nobody listens refuses."""
        await self.port.stopListening()
        with self.assertRaises(ConnectError):
            await self.connect()

    async def test_source(self):
        """We connect from the address that is asked for, if it is ours."""
        connection = await self.connect(source="127.0.0.7")
        self.assertEqual(self.server.transport.getPeer().host, "127.0.0.7")
        connection.abort()
        with self.assertRaises(ConnectError):
            await self.connect(source="192.0.2.1")

    async def test_connecting_takes_too_long(self):
        """TCP that does not come about in time raises; by the reactor's
        clock, for connecting is the reactor's."""

        class Silent(Handset):
            def connectTCP(self, host, port, factory, timeout, bindAddress):
                self.timeout = timeout
                return reactor.connectTCP(host, port, factory, 0.001, bindAddress)

        self.clock = Silent()
        self.address = ("192.0.2.1", 25)  # TEST-NET-1: nobody
        with self.assertRaises(ConnectError):
            await self.connect()
        self.assertEqual(self.clock.timeout, 30)


class ConnectTlsTests(ConnectTests):
    """The same under implicit TLS."""

    def setUp(self):
        super().setUp()
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        pair = Pair(directory / "cert.pem", directory / "key.pem")
        self_signed(pair, ["127.0.0.1"])
        self.tls = ServerTls([pair])

    async def connect(self, **settings):
        return await super().connect(tls=opportunistic("127.0.0.1"), **settings)

    async def test_secure(self):
        """TLS stands when the connection is lent."""
        connection = await self.connect()
        self.assertTrue(connection.secure)
        connection.abort()

    async def test_untrusted(self):
        """A certificate that is not trusted raises."""
        with self.assertRaises(ConnectError):
            await super().connect(tls=verifying("127.0.0.1"))

    async def test_handshake_hangs(self):
        """A peer that does not shake hands is left in time."""
        self.tls = None
        connecting = ensureDeferred(self.connect())
        await self.until(lambda: self.server and self.server.received)
        self.clock.advance(30)
        with self.assertRaises(ConnectError):
            await connecting

    async def test_cancelled(self):
        """Whoever stops waiting for the handshake leaves no connection."""
        self.tls = None
        connecting = ensureDeferred(self.connect())
        await self.until(lambda: self.server and self.server.received)
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        await self.until(lambda: self.server.lost)
