"""The channel to the next server: DANE, MTA-STS, and what messages ask for."""

from __future__ import annotations

from pathlib import Path

from zope.interface import implementer

from tests.delivery.fakes import Ledger
from tests.delivery.peer import OFFERS
from tests.delivery.test_smtp import BOB, DEFERRED, DELIVERED, FAILED, AgentCase
from tests.net.chain import certificate, written
from twisted_mta.delivery.smtp.agent import SmtpAgent
from twisted_mta.delivery.smtp.security import Announced
from twisted_mta.delivery.smtp.settings import Settings, Tls
from twisted_mta.delivery.smtp.tlsmemory import Recall, TlsMemory
from twisted_mta.errors import ResolverUnavailable, Temporary
from twisted_mta.interfaces import ITlsResults
from twisted_mta.mail.envelope import Handling
from twisted_mta.mail.stspolicy import Mode, StsPolicy
from twisted_mta.mail.tlsa import Tlsa
from twisted_mta.mail.tlsreport import Kind
from twisted_mta.net.tls import ServerTls
from twisted_mta.net.verification import tlsa_of

STARTTLS = (*OFFERS, "STARTTLS", "REQUIRETLS")
OPTIONAL = b"TLS-Required: No\r\nSubject: hello\r\n\r\nhello\r\n"
STRICT = {"handling": Handling(require_tls=True)}
WAIVED = {"handling": Handling(tls_waived=True)}


class Policies:
    """What domains say of themselves."""

    def __init__(self, said):
        self.said = said
        self.asked = []

    async def of(self, domain):
        self.asked.append(domain)
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


@implementer(ITlsResults)
class Results:
    """Remembers what was counted."""

    def __init__(self):
        self.counted = []

    def count(self, domain, policy, failure):
        self.counted.append((domain, policy, failure))


class ChannelCase(AgentCase):
    """C{there.test} and its host are signed; the host has a certificate of its name,
    by an authority."""

    def setUp(self):
        super().setUp()
        self.directory = Path(self.mktemp())
        self.root = certificate("root", authority=True)
        self.shown = certificate("leaf", self.root, names=("mx.there.test",))
        self.trust = self.directory / "root.pem"
        self.names.signed = {"there.test", "mx.there.test"}
        self.results = Results()
        self.policies = None
        self.memory = None

    def secured(self, offers=STARTTLS, interface="127.0.0.1", **more):
        """A peer with that certificate."""
        tls = ServerTls([written(self.directory, self.shown, self.root)])
        self.trust.write_bytes(self.root.pem)
        return self.peer(interface, offers=offers, tls=tls, **more)

    def pin(self, *records, host="mx.there.test"):
        """Records of the host."""
        self.names.tlsa_records[f"_{self.port}._tcp.{host}"] = records

    def agent(self, **settings):
        values = {"hostname": "here.test", "port": self.port, "loopback": True}
        made = SmtpAgent(
            self.clock,
            self.names,
            Settings(**{**values, "tls": Tls.DANE, "trust": self.trust, **settings}),
            tuple,
            self.policies,
            self.results,
            self.memory,
        )
        self.agents.append(made)
        return made

    async def sent(self, proof, agent=None, *arguments, **named):
        """Deliver; it arrives over a channel of which that is known."""
        outcomes = await self.deliver(agent, *arguments, **named)
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.assertRegex(outcomes[BOB].tls, rf"^TLSv1\.3 TLS_\w+ \({proof}\)$")

    async def waits(self, status, word, agent=None, **named):
        """Try to deliver; it does not arrive now, nor anything of it."""
        outcomes = await self.deliver(agent, **named)
        self.assertIn(word, self.says(outcomes, BOB, DEFERRED, status))
        for peer in self.peers:
            self.assertNotIn("MAIL", peer.verbs())

    def failures(self):
        """What was counted of one domain: kind and result."""
        self.assertEqual({one[0] for one in self.results.counted}, {"there.test"})
        return [
            (policy.kind, failure and failure.result)
            for _, policy, failure in self.results.counted
        ]


