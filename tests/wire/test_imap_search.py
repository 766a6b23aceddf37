"""L{twisted_mta.wire.imap.search}: search programs."""

import unittest
from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.imapdrive import events, one
from twisted_mta.mail.uidset import UidSet
from twisted_mta.wire.imap.model import (
    BadCommand,
    Command,
    Search,
)
from twisted_mta.wire.imap.searchkey import (
    And,
    BodyContains,
    Everything,
    HasFlag,
    HeaderContains,
    InSet,
    LargerThan,
    Not,
    OnDay,
    Or,
    SearchKey,
    SmallerThan,
    TextContains,
)

_SEEN = HasFlag("\\Seen")


def _search(program: bytes) -> SearchKey:
    event = one(b"t SEARCH " + program)
    assert isinstance(event, Search), event
    return event.key


def _depth(key: SearchKey) -> int:
    """How deep a walk over the tree recurses."""
    deepest, waiting = 0, [(key, 1)]
    while waiting:
        key, level = waiting.pop()
        deepest = max(deepest, level)
        if isinstance(key, And | Or):
            waiting += [(child, level + 1) for child in key.keys]
        elif isinstance(key, Not):
            waiting.append((key.key, level + 1))
    return deepest


class KeyTests(unittest.TestCase):
    def test_every_key(self) -> None:
        """Each key of RFC 3501 6.4.4."""
        day = date(1994, 2, 1)
        for octets, key in (
            (b"2,4:7", InSet(UidSet.parse(b"2,4:7"), False)),
            (b"*", InSet(UidSet.parse(b"*"), False)),
            (b"UID 1:*", InSet(UidSet.parse(b"1:*"), True)),
            (b"ALL", Everything()),
            (b"ANSWERED", HasFlag("\\Answered")),
            (b"BCC x", HeaderContains("bcc", "x")),
            (b"BEFORE 1-Feb-1994", OnDay("internal", "before", day)),
            (b"BODY x", BodyContains("x")),
            (b"CC x", HeaderContains("cc", "x")),
            (b"DELETED", HasFlag("\\Deleted")),
            (b"DRAFT", HasFlag("\\Draft")),
            (b"FLAGGED", HasFlag("\\Flagged")),
            (b"FROM x", HeaderContains("from", "x")),
            (b'HEADER X-Foo ""', HeaderContains("x-foo", "")),
            (b"KEYWORD $junk", HasFlag("$Junk")),
            (b"LARGER 0", LargerThan(0)),
            (b"NEW", And((HasFlag("\\Recent"), Not(_SEEN)))),
            (b"NOT SEEN", Not(_SEEN)),
            (b"OLD", Not(HasFlag("\\Recent"))),
            (b'ON "01-feb-1994"', OnDay("internal", "on", day)),
            (b"OR SEEN ALL", Or((_SEEN, Everything()))),
            (b"RECENT", HasFlag("\\Recent")),
            (b"SEEN", _SEEN),
            (b"SENTBEFORE 1-Feb-1994", OnDay("sent", "before", day)),
            (b"SENTON 1-Feb-1994", OnDay("sent", "on", day)),
            (b"SENTSINCE 1-Feb-1994", OnDay("sent", "since", day)),
            (b"SINCE 1-Feb-1994", OnDay("internal", "since", day)),
            (b"SMALLER 4294967295", SmallerThan(4294967295)),
            (b'SUBJECT "a b"', HeaderContains("subject", "a b")),
            (b"TEXT {3+}\r\na\r\n", TextContains("a\r\n")),
            (b"TO x", HeaderContains("to", "x")),
            (b"UNANSWERED", Not(HasFlag("\\Answered"))),
            (b"UNDELETED", Not(HasFlag("\\Deleted"))),
            (b"UNDRAFT", Not(HasFlag("\\Draft"))),
            (b"UNFLAGGED", Not(HasFlag("\\Flagged"))),
            (b"UNKEYWORD Work", Not(HasFlag("work"))),
            (b"unseen", Not(_SEEN)),
        ):
            with self.subTest(octets=octets):
                self.assertEqual(_search(octets), key)

    def test_forms(self) -> None:
        """SEARCH and UID SEARCH; the example of RFC 3501 6.4.4."""
        event = one(b'A282 UID SEARCH FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"')
        key = And(
            (
                HasFlag("\\Flagged"),
                OnDay("internal", "since", date(1994, 2, 1)),
                Not(HeaderContains("from", "Smith")),
            )
        )
        self.assertEqual(event, Search(b"A282", "UID SEARCH", key, True))

    def test_grouping(self) -> None:
        """Parentheses group, a lone key needs none; OR takes two keys, NOT one;
        chains of OR and doubled NOTs are joined."""
        a, b, c, d = (BodyContains(letter) for letter in "abcd")
        for octets, key in (
            (b"(BODY a)", a),
            (b"(((BODY a)))", a),
            (b"(BODY a BODY b) BODY c", And((And((a, b)), c))),
            (b"OR (BODY a BODY b) BODY c", Or((And((a, b)), c))),
            (b"OR BODY a BODY b BODY c", And((Or((a, b)), c))),
            (b"OR BODY a OR BODY b BODY c", Or((a, b, c))),
            (b"OR OR BODY a BODY b OR BODY c BODY d", Or((a, b, c, d))),
            (b"OR NOT BODY a BODY b", Or((Not(a), b))),
            (b"NOT OR BODY a BODY b", Not(Or((a, b)))),
            (b"NOT (BODY a BODY b)", Not(And((a, b)))),
            (b"NOT NOT BODY a BODY b", And((a, b))),
            (b"NOT NOT NOT BODY a", Not(a)),
            (b"OR (NOT (BODY a)) (BODY b)", Or((Not(a), b))),
        ):
            with self.subTest(octets=octets):
                self.assertEqual(_search(octets), key)

    def test_charsets(self) -> None:
        """Texts are decoded by the charset; without one they are UTF-8."""
        text = BodyContains("é")
        self.assertEqual(_search(b'BODY "\xc3\xa9"'), text)
        self.assertEqual(_search(b'charset utf-8 BODY "\xc3\xa9"'), text)
        self.assertEqual(_search(b'CHARSET "ISO-8859-1" BODY "\xe9"'), text)
        self.assertEqual(
            _search(b"CHARSET ISO-2022-JP BODY {8+}\r\n\x1b$BF|\x1b(B"),
            BodyContains("日"),
        )
        self.assertIsInstance(one(b't SEARCH BODY "\xe9"'), BadCommand)

    def test_h21_unknown_charset(self) -> None:
        """A charset that is not known is NO [BADCHARSET], with those that are;
        Python's own codecs are not charsets."""
        for name in (b"BOGUS", b"utf-7", b"rot13", b"idna", b"x" * 9000):
            event = one(b"t SEARCH CHARSET " + name + b" BODY x")
            assert isinstance(event, BadCommand)
            self.assertEqual(event.status, b"NO")
            self.assertTrue(event.code.startswith(b"BADCHARSET (US-ASCII UTF-8 "))

    def test_malformed(self) -> None:
        """What is no program is BAD."""
        for octets in (
            b"",
            b"()",
            b"(ALL",
            b"ALL)",
            b"(ALL))",
            b"ALLALL",
            b"ALL  ALL",
            b"NOT",
            b"NOT )",
            b"OR ALL",
            b"(OR ALL) ALL",
            b"(NOT) ALL",
            b"FOO",
            b"FROM",
            b"FROM (x)",
            b"KEYWORD \\Seen",
            b'KEYWORD "a"',
            b"LARGER x",
            b"LARGER -1",
            b"LARGER 4294967296",
            b"ON 31-Feb-2000",
            b"ON 1-Foo-2000",
            b"ON 1-Jan-0000",
            b'ON "1-Jan-2000',
            b"0",
            b"1:0",
            b"UID 0",
            b"UID x",
            b"CHARSET UTF-8",
            b"CHARSET",
            b"RETURN (MIN) ALL",
        ):
            with self.subTest(octets=octets):
                event = one(b"t SEARCH " + octets)
                assert isinstance(event, BadCommand)
                self.assertEqual(event.status, b"BAD")


