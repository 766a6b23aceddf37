"""Requirements of L{twisted_mta.mail.imapform}."""

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mail import imapgrammar
from tests.mail.counting import growth
from tests.mail.mimecorpus import MALFORMED, NESTED, SOUP
from twisted_mta.mail import addresslist, header, imapform, mime

ALICE = [(None, None, b"alice", b"example.test")]


class StringTests(unittest.TestCase):
    def test_forms(self) -> None:
        """Short printable text is quoted, all else is a literal without NUL and
        line ends."""
        for octets, shown in (
            (b"", b'""'),
            (b"a b", b'"a b"'),
            (b'a "b" \\c', b'"a \\"b\\" \\\\c"'),
            (b"gr\xc3\xbc", b"{4}\r\ngr\xc3\xbc"),
            (b"a\r\nb\0c", b"{5}\r\na  bc"),
            (b"a" * 1001, b"{1001}\r\n" + b"a" * 1001),
        ):
            self.assertEqual(imapform.string(octets), shown)
        self.assertEqual(imapform.nstring(None), b"NIL")


class EnvelopeTests(unittest.TestCase):
    def test_example(self) -> None:
        """The message of RFC 3501 8 has the envelope that is shown there."""
        block = (
            b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n"
            b"From: Terry Gray <gray@cac.washington.edu>\r\n"
            b"Subject: IMAP4rev1 WG mtg summary and minutes\r\n"
            b"To: imap@cac.washington.edu\r\n"
            b"cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n"
            b"Message-Id: <B27397-0100000@cac.washington.edu>\r\n"
            b"MIME-Version: 1.0\r\n\r\n"
        )
        gray = b'(("Terry Gray" NIL "gray" "cac.washington.edu"))'
        self.assertEqual(
            imapform.envelope(block),
            b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" '
            b'"IMAP4rev1 WG mtg summary and minutes" '
            + b" ".join((gray, gray, gray))
            + b' ((NIL NIL "imap" "cac.washington.edu")) '
            b'((NIL NIL "minutes" "CNRI.Reston.VA.US")'
            b'("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL '
            b'"<B27397-0100000@cac.washington.edu>")',
        )

    def test_nothing(self) -> None:
        """What is missing is NIL; what is empty is an empty string."""
        self.assertEqual(imapgrammar.envelope(imapform.envelope(b"")), [None] * 10)
        found = imapgrammar.envelope(imapform.envelope(b"Subject:\r\nTo:\r\n"))
        self.assertEqual(found[1:2] + found[5:6], [b"", None])

    def test_defaults(self) -> None:
        """Sender and Reply-To are From, missing or empty, and only then."""
        block = b"From: alice@example.test\nSender: \nReply-To: x@y\n"
        found = imapgrammar.envelope(imapform.envelope(block))
        self.assertEqual(found[2:5], [ALICE, ALICE, [(None, None, b"x", b"y")]])

    def test_repeated(self) -> None:
        """Several To fields count as one (RFC 5322 4.5.3); of others the first
        counts."""
        block = b"To: a@b\nSubject: 1\nTo: c@d\nSubject: 2\nFrom: e@f\nFrom: g@h\n"
        found = imapgrammar.envelope(imapform.envelope(block))
        self.assertEqual(found[1], b"1")
        self.assertEqual(found[2], [(None, None, b"e", b"f")])
        self.assertEqual([entry[2] for entry in found[5]], [b"a", b"c"])

    def test_groups(self) -> None:
        """Groups have NIL hosts, and addresses that lack something have not."""
        found = imapgrammar.envelope(imapform.envelope(b"To: g: <@r:a@b>;, bob, <>\n"))
        self.assertEqual(
            found[5],
            [
                (None, None, b"g", None),
                (None, b"@r", b"a", b"b"),
                (None, None, None, None),
                (None, None, b"bob", b"MISSING_DOMAIN"),
                (None, None, b"MISSING_MAILBOX", b"MISSING_DOMAIN"),
            ],
        )

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [b"\r\nFrom: ", b"\nTo:", b"\r\nSubject:", b'"', b"\\", b"(", b"<a@b>"]
            )
            | st.binary(max_size=6),
            max_size=20,
        ).map(b"".join)
    )
    def test_any(self, block: bytes) -> None:
        """Whatever the header, the envelope is one."""
        imapgrammar.envelope(imapform.envelope(block))

    def test_h11_many_addresses(self) -> None:
        """A million addresses, or a megabyte of a group, give an envelope of a
        stated size."""
        for value in (b"a@b, " * 1_000_000, b"a:,,,;" * 200_000, b"a, " * 300_000):
            block = b"From: " + value + b"\r\nTo: " + value + b"\r\n"
            found = imapgrammar.envelope(imapform.envelope(block))
            for entries in found[2:6]:
                self.assertLessEqual(len(entries), addresslist.ENTRIES_MAX + 2)

    def test_h10_large_fields(self) -> None:
        """Fields of megabytes are cut at their limit."""
        block = b"Subject: " + b"x" * 50_000_000 + b"\r\nDate: " + b"y" * 200_000
        found = imapgrammar.envelope(imapform.envelope(block))
        self.assertEqual([len(found[1]), len(found[0])], [header.VALUE_MAX] * 2)

    def test_h11_linear(self) -> None:
        """Twice the addresses, twice the work."""
        ratio = growth(
            lambda size: lambda: imapform.envelope(b"To: " + b"a@b, " * size), 200
        )
        self.assertLess(ratio, 2.2)


