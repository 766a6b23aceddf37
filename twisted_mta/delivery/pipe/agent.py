"""The delivery agent that hands mail to a program: a ticket system, a list manager, a
filter of one's own.

It knows no queue and no retry times. It trusts no program: a run has so long, may say
so much, and there are so many at once. A program that exits with 0 has taken the
message, whether it read all of it or not.

BUGS: a program that took the message and was ended before it said so gets it again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    DeferredSemaphore,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mta.delivery.pipe import ending, source
from twisted_mta.delivery.pipe.arguments import Unfit, fit
from twisted_mta.delivery.pipe.run import Run
from twisted_mta.delivery.pipe.settings import Settings
from twisted_mta.errors import MailError
from twisted_mta.interfaces import IContent, IDeliveryAgent
from twisted_mta.mail.address import Address
from twisted_mta.mail.downgrade import Unconvertible
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorProcess, IReactorTime


@implementer(IDeliveryAgent)
class PipeAgent:
    """Runs a program.

    @param reactor: starts processes.
    @param clock: says how long they may take.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactorProcess, clock: IReactorTime, settings: Settings
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._settings = settings
        self._places = DeferredSemaphore(settings.concurrency)
        self._running: set[Run] = set()
        self._closed = False
        if why := self._rights():
            self._log.error(
                "{program} is given no mail: {why}",
                program=settings.arguments.program,
                why=why,
            )

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        """See L{IDeliveryAgent}."""
        if why := self._rights():
            outcome = Outcome(Result.DEFERRED, "4.3.5", why)
            return dict.fromkeys(job.recipients, outcome)
        most = 1 if self._settings.each else self._settings.recipients
        batches = [
            job.recipients[start : start + most]
            for start in range(0, len(job.recipients), most)
        ]
        running = [
            Deferred.fromCoroutine(self._batch(job, content, batch))
            for batch in batches
        ]
        outcomes: dict[Address, Outcome] = {}
        lost: list[Failure] = []
        for _, ended in await DeferredList(running, consumeErrors=True):
            if isinstance(ended, Failure):
                lost.append(ended)
            else:
                outcomes |= ended
        if not lost:
            return outcomes
        # What became of the others is not known. Who has the message is not to get it
        # again for that.
        taken = {
            recipient: outcome
            for recipient, outcome in outcomes.items()
            if outcome.result is Result.DELIVERED
        }
        if not taken:
            lost[0].raiseException()
        for each in lost:
            if not isinstance(each.value, CancelledError):
                self._log.failure("a run of a program failed", each)
        return taken

    async def close(self) -> None:
        """See L{IDeliveryAgent}."""
        self._closed = True
        for run in list(self._running):
            run.abort()

    def _rights(self) -> str:
        """Why no program can be run as who it should be, or nothing."""
        user = self._settings.user
        if os.geteuid() == 0 and user is None:
            return "As root it would have all rights; set 'user' of the agent"
        if os.geteuid() != 0 and user is not None:
            return f"Only root can run it as {user}; remove 'user' of the agent"
        return ""

    async def _batch(
        self, job: Job, content: IContent, recipients: Sequence[Address]
    ) -> Mapping[Address, Outcome]:
        try:
            outcome = await self._outcome(job, content, recipients)
        except Unfit as error:
            outcome = Outcome(Result.FAILED, error.status, str(error))
        except Unconvertible as error:
            outcome = Outcome(Result.FAILED, "5.6.3", str(error))
        except MailError as error:
            text = f"The message cannot be read here: {error.text}"
            outcome = Outcome(Result.DEFERRED, "4.3.0", text)
        except OSError as error:
            text = f"The program cannot be started: {error.strerror}"
            outcome = Outcome(Result.DEFERRED, "4.3.0", text)
        outcomes = dict.fromkeys(recipients, outcome)
        if job.note is not None and len(recipients) < len(job.recipients):
            await job.note(outcomes)
        return outcomes

    async def _outcome(
        self, job: Job, content: IContent, recipients: Sequence[Address]
    ) -> Outcome:
        settings = self._settings
        argv = settings.arguments.put(job, recipients, settings.spelling)
        if not all(map(fit, (job.sender, *recipients))):
            raise Unfit("5.1.0", "An address has characters that no program gets")
        marked = settings.delivered_to and settings.each
        if marked and await source.loops(job, content, recipients[0]):
            text = "The message was delivered to this recipient before"
            return Outcome(Result.FAILED, "5.4.6", text)
        await self._places.acquire()
        try:
            return await self._run(job, content, recipients, argv)
        finally:
            self._places.release()

    async def _run(
        self,
        job: Job,
        content: IContent,
        recipients: Sequence[Address],
        argv: Sequence[str],
    ) -> Outcome:
        if self._closed:
            return Outcome(Result.DEFERRED, "4.3.2", "The server stops")
        settings, over = self._settings, self._running.discard
        run = Run(self._reactor, self._clock, settings, argv, over)
        self._running.add(run)
        try:
            async for octets in source.runs(job, content, recipients, settings):
                if not await run.feed(octets):
                    break
            run.finish()
            return ending.outcome(await run.ended())
        except (MailError, Unconvertible):
            run.abort()
            await run.ended()
            raise
        except BaseException:
            run.abort()
            raise
