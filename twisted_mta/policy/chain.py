"""Several policies as one: each has its say, the first that refuses decides.

A policy that raises is broken; the client reads a temporary failure, so that
neither mail is lost nor a refusal skipped, and the log names the policy. It
knows nothing of what policies are about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.interfaces import IPolicy, IPolicyChain
from twisted_mta.mail.verdict import NOTHING, Judgement, Kind, Progress, Verdict

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# RFC 5321 4.5.3.2: a client waits for 5 minutes at least, but each that waits here
# has a connection and a transaction open.
_DELAY_MOST_S = 30.0

_BROKEN = Verdict.tempfail("Temporary failure; please try again later", status="4.3.0")


@implementer(IPolicyChain)
class Chain:
    """The policies of a listener, asked in their order.

    @param clock: for delays.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, policies: Sequence[IPolicy]) -> None:
        self._clock = clock
        self._policies = tuple(policies)

    async def ask(self, stage: str, progress: Progress) -> Judgement:
        """See L{IPolicyChain.ask}."""
        judgement = NOTHING
        for policy in self._policies:
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
                    seconds = min(verdict.seconds, _DELAY_MOST_S)
                    await deferLater(self._clock, seconds)
        return judgement

    async def _verdict(
        self, policy: IPolicy, stage: str, progress: Progress
    ) -> Verdict | None:
        try:
            verdict: Verdict | None = await getattr(policy, stage)(progress)
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
        return verdict

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
