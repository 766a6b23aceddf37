"""From the attempts at a site to whether it is down, and what that means for its rows.

Failures with no answer between them make a site dead (L{Window}). Then its rows wait
without an attempt, each until a time of its own after that of the next probe, so that
they do not all come back at once; one waits until just that time, and is the probe. If
it fails, the pause grows; if it is answered, what waits for the site is made due, some
hundreds of rows in a second, and the window begins anew.

What the outages' rows cannot be told (the ledger is away) this process knows all the
same.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from random import random
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mta.delivery.outage import Outage, Outages
from twisted_mta.delivery.reach import reached
from twisted_mta.delivery.site import Site
from twisted_mta.delivery.text import one_line
from twisted_mta.errors import Temporary
from twisted_mta.interfaces import IQueue
from twisted_mta.mail.address import Address
from twisted_mta.mail.job import Job, Parked
from twisted_mta.mail.route import Outcome, Result

# Rows that are made due in one go for a site that answers, for each attempt that may
# run there at the same time; and how long until the next go.
_WOKEN = 25
_WAKE_S = 1.0

# Rows that were tried in vain, and are due when the site answers, as those that were
# not tried.
_VAIN = 100

# While a probe runs, the other rows of its site wait at least so long: it takes no
# longer than that to connect.
_PROBING_S = 30.0


class Recovery:
    """What one process makes of its attempts."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, queue: IQueue, outages: Outages) -> None:
        self._clock = clock
        self._queue = queue
        self._outages = outages

    def is_down(self, site: Site) -> bool:
        """Whether rows of a site are not to be tried now."""
        outage = self._outages.of(site.key)
        if outage is None:
            return False
        return site.probe is not None or self._clock.seconds() < outage.probe_at

    def parked(self, job: Job, site: Site) -> Parked:
        """A row that waits for a site that is down."""
        outage, now = self._outages.of(site.key), self._clock.seconds()
        if outage is None:
            return Parked(job, now)
        if now < outage.probe_at:
            due = outage.probe_at + outage.pause_s * random()
            if site.first[0] != outage.probe_at or site.first[1] == job.id:
                # It may be parked again, when its sender was told of the delay.
                site.first = outage.probe_at, job.id
                due = outage.probe_at
        else:
            due = now + _PROBING_S + outage.pause_s * random()
        return Parked(job, due, site.key[1], _outcome(site, outage))

    def begins(self, job: Job, site: Site) -> None:
        """A row is tried."""
        if self._outages.of(site.key) is not None:
            site.probe = job.id

    def ended(self, job: Job, site: Site) -> None:
        """It is tried no more, whatever came of it."""
        if site.probe == job.id:
            site.probe = None

    def learns(
        self, job: Job, site: Site, outcomes: Mapping[Address, Outcome]
    ) -> Coroutine[Any, Any, None] | None:
        """What came of an attempt, and what is to be done about its site."""
        answered = reached(outcomes.values())
        if answered:
            site.window.answered()
            site.vain.clear()
            if self._outages.of(site.key) is not None:
                site.window.begin()
                site.waking, site.wake_at = True, 0.0
                return self._up(site)
            if site.waking and self._clock.seconds() >= site.wake_at:
                return self._wake(site)
        elif answered is False:
            dead = site.window.failed()
            site.vain = [*site.vain[-_VAIN:], job.id]
            known = self._outages.of(site.key) is not None
            # What began before the site was found dead says nothing new.
            if site.probe == job.id or (dead and not known):
                site.waking = False
                return self._down(site, outcomes)
        return None

    async def _down(self, site: Site, outcomes: Mapping[Address, Outcome]) -> None:
        why = next(iter(outcomes.values())).diagnostic
        try:
            outage = await self._outages.down(site.key, why)
            await self._queue.await_site(site.vain, site.key[1])
        except Temporary as error:
            self._log.warn(
                "{site}: others cannot be told that it is down: {why}",
                site=one_line(site.key[1]),
                why=error.text,
            )
            return
        self._log.warn(
            "{site}: is down, agent={agent}, failures={failures}, next attempt in"
            " {pause:.0f} s ({why})",
            site=one_line(site.key[1]),
            agent=site.key[0],
            failures=outage.failures,
            pause=outage.pause_s,
            why=outage.diagnostic,
        )

    async def _up(self, site: Site) -> None:
        try:
            await self._outages.up(site.key)
        except Temporary as error:
            self._log.warn(
                "{site}: others cannot be told that it is there: {why}",
                site=one_line(site.key[1]),
                why=error.text,
            )
        self._log.info(
            "{site}: is there again, agent={agent}",
            site=one_line(site.key[1]),
            agent=site.key[0],
        )
        await self._wake(site)

    async def _wake(self, site: Site) -> None:
        """Make some rows due that wait for the site."""
        site.wake_at = self._clock.seconds() + _WAKE_S
        most = _WOKEN * site.window.size
        try:
            count = await self._queue.wake(*site.key, most)
        except Temporary:
            return  # they are due by themselves
        site.waking = count == most


def _outcome(site: Site, outage: Outage) -> Outcome:
    since = datetime.fromtimestamp(outage.since, UTC)
    text = f"{site.key[1]} is down since {since:%Y-%m-%d %H:%M:%S} UTC"
    return Outcome(Result.DEFERRED, "4.4.1", f"{text}: {outage.diagnostic}")
