"""Who exists in domains that another server has."""

from pathlib import Path
from unittest import mock

from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.delivery.fakes import ALICE, Office, TestCase
from twisted_mta.config import schema
from twisted_mta.delivery import callout
from twisted_mta.delivery.callout import Callouts
from twisted_mta.delivery.recipientlist import read
from twisted_mta.delivery.relayed import Relayed, read_lists
from twisted_mta.delivery.smtp.agent import SmtpAgent
from twisted_mta.errors import ConfigError, NoSuchAccount, Temporary, Unverified
from twisted_mta.interfaces import ICallout, IRecipients
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.route import Outcome, Result, ToAgent

BOB = split("bob@relayed.test")
WAY = ToAgent("smtp", "relayed.test", BOB)
GOOD = Outcome(Result.DELIVERED, "2.1.5", "250 2.1.5 Ok", "mx[192.0.2.1]:25", True)
BAD = Outcome(Result.FAILED, "5.1.1", "550 5.1.1 Nobody", "mx[192.0.2.1]:25", True)
AWAY = Outcome(Result.DEFERRED, "4.4.1", "Cannot connect", "")
HOUR, DAY = 3600.0, 86400.0

_LATE = "SELECT COUNT(*) FROM callout WHERE address_key = ?"


@implementer(ICallout)
class Asked:
    """An agent that says what it was told to, at once or later."""

    def __init__(self) -> None:
        self.says = GOOD
        self.asked: list[Address] = []
        self.waiting: list[Deferred[None]] | None = None

    async def probe(self, next_hop: str, recipient: Address) -> Outcome:
        self.asked.append(recipient)
        if self.waiting is not None:
            self.waiting.append(Deferred())
            await self.waiting[-1]
        return self.says


