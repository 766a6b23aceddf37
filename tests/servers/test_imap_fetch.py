"""FETCH: every item, every section, partials, streaming, memory."""

import email
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from tests.servers.imapdrive import PLAIN, Server, now
from twisted_mta import errors
from twisted_mta.errors import LedgerFull
from twisted_mta.mail import mime
from twisted_mta.mail.summary import summarize
from twisted_mta.servers.imap import fetch
from twisted_mta.store import memory, memory_box
from twisted_mta.testing.transcript import Conversation

PREFIX = b"Return-Path: <bob@example.test>\r\nReceived: by mx; now\r\n"

NESTED = (
    b"From: a@example.test\r\n"
    b"Subject: outer\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="out"\r\n'
    b"\r\n"
    b"preamble\r\n"
    b"--out\r\n"
    b"Content-Type: text/plain\r\n"
    b"\r\n"
    b"part one\r\n"
    b"--out\r\n"
    b"Content-Type: message/rfc822\r\n"
    b"\r\n"
    b"Subject: inner\r\n"
    b"X-Inner: yes\r\n"
    b'Content-Type: multipart/alternative; boundary="in"\r\n'
    b"\r\n"
    b"--in\r\n"
    b"Content-Type: text/plain\r\n"
    b"\r\n"
    b"inner plain\r\n"
    b"--in\r\n"
    b"Content-Type: text/html\r\n"
    b"\r\n"
    b"<p>inner html</p>\r\n"
    b"--in--\r\n"
    b"--out--\r\n"
)


def literal(octets: bytes) -> bytes:
    return b"{%d}\r\n%b" % (len(octets), octets)


class Fetching(TestCase):
    """What the tests share."""

    def fetched(self, client, items: str, numbers: str = "1", uid: bool = False):
        """What comes back for some items."""
        command = "UID FETCH" if uid else "FETCH"
        client.send(f"f {command} {numbers} {items}\r\n".encode())
        answer = client.received()
        self.assertRegex(answer, rb"(?s)^.*f OK Fetch completed\r\n$")
        return answer.removesuffix(b"f OK Fetch completed\r\n")


class ItemTests(Fetching):
    """Items that are no content."""

    def test_items(self) -> None:
        """Each item, in the client's order."""
        server = Server()
        server.put(NESTED, flags=["\\Seen"])
        client = server.select("INBOX", "EXAMINE")
        header = NESTED[: NESTED.index(b"\r\n\r\n") + 4]
        summary = summarize(b"", header, mime.scan(NESTED))
        for items, expected in (
            ("UID", b"UID 1"),
            ("FLAGS", b"FLAGS (\\Seen \\Recent)"),
            ("RFC822.SIZE", b"RFC822.SIZE %d" % len(NESTED)),
            ("INTERNALDATE", b'INTERNALDATE "02-Jan-2024 03:04:05 +0000"'),
            ("ENVELOPE", b"ENVELOPE " + summary.envelope),
            ("BODY", b"BODY " + summary.body),
            ("BODYSTRUCTURE", b"BODYSTRUCTURE " + summary.bodystructure),
            ("(UID FLAGS UID)", b"UID 1 FLAGS (\\Seen \\Recent)"),
            (
                "FAST",
                b'FLAGS (\\Seen \\Recent) INTERNALDATE "02-Jan-2024 03:04:05 '
                b'+0000" RFC822.SIZE %d' % len(NESTED),
            ),
        ):
            expected = b"* 1 FETCH (" + expected + b")\r\n"
            self.assertEqual(self.fetched(client, items), expected)
        for items, begins in (("ALL", b"ENVELOPE ("), ("FULL", b"BODY (")):
            self.assertIn(begins, self.fetched(client, items))

    def test_by_uid(self) -> None:
        """The UID form always tells the UID; UIDs that are not there are
        passed over."""
        server = Server()
        server.put(PLAIN, PLAIN)
        client = server.select()
        self.assertEqual(
            self.fetched(client, "RFC822.SIZE", "2:9", True),
            b"* 2 FETCH (UID 2 RFC822.SIZE %d)\r\n" % len(PLAIN),
        )
        self.assertEqual(self.fetched(client, "FLAGS", "7:8", True), b"")

    def test_h20_hostile_sets(self) -> None:
        """Sets that name everything ten thousand times are one range; 0 and
        numbers without message are BAD, * in an empty mailbox too."""
        server = Server()
        client = server.select()
        client.run("C: a FETCH *:* FLAGS\nS: a BAD No such message")
        self.assertEqual(self.fetched(client, "FLAGS", "1:*", True), b"")
        server.put(PLAIN, PLAIN, PLAIN)
        client.run("C: a NOOP\nS*")
        every = ",".join(["1:4294967295"] * 4_000 + ["*:1", "*"])
        self.assertEqual(self.fetched(client, "UID", every, True).count(b"* "), 3)
        every = ",".join(["1:*", "*:*", "3:1"] * 4_000)
        self.assertEqual(self.fetched(client, "UID", every).count(b"* "), 3)
        for numbers in ("0", "1:0", "4", "2:4", "4294967296", "1:99999999999"):
            client.run(f"C: a FETCH {numbers} UID\nS~ a BAD .*")

    def test_h19_parentheses(self) -> None:
        """A flood of parentheses is BAD."""
        server = Server()
        server.put(PLAIN)
        client = server.select()
        client.send(b"a FETCH 1 " + b"(" * 60_000 + b"\r\n")
        self.assertRegex(client.received(), rb"^a BAD .*\r\n$")
        client.send(b"a SEARCH " + b"(" * 60_000 + b"\r\n")
        self.assertRegex(client.received(), rb"^a (BAD|NO) .*\r\n$")


