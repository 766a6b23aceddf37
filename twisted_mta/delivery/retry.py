"""When a message that could not be delivered is tried again, and when no more.

A pure function of the settings, the age of the message and the attempts made.
It knows no queue and no clock.

RFC 5321 4.5.4.1 asks for retries for 4 to 5 days and not too often at first.
Postfix doubles from 300 s to 4000 s and gives up after 5 days; Exim tries every
15 minutes for 2 hours, then ever more rarely for 4 days; Sendmail warns after 4
hours and gives up after 5 days. Ours doubles from 5 minutes to 2 hours: many
greylists open after 5 minutes, and 2 hours is the interval the RFC names.
"""

from collections.abc import Callable
from dataclasses import dataclass

from twisted_mta.config.schema import Queue as Settings

# The wait is made longer by up to this part of it, by chance, so that messages
# that failed together do not all come back together.
_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class Schedule:
    """The times of one server's retries.

    @ivar settings: all times in seconds.
    @ivar chance: gives a number from 0 up to 1, such as C{random.random}.
    """

    settings: Settings
    chance: Callable[[], float]

    def give_up_at(self, queued_at: float) -> float:
        """From when on a deferred recipient is returned to the sender."""
        return queued_at + self.settings.give_up_after

    def warn_at(self, queued_at: float) -> float:
        """From when on the sender is told of the delay."""
        return queued_at + self.settings.warn_after

    def expired(self, queued_at: float, now: float) -> bool:
        """Whether an attempt that ends now was the last."""
        return now >= self.give_up_at(queued_at)

    def late(self, queued_at: float, now: float) -> bool:
        """Whether the sender should know by now."""
        return now >= self.warn_at(queued_at)

    def next_attempt(self, queued_at: float, now: float, attempts: int) -> float:
        """When to try again.

        An attempt falls on the time of the warning and on that of giving up:
        what they say is then fresh, and the message had all of its time.

        @param attempts: how many failed, the one that ends now included; from 1.
        """
        settings = self.settings
        growth = settings.growth_percent / 100
        # 64 doublings are past any longest wait, and far from an overflow.
        wait = settings.first_retry * growth ** min(attempts - 1, 64)
        wait = min(wait, settings.longest_retry) * (1 + _SPREAD * self.chance())
        due = now + wait
        landmarks = self.warn_at(queued_at), self.give_up_at(queued_at)
        return min([due, *(at for at in landmarks if now < at)])

    def landmark(self, queued_at: float, now: float) -> float:
        """The next time at which there is something to say of a message; infinite if
        there is none."""
        landmarks = self.warn_at(queued_at), self.give_up_at(queued_at)
        return min([at for at in landmarks if now < at], default=float("inf"))
