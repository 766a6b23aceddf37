"""Requirements of L{twisted_mta.mail.header}."""

import email
import random
import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mail.counting import growth
from twisted_mta.mail import header

BLOCK = (
    b"Received: from a by b;\r\n\tMon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"received : from c by a\r\n"
    b"From: alice@example.test\r\n"
    b"Subject: one\r\n two\r\n\tthree\r\n"
    b"X-Empty:\r\n"
    b"To: bob@example.test\r\n"
    b"\r\n"
)
HEADERISH = st.lists(
    st.sampled_from(
        [
            b"\r\n",
            b"\n",
            b"\r",
            b" ",
            b"\t",
            b":",
            b"A",
            b"Subject: x",
            b"To:",
            b"\x00",
            b"\xff",
            b"Received: y\r\n",
            b"\r\n\r\n",
        ]
    ),
    max_size=30,
).map(b"".join)


class BodyStartTests(unittest.TestCase):
    def test_blank_line(self) -> None:
        """The body starts behind the first blank line, whether its line ends
        are CRLF, LF or a mixture."""
        for end in (b"\r\n\r\n", b"\n\n", b"\n\r\n", b"\r\n\n"):
            octets = b"A: b" + end + b"body\r\n\r\nmore"
            self.assertEqual(octets[header.body_start(octets) :][:4], b"body", end)

    def test_no_header(self) -> None:
        """A message that starts with a blank line has no header."""
        self.assertEqual(header.body_start(b"\r\nA: b\r\n\r\n"), 2)
        self.assertEqual(header.body_start(b"\nA: b\n\n"), 1)

    def test_no_body(self) -> None:
        """Without a blank line all is header, white space being no blank
        line."""
        for octets in (b"", b"A: b", b"A: b\r\n", b"A: b\r\n \r\nC: d\r\n", b"\r\r"):
            self.assertEqual(header.body_start(octets), len(octets))

    def test_start(self) -> None:
        """A header may start anywhere."""
        self.assertEqual(header.body_start(b"x\r\n\r\nA: b\r\n\r\nc", 5), 13)
        self.assertEqual(header.body_start(b"x\r\n\r\n\r\nc", 5), 7)


class FieldTests(unittest.TestCase):
    def test_offsets(self) -> None:
        """Fields are found where they are, their folded lines included."""
        found = [
            (field.name, BLOCK[field.start : field.end], BLOCK[field.value_start :][:5])
            for field in header.fields(BLOCK)
        ]
        self.assertEqual(
            found[1:4],
            [
                (b"received", b"received : from c by a\r\n", b" from"),
                (b"from", b"From: alice@example.test\r\n", b" alic"),
                (b"subject", b"Subject: one\r\n two\r\n\tthree\r\n", b" one\r"),
            ],
        )
        self.assertEqual(len(found), 6)

    def test_values(self) -> None:
        """Values are unfolded, and names match in any case."""
        self.assertEqual(header.first(BLOCK, b"SUBJECT"), b"one two\tthree")
        self.assertEqual(header.first(BLOCK, b"x-empty"), b"")
        self.assertIsNone(header.first(BLOCK, b"cc"))
        self.assertEqual(
            header.every(BLOCK, b"Received"),
            [b"from a by b;\tMon, 1 Jan 2024 00:00:00 +0000", b"from c by a"],
        )

    def test_junk(self) -> None:
        """Lines that are no fields are passed over with their folded lines."""
        block = b" folded\r\nFrom a@b Sat Jan  1\r\nno colon\r\n\tA: b\r\n: c\r\nD:e"
        self.assertEqual([field.name for field in header.fields(block)], [b"d"])
        self.assertEqual(header.first(block, b"d"), b"e")

    def test_long_name(self) -> None:
        """A name of 1000 octets is one, a longer one is not."""
        block = b"A" * 1000 + b": b\r\n" + b"C" * 1001 + b": d\r\n"
        self.assertEqual([field.start for field in header.fields(block)], [0])

    def test_oracle(self) -> None:
        """The standard library finds the same fields."""
        block = BLOCK.replace(b"received :", b"Received:")  # it ends a header there
        items = email.message_from_bytes(block).items()
        ours = [
            (field.name.decode(), header.value_of(block, field).decode())
            for field in header.fields(block)
        ]
        self.assertEqual(
            ours,
            [
                (name.lower().strip(), value.replace("\r\n", "").strip())
                for name, value in items
            ],
        )

    @settings(max_examples=150, deadline=None)
    @given(HEADERISH | st.binary(max_size=60))
    def test_any(self, octets: bytes) -> None:
        """Whatever the octets: fields are in order, apart, and start lines."""
        behind = 0
        block = octets[: header.body_start(octets)]
        for field in header.fields(block):
            self.assertLessEqual(behind, field.start)
            self.assertLess(field.start, field.value_start)
            self.assertLessEqual(field.value_start, field.end)
            self.assertIn(block[field.start - 1 : field.start], (b"", b"\n"))
            self.assertNotIn(b"\n", header.value_of(block, field))
            behind = field.end


