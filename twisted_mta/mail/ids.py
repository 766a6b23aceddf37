"""Ids that any process can make without asking another.

An id is a positive 63-bit integer: microseconds since 2020 in the upper 51
bits, then 12 bits of chance. So they grow with time (neighbours in a B-tree,
sorted by age), two processes hardly ever make the same one, and the primary key
of the row catches the case that they do. An id is no secret: who knows it may do
nothing with it. In text an id is 13 characters of a
base 32 that leaves out look-alikes (Crockford's), which is the queue id people see.
"""

import random
import time
from functools import lru_cache

_EPOCH_US = 1_577_836_800_000_000  # 2020-01-01T00:00:00Z
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUE = {digit: value for value, digit in enumerate(_DIGITS)}
_LENGTH = 13
_SHIFTS = range(60, -1, -5)

# Ids are no secrets, and the system's randomness costs 14 us a piece.
_chance = random.Random()
_last = 0


def new_id() -> int:
    """An id larger than any this process has made."""
    global _last
    made = (time.time_ns() // 1000 - _EPOCH_US) << 12 | _chance.getrandbits(12)
    _last = made if made > _last else _last + 1
    return _last


def made_at(number: int) -> float:
    """When an id was made, seconds since the epoch."""
    return ((number >> 12) + _EPOCH_US) / 1e6


def since(seconds: float) -> int:
    """The lowest id that can be made at a time, seconds since the epoch. 0 before ids
    began."""
    return max((int(seconds * 1_000_000) - _EPOCH_US) << 12, 0)


@lru_cache(maxsize=256)  # of a message, for its trace, its reply and its log
def to_text(number: int) -> str:
    """The id as people read it."""
    return "".join([_DIGITS[number >> shift & 31] for shift in _SHIFTS])


def from_text(text: str) -> int:
    """The id that a person typed.

    @raise ValueError: it is none.
    """
    if len(text) != _LENGTH:
        raise ValueError(f"not an id: {text!r}")
    number = 0
    for character in text.lower():
        if character not in _VALUE:
            raise ValueError(f"not an id: {text!r}")
        number = number << 5 | _VALUE[character]
    if number >> 63:
        raise ValueError(f"not an id: {text!r}")
    return number