class SectionTests(Fetching):
    """BODY[...] and its relatives."""

    def sections(self) -> dict[str, bytes | None]:
        """What each section of NESTED is."""
        inner = NESTED[NESTED.index(b"Subject: inner") : NESTED.index(b"\r\n--out--")]
        head = PREFIX + NESTED[: NESTED.index(b"preamble")]
        inner_head = inner[: inner.index(b"--in")]
        return {
            "": PREFIX + NESTED,
            "HEADER": head,
            "TEXT": NESTED[NESTED.index(b"preamble") :],
            "HEADER.FIELDS (SUBJECT received)": b"Received: by mx; now\r\n"
            b"Subject: outer\r\n\r\n",
            "HEADER.FIELDS.NOT (Subject From Received "
            "MIME-Version Content-Type)": PREFIX[:33] + b"\r\n",
            "HEADER.FIELDS (X-None)": b"\r\n",
            "1": b"part one",
            "1.MIME": b"Content-Type: text/plain\r\n\r\n",
            "2": inner,
            "2.MIME": b"Content-Type: message/rfc822\r\n\r\n",
            "2.HEADER": inner_head,
            "2.HEADER.FIELDS (subject)": b"Subject: inner\r\n\r\n",
            "2.TEXT": inner[len(inner_head) :],
            "2.1": b"inner plain",
            "2.2": b"<p>inner html</p>",
            "2.2.MIME": b"Content-Type: text/html\r\n\r\n",
            "3": None,
            "1.1": None,
            "2.3": None,
            "1.HEADER": None,
            "2.1.TEXT": None,
        }

    def check_sections(self, pad: bytes = b"") -> None:
        server = Server()
        server.put(NESTED, prefix=PREFIX)
        client = server.select()
        for section, expected in self.sections().items():
            found = self.fetched(client, f"BODY.PEEK[{section}]")
            label, _, value = found.removeprefix(b"* 1 FETCH (").partition(b"] ")
            self.assertEqual(label.lower(), f"body[{section}".lower().encode())
            wanted = b"NIL" if expected is None else literal(expected)
            self.assertEqual(value, wanted + b")\r\n", section)

    def test_sections(self) -> None:
        """Every section of a nested message, the prefix counted in."""
        self.check_sections()

    def test_sections_of_stored_content(self) -> None:
        """The same of a message whose octets the store keeps elsewhere, in one
        piece and streamed in runs."""
        self.patch(memory_box, "INLINE_OCTETS", 0)
        self.check_sections()
        self.patch(fetch, "RUN_OCTETS", 7)
        self.check_sections()

    def test_rfc822(self) -> None:
        """RFC822 and its relatives; which of them set \\Seen."""
        server = Server()
        server.put(PLAIN, PLAIN, PLAIN)
        server.select().lose()
        client = server.select()
        header, _, text = PLAIN.partition(b"\r\n\r\n")
        header += b"\r\n\r\n"
        for number, item, octets, seen in (
            (1, "RFC822", PLAIN, True),
            (2, "RFC822.HEADER", header, False),
            (3, "RFC822.TEXT", text, True),
        ):
            self.assertEqual(
                self.fetched(client, item, str(number)),
                b"* %d FETCH (%b %b%b)\r\n"
                % (
                    number,
                    item.encode(),
                    literal(octets),
                    b" FLAGS (\\Seen)" if seen else b"",
                ),
            )

    def test_seen(self) -> None:
        """Reading without PEEK sets \\Seen and tells so, once; PEEK does not;
        FLAGS asked along with it are those after."""
        server = Server()
        server.put(PLAIN, PLAIN)
        server.select().lose()
        client, other = server.select(), server.select()
        peeked = self.fetched(client, "BODY.PEEK[TEXT]")
        self.assertNotIn(b"FLAGS", peeked)
        read = self.fetched(client, "BODY[TEXT]")
        self.assertEqual(
            read, b"* 1 FETCH (BODY[TEXT] {10}\r\nAt noon?\r\n FLAGS (\\Seen))\r\n"
        )
        self.assertNotIn(b"FLAGS", self.fetched(client, "BODY[TEXT]"))
        read = self.fetched(client, "(FLAGS BODY[TEXT])", "2")
        self.assertTrue(read.startswith(b"* 2 FETCH (FLAGS (\\Seen) BODY[TEXT] "))
        self.assertEqual(read.count(b"FLAGS"), 1)
        other.run(
            r"""
            C: a NOOP
            S: * 1 FETCH (FLAGS (\Seen))
            S: * 2 FETCH (FLAGS (\Seen))
            S: a OK Noop completed
            """
        )

    def test_seen_that_cannot_be_kept(self) -> None:
        """On a disk that is full mail is read all the same; that it was read is
        not remembered, and not claimed."""
        server = Server()
        server.put(PLAIN)
        client = server.select()

        async def full(*_: object) -> None:
            raise LedgerFull()

        self.patch(type(now(server.account().open("INBOX"))), "store", full)
        client.send(b"a FETCH 1 BODY[TEXT]\r\n")
        answer = client.received()
        self.assertIn(b"At noon?", answer)
        self.assertTrue(answer.endswith(b"a OK Fetch completed\r\n"))
        self.assertNotIn(b"Seen", answer)

    def test_partials(self) -> None:
        """C{<offset.most>} is cut, its label has the offset; behind the end it
        is empty."""
        server = Server()
        server.put(PLAIN)
        client = server.select()
        for offset, most in ((0, 5), (3, 4), (5, 999_999), (999_999, 5), (0, 1)):
            self.assertEqual(
                self.fetched(client, f"BODY.PEEK[]<{offset}.{most}>"),
                b"* 1 FETCH (BODY[]<%d> %b)\r\n"
                % (offset, literal(PLAIN[offset : offset + most])),
            )
        found = self.fetched(client, "BODY.PEEK[HEADER.FIELDS (To)]<4.5>")
        self.assertIn(literal(b"alice"), found)

    def test_nul(self) -> None:
        """NUL cannot be said in IMAP: it becomes 0x80, the length stays."""
        server = Server()
        server.put(b"Subject: x\r\n\r\na\0b\r\n")
        found = self.fetched(server.select(), "BODY.PEEK[TEXT]")
        self.assertIn(literal(b"a\x80b\r\n"), found)

    @settings(max_examples=40, deadline=None)
    @given(
        st.sampled_from([0, 1 << 20]),
        st.integers(0, len(PREFIX + NESTED) + 10),
        st.integers(1, len(PREFIX + NESTED) + 10),
    )
    def test_any_partial(self, inline: int, offset: int, most: int) -> None:
        """Any cut of a message, in memory or not, prefix and content as one."""
        saved, memory_box.INLINE_OCTETS = memory_box.INLINE_OCTETS, inline
        try:
            server = Server()
            server.put(NESTED, prefix=PREFIX)
            found = self.fetched(server.select(), f"BODY.PEEK[]<{offset}.{most}>")
        finally:
            memory_box.INLINE_OCTETS = saved
        wanted = (PREFIX + NESTED)[offset : offset + most]
        self.assertEqual(
            found, b"* 1 FETCH (BODY[]<%d> %b)\r\n" % (offset, literal(wanted))
        )


