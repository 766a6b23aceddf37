"""Sets of UIDs or of sequence numbers: IMAP's sequence-set, as a value.

It knows neither mailboxes nor sessions: what C{*} stands for and which numbers
exist is passed in by whoever asks. It trusts nothing about its input's size or
order: parsing is linear but for one sort, and keeps as many ranges as are
disjoint, so C{1:4294967295} ten thousand times is one range.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

#: The largest number there is (RFC 3501 9, nz-number).
LARGEST = 0xFFFFFFFF
#: What C{*} is inside a set that has not been resolved: above every number.
STAR = LARGEST + 1

Range = tuple[int, int]

_NUMBER = rb"(?:[1-9][0-9]{0,9}|\*)"
_PART = _NUMBER + rb"(?::" + _NUMBER + rb")?"
_SET = re.compile(_PART + rb"(?:," + _PART + rb")*+")


def _number(octets: bytes) -> int:
    if octets == b"*":
        return STAR
    number = int(octets)
    if number > LARGEST:
        raise ValueError("number out of range")
    return number


def _merge(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Sort, and join what overlaps or touches."""
    merged: list[Range] = []
    low = high = -1
    for first, last in sorted(ranges):
        if first <= high + 1 and high >= 0:
            if last > high:
                high = last
            continue
        if high >= 0:
            merged.append((low, high))
        low, high = first, last
    if high >= 0:
        merged.append((low, high))
    return tuple(merged)


@dataclass(frozen=True, slots=True)
class UidSet:
    """Numbers from 1 to 4294967295, and perhaps C{*}, the largest in use.

    @ivar ranges: pairs of first and last, inclusive, ascending, neither
        overlapping nor touching. L{STAR} as the last number stands for C{*}.
    """

    ranges: tuple[Range, ...] = ()

    @classmethod
    def parse(cls, octets: bytes) -> "UidSet":
        """Read a sequence-set (RFC 3501 9).

        @raise ValueError: it is none, or has a number that is 0 or too large.
        """
        if not _SET.fullmatch(octets):
            raise ValueError("not a sequence set")
        if octets.isdigit():  # most commands name one message
            number = _number(octets)
            return cls(((number, number),))
        # A client that repeats itself costs one dict entry per spelling.
        parts = dict.fromkeys(octets.split(b","))
        if b":" not in octets and b"*" not in octets:  # 10,000 UIDs, from a search
            return cls.of(map(_number, parts))
        pairs: list[Range] = []
        for part in parts:
            first, colon, last = part.partition(b":")
            low = _number(first)
            high = _number(last) if colon else low
            pairs.append((low, high) if low <= high else (high, low))
        return cls(_merge(pairs))

    @classmethod
    def of(cls, numbers: Iterable[int]) -> "UidSet":
        """The set of these numbers, in any order, repeated or not."""
        ascending = sorted(numbers)
        if not ascending:
            return cls()
        ranges: list[Range] = []
        low = high = ascending[0]
        for number in ascending:
            if number > high + 1:
                ranges.append((low, high))
                low = number
            high = number
        ranges.append((low, high))
        return cls(tuple(ranges))

    @classmethod
    def span(cls, first: int, last: int) -> "UidSet":
        """All from C{first} to C{last}; empty if there are none."""
        return cls(((first, last),)) if first <= last else cls()

    def __bool__(self) -> bool:
        return bool(self.ranges)

    @property
    def has_star(self) -> bool:
        """Whether C{*} is in it, so that L{resolve} changes it."""
        return bool(self.ranges) and self.ranges[-1][1] == STAR

    @property
    def largest(self) -> int:
        """The largest number named, C{*} aside; 0 if there is none."""
        if not self.ranges:
            return 0
        low, high = self.ranges[-1]
        if high != STAR:
            return high
        if low != STAR:
            return low
        return self.ranges[-2][1] if len(self.ranges) > 1 else 0

    def resolve(self, largest: int) -> "UidSet":
        """The same set with C{*} replaced.

        @param largest: the largest number in use. With 0 there is none, and
            C{*} stands for nothing; C{7:*} is always at least the largest.
        @return: exact up to C{largest}; what was named beyond may be missing.
        """
        if not self.has_star:
            return self
        low = self.ranges[-1][0]
        rest = self.ranges[:-1]
        if largest < 1:
            return UidSet(rest)
        return UidSet(_merge((*rest, (min(low, largest), largest))))

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self.ranges, (number, STAR)) - 1
        return at >= 0 and number <= self.ranges[at][1]

    def __len__(self) -> int:
        """How many numbers, C{*} counted as one beyond the largest number."""
        return sum(last - first + 1 for first, last in self.ranges)

    def __iter__(self) -> Iterator[int]:
        """The numbers, ascending. Only for sets known to be small: what a
        client sent may name four thousand million."""
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def within(self, numbers: Sequence[int]) -> list[int]:
        """Those of C{numbers} that are in the set; C{*} is the last of them.

        Costs two bisections for each range, and a copy of what is found.

        @param numbers: ascending, without repetition.
        """
        if not numbers:
            return []
        found: list[int] = []
        count = len(numbers)
        for first, last in self.resolve(numbers[-1]).ranges:
            start = bisect_left(numbers, first)
            if start == count:
                break
            found += numbers[start : bisect_right(numbers, last, start)]
        return found

    def union(self, other: "UidSet") -> "UidSet":
        """The numbers of both."""
        return UidSet(_merge(self.ranges + other.ranges))

    def render(self) -> bytes:
        """The set on the wire, as short as it can be: C{b"1:5,9"}."""
        return b",".join([_render(first, last) for first, last in self.ranges])


def _render(first: int, last: int) -> bytes:
    if first == STAR:
        return b"*"
    if first == last:
        return b"%d" % first
    return b"%d:*" % first if last == STAR else b"%d:%d" % (first, last)


def render_numbers(numbers: Iterable[int]) -> bytes:
    """Numbers as a sequence-set that keeps their order, runs joined.

    COPYUID needs it: the two sets correspond item by item (RFC 4315 3).
    """
    parts: list[bytes] = []
    first = last = -1
    for number in numbers:
        if number == last + 1 and last > 0:
            last = number
            continue
        if last > 0:
            parts.append(_render(first, last))
        first = last = number
    if last > 0:
        parts.append(_render(first, last))
    return b",".join(parts)
