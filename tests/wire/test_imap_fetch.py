"""L{twisted_mta.wire.imap.fetch}: the items of FETCH."""

import unittest

from tests.wire.imapdrive import events, one
from twisted_mta.mail.uidset import UidSet
from twisted_mta.wire.imap.model import (
    BadCommand,
    BodySection,
    Command,
    Fetch,
    FetchItem,
)


def _fetch(items: bytes, name: bytes = b"FETCH") -> tuple[FetchItem, ...]:
    event = one(b"t %b 1 %b" % (name, items))
    assert isinstance(event, Fetch), event
    return event.items


def _names(items: bytes, name: bytes = b"FETCH") -> list[str]:
    return [item.name for item in _fetch(items, name)]


class ItemTests(unittest.TestCase):
    def test_macros(self) -> None:
        """ALL, FAST and FULL stand for what RFC 3501 6.4.5 says, only alone."""
        fast = ["FLAGS", "INTERNALDATE", "RFC822.SIZE"]
        self.assertEqual(_names(b"fast"), fast)
        self.assertEqual(_names(b"ALL"), [*fast, "ENVELOPE"])
        self.assertEqual(_names(b"FULL"), [*fast, "ENVELOPE", "BODY"])
        self.assertIsInstance(one(b"t FETCH 1 (ALL)"), BadCommand)

    def test_single_and_list(self) -> None:
        """One item bare, several in parentheses, each once, in order."""
        self.assertEqual(_names(b"flags"), ["FLAGS"])
        self.assertEqual(
            _names(b"(UID FLAGS BODYSTRUCTURE uid BODY)"),
            ["UID", "FLAGS", "BODYSTRUCTURE", "BODY"],
        )

    def test_uid_form_tells_uids(self) -> None:
        """UID FETCH answers with the UID, asked for or not (RFC 3501 6.4.8)."""
        self.assertEqual(_names(b"FLAGS", b"UID FETCH"), ["UID", "FLAGS"])
        self.assertEqual(_names(b"(FLAGS UID)", b"UID FETCH"), ["FLAGS", "UID"])

    def test_whole_command(self) -> None:
        """The example of RFC 3501 6.4.5."""
        self.assertEqual(
            one(b"A654 FETCH 2:4 (FLAGS BODY[HEADER.FIELDS (DATE FROM)])"),
            Fetch(
                b"A654",
                "FETCH",
                UidSet.span(2, 4),
                (
                    FetchItem("FLAGS", b"FLAGS"),
                    FetchItem(
                        "BODY[]",
                        b"BODY[HEADER.FIELDS (DATE FROM)]",
                        BodySection((), "HEADER.FIELDS", (b"DATE", b"FROM")),
                    ),
                ),
                False,
            ),
        )

    def test_sections(self) -> None:
        """Every form of a section, and how the response names it."""
        for octets, section in (
            (b"BODY[]", BodySection()),
            (b"BODY[TEXT]", BodySection((), "TEXT")),
            (b"BODY[1]", BodySection((1,))),
            (b"BODY[4.2.HEADER]", BodySection((4, 2), "HEADER")),
            (b"BODY[4.1.MIME]", BodySection((4, 1), "MIME")),
            (b"BODY[12.TEXT]", BodySection((12,), "TEXT")),
        ):
            with self.subTest(octets=octets):
                item = FetchItem("BODY[]", octets, section)
                self.assertEqual(_fetch(octets.lower()), (item,))

    def test_peek_and_partial(self) -> None:
        """BODY.PEEK does not set \\Seen; a partial names its first octet. The
        response says neither PEEK nor the length."""
        self.assertEqual(
            _fetch(b"BODY.PEEK[2.HEADER.FIELDS.NOT (To)]<100.2048>"),
            (
                FetchItem(
                    "BODY[]",
                    b"BODY[2.HEADER.FIELDS.NOT (To)]<100>",
                    BodySection((2,), "HEADER.FIELDS.NOT", (b"To",), (100, 2048), True),
                ),
            ),
        )

    def test_rfc822(self) -> None:
        """RFC822 items are sections under their own names; only .HEADER leaves
        \\Seen alone."""
        self.assertEqual(
            _fetch(b"(RFC822 RFC822.HEADER RFC822.TEXT RFC822.SIZE)"),
            (
                FetchItem("RFC822", b"RFC822", BodySection()),
                FetchItem(
                    "RFC822.HEADER",
                    b"RFC822.HEADER",
                    BodySection(text="HEADER", peek=True),
                ),
                FetchItem("RFC822.TEXT", b"RFC822.TEXT", BodySection(text="TEXT")),
                FetchItem("RFC822.SIZE", b"RFC822.SIZE"),
            ),
        )

    def test_peek_and_not(self) -> None:
        """Of BODY[] and BODY.PEEK[] together one answer is sent, and \\Seen is
        set."""
        for octets in (b"(BODY.PEEK[] BODY[])", b"(BODY[] BODY.PEEK[])"):
            (item,) = _fetch(octets)
            self.assertEqual(item.section, BodySection())

    def test_field_names_as_any_string(self) -> None:
        """Field names may be quoted or literals; the response quotes where it
        must."""
        (item,) = _fetch(b'BODY[HEADER.FIELDS ("Subject" {2+}\r\nTo "a b")]')
        assert item.section is not None
        self.assertEqual(item.section.fields, (b"Subject", b"To", b"a b"))
        self.assertEqual(item.label, b'BODY[HEADER.FIELDS (Subject To "a b")]')

    def test_malformed(self) -> None:
        """What is no list of items is BAD."""
        for octets in (
            b"",
            b"()",
            b"(FLAGS",
            b"(FLAGS)x",
            b"FLAGS UID",
            b"(FLAGS  UID)",
            b"FOO",
            b"BODY.PEEK",
            b"BODY[",
            b"BODY[0]",
            b"BODY[1.]",
            b"BODY[1.0]",
            b"BODY[01]",
            b"BODY[.TEXT]",
            b"BODY[1TEXT]",
            b"BODY[MIME]",
            b"BODY[1.FOO]",
            b"BODY[HEADER.FIELDS]",
            b"BODY[HEADER.FIELDS ()]",
            b"BODY[HEADER.FIELDS (a]",
            b"BODY[HEADER (a)]",
            b"BODY[]<1>",
            b"BODY[]<0.0>",
            b"BODY[]<-1.5>",
            b"BODY[" + b"9" * 6000 + b"]",
            b"RFC822[]",
            b"FLAGS[]",
        ):
            with self.subTest(octets=octets):
                self.assertIsInstance(one(b"t FETCH 1 " + octets), BadCommand)

    def test_h12_levels_of_parts(self) -> None:
        """A path of a hundred parts is taken, a longer one is BAD."""
        path = b".".join([b"1"] * 100)
        (item,) = _fetch(b"BODY[" + path + b"]")
        assert item.section is not None
        self.assertEqual(len(item.section.path), 100)
        self.assertIsInstance(one(b"t FETCH 1 BODY[" + path + b".1]"), BadCommand)

    def test_h19_parentheses(self) -> None:
        """Nested parentheses are BAD at once; the next command is found."""
        for authenticated in (False, True):
            found = events(
                b"t FETCH 1 " + b"(" * 8000 + b"\r\nb NOOP\r\n", authenticated
            )
            self.assertIsInstance(found[0], BadCommand)
            self.assertEqual(found[1:], [Command(b"b", "NOOP")])

    def test_amplification_is_bounded(self) -> None:
        """Repeated sections are one; thousands of partial ones are refused."""
        self.assertEqual(len(_fetch(b"(" + b"BODY[] " * 5000 + b"BODY[])")), 1)
        parts = b" ".join(b"BODY[]<%d.9>" % number for number in range(1000))
        self.assertEqual(
            one(b"t FETCH 1 (" + parts + b")"),
            BadCommand(b"t", "Too many items", b"NO", b"LIMIT"),
        )
