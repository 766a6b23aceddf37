"""Recipients are asked about while their sender waits."""

from unittest import mock

from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.delivery.fakes import Agent, Office, TestCase, always
from twisted_mta.delivery import callout
from twisted_mta.delivery.callout import Callout
from twisted_mta.delivery.fixed import Fixed
from twisted_mta.delivery.smtp.agent import SmtpAgent
from twisted_mta.errors import (
    MailError,
    NoSuchAccount,
    Permanent,
    Temporary,
    Unverified,
)
from twisted_mta.interfaces import ICallout, IForesight
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.route import Outcome, Resolved, Result, Route, ToAgent, ToMailbox

BOB = split("bob@relayed.test")
WAY = ToAgent("smtp", "relayed.test", BOB)
GOOD = Outcome(Result.DELIVERED, "2.1.5", "250 2.1.5 Ok", "mx[192.0.2.1]:25", True)
BAD = Outcome(Result.FAILED, "5.1.1", "550 5.1.1 Nobody", "mx[192.0.2.1]:25", True)
FULL = Outcome(Result.FAILED, "5.2.2", "552 5.2.2 Full", "mx[192.0.2.1]:25", True)
AWAY = Outcome(Result.DEFERRED, "4.4.1", "Cannot connect", "")
HOUR, DAY = 3600.0, 86400.0

_LATE = "SELECT COUNT(*) FROM callout WHERE address_key = ?"


@implementer(IForesight)
class Asked:
    """An agent that says what it was told to, at once or later."""

    cheap = False

    def __init__(self) -> None:
        self.says = GOOD
        self.asked: list[Address] = []
        self.waiting: list[Deferred[None]] | None = None

    async def foresee(self, next_hop: str, recipient: Address) -> Outcome:
        self.asked.append(recipient)
        if self.waiting is not None:
            self.waiting.append(Deferred())
            await self.waiting[-1]
        return self.says


class RelayedTests(TestCase):
    def setUp(self) -> None:
        self.office = Office()
        self.clock, self.agent = self.office.clock, Asked()
        self.callout = Callout(
            self.clock, self.office.ledger, {"smtp": self.agent, "other": object()}
        )

    def check(self, recipient: Address = BOB) -> str:
        """What comes of a question."""
        deferred = Deferred.fromCoroutine(self.callout.check(recipient, WAY))
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
        verifyObject(ICallout, self.callout)
        verifyObject(IForesight, self.agent)
        self.assertTrue(IForesight.implementedBy(SmtpAgent))

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
        first = Deferred.fromCoroutine(self.callout.check(BOB, WAY))
        second = Deferred.fromCoroutine(self.callout.check(BOB, WAY))
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
        asked = Deferred.fromCoroutine(self.callout.check(BOB, WAY))
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
        asked = Deferred.fromCoroutine(self.callout.check(BOB, WAY))
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
        self.fails(Unverified, self.callout.check(BOB, way))

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


class OwnTests(TestCase):
    """In domains of ours that another server delivers for, and for agents that know
    without asking."""

    def setUp(self) -> None:
        office = Office()
        self.clock, self.agent = office.clock, Asked()
        self.fixed = Fixed(Outcome(Result.FAILED, "5.7.1", "No mail here"))
        verifyObject(IForesight, self.fixed)
        agents = {
            "lmtp": self.agent,
            "error": self.fixed,
            "pipe": Agent(self.clock, always(GOOD)),
        }
        self.callout = Callout(self.clock, office.ledger, agents)

    def resolved(self, *routes: Route, ask: bool = True) -> Resolved:
        return Resolved(True, routes or (ToAgent("lmtp", "hop", BOB),), ask)

    def ask(self, *routes: Route, ask: bool = True) -> None:
        self.now(self.callout.ask(self.resolved(*routes, ask=ask)))

    def refused(self, error: type[MailError], *routes: Route) -> MailError:
        found: MailError = self.fails(error, self.callout.ask(self.resolved(*routes)))
        return found

    def test_not_taken(self) -> None:
        """Who is not there is asked about again after five minutes; the client does
        not read what another server says."""
        self.agent.says = BAD
        error = self.refused(NoSuchAccount)
        self.assertEqual(error.status, "5.1.1")
        self.assertNotIn("Nobody", error.text)
        self.agent.says = GOOD
        self.clock.advance(299)
        self.refused(NoSuchAccount)
        self.clock.advance(1)
        self.ask()
        self.assertEqual(len(self.agent.asked), 2)

    def test_gone(self) -> None:
        """Whose account is gone is known for no more than an hour; the mail that asks
        is taken still."""
        self.ask()
        self.agent.says = BAD
        self.clock.advance(3599)
        self.ask()
        self.assertEqual(len(self.agent.asked), 1)
        self.clock.advance(1)
        self.ask()
        self.assertEqual(len(self.agent.asked), 2)
        self.refused(NoSuchAccount)

    def test_refused(self) -> None:
        """Whose mail is not taken for another reason is refused for that, and asked
        about each time."""
        self.agent.says = FULL
        error = self.refused(Permanent)
        self.assertEqual(error.status, "5.2.2")
        self.assertNotIn("Full", error.text)
        self.agent.says = GOOD
        self.ask()

    def test_not_known(self) -> None:
        """If its server is away nobody is refused for good."""
        self.agent.says = AWAY
        self.refused(Temporary)
        self.agent.says = GOOD
        self.ask()

    def test_each_hop(self) -> None:
        """A server that hangs does not keep others from being asked."""
        self.agent.waiting = []

        left: list[type[Exception] | None] = []

        def ask(hop: str, recipient: Address) -> None:
            resolved = self.resolved(ToAgent("lmtp", hop, recipient))
            asking = Deferred.fromCoroutine(self.callout.ask(resolved))
            asking.addErrback(lambda failure: failure.trap(Temporary))
            asking.addCallback(left.append)

        for number in range(25):
            ask("hop", Address(f"x{number}", "there.test"))
        self.assertEqual(len(self.agent.asked), 20)
        ask("other", BOB)
        self.assertEqual(len(self.agent.asked), 21)
        self.assertEqual(len(left), 5)
        for waiting in self.agent.waiting:
            waiting.callback(None)
        self.assertEqual(left[5:], [None] * 21)

    def test_nobody_is_asked(self) -> None:
        """If the router does not say so, of several, of mailboxes, and of agents that
        do not know."""
        self.ask(ask=False)
        self.ask(ToAgent("lmtp", "hop", BOB), ToAgent("error", "", BOB))
        self.ask(ToMailbox(1, BOB))
        self.ask(ToAgent("pipe", "", BOB))
        self.ask(ToAgent("release", "", BOB))
        self.assertEqual(self.agent.asked, [])

    def test_always_refused(self) -> None:
        """Who is returned in any case is refused at once, with the words of the
        config, whatever the router says."""
        resolved = self.resolved(ToAgent("error", "", BOB), ask=False)
        error = self.fails(Permanent, self.callout.ask(resolved))
        self.assertEqual((error.status, error.text), ("5.7.1", "No mail here"))
