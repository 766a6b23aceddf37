"""IMAP commands that change messages, with one session and with two."""

from twisted.trial.unittest import TestCase

from tests.servers.imapdrive import PLAIN, Server, now
from twisted_mta import errors
from twisted_mta.mail.placement import Part
from twisted_mta.servers.imap import expunge, view
from twisted_mta.servers.imap.session import ImapSettings
from twisted_mta.store import memory
from twisted_mta.store.memory import MemoryStore
from twisted_mta.testing.store_contract import message

SIZE = len(PLAIN)


class PromptTests(TestCase):
    def test_literal_without_its_line_end(self) -> None:
        """A client that sends the end of the line in a packet of its own is
        told at once that the literal is here."""
        client = Server().login()
        client.run("C: a APPEND INBOX {5}\nS: + OK")
        told: list[bytes] = []
        self.patch(client.stream, "acknowledge", lambda: told.append(b"now"))
        client.send(b"a: b\n")
        self.assertEqual(told, [b"now"])
        client.send(b"\r\n")
        self.assertIn(b"a OK", client.received())


class AppendTests(TestCase):
    """RFC 3501 6.3.11, RFC 4315, RFC 7888."""

    def test_append(self) -> None:
        """The message is there as it was sent, with flags and date; the UID is
        told, and who has the mailbox selected is told of it."""
        server = Server()
        client = server.select()
        client.run(
            rf"""
            C: a APPEND INBOX (\Seen $Label) "17-Jul-1996 02:44:25 -0700" {{{SIZE}}}
            S: + OK
            """
        )
        client.send(PLAIN + b"\r\n")
        self.assertEqual(
            client.received(),
            b"* 1 EXISTS\r\n* 1 RECENT\r\n"
            b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $label)\r\n"
            b"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft "
            b"$label \\*)] Flags permitted\r\n"
            b"a OK [APPENDUID 1001 1] Append completed\r\n",
        )
        client.run(
            r"""
            C: b FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE)
            S~ \* 1 FETCH \(FLAGS \(\\Seen \\Recent \$label\) INTERNALDATE "17-Jul-1996 09:44:25 \+0000" RFC822\.SIZE \d+\)
            S: b OK Fetch completed
            """  # noqa: E501
        )
        mailbox = now(server.account().open("INBOX"))
        self.assertEqual(now(message(mailbox, 1, Part.OCTETS)).octets, PLAIN)

    def test_append_without_waiting(self) -> None:
        """LITERAL+: message and next command arrive together, cut anywhere."""
        octets = b"a APPEND INBOX {%d+}\r\n%b\r\nb NOOP\r\n" % (SIZE, PLAIN)
        for piece in (None, 1, 2, 3, 50):
            server = Server()
            client = server.login()
            client.send(octets, piece)
            self.assertEqual(
                client.received(),
                b"a OK [APPENDUID 1001 1] Append completed\r\nb OK Noop completed\r\n",
            )
            mailbox = now(server.account().open("INBOX"))
            self.assertEqual(now(message(mailbox, 1, Part.OCTETS)).octets, PLAIN)

    def test_append_now(self) -> None:
        """Without a date it is now; without flags there are none."""
        server = Server()
        client = server.select()
        server.clock.advance(60)
        client.send(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (SIZE, PLAIN))
        client.received()
        client.run(
            r"""
            C: b FETCH 1 (FLAGS INTERNALDATE)
            S: * 1 FETCH (FLAGS (\Recent) INTERNALDATE "02-Jan-2024 03:05:05 +0000")
            S: b OK Fetch completed
            """
        )

    def test_h18_append_refused(self) -> None:
        """Too large, to nowhere, empty: refused before the message is read,
        whether or not the client waits; the next command is understood."""
        settings = ImapSettings("mx.example.test", True, append_octets=100)
        client = Server(settings=settings).login()
        for plus in ("", "+"):
            said = "x" * 101 if plus else ""
            client.send(f"a APPEND INBOX {{101{plus}}}\r\n".encode())
            if plus:
                client.send(said.encode() + b"\r\n")
            self.assertEqual(
                client.received(), b"a NO [TOOBIG] The message is too large\r\n"
            )
            client.send(f"b APPEND Nowhere {{3{plus}}}\r\n".encode())
            if plus:
                client.send(b"abc\r\n")
            self.assertEqual(client.received(), b"b NO [TRYCREATE] No such mailbox\r\n")
            client.run("C: c NOOP\nS: c OK Noop completed")
        client.send(b"d APPEND INBOX {0}\r\n")
        self.assertEqual(
            client.received(), b"d NO An empty message cannot be stored\r\n"
        )
        client.send(b"e APPEND INBOX {99999999999}\r\n")
        self.assertRegex(client.received(), rb"e (NO|BAD) .*\r\n")
        client.run("C: f NOOP\nS: f OK Noop completed")

    def test_h17_a_huge_message_that_does_not_wait(self) -> None:
        """Gigabytes that were not asked for end the connection."""
        settings = ImapSettings("mx.example.test", True, append_octets=100)
        client = Server(settings=settings).login()
        client.send(b"a APPEND INBOX {2147483648+}\r\n")
        self.assertRegex(client.received(), rb"a NO \[TOOBIG\] .*\r\n\* BYE .*\r\n")
        self.assertTrue(client.closed)

    def test_append_over_quota(self) -> None:
        """NO [OVERQUOTA], and nothing is stored."""
        server = Server(store=MemoryStore(quota_octets=10))
        client = server.login()
        client.send(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (SIZE, PLAIN))
        self.assertEqual(client.received(), b"a NO [OVERQUOTA] The mailbox is full\r\n")
        self.assertEqual(now(server.account().status("INBOX")).messages, 0)

    def test_append_that_breaks_off(self) -> None:
        """A message that did not come whole, or whose line does not end, is
        not stored."""
        server = Server()
        client = server.login()
        client.send(b"a APPEND INBOX {10}\r\n")
        client.send(b"12345")
        client.lose()
        client = server.login()
        client.send(b"a APPEND INBOX {5}\r\n12345 and more\r\nb NOOP\r\n")
        self.assertRegex(client.received(), rb"\+ OK\r\na BAD .*\r\nb OK .*\r\n")
        self.assertEqual(now(server.account().status("INBOX")).messages, 0)

    def test_append_when_space_runs_out(self) -> None:
        """A store that is full in the middle is NO; the rest of the message is
        read and the session goes on."""
        server = Server()
        client = server.login()

        def full(writer: object, octets: bytes) -> None:
            raise errors.LedgerFull()

        self.patch(memory.MemoryWriter, "write", full)
        client.send(b"a APPEND INBOX {%d+}\r\n%b\r\nb NOOP\r\n" % (SIZE, PLAIN), 20)
        self.assertEqual(
            client.received(),
            b"a NO [UNAVAILABLE] Mail storage is full; please try again later\r\n"
            b"b OK Noop completed\r\n",
        )

    def test_append_when_space_is_short(self) -> None:
        """A message for which there is no room is refused before it is sent."""
        server = Server()
        client = server.login()
        asked = []

        def short(account: object, octets: int) -> None:
            asked.append(octets)
            raise errors.LedgerFull()

        self.patch(memory.MemoryAccount, "need", short)
        client.send(b"a APPEND INBOX {%d}\r\n" % SIZE)
        self.assertEqual(
            client.received(),
            b"a NO [UNAVAILABLE] Mail storage is full; please try again later\r\n",
        )
        self.assertEqual(asked, [SIZE])

    def test_append_in_time(self) -> None:
        """A client that stops in the middle of a message is sent away, and
        nothing is stored."""
        server = Server()
        client = server.login()
        client.send(b"a APPEND INBOX {10+}\r\n123")
        client.advance(1801)
        self.assertEqual(client.received(), b"* BYE Logged out for inactivity\r\n")
        self.assertEqual(now(server.account().status("INBOX")).messages, 0)


