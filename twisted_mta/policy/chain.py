"""Several policies as one: each has its say, the first that refuses decides.

A policy that raises, or that never answers, is broken; the client reads a temporary
failure, so that neither mail is lost nor a refusal skipped, and the log names the
policy. It knows nothing of what policies are about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.interfaces import IPolicy, IPolicyChain
from twisted_mta.mail.verdict import NOTHING, Judgement, Kind, Progress, Verdict
from twisted_mta.policy.silent import Silent

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# RFC 5321 4.5.3.2: a client waits for 5 minutes at least, but each that waits here
# has a connection and a transaction open. That much for all policies of a stage.
_DELAY_MOST_S = 30.0

# How long one policy may think: Postfix, smtpd_policy_service_timeout.
_ANSWER_MOST_S = 100.0

_STAGES = ("connect", "helo", "mail", "rcpt", "message")

_BROKEN = Verdict.tempfail("Temporary failure; please try again later", status="4.3.0")


@implementer(IPolicyChain)
class Chain:
    """The policies of a listener, asked in their order.

    @param clock: for delays.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, policies: Sequence[IPolicy]) -> None:
        self._clock = clock
        # Most speak at one stage or two. Asking one that is silent costs 3 us.
        self._policies = {
            stage: tuple(one for one in policies if _speaks(one, stage))
            for stage in _STAGES
        }

    async def ask(self, stage: str, progress: Progress) -> Judgement:
        """See L{IPolicyChain.ask}."""
        judgement, left_s = NOTHING, _DELAY_MOST_S
        for policy in self._policies[stage]:
            verdict = await self._verdict(policy, stage, progress)
            if verdict is None:
                continue
            self._say(policy, stage, progress, verdict)
            match verdict.kind:
                case Kind.REFUSE:
                    return replace(judgement, refusal=verdict)
                case Kind.ACCEPT:
                    return replace(judgement, exempt=True)
                case Kind.QUARANTINE:
                    judgement = replace(judgement, quarantine=True)
                case Kind.TAG:
                    fields = (*judgement.fields, verdict.field)
                    judgement = replace(judgement, fields=fields)
                case Kind.DELAY:
                    seconds = min(verdict.seconds, left_s)
                    left_s -= seconds
                    await deferLater(self._clock, seconds)
        return judgement

    async def _verdict(
        self, policy: IPolicy, stage: str, progress: Progress
    ) -> Verdict | None:
        try:
            asked: Deferred[Verdict | None] = ensureDeferred(
                getattr(policy, stage)(progress)
            )
            if not asked.called:  # most know at once, and need no timer
                asked.addTimeout(_ANSWER_MOST_S, self._clock)
            return await asked
        except CancelledError:
            raise
        except Exception:
            # A policy is a stranger's code: the top of its task is here.
            self.log.failure(
                "{session}: the policy {policy} is broken at {stage}",
                session=progress.session,
                policy=policy.name,
                stage=stage,
            )
            return replace(_BROKEN, reason=f"the policy {policy.name} is broken")

    def _say(
        self, policy: IPolicy, stage: str, progress: Progress, verdict: Verdict
    ) -> None:
        self.log.info(
            "{session}: {verdict} at {stage}: policy={policy}, reply={reply},"
            " reason={reason!r}",
            session=progress.session,
            verdict=verdict.kind.value,
            stage=stage,
            policy=policy.name,
            reply=str(verdict.reply) if verdict.reply else "-",
            reason=verdict.reason,
        )


def _speaks(policy: IPolicy, stage: str) -> bool:
    said = getattr(policy, stage)
    return getattr(said, "__func__", said) is not getattr(Silent, stage)
