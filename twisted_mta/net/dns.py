"""One question to one DNS server: UDP, and TCP when the answer was cut.

It knows messages and sockets; which server to ask, how often, and what to
remember is the resolver's. It does not trust what arrives: each question goes
out from a port of its own with an id of chance, the kernel lets only the asked
address answer (a connected socket), and an answer counts only when it repeats
the id and the question (RFC 5452 9). Whatever else arrives is passed over.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdatatype
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.interfaces import (
    IReactorTCP,
    IReactorUDP,
    ITransport,
    IUDPTransport,
)
from twisted.internet.protocol import (
    DatagramProtocol,
    Protocol,
    connectionDone,
)
from twisted.python.failure import Failure

from twisted_mta.net.client import quiet

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# What a datagram may carry unfragmented nearly everywhere (DNS flag day 2020).
_EDNS_OCTETS = 1232
_LONGEST_DATAGRAM = 8192  # a server that ignores that limit is still heard

_TC = 0x02  # in the third octet of the header (RFC 1035 4.1.1)
_LENGTH = struct.Struct("!H")

Server = tuple[str, int]


class Garbled(Exception):
    """The server's answer cannot be read, or is to another question."""


def question(
    name: dns.name.Name, kind: dns.rdatatype.RdataType, validated: bool = False
) -> dns.message.QueryMessage:
    """A recursive question with EDNS and the AD bit, which asks to be told
    whether the answer was validated (RFC 6840 5.7).

    @param validated: ask for the signatures too (DO), without which some servers do
        not say it.
    """
    query = dns.message.make_query(
        name, kind, use_edns=0, payload=_EDNS_OCTETS, want_dnssec=validated
    )
    query.flags |= dns.flags.AD
    return query


async def ask(
    reactor: IReactorTime, server: Server, query: dns.message.QueryMessage
) -> dns.message.QueryMessage:
    """Ask one server. Whoever calls bounds the time by cancelling.

    @param reactor: provides UDP and TCP.
    @param server: an IP address and a port.
    @raise Garbled: no sense could be made of the answer over TCP.
    @raise ConnectError: nothing listens there.
    @raise ConnectionLost: the server hung up.
    @raise CannotListenError: no socket is left here.
    """
    answer = await _by_udp(reactor, server, query)
    if answer is None:
        answer = await _by_tcp(reactor, server, query)
    return answer


def read(
    query: dns.message.QueryMessage, octets: bytes
) -> dns.message.QueryMessage | None:
    """The answer in these octets.

    @return: C{None} if the answer was cut, so that TCP must tell the rest.
    @raise Garbled: this is no answer to the question.
    """
    if len(octets) < 12:
        raise Garbled("short of a header")
    cut = bool(octets[2] & _TC)
    # A record of a strange form among those is not all of them (RFC 7672 2.2): see
    # the message's C{errors}.
    lenient = query.question[0].rdtype == dns.rdatatype.TLSA
    try:
        answer = dns.message.from_wire(
            octets, question_only=cut, continue_on_error=lenient
        )
    except (dns.exception.DNSException, ValueError, NotImplementedError) as error:
        raise Garbled(type(error).__name__)
    if not isinstance(answer, dns.message.QueryMessage) or not query.is_response(
        answer
    ):
        raise Garbled("an answer to another question")
    return None if cut else answer


async def _by_udp(
    reactor: IReactorTime, server: Server, query: dns.message.QueryMessage
) -> dns.message.QueryMessage | None:
    asking = _Datagram(server, query)
    port = cast(IReactorUDP, reactor).listenUDP(
        0, asking, "::" if ":" in server[0] else "", _LONGEST_DATAGRAM
    )
    try:
        return await asking.answer
    finally:
        port.stopListening()


async def _by_tcp(
    reactor: IReactorTime, server: Server, query: dns.message.QueryMessage
) -> dns.message.QueryMessage:
    endpoint = TCP6ClientEndpoint if ":" in server[0] else TCP4ClientEndpoint
    asking = _TcpQuestion(query)
    await endpoint(cast(IReactorTCP, reactor), *server).connect(quiet(asking))
    try:
        return await asking.answer
    finally:
        cast(ITransport, asking.transport).loseConnection()


class _Datagram(DatagramProtocol):
    """A question over UDP; answered by a message, or C{None} if it was cut."""

    noisy = False

    def __init__(self, server: Server, query: dns.message.QueryMessage) -> None:
        self.answer: Deferred[dns.message.QueryMessage | None] = Deferred()
        self._server = server
        self._query = query

    def startProtocol(self) -> None:
        transport = cast(IUDPTransport, self.transport)
        transport.connect(*self._server)
        transport.write(self._query.to_wire(), None)

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        try:
            answer = read(self._query, datagram)
        except Garbled:
            return  # the true answer may yet come
        if not self.answer.called:
            self.answer.callback(answer)

    def connectionRefused(self) -> None:
        self.stopProtocol()

    def stopProtocol(self) -> None:
        # How Twisted's epoll reactor tells that nothing listens there.
        if not self.answer.called:
            self.answer.errback(ConnectError())  # type: ignore[no-untyped-call]


class _TcpQuestion(Protocol):
    """A question over TCP, where two octets of length go first (RFC 7766)."""

    def __init__(self, query: dns.message.QueryMessage) -> None:
        self.answer: Deferred[dns.message.QueryMessage] = Deferred()
        self._query = query
        self._octets = b""

    def connectionMade(self) -> None:
        wire = self._query.to_wire()
        cast(ITransport, self.transport).write(_LENGTH.pack(len(wire)) + wire)

    def dataReceived(self, data: bytes) -> None:
        if self.answer.called:
            return
        self._octets += data
        if len(self._octets) < 2:
            return
        (length,) = _LENGTH.unpack_from(self._octets)
        if len(self._octets) < 2 + length:
            return
        try:
            answer = read(self._query, self._octets[2 : 2 + length])
            if answer is None:
                raise Garbled("cut, even over TCP")
        except Garbled:
            self.answer.errback(Failure())  # type: ignore[no-untyped-call]
        else:
            self.answer.callback(answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answer.called:
            self.answer.errback(ConnectionLost())
