"""L{twisted_mta.wire.imap.replies}: what the server says."""

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.wire.imap import replies
from twisted_mta.wire.imap.lexer import Cursor
from twisted_mta.wire.imap.model import BadCommand


class StringTests(unittest.TestCase):
    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=40).filter(lambda octets: b"\0" not in octets))
    def test_round_trip(self, octets: bytes) -> None:
        """What is rendered as a string or astring is read back the same."""
        for render in (replies.string, replies.astring):
            cursor = Cursor(render(octets))
            self.assertEqual(cursor.astring(), octets)
            cursor.end()

    def test_forms(self) -> None:
        """Quoted where possible, literals where not."""
        for octets, rendered in (
            (b"", b'""'),
            (b"a b", b'"a b"'),
            (b'a"\\', b'"a\\"\\\\"'),
            (b"a\r\nb", b"{4}\r\na\r\nb"),
            (b"\xc3\xa9", b"{2}\r\n\xc3\xa9"),
            (b"x" * 1001, b"{1001}\r\n" + b"x" * 1001),
            (b"a\0b", b"{3}\r\na\x80b"),
        ):
            self.assertEqual(replies.string(octets), rendered)
        self.assertEqual(replies.astring(b"abc"), b"abc")
        self.assertEqual(replies.astring(b"nil"), b'"nil"')
        self.assertEqual(replies.mailbox("Entwürfe"), b'"Entw&APw-rfe"')


class StatusTests(unittest.TestCase):
    def test_status(self) -> None:
        """Tagged and untagged conditions, with and without a code."""
        self.assertEqual(replies.ok(b"a1", "Done"), b"a1 OK Done\r\n")
        self.assertEqual(
            replies.status(b"a1", b"NO", "Gone", b"NONEXISTENT"),
            b"a1 NO [NONEXISTENT] Gone\r\n",
        )
        self.assertEqual(replies.status(b"*", b"BAD", "What"), b"* BAD What\r\n")
        self.assertEqual(replies.bye("So long"), b"* BYE So long\r\n")

    def test_h42_texts_are_one_line(self) -> None:
        """Whatever is in a text, it is one line of printable ASCII."""
        line = replies.status(b"a", b"NO", "x\r\na OK \0é\x1b[1m")
        self.assertEqual(line, b"a NO x?a OK ???[1m\r\n")
        self.assertEqual(replies.ok(b"a", ""), b"a OK ?\r\n")

    def test_refusal(self) -> None:
        """A refused command is answered as its event says."""
        self.assertEqual(
            replies.refusal(BadCommand(b"a", "Unknown charset", b"NO", b"BADCHARSET")),
            b"a NO [BADCHARSET] Unknown charset\r\n",
        )
        self.assertEqual(replies.refusal(BadCommand(b"*", "What")), b"* BAD What\r\n")

    def test_challenge(self) -> None:
        """A challenge is base64; an empty one keeps the space (RFC 3501
        6.2.2)."""
        self.assertEqual(replies.challenge(b""), b"+ \r\n")
        self.assertEqual(replies.challenge(b"User Name"), b"+ VXNlciBOYW1l\r\n")

    def test_codes(self) -> None:
        """Response codes of RFC 3501 and RFC 4315; COPYUID's sets correspond
        item by item."""
        self.assertEqual(
            replies.permanentflags_code(["\\Deleted", "$Junk"], True),
            b"PERMANENTFLAGS (\\Deleted $Junk \\*)",
        )
        self.assertEqual(replies.permanentflags_code([], False), b"PERMANENTFLAGS ()")
        self.assertEqual(replies.appenduid_code(38505, [3955]), b"APPENDUID 38505 3955")
        self.assertEqual(
            replies.copyuid_code(38505, [(304, 3956), (319, 3958), (320, 3957)]),
            b"COPYUID 38505 304,319:320 3956,3958,3957",
        )
        self.assertEqual(
            replies.capability_code(["IMAP4rev1", "IDLE"]), b"CAPABILITY IMAP4rev1 IDLE"
        )


