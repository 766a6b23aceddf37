"""Requirements of L{twisted_mta.mail.charset}."""

import codecs
import encodings
import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.mail import charset


class CodecTests(unittest.TestCase):
    def test_names(self) -> None:
        """Charsets are known by the names that mail uses, in any case."""
        for name, text in (
            (b"UTF-8", "ü"),
            (b"iso-8859-1", "ü"),
            (b"ISO-8859-15", "€"),
            (b"Windows-1252", "€"),
            (b"koi8-r", "я"),
            (b"gb2312", "中"),
            (b"Big5", "中"),
            (b"ISO-2022-JP", "日"),
            (b"shift_jis", "日"),
            (b"euc-kr", "한"),
            (b"ks_c_5601-1987", "한"),
        ):
            found = charset.codec(name)
            assert found is not None, name
            self.assertEqual(charset.decode(text.encode(found), name), text)

    def test_all_exist(self) -> None:
        """Every name of the table has its codec."""
        for name in charset._NAMES.values():
            codecs.lookup(name)

    def test_fallback(self) -> None:
        """Without a name, with ASCII or an unknown one, it is UTF-8 or else
        Latin-1."""
        for name in (None, b"us-ascii", b"x-unknown", b""):
            self.assertEqual(charset.decode("ü".encode(), name), "ü")
            self.assertEqual(charset.decode(b"\xfc", name), "ü")

    def test_h15_no_dangerous_codecs(self) -> None:
        """UTF-7, codecs that are no charsets and endless names are not known,
        and asking for names leaves nothing behind in Python's codec cache."""
        before = len(encodings._cache)
        for name in (
            *(b"utf-7", b"idna", b"punycode", b"unicode_escape", b"rot13", b"zlib"),
            *(b"raw_unicode_escape", b"undefined", b"mbcs", b"base64", b"x" * 10_000),
            *(b"made-up-%d" % at for at in range(50)),
        ):
            self.assertIsNone(charset.codec(name), name)
            charset.decode(b"+ADw-script+AD4-", name)
        self.assertEqual(len(encodings._cache), before)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=60), st.sampled_from(sorted(charset._NAMES)))
    def test_any(self, octets: bytes, name: str) -> None:
        """Whatever the octets, every charset gives text."""
        self.assertIsInstance(charset.decode(octets, name.encode()), str)

    def test_h15_escapes(self) -> None:
        """Nothing but escapes, in the charsets that have them, ends."""
        for name in (
            b"iso-2022-jp",
            b"iso-2022-kr",
            b"iso-2022-jp-2",
            b"hz",
            b"utf-16",
        ):
            for unit in (b"\x1b$B", b"\x1b(J", b"\x0e", b"~{", b"\xd8\x00", b"\x1b"):
                text = charset.decode(unit * 100_000, name)
                self.assertLessEqual(len(text), len(unit) * 100_000)
