"""One attempt: a row's agent is asked, what it said is written down.

It knows which agents there are, and nothing of when and how many. It trusts no agent:
one that breaks or is missing costs its own rows an attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mta.delivery.alarm import Alarm
from twisted_mta.delivery.text import channel, one_line
from twisted_mta.errors import MailError, Temporary
from twisted_mta.interfaces import IDeliveryAgent, ILedger, IQueue
from twisted_mta.mail.address import Address
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result

# After the ledger failed. Doubled each time a settlement fails, up to the
# second: it must be recorded as soon as the ledger is back.
TROUBLE_S = 1.0
TROUBLE_MOST_S = 30.0


class Attempts:
    """Makes attempts.

    @param agents: by the names that routes give them.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        ledger: ILedger,
        queue: IQueue,
        agents: Mapping[str, IDeliveryAgent],
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._queue = queue
        self._agents = agents
        # Who has the message of a row that is still tried, as the queue knows.
        self._noted: dict[int, set[Address]] = {}

    async def deliver(self, job: Job) -> Mapping[Address, Outcome]:
        """Have a row's agent try it, and log what came of it."""
        try:
            outcomes = await self._deliver(replace(job, note=partial(self._note, job)))
        except BaseException:
            self._noted.pop(job.id, None)
            raise
        self._say(job, outcomes)
        return outcomes

    async def _note(self, job: Job, outcomes: Mapping[Address, Outcome]) -> None:
        """Record who has the message while the attempt goes on: if this process dies in
        it, he does not get it again."""
        noted = self._noted.setdefault(job.id, set())
        new = tuple(
            recipient
            for recipient in job.recipients
            if recipient not in noted and _has(outcomes.get(recipient))
        )
        if not new:
            return
        try:
            part = replace(job, recipients=new)
            await self._queue.settle(part, outcomes, so_far=True)
        except MailError as error:
            # It is recorded when the attempt ends.
            id = to_text(job.envelope.id)
            self._log.warn("{id}: not noted yet: {why}", id=id, why=error.text)
        else:
            noted.update(new)

    async def _deliver(self, job: Job) -> Mapping[Address, Outcome]:
        agent = self._agents.get(job.agent)
        if agent is None:
            return _all(
                job,
                "4.3.5",
                f"This server has no delivery agent {job.agent!r}; its operator "
                "must configure one, or remove the message",
            )
        content = self._ledger.stored(job.content, job.size - len(job.prefix))
        try:
            return _checked(await agent.deliver(job, content))
        except CancelledError:
            raise
        except MailError as error:
            # The content could not be read, say.
            return _all(job, "4.3.0", error.text)
        except Exception:
            # It must never raise; what it knew of the recipients is lost.
            self._log.failure(
                "{id}: agent {agent} is broken",
                id=to_text(job.envelope.id),
                agent=job.agent,
            )
            return _all(job, "4.3.0", "The delivery agent failed")

    async def settle(self, job: Job, outcomes: Mapping[Address, Outcome]) -> None:
        """Record the attempt, however long the ledger is away: a recipient that
        has the message must not get it again."""
        if noted := self._noted.pop(job.id, None):
            rest = tuple(who for who in job.recipients if who not in noted)
            if not rest:
                return None  # the row is gone
            job = replace(job, recipients=rest)
        id = to_text(job.envelope.id)
        wait = TROUBLE_S
        while True:
            try:
                return await self._queue.settle(job, outcomes)
            except Temporary as error:
                self._log.warn("{id}: not settled yet: {why}", id=id, why=error.text)
            except CancelledError:
                raise
            except Exception:
                self._log.failure("{id}: cannot be settled, so it is held", id=id)
                return await self._hold(id)
            await Alarm(self._clock).wait(wait)
            wait = min(wait * 2, TROUBLE_MOST_S)

    async def _hold(self, id: str) -> None:
        """Whom it was delivered to is not recorded. Another attempt when the
        lease ends would deliver it again, and then again: an operator looks at
        it first."""
        try:
            await self._queue.hold([id], "what became of an attempt was not recorded")
        except MailError as error:
            self._log.error("{id}: cannot be held: {why}", id=id, why=error.text)

    def _say(self, job: Job, outcomes: Mapping[Address, Outcome]) -> None:
        """The log's line of each recipient, from which everything can be read."""
        delay = self._clock.seconds() - job.envelope.received_at
        rewritten = "" if job.rewritten is None else one_line(str(job.rewritten))
        for recipient in job.recipients:
            outcome = outcomes.get(recipient)
            if outcome is None:
                continue
            said = one_line(outcome.diagnostic)
            self._log.info(
                "{id}: to=<{to}>{sent_as}, agent={agent}, relay={relay}, {tls}"
                "delay={delay:.1f}, dsn={dsn}, status={status}{said}",
                id=to_text(job.envelope.id),
                to=one_line(str(recipient)),
                sent_as=rewritten and f", from=<{rewritten}>",
                agent=job.agent,
                relay=one_line(outcome.remote) or "none",
                tls=channel(outcome),
                delay=delay,
                dsn=outcome.status,
                status=outcome.result.value,
                said=f" ({said})" if said else "",
            )


def _has(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.result is Result.DELIVERED


def _all(job: Job, status: str, diagnostic: str) -> dict[Address, Outcome]:
    outcome = Outcome(Result.DEFERRED, status, diagnostic)
    return dict.fromkeys(job.recipients, outcome)


def _checked(outcomes: Mapping[Address, Outcome]) -> Mapping[Address, Outcome]:
    """What an agent answered, if it is an answer.

    @raise TypeError: it is none.
    """
    if not all(isinstance(outcome, Outcome) for outcome in outcomes.values()):
        raise TypeError(f"not outcomes: {outcomes!r}")
    return outcomes