class DepthTests(unittest.TestCase):
    def test_h19_parentheses(self) -> None:
        """Sixty thousand parentheses are BAD; the next command is found."""
        found = events(b"t SEARCH " + b"(" * 60_000 + b"\r\nb NOOP\r\n")
        self.assertIsInstance(found[0], BadCommand)
        self.assertEqual(found[1:], [Command(b"b", "NOOP")])

    def test_h21_deep_or(self) -> None:
        """A chain of ORs, on either side, is one Or of all its keys."""
        left = b"OR " * 999 + b"SEEN " * 999 + b"SEEN"
        right = b"OR SEEN " * 999 + b"SEEN"
        for octets in (left, right):
            self.assertEqual(_search(octets), Or((_SEEN,) * 1000))

    def test_h21_ten_thousand_or(self) -> None:
        """Ten thousand ORs or NOTs are more keys than one program may have."""
        for octets in (b"OR " * 10_000 + b"ALL", b"NOT " * 10_000 + b"ALL"):
            self.assertEqual(
                one(b"t SEARCH " + octets),
                BadCommand(b"t", "Too many search keys", b"NO", b"LIMIT"),
            )

    def test_h21_alternating(self) -> None:
        """Operators that cannot be joined nest up to a bound."""
        for unit, rest in (
            (b"NOT OR SEEN ", b"ALL"),
            (b"OR ALL (SEEN ", b"ALL" + b")" * 500),
        ):
            event = one(b"t SEARCH " + unit * 500 + rest)
            self.assertEqual(
                event, BadCommand(b"t", "Search program is nested too deep")
            )

    def test_h21_large_key(self) -> None:
        """A key of 100 kB is taken; one of 1 MB is BAD, and forgotten."""
        key = _search(b"BODY {100000+}\r\n" + b"x" * 100_000)
        self.assertEqual(key, BodyContains("x" * 100_000))
        found = events(
            b"t SEARCH BODY {1000000+}\r\n" + b"x" * 1_000_000 + b"\r\nb NOOP\r\n"
        )
        self.assertIsInstance(found[0], BadCommand)
        self.assertEqual(found[1:], [Command(b"b", "NOOP")])

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.sampled_from([b"NOT ", b"OR ", b"(", b"(ALL ", b"OR SEEN "]),
            max_size=80,
        ),
        st.integers(0, 60),
    )
    def test_depth_is_bounded(self, prefix: list[bytes], closing: int) -> None:
        """Whatever the program, the tree is shallow enough to recurse into."""
        keys = b" ".join([b"SEEN"] * (1 + sum(p == b"OR " for p in prefix)))
        event = one(b"t SEARCH " + b"".join(prefix) + keys + b")" * closing)
        if isinstance(event, Search):
            self.assertLessEqual(_depth(event.key), 55)
        else:
            self.assertIsInstance(event, BadCommand)
