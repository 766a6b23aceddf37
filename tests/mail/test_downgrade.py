"""Tests for L{twisted_mta.mail.downgrade} and L{twisted_mta.mail.conversion}."""

from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from unittest import TestCase

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.mail.mimecorpus import MALFORMED, SOUP
from tests.mail.mimecorpus import NESTED as TREE
from twisted_mta.mail.conversion import convert
from twisted_mta.mail.downgrade import HEADER_MOST, Level, Unconvertible, labelled
from twisted_mta.mail.mime import scan
from twisted_mta.mail.structure import Kind, Part
from twisted_mta.mail.transfer import (
    Base64Text,
    QuotedText,
    base64,
    decode,
    quoted_printable,
)


class Pieces:
    """Octets that are read in pieces of any size."""

    def __init__(self, octets: bytes, most: int = 1 << 20) -> None:
        self.octets = octets
        self.size = len(octets)
        self.most = most

    async def read(self, offset: int, most: int) -> bytes:
        return self.octets[offset : offset + min(most, self.most)]


def converted(
    octets: bytes,
    level: Level = Level.SEVEN_BIT,
    binary: bool = False,
    most: int = 1 << 20,
) -> bytes:
    async def whole() -> bytes:
        conversion = await convert(Pieces(octets, most), level, binary)
        return b"".join([run async for run in conversion.runs()])

    try:
        whole().send(None)
    except StopIteration as done:
        assert isinstance(done.value, bytes)
        return done.value
    raise AssertionError("it waits for something")


def bodies(octets: bytes) -> list[tuple[str, bytes]]:
    """What the standard library reads: the type and the decoded body of each part."""

    def each(message: Message) -> list[tuple[str, bytes]]:
        kind = message.get_content_type()
        if message.is_multipart():
            children = [pair for child in message.get_payload() for pair in each(child)]
            return [(kind, b""), *children]
        payload = message.get_payload(decode=True)
        assert isinstance(payload, bytes)
        return [(kind, payload.rstrip(b"\r\n"))]

    return each(message_from_bytes(octets))


def mixed(*parts: bytes, kind: bytes = b"mixed", encoding: bytes = b"8bit") -> bytes:
    head = (
        b"Subject: s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/%b; boundary=b\r\n"
        b"Content-Transfer-Encoding: %b\r\n\r\npreamble\r\n" % (kind, encoding)
    )
    return head + b"".join(b"--b\r\n%b\r\n" % part for part in parts) + b"--b--\r\n"


UMLAUT = (
    b"Content-Type: text/plain; charset=utf-8\r\n\r\ngr\xc3\xbc\xc3\x9fe an alle, sehr"
)
HTML = (
    b"Content-Type: text/html\r\nContent-Transfer-Encoding:\r\n 8bit\r\nX-A: b\r\n\r\n"
    b"<p>\xe4 and much more in this line, so that it is readable</p>"
)
IMAGE = (
    b"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    b"\x89PNG\0\r\n\r\x1a\n\xff\xfe\n.\r\n.\n"
)
ASCII = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\nplain"
NESTED = (
    b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"Subject: inner\r\n\r\n\xff inner, and a longer line\r\n"
)


