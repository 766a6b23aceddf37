"""Requirements of L{twisted_mta.mail.rfc2047}."""

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mail.counting import growth
from twisted_mta.mail import rfc2047


class DecodeTests(unittest.TestCase):
    def test_examples(self) -> None:
        """The examples of RFC 2047 8 read as it says."""
        for value, text in (
            (b"(=?ISO-8859-1?Q?a?=)", "(a)"),
            (b"(=?ISO-8859-1?Q?a?= b)", "(a b)"),
            (b"(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)", "(ab)"),
            (b"(=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=)", "(ab)"),
            (b"(=?ISO-8859-1?Q?a_b?=)", "(a b)"),
            (b"(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)", "(a b)"),
            (
                b"=?US-ASCII?Q?Keith_Moore?= <moore@cs.utk.edu>",
                "Keith Moore <moore@cs.utk.edu>",
            ),
            (
                b"=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?= "
                b"=?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
                "If you can read this you understand the example.",
            ),
        ):
            self.assertEqual(rfc2047.decode(value), text)

    def test_lenient(self) -> None:
        """A language, spaces inside, a character cut in two words, raw eight
        bit text: all are read."""
        for value, text in (
            (b"=?utf-8*en?q?caf=C3=A9?=", "café"),
            (b"=?utf-8?q?two words?=", "two words"),
            (b"=?utf-8?b?w7w=?= =?UTF-8?q?=C3?= =?utf-8?q?=BC?= x", "üü x"),
            (b"caf\xc3\xa9 =?utf-8?q?=C3=A9?=", "café é"),
            (b"caf\xe9", "café"),
            (b"x=?utf-8?q?y?=z", "xyz"),
        ):
            self.assertEqual(rfc2047.decode(value), text)

    def test_h15_kept_raw(self) -> None:
        """What cannot be decoded stays as it is: unknown charsets, UTF-7,
        unterminated words."""
        for value in (
            b"=?no-such?q?a?=",
            b"=?utf-7?q?+ADw-?=",
            b"=?utf-8?q?open",
            b"=?utf-8?x?a?=",
            b"=??q?a?= =?",
        ):
            self.assertEqual(rfc2047.decode(value), value.decode())
        self.assertEqual(
            rfc2047.decode(b"=?no?q?a?= =?utf-8?q?b?= =?no?q?c?="),
            "=?no?q?a?= b =?no?q?c?=",
        )

    def test_h15_linear(self) -> None:
        """A megabyte of words, of their beginnings and of their parts ends;
        twice the words are twice the work."""
        for unit in (
            b"=?utf-8?q?",
            b"=?",
            b"?=",
            b"=?utf-8?q?a?= ",
            b"=?utf-8?b?/?=",
            b"=?iso-2022-jp?b?GyRC?= ",
            b"=?x?q?a?= ",
            b"=?a*b",
        ):
            text = rfc2047.decode(unit * (1_000_000 // len(unit)))
            self.assertLessEqual(len(text), 1_000_000)
        ratio = growth(
            lambda size: lambda: rfc2047.decode(b"=?utf-8?q?a?= b " * size), 200
        )
        self.assertLess(ratio, 2.2)

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    b"=?",
                    b"?=",
                    b"utf-8",
                    b"?q?",
                    b"?B?",
                    b"=C3",
                    b"big5",
                    b"\xff",
                    b" ",
                    b"hz",
                    b"iso-2022-kr",
                    b"YQ",
                    b"\r\n ",
                ]
            )
        ).map(b"".join)
        | st.binary(max_size=40)
    )
    def test_any(self, value: bytes) -> None:
        """Nothing raises."""
        self.assertIsInstance(rfc2047.decode(value), str)