class LargeTests(Fetching):
    """Many messages, large messages, clients that do not read."""

    def test_many_messages(self) -> None:
        """More than one group: every message once, in order, with content and
        without."""
        server = Server()
        server.put(*[PLAIN] * 450)
        client = server.select()
        for items in ("UID", "(UID ENVELOPE)", "(UID BODY.PEEK[TEXT])", "(UID BODY[])"):
            answer = self.fetched(client, items, "1:*")
            found = re.findall(rb"\* (\d+) FETCH \(UID (\d+)", answer)
            self.assertEqual(found, [(b"%d" % n, b"%d" % n) for n in range(1, 451)])

    def test_a_large_message_among_others(self) -> None:
        """Messages around one that is streamed keep their own numbers and UIDs,
        whichever of a group it is."""
        large = b"Subject: large\r\n\r\n" + b"0123456789abcde\n" * 6_000
        small = [b"Subject: %d\r\n\r\n" % number for number in range(4)]
        for place in range(5):
            octets = [*small[:place], large, *small[place:]]
            server = Server()
            server.put(*octets)
            answer = self.fetched(server.select(), "(UID BODY.PEEK[])", "1:5")
            expected = b"".join(
                b"* %d FETCH (UID %d BODY[] %b)\r\n" % (n, n, literal(each))
                for n, each in enumerate(octets, 1)
            )
            self.assertEqual(answer, expected)

    def test_a_large_message(self) -> None:
        """A message of megabytes comes whole, between others."""
        large = b"Subject: large\r\n\r\n" + b"0123456789abcde\n" * 200_000
        server = Server()
        server.put(PLAIN, large, PLAIN)
        client = server.select()
        answer = self.fetched(client, "(UID BODY.PEEK[] FLAGS)", "1:3")
        flags = rb" FLAGS (\Recent))"
        self.assertEqual(
            answer,
            b"".join(
                b"* %d FETCH (UID %d BODY[] %b%b\r\n" % (n, n, literal(octets), flags)
                for n, octets in ((1, PLAIN), (2, large), (3, PLAIN))
            ),
        )

    def test_h37_a_client_that_does_not_read(self) -> None:
        """What waits to be sent stays bounded; the client is cut off after the
        idle time; one that reads again gets the rest."""
        large = b"Subject: large\r\n\r\n" + b"0123456789abcde\n" * 300_000
        server = Server()
        server.put(large, *[PLAIN * 100] * 300)
        for numbers in ("1", "2:*"):
            client = self.stuck(server)
            client.send(f"a FETCH {numbers} BODY.PEEK[]\r\n".encode())
            held = len(client.wire.value())
            self.assertLess(held, 1024 * 1024)
            client.wire.producer.resumeProducing()
            client.settle()
            self.assertGreater(len(client.wire.value()), held)
        client = self.stuck(server)
        client.send(b"a FETCH 1 BODY.PEEK[]\r\n")
        client.advance(1801)
        self.assertTrue(client.closed)
        self.assertEqual(server.account().find("INBOX").watchers, [])

    def stuck(self, server: Server) -> Conversation:
        """A client whose side of the connection is full from the start."""
        client = server.select()
        register = client.wire.registerProducer

        def stopped(producer, streaming) -> None:
            register(producer, streaming)
            producer.pauseProducing()

        client.wire.registerProducer = stopped
        return client

    def test_content_that_breaks_off(self) -> None:
        """A message that cannot be read to its end cuts the connection: no
        words are mistaken for its octets. Nothing else is harmed."""
        large = b"Subject: large\r\n\r\n" + b"0123456789abcde\n" * 20_000
        server = Server()
        server.put(large)
        client = server.select()

        async def unreadable(content, offset: int, most: int) -> bytes:
            if offset < 100_000:
                return large[offset : offset + most]
            raise errors.LedgerUnavailable()

        self.patch(memory.MemoryContent, "read", unreadable)
        client.send(b"a FETCH 1 BODY.PEEK[]\r\n")
        answer = client.received()
        self.assertTrue(client.closed)
        self.assertNotIn(b"a NO", answer)
        self.assertNotIn(b"BYE", answer)
        self.assertTrue(large.startswith(answer.partition(b"}\r\n")[2]))

    def test_a_message_that_is_gone_before_it_is_sent(self) -> None:
        """A large message that went after its row was read is NO, or passed
        over by UID, and nothing of it is sent."""
        large = b"Subject: large\r\n\r\n" + b"0123456789abcde\n" * 20_000
        server = Server()
        server.put(large)
        client = server.select()

        async def gone(mailbox, uid: int) -> None:
            raise errors.NoSuchMessage()

        self.patch(memory.MemoryMailbox, "content", gone)
        client.run(
            """
            C: a FETCH 1 BODY.PEEK[]
            S: a NO [EXPUNGEISSUED] Some of the messages no longer exist
            C: b UID FETCH 1 (FLAGS BODY.PEEK[])
            S: b OK Fetch completed
            """
        )

    def test_others_have_their_turn(self) -> None:
        """While one session fetches thousands, another is answered."""
        server = Server()
        server.put(*[PLAIN] * 2000)
        busy, other = server.select(), server.select()
        busy.received()
        busy.stream.dataReceived(b"a FETCH 1:* (UID ENVELOPE)\r\n")
        other.stream.dataReceived(b"b NOOP\r\n")
        self.assertTrue(other.wire.value().endswith(b"b OK Noop completed\r\n"))
        self.assertNotIn(b"a OK", busy.wire.value())
        busy.settle()
        self.assertIn(b"a OK Fetch completed", busy.wire.value())

    def test_others_expunge_meanwhile(self) -> None:
        """Of a FETCH under way, messages of later groups that another session
        expunges are missing and the answer is NO; so it is if all was fetched
        before and is remembered."""
        for before in ("", "1:*"):
            server = Server()
            server.put(*[PLAIN] * 1200)
            busy, other = server.select(), server.select()
            if before:
                self.fetched(busy, "(UID ENVELOPE)", before)
            busy.received()
            busy.stream.dataReceived(b"a FETCH 1:* (UID ENVELOPE)\r\n")
            other.send(b"b STORE 1100:1110 +FLAGS.SILENT (\\Deleted)\r\nc EXPUNGE\r\n")
            self.assertIn(b"c OK", other.received())
            busy.settle()
            answer = busy.received()
            found = [int(n) for n in re.findall(rb"FETCH \(UID (\d+)", answer)]
            gone = range(1100, 1111)
            expected = [n for n in range(1, 1201) if n not in gone]
            self.assertEqual(found, expected)
            self.assertIn(b"a NO [EXPUNGEISSUED]", answer)
            self.assertNotIn(b" EXPUNGE\r\n", answer)  # numbers stay (7.4.1)

    def test_others_append_and_flag_meanwhile(self) -> None:
        """What comes during a FETCH is told behind it; flags are told as they
        have become."""
        server = Server()
        server.put(*[PLAIN] * 1200)
        busy, other = server.select(), server.select()
        busy.received()
        busy.stream.dataReceived(b"a FETCH 1:* (UID FLAGS ENVELOPE)\r\n")
        server.put(PLAIN)
        other.send(b"b STORE 1100 +FLAGS.SILENT (\\Flagged)\r\n")
        busy.settle()
        answer = busy.received()
        self.assertEqual(len(re.findall(rb"FETCH \(UID \d+", answer)), 1200)
        self.assertIn(b"* 1100 FETCH (UID 1100 FLAGS (\\Flagged", answer)
        self.assertEqual(answer.count(b"* 1201 EXISTS"), 1)
        self.assertGreater(answer.find(b"* 1201 EXISTS"), answer.find(b"* 1200 FETCH"))

    def test_remembered(self) -> None:
        """What never changes is brought from the store once, and reads the same
        the second time; flags are those of now; content is brought each time."""
        server = Server()
        server.put(*[PLAIN] * 3)
        client = server.select()
        asked = []
        fetch_rows = memory.MemoryMailbox.fetch

        def counting(mailbox, uids, parts):
            asked.append(list(uids))
            return fetch_rows(mailbox, uids, parts)

        self.patch(memory.MemoryMailbox, "fetch", counting)
        once = (
            "(UID ENVELOPE FLAGS INTERNALDATE)",
            "BODYSTRUCTURE",
            "BODY.PEEK[HEADER.FIELDS (Subject)]",
        )
        for items in once:
            first = self.fetched(client, items, "1:3")
            self.assertEqual(self.fetched(client, items, "1:3"), first)
        self.assertEqual(asked, [[1, 2, 3]] * len(once))
        client.send(b"s STORE 2 +FLAGS.SILENT (\\Seen)\r\n")
        client.received()
        self.assertIn(rb"FLAGS (\Seen \Recent)", self.fetched(client, once[0], "2"))
        self.assertEqual(len(asked), len(once))
        for items in ("BODY.PEEK[]", "BODY.PEEK[HEADER]<0.5>"):
            asked.clear()
            first = self.fetched(client, items, "1:3")
            self.assertEqual(self.fetched(client, items, "1:3"), first)
            self.assertEqual(asked, [[1, 2, 3]] * 2)

    def test_stdlib_reads_what_we_send(self) -> None:
        """A message goes through APPEND and FETCH to the octet."""
        server = Server()
        client = server.select()
        client.send(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(NESTED), NESTED))
        client.received()
        answer = self.fetched(client, "BODY[]")
        octets = answer.partition(b"}\r\n")[2][: len(NESTED)]
        parsed = email.message_from_bytes(octets)
        self.assertEqual(parsed["Subject"], "outer")
        self.assertEqual(octets, NESTED)
        self.assertEqual(now(server.account().status("INBOX")).messages, 1)
