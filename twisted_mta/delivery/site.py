"""What is known of one site while mail goes there: how much, how fast, what waits here.

It decides nothing by itself; the run asks it for each row.
"""

from __future__ import annotations

from twisted_mta.delivery.pace import Pace
from twisted_mta.delivery.window import Window
from twisted_mta.mail.job import Job

# Next hops of one site that are known to be of it. Of those that are not, a claimed row
# is put off for a moment when the site is full.
_MOST_HOPS = 5000


class Site:
    """A site.

    @ivar key: its agent and name.
    @ivar window: attempts at the same time.
    @ivar pace: messages in a time; C{None}: any number. Its rate is C{rate}.
    @ivar common: the pace that all sites of its agent have together.
    @ivar ruled_until: then the limits are looked up again.
    @ivar running: attempts that run.
    @ivar ready: rows that wait here for a place, so that a connection is used again at
        once.
    @ivar probe: the row that finds out whether the site is there again.
    @ivar first: the time of the next probe, and the row that waits for just that.
    @ivar vain: the rows of the attempts that reached nobody since somebody answered.
    @ivar waking: rows may be parked for it, and it is there; more of them are made due
        from C{wake_at} on.
    """

    __slots__ = (
        "_hops",
        "common",
        "first",
        "key",
        "pace",
        "probe",
        "rate",
        "ready",
        "ruled_until",
        "running",
        "vain",
        "wake_at",
        "waking",
        "window",
    )

    def __init__(
        self,
        key: tuple[str, str],
        window: Window,
        rate: tuple[int, float] | None,
        common: Pace | None = None,
    ) -> None:
        self.key = key
        self.common = common
        self.window = window
        self.rate = rate
        self.pace = Pace(*rate) if rate else None
        self.ruled_until = 0.0
        self.running = 0
        self.ready: dict[int, Job] = {}
        self.probe: int | None = None
        self.first = 0.0, 0
        self.vain: list[int] = []
        self.waking = False
        self.wake_at = 0.0
        self._hops: dict[tuple[str, str], None] = {}

    def came(self, hop: tuple[str, str]) -> None:
        """A row of this next hop is the site's."""
        if hop not in self._hops:
            self._hops[hop] = None
            if len(self._hops) > _MOST_HOPS:
                del self._hops[next(iter(self._hops))]

    @property
    def hops(self) -> dict[tuple[str, str], None]:
        """Next hops that are of this site."""
        return self._hops

    @property
    def idle(self) -> bool:
        """Nothing runs or waits."""
        return not self.running and not self.ready

    def wait_s(self, now: float) -> float:
        """How long its pace, or its agent's, makes the next message wait."""
        paces = (self.pace, self.common)
        return max(
            (pace.wait_s(now) for pace in paces if pace is not None), default=0.0
        )

    def took(self, now: float) -> None:
        """A message goes."""
        for pace in (self.pace, self.common):
            if pace is not None:
                pace.took(now)

    @property
    def takes(self) -> bool:
        """Whether a row that was claimed may wait here."""
        return self.running + len(self.ready) < 2 * self.window.size

    def room(self, now: float) -> int:
        """How many rows more there is room for: as many wait here as are tried, and
        when none waits more are taken, several at once."""
        size, waiting = self.window.size, len(self.ready)
        full = self.running >= size or self.wait_s(now) > 0
        if waiting and full:
            return 0
        return max(2 * size - self.running - waiting, 0)
