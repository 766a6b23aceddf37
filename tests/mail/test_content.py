"""Requirements of L{twisted_mta.mail.content}."""

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.mail import content, header
from twisted_mta.mail.content import Content, Disposition


class ParseTests(unittest.TestCase):
    def test_all(self) -> None:
        """Every field is read, unfolded, in any case, wherever it stands."""
        block = (
            b"CONTENT-TYPE: Text/HTML;\r\n charset=UTF-8;\r\n\tformat=flowed\r\n"
            b"Subject: Content-ID: <no>\r\n"
            b"content-transfer-encoding: Quoted-Printable (why)\r\n"
            b"Content-ID: <a@b>\r\n"
            b"Content-Description: some\r\n text\r\n"
            b"Content-Disposition: Attachment; filename=a.txt\r\n"
            b"Content-Language: de, en-GB\r\n"
            b"Content-Location: http://x/\r\n"
            b"Content-MD5 : Q2hlY2s=\r\n"
            b"Content-Type: image/png\r\n\r\n"
        )
        self.assertEqual(
            content.parse(block),
            Content(
                b"text",
                b"html",
                ((b"charset", b"UTF-8"), (b"format", b"flowed")),
                b"quoted-printable",
                b"<a@b>",
                b"some text",
                Disposition(b"attachment", ((b"filename", b"a.txt"),)),
                (b"de", b"en-GB"),
                b"http://x/",
                b"Q2hlY2s=",
            ),
        )

    def test_default(self) -> None:
        """Without fields a part is what its place says it is."""
        self.assertEqual(content.parse(b"Subject: x\r\n"), Content())
        self.assertEqual(
            content.parse(b"", content.DIGEST)[:2], (b"message", b"rfc822")
        )
        digest = content.parse(b"Content-ID: x\r\n", content.DIGEST)
        self.assertEqual((digest.type, digest.id), (b"message", b"x"))

    def test_invalid(self) -> None:
        """RFC 2045 5.2: a type that makes no sense is text/plain, with no
        parameters."""
        for value in (b"", b"text", b"/", b"a/", b"/b", b"text plain; x=y", b";a=b"):
            self.assertEqual(
                content.parse(b"Content-Type: " + value, content.DIGEST),
                Content(),
                value,
            )
        self.assertIsNone(content.parse(b"Content-Disposition: ;a=b\n").disposition)
        self.assertEqual(content.parse(b"Content-Language: ,\n").language, ())

    def test_lookalikes(self) -> None:
        """Folded lines and other names are not taken for fields."""
        block = b"X: a\r\n Content-ID: no\r\nContent-Typed: a/b\r\nXContent-MD5: no\r\n"
        self.assertEqual(content.parse(block), Content())

    def test_large(self) -> None:
        """Of one field no more than its limit is read."""
        described = content.parse(b"Content-Description: " + b"x" * 1_000_000)
        self.assertLessEqual(len(described.description or b""), header.VALUE_MAX)
        tags = content.parse(b"Content-Language: " + b"a," * 10_000).language
        self.assertEqual(len(tags), content.LANGUAGES_MAX)

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [b"Content-Type: ", b"\r\n", b" ", b"a", b"/", b";", b"Content-ID:"]
            )
        ).map(b"".join)
        | st.binary(max_size=60)
    )
    def test_any(self, block: bytes) -> None:
        """Nothing raises, and the first field of a name is the one that
        L{header.first} finds."""
        block = block[: header.body_start(block)]
        self.assertEqual(content.parse(block).id, header.first(block, b"content-id"))
