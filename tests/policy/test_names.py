"""Policies about names: of the client, at HELO, of the sender's domain."""

from zope.interface.verify import verifyObject

from tests.policy.case import HOST, Dns, PolicyCase, progress
from twisted_mta.interfaces import IPolicy
from twisted_mta.mail.address import Address
from twisted_mta.mail.verdict import Kind
from twisted_mta.policy.hello import Hello
from twisted_mta.policy.reverse import Reverse
from twisted_mta.policy.senderdomain import SenderDomain


class ReverseTests(PolicyCase):
    def policy(self, zones: object, action: str = "reject") -> Reverse:
        return Reverse("reverse", Dns(zones), action)  # type: ignore[arg-type]

    def test_interface(self) -> None:
        """It is a policy."""
        verifyObject(IPolicy, self.policy({}))

    def test_confirmed(self) -> None:
        """One name that leads back is enough."""
        zones = {HOST: ["gone.test", "mx.test"], "mx.test": ["192.0.2.1", HOST]}
        self.assertIsNone(self.now(self.policy(zones).connect(progress())))
        six = "2001:4860:4860::8888"
        zones = {six: ["mx.test"], "mx.test": ["2001:4860:4860:0:0:0:0:8888"]}
        self.assertIsNone(self.now(self.policy(zones).connect(progress(six))))

    def test_not_confirmed(self) -> None:
        """No name, or one that leads elsewhere: what the config says."""
        for zones in ({}, {HOST: []}, {HOST: ["mx.test"], "mx.test": ["192.0.2.1"]}):
            self.assertEqual(self.code(self.policy(zones).connect(progress())), 550)
            verdict = self.now(self.policy(zones, "tag").connect(progress()))
            assert verdict is not None
            self.assertIs(verdict.kind, Kind.TAG)

    def test_no_answer(self) -> None:
        """If the DNS does not answer a client that might be refused shall come again;
        one whose mail might be marked is not stopped."""
        for zones in ({HOST: None}, {HOST: ["mx.test"], "mx.test": None}):
            self.assertEqual(self.code(self.policy(zones).connect(progress())), 451)
            for action in ("tag", "quarantine"):
                policy = Reverse("reverse", Dns(zones), action)  # type: ignore[arg-type]
                verdict = self.now(policy.connect(progress()))
                assert verdict is not None
                self.assertIs(verdict.kind, Kind.TAG)

    def test_no_opinion(self) -> None:
        """Private addresses and clients of ours are not asked about."""
        for asked in (
            progress("192.168.1.1"),
            progress("127.0.0.1"),
            progress("::1"),
            progress("/run/socket"),
            progress(trusted=True),
        ):
            self.assertIsNone(self.now(self.policy({}).connect(asked)))

    def test_many_names(self) -> None:
        """Ten names are looked at, not a thousand."""
        dns = Dns({HOST: [f"n{n}.test" for n in range(1000)]})
        self.code(Reverse("reverse", dns, "reject").connect(progress()))
        self.assertEqual(len(dns.asked), 11)


class HelloTests(PolicyCase):
    def policy(self, zones: object = None, resolves: bool = False) -> Hello:
        dns = Dns(zones or {})  # type: ignore[arg-type]
        return Hello("hello", dns, "reject", ["mx.example.test"], resolves)

    def test_names(self) -> None:
        """A name of its own, fully qualified, or its address."""
        for helo, code in (
            ("mx.client.test", 0),
            (f"[{HOST}]", 0),
            ("[192.0.2.1]", 550),
            ("[nonsense]", 550),
            ("MX.example.test", 550),
            ("mx.example.test.", 550),
            ("localhost", 550),
            (HOST, 0),  # wrong, but has dots as names have
        ):
            asked = progress(helo=helo)
            self.assertEqual(self.code(self.policy().helo(asked)), code, helo)
        six = progress("2001:db8::1", "[IPv6:2001:DB8::1]")
        self.assertEqual(self.code(self.policy().helo(six)), 0)
        trusted = progress(helo="localhost", trusted=True)
        self.assertEqual(self.code(self.policy().helo(trusted)), 0)

    def test_resolves(self) -> None:
        """If the config wants it the name must be in the DNS."""
        for zones, code in (
            ({}, 550),
            ({"mx.client.test": ["192.0.2.1"]}, 0),
            ({"mx.client.test": [(10, "mx")]}, 0),
            ({"mx.client.test": []}, 550),
            ({"mx.client.test": None}, 451),
        ):
            policy = self.policy(zones, True)
            self.assertEqual(self.code(policy.helo(progress())), code, zones)


class SenderDomainTests(PolicyCase):
    def test_domains(self) -> None:
        """A domain that could be answered."""
        for zones, code in (
            ({}, 550),
            ({"a.test": [(10, "mx.a.test")]}, 0),
            ({"a.test": ["192.0.2.1"]}, 0),
            ({"a.test": []}, 550),
            ({"a.test": [(0, "")]}, 550),
            ({"a.test": None}, 451),
        ):
            policy = SenderDomain("sender", Dns(zones), "reject")
            asked = progress(sender=Address("x", "a.test"))
            self.assertEqual(self.code(policy.mail(asked)), code, zones)

    def test_null_mx(self) -> None:
        """A domain that says it takes no mail is told so (RFC 7505)."""
        policy = SenderDomain("sender", Dns({"a.test": [(0, "")]}), "reject")
        verdict = self.now(policy.mail(progress(sender=Address("x", "a.test"))))
        assert verdict is not None and verdict.reply is not None
        self.assertEqual(verdict.reply.status, "5.7.27")

    def test_no_opinion(self) -> None:
        """The null sender, literals, and clients of ours."""
        policy = SenderDomain("sender", Dns({}), "reject")
        for asked in (
            progress(),
            progress(sender=Address("x", "[192.0.2.1]")),
            progress(sender=Address("x", "a.test"), trusted=True),
        ):
            self.assertIsNone(self.now(policy.mail(asked)))
        international = progress(sender=Address("x", "b\u00fccher.test"))
        self.assertEqual(self.code(policy.mail(international)), 550)
        odd = progress(sender=Address("x", "a..test"))
        self.assertEqual(self.code(policy.mail(odd)), 550)
