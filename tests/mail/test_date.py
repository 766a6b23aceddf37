"""Requirements of L{twisted_mta.mail.date}."""

import email.utils
import unittest
from datetime import UTC, date, datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.mail import date as dates

MOMENTS = st.datetimes(
    min_value=datetime(1000, 1, 2),
    max_value=datetime(9999, 12, 30),
    timezones=st.integers(-23 * 60, 23 * 60).map(
        lambda minutes: timezone(timedelta(minutes=minutes))
    ),
).map(lambda moment: moment.replace(microsecond=0))


class ParseTests(unittest.TestCase):
    def test_forms(self) -> None:
        """Dates are read in the RFC's form, its obsolete forms, and those that
        programs write instead."""
        noon = datetime(1997, 11, 21, 15, 55, 6, tzinfo=UTC)
        for value in (
            b"Fri, 21 Nov 1997 09:55:06 -0600",
            b"21 Nov 1997 09:55:06 -0600",
            b"Fri, 21 Nov 97 09:55:06 CST",
            b"fri, 21 NOV 1997 15:55:06 GMT",
            b" Fri,\t21  Nov  1997 09(comment (nested)):55:06 -0600",
            b"Fri, 21 Nov 1997 09:55:06 -0600 (CST)",
            b"Fri 21 Nov 1997 15:55:06",
            b"Friday, 21-Nov-97 15:55:06 UTC",
            b"Fri, 21 Nov 1997 15.55.06 Z",
            b"Fri Nov 21 15:55:06 1997",
            b"Fri Nov 21 09:55:06 CST 1997",
            b"Fri, Nov 21, 15:55:06 1997 +0000",
            b"Fri, 21 Nov 097 15:55:06 X",
            b"21 November 1997 15:55:06.123 +0000",
        ):
            stamp = dates.parse(value)
            assert stamp is not None, value
            self.assertEqual(stamp.moment, noon, value)
            self.assertEqual(stamp.day, date(1997, 11, 21), value)

    def test_day_is_as_written(self) -> None:
        """The day is the one that stands there, whatever the zone makes of
        it."""
        stamp = dates.parse(b"Thu, 31 Dec 1998 23:59:60 -0800")
        assert stamp is not None
        self.assertEqual(stamp.day, date(1998, 12, 31))
        self.assertEqual(stamp.moment, datetime(1999, 1, 1, 7, 59, 59, tzinfo=UTC))

    def test_nonsense(self) -> None:
        """What is no date is none, and what a calendar does not have either."""
        for value in (
            b"",
            b"tomorrow",
            b"Fri, 31 Feb 1997 09:55:06 -0600",
            b"Fri, 21 Nov 1997",
            b"Fri, 21 Xyz 1997 09:55:06 -0600",
            b"Fri, 21 Nov 1997 25:55:06 -0600",
            b"Fri, 1 Jan 0001 00:00:00 +1200",
            b"Fri, 31 Dec 9999 23:00:00 -1200",
            b"21 Nov 0000 09:55:06 +0000",
            b"(" * 300,
        ):
            self.assertIsNone(dates.parse(value), value)

    def test_bad_zones(self) -> None:
        """A zone that makes no sense is UTC."""
        for zone in (b"+9999", b"-2400", b"XYZZY", b"", b"Q"):
            stamp = dates.parse(b"21 Nov 1997 09:55:06 " + zone)
            assert stamp is not None
            self.assertEqual(stamp.moment.hour, 9, zone)

    @settings(max_examples=150, deadline=None)
    @given(MOMENTS)
    def test_round_trip(self, moment: datetime) -> None:
        """What is written is read, by the standard library as well."""
        written = dates.render(moment)
        stamp = dates.parse(written)
        assert stamp is not None
        self.assertEqual(stamp, (moment, moment.date()))
        self.assertEqual(email.utils.parsedate_to_datetime(written.decode()), moment)

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    b"1",
                    b"31",
                    b"Feb",
                    b" ",
                    b":",
                    b"-",
                    b"+",
                    b"0",
                    b"9999",
                    b",",
                    b"(",
                    b")",
                    b"Fri",
                    b"99:99",
                    b"\xff",
                ]
            )
        ).map(b"".join)
        | st.binary(max_size=40)
    )
    def test_any(self, value: bytes) -> None:
        """Nothing raises."""
        stamp = dates.parse(value)
        self.assertTrue(stamp is None or stamp.moment.tzinfo is UTC)
