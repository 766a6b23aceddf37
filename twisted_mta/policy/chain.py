"""Several policies as one: the first that objects decides.

A policy that raises is broken; the client reads a temporary failure, so that
neither mail is lost nor a refusal skipped, and the log names the policy. It
knows nothing of what policies are about.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.interfaces import IPolicy
from twisted_mta.mail.reply import Reply
from twisted_mta.mail.verdict import Progress, Verdict

_Ask = Callable[[Progress], Awaitable[Verdict | None]]

_BROKEN = Reply(451, "4.3.0", ("Temporary failure; please try again later",))


@implementer(IPolicy)
class Chain:
    """The policies of a listener, asked in their order."""

    log = Logger()
    name = "chain"

    def __init__(self, policies: Sequence[IPolicy]) -> None:
        self._policies = tuple(policies)

    async def connect(self, progress: Progress) -> Verdict | None:
        asks = [(policy.name, policy.connect) for policy in self._policies]
        return await self._first("connect", asks, progress)

    async def helo(self, progress: Progress) -> Verdict | None:
        asks = [(policy.name, policy.helo) for policy in self._policies]
        return await self._first("helo", asks, progress)

    async def mail(self, progress: Progress) -> Verdict | None:
        asks = [(policy.name, policy.mail) for policy in self._policies]
        return await self._first("mail", asks, progress)

    async def rcpt(self, progress: Progress) -> Verdict | None:
        asks = [(policy.name, policy.rcpt) for policy in self._policies]
        return await self._first("rcpt", asks, progress)

    async def message(self, progress: Progress) -> Verdict | None:
        asks = [(policy.name, policy.message) for policy in self._policies]
        return await self._first("message", asks, progress)

    async def _first(
        self, stage: str, asks: Sequence[tuple[str, _Ask]], progress: Progress
    ) -> Verdict | None:
        for name, ask in asks:
            try:
                verdict = await ask(progress)
            except CancelledError:
                raise
            except Exception:
                # A policy is a stranger's code: the top of its task is here.
                self.log.failure(
                    "{session}: the policy {policy} is broken at {stage}",
                    session=progress.session,
                    policy=name,
                    stage=stage,
                )
                return Verdict(_BROKEN, reason=f"the policy {name} is broken")
            if verdict is not None:
                self.log.info(
                    "{session}: refused at {stage}: policy={policy},"
                    " reply={reply}, reason={reason!r}",
                    session=progress.session,
                    stage=stage,
                    policy=name,
                    reply=str(verdict.reply),
                    reason=verdict.reason,
                )
                return verdict
        return None
