"""L{twisted_mta.net.listener}: real sockets on loopback."""

import contextlib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.trial.unittest import SkipTest, TestCase

from tests.net.lines import Lines
from tests.net.test_stream import Session, echo
from tests.net.test_tls import made
from twisted_mta.mail.networks import NOBODY, Networks
from twisted_mta.net.admission import Admission
from twisted_mta.net.listener import Listener, Spoken
from twisted_mta.net.poller import polled
from twisted_mta.net.port import Incoming
from twisted_mta.net.stream import SHUTTING_DOWN, Stream
from twisted_mta.net.tls import ServerTls

T = TypeVar("T")

V4 = "tcp:0:interface=127.0.0.1"
V6 = "tcp:0:interface=\\:\\:1"

# Nothing here takes as long; a socket that hangs fails its test instead of the
# run.
_STUCK_S = 20


def dial(
    where: tuple[str, int], source: tuple[str, int] | None = None
) -> socket.socket:
    """A client's connection, in a thread."""
    return socket.create_connection(where, _STUCK_S, source)


def say(client: socket.socket, line: bytes) -> bytes:
    """A line, and the line that answers it."""
    client.sendall(line + b"\r\n")
    return line_of(client)


def line_of(client: socket.socket) -> bytes:
    """The next line, without reading beyond it; what there was before the end
    if the connection ends."""
    octets = b""
    while not octets.endswith(b"\r\n") and (octet := client.recv(1)):
        octets += octet
    return octets


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """A client's side of things."""
    return await deferToThread(work, *arguments)


class Broken(Exception):
    """A bug."""


