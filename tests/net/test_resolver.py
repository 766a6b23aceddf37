"""The resolver against a server on the loopback, and against octets of chance."""

import struct
from unittest import TestCase as PlainCase

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from twisted_mta.errors import NoSuchDomain, ResolverUnavailable
from twisted_mta.interfaces import IResolver
from twisted_mta.mail.lookup import Exchange, Located
from twisted_mta.mail.tlsa import UNREADABLE, Tlsa
from twisted_mta.net.dns import Garbled, question, read
from twisted_mta.net.resolver import Resolver, system_hosts, system_servers
from twisted_mta.testing.dns import DnsServer, Zone

ZONE = """
example.org       MX  20 mx2.example.org      ; the worse first
example.org       MX  10 MX1.example.org
mx1.example.org   A     192.0.2.1
mx1.example.org   AAAA  2001:db8::1
mx2.example.org   A     192.0.2.2
example.org       TXT   "v=spf1 " "-all"
nomail.example    MX    0 .
bare.example      A     192.0.2.3
alias.example     CNAME bare.example
loop.example      CNAME pool.example
pool.example      CNAME loop.example
broken.example    SERVFAIL
silent.example    SILENT
long.example      TRUNCATED
long.example      TXT   "whole over TCP"
stalled.example   STALLED
stalled.example   MX    10 mx1.example.org
1.2.0.192.in-addr.arpa  PTR mx1.example.org
_25._tcp.mx1.example.org TLSA 3 1 0 00ff
signed.example    SIGNED
signed.example    MX    10 mx.signed.example
mx.signed.example SIGNED
mx.signed.example A     192.0.2.4
_25._tcp.mx.signed.example SIGNED
_25._tcp.mx.signed.example TLSA 3 1 0 00ff
_25._tcp.mx.signed.example TLSA 9 9 9 00
away.signed.example SIGNED
away.signed.example CNAME bare.example
near.signed.example SIGNED
near.signed.example CNAME mx.signed.example
into.example      CNAME mx.signed.example
bogus.signed.example SERVFAIL
"""


class Handset(Clock):
    """The real reactor's sockets by a clock that the test moves."""

    listenUDP = reactor.listenUDP
    connectTCP = reactor.connectTCP