class ConversionTests(TestCase):
    def test_text(self) -> None:
        """Text becomes quoted-printable, in lines of at most 76."""
        long = b"word " * 150 + b"\xc3\xa4 \r\nnext \t\r\n"
        made = converted(
            b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n" + long
        )
        head, _, body = made.partition(b"\r\n\r\n")
        self.assertIn(b"Content-Transfer-Encoding: quoted-printable", head)
        self.assertTrue(made.isascii())
        self.assertLessEqual(max(map(len, body.split(b"\r\n"))), 76)
        self.assertEqual(body.count(b"\n"), body.count(b"\r\n"))
        self.assertEqual(bodies(made)[0][1], long.rstrip(b"\r\n"))

    def test_dense(self) -> None:
        """Text that is hardly ASCII, and what is no text, become base64."""
        russian = "Привет, мир\r\n".encode()
        for head, body in ((b"text/plain", russian), (b"application/x", UMLAUT)):
            made = converted(
                b"MIME-Version: 1.0\r\nContent-Type: %b\r\n\r\n" % head + body
            )
            self.assertIn(b"Content-Transfer-Encoding: base64\r\n", made)
            self.assertEqual(bodies(made), [(head.decode(), body.rstrip(b"\r\n"))])

    def test_not_mime(self) -> None:
        """Text that does not say that it is MIME says so then, of a charset that
        nobody knows (RFC 1428)."""
        made = converted(b"Subject: x\r\n\r\n\xe4 is all that there is to be said\r\n")
        self.assertEqual(
            made,
            b"Subject: x\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: text/plain; charset=unknown-8bit\r\n"
            b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
            b"=E4 is all that there is to be said\r\n",
        )

    def test_structure(self) -> None:
        """The structure stays, and the parts that need nothing stay as they are but
        for a label that promises too much."""
        whole = mixed(UMLAUT, ASCII, HTML, NESTED)
        made = converted(whole)
        self.assertTrue(made.isascii())
        self.assertEqual(bodies(made), bodies(whole))
        self.assertNotIn(b"8bit\r\n", made.replace(b"unknown-8bit", b""))
        self.assertEqual(made.count(b"Content-Transfer-Encoding"), 6)
        self.assertIn(b"X-A: b\r\n", made)
        self.assertIn(ASCII.replace(b"8bit", b"7bit"), made)

    def test_binary(self) -> None:
        """What is binary becomes base64 for a server that takes 8 bits, and other
        parts stay."""
        whole = mixed(UMLAUT, IMAGE, encoding=b"binary")
        made = converted(whole, Level.EIGHT_BIT, binary=True)
        self.assertIn(UMLAUT, made)
        self.assertNotIn(b"binary", made)
        self.assertEqual(made.count(b"\n"), made.count(b"\r\n"))
        self.assertNotIn(b"\0", made)
        encoded = made.partition(b"image/png")[2].partition(b"\r\n\r\n")[2]
        self.assertEqual(
            base64(encoded.partition(b"\r\n--b")[0]), IMAGE.partition(b"\r\n\r\n")[2]
        )

    def test_long_lines(self) -> None:
        """Lines that are too long matter only where the sender spoke of binary
        parts: other mail with them is sent as it is."""
        whole = b"Subject: x\r\n\r\n" + b"x" * 5000 + b"\r\n"
        self.assertEqual(converted(whole), whole)
        made = converted(whole, Level.EIGHT_BIT, binary=True)
        self.assertLess(max(map(len, made.split(b"\r\n"))), 80)

    def test_nothing_to_do(self) -> None:
        """What needs nothing stays to the octet, 8-bit octets in headers and between
        parts too."""
        for whole in (
            b"Subject: \xe4\r\n\r\nplain\r\n",
            mixed(b"\r\nplain", encoding=b"7bit").replace(b"preamble", b"\xe4"),
            b"",
            b"\r\n",
            b"Content-Transfer-Encoding: 8bit\r\n\r\n",
        ):
            self.assertEqual(converted(whole), whole)

    def test_signed(self) -> None:
        """What is signed is left alone; if it needs to be changed, that cannot be."""
        signature = b"Content-Type: application/pgp-signature\r\n\r\nabc"
        inner = mixed(ASCII, signature, kind=b"signed", encoding=b"7bit")
        inner = inner.replace(b"boundary=b", b"boundary=c").replace(b"--b", b"--c")
        whole = mixed(inner, UMLAUT)
        made = converted(whole)
        self.assertIn(ASCII, made)
        with self.assertRaises(Unconvertible):
            converted(mixed(UMLAUT, signature, kind=b"signed"))

    def test_unconvertible(self) -> None:
        """Nor can parts that are encoded and hold 8-bit octets all the same, parts
        that must not be encoded, or that nobody can take apart."""
        for part in (
            b"Content-Transfer-Encoding: base64\r\n\r\n\xe4",
            b"Content-Transfer-Encoding: x-uuencode\r\n\r\n\xe4",
            b"Content-Type: message/delivery-status\r\n\r\n\xe4",
            b"Content-Type: multipart/mixed\r\n\r\n\xe4",
            b"Content-Type: text/plain\r\nX: " + b"y" * HEADER_MOST + b"\r\n\r\n\xe4",
        ):
            with self.assertRaises(Unconvertible, msg=part[:60]):
                converted(mixed(part))
        international = b"Content-Type: message/global-headers\r\n\r\nA: \xc3\xa4"
        self.assertTrue(converted(mixed(international)).isascii())

    def test_labelled(self) -> None:
        """A header gets its label before the line that ends it, and only one."""
        for block, made in (
            (b"\r\n", b"Content-Transfer-Encoding: 7bit\r\n\r\n"),
            (
                b"content-transfer-encoding : 8bit\r\n (x)\r\nA: b\r\n\r\n",
                b"A: b\r\nContent-Transfer-Encoding: 7bit\r\n\r\n",
            ),
        ):
            self.assertEqual(labelled(block, b"7bit", whole=False), made)

    @given(
        parts=st.lists(
            st.one_of(
                st.sampled_from([UMLAUT, HTML, ASCII, NESTED]),
                st.text(
                    st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp"))
                ).map(lambda text: b"\r\n" + text.encode()),
                st.binary().map(
                    lambda octets: (
                        b"Content-Type: a/b\r\n"
                        b"Content-Transfer-Encoding: 8bit\r\n\r\n"
                        + octets.translate(None, b"\r\n\0\x0b\x0c\x1c\x1d\x1e\x85")
                    )
                ),
            ),
            min_size=1,
            max_size=5,
        ),
        most=st.integers(1, 100),
    )
    @settings(max_examples=150, deadline=None)
    def test_whatever(self, parts: list[bytes], most: int) -> None:
        """Whatever the parts hold and however they are read: what comes of it is
        ASCII, and everybody reads the same in it."""
        whole = mixed(*parts)
        made = converted(whole, most=most)
        self.assertTrue(made.isascii())
        self.assertEqual(bodies(made), bodies(whole))
        self.assertEqual(converted(made), made)

    @given(
        pieces=st.lists(SOUP | st.sampled_from([b"\xff", b"\xc3\xa4 text", b"\0"])),
        level=st.sampled_from([Level.SEVEN_BIT, Level.EIGHT_BIT]),
        binary=st.booleans(),
    )
    @settings(max_examples=150, deadline=None)
    @example(pieces=[TREE], level=Level.SEVEN_BIT, binary=True)
    @example(pieces=[*MALFORMED], level=Level.SEVEN_BIT, binary=False)
    def test_soup(self, pieces: list[bytes], level: Level, binary: bool) -> None:
        """Whatever the octets are, it cannot be done, or the parts are the same and
        hold the same, and none holds what the server does not take."""
        whole = b"".join(pieces)
        try:
            made = converted(whole, level, binary)
        except Unconvertible:
            return
        before, after = parts(whole), parts(made)
        self.assertEqual([part[:2] for part in after], [part[:2] for part in before])
        for _, _, body, encoding in after:
            if level is Level.SEVEN_BIT:
                self.assertTrue(body.isascii())
            if binary and encoding in (b"7bit", b"8bit", b"binary"):
                self.assertNotIn(b"\0", body)