class ListenerTests(TestCase):
    reactor = cast(IReactorTime, reactor)
    crowded: Sequence[str] = ()

    async def listener(
        self,
        endpoints: Sequence[str] = (V4,),
        session: Session = echo,
        admission: Admission | None = None,
        tls: object | None = None,
        proxies: Networks = NOBODY,
    ) -> Listener:
        """A listener that has started, and stops with the test."""
        listener = Listener(
            self.reactor,
            "test",
            endpoints,
            Spoken(Lines, session, lambda name: f"421 later ({name})\r\n".encode()),
            admission or Admission(100),
            tls,
            proxies=proxies,
        )
        await listener.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(listener.stop(0)))
        return listener

    async def test_both_families(self) -> None:
        """One listener serves 127.0.0.1 and ::1, and says where."""
        if not socket.has_ipv6:
            raise SkipTest("no IPv6")
        listener = await self.listener([V4, V6])
        self.assertEqual([host for host, _ in listener.where], ["127.0.0.1", "::1"])
        for where in listener.where:
            client = await in_thread(dial, where)
            self.assertEqual(await in_thread(say, client, b"x"), b"x\r\n")
            client.close()

    async def test_unix_socket(self) -> None:
        """A unix socket serves as well; its path is where."""
        path = self.mktemp()[-60:].lstrip("/").replace("/", "-")
        listener = await self.listener([f"unix:{path}"])
        self.assertEqual(listener.where, [(path, 0)])
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(_STUCK_S)
        await in_thread(client.connect, path)
        self.assertEqual(await in_thread(say, client, b"x"), b"x\r\n")
        client.close()

    async def test_h38_too_many(self) -> None:
        """A connection past the limit reads the goodbye and is closed; the ones
        before it live on, and when one of them ends there is room again."""
        admission = Admission(2)
        listener = await self.listener(admission=admission)
        (where,) = listener.where
        first = await in_thread(dial, where)
        second = await in_thread(dial, where)
        await in_thread(say, second, b"x")
        with capturedLogs() as captured:
            for _ in range(3):
                third = await in_thread(dial, where)
                answer = await in_thread(line_of, third)
                self.assertEqual(answer, b"421 later (test-3)\r\n")
                self.assertEqual(await in_thread(third.recv, 1), b"")
                third.close()
        refusals = [event for event in captured if "refused" in event["log_format"]]
        self.assertEqual([event["session"] for event in refusals], ["test-3"])
        self.assertEqual(await in_thread(say, first, b"y"), b"y\r\n")
        first.close()
        while admission.count == 2:
            await in_thread(say, second, b"x")
        fourth = await in_thread(dial, where)
        self.assertEqual(await in_thread(say, fourth, b"x"), b"x\r\n")
        second.close()
        fourth.close()

    async def test_h36_half_open(self) -> None:
        """When all places are held by strangers of one network, a client of another
        gets the oldest one's; those who are known stay. Nobody's place is counted
        twice."""
        admission = Admission(3)
        streams: list[Stream] = []

        async def session(stream: Stream) -> None:
            streams.append(stream)
            await echo(stream)

        listener = await self.listener(session=session, admission=admission)
        (where,) = listener.where
        held = []
        for number in range(3):
            held.append(await in_thread(dial, where))
            await in_thread(say, held[-1], b"x")
            streams[-1].stranger = number > 0
        with capturedLogs() as captured:
            honest = await in_thread(dial, where, ("127.0.0.2", 0))
            self.assertEqual(await in_thread(say, honest, b"y"), b"y\r\n")
        self.assertIn("full", "".join(event["log_format"] for event in captured))
        with self.assertRaises(ConnectionResetError):
            await in_thread(held[1].recv, 1)
        for number in (0, 2):
            self.assertEqual(await in_thread(say, held[number], b"z"), b"z\r\n")
        self.assertEqual(admission.count, 3)
        another = await in_thread(dial, where)
        answer = await in_thread(line_of, another)
        self.assertEqual(answer, b"421 later (test-5)\r\n")
        for client in (*held, honest, another):
            client.close()
        while admission.count:
            await in_thread(time.sleep, 0.01)

    async def test_proxied(self) -> None:
        """A proxy says who the client is, who then counts for the limits; what it says
        after that is the client's."""
        admission = Admission(100, 2)
        peers: list[tuple[str, int]] = []

        async def session(stream: Stream) -> None:
            peers.append(stream.peer())
            await echo(stream)

        listener = await self.listener(
            session=session, admission=admission, proxies=Networks(["127.0.0.2"])
        )
        (where,) = listener.where
        clients = []
        for number in range(3):
            client = await in_thread(dial, where, ("127.0.0.2", 0))
            clients.append(client)
            header = b"PROXY TCP4 192.0.2.1 127.0.0.1 %d 25\r\n" % (1000 + number)
            for octet in header:
                await in_thread(client.sendall, bytes([octet]))
            answer = await in_thread(say, client, b"x")
            later = b"421 later (test-3)\r\n"
            self.assertEqual(answer, b"x\r\n" if number < 2 else later)
        self.assertEqual(peers, [("192.0.2.1", 1000), ("192.0.2.1", 1001)])
        checking = await in_thread(dial, where, ("127.0.0.2", 0))
        self.assertEqual(
            await in_thread(say, checking, b"PROXY UNKNOWN\r\nx"), b"x\r\n"
        )
        direct = await in_thread(dial, where)
        self.assertEqual(await in_thread(say, direct, b"PROXY y"), b"PROXY y\r\n")
        self.assertEqual(peers[2][0], "")
        self.assertEqual(peers[3][0], "127.0.0.1")
        for client in (*clients, checking, direct):
            client.close()
        while admission.count:
            await in_thread(time.sleep, 0.01)

    async def test_proxied_tls(self) -> None:
        """TLS from the first octet after the header, also if both come at once."""
        pair = made(Path(self.mktemp()).parent, ["localhost"], self.id())
        proxies = Networks(["127.0.0.2"])
        listener = await self.listener(tls=ServerTls([pair]), proxies=proxies)
        client = await in_thread(dial, listener.where[0], ("127.0.0.2", 0))
        context = ssl.create_default_context(cafile=pair.certificate)

        def secured() -> bytes:
            received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(received, sent, server_hostname="localhost")
            header = b"PROXY TCP4 192.0.2.1 127.0.0.1 1000 25\r\n"
            steps: list[Callable[[], Any]] = [
                tls.do_handshake,
                lambda: tls.write(b"x\r\n"),
                lambda: tls.read(3),
            ]
            done: Any = b""
            while steps:
                try:
                    done = steps[0]()
                    steps.pop(0)
                except ssl.SSLWantReadError:
                    client.sendall(header + sent.read())
                    header = b""
                    received.write(client.recv(1 << 16))
            return bytes(done)

        self.assertEqual(await in_thread(secured), b"x\r\n")
        client.close()

    async def test_not_proxied(self) -> None:
        """A proxy that says anything else is hung up on."""
        listener = await self.listener(proxies=Networks(["127.0.0.2"]))
        (where,) = listener.where
        with capturedLogs() as captured:
            client = await in_thread(dial, where, ("127.0.0.2", 0))
            await in_thread(client.sendall, b"EHLO x\r\n")
            with self.assertRaises(ConnectionResetError):
                await in_thread(client.recv, 1)
        self.assertIn("PROXY", "".join(event["log_format"] for event in captured))
        client.close()

    async def test_h38_no_descriptors_left(self) -> None:
        """When a process has none left, it goes on serving those it has, and
        new clients once others went."""
        root = Path(__file__).parents[2]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.net.crowded", "40", *self.crowded],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None and process.stdin is not None
        try:
            port = int(await in_thread(process.stdout.readline))
            where = ("127.0.0.1", port)
            first = await in_thread(dial, where)
            self.assertEqual(await in_thread(say, first, b"x"), b"x\r\n")
            crowd = [await in_thread(dial, where) for _ in range(100)]
            self.assertEqual(await in_thread(say, first, b"y"), b"y\r\n")
            for each in crowd:
                each.close()
            self.assertEqual(await in_thread(say, first, b"z"), b"z\r\n")
            last = await in_thread(dial, where)
            self.assertEqual(await in_thread(say, last, b"x"), b"x\r\n")
            first.close()
            last.close()
        finally:
            process.stdin.close()
            await in_thread(process.wait)
            process.stdout.close()
        self.assertEqual(process.returncode, 0)

    async def test_implicit_tls(self) -> None:
        """Connections begin with TLS; one that is too many is closed."""
        pair = made(Path(self.mktemp()).parent, ["localhost"], self.id())
        listener = await self.listener(admission=Admission(1), tls=ServerTls([pair]))
        first = await in_thread(dial, listener.where[0])
        second = await in_thread(dial, listener.where[0])
        self.assertEqual(await in_thread(second.recv, 1), b"")
        second.close()
        context = ssl.create_default_context(cafile=pair.certificate)

        def secured() -> bytes:
            with context.wrap_socket(first, server_hostname="localhost") as client:
                return say(client, b"x")

        self.assertEqual(await in_thread(secured), b"x\r\n")

    async def test_stop_tells_and_waits(self) -> None:
        """Sessions that wait for their client are told; when the stop is over
        they have said goodbye, and nobody listens."""
        listener = await self.listener()
        client = await in_thread(dial, listener.where[0])
        await in_thread(say, client, b"x")
        where = listener.where[0]
        await listener.stop()
        self.assertEqual(await in_thread(line_of, client), b"end: ShuttingDown\r\n")
        self.assertEqual(listener.connections, 0)
        client.close()
        with self.assertRaises(ConnectionRefusedError):
            await in_thread(dial, where)

    async def test_stop_lets_work_end(self) -> None:
        """A session that is at work may finish it, and its client reads the
        answer."""
        working: Deferred[None] = Deferred()
        held: Deferred[None] = Deferred()

        async def session(stream: Stream) -> None:
            await stream.next_event()
            working.callback(None)
            await held
            stream.write(b"done\r\n")
            self.assertIs(await stream.next_event(), SHUTTING_DOWN)

        listener = await self.listener(session=session)
        client = await in_thread(dial, listener.where[0])
        client.sendall(b"work\r\n")
        await working
        stopping = Deferred.fromCoroutine(listener.stop())
        self.assertNoResult(stopping)
        held.callback(None)
        await stopping
        self.assertEqual(await in_thread(line_of, client), b"done\r\n")
        client.close()

    async def test_stop_cuts_those_who_do_not_go(self) -> None:
        """After the grace time connections are cut; a session that still does
        not end is named in the log, and the stop is over."""
        held: Deferred[None] = Deferred()
        working: Deferred[None] = Deferred()

        async def session(stream: Stream) -> None:
            await stream.next_event()
            working.callback(None)
            await held

        admission = Admission(5)
        listener = await self.listener(session=session, admission=admission)
        client = await in_thread(dial, listener.where[0])
        client.sendall(b"work\r\n")
        await working
        with capturedLogs() as captured:
            await listener.stop(0.01)
        self.assertIn(["test-1"], [event.get("names") for event in captured])
        client.close()
        held.callback(None)
        self.assertEqual((listener.connections, admission.count), (0, 0))

    async def test_port_in_use(self) -> None:
        """If one endpoint cannot listen, none does."""
        listener = await self.listener()
        host, port = listener.where[0]
        other = Listener(
            self.reactor,
            "other",
            [V4, f"tcp:{port}:interface={host}"],
            Spoken(Lines, echo, lambda name: b""),
            Admission(1),
        )
        with self.assertRaises(CannotListenError):
            await other.start()
        self.assertEqual(other.where, [])

    async def test_malformed_endpoint(self) -> None:
        """A word that is no endpoint is refused."""
        with self.assertRaises(ValueError):
            await self.listener(["carrier-pigeon:25"])


class PolledTests(ListenerTests):
    """All of it, with connections behind a poller of their own."""

    reactor = polled(reactor)
    crowded = ("polled",)

    async def test_bug_while_accepting(self) -> None:
        """A connection that a bug refuses, however far it had come, is closed, and
        takes nobody's place for ever."""
        admission = Admission(1)
        listener = await self.listener(admission=admission)
        (where,) = listener.where
        for owner, name in (
            (Lines, "__init__"),
            (Incoming, "__init__"),
            (Incoming, "setTcpNoDelay"),
        ):
            with mock.patch.object(owner, name, side_effect=Broken):
                client = await in_thread(dial, where)
                with contextlib.suppress(ConnectionResetError):
                    self.assertEqual(b"", await in_thread(client.recv, 1), name)
                client.close()
            self.assertEqual(1, len(self.flushLoggedErrors(Broken)), name)
            self.assertEqual((0, 0), (admission.count, listener.connections), name)
        client = await in_thread(dial, where)
        self.assertEqual(await in_thread(say, client, b"x"), b"x\r\n")
        client.close()