class StoreTests(TestCase):
    """RFC 3501 6.4.6."""

    def test_store(self) -> None:
        """All three forms, with and without parentheses, silent and not."""
        server = Server()
        server.put(PLAIN, PLAIN, PLAIN)
        server.select("INBOX").lose()  # takes \Recent away
        server.select().run(
            r"""
            C: a STORE 1:2 +FLAGS (\Seen \Flagged)
            S: * 1 FETCH (FLAGS (\Flagged \Seen))
            S: * 2 FETCH (FLAGS (\Flagged \Seen))
            S: a OK Store completed
            C: b STORE 2 -FLAGS \Seen
            S: * 2 FETCH (FLAGS (\Flagged))
            S: b OK Store completed
            C: c STORE 2 FLAGS ()
            S: * 2 FETCH (FLAGS ())
            S: c OK Store completed
            C: d STORE 2 FLAGS ()
            S: * 2 FETCH (FLAGS ())
            S: d OK Store completed
            C: e STORE 1:3 +FLAGS.SILENT (\Draft)
            S: e OK Store completed
            C: f UID STORE 3,99 -FLAGS (\Draft)
            S: * 3 FETCH (UID 3 FLAGS ())
            S: f OK Store completed
            C: g FETCH 1:* FLAGS
            S: * 1 FETCH (FLAGS (\Flagged \Seen \Draft))
            S: * 2 FETCH (FLAGS (\Draft))
            S: * 3 FETCH (FLAGS ())
            S: g OK Fetch completed
            C: h STORE 4 +FLAGS (\Seen)
            S: h BAD No such message
            C: i STORE 1 +FLAGS (\Recent)
            S~ i BAD .*
            C: j UID STORE 99 +FLAGS (\Seen)
            S: j OK Store completed
            """
        )

    def test_h24_keyword_flood(self) -> None:
        """Too many keywords, and one too long, are NO [LIMIT]."""
        server = Server()
        server.put(PLAIN)
        client = server.select()
        words = " ".join(f"word{number}" for number in range(200))
        client.run(
            f"""
            C: a STORE 1 +FLAGS ({words})
            S: a NO [LIMIT] There are too many keywords in this mailbox
            C: b STORE 1 +FLAGS ({"x" * 60_000})
            S~ b NO \\[LIMIT\\] .*
            C: c FETCH 1 FLAGS
            S: * 1 FETCH (FLAGS (\\Recent))
            S: c OK Fetch completed
            """
        )