class UntaggedTests(unittest.TestCase):
    def test_lines(self) -> None:
        """Each untagged response as RFC 3501 7 and its extension have it."""
        for line, expected in (
            (replies.capability(["IMAP4rev1"]), b"* CAPABILITY IMAP4rev1\r\n"),
            (replies.enabled(["CONDSTORE"]), b"* ENABLED CONDSTORE\r\n"),
            (replies.enabled([]), b"* ENABLED\r\n"),
            (replies.exists(23), b"* 23 EXISTS\r\n"),
            (replies.recent(5), b"* 5 RECENT\r\n"),
            (replies.expunge(44), b"* 44 EXPUNGE\r\n"),
            (replies.flags(["\\Seen", "a"]), b"* FLAGS (\\Seen a)\r\n"),
            (
                replies.mailbox_list(b"LIST", ["\\Noselect", "\\Sent"], "/", "a b"),
                b'* LIST (\\Noselect \\Sent) "/" "a b"\r\n',
            ),
            (replies.mailbox_list(b"LSUB", [], "", "é"), b'* LSUB () NIL "&AOk-"\r\n'),
            (
                replies.mailbox_status("x", {"MESSAGES": 231, "UIDNEXT": 44292}),
                b'* STATUS "x" (MESSAGES 231 UIDNEXT 44292)\r\n',
            ),
            (b"".join(replies.search([2, 3, 6])), b"* SEARCH 2 3 6\r\n"),
            (b"".join(replies.search([])), b"* SEARCH\r\n"),
            (replies.namespace("/"), b'* NAMESPACE (("" "/")) NIL NIL\r\n'),
            (replies.server_id({"name": "x"}), b'* ID ("name" "x")\r\n'),
            (replies.server_id(None), b"* ID NIL\r\n"),
        ):
            self.assertEqual(line, expected)


class SearchTests(unittest.TestCase):
    def test_pieces(self) -> None:
        """A long line comes in pieces, and is the same line."""
        for count in (9_999, 10_000, 10_001, 20_000, 20_001):
            numbers = range(1, count + 1)
            pieces = list(replies.search(numbers))
            self.assertEqual(len(pieces), -(-count // 10_000))
            line = "* SEARCH " + " ".join(map(str, numbers)) + "\r\n"
            self.assertEqual(b"".join(pieces).decode(), line)


class FetchTests(unittest.TestCase):
    def test_fetch(self) -> None:
        """A response is its items joined; content is a literal."""
        self.assertEqual(
            replies.fetch(
                12,
                [
                    replies.uid_item(7),
                    replies.flags_item(frozenset({"b", "\\Seen", "\\Recent", "a"})),
                    replies.size_item(44827),
                    replies.internaldate_item(837596665.0),
                    replies.item(b"BODY[]<0>", b"ab\r\n"),
                    replies.item(b"BODY[9]", None),
                ],
            ),
            b"* 12 FETCH (UID 7 FLAGS (\\Seen \\Recent a b) RFC822.SIZE 44827"
            b' INTERNALDATE "17-Jul-1996 09:44:25 +0000"'
            b" BODY[]<0> {4}\r\nab\r\n BODY[9] NIL)\r\n",
        )

    def test_streamed(self) -> None:
        """A response whose content is streamed has the same octets."""
        whole = replies.fetch(3, [replies.uid_item(5), replies.item(b"BODY[]", b"abc")])
        parts = (
            replies.fetch_start(3),
            replies.uid_item(5),
            b" ",
            replies.literal_start(b"BODY[]", 3),
            b"abc",
            replies.FETCH_END,
        )
        self.assertEqual(b"".join(parts), whole)

    @settings(max_examples=100, deadline=None)
    @given(st.integers(-62_000_000_000, 253_000_000_000))
    def test_dates_are_read_back(self, received_at: int) -> None:
        """INTERNALDATE is what APPEND would take for the same instant."""
        item = replies.internaldate_item(float(received_at))
        cursor = Cursor(item, len(b"INTERNALDATE "))
        self.assertEqual(cursor.date_time(), received_at)
        cursor.end()