def parts(octets: bytes) -> list[tuple[Kind, bytes, bytes, bytes]]:
    """What our scanner reads: of each part its kind, and of those with bodies what
    they hold, the body as it is, and its encoding."""

    def each(part: Part) -> Iterator[tuple[Kind, bytes, bytes, bytes]]:
        body, encoding = octets[part.body_start : part.end], part.content.encoding
        if part.kind is Kind.LEAF:
            yield part.kind, decode(body, encoding), body, encoding
        else:
            yield part.kind, b"", b"", b""
        for child in part.children:
            yield from each(child)

    return list(each(scan(octets).root))


class EncoderTests(TestCase):
    @given(st.lists(st.binary(max_size=200)))
    @settings(max_examples=200, deadline=None)
    def test_base64(self, cut: list[bytes]) -> None:
        """Base64 comes out the same however the octets are cut, in lines of 76."""
        encoder = Base64Text()
        made = b"".join([*map(encoder.encode, cut), encoder.end()])
        self.assertEqual(base64(made), b"".join(cut))
        self.assertTrue(all(len(line) == 76 for line in made.split(b"\r\n")[:-1]))
        self.assertFalse(made.endswith(b"\n"))

    @given(
        st.lists(st.binary(max_size=300).map(lambda o: o.translate(None, b"\r\n"))),
        st.integers(1, 50),
    )
    @settings(max_examples=200, deadline=None)
    def test_quoted(self, lines: list[bytes], size: int) -> None:
        """So does quoted-printable."""
        text = b"\r\n".join(lines)
        encoder = QuotedText()
        cut = [text[at : at + size] for at in range(0, len(text), size)]
        made = b"".join([*map(encoder.encode, cut), encoder.end()])
        self.assertEqual(quoted_printable(made), text)
        self.assertLessEqual(max(map(len, made.split(b"\r\n"))), 76)
        self.assertNotRegex(made, rb"[ \t](?:\r\n|\Z)")