class SelectTests(unittest.TestCase):
    def test_select(self) -> None:
        """The fields named come as they stand and in their order, with a blank
        line."""
        self.assertEqual(
            header.select(BLOCK, [b"SUBJECT", b"from", b"cc"]),
            b"From: alice@example.test\r\nSubject: one\r\n two\r\n\tthree\r\n\r\n",
        )

    def test_invert(self) -> None:
        """With the inversion come all others."""
        names = [b"Received", b"subject", b"x-empty"]
        self.assertEqual(
            header.select(BLOCK, names, invert=True),
            b"From: alice@example.test\r\nTo: bob@example.test\r\n\r\n",
        )

    def test_none(self) -> None:
        """No field leaves the blank line."""
        self.assertEqual(header.select(BLOCK, [b"cc"]), b"\r\n")
        self.assertEqual(header.select(b"", [b"cc"], invert=True), b"\r\n")

    def test_few_names_and_many(self) -> None:
        """A few names are found another way than many; both find the same."""
        pieces = (b"From", b"to", b"X-To", b":", b" :", b"\t:", b"\r\n", b"\n", b"\n\t")
        pieces += (
            b"\r\n ",
            b" ",
            b"x",
            b"\r",
            b"\r\n\r\n",
            b"Cc: c\r\n",
            b"\0",
            b"\xe9",
        )
        chance = random.Random(1)
        others = [b"other-%d" % number for number in range(100)]
        for _ in range(5000):
            block = b"".join(chance.choices(pieces, k=chance.randint(0, 14)))
            names = chance.sample([b"FROM", b"to", b"cc", b"x", b"", b"a b"], k=3)
            few, many = (
                header.select(block, names),
                header.select(block, names + others),
            )
            self.assertEqual(few, many, (block, names))

    def test_cut(self) -> None:
        """A last field without a line end gets one."""
        self.assertEqual(header.select(b"A: b\r\nC: d", [b"c"]), b"C: d\r\n\r\n")


class HostileTests(unittest.TestCase):
    def test_h10_large_blocks(self) -> None:
        """A header of 10 MB, in one field, in many lines or in many fields, is
        looked at in a bounded number of steps."""
        size = 10 * 1024 * 1024
        for block in (
            b"Subject: " + b"x" * size,
            b"Subject: a" + b"\r\n b" * (size // 4),
            b"a:\n" * (size // 3),
            b"junk\n" * (size // 5),
            b"\r" * size,
            b" :" * (size // 2),
        ):
            found = list(header.fields(block))
            self.assertLessEqual(len(found), header.FIELDS_MAX)
            value = header.first(block, b"subject") or b""
            self.assertLessEqual(len(value), header.VALUE_MAX)

    def test_h10_select_past_the_limit(self) -> None:
        """No field is lost of HEADER.FIELDS.NOT, however many there are."""
        block = b"A: b\r\n" * (header.FIELDS_MAX + 5) + b"\r\n"
        self.assertEqual(header.select(block, [b"c"], invert=True), block)

    def test_h10_linear(self) -> None:
        """Twice the fields are twice the work."""
        ratio = growth(
            lambda size: lambda: header.every(b"Ab: c\r\n" * size, b"ab"), 400
        )
        self.assertLess(ratio, 2.2)