class BodyTests(unittest.TestCase):
    def test_plain(self) -> None:
        """A plain message, with and without extension data."""
        structure = mime.scan(b"Subject: x\r\n\r\none\r\ntwo\r\n")
        self.assertEqual(
            imapform.body(structure),
            b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 2)',
        )
        self.assertEqual(
            imapform.bodystructure(structure),
            b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 2'
            b" NIL NIL NIL NIL)",
        )

    def test_nested(self) -> None:
        """Every part of a message with another in it is described."""
        found = imapgrammar.body(imapform.bodystructure(mime.scan(NESTED)), True)
        plain, message, image = found["parts"]
        self.assertEqual(
            (found["subtype"], plain["size"], plain["lines"]), (b"mixed", 11, 1)
        )
        self.assertEqual(found["parameters"], {b"boundary": b"outer"})
        self.assertEqual(message["description"], b"forwarded")
        self.assertEqual(message["envelope"][1], b"inner")
        self.assertEqual(message["lines"], 15)
        inner = message["body"]
        self.assertEqual(inner["subtype"], b"alternative")
        self.assertEqual(inner["parts"][0]["encoding"], b"base64")
        self.assertEqual(inner["parts"][0]["parameters"], {b"charset": b"utf-8"})
        self.assertEqual(image["parameters"], {b"name": b"x.png"})
        self.assertEqual(
            image["extension"], [(b"attachment", {b"filename": b"x.png"}), None, None]
        )

    def test_every_field(self) -> None:
        """Each of the fields has its place."""
        structure = mime.scan(
            b"Content-Type: text/html; charset*=utf-8''x\r\nContent-ID: <i>\r\n"
            b"Content-MD5: m==\r\nContent-Language: de, en\r\n"
            b"Content-Location: l\r\n\r\n"
        )
        self.assertEqual(
            imapform.bodystructure(structure),
            b'("text" "html" ("charset*" "utf-8\'\'x") "<i>" NIL "7bit" 0 0'
            b' "m==" NIL ("de" "en") "l")',
        )

    def test_without_extension(self) -> None:
        """BODY is BODYSTRUCTURE without extension data, inner parts
        included."""
        for octets in (NESTED, *MALFORMED):
            structure = mime.scan(octets)
            imapgrammar.body(imapform.body(structure), False)
            imapgrammar.body(imapform.bodystructure(structure), True)

    @settings(max_examples=150, deadline=None)
    @given(
        SOUP,
        st.lists(
            st.sampled_from(
                [b"Content-ID:", b"Content-Language:", b"Content-Type: a/b;"]
            )
            | st.binary(max_size=8),
            max_size=8,
        ).map(b"".join),
    )
    def test_any(self, octets: bytes, first: bytes) -> None:
        """Whatever the message, both forms are what the grammar allows."""
        for message in (octets, first + octets, octets.replace(b"A: b", first)):
            structure = mime.scan(message)
            imapgrammar.body(imapform.body(structure), False)
            imapgrammar.body(imapform.bodystructure(structure), True)

    def test_h12_deep(self) -> None:
        """The deepest structures have a body structure."""
        multipart = b"".join(
            b"Content-Type: multipart/mixed; boundary=b%05d\n\n--b%05d\n" % (at, at)
            for at in range(10_000)
        )
        for octets in (multipart, b"Content-Type: message/rfc822\n\n" * 1000):
            imapgrammar.body(imapform.bodystructure(mime.scan(octets)), True)

    def test_h13_wide(self) -> None:
        """The widest structure has one, and twice the parts are twice the
        work."""
        first = b"Content-Type: multipart/mixed; boundary=b\n\n"
        shown = imapform.bodystructure(mime.scan(first + b"--b\n\nx\n" * 20_000))
        found = imapgrammar.body(shown, True)
        self.assertEqual(len(found["parts"]) + 1, mime.PARTS_MAX)

        def describe(size: int) -> object:
            structure = mime.scan(first + b"--b\n\nx\n" * size)
            return lambda: imapform.bodystructure(structure)

        self.assertLess(growth(describe, 200), 2.2)

    def test_h14_parameters(self) -> None:
        """Of 10,000 parameters those within the limit are shown."""
        value = b"".join(b"; a%d*%d*=x" % (at, at % 3) for at in range(10_000))
        shown = imapform.bodystructure(
            mime.scan(b"Content-Type: a/b" + value + b"\n\n")
        )
        found = imapgrammar.body(shown, True)["parameters"]
        self.assertLessEqual(len(found), 128)
