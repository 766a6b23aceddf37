"""Who exists in domains that another server has."""

from pathlib import Path

from zope.interface.verify import verifyObject

from tests.delivery.fakes import ALICE, Office, TestCase
from tests.delivery.test_callout import BOB, WAY, Asked
from twisted_mta.config import schema
from twisted_mta.delivery.callout import Callout
from twisted_mta.delivery.recipientlist import read
from twisted_mta.delivery.relayed import Relayed, read_lists
from twisted_mta.errors import ConfigError, NoSuchAccount
from twisted_mta.interfaces import IRecipients
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.route import ToAgent


class ListTests(TestCase):
    def file(self, text: str | bytes) -> Path:
        path = Path(self.mktemp())
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def relayed(self, **domains: schema.RelayDomain) -> Relayed:
        office = Office()
        named = {f"{name}.test": each for name, each in domains.items()}
        self.callout = Callout(office.clock, office.ledger, {"smtp": Asked()})
        relayed = Relayed(named, read_lists(named), self.callout)
        verifyObject(IRecipients, relayed)
        return relayed

    def test_list(self) -> None:
        """Who stands in the file exists, in any case, and with a detail."""
        path = self.file("bob@relayed.test # the boss\n\n# more\n  carol\n")
        relayed = self.relayed(relayed=schema.RelayDomain(recipients=(path,)))
        for local in ("bob", "BOB", "carol", "bob+lists", "Postmaster"):
            self.now(relayed.check(Address(local, "relayed.test"), WAY))
        for local in ("dave", "bobby", "+bob"):
            self.fails(
                NoSuchAccount, relayed.check(Address(local, "relayed.test"), WAY)
            )

    def test_any(self) -> None:
        """The operator may say that everybody exists."""
        relayed = self.relayed(relayed=schema.RelayDomain(recipients="any"))
        self.now(relayed.check(BOB, WAY))

    def test_callout(self) -> None:
        """Or that its server is asked; not for postmaster."""
        relayed = self.relayed(relayed=schema.RelayDomain())
        self.now(relayed.check(BOB, WAY))
        self.now(relayed.check(split("postmaster@relayed.test"), WAY))

    def test_problems(self) -> None:
        """What is wrong is told with file and line, all of it."""
        path = self.file("bob\nb ob\ncarol@elsewhere.test\n")
        error = self.assertRaises(ConfigError, read, [path], "relayed.test")
        self.assertEqual(
            [problem.partition(": ")[0] for problem in error.problems],
            [f"{path}:2", f"{path}:3"],
        )
        none = self.assertRaises(ConfigError, read, [Path("/no")], "relayed.test")
        self.assertIn("/no:1: cannot be read", none.problems[0])
        odd = self.assertRaises(ConfigError, read, [self.file(b"\xff")], "x.test")
        self.assertIn("UTF-8", odd.problems[0])
        many = self.assertRaises(ConfigError, read, [self.file("b b\n" * 99)], "x.test")
        self.assertEqual(len(many.problems), 21)

    def test_reload(self) -> None:
        """They are read again; if that cannot be, they stay as they were."""
        path = self.file("bob\n")
        relayed = self.relayed(relayed=schema.RelayDomain(recipients=(path,)))
        path.write_text("carol\n")
        self.assertTrue(relayed.reload())
        self.fails(NoSuchAccount, relayed.check(BOB, WAY))
        path.write_text("b ob\n")
        self.assertFalse(relayed.reload())
        self.now(relayed.check(split("carol@relayed.test"), WAY))
        self.assertFalse(self.relayed(relayed=schema.RelayDomain()).reload())


class RouteTests(TestCase):
    def test_relayed(self) -> None:
        """Mail for such a domain is taken from anybody, and goes to its server."""
        office = Office(
            relayed={
                "relayed.test": schema.RelayDomain(next_hop="[192.0.2.9]:2525"),
                "second.test": schema.RelayDomain(),
            }
        )
        resolved = self.now(office.router.route(BOB))
        self.assertTrue(resolved.relayed and resolved.local)
        way = ToAgent("smtp", "[192.0.2.9]:2525", BOB)
        self.assertEqual(resolved.routes, (way,))
        resolved = self.now(office.router.route(split("x@second.test")))
        self.assertEqual(resolved.routes[0].next_hop, "second.test")  # type: ignore[union-attr]
        other = self.now(office.router.route(split("x@third.test")))
        self.assertFalse(other.relayed or other.local)

    def test_not_forwarded(self) -> None:
        """It is on its way as its sender sent it: nobody of ours sends it on."""
        office = Office(relayed={"relayed.test": schema.RelayDomain()})
        self.now(office.send(split("erin@third.test"), BOB))
        (job,) = self.now(office.queue.claim(1))
        self.assertIsNone(job.rewritten)
        self.assertNotIn(b"Delivered-To", job.prefix)
        self.assertFalse(office.router.ours("relayed.test"))
        self.assertTrue(office.router.ours(ALICE.domain))
