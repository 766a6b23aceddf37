"""Dates of mail: the Date field.

Reading a Date field is lenient (RFC 5322 4.3 and what is seen in the wild) and
never raises. Writing does not depend on the locale. A moment is always an aware
C{datetime}.
"""

import re
import time
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTH = {name.lower().encode(): at for at, name in enumerate(_MONTHS, 1)}

# obs-zone, RFC 5322 4.3, in hours. Military letters were defined the wrong way
# round in RFC 822, so they mean -0000, as does every other name.
_ZONES = {
    b"ut": 0,
    b"gmt": 0,
    b"utc": 0,
    b"z": 0,
    b"edt": -4,
    b"est": -5,
    b"cdt": -5,
    b"cst": -6,
    b"mdt": -6,
    b"mst": -7,
    b"pdt": -7,
    b"pst": -8,
}

_LOOKED_AT = 256  # octets of a Date field; RFC 5322's longest is 31
_COMMENT = re.compile(rb"\([^()]*+\)")
_COLON = rb"\s*+[:.]\s*+"
_TIME = rb"(\d{1,2})%b(\d{1,2})(?:%b(\d{1,2})(?:[.,]\d++)?)?" % (_COLON, _COLON)
_DATE_TIME = re.compile(
    rb"(?:[a-z]++\.?,?\s*+)??(\d{1,2})[\s-]\s*+([a-z]{3})[a-z]*+\.?,?[\s-]\s*+(\d{2,4})"
    rb"[\s,]\s*+" + _TIME + rb"\s*+([+-]\s?\d{4}|[a-z]{1,5})?"
)
# asctime(), which some programs write instead: Thu Nov  5 10:11:12 1998
_ASCTIME = re.compile(
    rb"(?:[a-z]++,?\s++)?([a-z]{3})[a-z]*+\s++(\d{1,2}),?\s++" + _TIME + rb"\s++"
    rb"(?:([a-z]{1,5})\s++)?(\d{4})\s*+([+-]\d{4})?"
)


class Stamp(NamedTuple):
    """What a Date field says.

    @ivar moment: in UTC.
    @ivar day: the date as it is written, whatever the zone: what IMAP's
        SENTON, SENTBEFORE and SENTSINCE compare (RFC 3501 6.4.4).
    """

    moment: datetime
    day: date


def _offset(zone: bytes | None) -> timedelta:
    """The distance to UTC; zero for a zone that is missing or nonsense."""
    if zone is None:
        return timedelta()
    if zone[:1] in b"+-":
        digits = zone.lstrip(b"+- ")
        minutes = int(digits[:2]) * 60 + int(digits[2:])
        if minutes >= 24 * 60:
            return timedelta()
        return timedelta(minutes=-minutes if zone[:1] == b"-" else minutes)
    return timedelta(hours=_ZONES.get(zone, 0))


def _year(digits: bytes) -> int:
    """obs-year, RFC 5322 4.3."""
    year = int(digits)
    if len(digits) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(digits) == 3 else year


def _bare(value: bytes) -> bytes:
    """Lower case and without comments, which may nest."""
    value = value[:_LOOKED_AT].lower()
    while b"(" in value:
        value, removed = _COMMENT.subn(b" ", value)
        if not removed:
            break
    return value.strip()


def parse(value: bytes) -> Stamp | None:
    """Read the value of a Date field.

    @return: C{None} if no date is to be seen in it.
    """
    value = _bare(value)
    if found := _DATE_TIME.match(value):
        day, month, year, hour, minute, second, zone = found.groups()
    elif found := _ASCTIME.match(value):
        month, day, hour, minute, second, name, year, digits = found.groups()
        zone = digits or name
    else:
        return None
    try:
        local = datetime(
            _year(year),
            _MONTH.get(month, 0),
            int(day),
            int(hour),
            int(minute),
            min(59, int(second or 0)),  # a leap second is the one before it
            tzinfo=UTC,
        )
        return Stamp(local - _offset(zone), local.date())
    except (ValueError, OverflowError):
        return None  # the 31st of February, or a year that no calendar has


def day_of(moment_s: float) -> date:
    """The day of a moment in seconds since the epoch, in UTC: that of an
    INTERNALDATE as it is shown."""
    moment = time.gmtime(moment_s)
    return date(moment.tm_year, moment.tm_mon, moment.tm_mday)


def _zone(moment: datetime) -> str:
    offset = moment.utcoffset() or timedelta()
    minutes = int(offset.total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"


def render(moment: datetime) -> bytes:
    """The value of a Date field (RFC 5322 3.3), in the moment's own zone."""
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day} {_MONTHS[moment.month - 1]}"
        f" {moment.year:04} {moment:%H:%M:%S} {_zone(moment)}"
    ).encode("ascii")
