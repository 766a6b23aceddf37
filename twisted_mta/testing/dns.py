"""A small DNS server on the loopback, for tests of what asks the DNS.

It answers from a L{Zone} over UDP and TCP and can be told to misbehave. It is
authoritative for everything: what the zone does not hold does not exist, so no
test reaches the real DNS. It follows aliases within the zone, as a recursive
server does. Alone in a process: C{python -m twisted_mta.testing.dns ZONEFILE
--port N}.

A zone is lines of C{name TYPE data}, names absolute with or without the last
dot, C{;} before a comment::

    example.org      MX        10 mx.example.org
    mx.example.org   A         127.0.0.1
    nomail.example   MX        0 .
    broken.example   SERVFAIL
    long.example     TRUNCATED
    slow.example     DELAY     2.5
    silent.example   SILENT
    stalled.example  STALLED
    mx.example.org   SIGNED

C{TRUNCATED} names are cut over UDP and whole over TCP; C{STALLED} ones are cut
over UDP and never answered over TCP; C{SILENT} ones are never answered. Of C{SIGNED}
ones it says that it validated the answer, if the names of all aliases on the way are.
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort

_LENGTH = struct.Struct("!H")
_MOST_CNAMES = 16
_SOA = "ns.test. hostmaster.test. 1 3600 600 86400 60"
_MANNERS = frozenset({"SERVFAIL", "TRUNCATED", "DELAY", "SILENT", "STALLED", "SIGNED"})

_Records = dict[dns.rdatatype.RdataType, dns.rrset.RRset]


@dataclass(slots=True)
class Zone:
    """What a server answers; it may be changed while it serves.

    @ivar records: by name and type.
    @ivar manners: how a name misbehaves, with the word's argument.
    """

    records: dict[dns.name.Name, _Records] = field(
        default_factory=lambda: defaultdict(dict)
    )
    manners: dict[dns.name.Name, dict[str, str]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    @classmethod
    def parse(cls, text: str, ttl_s: int = 300) -> Zone:
        """A zone from its lines.

        @raise ValueError: a line cannot be read; says which.
        """
        zone = cls()
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition(";")[0].split(maxsplit=2)
            if words:
                try:
                    zone.add(*words, ttl_s=ttl_s)
                except (dns.exception.DNSException, TypeError, ValueError) as error:
                    raise ValueError(f"line {number}: {line.strip()!r}: {error}")
        return zone

    def add(self, name: str, kind: str, data: str = "", *, ttl_s: int = 300) -> None:
        """Add a record, or a way to misbehave."""
        owner = dns.name.from_text(name.lower())
        if kind in _MANNERS:
            self.manners[owner][kind] = data
            return
        rdata = dns.rdata.from_text(
            dns.rdataclass.IN, kind, data, origin=dns.name.root, relativize=False
        )
        if rdata.rdtype not in self.records[owner]:
            self.records[owner][rdata.rdtype] = dns.rrset.RRset(
                owner, dns.rdataclass.IN, rdata.rdtype
            )
        self.records[owner][rdata.rdtype].add(rdata, ttl_s)

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """The answer to a question, however long."""
        response = dns.message.make_response(query, recursion_available=True)
        asked = query.question[0]
        name = dns.name.from_text(asked.name.to_text().lower())
        if "SERVFAIL" in self.manners.get(name, ()):
            response.set_rcode(dns.rcode.SERVFAIL)
            return response
        response.flags |= dns.flags.AD
        for _ in range(_MOST_CNAMES):
            if "SIGNED" not in self.manners.get(name, ()):
                response.flags &= ~dns.flags.AD
            records = self.records.get(name, {})
            if asked.rdtype in records:
                response.answer.append(records[asked.rdtype])
                return response
            if dns.rdatatype.CNAME not in records:
                break
            alias = records[dns.rdatatype.CNAME]
            response.answer.append(alias)
            name = cast(Any, alias[0]).target
        if not any(other.is_subdomain(name) for other in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority.append(
            dns.rrset.from_text(dns.name.root, 300, "IN", "SOA", _SOA)
        )
        return response


class DnsServer:
    """Serves a zone on 127.0.0.1, UDP and TCP on one port.

    @ivar zone: what it answers.
    @ivar asked: every question so far, as C{"UDP MX example.org"}.
    """

    def __init__(self, reactor: Any, zone: Zone) -> None:
        """
        @param reactor: the real one.
        """
        self.zone = zone
        self.asked: list[str] = []
        self._reactor = reactor
        self._ports: list[IListeningPort] = []
        self._talking: set[_Tcp] = set()

    def start(self, port: int = 0) -> tuple[str, int]:
        """Listen.

        @return: host and port, as a resolver takes them.
        """
        tcp = self._reactor.listenTCP(
            port, Factory.forProtocol(lambda: _Tcp(self)), interface="127.0.0.1"
        )
        number = tcp.getHost().port
        udp = self._reactor.listenUDP(number, _Udp(self), interface="127.0.0.1")
        self._ports = [tcp, udp]
        return "127.0.0.1", number

    async def stop(self) -> None:
        """Close the ports and what is open on them."""
        for talking in set(self._talking):
            cast(Any, talking.transport).abortConnection()
        for port in self._ports:
            await maybeDeferred(port.stopListening)

    def respond(self, wire: bytes, way: str) -> tuple[float, bytes | None]:
        """What is answered over UDP or TCP: after how many seconds, and the
        message or nothing."""
        query = dns.message.from_wire(wire)
        asked = query.question[0]
        kind, text = dns.rdatatype.to_text(asked.rdtype), asked.name.to_text(True)
        self.asked.append(f"{way} {kind} {text}")
        manners = self.zone.manners.get(dns.name.from_text(text.lower()), {})
        if "SILENT" in manners or ("STALLED" in manners and way == "TCP"):
            return 0, None
        response = self.zone.answer(query)
        octets = response.to_wire(max_size=65535)
        if way == "UDP" and (
            "TRUNCATED" in manners or "STALLED" in manners or len(octets) > 1232
        ):
            response.answer.clear()
            response.flags |= dns.flags.TC
            octets = response.to_wire()
        return float(manners.get("DELAY", 0)), octets

    def later(self, delay_s: float, say: Any, *arguments: Any) -> None:
        """Answer now, or after a while."""
        if delay_s:
            self._reactor.callLater(delay_s, say, *arguments)
        else:
            say(*arguments)


class _Udp(DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        delay_s, answer = self._server.respond(datagram, "UDP")
        if answer is not None:
            self._server.later(delay_s, self._say, answer, addr)

    def _say(self, answer: bytes, addr: Any) -> None:
        if self.transport is not None:
            cast(Any, self.transport).write(answer, addr)


class _Tcp(Protocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._octets = b""

    def connectionMade(self) -> None:
        self._server._talking.add(self)

    def connectionLost(self, reason: object = None) -> None:
        self._server._talking.discard(self)

    def dataReceived(self, data: bytes) -> None:
        self._octets += data
        while len(self._octets) >= 2:
            (length,) = _LENGTH.unpack_from(self._octets)
            if len(self._octets) < 2 + length:
                return
            wire = self._octets[2 : 2 + length]
            self._octets = self._octets[2 + length :]
            delay_s, answer = self._server.respond(wire, "TCP")
            if answer is not None:
                octets = _LENGTH.pack(len(answer)) + answer
                transport = cast(ITransport, self.transport)
                self._server.later(delay_s, transport.write, octets)


def main(arguments: list[str]) -> None:
    """Serve a zone file until interrupted; says C{HOST:PORT} once it listens."""
    from twisted.internet import reactor

    parser = argparse.ArgumentParser(prog="python -m twisted_mta.testing.dns")
    parser.add_argument("zone", type=Path, help="the zone file")
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    options = parser.parse_args(arguments)
    server = DnsServer(reactor, Zone.parse(options.zone.read_text()))
    host, port = server.start(options.port)
    print(f"{host}:{port}", flush=True)
    cast(Any, reactor).run()


if __name__ == "__main__":
    main(sys.argv[1:])
