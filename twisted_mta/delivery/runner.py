"""The queue run: it takes what is due from the queue and hands it to agents.

One loop claims rows; each row is a task of its own that asks its agent and
settles what came of it. It knows no SQL, no protocol and no retry times. It
trusts no agent: one that breaks, hangs or is missing costs its own rows an
attempt, and hop by hop it gets only its share of the attempts.

BUGS: as in Postfix, C{concurrency} attempts at hops that hang keep other mail
waiting until they time out; C{concurrency / per_hop} such hops are enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_mta.delivery.beyond import Beyond
from twisted_mta.delivery.queue import LEASE_S, Hop
from twisted_mta.delivery.rows import TOPIC
from twisted_mta.delivery.text import channel, one_line
from twisted_mta.errors import MailError, Temporary
from twisted_mta.interfaces import Cancel, IDeliveryAgent, ILedger, IQueue
from twisted_mta.mail.address import Address
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result

# Leases are renewed when a third of them is over: two renewals may fail.
_RENEW_S = LEASE_S / 3

# Without any hint the queue is looked at this often (Postfix: queue_run_delay
# 300 s): hints are not promised.
_LOOK_S = 300.0

# For one place in so many a row is claimed before the place is free.
_SPARE = 8

# After the ledger failed. Doubled each time a settlement fails, up to the
# second: it must be recorded as soon as the ledger is back.
_TROUBLE_S = 1.0
_TROUBLE_MOST_S = 30.0


class Alarm:
    """Something to wait for: a time, or being woken before it."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: Deferred[None] | None = None
        self._woken = False

    def wake(self) -> None:
        """End the wait; if nobody waits, the next one."""
        if self._waiting is None:
            self._woken = True
            return
        waiting, self._waiting = self._waiting, None
        waiting.callback(None)

    async def wait(self, seconds: float) -> None:
        """Wait until woken, at most so long."""
        if self._woken:
            self._woken = False
            return
        self._waiting = Deferred()
        call = self._clock.callLater(seconds, self.wake)
        try:
            await self._waiting
        finally:
            self._waiting = None
            _cancel(call)


def _cancel(call: IDelayedCall) -> None:
    if call.active():
        call.cancel()