class CopyTests(TestCase):
    """COPY, MOVE, EXPUNGE."""

    def test_copy(self) -> None:
        """COPYUID tells where the copies are; a target that is not there may
        be created."""
        server = Server()
        server.put(PLAIN, PLAIN, PLAIN, flags=["\\Seen"])
        now(server.account().create("Box"))
        server.select().run(
            r"""
            C: a COPY 1,3 Box
            S: a OK [COPYUID 1002 1,3 1:2] Copy completed
            C: b UID COPY 2:99 Box
            S: b OK [COPYUID 1002 2:3 3:4] Copy completed
            C: c UID COPY 98:99 Box
            S: c OK Copy completed
            C: d COPY 1 Nowhere
            S: d NO [TRYCREATE] No such mailbox
            C: e COPY 4 Box
            S: e BAD No such message
            C: f COPY 1 INBOX
            S: * 4 EXISTS
            S: * 4 RECENT
            S: f OK [COPYUID 1001 1 4] Copy completed
            C: g STATUS Box (MESSAGES UNSEEN)
            S: * STATUS "Box" (MESSAGES 4 UNSEEN 0)
            S: g OK Status completed
            """
        )

    def test_move(self) -> None:
        """COPYUID, then EXPUNGE, then OK (RFC 6851 4.3)."""
        server = Server()
        server.put(PLAIN, PLAIN, PLAIN, PLAIN)
        now(server.account().create("Box"))
        server.select().run(
            r"""
            C: a MOVE 1,3 Box
            S: * OK [COPYUID 1002 1,3 1:2] Moved
            S: * 3 EXPUNGE
            S: * 1 EXPUNGE
            S: a OK Move completed
            C: b UID MOVE 4 Box
            S: * OK [COPYUID 1002 4 3] Moved
            S: * 2 EXPUNGE
            S: b OK Move completed
            C: c UID MOVE 4 Box
            S: c OK Move completed
            C: d MOVE 1 Nowhere
            S: d NO [TRYCREATE] No such mailbox
            C: e FETCH 1 UID
            S: * 1 FETCH (UID 2)
            S: e OK Fetch completed
            """
        )

    def test_expunge(self) -> None:
        """EXPUNGE takes all that is marked, UID EXPUNGE what is named as well."""
        server = Server()
        server.put(PLAIN)
        server.put(PLAIN, PLAIN, PLAIN, flags=["\\Deleted"])
        server.put(PLAIN)
        server.select().run(
            """
            C: a UID EXPUNGE 1:2,4
            S: * 4 EXPUNGE
            S: * 2 EXPUNGE
            S: a OK Expunge completed
            C: b UID EXPUNGE *
            S: b OK Expunge completed
            C: c EXPUNGE
            S: * 2 EXPUNGE
            S: c OK Expunge completed
            C: d EXPUNGE
            S: d OK Expunge completed
            C: e FETCH 1:* UID
            S: * 1 FETCH (UID 1)
            S: * 2 FETCH (UID 5)
            S: e OK Fetch completed
            """
        )

    def test_expunge_what_is_marked_no_more(self) -> None:
        """While thousands are expunged, others have their turn; what they unmark
        meanwhile stays. So it is with CLOSE."""
        self.patch(expunge, "AT_ONCE", 2)
        for command in (b"EXPUNGE", b"CLOSE"):
            server = Server()
            server.put(*[PLAIN] * 5, flags=["\\Deleted"])
            busy, other = server.select(), server.select()
            busy.stream.dataReceived(b"a " + command + b"\r\n")
            other.stream.dataReceived(b"b UID STORE 4 -FLAGS (\\Deleted)\r\n")
            self.assertIn(b"b OK", other.wire.value())
            self.assertNotIn(b"a OK", busy.wire.value())
            busy.settle()
            self.assertIn(b"a OK", busy.wire.value())
            inbox = now(server.account().open("INBOX"))
            self.assertEqual([row.uid for row in now(inbox.changes()).rows], [4])


