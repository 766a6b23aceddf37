"""A mail server that does what a script says, and keeps what it was told."""

from collections import defaultdict

from twisted.internet import reactor, tcp
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from zope.interface import implementer

from twisted_mta.errors import NoSuchDomain, NoSuchMessage, ResolverUnavailable
from twisted_mta.interfaces import IContent, IResolver
from twisted_mta.mail.lookup import Exchange, Located

HANG = None  # say nothing
DROP = "DROP"  # hang up

OFFERS = ("PIPELINING", "SIZE 300000000", "8BITMIME", "ENHANCEDSTATUSCODES")

_REPLIES = {
    "GREETING": "220 peer.test",
    "HELO": "250 peer.test",
    "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok",
    "DATA": "354 Go on",
    "END": "250 2.0.0 Ok: taken",
    "RSET": "250 2.0.0 Ok",
    "QUIT": "221 2.0.0 Bye",
    "STARTTLS": "220 2.0.0 Ready",
    "BDAT": "250 2.0.0 Ok",
    "XFORWARD": "250 2.0.0 Ok",
    "AUTH": "235 2.7.0 Ok",
}


class Handset(Clock):
    """The real reactor's sockets by a clock that the test moves."""

    listenUDP = reactor.listenUDP
    connectTCP = reactor.connectTCP
    connectUNIX = reactor.connectUNIX


async def turns(enough):
    """Let the reactor turn until something is so."""
    while not enough():
        turn = Deferred()
        reactor.callLater(0, turn.callback, None)
        await turn


async def all_hung_up():
    """Let the reactor turn until no connection is left."""
    await turns(
        lambda: not any(isinstance(r, tcp.Connection) for r in reactor.getReaders())
    )


