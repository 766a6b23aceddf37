"""L{twisted_mta.mail.uidset}."""

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.mail.uidset import LARGEST, STAR, UidSet, render_numbers

_NUMBERS = st.integers(1, 60)
_ENDS = st.one_of(_NUMBERS, st.just("*"))
_PARTS = st.lists(
    st.one_of(st.tuples(_ENDS), st.tuples(_ENDS, _ENDS)), min_size=1, max_size=12
)


def _spell(parts: list[tuple[object, ...]]) -> bytes:
    return ",".join(":".join(map(str, part)) for part in parts).encode()


def _naive(parts: list[tuple[object, ...]], largest: int) -> set[int]:
    """What RFC 3501 9 says, number by number."""
    named: set[int] = set()
    for part in parts:
        ends = [largest if end == "*" else int(str(end)) for end in part]
        named |= set(range(min(ends), max(ends) + 1))
    return named


class ParseTests(unittest.TestCase):
    def test_examples_of_rfc_3501(self) -> None:
        """The sets of RFC 3501 9 mean what it says of them."""
        parsed = UidSet.parse(b"2,4:7,9,12:*").resolve(15)
        self.assertEqual(list(parsed), [2, 4, 5, 6, 7, 9, 12, 13, 14, 15])
        parsed = UidSet.parse(b"*:4,5:7").resolve(10)
        self.assertEqual(list(parsed), [4, 5, 6, 7, 8, 9, 10])

    def test_order_of_a_range_does_not_matter(self) -> None:
        """2:4 and 4:2 are the same; so are 3:* and *:3."""
        self.assertEqual(UidSet.parse(b"4:2"), UidSet.parse(b"2:4"))
        self.assertEqual(UidSet.parse(b"*:3"), UidSet.parse(b"3:*"))

    def test_star_is_at_least_the_last_message(self) -> None:
        """9:* with four messages is the last one (RFC 3501 6.4.8)."""
        self.assertEqual(list(UidSet.parse(b"9:*").resolve(4)), [4])

    def test_h20_star_of_an_empty_mailbox_is_nothing(self) -> None:
        """*, *:* and 1:* name no message where there is none."""
        for octets in (b"*", b"*:*", b"1:*"):
            self.assertEqual(list(UidSet.parse(octets).resolve(0)), [])
            self.assertEqual(UidSet.parse(octets).within([]), [])
        self.assertEqual(list(UidSet.parse(b"3,*").resolve(0)), [3])

    def test_h20_repetition_costs_nothing(self) -> None:
        """1:4294967295 ten thousand times is one range, however spelt."""
        for part in (b"1:4294967295", b"4294967295:1"):
            self.assertEqual(
                UidSet.parse(b",".join([part] * 10_000)).ranges, ((1, LARGEST),)
            )
        self.assertEqual(
            UidSet.parse(b",".join([b"1:*"] * 10_000)).ranges, ((1, STAR),)
        )

    def test_h20_descending_ranges_are_one(self) -> None:
        """A hundred thousand numbers, largest first, become one range."""
        octets = b",".join(b"%d" % number for number in range(100_000, 0, -1))
        self.assertEqual(UidSet.parse(octets).ranges, ((1, 100_000),))

    def test_h20_what_is_no_set_is_refused(self) -> None:
        """Zero, numbers above 4294967295, signs and loose commas are errors."""
        for octets in (
            b"",
            b"0",
            b"0:5",
            b"1:0",
            b"01",
            b"4294967296",
            b"1:4294967296",
            b"9" * 5000,
            b"-1",
            b"1,",
            b",1",
            b"1,,2",
            b"1:2:3",
            b"1:",
            b"**",
            b"$",
            b"1 2",
            b"1\n",
        ):
            with self.subTest(octets=octets[:20]):
                self.assertRaises(ValueError, UidSet.parse, octets)

    @settings(max_examples=200, deadline=None)
    @given(_PARTS, st.integers(1, 60))
    def test_means_what_it_says(
        self, parts: list[tuple[object, ...]], largest: int
    ) -> None:
        """Whatever the set, it holds those numbers its parts name that can be
        in use; `within` finds those that are, and rendering keeps it all."""
        named = {n for n in _naive(parts, largest) if n <= largest}
        parsed = UidSet.parse(_spell(parts))
        resolved = parsed.resolve(largest)
        self.assertEqual([n for n in resolved if n <= largest], sorted(named))
        self.assertEqual(len(resolved), len(list(resolved)))
        self.assertEqual({n for n in range(1, largest + 1) if n in resolved}, named)
        existing = sorted({largest} | {n for n in range(1, largest) if n % 3})
        self.assertEqual(parsed.within(existing), [n for n in existing if n in named])
        self.assertEqual(UidSet.parse(parsed.render()).resolve(largest), resolved)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=30))
    def test_garbage(self, octets: bytes) -> None:
        """Whatever the octets: a set or a ValueError."""
        try:
            parsed = UidSet.parse(octets)
        except ValueError:
            return
        self.assertEqual(UidSet.parse(parsed.render()), parsed)

    @given(st.lists(st.integers(1, 30), min_size=2))
    def test_single_numbers(self, numbers: list[int]) -> None:
        """Numbers one by one, in whatever order: as few ranges as there can be."""
        parsed = UidSet.parse(",".join(map(str, numbers)).encode())
        self.assertEqual(list(parsed), sorted(set(numbers)))
        pairs = zip(parsed.ranges, parsed.ranges[1:], strict=False)
        self.assertTrue(all(last + 1 < first for (_, last), (first, _) in pairs))


class SetTests(unittest.TestCase):
    def test_empty(self) -> None:
        """The empty set is false, holds nothing and renders as nothing."""
        empty = UidSet()
        self.assertFalse(empty)
        self.assertNotIn(1, empty)
        self.assertEqual(empty.render(), b"")
        self.assertEqual(empty.largest, 0)
        self.assertEqual(UidSet.span(5, 4), empty)

    def test_of_numbers(self) -> None:
        """Numbers in any order become ranges."""
        self.assertEqual(UidSet.of([9, 1, 3, 2, 2, 5, 4]).render(), b"1:5,9")

    def test_union(self) -> None:
        """A union joins what touches."""
        union = UidSet.parse(b"1:3,9").union(UidSet.parse(b"4:5,20:*"))
        self.assertEqual(union.render(), b"1:5,9,20:*")

    def test_largest_disregards_star(self) -> None:
        """The largest number named, so that a sequence number beyond the last
        can be refused."""
        for octets, largest in (
            (b"7", 7),
            (b"2:9,4", 9),
            (b"5:*", 5),
            (b"3,*", 3),
            (b"*", 0),
        ):
            self.assertEqual(UidSet.parse(octets).largest, largest)

    def test_within_is_cheap_for_wide_ranges(self) -> None:
        """A range over all numbers looks only at what exists."""
        existing = list(range(10, 100_000, 7))
        self.assertEqual(UidSet.parse(b"1:4294967295").within(existing), existing)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.integers(1, 40)))
    def test_rendered_numbers_keep_their_order(self, numbers: list[int]) -> None:
        """COPYUID's sets correspond item by item, so order is kept."""
        octets = render_numbers(numbers)
        expanded: list[int] = []
        for part in octets.split(b",") if octets else []:
            ends = [int(end) for end in part.split(b":")]
            expanded += range(ends[0], ends[-1] + 1)
        self.assertEqual(expanded, numbers)