class DaneTests(ChannelCase):
    """RFC 7672."""

    async def test_pinned(self):
        """The host has the certificate that the DNS says, whatever else is wrong with
        it."""
        self.shown = certificate("x", names=("other.test",), days=(-3, -1))
        self.secured()
        self.pin(Tlsa(3, 1, 1, b"x" * 32), tlsa_of(self.shown.certificate))
        await self.sent("dane")
        self.assertEqual(self.failures(), [(Kind.TLSA, None)])

    async def test_h51_dane_mismatch(self):
        """Another certificate: it waits, and does not go in the clear."""
        peer = self.secured()
        self.pin(Tlsa(3, 1, 1, b"x" * 32))
        await self.waits("4.7.5", "TLSA")
        self.assertEqual(peer.connections, 1)
        self.assertEqual(self.failures(), [(Kind.TLSA, "validation-failure")])
        (failure,) = [one[2] for one in self.results.counted]
        self.assertEqual(failure.ours, "127.0.0.1")
        self.assertEqual((failure.host, failure.theirs), ("mx.there.test", "127.0.0.1"))

    async def test_h51_dane_long(self):
        """Of records that hold whole certificates little is counted."""
        self.secured()
        self.pin(*(Tlsa(3, 0, 0, bytes([number]) * 2000) for number in range(32)))
        await self.waits("4.7.5", "TLSA")
        ((_, policy, _),) = self.results.counted
        self.assertLess(len(repr(policy)), 4000)

    async def test_h51_dane_stripped(self):
        """A host that has TLSA records has TLS (against downgrades)."""
        self.secured(offers=OFFERS)
        self.pin(tlsa_of(self.shown.certificate))
        await self.waits("4.7.4", "does not offer it")
        self.assertEqual(self.failures(), [(Kind.TLSA, "starttls-not-supported")])

    async def test_h51_dane_bogus(self):
        """Whether there are records cannot be known: the host is not spoken to, and
        another may be."""
        peer = self.secured()
        self.names.tlsa_records = {
            f"_{self.port}._tcp.mx.there.test": ResolverUnavailable()
        }
        await self.waits("4.7.5", "cannot be known")
        self.assertEqual(peer.connections, 0)
        self.assertEqual(self.failures(), [(Kind.TLSA, "dnssec-invalid")])
        self.names._mx["there.test"].append((20, "mx2.there.test"))
        self.names._addresses["mx2.there.test"] = ["127.0.0.1"]
        await self.sent("none")

    async def test_unsigned(self):
        """Of a host whose addresses are not authentic no records are asked for."""
        self.names.signed = {"there.test"}
        self.secured()
        self.pin(Tlsa(3, 1, 1, b"x" * 32))
        await self.sent("none")
        self.assertNotIn(f"_{self.port}._tcp.mx.there.test", self.names.asked)
        self.assertEqual(self.failures(), [(Kind.NONE, None)])

    async def test_forged_exchanger(self):
        """Records count where the MX records are not authentic, but are worth less."""
        self.names.signed = {"mx.there.test"}
        self.secured()
        self.pin(tlsa_of(self.shown.certificate))
        await self.sent("dane-host")
        self.pin(Tlsa(3, 1, 1, b"x" * 32))
        self.peers[0].heard.clear()
        await self.waits("4.7.5", "TLSA", self.agent())

    async def test_unusable(self):
        """Records of no use ask for TLS, with anybody."""
        peer = self.secured()
        self.pin(Tlsa(1, 1, 1, b"x" * 32), Tlsa(3, 1, 1, b"x"))
        await self.sent("none")
        await self.peers.pop().stop()
        peer = self.secured(offers=OFFERS)
        await self.waits("4.7.4", "does not offer it", self.agent())
        self.assertEqual(peer.connections, 1)

    async def test_only(self):
        """With dane-only there is no mail without DANE."""
        self.secured()
        agent = self.agent(tls=Tls.DANE_ONLY)
        await self.waits("4.7.5", "no TLSA records", agent)
        self.pin(Tlsa(1, 1, 1, b"x" * 32))
        await self.waits("4.7.5", "no TLSA records", agent)
        self.pin(tlsa_of(self.shown.certificate))
        self.names.signed = {"mx.there.test"}
        await self.waits("4.7.5", "no TLSA records", agent)
        self.assertEqual(self.failures(), [(Kind.TLSA, "dane-required")] * 3)
        self.names.signed.add("there.test")
        await self.sent("dane", agent)

    async def test_names(self):
        """With an authority of the DNS the certificate is of the host or the domain,
        and of the domain only if that is authentic."""
        anchor = tlsa_of(self.root.certificate, 2)
        for names, signed, right in (
            (("mx.there.test",), {"there.test"}, True),
            (("there.test",), {"there.test"}, True),
            (("there.test",), set(), False),
            (("other.test",), {"there.test"}, False),
        ):
            self.names.signed = {"mx.there.test", *signed}
            self.shown = certificate("leaf", self.root, names=names)
            self.port = 0
            self.secured()
            self.pin(anchor)
            outcomes = await self.deliver()
            self.assertIs(outcomes[BOB].result is DELIVERED, right, names)

    async def test_aliases(self):
        """Records are looked for under the name that an alias leads to, then under the
        alias; under the alias alone if where it leads is not authentic."""
        self.secured()
        right, wrong = tlsa_of(self.shown.certificate), Tlsa(3, 1, 1, b"x" * 32)
        self.names.aliases["mx.there.test"] = "host.test"
        self.names.signed.add("host.test")
        self.pin(right, host="host.test")
        self.pin(wrong)
        await self.sent("dane")
        self.names.tlsa_records.clear()
        self.pin(right)
        await self.sent("dane", self.agent())
        self.pin(wrong, host="host.test")
        self.names.signed.remove("host.test")
        await self.sent("dane", self.agent())

    async def test_operators_host(self):
        """A host that the operator named may have records too; nobody is told."""
        self.secured()
        self.pin(tlsa_of(self.shown.certificate))
        await self.sent("dane", next_hop="[mx.there.test]")
        self.assertEqual(self.results.counted, [])

    async def test_waived(self):
        """What says that it needs no TLS goes in spite of records (RFC 8689 5), be they
        wrong or not to be known; what comes after it does not, though the connection is
        there."""
        peer = self.secured()
        self.pin(Tlsa(3, 1, 1, b"x" * 32))
        agent = self.agent()
        await self.sent("none", agent, content=OPTIONAL)
        self.assertEqual(len(peer.messages), 1)
        peer.heard.clear()
        await self.waits("4.7.5", "TLSA", agent)
        outcomes = await self.deliver(agent, content=OPTIONAL, **STRICT)
        self.assertIsNot(outcomes[BOB].result, DELIVERED)
        name = f"_{self.port}._tcp.mx.there.test"
        self.names.tlsa_records[name] = ResolverUnavailable()
        await self.sent("none", agent, content=OPTIONAL)

    async def test_own(self):
        """A report of this server is neither held up nor counted."""
        self.secured()
        self.pin(Tlsa(3, 1, 1, b"x" * 32))
        await self.sent("none", None, **WAIVED)
        self.assertEqual(self.results.counted, [])

    async def test_require_tls(self):
        """REQUIRETLS goes to a host that the DNS vouches for, as far as that."""
        peer = self.secured()
        self.pin(tlsa_of(self.shown.certificate))
        await self.sent("dane", None, **STRICT)
        self.assertTrue(peer.heard[3].endswith(" REQUIRETLS"), peer.heard)
        self.names.signed.remove("there.test")
        outcomes = await self.deliver(self.agent(), **STRICT)
        self.says(outcomes, BOB, FAILED, "5.7.30")
        self.names.signed.add("there.test")
        self.pin(Tlsa(3, 1, 1, b"x" * 32))
        outcomes = await self.deliver(self.agent(), **STRICT)
        self.says(outcomes, BOB, DEFERRED, "4.7.5")
        self.assertEqual(len(peer.messages), 1)

    async def test_implicit(self):
        """TLS from the first octet is judged before anything is said."""

        def begin(protocol):
            protocol.transport.startTLS(protocol.peer.tls)
            protocol.transport.write(b"220 peer.test\r\n")

        peer = self.secured(GREETING=begin)
        self.pin(Tlsa(3, 1, 1, b"x" * 32))
        agent = self.agent(implicit_tls=True)
        await self.waits("4.7.5", "TLSA", agent)
        self.assertEqual(peer.heard, [])
        self.pin(tlsa_of(self.shown.certificate))
        await self.sent("dane", agent)


