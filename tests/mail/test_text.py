"""Requirements of L{twisted_mta.mail.text}."""

import unittest
from collections.abc import Callable, Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mail.mimecorpus import MALFORMED, NESTED, SOUP
from twisted_mta.mail import header, mime, text
from twisted_mta.mail.structure import Structure

BLOCK = NESTED[: header.body_start(NESTED)]


def read_texts(
    structure: Structure, read: Callable[[int, int], bytes]
) -> Iterator[str]:
    """What L{text.pull_texts} finds in octets that are at hand."""
    texts = text.pull_texts(structure)
    step = next(texts, None)
    while step is not None:
        if isinstance(step, str):
            yield step
            step = next(texts, None)
        else:
            try:
                step = texts.send(read(*step))
            except StopIteration:
                return


def body_texts(structure: Structure, octets: bytes) -> Iterator[str]:
    """The same of a message that is all there."""
    return read_texts(structure, lambda start, end: octets[start:end])


class HeaderTests(unittest.TestCase):
    def test_decoded(self) -> None:
        """A header is searched as people read it, whatever the case."""
        self.assertIn(text.fold("GRÜSSE"), text.header_text(BLOCK, b"Subject"))
        self.assertIn(text.fold("Alice@"), text.header_text(BLOCK, b"FROM"))
        self.assertEqual(text.header_text(BLOCK, b"cc"), "")
        self.assertTrue(text.has_field(b"X:\r\n", b"x"))
        self.assertFalse(text.has_field(b"X:\r\n", b"y"))

    def test_all_fields(self) -> None:
        """All fields of one name are searched, and the whole header with the
        names."""
        block = b"To: a\r\nX-One: b\r\nTO: =?utf-8?q?C?=\r\n"
        self.assertEqual(text.header_text(block, b"to"), "a\nc")
        self.assertEqual(text.block_text(block), "to: a\nx-one: b\nto: c")


class BodyTests(unittest.TestCase):
    def test_parts(self) -> None:
        """The text parts are decoded from their encodings and charsets, and so
        are the headers of messages within; other parts are left alone."""
        found = list(body_texts(mime.scan(NESTED), NESTED))
        self.assertEqual(len(found), 4)
        self.assertEqual(found[0], "plain\r\ntext")
        self.assertIn("subject: inner", found[1])
        self.assertEqual(found[2:], ["hallo welt", "<b>hallo</b>\r\n"])

    def test_charsets(self) -> None:
        """Every way to write a text finds the same."""
        for headers, body in (
            (b"charset=utf-8\r\nContent-Transfer-Encoding: 8bit", "Grüße".encode()),
            (b"charset=iso-8859-1", "Grüße".encode("latin-1")),
            (
                b"charset=utf-8\nContent-Transfer-Encoding: quoted-printable",
                b"Gr=C3=BC=C3=\r\n=9Fe",
            ),
            (b"charset*=us-ascii''iso-8859-1", "Gr\u00fc\u00dfe".encode("latin-1")),
            (b"charset=nonsense", "Grüße".encode()),
        ):
            octets = b"Content-Type: text/plain; " + headers + b"\n\n" + body
            texts = body_texts(mime.scan(octets), octets)
            self.assertIn(text.fold("GRÜSSE"), "".join(texts), headers)

    def test_packed(self) -> None:
        """The packed structure is enough, and only what is needed is read."""
        for octets in (NESTED, *MALFORMED):
            structure = mime.scan(octets)
            reads: list[tuple[int, int]] = []

            def read(
                start: int,
                end: int,
                octets: bytes = octets,
                reads: list[tuple[int, int]] = reads,
            ) -> bytes:
                reads.append((start, end))
                return octets[start:end]

            packed = Structure.unpack(structure.pack())
            self.assertEqual(
                list(read_texts(packed, read)),
                list(body_texts(structure, octets)),
            )
        image = mime.scan(NESTED).span((3,))
        self.assertNotIn(image, reads)

    def test_opaque(self) -> None:
        """What is shown as text because it cannot be taken apart is searched
        as text."""
        octets = b"Content-Type: multipart/mixed\r\n\r\nFind Me"
        self.assertEqual(list(body_texts(mime.scan(octets), octets)), ["find me"])

    def test_bounded(self) -> None:
        """No more than the limit is decoded of a message, in one part or in
        many."""
        size = text.TEXT_MAX // 4
        part = b"--b\n\n" + b"x" * size + b"\n"
        octets = b"Content-Type: multipart/mixed; boundary=b\n\n" + part * 6
        found = list(body_texts(mime.scan(octets), octets))
        self.assertEqual(sum(map(len, found)), text.TEXT_MAX)
        octets = b"\n" + b"x" * (text.TEXT_MAX + 1)
        self.assertEqual(
            [len(found) for found in body_texts(mime.scan(octets), octets)],
            [text.TEXT_MAX],
        )

    @settings(max_examples=100, deadline=None)
    @given(SOUP | st.binary(max_size=60))
    def test_any(self, octets: bytes) -> None:
        """Nothing raises."""
        for found in body_texts(mime.scan(octets), octets):
            self.assertIsInstance(found, str)
        text.block_text(octets[: header.body_start(octets)])
