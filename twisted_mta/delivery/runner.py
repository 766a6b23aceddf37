"""The queue run: it takes what is due from the queue and hands it to agents.

One loop claims rows, finds out of which site each is, and starts what has a place
(L{Places}); each attempt is a task of its own, which settles what came of it and tells
what it means for its site. Rows of a site that is down are not tried: they are parked
until somebody may probe it (L{Outages}), and are due when it answers. It knows no SQL,
no protocol and no retry times. It trusts no agent: one that hangs has only its share of
the attempts, site by site and sender by sender.

BUGS: as in Postfix, C{concurrency} attempts at hops that hang keep other mail waiting
until they time out, if they are of many senders.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from random import random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mta.config import schema
from twisted_mta.delivery.alarm import Alarm
from twisted_mta.delivery.attempt import TROUBLE_MOST_S, TROUBLE_S, Attempts
from twisted_mta.delivery.beyond import Beyond
from twisted_mta.delivery.naming import Naming
from twisted_mta.delivery.outage import Outages
from twisted_mta.delivery.places import Places
from twisted_mta.delivery.queue import LEASE_S, Hop
from twisted_mta.delivery.recovery import Recovery
from twisted_mta.delivery.rows import TOPIC
from twisted_mta.delivery.site import Site
from twisted_mta.errors import Temporary
from twisted_mta.interfaces import (
    Cancel,
    IDeliveryAgent,
    ILedger,
    IQueue,
    IRated,
)
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.job import Job, Parked

# Leases are renewed when a third of them is over: two renewals may fail.
_RENEW_S = LEASE_S / 3

# Without any hint the queue is looked at this often (Postfix: queue_run_delay
# 300 s): hints are not promised.
_LOOK_S = 300.0

# For one place in so many a row is claimed before the place is free.
_SPARE = 8

# How long a row is put off whose site turned out to be full; by chance up to three
# times that. Rows of next hops that are known to be of the site are not claimed.
_PUT_OFF_S = 1.0

# How often it is looked whether an operator has stopped what waits for its place: who
# waits for the pace of a site may do so for hours.
_STOPPED_S = 2.0

_SETTINGS = schema.Queue()


class Runner:
    """Works on a queue.

    @param agents: by the names that routes give them.
    @param concurrency: attempts at the same time.
    @param per_hop: the most at the same time to one site of an agent.
    @param grace_s: how long L{stop} waits for attempts that are running.
    @param settings: of which the rest is used: rules for sites, and times.
    @param share: what this process has of a number that all have together.
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
        settings: schema.Queue = _SETTINGS,
        share: Callable[[int], int] = int,
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._queue = queue
        self._agents = agents
        # Rows beyond those that have a place: the next attempts begin at once,
        # and the rest is left to processes that have places.
        self._spare = concurrency // _SPARE
        initial = min(max(share(settings.initial_concurrency), 1), max(per_hop, 1))
        self._of_unknown = 2 * initial
        self._grace_s = grace_s
        self._alarm = Alarm(clock)
        self._stopping = False
        self._renew_at = 0.0
        self._stopped_at = 0.0
        self._loop: Deferred[None] | None = None
        self._unwatch: Cancel | None = None
        self._naming = Naming(clock, agents, settings.sites)
        rate = settings.rate_per_site
        self._places = Places(
            concurrency,
            initial,
            per_hop,
            None if rate is None else (share(rate.count), rate.seconds),
            self._naming.rule,
            share,
            {
                name: agent.rate
                for name, agent in agents.items()
                if IRated.providedBy(agent) and agent.rate is not None
            },
        )
        self._attempts = Attempts(clock, ledger, queue, agents)
        self._outages = Outages(clock, ledger, settings, random)
        self._recovery = Recovery(clock, queue, self._outages)
        # What this process has leases of, beside the rows that wait for a place: rows
        # that are being tried, rows of which it is asked where they go, and rows that
        # are about to be put off.
        self._running: dict[int, tuple[Job, Deferred[None]]] = {}
        self._asked: dict[int, tuple[Job, Deferred[None]]] = {}
        self._parked: list[Parked] = []
        self._beyond = Beyond(clock)

    # --- life ---

    async def start(self) -> None:
        """Begin."""
        self._unwatch = self._ledger.watch(TOPIC, self._alarm.wake)
        self._outages.start()
        self._renew_at = self._clock.seconds() + _RENEW_S
        self._loop = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """End: no new attempts, those that run get a time of grace, what was
        not tried to the end is given back. Then the agents are closed."""
        self._stopping = True
        if self._unwatch is not None:
            self._unwatch()
        self._outages.stop()
        if self._loop is not None:
            self._alarm.wake()
            await self._loop
        unfinished, begun = self._waiting(), []
        for _, asking in list(self._asked.values()):
            asking.cancel()
        self._asked.clear()
        self._parked.clear()
        for job, site in self._places.waiting():
            self._places.leave(job, site)
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
                rest = TROUBLE_S
            except CancelledError:
                raise
            except Exception:
                # The queue must not stand still until a restart.
                self._log.failure("the queue run failed; it goes on in a while")
                rest = TROUBLE_MOST_S
            if rest > 0 and not self._stopping:
                await self._alarm.wait(rest)

    async def _turn(self) -> float:
        """Look once.

        @return: seconds until the next look.
        """
        await self._outages.refresh()
        await self._let_go_of_stopped()
        self._launch()
        await self._park()
        now = self._clock.seconds()
        if now >= self._renew_at:
            await self._queue.renew(self._leased())
            self._renew_at = now + _RENEW_S
        rest = _LOOK_S
        most = self._places.free + max(self._spare - self._places.ready, 0)
        most -= len(self._asked)
        if most > 0:
            rest = await self._look(most)
        rest = min(rest, self._places.pause_s(self._clock.seconds()))
        if self._leased():
            rest = min(rest, self._renew_at - self._clock.seconds())
        return min(max(rest, 0.0), _LOOK_S)

    async def _look(self, most: int) -> float:
        """Take what is due, up to so many rows.

        @return: seconds until the next look.
        """
        room = self._places.room(self._clock.seconds())
        hops = frozenset(hop for hop, more in room.items() if not more)
        flows = frozenset(self._places.full_flows())
        busy: frozenset[object] = hops | flows
        pause_s = self._beyond.pause_s(busy)
        if pause_s > 0:
            return pause_s
        began = self._clock.seconds()
        if not busy and (rest := await self._until_due(hops, flows)) > 0:
            return rest
        jobs = await self._queue.claim(most, room, self._of_unknown, flows)
        for job in jobs:
            # Our lease may have ended, and was renewed by this.
            if not self._has(job.id):
                self._arrive(job)
        if jobs:
            return 0
        if not busy:
            return TROUBLE_S  # another process was faster
        rest = await self._until_due(hops, flows)
        self._beyond.in_vain(busy, self._clock.seconds() - began)
        return rest

    async def _until_due(self, hops: Collection[Hop], flows: Collection[str]) -> float:
        """@return: seconds; 0 or less: something is due."""
        due = await self._queue.next_due(hops, flows)
        return _LOOK_S if due is None else due - self._clock.seconds()

    def _waiting(self) -> list[Job]:
        """Rows that wait here, for whatever it is."""
        return [
            *(job for job, _ in self._places.waiting()),
            *(job for job, _ in self._asked.values()),
            *(one.job for one in self._parked),
        ]

    def _has(self, id: int) -> bool:
        return (
            id in self._running
            or id in self._asked
            or self._places.waits(id)
            or any(one.job.id == id for one in self._parked)
        )

    def _leased(self) -> list[Job]:
        return [*self._waiting(), *(job for job, _ in self._running.values())]

    # --- where a row goes ---

    def _arrive(self, job: Job) -> None:
        """A row was claimed."""
        name = self._naming.known((job.agent, job.next_hop))
        if name is not None:
            self._sort(job, name)
            return
        self._asked[job.id] = job, Deferred()
        asking = Deferred.fromCoroutine(self._ask(job))
        if job.id in self._asked:
            self._asked[job.id] = job, asking

    async def _ask(self, job: Job) -> None:
        """The top of a task: find out which site it is."""
        try:
            name = await self._naming.name((job.agent, job.next_hop))
        except CancelledError:
            return
        except Exception:
            # It must never raise; so it is a site of its own.
            self._log.failure("agent {agent} knows no sites", agent=job.agent)
            name = job.next_hop
        if self._asked.pop(job.id, None) is not None and not self._stopping:
            self._sort(job, name)
            self._alarm.wake()

    def _sort(self, job: Job, name: str) -> None:
        site = self._places.site((job.agent, name), self._clock.seconds())
        site.came((job.agent, job.next_hop))
        if self._recovery.is_down(site):
            self._parked.append(self._recovery.parked(job, site))
        elif site.takes:
            self._places.wait(job, site)
        else:
            put_off_s = _PUT_OFF_S * (1 + 2 * random())
            self._parked.append(Parked(job, self._clock.seconds() + put_off_s))

    async def _park(self) -> None:
        """Put off what is not tried now.

        @raise Temporary: the leases are still ours.
        """
        if not self._parked:
            return
        parked = list(self._parked)
        try:
            await self._queue.park(parked)
        except Temporary:
            raise
        except Exception:
            # They are not to keep all others waiting; their leases end.
            self._parked.clear()
            raise
        del self._parked[: len(parked)]

    async def _let_go_of_stopped(self) -> None:
        """Give back what waits for its place, and is not to be tried any more.

        @raise Temporary: the leases are still ours.
        """
        waiting, now = self._places.waiting(), self._clock.seconds()
        if not waiting or 0 <= now - self._stopped_at < _STOPPED_S:
            return
        stopped = await self._queue.stopped([job for job, _ in waiting])
        if stopped:
            await self._queue.give_back(stopped)
            ids = {job.id for job in stopped}
            for job, site in waiting:
                if job.id in ids:
                    self._places.leave(job, site)
        self._stopped_at = now

    def _launch(self) -> None:
        """Start what has a place, oldest first."""
        places, now = self._places, self._clock.seconds()
        for job, site in places.waiting():
            if self._stopping or not places.free:
                return
            if self._recovery.is_down(site):
                places.leave(job, site)
                self._parked.append(self._recovery.parked(job, site))
            elif places.may_begin(job, site, now):
                places.leave(job, site)
                self._start(job, site)

    # --- one attempt ---

    def _start(self, job: Job, site: Site) -> None:
        self._recovery.begins(job, site)
        self._places.begin(job, site, self._clock.seconds())
        # The attempt may end before there is a Deferred to keep.
        self._running[job.id] = job, Deferred()
        task = Deferred.fromCoroutine(self._attempt(job, site))
        if job.id in self._running:
            self._running[job.id] = job, task

    async def _attempt(self, job: Job, site: Site) -> None:
        """The top of a task: try a row, record what came of it."""
        learnt: Coroutine[Any, Any, None] | None = None
        try:
            outcomes = await self._attempts.deliver(job)
            learnt = self._recovery.learns(job, site, outcomes)
            await self._attempts.settle(job, outcomes)
            if learnt is not None:
                await learnt
        except CancelledError:
            self._log.info("{id}: attempt cut short", id=to_text(job.envelope.id))
        finally:
            if learnt is not None:
                learnt.close()  # it may not have begun
            self._ended(job, site)

    def _ended(self, job: Job, site: Site) -> None:
        del self._running[job.id]
        self._recovery.ended(job, site)
        self._places.end(job, site)
        self._alarm.wake()
