"""Quantities as people write them: C{5d}, C{90s}, C{50M}."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NewType

Seconds = NewType("Seconds", float)
Octets = NewType("Octets", int)

_TIME = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZE = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TIME_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])")
_RATE_FORM = re.compile(r"(\d+)\s*/\s*([smhd])")
_SIZE_FORM = re.compile(r"(\d+)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a time.

    @ivar count: more than 0.
    """

    count: int
    seconds: float

    def __str__(self) -> str:
        unit = next(unit for unit, s in _TIME.items() if s == self.seconds)
        return f"{self.count}/{unit}"


def seconds(value: object) -> Seconds:
    """A time span: C{300} (seconds), C{90s}, C{5m}, C{4h}, C{5d}, C{1w}.

    @raise ValueError: it is none.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return Seconds(float(value))
    match = _TIME_FORM.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a time such as 90s, 5m, 4h or 5d")
    return Seconds(float(match[1]) * _TIME[match[2]])


def octets(value: object) -> Octets:
    """A size: C{1000} (octets), C{64K}, C{50M}, C{1G}; powers of 1024.

    @raise ValueError: it is none.
    """
    match = _SIZE_FORM.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool):
        raise ValueError("must be a size such as 64K, 50M or 1G")
    return Octets(int(match[1]) * _SIZE[match[2].lower()])


def rate(value: object) -> Rate:
    """How many in a time: C{10/s}, C{600/m}, C{1000/h}, C{5000/d}.

    @raise ValueError: it is none.
    """
    match = _RATE_FORM.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise ValueError("must be a rate such as 10/s, 600/m or 1000/h")
    return Rate(int(match[1]), float(_TIME[match[2]]))


def written(value: object) -> str:
    """A default as it would be written in a config."""
    if isinstance(value, float):
        return _largest(value, reversed(_TIME.items())) if value else "0s"
    return str(value)


def _largest(value: float, units: Iterable[tuple[str, float]]) -> str:
    for unit, factor in units:
        if unit != "w" and value >= factor and value % factor == 0:
            return f"{value / factor:.0f}{unit}"
    return f"{value:g}s"


def written_octets(value: int) -> str:
    """The same for a size."""
    return _largest(value, reversed([(u.upper(), f) for u, f in _SIZE.items()]))