class Peer(Factory):
    """A server.

    @ivar replies: what it says to a verb: a text, L{HANG}, L{DROP}, a function
        of the protocol; or a list of those, one for each time, the last for all
        further times. C{GREETING} and C{END} (of the content) too, C{BDAT} of a
        chunk that is not the last.
    @ivar heard: the commands, in order, over all connections; C{END} too.
    @ivar messages: contents, their dots unstuffed; of chunks put together.
    @ivar connections: how many there were.
    """

    noisy = False

    def __init__(self, offers=OFFERS, tls=None, **replies):
        self.replies = {**_REPLIES, **replies}
        lines = ["peer.test", *offers]
        ehlo = [f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"]
        self.replies.setdefault("EHLO", "\r\n".join(ehlo))
        self.replies.setdefault("LHLO", "\r\n".join(ehlo))
        self.tls = tls
        self.heard = []
        self.messages = []
        self.octets = 0
        self.keep = True
        self.connections = 0
        self.open = set()
        self.times = defaultdict(int)
        self.port = None

    def listen_at(self, path):
        self.port = reactor.listenUNIX(path, self)

    def listen(self, port=0, interface="127.0.0.1"):
        self.port = reactor.listenTCP(port, self, interface=interface)
        return self.port.getHost().port

    async def stop(self):
        for protocol in list(self.open):
            protocol.transport.abortConnection()
        port, self.port = self.port, None
        if port is not None:
            await port.stopListening()

    def buildProtocol(self, addr):
        self.connections += 1
        return _Server(self)

    def verbs(self):
        return [line.partition(" ")[0] for line in self.heard]

    def reply(self, verb):
        reply = self.replies.get(verb, "500 5.5.2 What?")
        if isinstance(reply, list):
            reply = reply[min(self.times[verb], len(reply) - 1)]
        self.times[verb] += 1
        return reply


class _Server(Protocol):
    def __init__(self, peer):
        self.peer = peer
        self.octets = b""
        self.content = None
        self.chunk = None
        self.chunks = b""

    def connectionMade(self):
        self.peer.open.add(self)
        self.say(self.peer.reply("GREETING"))

    def connectionLost(self, reason):
        self.peer.open.discard(self)

    def say(self, reply):
        if reply is HANG:
            return
        if reply == DROP:
            self.transport.loseConnection()
        elif callable(reply):
            reply(self)
        else:
            self.transport.write(reply.encode() + b"\r\n")

    def dataReceived(self, data):
        self.peer.octets += len(data)
        self.octets += data
        while True:
            if self.content is not None:
                if not self.take_content():
                    return
                continue
            if self.chunk is not None:
                if not self.take_chunk():
                    return
                continue
            line, end, rest = self.octets.partition(b"\r\n")
            if not end:
                return
            self.octets = rest
            self.command(line.decode(errors="replace"))

    def take_content(self):
        if self.octets.startswith(b".\r\n") and not self.content:
            end, whole = 0, True
        else:
            end = self.octets.find(b"\r\n.\r\n")
            whole = end >= 0
            end = end + 2 if whole else max(0, len(self.octets) - 4)
        if self.peer.keep or not self.content:
            self.content += self.octets[:end]
        self.octets = self.octets[end:]
        if not whole:
            return False
        self.octets = self.octets[3:]
        text = b"\r\n" + self.content
        self.peer.messages.append(text.replace(b"\r\n..", b"\r\n.")[2:])
        self.content = None
        self.peer.heard.append("END")
        self.say(self.peer.reply("END"))
        return True

    def take_chunk(self):
        size, last = self.chunk
        if len(self.octets) < size:
            return False
        self.chunks += self.octets[:size]
        self.octets = self.octets[size:]
        self.chunk = None
        if last:
            self.peer.messages.append(self.chunks)
            self.chunks = b""
        self.say(self.peer.reply("END" if last else "BDAT"))
        return True

    def command(self, line):
        self.peer.heard.append(line)
        verb, *words = line.upper().split(" ")
        if verb == "BDAT":
            self.chunk = int(words[0]), words[1:] == ["LAST"]
            return
        if verb == "RSET":
            self.chunks = b""
        reply = self.peer.reply(verb)
        self.say(reply)
        if verb == "DATA" and isinstance(reply, str) and reply.startswith("354"):
            self.content = b""
        elif verb == "STARTTLS" and isinstance(reply, str) and reply.startswith("220"):
            self.octets = b""
            if self.peer.tls is not None:
                self.transport.startTLS(self.peer.tls)


@implementer(IContent)
class Content:
    """Content in memory."""

    def __init__(self, octets):
        self.octets = octets
        self.size = len(octets)

    async def read(self, offset, most):
        return self.octets[offset : offset + most]


@implementer(IContent)
class Long:
    """Content without memory: lines of a kilobyte.

    @ivar read_to: up to where it was read.
    """

    def __init__(self, size):
        self.size = size
        self.read_to = 0
        self._run = (b"x" * 1022 + b"\r\n") * 64

    async def read(self, offset, most):
        assert offset % 1024 == 0 and most <= len(self._run)
        self.read_to = min(self.size, offset + most)
        return self._run[: self.read_to - offset]


class Vanishing(Long):
    """It is gone after the first block."""

    async def read(self, offset, most):
        if offset:
            raise NoSuchMessage
        return await super().read(offset, most)


@implementer(IResolver)
class Names:
    """A resolver that knows what it was told.

    @param mx: by domain: preferences and hosts, or an error to raise.
    @param addresses: by host, or an error to raise.
    @param tlsa: by name, or an error to raise.
    @param txt: by name.
    @ivar signed: the names of which the answers are authentic.
    @ivar aliases: by host.
    """

    def __init__(self, mx=None, addresses=None, tlsa=None, txt=None):
        self._mx = mx or {}
        self._addresses = addresses or {}
        self.tlsa_records = tlsa or {}
        self.texts = txt or {}
        self.signed = set()
        self.aliases = {}
        self.asked = []

    async def mx(self, domain):
        return self._look(self._mx, domain, NoSuchDomain())

    async def addresses(self, host):
        if host.startswith("127.") or ":" in host:
            return [host]
        return self._look(self._addresses, host, None) or []

    async def exchange(self, domain):
        return Exchange(tuple(await self.mx(domain)), domain, domain in self.signed)

    async def locate(self, host):
        found = tuple(await self.addresses(host))
        name = self.aliases.get(host, host)
        secure = name in self.signed and host in self.signed
        return Located(found, name, secure, host in self.signed and not secure)

    async def tlsa(self, name):
        return self._look(self.tlsa_records, name, ())

    async def txt(self, name):
        return self._look(self.texts, name, ())

    async def ptr(self, host):
        raise ResolverUnavailable

    def _look(self, table, key, missing):
        self.asked.append(key)
        found = table.get(key, missing)
        if isinstance(found, Exception):
            raise found
        return found
