"""Recipients are asked about while their sender waits."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.delivery.fakes import Agent, TestCase, always
from twisted_mta.delivery import callout
from twisted_mta.delivery.callout import Callout
from twisted_mta.delivery.fixed import Fixed
from twisted_mta.errors import MailError, NoSuchAccount, Permanent, Temporary
from twisted_mta.interfaces import ICallout, IDeliveryAgent, IForesight
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.route import Outcome, Resolved, Result, Route, ToAgent, ToMailbox

BOB = split("bob@there.test")
TAKEN = Outcome(Result.DELIVERED, "2.1.5", "250 2.1.5 Ok", "lmtp[::1]:24", True)
NOBODY = Outcome(Result.FAILED, "5.1.1", "550 5.1.1 No", "lmtp[::1]:24", True)
FULL = Outcome(Result.FAILED, "5.2.2", "552 5.2.2 Full", "lmtp[::1]:24", True)
LATER = Outcome(Result.DEFERRED, "4.4.1", "Cannot connect", "lmtp[::1]:24")


@implementer(IForesight)
class Knowing(Agent):
    """Says of a recipient what it was told; of those it was told nothing of, nothing
    for as long as it hangs."""

    cheap = False

    def __init__(self, clock: Clock, outcome: Outcome | None) -> None:
        super().__init__(clock, always(TAKEN))
        self.outcome = outcome
        self.asked: list[tuple[str, Address]] = []

    async def foresee(self, next_hop: str, recipient: Address) -> Outcome:
        self.asked.append((next_hop, recipient))
        if self.outcome is None:
            await Deferred()
        assert self.outcome is not None
        return self.outcome


class CalloutTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.agent = Knowing(self.clock, TAKEN)
        self.fixed = Fixed(Outcome(Result.FAILED, "5.7.1", "No mail here"))
        agents: dict[str, IDeliveryAgent] = {
            "lmtp": self.agent,
            "error": self.fixed,
            "pipe": Agent(self.clock, always(TAKEN)),
        }
        self.callout = Callout(self.clock, agents)

    def resolved(self, *routes: Route, ask: bool = True) -> Resolved:
        return Resolved(True, routes or (ToAgent("lmtp", "hop", BOB),), ask)

    def ask(self, *routes: Route, ask: bool = True) -> None:
        self.now(self.callout.ask(self.resolved(*routes, ask=ask)))

    def refused(self, error: type[MailError], *routes: Route) -> MailError:
        found: MailError = self.fails(error, self.callout.ask(self.resolved(*routes)))
        return found

    def test_interfaces(self) -> None:
        verifyObject(ICallout, self.callout)
        for agent in (self.agent, self.fixed):
            verifyObject(IForesight, agent)

    def test_taken(self) -> None:
        """Who is taken is remembered for an hour."""
        self.ask()
        self.clock.advance(3599)
        self.ask()
        self.assertEqual(self.agent.asked, [("hop", BOB)])
        self.clock.advance(1)
        self.ask()
        self.assertEqual(len(self.agent.asked), 2)

    def test_not_taken(self) -> None:
        """Who is not is for five minutes; the client does not read what another
        server says."""
        self.agent.outcome = NOBODY
        self.assertEqual(self.refused(NoSuchAccount).status, "5.1.1")
        self.agent.outcome = TAKEN
        self.clock.advance(299)
        self.refused(NoSuchAccount)
        self.clock.advance(1)
        self.ask()
        self.assertEqual(len(self.agent.asked), 2)
        self.agent.outcome = FULL
        other = ToAgent("lmtp", "hop", split("carol@there.test"))
        error = self.refused(Permanent, other)
        self.assertEqual(error.status, "5.2.2")
        self.assertNotIn("Full", error.text)

    def test_not_known(self) -> None:
        """A server that is down is asked again soon, and nobody is refused for
        good."""
        self.agent.outcome = LATER
        self.assertEqual(self.refused(Temporary).status, "4.4.1")
        self.agent.outcome = TAKEN
        self.refused(Temporary)
        self.clock.advance(10)
        self.ask()

    def test_silent(self) -> None:
        """Nobody waits for long for a server that says nothing."""
        self.agent.outcome = None
        asking = Deferred.fromCoroutine(self.callout.ask(self.resolved()))
        self.clock.advance(29)
        self.assertNoResult(asking)
        self.clock.advance(1)
        self.failureResultOf(asking, Temporary)

    def test_so_many(self) -> None:
        """So many are asked at once; the others wait no longer than they would."""
        self.agent.outcome = None
        who = [Address(f"x{number}", "there.test") for number in range(25)]
        asking = [
            Deferred.fromCoroutine(
                self.callout.ask(self.resolved(ToAgent("lmtp", "hop", one)))
            )
            for one in who
        ]
        self.assertEqual(len(self.agent.asked), 20)
        # Another server is none of theirs.
        elsewhere = self.resolved(ToAgent("lmtp", "other", BOB))
        asking.append(Deferred.fromCoroutine(self.callout.ask(elsewhere)))
        self.assertEqual(len(self.agent.asked), 21)
        self.clock.advance(30)
        for each in asking:
            self.failureResultOf(each, Temporary)
        self.agent.outcome = TAKEN
        self.clock.advance(10)
        for one in who:
            self.ask(ToAgent("lmtp", "hop", one))

    def test_bounded(self) -> None:
        """What is remembered has a bound."""
        self.patch(callout, "_MOST", 3)
        who = [Address(f"x{number}", "there.test") for number in range(5)]
        for one in who:
            self.ask(ToAgent("lmtp", "hop", one))
        self.ask(ToAgent("lmtp", "hop", who[-1]))
        self.assertEqual(len(self.agent.asked), 5)
        self.ask(ToAgent("lmtp", "hop", who[0]))
        self.assertEqual(len(self.agent.asked), 6)
        self.assertEqual(len(self.callout._known), 3)

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
