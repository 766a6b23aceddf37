"""Mail over several ways, and what is done when nobody is reached."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase as TrialCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.delivery.fakes import Agent, TestCase, always
from tests.delivery.test_smtp import BOB, CAROL, job
from twisted_mta.delivery import several
from twisted_mta.delivery.fixed import Fixed
from twisted_mta.delivery.several import Several, Way
from twisted_mta.errors import NoSuchMessage
from twisted_mta.interfaces import IContent, IDeliveryAgent, IForesight
from twisted_mta.mail.address import Address
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result
from twisted_mta.testing.agent_contract import AgentContract

TAKEN = Outcome(Result.DELIVERED, "2.1.5", "250 2.1.5 Ok", "lmtp[::1]:24", True)
NOBODY = Outcome(Result.FAILED, "5.1.1", "550 5.1.1 No", "lmtp[::1]:24", True)
LATER = Outcome(Result.DEFERRED, "4.4.1", "Cannot connect", "lmtp[::1]:24")
DOWN = Outcome(Result.DEFERRED, "4.4.1", "Cannot connect", "a[::1]:25", unreached=True)
BUSY = Outcome(Result.DEFERRED, "4.2.1", "450 4.2.1 Busy", "a[::1]:25", True)


@implementer(IForesight)
class Knowing(Agent):
    """Says of a recipient what it was told."""

    cheap = False

    def __init__(self, clock: Clock, outcome: Outcome) -> None:
        super().__init__(clock, always(TAKEN))
        self.outcome = outcome
        self.asked: list[tuple[str, Address]] = []

    async def foresee(self, next_hop: str, recipient: Address) -> Outcome:
        self.asked.append((next_hop, recipient))
        return self.outcome


class SeveralTests(TestCase):
    """Of the agents a, b and c, each says what C{says} has for it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.tried: list[tuple[str, str, tuple[Address, ...]]] = []
        self.says: dict[str, Any] = {}
        self.agents = {name: self.made(name) for name in "abc"}

    def made(self, name: str) -> Knowing:
        def script(job: Job) -> Mapping[Address, Outcome]:
            self.tried.append((job.agent, job.next_hop, job.recipients))
            said = self.says.get(name, TAKEN)
            if isinstance(said, Exception):
                raise said
            said = (
                said if isinstance(said, dict) else dict.fromkeys(job.recipients, said)
            )
            return {who: said[who] for who in job.recipients}

        agent = Knowing(self.clock, TAKEN)
        agent.script = script
        return agent

    def several(self, ways: str, fallback: str = "", **settings: Any) -> Several:
        return Several(
            self.clock,
            self.agents,
            [Way(name) for name in ways],
            [Way(name, f"[{name}]:25") for name in fallback],
            **settings,
        )

    def deliver(
        self,
        agent: Several,
        recipients: Sequence[Address] = (BOB,),
        id: int = 1,
        **changes: Any,
    ) -> Mapping[Address, Outcome]:
        made, content = job(recipients, **changes)
        made = replace(made, envelope=made.envelope._replace(id=id))
        return self.now(agent.deliver(made, content))

    def names(self) -> str:
        """The agents that were tried since, in order."""
        tried, self.tried = self.tried, []
        return "".join(name for name, _, _ in tried)

    def test_interfaces(self) -> None:
        for interface in (IDeliveryAgent, IForesight):
            verifyObject(interface, self.several("a"))

    def test_shares(self) -> None:
        """Each way has its share of the messages, by weight."""
        ways = [Way("a", None, 6), Way("b", None, 3), Way("c", None, 1)]
        agent = Several(self.clock, self.agents, ways)
        for number in range(2000):
            self.deliver(agent, id=number)
        counts = Counter(self.names())
        for name, share in zip("abc", (0.6, 0.3, 0.1), strict=True):
            # Three standard deviations; the ids are always the same ones.
            bound = 3 * math.sqrt(2000 * share * (1 - share))
            self.assertLess(abs(counts[name] - 2000 * share), bound)

    def test_later_attempts(self) -> None:
        """A message keeps its way."""
        agent = self.several("abc")
        self.says = dict.fromkeys("abc", BUSY)
        for id in range(50):
            for _ in range(3):
                self.deliver(agent, id=id)
            self.assertEqual(len(set(self.names())), 1)

    def test_down(self) -> None:
        """A way that is down is passed over for a while: its messages go another way,
        and the others stay where they were."""
        agent = self.several("abc")
        before = {}
        for id in range(60):
            self.deliver(agent, id=id)
            before[id] = self.names()
        first = next(id for id in before if before[id] == "a")
        self.says["a"] = DOWN
        self.deliver(agent, id=first)
        self.tried.clear()
        after = {}
        for id in range(60):
            self.deliver(agent, id=id)
            after[id] = self.names()
        self.assertNotIn("a", after.values())
        for id in range(60):
            if before[id] != "a":
                self.assertEqual(after[id], before[id])
        self.assertEqual({after[id] for id in before if before[id] == "a"}, {"b", "c"})
        self.says["a"] = TAKEN
        self.clock.advance(59)
        self.deliver(agent, id=first)
        self.assertNotEqual(self.names(), "a")
        self.clock.advance(1)
        self.deliver(agent, id=first)
        self.assertEqual(self.names(), "a")

    def test_down_log(self) -> None:
        """What a server says for why is a line of the log."""
        agent = self.several("a")
        self.says["a"] = replace(DOWN, diagnostic="421-a\n421 \x1b[2Jb")
        with capturedLogs() as captured:
            self.deliver(agent)
        (line,) = map(formatEvent, captured)
        assert line is not None
        self.assertTrue(line.isprintable(), line)

    def test_down_for_one_domain(self) -> None:
        """Where a way goes to each domain's own servers, those of one that are down
        say nothing of others."""
        agent = self.several("a", "b")
        self.says["a"] = DOWN
        self.deliver(agent, next_hop="one.test")
        self.assertEqual(self.names(), "ab")
        self.deliver(agent, next_hop="one.test")
        self.assertEqual(self.names(), "b")
        self.deliver(agent, next_hop="two.test")
        self.assertEqual(self.names(), "ab")

    def test_fallback(self) -> None:
        """Who was not reached is tried over the fallbacks at once, in their order; the
        outcome is of the one that took it."""
        self.says = {"a": DOWN, "b": DOWN}
        outcomes = self.deliver(self.several("a", "bc"), [BOB, CAROL])
        self.assertEqual(outcomes, {BOB: TAKEN, CAROL: TAKEN})
        self.assertEqual(
            self.tried,
            [
                ("a", "there.test", (BOB, CAROL)),
                ("b", "[b]:25", (BOB, CAROL)),
                ("c", "[c]:25", (BOB, CAROL)),
            ],
        )

    def test_only_who_was_not_reached(self) -> None:
        """Who was spoken of is not tried elsewhere."""
        for said in (BUSY, NOBODY, TAKEN):
            self.says["a"] = {BOB: said, CAROL: DOWN}
            outcomes = self.deliver(self.several("a", "b"), [BOB, CAROL])
            self.assertEqual(outcomes, {BOB: said, CAROL: TAKEN})
            self.assertEqual(self.tried.pop(), ("b", "[b]:25", (CAROL,)))

    def test_on_any(self) -> None:
        """If the config says so who was deferred is, too; who failed is not."""
        self.says["a"] = {BOB: BUSY, CAROL: NOBODY}
        outcomes = self.deliver(self.several("a", "b", on_any=True), [BOB, CAROL])
        self.assertEqual(outcomes, {BOB: TAKEN, CAROL: NOBODY})

    def test_one_recipient_reached(self) -> None:
        """A way over which somebody was spoken of is not down."""
        agent = self.several("a", "b")
        self.says["a"] = {BOB: BUSY, CAROL: DOWN}
        self.deliver(agent, [BOB, CAROL])
        self.tried.clear()
        self.deliver(agent, [BOB])
        self.assertEqual(self.names(), "a")

    def test_all_down(self) -> None:
        """If all are down the attempt is made all the same."""
        agent = self.several("a", "b")
        self.says = {"a": DOWN, "b": DOWN}
        for _ in range(2):
            self.assertEqual(self.deliver(agent), {BOB: DOWN})
            self.assertEqual(self.names(), "ab")

    def test_broken_fallback(self) -> None:
        """What is known of some recipients is not lost with a fallback that
        breaks."""
        self.says = {"a": {BOB: TAKEN, CAROL: DOWN}, "b": NoSuchMessage()}
        outcomes = self.deliver(self.several("a", "b"), [BOB, CAROL])
        self.assertEqual(outcomes, {BOB: TAKEN, CAROL: DOWN})
        self.says["b"] = ZeroDivisionError()
        agent = self.several("a", "b")
        outcomes = self.deliver(agent, [BOB, CAROL])
        self.assertEqual(outcomes[BOB], TAKEN)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_cancelled(self) -> None:
        """Who has the message when it is cancelled is not to get it again."""
        for said, expected in ((TAKEN, {BOB: TAKEN}), (BUSY, None)):
            self.says["a"] = {BOB: said, CAROL: DOWN}
            self.agents["b"].hanging = True
            agent = self.several("a", "b")
            made, content = job((BOB, CAROL))
            delivery = Deferred.fromCoroutine(agent.deliver(made, content))
            delivery.cancel()
            if expected is None:
                self.failureResultOf(delivery, CancelledError)
            else:
                self.assertEqual(self.successResultOf(delivery), expected)

    def test_foresee(self) -> None:
        """Those who know are asked until one says it."""
        agent = self.several("a", "b")
        self.agents["a"].outcome = LATER
        self.agents["b"].outcome = NOBODY
        self.assertEqual(self.now(agent.foresee("hop", BOB)), NOBODY)
        self.assertEqual(self.agents["a"].asked, [("hop", BOB)])
        self.assertEqual(self.agents["b"].asked, [("[b]:25", BOB)])

    def test_bounded(self) -> None:
        """What is remembered of next hops has a bound."""
        self.patch(several, "_MOST", 3)
        agent = self.several("a")
        self.says["a"] = DOWN
        for number in range(5):
            self.deliver(agent, next_hop=f"x{number}.test")
        self.assertEqual(len(agent._down), 3)


class Box(Fixed):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(TAKEN)
        self.messages: list[bytes] = []

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        octets = bytearray(job.prefix)
        while len(octets) < job.size:
            octets += await content.read(len(octets) - len(job.prefix), 65536)
        self.messages.append(bytes(octets))
        return await super().deliver(job, content)


class ContractTests(AgentContract, TrialCase):
    """The promises of every agent, where the first way is down."""

    async def build(self) -> IDeliveryAgent:
        self.box = Box()
        agents = {"down": Fixed(DOWN), "box": self.box}
        return Several(Clock(), agents, [Way("down")], [Way("box")])

    async def arrived(self) -> Sequence[bytes]:
        return self.box.messages
