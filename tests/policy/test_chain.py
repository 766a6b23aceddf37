"""L{twisted_mta.policy.chain}."""

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_mta.interfaces import IPolicy, IPolicyChain
from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.verdict import NOTHING, Judgement, Progress, Verdict
from twisted_mta.policy.chain import Chain
from twisted_mta.policy.silent import Silent

PROGRESS = Progress("smtp-1", Origin())
STAGES = ("connect", "helo", "mail", "rcpt", "message")


@implementer(IPolicy)
class Opinion:
    """Says the same at each stage, and remembers being asked."""

    def __init__(self, name: str, says: Verdict | Exception | None = None) -> None:
        self.name = name
        self.asked: list[str] = []
        self._says = says

    async def _ask(self, stage: str) -> Verdict | None:
        self.asked.append(stage)
        if isinstance(self._says, Exception):
            raise self._says
        return self._says

    async def connect(self, progress: Progress) -> Verdict | None:
        return await self._ask("connect")

    async def helo(self, progress: Progress) -> Verdict | None:
        return await self._ask("helo")

    async def mail(self, progress: Progress) -> Verdict | None:
        return await self._ask("mail")

    async def rcpt(self, progress: Progress) -> Verdict | None:
        return await self._ask("rcpt")

    async def message(self, progress: Progress) -> Verdict | None:
        return await self._ask("message")


class Endless(Silent):
    """Never comes to an end at MAIL."""

    async def mail(self, progress: Progress) -> Verdict | None:
        await Deferred()
        return None


class ChainTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def chain(self, *policies: Opinion) -> Chain:
        return Chain(self.clock, policies)  # type: ignore[arg-type]

    def ask(self, chain: Chain, stage: str) -> Judgement:
        """What the chain says at a stage."""
        asked = Deferred.fromCoroutine(chain.ask(stage, PROGRESS))
        judgement: Judgement = self.successResultOf(asked)
        return judgement

    def test_interface(self) -> None:
        """Chain, opinion and the one that is silent are what they say."""
        verifyObject(IPolicyChain, self.chain())
        verifyObject(IPolicy, Opinion("x"))
        verifyObject(IPolicy, Silent("x"))

    def test_silent(self) -> None:
        """Who derives from it says something only where he wants to."""
        policy = Silent("x")
        for stage in STAGES:
            asked = Deferred.fromCoroutine(getattr(policy, stage)(PROGRESS))
            self.assertIsNone(self.successResultOf(asked))

    def test_nobody_objects(self) -> None:
        """All are asked, each at the stage in question, and the transaction
        goes on."""
        policies = [Opinion("a"), Opinion("b")]
        chain = self.chain(*policies)
        for stage in STAGES:
            self.assertIs(self.ask(chain, stage), NOTHING)
        self.assertEqual([policy.asked for policy in policies], [list(STAGES)] * 2)

    def test_first_refusal_decides(self) -> None:
        """Those after it are not asked."""
        first = Verdict.reject("no", "reason")
        last = Opinion("c", Verdict.tempfail("later"))
        chain = self.chain(Opinion("a"), Opinion("b", first), last)
        for stage in STAGES:
            self.assertIs(self.ask(chain, stage).refusal, first)
        self.assertEqual(last.asked, [])

    def test_accepted(self) -> None:
        """Nor are those after one that accepts."""
        last = Opinion("c", Verdict.reject("no"))
        chain = self.chain(Opinion("a", Verdict.accept("a friend")), last)
        self.assertEqual(self.ask(chain, "mail"), Judgement(exempt=True))
        self.assertEqual(last.asked, [])

    def test_tagged_and_kept_apart(self) -> None:
        """Tags and quarantine add up, and the others are asked."""
        last = Opinion("d")
        chain = self.chain(
            Opinion("a", Verdict.tag("X-A", "1")),
            Opinion("b", Verdict.quarantine("odd")),
            Opinion("c", Verdict.tag("X-B", "2")),
            last,
        )
        wanted = Judgement(quarantine=True, fields=(("X-A", "1"), ("X-B", "2")))
        self.assertEqual(self.ask(chain, "message"), wanted)
        self.assertEqual(last.asked, ["message"])

    def test_delayed(self) -> None:
        """A delay comes before the next is asked, and has a bound."""
        last = Opinion("b")
        chain = self.chain(Opinion("a", Verdict.delay(1000, "slowly")), last)
        asked = Deferred.fromCoroutine(chain.ask("rcpt", PROGRESS))
        self.clock.advance(29.9)
        self.assertEqual(last.asked, [])
        self.clock.advance(0.1)
        self.assertIs(self.successResultOf(asked), NOTHING)
        self.assertEqual(last.asked, ["rcpt"])

    def test_delays_together(self) -> None:
        """All delays of a stage have one bound."""
        slow = Verdict.delay(20, "slowly")
        chain = self.chain(Opinion("a", slow), Opinion("b", slow), Opinion("c", slow))
        asked = Deferred.fromCoroutine(chain.ask("rcpt", PROGRESS))
        self.clock.pump([20, 9.9])
        self.assertNoResult(asked)
        self.clock.pump([0.1, 0])
        self.assertIs(self.successResultOf(asked), NOTHING)

    def test_never_answers(self) -> None:
        """A policy that does not come to an end is broken as well."""
        chain = self.chain(Endless("a"))  # type: ignore[arg-type]
        asked = Deferred.fromCoroutine(chain.ask("mail", PROGRESS))
        self.clock.advance(99)
        self.assertNoResult(asked)
        self.clock.advance(1)
        refusal = self.successResultOf(asked).refusal
        self.assertEqual(refusal.reply.code, 451)
        self.assertEqual(len(self.flushLoggedErrors(TimeoutError)), 1)

    def test_gone(self) -> None:
        """A session that ends while a policy thinks says nothing of the policy."""
        chain = self.chain(Endless("a"))  # type: ignore[arg-type]
        asked = Deferred.fromCoroutine(chain.ask("mail", PROGRESS))
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_broken_policy(self) -> None:
        """The client reads a temporary failure that tells nothing, the log has
        the failure and the policy's name, and no policy is skipped."""
        last = Opinion("after")
        chain = self.chain(Opinion("broken", ZeroDivisionError("secret")), last)
        for stage in STAGES:
            refusal = self.ask(chain, stage).refusal
            assert refusal is not None and refusal.reply is not None
            self.assertEqual(refusal.reply.code, 451)
            self.assertNotIn("secret", str(refusal.reply))
            self.assertIn("broken", refusal.reason)
        self.assertEqual(last.asked, [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), len(STAGES))