class ResolverTests(TestCase):
    def setUp(self):
        self.server = DnsServer(reactor, Zone.parse(ZONE))
        self.clock = Handset()
        self.resolver = Resolver(self.clock, [self.server.start()])

    def tearDown(self):
        return ensureDeferred(self.server.stop())

    async def until_asked(self, count):
        """Until the server has heard so many questions."""
        while len(self.server.asked) < count:
            turn = Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn

    def test_interface(self):
        """The resolver is an IResolver."""
        self.assertTrue(verifyObject(IResolver, self.resolver))

    async def test_mx(self):
        """Mail servers come by preference, lower case, without the last dot."""
        self.assertEqual(
            await self.resolver.mx("Example.ORG"),
            [(10, "mx1.example.org"), (20, "mx2.example.org")],
        )

    async def test_null_mx(self):
        """A null MX is told from none (RFC 7505)."""
        self.assertEqual(await self.resolver.mx("nomail.example"), [(0, "")])
        self.assertEqual(await self.resolver.mx("bare.example"), [])

    async def test_no_such_domain(self):
        """A domain that does not exist, or never can, is known not to."""
        for name in ("nowhere.example", "a..b", "x" * 64 + ".org", "ü.example"):
            with self.assertRaises(NoSuchDomain):
                await self.resolver.mx(name)

    async def test_addresses(self):
        """A host has its IPv6 and IPv4 addresses; aliases are followed."""
        self.assertEqual(
            await self.resolver.addresses("mx1.example.org"),
            ["2001:db8::1", "192.0.2.1"],
        )
        self.assertEqual(await self.resolver.addresses("alias.example"), ["192.0.2.3"])
        self.assertEqual(await self.resolver.addresses("nowhere.example"), [])

    async def test_literals_and_localhost(self):
        """Addresses, localhost and names of the hosts file are not asked for."""
        resolver = Resolver(
            self.clock, [("127.0.0.1", 9)], hosts={"mail": ["192.0.2.9"]}
        )
        self.assertEqual(await resolver.addresses("192.0.2.7"), ["192.0.2.7"])
        self.assertEqual(await resolver.addresses("2001:DB8:0::7"), ["2001:db8::7"])
        self.assertEqual(await resolver.addresses("Localhost"), ["::1", "127.0.0.1"])
        self.assertEqual(await resolver.addresses("MAIL"), ["192.0.2.9"])

    async def test_txt_and_ptr(self):
        """The strings of a TXT record are joined; addresses have names."""
        self.assertEqual(await self.resolver.txt("example.org"), [b"v=spf1 -all"])
        self.assertEqual(await self.resolver.ptr("192.0.2.1"), ["mx1.example.org"])
        self.assertEqual(await self.resolver.ptr("2001:db8::1"), [])

    async def test_any_type(self):
        """Any type can be asked for, and an unsigned answer says so."""
        answer = await self.resolver.query(
            "_25._tcp.mx1.example.org", dns.rdatatype.TLSA
        )
        self.assertEqual(len(answer.records), 1)
        self.assertFalse(answer.authentic)

    async def test_authentic(self):
        """What the servers validated is known to be so, if they are believed in that;
        aliases count."""
        for believed in (False, True):
            resolver = Resolver(self.clock, self.resolver._servers, validating=believed)
            mx = ((10, "mx.signed.example"),)
            self.assertEqual(
                await resolver.exchange("signed.example"),
                Exchange(mx, "signed.example", believed),
            )
            self.assertEqual(
                await resolver.locate("mx.signed.example"),
                Located(("192.0.2.4",), "mx.signed.example", believed),
            )
            self.assertEqual(
                await resolver.locate("near.signed.example"),
                Located(("192.0.2.4",), "mx.signed.example", believed),
            )
            self.assertEqual(
                await resolver.locate("away.signed.example"),
                Located(("192.0.2.3",), "bare.example", False, believed),
            )
            self.assertEqual(
                await resolver.locate("into.example"),
                Located(("192.0.2.4",), "mx.signed.example"),
            )
            self.assertFalse((await resolver.exchange("example.org")).secure)
            self.assertFalse((await resolver.locate("192.0.2.1")).secure)
            self.assertFalse((await resolver.locate("localhost")).secure)

    async def test_tlsa(self):
        """TLSA records are there if they are authentic; there are none, or nobody can
        tell, is not the same."""
        resolver = Resolver(self.clock, self.resolver._servers, validating=True)
        self.assertEqual(
            await resolver.tlsa("_25._tcp.mx.signed.example"),
            [Tlsa(3, 1, 0, b"\0\xff"), Tlsa(9, 9, 9, b"\0")],
        )
        self.assertEqual(list(await resolver.tlsa("_25._tcp.mx1.example.org")), [])
        self.assertEqual(list(await resolver.tlsa("_25._tcp.no.signed.example")), [])
        self.assertEqual(
            list(await self.resolver.tlsa("_25._tcp.mx.signed.example")), []
        )
        with self.assertRaises(ResolverUnavailable):
            await resolver.tlsa("bogus.signed.example")

    async def test_h51_tlsa_of_a_strange_form(self):
        """A record that cannot be read is still one; the others count."""
        respond = self.server.respond

        def spoilt(wire, way):
            delay_s, octets = respond(wire, way)
            return delay_s, octets.replace(b"\3\1\0\0\xff", b"\3\1\1\0\xff")

        self.patch(self.server, "respond", spoilt)
        resolver = Resolver(self.clock, self.resolver._servers, validating=True)
        self.assertEqual(
            await resolver.tlsa("_25._tcp.mx.signed.example"),
            [Tlsa(9, 9, 9, b"\0"), UNREADABLE],
        )
        self.assertFalse(UNREADABLE.usable)

    async def test_asked_for_signatures(self):
        """A server that is to validate is asked to say so by both bits."""
        name = dns.name.from_text("a.test")
        for validated in (False, True):
            asked = question(name, dns.rdatatype.MX, validated)
            self.assertTrue(asked.flags & dns.flags.AD)
            self.assertEqual(bool(asked.ednsflags & dns.flags.DO), validated)

    async def test_trouble(self):
        """SERVFAIL is no answer, and is not asked again within a second."""
        for _ in range(3):
            with self.assertRaises(ResolverUnavailable):
                await self.resolver.mx("broken.example")
        self.assertEqual(self.server.asked, ["UDP MX broken.example"] * 2)
        self.clock.advance(1)
        with self.assertRaises(ResolverUnavailable):
            await self.resolver.mx("broken.example")
        self.assertEqual(len(self.server.asked), 4)

    async def test_silence(self):
        """A server that does not answer is asked twice, then given up."""
        asking = ensureDeferred(self.resolver.mx("silent.example"))
        await self.until_asked(1)
        self.clock.advance(3)
        await self.until_asked(2)
        self.assertNoResult(asking)
        self.clock.advance(3)
        with self.assertRaises(ResolverUnavailable):
            await asking

    async def test_next_server(self):
        """A dead server is passed over, and asked last from then on."""
        dead = DnsServer(reactor, Zone())
        address = dead.start()
        await dead.stop()
        resolver = Resolver(self.clock, [address, *self.resolver._servers])
        self.assertEqual(await resolver.mx("nomail.example"), [(0, "")])
        self.assertEqual(resolver._servers[-1], address)

    async def test_truncated(self):
        """An answer that was cut is fetched whole over TCP."""
        self.assertEqual(await self.resolver.txt("long.example"), [b"whole over TCP"])
        self.assertEqual(
            self.server.asked, ["UDP TXT long.example", "TCP TXT long.example"]
        )

    async def test_cached(self):
        """What was answered holds for its TTL, that there is nothing too."""
        for _ in range(2):
            await self.resolver.txt("example.org")
            await self.resolver.txt("bare.example")
            await self.resolver.txt("nowhere.example")
        self.assertEqual(len(self.server.asked), 3)
        self.clock.advance(61)  # the SOA's minimum is 60
        await self.resolver.txt("bare.example")
        await self.resolver.txt("example.org")
        self.assertEqual(len(self.server.asked), 4)
        self.clock.advance(300)
        await self.resolver.txt("example.org")
        self.assertEqual(len(self.server.asked), 5)

    async def test_bounded_cache(self):
        """Only so many answers are kept; the ones not used for longest go."""
        resolver = Resolver(self.clock, self.resolver._servers, most_remembered=2)
        for name in ("example.org", "bare.example", "example.org", "long.example"):
            await resolver.mx(name)
        asked = len(self.server.asked)
        await resolver.mx("example.org")
        self.assertEqual(len(self.server.asked), asked)
        await resolver.mx("bare.example")
        self.assertEqual(len(self.server.asked), asked + 1)

    async def test_coalesced(self):
        """Who asks what is being asked waits for the one answer; one of them
        giving up takes nothing from the others."""
        asking = [ensureDeferred(self.resolver.mx("example.org")) for _ in range(5)]
        asking[0].cancel()
        self.failureResultOf(asking[0])
        answers = await gatherResults(asking[1:])
        self.assertEqual(len(answers[0]), 2)
        self.assertEqual(len(self.server.asked), 1)

    async def test_h51_cname_loop(self):
        """Aliases in a circle end, as no answer."""
        with self.assertRaises(ResolverUnavailable):
            await self.resolver.mx("loop.example")

    async def test_h51_cname_loop_across_answers(self):
        """So do aliases that come one by one, without end."""
        zone = self.server.zone
        whole = zone.answer

        def one_by_one(query):
            answer = whole(query)
            if answer.answer:
                del answer.answer[1:]
                answer.authority.clear()
            return answer

        for number in range(50):
            zone.add(f"{number}.chain.example", "CNAME", f"{number + 1}.chain.example")
        zone.add("50.chain.example", "TXT", "end")
        self.patch(Zone, "answer", lambda self, query: one_by_one(query))
        self.assertEqual(await self.resolver.txt("45.chain.example"), [b"end"])
        with self.assertRaises(ResolverUnavailable):
            await self.resolver.txt("0.chain.example")

    async def test_h51_dns_tcp_stall(self):
        """A server that cuts its answer and then says nothing over TCP is
        given up in the same time as one that is silent."""
        asking = ensureDeferred(self.resolver.mx("stalled.example"))
        for round_ in (1, 2):
            await self.until_asked(2 * round_)
            self.assertNoResult(asking)
            self.clock.advance(3)
        with self.assertRaises(ResolverUnavailable):
            await asking

    async def test_h51_thousand_mx(self):
        """1,000 mail servers are read, over TCP."""
        for number in range(1000):
            self.server.zone.add("many.example", "MX", f"{number} mx{number}.example")
        self.assertEqual(len(await self.resolver.mx("many.example")), 1000)

    async def test_forged(self):
        """An answer with another id, or to another question, and octets that
        are no message are passed over; the true answer is heard after them."""

        class Forger(DatagramProtocol):
            def datagramReceived(self, datagram, addr):
                (id_,) = struct.unpack("!H", datagram[:2])
                query = dns.message.from_wire(datagram)
                answer = Zone.parse("x.example TXT true").answer(query).to_wire()
                false = Zone.parse("x.example TXT false").answer(query).to_wire()
                other = Zone.parse("y.example TXT false").answer(
                    dns.message.make_query("y.example", "TXT", id=id_)
                )
                self.transport.write(struct.pack("!H", id_ ^ 1) + false[2:], addr)
                self.transport.write(other.to_wire(), addr)
                self.transport.write(b"\0" * 5, addr)
                self.transport.write(false[:-3], addr)
                self.transport.write(answer, addr)

        port = reactor.listenUDP(0, Forger(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        resolver = Resolver(self.clock, [("127.0.0.1", port.getHost().port)])
        self.assertEqual(await resolver.txt("x.example"), [b"true"])

    async def test_v6_server(self):
        """The server may be reached by IPv6."""

        class Server(DatagramProtocol):
            def datagramReceived(self, datagram, addr):
                answer = Zone.parse("x.example TXT six").answer(
                    dns.message.from_wire(datagram)
                )
                self.transport.write(answer.to_wire(), addr)

        port = reactor.listenUDP(0, Server(), interface="::1")
        self.addCleanup(port.stopListening)
        resolver = Resolver(self.clock, [("::1", port.getHost().port)])
        self.assertEqual(await resolver.txt("x.example"), [b"six"])

    def test_system_files(self):
        """resolv.conf and hosts are read as the C library does."""
        conf = self.mktemp()
        with open(conf, "w") as file:
            file.write("search x\nnameserver 192.0.2.53\n;\nnameserver 2001:db8::53\n")
        self.assertEqual(
            system_servers(conf), [("192.0.2.53", 53), ("2001:db8::53", 53)]
        )
        self.assertEqual(system_servers(conf + "-"), [("127.0.0.1", 53)])
        with open(conf, "w") as file:
            file.write("192.0.2.1 Mail mx # x\n::1 mail\n\nbad line\n# 1.2.3.4 x\n")
        self.assertEqual(
            system_hosts(conf), {"mail": ["192.0.2.1", "::1"], "mx": ["192.0.2.1"]}
        )


class GarbageTests(PlainCase):
    """Whatever arrives is an answer or Garbled."""

    query = question(dns.name.from_text("example.org"), dns.rdatatype.MX)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=200))
    def test_any_octets(self, octets):
        """Octets of chance are no answer."""
        for kind in (dns.rdatatype.MX, dns.rdatatype.TLSA):
            query = question(dns.name.from_text("example.org"), kind)
            with self.assertRaises(Garbled):
                read(query, octets)

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_damaged(self, data):
        """A damaged answer is read, or is Garbled; following it never loops."""
        wire = bytearray(Zone.parse(ZONE).answer(self.query).to_wire())
        for _ in range(data.draw(st.integers(1, 6))):
            wire[data.draw(st.integers(2, len(wire) - 1))] = data.draw(
                st.integers(0, 255)
            )
        try:
            answer = read(self.query, bytes(wire))
        except Garbled:
            return
        if answer is not None:
            self.assertTrue(answer.flags & dns.flags.QR)
