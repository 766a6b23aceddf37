"""Requirements of L{twisted_mta.mail.structure}."""

import unittest

from hypothesis import given, settings

from tests.mail.mimecorpus import MALFORMED, NESTED, SOUP
from twisted_mta.mail import mime
from twisted_mta.mail.structure import Part, Structure


def offsets(part: Part) -> Part:
    """A part without its descriptions."""
    return Part(*part[:4], tuple(map(offsets, part.children)))


class SectionTests(unittest.TestCase):
    def section(self, path: tuple[int, ...], text: bytes = b"") -> bytes | None:
        span = mime.scan(NESTED).span(path, text)
        return None if span is None else NESTED[span[0] : span[1]]

    def test_parts(self) -> None:
        """RFC 3501 6.4.5: numbers count in multiparts, and go on in the message
        that a part holds."""
        self.assertEqual(self.section(()), NESTED)
        self.assertEqual(self.section((1,)), b"plain\r\ntext")
        self.assertTrue((self.section((2,)) or b"").startswith(b"From: carol"))
        self.assertEqual(self.section((2, 1)), b"SGFsbG8gV2VsdA==")
        self.assertEqual(self.section((2, 2)), b"<b>Hallo</b>\r\n")
        self.assertEqual(self.section((3,)), b"\x89PNG")
        for path in ((0,), (4,), (1, 1), (2, 3), (2, 0), (2, 1, 1), (3, 1), (-1,)):
            self.assertIsNone(self.section(path), path)

    def test_texts(self) -> None:
        """HEADER and TEXT are of messages, MIME is of parts."""
        whole = self.section((), b"HEADER") or b""
        self.assertTrue(whole.endswith(b"boundary=outer\r\n\r\n"))
        self.assertEqual(whole + (self.section((), b"TEXT") or b""), NESTED)
        inner = self.section((2,), b"HEADER") or b""
        self.assertTrue(inner.startswith(b"From: carol"))
        self.assertEqual(
            inner + (self.section((2,), b"TEXT") or b""), self.section((2,))
        )
        self.assertEqual(self.section((1,), b"MIME"), b"\r\n")
        self.assertEqual(
            self.section((2,), b"MIME"),
            b"Content-Type: message/rfc822\r\nContent-Description: forwarded\r\n\r\n",
        )
        self.assertEqual(
            self.section((2, 2), b"MIME"), b"Content-Type: text/html\r\n\r\n"
        )
        for path, text in (
            ((), b"MIME"),
            ((1,), b"HEADER"),
            ((2, 1), b"TEXT"),
            ((9,), b"MIME"),
            ((1,), b"NONSENSE"),
            ((), b"NONSENSE"),
        ):
            self.assertIsNone(self.section(path, text), (path, text))

    def test_one_part(self) -> None:
        """What is no multipart has one part, which is itself."""
        octets = b"Subject: x\r\n\r\nbody"
        structure = mime.scan(octets)
        self.assertEqual(structure.span((1,)), (14, 18))
        self.assertEqual(structure.span((1,), b"MIME"), (0, 14))
        for path in ((2,), (1, 1), (0,)):
            self.assertIsNone(structure.span(path))

    def test_message_at_root(self) -> None:
        """A message that is nothing but another: part 1 holds it, and numbers
        go on in it."""
        octets = b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nbody"
        structure = mime.scan(octets)
        self.assertEqual(structure.span((1,)), (32, 50))
        self.assertEqual(structure.span((1,), b"HEADER"), (32, 46))
        self.assertEqual(structure.span((1, 1)), (46, 50))
        self.assertIsNone(structure.span((1, 1, 1)))


class PackTests(unittest.TestCase):
    def test_round_trip(self) -> None:
        """A packed structure has the offsets of all parts, in few octets."""
        for octets in (NESTED, *MALFORMED):
            structure = mime.scan(octets)
            packed = structure.pack()
            self.assertEqual(Structure.unpack(packed).root, offsets(structure.root))
        self.assertLess(len(mime.scan(NESTED).pack()), 45)
        self.assertLess(len(mime.scan(b"A: b\r\n\r\nc").pack()), 6)

    @settings(max_examples=100, deadline=None)
    @given(SOUP)
    def test_any(self, octets: bytes) -> None:
        """Whatever the message."""
        structure = mime.scan(octets)
        unpacked = Structure.unpack(structure.pack())
        self.assertEqual(unpacked.root, offsets(structure.root))

    def test_large(self) -> None:
        """Offsets are as large as they need to be."""
        structure = Structure(Part(0, 300, 1 << 40))
        self.assertEqual(Structure.unpack(structure.pack()), structure)

    def test_wrong(self) -> None:
        """What is not packed by this version, or cut, is refused."""
        packed = mime.scan(NESTED).pack()
        for octets in (b"", b"\0" + packed[1:], packed[:-1], packed[:1]):
            self.assertRaises(ValueError, Structure.unpack, octets)

    def test_h12_deep(self) -> None:
        """The deepest structure and the widest are packed and unpacked."""
        deep = b"Content-Type: message/rfc822\n\n" * 200
        wide = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 20_000
        for octets in (deep, wide):
            structure = mime.scan(octets)
            unpacked = Structure.unpack(structure.pack())
            self.assertEqual(unpacked.root, offsets(structure.root))
