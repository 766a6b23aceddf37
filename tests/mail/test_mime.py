"""Requirements of L{twisted_mta.mail.mime}."""

import email
import unittest
from email.message import Message
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mail import mimereference
from tests.mail.counting import calls, growth
from tests.mail.mimecorpus import MALFORMED, MESSAGES, NESTED, SOUP
from twisted_mta.mail import header, mime
from twisted_mta.mail.structure import Kind, Part, Structure


def pieces(octets: bytes, *cuts: int) -> Structure:
    """Scan a message that arrives cut at these offsets."""
    scanner = mime.Scanner()
    for start, end in pairwise((0, *cuts, len(octets))):
        scanner.feed(octets[start:end])
    return scanner.finish()


def octet_by_octet(octets: bytes) -> Structure:
    return pieces(octets, *range(1, len(octets)))


def tree(part: Part) -> list[Any]:
    """A part in the shape of L{mimereference.scan}."""
    return [
        part.header_start,
        part.body_start,
        part.end,
        part.kind,
        part.lines,
        [tree(child) for child in part.children],
    ]


def walk(part: Part) -> list[Part]:
    found = []
    waiting = [part]
    while waiting:
        part = waiting.pop()
        found.append(part)
        waiting += reversed(part.children)
    return found


def shape(part: Part) -> Any:
    """Types alone."""
    name = (part.content.type + b"/" + part.content.subtype).decode()
    return (name, *map(shape, part.children)) if part.children else name


class StructureTests(unittest.TestCase):
    def check(self, part: Part, octets: bytes) -> None:
        """Parts lie within each other and in order."""
        for inner in walk(part):
            self.assertLessEqual(inner.header_start, inner.body_start)
            self.assertLessEqual(inner.body_start, inner.end)
            self.assertLessEqual(inner.end, len(octets))
            at = inner.body_start
            for child in inner.children:
                self.assertLessEqual(at, child.header_start)
                at = child.end
            self.assertLessEqual(at, inner.end)

    def test_plain(self) -> None:
        """A plain message is one part, all of it."""
        root = mime.scan(b"Subject: x\r\n\r\none\r\ntwo\r\n").root
        self.assertEqual(tree(root), [0, 14, 24, Kind.LEAF, 2, []])
        self.assertEqual(root.header, b"Subject: x\r\n\r\n")

    def test_nested(self) -> None:
        """Multiparts and messages within are taken apart to the octet, without
        preambles, epilogues and the line end before a boundary."""
        root = mime.scan(NESTED).root
        self.assertEqual(
            shape(root),
            (
                "multipart/mixed",
                "text/plain",
                (
                    "message/rfc822",
                    ("multipart/alternative", "text/plain", "text/html"),
                ),
                "image/png",
            ),
        )
        bodies = [
            NESTED[part.body_start : part.end]
            for part in walk(root)
            if part.kind is Kind.LEAF
        ]
        self.assertEqual(
            bodies,
            [b"plain\r\ntext", b"SGFsbG8gV2VsdA==", b"<b>Hallo</b>\r\n", b"\x89PNG"],
        )
        self.assertTrue(NESTED[root.end :] == b"" and root.end == len(NESTED))
        message = root.children[1].children[0]
        self.assertTrue(message.header.startswith(b"From: carol@example.test\r\n"))
        self.assertTrue(message.header.endswith(b'"inner one"\r\n\r\n'))
        self.assertEqual(root.children[0].header, b"")
        self.assertEqual(root.children[1].lines, 15)

    def test_malformed(self) -> None:
        """Malformed messages are read as the reference reads them."""
        for octets in MALFORMED:
            root = mime.scan(octets).root
            self.check(root, octets)
            self.assertEqual(tree(root), mimereference.scan(octets), octets)

    def test_h13_boundaries(self) -> None:
        """A multipart without a usable boundary, or without a part, is text
        that people can read."""
        for octets in (*MALFORMED[1:2], *MALFORMED[5:9]):
            part = walk(mime.scan(octets).root)[-1]
            self.assertEqual((part.content.type, part.kind), (b"text", Kind.LEAF))
            self.assertEqual(part.content.parameters, ())

    def test_same_boundary(self) -> None:
        """Of the same boundary the innermost is meant; once it has ended, the
        next one out."""
        root = mime.scan(MALFORMED[9]).root
        self.assertEqual(
            shape(root),
            ("multipart/mixed", ("multipart/mixed", "text/plain"), "text/plain"),
        )

    def test_longest_boundary(self) -> None:
        """Of boundaries that start alike the longest that fits is meant."""
        for octets in MALFORMED[10:12]:
            names = shape(mime.scan(octets).root)
            self.assertEqual(
                names,
                ("multipart/mixed", ("multipart/mixed", "text/plain"))
                + ("text/plain",) * (len(names) - 2),
            )

    def test_extended_boundary(self) -> None:
        """A boundary may be written as RFC 2231 has it; one with a line end is
        none."""
        self.assertEqual(
            [shape(mime.scan(octets).root) for octets in MALFORMED[13:15]],
            [("multipart/mixed", "text/plain"), "text/plain"],
        )

    def test_digest(self) -> None:
        """In a digest, parts are messages unless they say otherwise (RFC 2046
        5.1.5)."""
        self.assertEqual(
            shape(mime.scan(MALFORMED[18]).root),
            (
                "multipart/digest",
                ("message/rfc822", "text/plain"),
                "text/plain",
                ("message/rfc822", "text/plain"),
            ),
        )

    def test_encoded_message(self) -> None:
        """A message within that is encoded is not looked into."""
        root = mime.scan(MALFORMED[21]).root
        self.assertEqual(shape(root), "application/octet-stream")

    @settings(max_examples=60, deadline=None)
    @given(MESSAGES)
    def test_oracle(self, made: Message) -> None:
        """The standard library finds the same parts with the same bodies."""
        octets = made.as_bytes()
        ours = walk(mime.scan(octets).root)
        theirs = list(email.message_from_bytes(octets).walk())
        self.assertEqual(
            [
                (part.content.type + b"/" + part.content.subtype).decode()
                for part in ours
            ],
            [part.get_content_type() for part in theirs],
        )
        for part, their in zip(ours, theirs, strict=True):
            if part.kind is Kind.LEAF:
                body = octets[part.body_start : part.end]
                self.assertEqual(body.decode(), their.get_payload())
        self.check(ours[0], octets)

    @settings(max_examples=300, deadline=None)
    @given(SOUP)
    def test_soup(self, octets: bytes) -> None:
        """Pieces of multiparts in any order are read as by the reference."""
        root = mime.scan(octets).root
        self.check(root, octets)
        self.assertEqual(tree(root), mimereference.scan(octets))


