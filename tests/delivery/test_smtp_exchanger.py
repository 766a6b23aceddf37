"""Which hosts a next hop stands for."""

from twisted.trial.unittest import TestCase

from tests.delivery.peer import Names
from twisted_mta.delivery.smtp.exchanger import Exchangers, NextHop, check, read
from twisted_mta.delivery.smtp.outcome import Unusable
from twisted_mta.delivery.smtp.settings import Settings
from twisted_mta.errors import ResolverUnavailable
from twisted_mta.mail.route import Result


class ExchangerTests(TestCase):
    """Finding hosts, without speaking to any."""

    def exchangers(self, mx=None, addresses=None, listening=tuple, **settings):
        self.names = Names(mx, addresses)
        return Exchangers(
            self.names, Settings(hostname="here.test", **settings), listening
        )

    async def outcome(self, exchangers, next_hop="there.test"):
        with self.assertRaises(Unusable) as caught:
            await exchangers.find(next_hop)
        outcome = caught.exception.outcome
        return outcome.result, outcome.status

    def test_read(self):
        """A next hop is a domain, or a host with a port or in brackets."""
        cases = {
            "Example.org": NextHop("example.org", None, True),
            "bücher.example": NextHop("xn--bcher-kva.example", None, True),
            "example.org:2525": NextHop("example.org", 2525, False),
            "[example.org]": NextHop("example.org", None, False),
            "[example.org]:587": NextHop("example.org", 587, False),
            "[192.0.2.1]": NextHop("192.0.2.1", None, False),
            "[IPv6:2001:db8::1]": NextHop("2001:db8::1", None, False),
            "[2001:db8::1]:25": NextHop("2001:db8::1", 25, False),
        }
        for text, hop in cases.items():
            self.assertEqual(read(text), hop)
        for text in ("x:0", "x:99999", "xn--\udcff"):
            self.assertRaises(ValueError, read, text)

    def test_check(self):
        """What an operator writes has to be a domain or a host by its form: mail for
        anything else would be returned."""
        for text in ("b\u00fccher.example", "[192.0.2.1]", "[::1]:25", "my_host:25"):
            self.assertEqual(check(read(text)), read(text))
        for text in ("[192.0.2.1", "192.0.2.1", "::1", "a b", "a@b.test", "[a b]:25"):
            self.assertRaises(ValueError, lambda text=text: check(read(text)))

    async def test_order(self):
        """Better hosts first; equal ones in an order of chance."""
        exchangers = self.exchangers(
            {"there.test": [(1, "a"), (2, "b"), (2, "c")]},
            {"a": ["192.0.2.1"], "b": ["192.0.2.2"], "c": ["192.0.2.3"]},
        )
        seen = set()
        for _ in range(200):
            seen.add("".join(host.name for host in await exchangers.find("there.test")))
        self.assertEqual(seen, {"abc", "acb"})

    async def test_families(self):
        """IPv6 and IPv4 take turns."""
        six = [f"2001:db8::{n}" for n in range(9)]
        four = [f"192.0.2.{n}" for n in range(9)]
        exchangers = self.exchangers({"there.test": [(1, "a")]}, {"a": six + four})
        for _ in range(20):
            hosts = await exchangers.find("there.test")
            kinds = [":" in host.address for host in hosts]
            self.assertIn(
                kinds, ([True, False] * 2 + [True], [False, True] * 2 + [False])
            )

    async def test_no_mx(self):
        """A domain without MX is its own mail exchanger (RFC 5321 5.1)."""
        exchangers = self.exchangers({"there.test": []}, {"there.test": ["192.0.2.1"]})
        (host,) = await exchangers.find("there.test")
        self.assertEqual(str(host), "there.test[192.0.2.1]:25")

    async def test_nowhere(self):
        """What the DNS does not know fails; what it does not tell defers."""
        trouble = ResolverUnavailable()
        cases = [
            ({}, {}, (Result.FAILED, "5.1.2")),
            ({"there.test": []}, {}, (Result.FAILED, "5.4.4")),
            ({"there.test": [(0, "")]}, {}, (Result.FAILED, "5.1.10")),
            ({"there.test": [(1, "a")]}, {}, (Result.FAILED, "5.4.4")),
            ({"there.test": trouble}, {}, (Result.DEFERRED, "4.4.3")),
            ({"there.test": [(1, "a")]}, {"a": trouble}, (Result.DEFERRED, "4.4.3")),
        ]
        for mx, addresses, expected in cases:
            outcome = await self.outcome(self.exchangers(mx, addresses))
            self.assertEqual(outcome, expected)

    async def test_smarthost_nowhere(self):
        """A smarthost that is not found defers: the operator can mend it."""
        exchangers = self.exchangers({}, {"mail": ResolverUnavailable()})
        for hop, status in (("[nohost]:25", "4.4.4"), ("[mail]", "4.4.3")):
            outcome = await self.outcome(exchangers, hop)
            self.assertEqual(outcome, (Result.DEFERRED, status))

    async def test_bad_names(self):
        """A next hop that is no domain fails, whatever it is."""
        for hop in ("xn--\udcff", "ü" * 70, "x:0"):
            outcome = await self.outcome(self.exchangers(), hop)
            self.assertEqual(outcome, (Result.FAILED, "5.1.2"))

    async def test_h51_literals(self):
        """Mail for an address literal of this machine is not sent here: a port
        must say that it is meant."""
        exchangers = self.exchangers()
        for hop in ("[127.0.0.1]", "[IPv6:::1]", "[127.8.8.8]", "[::ffff:127.0.0.1]"):
            outcome = await self.outcome(exchangers, hop)
            self.assertEqual(outcome, (Result.FAILED, "5.4.6"))
        self.assertTrue(await exchangers.find("[127.0.0.1]:25"))

    async def test_h51_mx_is_an_address(self):
        """An MX that names an address, localhost or no host name is none."""
        exchangers = self.exchangers(
            {"there.test": [(1, "127.0.0.1"), (2, "a b"), (3, "x\\000"), (4, "")]}
        )
        self.assertEqual(await self.outcome(exchangers), (Result.FAILED, "5.4.4"))
        exchangers = self.exchangers(
            {"there.test": [(1, "localhost")]}, {"localhost": ["::1", "127.0.0.1"]}
        )
        self.assertEqual(await self.outcome(exchangers), (Result.FAILED, "5.4.6"))

    async def test_h51_own_address(self):
        """An address of this machine is ours only at the port where we listen."""
        for listening, found in (
            ([("", 25)], False),
            ([("::", 25)], False),
            ([("127.0.0.1", 25)], False),
            ([("127.0.0.2", 25), ("", 26)], True),
        ):
            exchangers = self.exchangers(
                {"there.test": [(1, "a")]},
                {"a": ["127.0.0.1"]},
                lambda listening=listening: listening,
                loopback=True,
            )
            if found:
                self.assertTrue(await exchangers.find("there.test"))
            else:
                outcome = await self.outcome(exchangers)
                self.assertEqual(outcome, (Result.FAILED, "5.4.6"))

    async def test_h51_thousand_mx(self):
        """Of 1,000 mail exchangers a few are looked up, and fewer tried."""
        many = [(n // 500, f"mx{n}") for n in range(1000)]
        exchangers = self.exchangers({"there.test": many})
        self.assertEqual(await self.outcome(exchangers), (Result.FAILED, "5.4.4"))
        self.assertEqual(len(self.names.asked), 21)
        exchangers = self.exchangers(
            {"there.test": many},
            {f"mx{n}": [f"192.0.2.{n}" for n in range(99)] for n in range(1000)},
        )
        self.assertEqual(len(await exchangers.find("there.test")), 5)

    async def test_h51_thousand_addresses(self):
        """Of a name's thousand addresses a few are looked at, of both families."""
        six = [f"2001:db8::{n:x}" for n in range(1000)]
        four = [f"192.0.{n // 250}.{n % 250}" for n in range(1000)]
        looks = []
        exchangers = self.exchangers(
            {"there.test": [(1, f"mx{n}") for n in range(20)]},
            {f"mx{n}": six + four for n in range(20)},
            lambda: looks.append(1) or (),
        )
        found = await exchangers.find("there.test")
        self.assertEqual({":" in host.address for host in found}, {True, False})
        self.assertLessEqual(len(looks), 1000)
