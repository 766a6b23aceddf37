"""L{twisted_mta.policy.chain}."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_mta.interfaces import IPolicy
from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.reply import Reply
from twisted_mta.mail.verdict import Progress, Verdict
from twisted_mta.policy.chain import Chain

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


class ChainTests(TestCase):
    def ask(self, chain: Chain, stage: str) -> Verdict | None:
        """What the chain says at a stage."""
        asked = Deferred.fromCoroutine(getattr(chain, stage)(PROGRESS))
        verdict: Verdict | None = self.successResultOf(asked)
        return verdict

    def test_interface(self) -> None:
        """A chain is a policy itself, so chains can be parts of chains."""
        verifyObject(IPolicy, Chain([]))
        verifyObject(IPolicy, Opinion("x"))

    def test_nobody_objects(self) -> None:
        """All are asked, each at the stage in question, and the transaction
        goes on."""
        policies = [Opinion("a"), Opinion("b")]
        chain = Chain(policies)
        for stage in STAGES:
            self.assertIsNone(self.ask(chain, stage))
        self.assertEqual([policy.asked for policy in policies], [list(STAGES)] * 2)

    def test_first_objection_decides(self) -> None:
        """Those after it are not asked."""
        first = Verdict(Reply(550, "5.7.1", ("no",)), "reason")
        second = Verdict(Reply(451, "4.7.1", ("later",)))
        last = Opinion("c", second)
        chain = Chain([Opinion("a"), Opinion("b", first), last])
        for stage in STAGES:
            self.assertIs(self.ask(chain, stage), first)
        self.assertEqual(last.asked, [])

    def test_broken_policy(self) -> None:
        """The client reads a temporary failure that tells nothing, the log has
        the failure and the policy's name, and no policy is skipped."""
        last = Opinion("after")
        chain = Chain([Opinion("broken", ZeroDivisionError("secret")), last])
        for stage in STAGES:
            verdict = self.ask(chain, stage)
            assert verdict is not None
            self.assertEqual(verdict.reply.code, 451)
            self.assertNotIn("secret", str(verdict.reply))
            self.assertIn("broken", verdict.reason)
        self.assertEqual(last.asked, [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), len(STAGES))
