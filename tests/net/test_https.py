"""L{twisted_mta.net.https} against Web servers of every kind on the loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from tests.delivery.peer import Handset, Names, turns
from tests.net.chain import certificate, written
from twisted_mta.net.https import Answer, Https, Unanswered, Untrusted
from twisted_mta.net.tls import ServerTls

HOST = "web.test"
PLAIN = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=us-ascii\r\n"


class Web(Factory[Any]):
    """A server.

    @ivar says: what it answers once a request's header is there; C{None}: nothing.
    @ivar ends: it hangs up then.
    @ivar heard: requests.
    @ivar asked: of the proxy.
    """

    noisy = False

    def __init__(self, tls: ServerTls | None, proxy: str = "") -> None:
        self.tls = tls
        self.proxy = proxy
        self.says: str | None = PLAIN + "Content-Length: 5\r\n\r\nhello"
        self.ends = False
        self.heard: list[str] = []
        self.asked: list[str] = []
        self.open: set[Protocol] = set()
        self.protocol = lambda: _Connection(self)  # type: ignore[assignment]


class _Connection(Protocol):
    def __init__(self, web: Web) -> None:
        self.web = web
        self.octets = ""
        self.tls = False

    def connectionMade(self) -> None:
        self.web.open.add(self)
        if not self.web.proxy:
            self.secure()

    def secure(self) -> None:
        self.tls = True
        if self.web.tls is not None:
            self.transport.startTLS(self.web.tls)  # type: ignore[union-attr]
        else:
            self.transport.write(b"What?\r\n")  # type: ignore[union-attr]

    def connectionLost(self, reason: object = None) -> None:
        self.web.open.discard(self)

    def dataReceived(self, data: bytes) -> None:
        self.octets += data.decode("latin-1")
        if "\r\n\r\n" not in self.octets:
            return
        octets, self.octets = self.octets, ""
        transport: Any = self.transport
        if not self.tls:
            self.web.asked.append(octets)
            transport.write(self.web.proxy.encode())
            self.secure()
            return
        self.web.heard.append(octets)
        if self.web.says is not None:
            transport.write(self.web.says.encode("latin-1"))
            if self.web.ends:
                transport.loseConnection()


class HttpsTests(TestCase):
    """One request."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        made = certificate("root", names=(HOST,))
        self.trust = self.directory / "chain.pem"
        self.tls = ServerTls([written(self.directory, made)])
        self.clock: Any = Handset()
        self.names = Names({}, {HOST: ["127.0.0.1"]})
        self.web = self.serve(Web(self.tls))

    def serve(self, web: Web) -> Web:
        """Listen; what is asked of C{self.https} goes there."""
        listening: Any = reactor
        port = listening.listenTCP(0, web, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        return web

    def https(self, **more: Any) -> Https:
        values = {"trust": self.trust, "port": self.port, "anywhere": True}
        return Https(self.clock, self.names, **{**values, **more})

    async def get(self, https: Https | None = None, most: int = 100) -> Answer:
        found = await (https or self.https()).get(HOST, "/x", most, 60.0)
        await turns(lambda: not self.web.open)
        return found

    async def refused(self, word: str, **more: Any) -> Unanswered:
        try:
            answer = await self.get(self.https(**more))
        except Unanswered as error:
            self.assertIn(word, str(error))
            await turns(lambda: not self.web.open)
            return error
        raise self.failureException(f"{answer}")

    async def test_get(self) -> None:
        """An answer has its status, type and body; the server need not hang up."""
        self.assertEqual(await self.get(), Answer(200, "text/plain", b"hello"))
        (heard,) = self.web.heard
        self.assertTrue(heard.startswith("GET /x HTTP/1.1\r\nHost: web.test\r\n"))
        self.assertIn("\r\nConnection: close\r\n", heard)

    async def test_kinds_of_length(self) -> None:
        """A body is as long as it says, or ends with the connection, or is in chunks;
        one cut short is none."""
        self.web.ends = True
        self.web.says = PLAIN + "\r\nhello"
        self.assertEqual((await self.get()).body, b"hello")
        chunks = "Transfer-Encoding: chunked\r\n\r\n"
        self.web.ends = False
        self.web.says = PLAIN + chunks + "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
        self.assertEqual((await self.get()).body, b"hello")
        self.web.ends = True
        self.web.says = PLAIN + chunks + "ff\r\nhel"
        await self.refused("HTTP")
        self.web.says = PLAIN + "Content-Length: 9\r\n\r\nhello"
        await self.refused("HTTP")

    async def test_no_redirection(self) -> None:
        """Nobody is sent elsewhere."""
        self.web.says = (
            "HTTP/1.1 302 Found\r\nLocation: https://x.test/\r\n"
            "Content-Length: 0\r\n\r\n"
        )
        self.assertEqual((await self.get()).status, 302)
        self.assertEqual(len(self.web.heard), 1)

    async def test_no_type(self) -> None:
        """Without a type it is of none."""
        self.web.says = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        self.assertEqual(await self.get(), Answer(200, "", b""))
        self.web.says = (
            PLAIN.replace("text/plain", "What?") + "Content-Length: 0\r\n\r\n"
        )
        self.assertEqual(await self.get(), Answer(200, "what?", b""))

    async def test_h51_too_much(self) -> None:
        """A body, a header or a stream without end are not read on."""
        self.web.says = PLAIN + "Content-Length: 101\r\n\r\n" + "x" * 101
        await self.refused("HTTP")
        self.web.says = PLAIN + "X: " + "x" * 100_000
        await self.refused("too")
        self.web.says = PLAIN + "\r\n" + "x" * 100_000
        await self.refused("too much")
        self.web.says = PLAIN + "X: 1\r\n" * 200 + "Content-Length: 0\r\n\r\n"
        await self.refused("HTTP")

    async def test_nonsense(self) -> None:
        """What is no HTTP is no answer."""
        self.web.ends = True
        for says in ("220 smtp.test ESMTP\r\n", "HTTP/1.1 x\r\n\r\n", "\0" * 100):
            self.web.says = says
            await self.refused("HTTP")
        self.web.says = ""
        await self.refused(HOST)

    async def test_h51_silence(self) -> None:
        """Who does not answer is left in time."""
        self.web.says = None
        asking = Deferred.fromCoroutine(self.https().get(HOST, "/x", 100, 60.0))
        await turns(lambda: self.web.heard)
        self.clock.advance(59.9)
        self.assertNoResult(asking)
        self.clock.advance(0.2)
        self.assertFailure(asking, Unanswered)
        await asking
        await turns(lambda: not self.web.open)

    async def test_h51_untrusted(self) -> None:
        """A server whose certificate is not right hears nothing of what we want."""
        other = certificate("root", names=("other.test",))
        expired = certificate("root", names=(HOST,), days=(-3, -1))
        nobody = certificate("nobody", names=(HOST,))
        for word, made in (("a", other), ("b", expired), ("c", nobody)):
            pair = written(self.directory / word, made)
            trust = self.trust if word == "c" else pair.certificate
            self.web = self.serve(Web(ServerTls([pair])))
            error = await self.refused(HOST, trust=trust)
            self.assertIsInstance(error, Untrusted)
            self.assertEqual(self.web.heard, [])
        self.web = self.serve(Web(None))
        await self.refused(HOST)

    async def test_h51_this_network(self) -> None:
        """Nobody is sent to this machine or its network; a dead address is passed
        over; a name without one is told."""
        await self.refused("this network", anywhere=False)
        self.names._addresses[HOST] = ["::1", "127.0.0.1"]
        self.assertEqual((await self.get()).status, 200)
        self.names._addresses[HOST] = []
        await self.refused("no address")

    async def test_h51_this_network_by_detour(self) -> None:
        """Nor by an IPv6 address that stands for one of this network, as NAT64 and 6to4
        have them."""
        for near in (
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::1",
            "fec0::1",
            "fe80::1%lo",
            "ff0e::1",
            "224.0.1.1",
        ):
            self.names._addresses[HOST] = [near]
            await self.refused("this network", anywhere=False)
        https = self.https(anywhere=False)
        far = ["64:ff9b::1.1.1.1", "2606:4700::1111", "1.1.1.1"]
        self.names._addresses[HOST] = ["10.0.0.1", *far]
        found = [address for address, _ in await https._where(HOST)]
        self.assertEqual(found, far)

    async def test_post(self) -> None:
        """What is brought has its type and length."""
        answer = await self.https().post(HOST, "/r?a=b", "a/b", b"octets", 60.0)
        self.assertEqual(answer.status, 200)
        (heard,) = self.web.heard
        self.assertTrue(heard.startswith("POST /r?a=b HTTP/1.1\r\n"))
        self.assertIn("\r\nContent-Type: a/b\r\nContent-Length: 6\r\n", heard)
        await turns(lambda: not self.web.open)

    async def test_proxy(self) -> None:
        """A proxy is asked to connect, and does not read along; one that refuses is
        told."""
        self.web = self.serve(Web(self.tls, "HTTP/1.1 200 Go on\r\n\r\n"))
        proxy = "127.0.0.1", self.port
        https = self.https(proxy=proxy, port=443, anywhere=False)
        self.assertEqual((await self.get(https)).body, b"hello")
        self.assertEqual(
            self.web.asked,
            ["CONNECT web.test:443 HTTP/1.1\r\nHost: web.test:443\r\n\r\n"],
        )
        self.web.proxy = "HTTP/1.1 403 No\r\n\r\n"
        await self.refused("The proxy refuses web.test: HTTP/1.1 403", proxy=proxy)
