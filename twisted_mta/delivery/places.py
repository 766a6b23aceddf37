"""Who may begin an attempt: so many in all, at each site, and of each sender.

Of the places in all none belongs to anybody, but whoever has many finds fewer: a flow
may have at most so many times what is free (dynamic thresholds, Choudhury and Hahne
1998). One sender alone has eight ninths of the places, two have nearly half each, and
one who comes new finds one free, however long the attempts of a few others take.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping

from twisted_mta.config import schema
from twisted_mta.delivery.flow import flow
from twisted_mta.delivery.naming import Hop
from twisted_mta.delivery.pace import Pace
from twisted_mta.delivery.site import Site
from twisted_mta.delivery.window import Window
from twisted_mta.mail.job import Job

# A flow's attempts for each free place.
_TIMES_FREE = 8

# Sites that are remembered though nothing goes there: how large their windows were, and
# when the next message may go.
_REMEMBERED = 10_000
_FORGOTTEN = 1_000

# How long the rule of a site holds until it is looked for again.
_RULED_S = 300.0

_NONE: Mapping[str, tuple[int, float]] = {}


class Places:
    """The places of one process.

    @param concurrency: attempts at the same time.
    @param initial: the same to one site, to begin with.
    @param most: the most to one site that has no rule.
    @param rule: the rule of a site.
    @param share: what this process has of a number that all have together.
    @param rates: the rates of agents that have one.
    """

    def __init__(
        self,
        concurrency: int,
        initial: int,
        most: int,
        pace: tuple[int, float] | None,
        rule: Callable[[Hop], schema.Site | None],
        share: Callable[[int], int],
        rates: Mapping[str, tuple[int, float]] = _NONE,
    ) -> None:
        self._common = {
            agent: Pace(max(share(count), 1), seconds)
            for agent, (count, seconds) in rates.items()
        }
        self._concurrency = concurrency
        self._initial = initial
        self._most = most
        self._pace = pace
        self._rule = rule
        self._share = share
        self._sites: OrderedDict[Hop, Site] = OrderedDict()
        # Those where something runs or waits, and those that are left to others.
        self._busy: dict[Hop, Site] = {}
        self._flows: Counter[str] = Counter()
        self._ready: dict[int, tuple[Job, Site]] = {}
        self._running = 0

    # --- rows that wait ---

    def site(self, key: Hop, now: float) -> Site:
        """A site, perhaps new."""
        site = self._sites.get(key)
        if site is None:
            site = self._sites[key] = self._made(key)
            site.ruled_until = now + _RULED_S
            self._forget()
        else:
            self._sites.move_to_end(key)
            if not now < site.ruled_until <= now + _RULED_S:
                site.ruled_until = now + _RULED_S
                self._rule_anew(site)
        return site

    def _rule_anew(self, site: Site) -> None:
        """The rule of a site may have been found only now: its domain could not be
        looked up, or has moved."""
        most, pace = self._limits(site.key)
        site.window.bound(most)
        if pace != site.rate:
            site.rate, site.pace = pace, Pace(*pace) if pace else None
        if not most:
            self._busy[site.key] = site
        else:
            self._look(site)

    def _made(self, key: Hop) -> Site:
        most, pace = self._limits(key)
        common = self._common.get(key[0])
        site = Site(key, Window(self._initial, most), pace, common)
        if not most:  # the others have all of it
            self._busy[key] = site
        return site

    def _limits(self, key: Hop) -> tuple[int, tuple[int, float] | None]:
        """The most attempts at a site, and its rate."""
        rule, most = self._rule(key), self._most
        # What goes nowhere, such as what is released, is no site's.
        pace = self._pace if key[1] else None
        if rule is not None:
            if rule.connections is not None:
                most = self._share(rule.connections)
            if rule.rate is not None:
                pace = self._share(rule.rate.count), rule.rate.seconds
        if pace is not None and not pace[0]:
            most, pace = 0, None
        return most, pace

    def _forget(self) -> None:
        if len(self._sites) <= _REMEMBERED:
            return
        # Some at once: it is to look at each of them.
        for key in list(self._sites)[:_FORGOTTEN]:
            if self._sites[key].idle:
                del self._sites[key]
                self._busy.pop(key, None)

    def wait(self, job: Job, site: Site) -> None:
        """A row waits here for its place."""
        site.ready[job.id] = job
        self._ready[job.id] = job, site
        self._busy[site.key] = site

    def leave(self, job: Job, site: Site) -> None:
        """It waits no longer."""
        del site.ready[job.id], self._ready[job.id]
        self._look(site)

    def _look(self, site: Site) -> None:
        if site.idle and site.window.size:
            self._busy.pop(site.key, None)

    def waiting(self) -> list[tuple[Job, Site]]:
        """Those that wait, in the order in which they came."""
        return list(self._ready.values())

    def waits(self, id: int) -> bool:
        """Whether a row waits here."""
        return id in self._ready

    @property
    def ready(self) -> int:
        """How many wait."""
        return len(self._ready)

    # --- rows that run ---

    @property
    def free(self) -> int:
        """How many more may begin, whoever's they are."""
        return self._concurrency - self._running

    def may_begin(self, job: Job, site: Site, now: float) -> bool:
        """Whether there is a place for a row."""
        return (
            site.running < site.window.size
            and self._flows[flow(job.envelope)] < _TIMES_FREE * self.free
            and not site.wait_s(now)
        )

    def begin(self, job: Job, site: Site, now: float) -> None:
        """It takes its place."""
        self._running += 1
        site.running += 1
        self._busy[site.key] = site
        self._flows[flow(job.envelope)] += 1
        site.took(now)

    def end(self, job: Job, site: Site) -> None:
        """It leaves it."""
        self._running -= 1
        site.running -= 1
        of = flow(job.envelope)
        self._flows[of] -= 1
        if not self._flows[of]:
            del self._flows[of]
        self._look(site)

    # --- rows that might come ---

    def room(self, now: float) -> Mapping[Hop, int]:
        """How many rows more there is room for, of next hops that have some here."""
        room: dict[Hop, int] = {}
        for site in self._busy.values():
            room.update(dict.fromkeys(site.hops, site.room(now)))
        return room

    def full_flows(self) -> list[str]:
        """Whose rows would find no place."""
        most = _TIMES_FREE * max(self.free, 1)
        return [of for of, count in self._flows.items() if count >= most]

    def pause_s(self, now: float) -> float:
        """How long until a row that waits for nothing but its site's pace may begin."""
        waits = [
            site.wait_s(now)
            for site in {id(site): site for _, site in self._ready.values()}.values()
            if site.running < site.window.size
        ]
        return min((wait_s for wait_s in waits if wait_s > 0), default=float("inf"))
