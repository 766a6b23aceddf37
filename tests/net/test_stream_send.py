"""Replies that go to the kernel at once, over real sockets."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from twisted_mta.net.admission import Admission
from twisted_mta.net.listener import Listener, Spoken
from twisted_mta.net.poller import polled
from twisted_mta.net.stream import Stream

reactor: Any = _reactor

PIECE = bytes(range(256)) * 256
COUNT = 200


class Silent:
    """An engine whose peer says nothing that matters."""

    def receive_data(self, octets: bytes, /) -> None:
        """Drop it."""

    def next_event(self) -> object | None:
        """Nothing ever."""
        return None

    def buffered(self) -> int:
        """Nothing."""
        return 0

    def discard(self) -> None:
        """Nothing to forget."""


class Told:
    """A socket that remembers its options."""

    def __init__(self, family: int, told: list[object]) -> None:
        self.family = family
        self._told = told

    def setsockopt(self, *option: object) -> None:
        """Remember."""
        self._told.append(option)


class SendTests(TestCase):
    """What is written arrives whole and in order, however the kernel takes it."""

    reactor = reactor

    async def serve(self, session: Any) -> int:
        """Listen.

        @return: the port.
        """
        listener = Listener(
            self.reactor,
            "test",
            ["tcp:0:interface=127.0.0.1"],
            Spoken(Silent, session, lambda name: b""),
            Admission(10),
        )
        await listener.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(listener.stop(1)))
        return listener.where[0][1]

    @staticmethod
    def read_all(port: int) -> bytes:
        """Read to the end through a small window."""
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(60)
            client.connect(("127.0.0.1", port))
            pieces = []
            while octets := client.recv(8192):
                pieces.append(octets)
            return b"".join(pieces)

    async def test_acknowledge(self) -> None:
        """The kernel is told to acknowledge, on TCP, while there is a
        connection; a prompt stream does so when it waits, and only then."""
        done: Deferred[list[object]] = Deferred()

        async def session(stream: Stream) -> None:
            transport: Any = stream.transport
            real, told = transport.socket, []
            for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
                transport.socket = Told(family, told)
                stream.acknowledge()
            transport.socket = Told(socket.AF_INET, told)
            stream.post("it is here")
            stream.prompt = True
            await stream.next_event()  # without a wait
            transport.socket = real
            real_acknowledge = stream.acknowledge
            stream.acknowledge = lambda: (told.append("wait"), real_acknowledge())  # type: ignore[method-assign]
            await stream.next_event()
            stream.acknowledge = real_acknowledge  # type: ignore[method-assign]
            stream.acknowledge()
            done.callback(told)

        port = await self.serve(session)
        with socket.create_connection(("127.0.0.1", port)):
            pass
        option = (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self.assertEqual(await done, [option, option, "wait"])

    if not hasattr(socket, "TCP_QUICKACK"):
        test_acknowledge.skip = "Linux only"  # type: ignore[attr-defined]

    async def test_more_than_the_kernel_takes(self) -> None:
        """13 MB written without a wait arrive as they were written."""

        async def session(stream: Stream) -> None:
            for number in range(COUNT):
                stream.write(b"%08d" % number + PIECE)
                stream.flush()

        port = await self.serve(session)
        received = await deferToThread(self.read_all, port)
        expected = b"".join(b"%08d" % number + PIECE for number in range(COUNT))
        self.assertEqual(len(received), len(expected))
        self.assertTrue(received == expected)

    async def test_drain_then_replies(self) -> None:
        """A reply after a drained stream comes behind it."""

        async def session(stream: Stream) -> None:
            for number in range(COUNT):
                stream.write(b"%08d" % number + PIECE)
                if not await stream.drain():
                    return
            stream.write(b"OK")

        port = await self.serve(session)
        received = await deferToThread(self.read_all, port)
        self.assertEqual(len(received), COUNT * (len(PIECE) + 8) + 2)
        self.assertTrue(received.endswith(PIECE + b"OK"))

    async def test_peer_gone(self) -> None:
        """Writing to a peer that has reset ends the session, not the server."""
        ended: Deferred[bool] = Deferred()

        async def session(stream: Stream) -> None:
            while True:
                stream.write(PIECE)
                if not await stream.drain():
                    ended.callback(True)
                    return

        port = await self.serve(session)
        with socket.socket() as client:
            client.connect(("127.0.0.1", port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.assertTrue(await ended)


class PolledTests(SendTests):
    """All of it, with connections behind a poller of their own."""

    reactor = polled(reactor)