class Runner:
    """Works on a queue.

    @param agents: by the names that routes give them.
    @param concurrency: attempts at the same time.
    @param per_hop: the same to one next hop of an agent.
    @param grace_s: how long L{stop} waits for attempts that are running.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        ledger: ILedger,
        queue: IQueue,
        agents: Mapping[str, IDeliveryAgent],
        *,
        concurrency: int = 100,
        per_hop: int = 20,
        grace_s: float = 10.0,
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._queue = queue
        self._agents = agents
        self._concurrency = concurrency
        # Rows beyond those that have a place: the next attempts begin at once,
        # and the rest is left to processes that have places.
        self._spare = concurrency // _SPARE
        self._per_hop = per_hop
        self._grace_s = grace_s
        self._alarm = Alarm(clock)
        self._stopping = False
        self._renew_at = 0.0
        self._loop: Deferred[None] | None = None
        self._unwatch: Cancel | None = None
        # What this process has leases of: rows that are being tried, and rows
        # that wait here for a place, so that a connection to their next hop is
        # used again at once.
        self._running: dict[int, tuple[Job, Deferred[None]]] = {}
        self._ready: dict[int, Job] = {}
        self._to_hop: Counter[Hop] = Counter()
        self._beyond = Beyond(clock)

    # --- life ---

    async def start(self) -> None:
        """Begin."""
        self._unwatch = self._ledger.watch(TOPIC, self._alarm.wake)
        self._renew_at = self._clock.seconds() + _RENEW_S
        self._loop = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """End: no new attempts, those that run get a time of grace, what was
        not tried to the end is given back. Then the agents are closed."""
        self._stopping = True
        if self._unwatch is not None:
            self._unwatch()
        if self._loop is not None:
            self._alarm.wake()
            await self._loop
        unfinished, begun = list(self._ready.values()), []
        self._ready.clear()
        end = self._clock.seconds() + self._grace_s
        while self._running and (left := end - self._clock.seconds()) > 0:
            await self._alarm.wait(left)
        for job, task in list(self._running.values()):
            begun.append(job)
            task.cancel()
        try:
            await self._queue.give_back([*unfinished, *begun], begun)
        except Temporary as error:
            self._log.warn("leases could not be given back: {why}", why=error.text)
        for agent in self._agents.values():
            await agent.close()

    async def _run(self) -> None:
        while not self._stopping:
            try:
                rest = await self._turn()
            except Temporary as error:
                self._log.warn("the queue cannot be read: {why}", why=error.text)
                rest = _TROUBLE_S
            except CancelledError:
                raise
            except Exception:
                # The queue must not stand still until a restart.
                self._log.failure("the queue run failed; it goes on in a while")
                rest = _TROUBLE_MOST_S
            if rest > 0 and not self._stopping:
                await self._alarm.wait(rest)

    async def _turn(self) -> float:
        """Look once.

        @return: seconds until the next look.
        """
        self._launch()
        now = self._clock.seconds()
        if now >= self._renew_at:
            await self._queue.renew(self._leased())
            self._renew_at = now + _RENEW_S
        rest = _LOOK_S
        most = self._concurrency - len(self._running)
        most += max(self._spare - len(self._ready), 0)
        if most > 0:
            rest = await self._look(most)
        if self._running or self._ready:
            rest = min(rest, self._renew_at - self._clock.seconds())
        return min(max(rest, 0.0), _LOOK_S)

    async def _look(self, most: int) -> float:
        """Take what is due, up to so many rows.

        @return: seconds until the next look.
        """
        room = self._room()
        busy = frozenset(hop for hop, more in room.items() if not more)
        pause_s = self._beyond.pause_s(busy)
        if pause_s > 0:
            return pause_s
        began = self._clock.seconds()
        if not busy and (rest := await self._until_due(busy)) > 0:
            return rest
        jobs = await self._queue.claim(most, room, 2 * self._per_hop)
        for job in jobs:
            # Our lease may have ended, and was renewed by this.
            if job.id not in self._running:
                self._ready[job.id] = job
        if jobs:
            return 0
        if not busy:
            return _TROUBLE_S  # another process was faster
        rest = await self._until_due(busy)
        self._beyond.in_vain(busy, self._clock.seconds() - began)
        return rest

    async def _until_due(self, busy: Collection[Hop]) -> float:
        """@return: seconds; 0 or less: something is due."""
        due = await self._queue.next_due(busy)
        return _LOOK_S if due is None else due - self._clock.seconds()

    def _leased(self) -> list[Job]:
        return [*self._ready.values(), *(job for job, _ in self._running.values())]

    def _room(self) -> dict[Hop, int]:
        """How many rows more of each hop there is room for: as many wait here as are
        tried, and when none waits more are taken, several at once."""
        waiting = Counter((job.agent, job.next_hop) for job in self._ready.values())
        room: dict[Hop, int] = {}
        for hop in {*waiting, *self._to_hop}:
            tried = self._to_hop[hop]
            full = waiting[hop] and tried >= self._per_hop
            room[hop] = 0 if full else max(2 * self._per_hop - tried - waiting[hop], 0)
        return room

    def _launch(self) -> None:
        """Start what has a place, oldest first."""
        for job in list(self._ready.values()):
            if self._stopping or len(self._running) >= self._concurrency:
                return
            if self._to_hop[job.agent, job.next_hop] < self._per_hop:
                del self._ready[job.id]
                self._start(job)

    # --- one attempt ---

    def _start(self, job: Job) -> None:
        self._to_hop[job.agent, job.next_hop] += 1
        # The attempt may end before there is a Deferred to keep.
        self._running[job.id] = job, Deferred()
        task = Deferred.fromCoroutine(self._attempt(job))
        if job.id in self._running:
            self._running[job.id] = job, task

    async def _attempt(self, job: Job) -> None:
        """The top of a task: try a row, record what came of it."""
        try:
            outcomes = await self._deliver(job)
            self._say(job, outcomes)
            await self._settle(job, outcomes)
        except CancelledError:
            self._log.info("{id}: attempt cut short", id=to_text(job.envelope.id))
        finally:
            self._ended(job)

    def _ended(self, job: Job) -> None:
        hop = job.agent, job.next_hop
        del self._running[job.id]
        self._to_hop[hop] -= 1
        if not self._to_hop[hop]:
            del self._to_hop[hop]
        self._alarm.wake()

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

    async def _settle(self, job: Job, outcomes: Mapping[Address, Outcome]) -> None:
        """Record the attempt, however long the ledger is away: a recipient that
        has the message must not get it again."""
        id = to_text(job.envelope.id)
        wait = _TROUBLE_S
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
            wait = min(wait * 2, _TROUBLE_MOST_S)

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
