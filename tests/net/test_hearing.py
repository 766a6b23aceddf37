"""L{twisted_mta.net.hearing}: whether the other end has read what was sent."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
import subprocess
import sys
import unittest
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import TestCase

from tests.net.lines import Lines
from tests.net.test_listener import V4, dial, in_thread, line_of
from tests.system.loopback import APART
from twisted_mta.net.admission import Admission
from twisted_mta.net.hearing import heard, out_of_reach
from twisted_mta.net.listener import Listener, Spoken
from twisted_mta.net.poller import polled
from twisted_mta.net.selfsigned import self_signed
from twisted_mta.net.stream import Closed, Stream
from twisted_mta.net.tls import Pair, ServerTls

# In a network of its own, which it takes down and up again.
_APART = """
import socket
from tests.system.loopback import set_up
from twisted_mta.net.hearing import heard, out_of_reach

set_up(True)
listening = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listening.getsockname())
server, _ = listening.accept()
set_up(False)
server.sendall(b"250 Ok\\r\\n")
assert not heard(server)
while not out_of_reach(server):
    pass
print("out of reach")
set_up(True)
client.recv(100)
while out_of_reach(server) or not heard(server):
    pass
print("back")
"""

_TRUSTING = ssl.create_default_context()
_TRUSTING.check_hostname = False
_TRUSTING.verify_mode = ssl.CERT_NONE


class HeardTests(unittest.TestCase):
    """Asked of a socket."""

    def setUp(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.client = socket.create_connection(listening.getsockname())
        self.server, _ = listening.accept()
        listening.close()
        self.addCleanup(self.server.close)
        self.addCleanup(self.client.close)

    def test_read(self) -> None:
        """Who has read all and closes has heard it; so has he who is still there."""
        self.server.sendall(b"250 Ok\r\n")
        self.client.recv(100)
        self.assertTrue(heard(self.server))
        self.client.close()
        self.assertEqual(self.server.recv(1), b"")
        self.assertTrue(heard(self.server))

    def test_unread(self) -> None:
        """Who closes, or ends, without having read it has not."""
        self.server.sendall(b"250 Ok\r\n")
        self.client.close()
        with self.assertRaises(ConnectionResetError):
            self.server.recv(1)
        self.assertFalse(heard(self.server))

    def test_too_late(self) -> None:
        """Who was gone before it was said has not."""
        self.client.close()
        self.server.sendall(b"250 Ok\r\n")
        self.assertFalse(heard(self.server))

    def test_full(self) -> None:
        """Nor he whose system does not take it, since he does not read; but he is
        there."""
        self.server.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.server.send(b"x" * 65536)
        self.assertFalse(heard(self.server))
        self.assertFalse(out_of_reach(self.server))

    def test_out_of_reach(self) -> None:
        """Who can be reached is in reach, whether he reads or not; one whose network
        is gone is not, and then he is again."""
        self.server.sendall(b"250 Ok\r\n")
        self.assertFalse(out_of_reach(self.server))
        done = subprocess.run(
            [*APART, sys.executable, "-c", _APART],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        if "unshare" in done.stderr and os.environ.get("CI") != "true":
            raise unittest.SkipTest(done.stderr.strip())
        self.assertEqual((done.stdout, done.stderr), ("out of reach\nback\n", ""))

    def test_reset(self) -> None:
        """Nor who resets the connection."""
        self.client.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.client.close()
        self.assertFalse(heard(self.server))

    def test_unix(self) -> None:
        """A unix socket tells it too."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(b"250 Ok\r\n")
            self.assertFalse(heard(ours))
            theirs.recv(100)
            self.assertTrue(heard(ours))


class StreamTests(TestCase):
    """Told at the end of a connection."""

    reactor = cast(IReactorTime, polled(reactor))

    async def end(
        self, leave: Callable[[socket.socket], None], tls: ServerTls | None = None
    ) -> bool:
        """What a session is told of a client that leaves after one line."""
        told: Deferred[bool] = Deferred()

        async def session(stream: Stream) -> None:
            await stream.next_event()
            stream.write(b"250 Ok\r\n")
            event = await stream.next_event()
            assert isinstance(event, Closed)
            self.assertEqual(stream.heard(), event.heard)
            told.callback(event.heard)

        listener = Listener(
            self.reactor,
            "test",
            [V4],
            Spoken(Lines, session, lambda name: b""),
            Admission(10),
            tls,
        )
        await listener.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(listener.stop(0)))
        (where,) = listener.where

        def client() -> None:
            skt = dial(where)
            if tls is not None:
                skt = _TRUSTING.wrap_socket(skt)
            skt.sendall(b"x\r\n")
            leave(skt)

        await in_thread(client)
        return await told

    async def test_read(self) -> None:
        """Who has read the answer and hangs up."""

        def leave(skt: socket.socket) -> None:
            line_of(skt)
            skt.close()

        self.assertTrue(await self.end(leave))

    async def test_unread(self) -> None:
        """Who leaves it unread."""

        def leave(skt: socket.socket) -> None:
            skt.recv(1, socket.MSG_PEEK)
            skt.close()

        self.assertFalse(await self.end(leave))

    async def test_early(self) -> None:
        """Who hangs up before it comes."""
        self.assertFalse(await self.end(lambda skt: skt.close()))

    async def test_tls(self) -> None:
        """It is so under TLS, with or without its goodbye."""
        with TemporaryDirectory() as directory:
            pair = Pair(Path(directory) / "crt", Path(directory) / "key")
            self_signed(pair, ["localhost"])
            tls = ServerTls([pair])

        def rude(skt: socket.socket) -> None:
            line_of(skt)
            skt.close()

        def polite(skt: socket.socket) -> None:
            line_of(skt)
            cast(ssl.SSLSocket, skt).unwrap().close()

        def unread(skt: socket.socket) -> None:
            wait_readable(skt)
            skt.close()

        self.assertTrue(await self.end(rude, tls))
        self.assertTrue(await self.end(polite, tls))
        self.assertFalse(await self.end(unread, tls))


def wait_readable(skt: socket.socket) -> None:
    """Wait until something has come, and leave it."""
    select.select([skt], [], [], 20)
