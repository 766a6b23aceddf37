"""L{twisted_mta.mail.mutf7}."""

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.mail import mutf7

_PAIRS = (
    ("INBOX", b"INBOX"),
    ("", b""),
    ("a&b", b"a&-b"),
    ("&", b"&-"),
    ("Entwürfe", b"Entw&APw-rfe"),
    ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
    ("☺!", b"&Jjo-!"),
    ("\U0001f600", b"&2D3eAA-"),
)


class Mutf7Tests(unittest.TestCase):
    def test_examples(self) -> None:
        """Those of RFC 3501 5.1.3 and some more, both ways."""
        for name, octets in _PAIRS:
            with self.subTest(name=name):
                self.assertEqual(mutf7.encode(name), octets)
                self.assertEqual(mutf7.decode(octets), name)

    def test_h22_broken_spellings_are_refused(self) -> None:
        """An open shift, base64 of what needs none, needless or missing bits,
        two shifts in a row, 8-bit octets, lone surrogates."""
        for octets in (
            b"&",
            b"a&",
            b"&AOk",
            b"&A-",
            b"&AO-",
            b"&AOkA-",
            b"&AGE-",
            b"&Jjo!",
            b"&U,BTFw-&ZeVnLIqe-",
            b"&AOl-",
            b"&2D0-",
            b"&3gA-",
            b"&AO/-",
            b"\xc3\xa9",
            b"&&-",
            b"&=-",
        ):
            with self.subTest(octets=octets):
                self.assertRaises(ValueError, mutf7.decode, octets)

    def test_lone_surrogate_cannot_be_spelt(self) -> None:
        """A str that is no Unicode text is a ValueError."""
        self.assertRaises(ValueError, mutf7.encode, "a\ud800")

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=40))
    def test_round_trip(self, name: str) -> None:
        """Every text comes back, spelt in printable ASCII."""
        octets = mutf7.encode(name)
        self.assertTrue(all(32 <= octet < 127 for octet in octets))
        self.assertEqual(mutf7.decode(octets), name)

    @settings(max_examples=300, deadline=None)
    @given(st.text("&-AaOk,/+b1", max_size=16).map(str.encode))
    def test_h22_one_spelling(self, octets: bytes) -> None:
        """What decodes encodes to the same octets."""
        try:
            name = mutf7.decode(octets)
        except ValueError:
            return
        self.assertEqual(mutf7.encode(name), octets)

    def test_h22_long_name_is_linear(self) -> None:
        """A name of 100 kB of shifts is read like any other."""
        octets = b"&AOk-a" * 20_000
        self.assertEqual(mutf7.decode(octets), "éa" * 20_000)