class CalloutTests(TestCase):
    def setUp(self) -> None:
        self.office = Office()
        self.clock, self.agent = self.office.clock, Asked()
        verifyObject(ICallout, self.agent)
        self.callouts = Callouts(
            self.clock, self.office.ledger, {"smtp": self.agent, "other": object()}
        )

    def check(self, recipient: Address = BOB) -> str:
        """What comes of a question."""
        deferred = Deferred.fromCoroutine(self.callouts.check(recipient, WAY))
        results: list[object] = []
        deferred.addBoth(results.append)
        if not results:
            return "waits"
        error = getattr(results[0], "value", None)
        if error is None:
            return "good"
        self.assertIsInstance(error, NoSuchAccount | Temporary)
        return "bad" if isinstance(error, NoSuchAccount) else "later"

    def test_seam(self) -> None:
        """The agent that speaks SMTP can be asked."""
        self.assertTrue(ICallout.implementedBy(SmtpAgent))

    def test_good(self) -> None:
        """Who exists is asked about once in 7 days; then while the client goes on."""
        self.assertEqual([self.check(), self.check()], ["good", "good"])
        self.assertEqual(len(self.agent.asked), 1)
        self.clock.advance(8 * DAY)
        self.agent.waiting = []
        self.assertEqual(self.check(), "good")
        self.assertEqual(len(self.agent.asked), 2)
        self.agent.waiting[0].callback(None)
        self.agent.waiting = None
        self.assertEqual(self.check(), "good")
        self.assertEqual(len(self.agent.asked), 2)

    def test_bad(self) -> None:
        """Who does not is refused, and asked about again after 3 hours."""
        self.agent.says = BAD
        self.assertEqual([self.check(), self.check()], ["bad", "bad"])
        self.assertEqual(len(self.agent.asked), 1)
        self.agent.says = GOOD
        self.clock.advance(4 * HOUR)
        self.assertEqual(self.check(), "good")

    def test_away(self) -> None:
        """While the server is away, who is known to exist is there for 31 days, and
        others are asked to come again."""
        self.assertEqual(self.check(), "good")
        self.agent.says = AWAY
        self.assertEqual(self.check(split("new@relayed.test")), "later")
        self.clock.advance(30 * DAY)
        self.assertEqual(self.check(), "good")
        self.clock.advance(2 * DAY)
        self.assertEqual(self.check(), "later")

    def test_bad_then_away(self) -> None:
        """Who did not exist some hours ago may by now."""
        self.agent.says = BAD
        self.check()
        self.agent.says = AWAY
        self.clock.advance(4 * HOUR)
        self.assertEqual(self.check(), "later")

    def test_no_answer(self) -> None:
        """What is no word on the address is none: a refusal of us, a full mailbox, our
        own words."""
        for says in (
            Outcome(Result.FAILED, "5.7.1", "550 5.7.1 Go away", "mx", True),
            Outcome(Result.FAILED, "5.2.2", "552 5.2.2 Full", "mx", True),
            Outcome(Result.FAILED, "5.0.0", "554 No", "mx", True),
            Outcome(Result.FAILED, "5.1.2", "There is no such domain", "", False),
            Outcome(Result.DEFERRED, "4.2.0", "450 4.2.0 Greylisted", "mx", True),
        ):
            self.agent.says = says
            self.assertEqual(self.check(), "later", says)
        self.assertEqual(self.office.ledger.count("callout"), 0)

    def test_plain(self) -> None:
        """Servers without enhanced statuses are understood."""
        self.agent.says = Outcome(
            Result.FAILED, "5.0.0", "550 No such user", "mx", True
        )
        self.assertEqual(self.check(), "bad")

    def test_h44_at_once(self) -> None:
        """Who is being asked about is not asked about again, and nobody about more
        than so many at a time."""
        self.agent.waiting = []
        first = Deferred.fromCoroutine(self.callouts.check(BOB, WAY))
        second = Deferred.fromCoroutine(self.callouts.check(BOB, WAY))
        self.assertEqual(len(self.agent.asked), 1)
        for number in range(30):
            self.check(split(f"x{number}@relayed.test"))
        self.assertEqual(len(self.agent.asked), 20)
        self.assertEqual(self.check(split("y@relayed.test")), "later")
        self.agent.waiting[0].callback(None)
        self.successResultOf(first)
        self.successResultOf(second)

    def test_slow(self) -> None:
        """A client waits for so long; what is said later is remembered."""
        self.agent.waiting = []
        asked = Deferred.fromCoroutine(self.callouts.check(BOB, WAY))
        self.clock.advance(15)
        self.failureResultOf(asked, Unverified)
        self.agent.waiting[0].callback(None)
        self.agent.waiting = None
        self.assertEqual(self.check(), "good")
        self.assertEqual(len(self.agent.asked), 1)

    def test_ledger_away(self) -> None:
        """Without the ledger nothing can be said; an answer that cannot be kept is
        given all the same."""
        self.agent.waiting = []
        asked = Deferred.fromCoroutine(self.callouts.check(BOB, WAY))
        self.office.ledger.down = True
        self.agent.waiting[0].callback(None)
        self.successResultOf(asked)
        self.assertEqual(self.check(), "later")

    def test_broken(self) -> None:
        """An agent that breaks has said nothing."""
        self.agent.says = None  # type: ignore[assignment]
        self.assertEqual(self.check(), "later")
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    def test_no_agent(self) -> None:
        """Nor has one that cannot be asked."""
        way = ToAgent("other", "", BOB)
        self.fails(Unverified, self.callouts.check(BOB, way))

    def test_h44_bounded(self) -> None:
        """Whoever asks for ever more addresses fills no disk."""
        self.agent.says = BAD
        with (
            mock.patch.object(callout, "_REMEMBERED", 50),
            mock.patch.object(callout, "_CLEAR_AFTER", 10),
        ):
            for number in range(200):
                self.check(split(f"x{number}@relayed.test"))
            self.assertLessEqual(self.office.ledger.count("callout"), 60)
            self.assertEqual(
                self.office.ledger.rows(_LATE, "x199@relayed.test"), [(1,)]
            )
            self.clock.advance(4 * DAY)
            for number in range(10):
                self.check(split(f"y{number}@relayed.test"))
            self.assertLessEqual(self.office.ledger.count("callout"), 10)


class ListTests(TestCase):
    def file(self, text: str | bytes) -> Path:
        path = Path(self.mktemp())
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def relayed(self, **domains: schema.RelayDomain) -> Relayed:
        office = Office()
        named = {f"{name}.test": each for name, each in domains.items()}
        self.callouts = Callouts(office.clock, office.ledger, {"smtp": Asked()})
        relayed = Relayed(named, read_lists(named), self.callouts)
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
