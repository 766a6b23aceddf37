"""L{twisted_mta.net.sockets}: real sockets on loopback."""

import os
import socket
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from twisted_mta.net.sockets import Sockets

LOOPBACK = "tcp:0:interface=127.0.0.1"

# A socket that hangs fails its test instead of the run.
_STUCK_S = 20


class Greeting(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.factory.word)  # type: ignore[union-attr]
        self.transport.loseConnection()


class Greeter(Factory):
    """Says a word to each, and counts them."""

    noisy = False
    protocol = Greeting

    def __init__(self, word: bytes) -> None:
        self.word = word
        self.count = 0

    def buildProtocol(self, addr: object) -> Protocol | None:
        self.count += 1
        return super().buildProtocol(addr)  # type: ignore[arg-type]


def heard(address: Any, family: int = socket.AF_INET, prefix: bytes = b"") -> bytes:
    """What is said to one who connects; in a thread."""
    with socket.socket(family) as client:
        client.settimeout(_STUCK_S)
        client.connect(address)
        if prefix:
            client.sendall(prefix)
        octets = b""
        while more := client.recv(100):
            octets += more
        return octets


class SocketsTests(TestCase):
    def sockets(self, *descriptions: str) -> Sockets:
        """Bound ones, which end with the test."""
        sockets = Sockets(reactor)
        self.addCleanup(lambda: ensureDeferred(sockets.close()))
        sockets.bind(descriptions)
        return sockets

    def inherited(self, sockets: Sockets) -> Sockets:
        """The same as another process has them."""
        others = Sockets(reactor)
        self.addCleanup(lambda: ensureDeferred(others.close()))
        others.inherit([(text, os.dup(fd)) for text, fd in sockets.descriptors()])
        return others

    async def adopt(self, sockets: Sockets, text: str, greeter: Greeter) -> Any:
        """A port, which ends with the test."""
        port = await sockets.adopt(text, greeter)
        self.addCleanup(port.stopListening)
        return port

    async def test_bound_before_anybody_accepts(self) -> None:
        """Who connects before anybody accepts waits, and is not refused."""
        sockets = self.sockets(LOOPBACK)
        ((_, fd),) = sockets.descriptors()
        where = socket.socket(fileno=os.dup(fd))
        waiting = deferToThread(heard, where.getsockname())
        where.close()
        await self.adopt(sockets, LOOPBACK, Greeter(b"hello"))
        self.assertEqual(b"hello", await waiting)

    async def test_several_accept(self) -> None:
        """Several accept at one socket; when one stops the others go on."""
        sockets = self.sockets(LOOPBACK)
        one, other = Greeter(b"one"), Greeter(b"other")
        port = await self.adopt(sockets, LOOPBACK, one)
        await self.adopt(self.inherited(sockets), LOOPBACK, other)
        address = (port.getHost().host, port.getHost().port)
        for _ in range(5):
            self.assertIn(await deferToThread(heard, address), (b"one", b"other"))
        await port.stopListening()
        before = one.count
        for _ in range(5):
            self.assertEqual(b"other", await deferToThread(heard, address))
        self.assertEqual((before, 10), (one.count, one.count + other.count))

    async def test_closed_by_all(self) -> None:
        """The port is free when the last who has it lets go of it."""
        sockets = self.sockets(LOOPBACK)
        others = self.inherited(sockets)
        port = await others.adopt(LOOPBACK, Greeter(b"x"))
        address = (port.getHost().host, port.getHost().port)
        await sockets.close()
        self.assertEqual(b"x", await deferToThread(heard, address))
        await port.stopListening()
        await others.close()
        again = self.sockets(f"tcp:{address[1]}:interface=127.0.0.1")
        self.assertEqual(1, len(again.descriptors()))

    async def test_unix(self) -> None:
        """A unix socket's name and mode are those that its binder gave it, and
        go with the binder, not with who accepts."""
        path = Path(self.mktemp()).absolute()
        text = f"unix:{path}:mode=600"
        sockets = self.sockets(text)
        port = await self.inherited(sockets).adopt(text, Greeter(b"unix"))
        heard_there = await deferToThread(heard, str(path), socket.AF_UNIX)
        self.assertEqual(b"unix", heard_there)
        self.assertEqual(0o600, path.stat().st_mode & 0o777)
        await port.stopListening()
        self.assertTrue(path.exists())
        await sockets.close()
        self.assertFalse(path.exists())

    async def test_wrapped(self) -> None:
        """An endpoint that wraps another does so wherever it is accepted."""
        text = f"haproxy:{LOOPBACK}"
        sockets = self.sockets(text)
        port = await self.adopt(self.inherited(sockets), text, Greeter(b"hello"))
        address = (port.getHost().host, port.getHost().port)
        proxied = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 25\r\n"
        heard_there = await deferToThread(heard, address, socket.AF_INET, proxied)
        self.assertEqual(b"hello", heard_there)

    async def test_systemd(self) -> None:
        """A socket of systemd's is passed on, although the endpoint would not be
        found where it is accepted."""
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        self.addCleanup(listening.close)
        sockets = Sockets(reactor)
        sockets.inherit([("systemd:domain=INET:index=7", os.dup(listening.fileno()))])
        self.addCleanup(lambda: ensureDeferred(sockets.close()))
        await self.adopt(sockets, "systemd:domain=INET:index=7", Greeter(b"systemd"))
        heard_there = await deferToThread(heard, listening.getsockname())
        self.assertEqual(b"systemd", heard_there)

    async def test_same_twice(self) -> None:
        """Two listeners that say the same get a socket each."""
        sockets = self.sockets(LOOPBACK, LOOPBACK)
        ports = [
            await self.adopt(sockets, LOOPBACK, Greeter(word))
            for word in (b"one", b"other")
        ]
        numbers = {port.getHost().port for port in ports}
        self.assertEqual(2, len(numbers))

    async def test_released(self) -> None:
        """What was bound last can be let go of, and then be bound again; a socket
        of the same description stays."""
        sockets = self.sockets(LOOPBACK)
        ((_, first),) = sockets.descriptors()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        other = f"tcp:{port}:interface=127.0.0.1"
        for _ in range(2):
            bound = sockets.bind([LOOPBACK, other])
            await sockets.release(bound)
            self.assertEqual([(LOOPBACK, first)], list(sockets.descriptors()))

    async def test_closed_one_by_one(self) -> None:
        """Of two of one description one is closed for each time that it is said."""
        sockets = self.sockets(LOOPBACK, LOOPBACK)
        _, kept = sockets.descriptors()
        await sockets.close([LOOPBACK])
        self.assertEqual([kept], list(sockets.descriptors()))

    async def test_all_or_nothing(self) -> None:
        """If one cannot be bound, none of those asked for is."""
        sockets = self.sockets(LOOPBACK)
        ((_, fd),) = sockets.descriptors()
        taken = socket.socket(fileno=os.dup(fd))
        port = taken.getsockname()[1]
        taken.close()
        free = Path(self.mktemp()).absolute()
        with self.assertRaises(CannotListenError):
            sockets.bind([f"unix:{free}", f"tcp:{port}:interface=127.0.0.1"])
        self.assertEqual(1, len(sockets.descriptors()))
        # What was bound is closed in the reactor's next turn.
        turn: Deferred[None] = Deferred()
        reactor.callLater(0.01, turn.callback, None)  # type: ignore[attr-defined]
        await turn
        self.assertFalse(free.exists())