class StsTests(ChannelCase):
    """RFC 8461."""

    def setUp(self):
        super().setUp()
        self.names.signed = set()
        self.announce()

    def announce(self, mode=Mode.ENFORCE, hosts=("mx.there.test",), result=""):
        said = Announced(StsPolicy(mode, hosts, 86400))
        self.policies = Policies(Announced(None, result) if result else said)

    async def test_enforced(self):
        """A host of the policy with a certificate of its name gets the mail."""
        self.secured()
        await self.sent("sts")
        self.assertEqual(self.policies.asked, ["there.test"])
        ((domain, policy, failure),) = self.results.counted
        self.assertEqual((domain, failure), ("there.test", None))
        self.assertEqual((policy.kind, policy.domain), (Kind.STS, "there.test"))
        self.assertEqual(policy.hosts, ("mx.there.test",))
        self.assertIn("mode: enforce", policy.strings)

    async def test_h51_sts_certificates(self):
        """One of another name, or that has ended, or that nobody vouches for, gets
        none; nor one without TLS."""
        for word, shown, result in (
            ("name", ("leaf", self.root, {"names": ("x.test",)}), "host-mismatch"),
            ("time", ("leaf", self.root, {"days": (-3, -1)}), "expired"),
            ("vouches", ("leaf", None, {}), "not-trusted"),
        ):
            with self.subTest(word):
                *first, more = shown
                more = {"names": ("mx.there.test",), **more}
                self.shown = certificate(*first, **more)
                self.port = 0
                self.results.counted.clear()
                peer = self.secured()
                await self.waits("4.7.5", "sts: ")
                self.assertEqual(peer.connections, 1)
                self.assertEqual(self.failures(), [(Kind.STS, f"certificate-{result}")])
        self.port = 0
        self.secured(offers=OFFERS)
        await self.waits("4.7.4", "does not offer it")

    async def test_h51_sts_other_host(self):
        """A host that the policy does not name is not spoken to."""
        self.announce(hosts=("*.mx.there.test", "there.test"))
        peer = self.secured()
        await self.waits("4.7.5", "is not in the MTA-STS policy of there.test")
        self.assertEqual(peer.connections, 0)
        self.assertEqual(self.failures(), [(Kind.STS, "validation-failure")])
        self.announce(hosts=("*.there.test",))
        await self.sent("sts")

    async def test_testing(self):
        """In testing mode what is wrong is counted, and the mail goes."""
        self.announce(Mode.TESTING)
        self.secured()
        await self.sent("sts")
        self.shown = certificate("leaf", names=("mx.there.test",))
        self.port = 0
        self.secured()
        await self.sent("none")
        self.announce(Mode.TESTING, ("other.test",))
        await self.sent("none", self.agent())
        self.port = 0
        self.secured(offers=OFFERS)
        self.announce(Mode.TESTING)
        outcomes = await self.deliver(self.agent())
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.assertEqual(outcomes[BOB].tls, "")
        self.assertEqual(
            self.failures(),
            [
                (Kind.STS, None),
                (Kind.STS, "certificate-not-trusted"),
                (Kind.STS, "validation-failure"),
                (Kind.STS, "starttls-not-supported"),
            ],
        )

    async def test_none(self):
        """A policy of mode none, and none at all, ask for nothing; one that is said to
        be there and is not to be had is told to the domain."""
        self.announce(Mode.NONE, ())
        self.secured(offers=OFFERS)
        await self.deliver()
        self.announce(result="sts-policy-fetch-error")
        outcomes = await self.deliver(self.agent())
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.assertEqual(
            self.failures(),
            [
                (Kind.NONE, "starttls-not-supported"),
                (Kind.STS, "starttls-not-supported"),
            ],
        )
        self.port = 0
        self.secured()
        await self.sent("none")
        self.assertEqual(self.failures()[-1], (Kind.STS, "sts-policy-fetch-error"))

    async def test_dane_first(self):
        """DANE counts more than a policy (RFC 8461 2), be it right or wrong; where the
        MX records are not authentic the policy must name the host all the same."""
        self.names.signed = {"there.test", "mx.there.test"}
        self.announce(hosts=("other.test",))
        self.secured()
        self.pin(tlsa_of(self.shown.certificate))
        await self.sent("dane")
        self.peers[0].heard.clear()
        self.names.signed.remove("there.test")
        await self.waits("4.7.5", "MTA-STS", self.agent())
        self.announce()
        self.pin(Tlsa(3, 1, 1, b"x" * 32))
        await self.waits("4.7.5", "dane-host: ", self.agent())
        self.pin(Tlsa(1, 1, 1, b"x" * 32))
        await self.sent("sts", self.agent())

    async def test_not_known_now(self):
        """While the ledger is away nobody knows what was promised."""
        self.policies = Policies(Temporary("The ledger is away"))
        peer = self.secured()
        await self.waits("4.3.0", "The ledger is away")
        self.assertEqual(peer.connections, 0)

    async def test_whom_it_is_for(self):
        """A policy is of a domain: a host that the operator named, an agent that
        verifies or does no TLS asks for none; one that says 'may' does."""
        self.announce(hosts=())
        peer = self.secured()
        await self.sent("none", next_hop="[mx.there.test]")
        await self.sent("pkix", self.agent(tls=Tls.VERIFY))
        outcomes = await self.deliver(self.agent(tls=Tls.NONE))
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.assertEqual(self.policies.asked, [])
        peer.heard.clear()
        await self.waits("4.7.5", "MTA-STS", self.agent(tls=Tls.MAY))

    async def test_waived(self):
        """What minds no TLS goes in spite of a policy (RFC 8689 5)."""
        self.announce(hosts=("other.test",))
        self.secured()
        await self.sent("none", content=OPTIONAL)

    async def test_require_tls(self):
        """REQUIRETLS goes to a host that an enforced policy names; a policy in testing
        does not say enough, and one that is not to be had now may later."""
        peer = self.secured()
        await self.sent("sts", None, **STRICT)
        self.assertTrue(peer.heard[3].endswith(" REQUIRETLS"), peer.heard)
        self.announce(Mode.TESTING)
        outcomes = await self.deliver(self.agent(), **STRICT)
        self.says(outcomes, BOB, FAILED, "5.7.30")
        self.announce(result="sts-policy-fetch-error")
        outcomes = await self.deliver(self.agent(), **STRICT)
        self.says(outcomes, BOB, DEFERRED, "4.7.30")
        self.assertEqual(len(peer.messages), 1)