class ChunkTests(unittest.TestCase):
    def test_every_cut(self) -> None:
        """Wherever a message is cut, it is the same message."""
        for octets in (NESTED, NESTED.replace(b"\r\n", b"\n"), *MALFORMED):
            whole = mime.scan(octets)
            for cut in range(len(octets)):
                self.assertEqual(pieces(octets, cut), whole, (octets, cut))
            self.assertEqual(octet_by_octet(octets), whole, octets)

    @settings(max_examples=200, deadline=None)
    @given(SOUP | st.binary(max_size=80), st.lists(st.integers(0, 400), max_size=8))
    def test_any(self, octets: bytes, cuts: list[int]) -> None:
        """Whatever the octets, whatever the cuts."""
        whole = mime.scan(octets)
        within = sorted(min(cut, len(octets)) for cut in cuts)
        self.assertEqual(pieces(octets, *within), whole)
        self.assertEqual(octet_by_octet(octets), whole)

    def test_long_delimiters(self) -> None:
        """The longest boundary is found at every cut around it, and a line
        longer than any boundary is skipped."""
        boundary = b"b" * mime.BOUNDARY_MAX
        octets = (
            b"Content-Type: multipart/mixed; boundary=%b\r\n\r\n"
            b"--%b%b\r\n\r\nx\r\n--%b--"
        ) % (boundary, boundary, b" " * 5000, boundary)
        whole = mime.scan(octets)
        self.assertEqual(shape(whole.root), ("multipart/mixed", "text/plain"))
        for cut in range(2040, len(octets), 97):
            self.assertEqual(pieces(octets, cut), whole)
            self.assertEqual(pieces(octets, cut, min(cut + 1, len(octets))), whole)
        longer = octets.replace(boundary, boundary + b"b")
        self.assertEqual(shape(mime.scan(longer).root), "text/plain")
        self.assertEqual(pieces(longer, 3000), mime.scan(longer))

    def test_limit_of_header(self) -> None:
        """What is understood of a header does not depend on the cuts."""
        octets = b"A: " + b"x" * header.BLOCK_MAX + b"\r\nContent-Type: a/b\r\n\r\ny"
        whole = mime.scan(octets)
        self.assertEqual(len(whole.root.header), header.BLOCK_MAX)
        self.assertEqual(shape(whole.root), "text/plain")
        self.assertEqual(whole.root.end - whole.root.body_start, 1)
        cuts = range(65_536, len(octets), 65_536)
        self.assertEqual(pieces(octets, *cuts), whole)