class TwoSessionTests(TestCase):
    """Two sessions on one mailbox (RFC 2180)."""

    def setUp(self) -> None:
        self.server = Server()
        self.server.put(PLAIN, PLAIN, PLAIN)
        self.server.select().lose()
        self.one, self.two = self.server.select(), self.server.select()

    def test_flags_are_seen_at_once(self) -> None:
        """Flags that one changes the other is told of at its next command."""
        self.one.run(r"C: a STORE 2 +FLAGS.SILENT (\Flagged)" + "\nS*")
        self.two.run(
            r"""
            C: a FETCH 1 UID
            S: * 2 FETCH (FLAGS (\Flagged))
            S: * 1 FETCH (UID 1)
            S: a OK Fetch completed
            C: b UID FETCH 2 FLAGS
            S: * 2 FETCH (UID 2 FLAGS (\Flagged))
            S: b OK Fetch completed
            """
        )
        self.one.run("C: b NOOP\nS: b OK Noop completed")

    def test_many_flags_are_told_by_turns(self) -> None:
        """A client that is told of thousands of flags is told of all, once, and
        others have their turn in between."""
        self.patch(view, "_FLAGS_TOLD", 2)
        self.one.run(r"C: a STORE 1:3 +FLAGS.SILENT (\Flagged)" + "\nS*")
        self.two.stream.dataReceived(b"a NOOP\r\n")
        self.assertEqual(self.two.wire.value().count(b" FETCH "), 2)
        self.one.run("C: b NOOP\nS: b OK Noop completed")
        self.two.settle()
        told = self.two.received()
        for number in (b"1", b"2", b"3"):
            self.assertEqual(told.count(b"* %b FETCH (FLAGS (\\Flagged))" % number), 1)
        self.assertTrue(told.endswith(b"a OK Noop completed\r\n"))

    def test_messages_are_seen_at_once(self) -> None:
        """A message that comes is told of at the next command, and is recent
        to one session only."""
        self.server.put(PLAIN)
        self.one.run("C: a NOOP\nS: * 4 EXISTS\nS: * 1 RECENT\nS: a OK Noop completed")
        self.two.run("C: a NOOP\nS: * 4 EXISTS\nS: * 0 RECENT\nS: a OK Noop completed")

    def test_expunge_is_not_told_while_numbers_are_in_use(self) -> None:
        """Not during FETCH, STORE and SEARCH (RFC 3501 7.4.1): the number
        stays, what is left of the message is told, and NO [EXPUNGEISSUED]."""
        self.one.run(r"C: a STORE 1 +FLAGS.SILENT (\Deleted)" + "\nS*")
        self.one.run("C: b EXPUNGE\nS: * 1 EXPUNGE\nS: b OK Expunge completed")
        self.two.run(
            r"""
            C: a FETCH 1:2 (UID FLAGS)
            S: * 1 FETCH (UID 1 FLAGS ())
            S: * 2 FETCH (UID 2 FLAGS ())
            S: a OK Fetch completed
            C: b FETCH 1:2 ENVELOPE
            S~ \* 2 FETCH \(ENVELOPE .*
            S: b NO [EXPUNGEISSUED] Some of the messages no longer exist
            C: c FETCH 1:3 BODY.PEEK[TEXT]
            S*
            """
        )
        self.two.run(
            r"""
            C: d STORE 1:2 +FLAGS (\Seen)
            S: * 2 FETCH (FLAGS (\Seen))
            S: d NO [EXPUNGEISSUED] Some of the messages no longer exist
            C: e SEARCH ALL
            S: * SEARCH 1 2 3
            S: e OK Search completed
            C: f COPY 1:2 INBOX
            S: * 1 EXPUNGE
            S: f NO [EXPUNGEISSUED] Some of the messages no longer exist
            C: g FETCH 1 UID
            S: * 1 FETCH (UID 2)
            S: g OK Fetch completed
            """
        )

    def test_expunge_is_told_to_uid_commands(self) -> None:
        """UID commands name no numbers, so EXPUNGE comes before their OK, and
        what is gone is passed over."""
        self.one.run("C: a MOVE 2 INBOX\nS*")
        self.two.run(
            """
            C: a UID FETCH 1:2 (INTERNALDATE)
            S: * 4 EXISTS
            S: * 0 RECENT
            S~ \\* 1 FETCH \\(UID 1 INTERNALDATE .*
            S: * 2 EXPUNGE
            S: a OK Fetch completed
            """
        )

    def test_each_command_may_race(self) -> None:
        """All messages go while the other session names them."""
        self.one.run("C: a STORE 1:3 +FLAGS.SILENT (\\Deleted)\nS*")
        self.one.run("C: b EXPUNGE\nS*")
        self.two.run(
            """
            C: a UID STORE 1:3 +FLAGS (\\Seen)
            S: * 3 EXPUNGE
            S: * 2 EXPUNGE
            S: * 1 EXPUNGE
            S: a OK Store completed
            C: b UID COPY 1:3 INBOX
            S: b OK Copy completed
            C: c EXPUNGE
            S: c OK Expunge completed
            """
        )

    def test_both_flag_the_same_message(self) -> None:
        """A silent STORE does not hide what another session changed."""
        self.one.run(r"C: a STORE 1 +FLAGS.SILENT (\Seen)" + "\nS*")
        self.two.run(
            r"""
            C: a STORE 1 +FLAGS.SILENT (\Flagged)
            S: * 1 FETCH (FLAGS (\Seen))
            S: a OK Store completed
            """
        )
        self.one.run(
            r"""
            C: b NOOP
            S: * 1 FETCH (FLAGS (\Flagged \Seen))
            S: b OK Noop completed
            """
        )