class MemoryTests(ChannelCase):
    """Hosts that had TLS."""

    def setUp(self):
        super().setUp()
        self.ledger = Ledger()
        self.clock.advance(1_700_000_000)
        self.recall(Recall.DEFER)

    def recall(self, what):
        self.memory = TlsMemory(self.clock, self.ledger, what, 86400.0)

    async def again(self, **offers):
        """The host, anew."""
        await self.peers.pop().stop()
        self.secured(**offers)

    async def test_h51_tls_missed(self):
        """Mail for a host that had TLS waits a day for it, from when it was missed
        first; then it goes. That is written once."""
        self.secured()
        await self.sent("none")
        await self.again(offers=OFFERS)
        self.clock.advance(7 * 86400)
        await self.waits("4.7.5", "had TLS lately", self.agent())
        self.clock.advance(86399)
        await self.waits("4.7.5", "had TLS lately", self.agent())
        self.assertEqual(self.ledger.writes, 2)
        self.recall(Recall.DEFER)  # after a restart
        self.clock.advance(2)
        outcomes = await self.deliver(self.agent())
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        await self.again()
        await self.sent("none", self.agent())
        await self.again(offers=OFFERS)
        await self.waits("4.7.5", "had TLS lately", self.agent())

    async def test_missed_twice(self):
        """TLS that came back and is gone again is missed anew."""
        self.secured()
        await self.sent("none")
        await self.again(offers=OFFERS)
        await self.waits("4.7.5", "had TLS lately", self.agent())
        await self.again()
        self.clock.advance(3600)
        await self.sent("none", self.agent())
        await self.again(offers=OFFERS)
        self.clock.advance(86400)
        await self.waits("4.7.5", "had TLS lately", self.agent())

    async def test_broken(self):
        """A handshake that fails is no TLS either."""
        self.secured()
        await self.sent("none")
        await self.again(STARTTLS="454 4.7.0 Not now")
        await self.waits("4.7.5", "had TLS lately", self.agent())

    async def test_long_ago(self):
        """A month later it counts no more; a host that never had TLS is spoken to."""
        self.secured()
        await self.sent("none")
        await self.again(offers=OFFERS)
        self.clock.advance(30 * 86400)
        outcomes = await self.deliver(self.agent())
        self.says(outcomes, BOB, DELIVERED, "2.0.0")

    async def test_warn(self):
        """It may be said in the log alone, or not at all."""
        self.secured()
        await self.sent("none")
        await self.again(offers=OFFERS)
        for what in (Recall.WARN, Recall.NONE):
            self.recall(what)
            outcomes = await self.deliver(self.agent())
            self.says(outcomes, BOB, DELIVERED, "2.0.0")
            self.assertEqual(self.ledger.writes, 2)

    async def test_once_a_day(self):
        """A host is written down at most once a day, by all processes."""
        self.secured()
        for _ in range(3):
            await self.sent("none", self.agent())
            self.recall(Recall.WARN)
        self.assertEqual(self.ledger.writes, 1)
        self.clock.advance(86400)
        await self.sent("none", self.agent())
        self.assertEqual(
            self.ledger.rows("SELECT host, last, days, missed_at FROM tls_memory"),
            [("mx.there.test", self.clock.seconds(), 2, 0)],
        )

    async def test_never(self):
        """A host without TLS costs a look into the ledger now and then; that it has TLS
        is seen at once."""
        looks = []
        lookup = self.ledger.lookup
        self.patch(
            self.ledger, "lookup", lambda query: looks.append(1) or lookup(query)
        )
        self.secured(offers=OFFERS)
        for _ in range(3):
            await self.deliver(self.agent())
        self.assertEqual(len(looks), 1)
        self.clock.advance(300)
        await self.deliver(self.agent())
        self.assertEqual(len(looks), 2)
        await self.again()
        await self.sent("none", self.agent())
        await self.again(offers=OFFERS)
        await self.waits("4.7.5", "had TLS lately", self.agent())

    async def test_ledger_away(self):
        """While the ledger is away mail goes as it does."""
        self.ledger.down = True
        self.secured(offers=OFFERS)
        outcomes = await self.deliver()
        self.says(outcomes, BOB, DELIVERED, "2.0.0")

    async def test_waived(self):
        """What minds no TLS waits for none; nor does an agent that wants none."""
        self.secured()
        await self.sent("none")
        await self.again(offers=OFFERS)
        for agent, more in (
            (self.agent(), WAIVED),
            (self.agent(), {"content": OPTIONAL}),
            (self.agent(tls=Tls.NONE), {}),
        ):
            outcomes = await self.deliver(agent, **more)
            self.says(outcomes, BOB, DELIVERED, "2.0.0")
