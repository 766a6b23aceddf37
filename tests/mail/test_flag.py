"""L{twisted_mta.mail.flag}."""

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.mail import flag


class CanonicalTests(unittest.TestCase):
    def test_system_flags_in_any_case(self) -> None:
        """\\seen and \\SEEN are \\Seen."""
        for name in flag.SYSTEM:
            for spelling in (name, name.lower(), name.upper()):
                self.assertEqual(flag.canonical(spelling), name)

    def test_known_keywords_have_their_registered_case(self) -> None:
        """Clients that compare exactly find $Junk and NonJunk as they wrote."""
        self.assertEqual(flag.canonical("$junk"), "$Junk")
        self.assertEqual(flag.canonical("nonjunk"), "NonJunk")
        self.assertEqual(flag.canonical("$MDNSENT"), "$MDNSent")

    def test_other_keywords_have_one_spelling(self) -> None:
        """Work and WORK are one keyword."""
        self.assertEqual(flag.canonical("Work"), flag.canonical("WORK"))

    def test_what_may_not_be_set(self) -> None:
        """\\Recent, unknown system flags, and what is no atom are refused."""
        for name in ("\\Recent", "\\*", "\\Foo", "", "a b", "a]", "a(", "ü", "a\0"):
            with self.subTest(name=name):
                self.assertRaises(ValueError, flag.canonical, name)

    def test_h24_long_keyword(self) -> None:
        """A keyword of 50 characters is taken, of 51 or 100,000 refused as too
        long (Dovecot: 50)."""
        self.assertEqual(flag.canonical("k" * 50), "k" * 50)
        for length in (51, 100_000):
            self.assertRaises(flag.KeywordTooLong, flag.canonical, "k" * length)

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=60))
    def test_canonical_is_canonical(self, name: str) -> None:
        """Whatever the name: refused, or a spelling that stays."""
        try:
            spelling = flag.canonical(name)
        except ValueError:
            return
        self.assertEqual(flag.canonical(spelling), spelling)
        self.assertTrue(spelling.isascii())
