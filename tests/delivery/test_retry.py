"""When a message is tried again."""

import unittest
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.config import schema
from twisted_mta.config.units import Seconds
from twisted_mta.delivery.retry import Schedule

HOUR = 3600.0
DAY = 24 * HOUR


def attempts(schedule: Schedule) -> list[float]:
    """The ages at which a message that is always deferred is tried."""
    times, now = [0.0], 0.0
    while not schedule.expired(0.0, now):
        now = schedule.next_attempt(0.0, now, len(times))
        times.append(now)
    return times


class ScheduleTests(unittest.TestCase):
    def test_defaults(self) -> None:
        """First after 5 minutes, doubled up to 2 hours; once at 4 hours, when
        the sender is warned, and a last time after 5 days."""
        times = attempts(Schedule(schema.Queue(), lambda: 0.0))
        self.assertEqual(times[:6], [0, 300, 900, 2100, 4500, 9300])
        self.assertEqual(times[6:9], [4 * HOUR, 6 * HOUR, 8 * HOUR])
        self.assertEqual(times[-2:], [118 * HOUR, 5 * DAY])
        self.assertEqual(len(times), 65)

    def test_spread(self) -> None:
        """Chance makes a wait longer by up to a tenth, never shorter."""
        schedule = Schedule(schema.Queue(), lambda: 0.5)
        self.assertEqual(schedule.next_attempt(0, 0, 1), 315)

    def test_limits(self) -> None:
        """The landmarks themselves count as reached."""
        schedule = Schedule(schema.Queue(), lambda: 0.0)
        self.assertFalse(schedule.late(100, 100 + 4 * HOUR - 1))
        self.assertTrue(schedule.late(100, 100 + 4 * HOUR))
        self.assertFalse(schedule.expired(100, 100 + 5 * DAY - 1))
        self.assertTrue(schedule.expired(100, 100 + 5 * DAY))

    @settings(max_examples=60, deadline=None)
    @given(
        first=st.floats(100, 1000),
        growth=st.integers(100, 400),
        longest=st.floats(1000, 1e5),
        warn=st.floats(0, 1e5),
        give_up=st.floats(1000, 1e5),
        chance=st.floats(0, 0.999),
    )
    def test_any_settings(
        self,
        first: float,
        growth: int,
        longest: float,
        warn: float,
        give_up: float,
        chance: float,
    ) -> None:
        """Whatever the settings, time goes on, no wait is longer than the
        longest and its spread, and the last attempt is when they say."""
        schedule = Schedule(
            schema.Queue(
                first_retry=Seconds(first),
                growth_percent=growth,
                longest_retry=Seconds(longest),
                warn_after=Seconds(warn),
                give_up_after=Seconds(give_up),
            ),
            lambda: chance,
        )
        times = attempts(schedule)
        self.assertEqual(times[-1], give_up)
        waits = [b - a for a, b in pairwise(times)]
        self.assertTrue(all(0 < wait <= longest * 1.1 + 1 for wait in waits))
        if warn < give_up:
            self.assertIn(warn, times)

    def test_many_attempts(self) -> None:
        """A row that was flushed a thousand times does not overflow."""
        schedule = Schedule(schema.Queue(), lambda: 0.0)
        self.assertEqual(schedule.next_attempt(0, 1, 100_000), 2 * HOUR + 1)