class HostileTests(unittest.TestCase):
    def feed(self, unit: bytes, total: int, first: bytes = b"") -> mime.Scanner:
        """Feed a repeated unit in pieces, and check that little is kept."""
        scanner = mime.Scanner()
        scanner.feed(first)
        piece = unit * (65_536 // len(unit) + 1)
        for _ in range(total // len(piece)):
            scanner.feed(piece)
            self.assertLessEqual(len(scanner._octets), mime._LINE_MAX + 1)
            self.assertLessEqual(len(scanner._header), header.BLOCK_MAX)
        return scanner

    def test_h09_long_lines(self) -> None:
        """A line of 30 MB, in a header, a body or a multipart, is not kept."""
        multipart = b"Content-Type: multipart/mixed; boundary=xx\r\n\r\n"
        for first in (b"", b"\r\n", multipart, multipart + b"--xx\r\n"):
            for unit in (b"x", b"-", b"\r"):
                self.feed(unit, 30_000_000, first).finish()

    def test_h10_headers(self) -> None:
        """A header of 30 MB is kept to its limit only, in all parts
        together."""
        for unit in (b"a:\n", b"A: b\r\n c\r\n", b"Subject: " + b"x" * 60_000):
            structure = self.feed(unit, 30_000_000).finish()
            self.assertEqual(len(structure.root.header), header.BLOCK_MAX)
        part = b"--xx\nContent-Type: message/rfc822\n\nA: " + b"x" * 50_000 + b"\n\n\n"
        first = b"Content-Type: multipart/mixed; boundary=xx\n\n"
        structure = self.feed(part, 30_000_000, first).finish()
        kept = sum(len(part.header) for part in walk(structure.root))
        self.assertLessEqual(kept, header.BLOCK_MAX)

    def test_h12_nesting(self) -> None:
        """Multiparts and messages 10,000 deep are read to the limit; the part
        there holds the rest and says that it is a leaf."""
        multipart = b"".join(
            b"Content-Type: multipart/mixed; boundary=b%05d\n\n--b%05d\n" % (at, at)
            for at in range(10_000)
        )
        message = b"Content-Type: message/rfc822\n\n" * 10_000
        both = b"Content-Type: message/rfc822\n\n" * 60 + multipart
        for octets, last in (
            (multipart, "text/plain"),
            (message, "application/octet-stream"),
            (both, "text/plain"),
        ):
            found = walk(mime.scan(octets).root)
            self.assertEqual(len(found), mime.NESTING_MAX + 1)
            self.assertEqual(shape(found[-1]), last)
            self.assertEqual(found[-1].end, len(octets))

    def test_h13_parts(self) -> None:
        """Of 100,000 parts the first 10,000 are parts, and the last of these
        holds the rest."""
        octets = (
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
            + b"--b\r\n\r\nx\r\n" * 100_000
            + b"--b--\r\n"
        )
        root = mime.scan(octets).root
        self.assertEqual(len(root.children) + 1, mime.PARTS_MAX)
        self.assertEqual(root.children[-1].end, len(octets))
        cuts = range(0, len(octets), 65_536)
        self.assertEqual(pieces(octets, *cuts).root, root)
        digest = octets.replace(b"mixed", b"digest", 1)
        self.assertLessEqual(len(walk(mime.scan(digest).root)), mime.PARTS_MAX)

    def test_h13_long_boundary(self) -> None:
        """A boundary of 10 MB is none."""
        octets = (
            b"Content-Type: multipart/mixed; boundary=" + b"b" * 10_000_000
        ) + b"\r\n\r\n--b\r\n\r\nx"
        self.assertEqual(shape(mime.scan(octets).root), "text/plain")

    def test_h13_linear(self) -> None:
        """Twice the parts, the lines of dashes, the ends, or the pieces are
        twice the work."""
        first = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n"
        for unit in (b"--b\n\n", b"--b\n", b"--x\n", b"--b--\n", b"--", b"--b\nA:b\n"):
            ratio = growth(
                lambda size, unit=unit: lambda: mime.scan(first + unit * size), 300
            )
            self.assertLess(ratio, 2.3, unit)
        ratio = growth(
            lambda size: lambda: octet_by_octet(first + b"A: b\n" * size), 200
        )
        self.assertLess(ratio, 2.3)

    def test_h12_bounded_work(self) -> None:
        """Lines that start like a boundary cost the same at any depth."""
        deep = b"".join(
            b"Content-Type: multipart/mixed; boundary=b%05d\n\n--b%05d\n" % (at, at)
            for at in range(90)
        )
        shallow = b"Content-Type: multipart/mixed; boundary=b00000\n\n--b00000\n"
        lines = b"\n--x" * 5000
        spent = calls(mime.scan, deep + b"\n" + lines) - calls(mime.scan, deep + b"\n")
        plain = calls(mime.scan, shallow + b"\n" + lines)
        self.assertLess(spent, 1.1 * plain)
