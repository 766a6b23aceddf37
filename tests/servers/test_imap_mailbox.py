"""IMAP commands on mailboxes, as transcripts on the memory store."""

import tracemalloc

from twisted.trial.unittest import TestCase

from tests.servers.imapdrive import PLAIN, Server, now
from twisted_mta.servers.imap import client as imap_client
from twisted_mta.servers.imap.pattern import Pattern, joined
from twisted_mta.testing.store_contract import appended


class SelectTests(TestCase):
    """SELECT, EXAMINE, CLOSE, UNSELECT, CHECK."""

    def test_select(self) -> None:
        """All that RFC 3501 6.3.1 requires, and what is recent is so once."""
        server = Server()
        server.put(PLAIN, flags=["\\Seen", "$Junk"])
        server.put(PLAIN)
        first, second = server.login(), server.login()
        first.run(
            r"""
            C: a SELECT inbox
            S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Junk)
            S: * OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft $Junk \*)] Flags permitted
            S: * 2 EXISTS
            S: * 2 RECENT
            S: * OK [UNSEEN 2] First unseen
            S: * OK [UIDNEXT 3] Predicted next UID
            S: * OK [UIDVALIDITY 1001] UIDs are valid
            S: a OK [READ-WRITE] Select completed
            """  # noqa: E501
        )
        second.run(
            r"""
            C: a SELECT INBOX
            S~ .*
            S~ .*
            S: * 2 EXISTS
            S: * 0 RECENT
            S*
            """
        )

    def test_select_in_pieces(self) -> None:
        """While one opens a large mailbox, others have their turn; it ends up
        with all messages, those of the meantime told behind it."""
        self.patch(imap_client, "_AT_ONCE", 2)
        server = Server()
        server.put(*[PLAIN] * 5)
        busy, other = server.login(), server.select()
        busy.stream.dataReceived(b"a SELECT INBOX\r\n")
        other.stream.dataReceived(b"b UID STORE 4 +FLAGS (\\Deleted)\r\nc EXPUNGE\r\n")
        self.assertIn(b"c OK", other.wire.value())
        self.assertNotIn(b"EXISTS", busy.wire.value())
        busy.settle()
        self.assertIn(b"* 5 EXISTS\r\n", busy.received())
        busy.run(
            """
            C: d UID FETCH 1:* UID
            S: * 1 FETCH (UID 1)
            S: * 2 FETCH (UID 2)
            S: * 3 FETCH (UID 3)
            S: * 4 FETCH (UID 4)
            S: * 5 FETCH (UID 5)
            S: * 4 EXPUNGE
            S: d OK Fetch completed
            """
        )

    def test_examine(self) -> None:
        """EXAMINE changes nothing: not \\Recent, not \\Seen, no flag."""
        server = Server()
        server.put(PLAIN)
        for _ in range(2):
            client = server.login()
            client.run(
                r"""
                C: a EXAMINE INBOX
                S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft)
                S: * OK [PERMANENTFLAGS ()] No permanent flags
                S: * 1 EXISTS
                S: * 1 RECENT
                S: * OK [UNSEEN 1] First unseen
                S: * OK [UIDNEXT 2] Predicted next UID
                S: * OK [UIDVALIDITY 1001] UIDs are valid
                S: a OK [READ-ONLY] Examine completed
                C: b STORE 1 +FLAGS (\Deleted)
                S: b NO [READ-ONLY] The mailbox is read-only
                C: c EXPUNGE
                S: c NO [READ-ONLY] The mailbox is read-only
                C: d MOVE 1 INBOX
                S: d NO [READ-ONLY] The mailbox is read-only
                C: e FETCH 1 BODY[TEXT]
                S: * 1 FETCH (BODY[TEXT] {10}
                S: At noon?
                S: )
                S: e OK Fetch completed
                C: f FETCH 1 FLAGS
                S: * 1 FETCH (FLAGS (\Recent))
                S: f OK Fetch completed
                C: g CLOSE
                S: g OK Close completed
                """
            )

    def test_select_that_fails(self) -> None:
        """Nothing is selected after a SELECT that failed (RFC 3501 6.3.1)."""
        client = Server().select()
        client.run(
            """
            C: a SELECT Nowhere
            S: a NO [NONEXISTENT] No such mailbox
            C: b CHECK
            S: b BAD Not in this state
            """
        )

    def test_select_another(self) -> None:
        """The second SELECT leaves the first mailbox, without expunging."""
        server = Server()
        server.put(PLAIN, flags=["\\Deleted"])
        client = server.select()
        client.run("C: a CREATE Two\nS~ a OK .*\nC: b SELECT Two\nS*")
        server.put(PLAIN)
        client.run("C: c NOOP\nS: c OK Noop completed")
        self.assertEqual(now(server.account().status("INBOX")).messages, 2)

    def test_close_expunges_silently(self) -> None:
        """CLOSE removes what is marked; UNSELECT does not (RFC 3691)."""
        server = Server()
        server.put(PLAIN, PLAIN)
        server.put(PLAIN, flags=["\\Deleted"])
        server.select().run("C: a UNSELECT\nS: a OK Unselect completed")
        self.assertEqual(now(server.account().status("INBOX")).messages, 3)
        client = server.select()
        client.run(
            r"""
            C: a STORE 1 +FLAGS.SILENT (\Deleted)
            S: a OK Store completed
            C: b CHECK
            S: b OK Check completed
            C: c CLOSE
            S: c OK Close completed
            C: d CLOSE
            S: d BAD Not in this state
            """
        )
        self.assertEqual(now(server.account().status("INBOX")).messages, 1)


class NameTests(TestCase):
    """CREATE, DELETE, RENAME, SUBSCRIBE, STATUS."""

    def test_create_delete_rename(self) -> None:
        """As RFC 3501 6.3.3 to 6.3.5, with RFC 5530's codes."""
        Server().login().run(
            """
            C: a CREATE Work/Old/
            S: a OK Create completed
            C: b CREATE Work
            S: b NO [ALREADYEXISTS] That mailbox exists already
            C: c DELETE Work
            S: c NO [HASCHILDREN] That mailbox has inferior mailboxes
            C: d RENAME Work Play
            S: d OK Rename completed
            C: e LIST "" *
            S: * LIST (\\HasNoChildren) "/" "INBOX"
            S: * LIST (\\HasChildren) "/" "Play"
            S: * LIST (\\HasNoChildren) "/" "Play/Old"
            S: e OK List completed
            C: f DELETE Play/Old
            S: f OK Delete completed
            C: g DELETE Play/Old
            S: g NO [NONEXISTENT] No such mailbox
            C: h DELETE inbox
            S: h NO [CANNOT] INBOX cannot be deleted
            C: i RENAME Play INBOX
            S: i NO [ALREADYEXISTS] That mailbox exists already
            C: j RENAME Nowhere Else
            S: j NO [NONEXISTENT] No such mailbox
            C: k CREATE INBOX
            S: k NO [ALREADYEXISTS] That mailbox exists already
            """
        )

    def test_rename_inbox_while_selected(self) -> None:
        """INBOX's messages move away under the eyes of who has it selected."""
        server = Server()
        server.put(PLAIN, PLAIN)
        server.select().run(
            """
            C: a RENAME INBOX Archive
            S: a OK Rename completed
            C: b NOOP
            S: * 2 EXPUNGE
            S: * 1 EXPUNGE
            S: b OK Noop completed
            C: c STATUS Archive (MESSAGES UNSEEN)
            S: * STATUS "Archive" (MESSAGES 2 UNSEEN 2)
            S: c OK Status completed
            """
        )

    def test_delete_selected(self) -> None:
        """Who deletes the mailbox it has selected has none; another who had it
        selected is sent away (RFC 2180 3.3)."""
        server = Server()
        now(server.account().create("Box"))
        mine, other, idle = (server.select("Box") for _ in range(3))
        idle.run("C: i IDLE\nS: + idling")
        mine.run(
            """
            C: a DELETE Box
            S: a OK Delete completed
            C: b CHECK
            S: b BAD Not in this state
            """
        )
        other.run("C: a NOOP\nS: * BYE The selected mailbox was deleted")
        self.assertTrue(other.closed)
        self.assertEqual(idle.received(), b"* BYE The selected mailbox was deleted\r\n")

    def test_special_use(self) -> None:
        """CREATE with USE, LIST that selects and returns it (RFC 6154)."""
        Server().login().run(
            r"""
            C: a CREATE Gesendet (USE (\Sent))
            S: a OK Create completed
            C: b CREATE All (USE (\All))
            S: b NO [USEATTR] There is no such use, or too many
            C: c CREATE Two (USE (\Sent \Drafts))
            S: c NO [USEATTR] There is no such use, or too many
            C: d LIST (SPECIAL-USE) "" "*"
            S: * LIST (\HasNoChildren \Sent) "/" "Gesendet"
            S: d OK List completed
            C: e LIST "" "%" RETURN (SPECIAL-USE)
            S: * LIST (\HasNoChildren) "/" "INBOX"
            S: * LIST (\HasNoChildren \Sent) "/" "Gesendet"
            S: e OK List completed
            """
        )

    def test_status(self) -> None:
        """Every item, in the client's order; a mailbox that is not there."""
        server = Server()
        server.put(PLAIN, flags=["\\Seen"])
        server.put(PLAIN)
        server.login().run(
            """
            C: a STATUS INBOX (UNSEEN MESSAGES RECENT UIDNEXT)
            S: * STATUS "INBOX" (UNSEEN 1 MESSAGES 2 RECENT 2 UIDNEXT 3)
            S: a OK Status completed
            C: b STATUS INBOX (UIDVALIDITY)
            S: * STATUS "INBOX" (UIDVALIDITY 1001)
            S: b OK Status completed
            C: b STATUS Nowhere (MESSAGES)
            S: b NO [NONEXISTENT] No such mailbox
            """
        )

    def test_h22_odd_names(self) -> None:
        """Names that cannot be are refused; all others round trip, in modified
        UTF-7."""
        client = Server().login()
        for name in (
            "../../etc",
            "/abs",
            "a//b",
            '"a\x01b"',
            "x/" * 1000 + "x",
            "x" * 60_000,
            "a&b",
            "&Jjo",
            "{3+}\r\na\0b",
        ):
            client.send(f"a CREATE {name}\r\n".encode())
            self.assertRegex(client.received(), rb"^a (NO|BAD) .*\r\n$")
        client.send("a CREATE äöü\r\n".encode())
        self.assertRegex(client.received(), rb"^a (NO|BAD) .*\r\n$")
        client.run(
            """
            C: a CREATE Entw&APw-rfe
            S: a OK Create completed
            C: b CREATE "with \\"quotes\\" and \\\\"
            S: b OK Create completed
            C: c CREATE &-
            S: c OK Create completed
            C: d LIST "" *
            S: * LIST (\\HasNoChildren) "/" "INBOX"
            S: * LIST (\\HasNoChildren) "/" "&-"
            S: * LIST (\\HasNoChildren) "/" "Entw&APw-rfe"
            S: * LIST (\\HasNoChildren) "/" "with \\"quotes\\" and \\\\"
            S: d OK List completed
            C: e SELECT "inbox/"
            S: e NO [NONEXISTENT] No such mailbox
            """
        )


class ListTests(TestCase):
    """LIST and LSUB."""

    def test_list(self) -> None:
        """Wildcards, references, the empty pattern (RFC 3501 6.3.8)."""
        server = Server()
        for name in ("a", "a/b/c", "ab", "INBOX/sub"):
            now(server.account().create(name))
        server.login().run(
            r"""
            C: a LIST "" ""
            S: * LIST (\Noselect) "/" ""
            S: a OK List completed
            C: b LIST "" %
            S: * LIST (\HasChildren) "/" "INBOX"
            S: * LIST (\HasChildren) "/" "a"
            S: * LIST (\HasNoChildren) "/" "ab"
            S: b OK List completed
            C: c LIST a/ *
            S: * LIST (\HasChildren) "/" "a/b"
            S: * LIST (\HasNoChildren) "/" "a/b/c"
            S: c OK List completed
            C: d LIST "" inb*
            S: * LIST (\HasChildren) "/" "INBOX"
            S: d OK List completed
            C: e LIST "" inbox/%
            S: * LIST (\HasNoChildren) "/" "INBOX/sub"
            S: e OK List completed
            C: f LIST "" ("a" "a/%" "nowhere")
            S: * LIST (\HasChildren) "/" "a"
            S: * LIST (\HasChildren) "/" "a/b"
            S: f OK List completed
            C: g LIST "" A
            S: g OK List completed
            """
        )

    def test_subscriptions(self) -> None:
        """LSUB shows subscribed names, and what % cuts off as \\Noselect; LIST
        shows them by RFC 5258."""
        server = Server()
        now(server.account().create("a/b"))
        server.login().run(
            r"""
            C: a SUBSCRIBE inbox
            S: a OK Subscribe completed
            C: b SUBSCRIBE a/b
            S: b OK Subscribe completed
            C: c SUBSCRIBE gone/x
            S: c OK Subscribe completed
            C: d LSUB "" *
            S: * LSUB () "/" "INBOX"
            S: * LSUB () "/" "a/b"
            S: * LSUB () "/" "gone/x"
            S: d OK Lsub completed
            C: e LSUB "" %
            S: * LSUB () "/" "INBOX"
            S: * LSUB (\Noselect) "/" "a"
            S: * LSUB (\Noselect) "/" "gone"
            S: e OK Lsub completed
            C: f LIST (SUBSCRIBED) "" *
            S: * LIST (\HasNoChildren \Subscribed) "/" "INBOX"
            S: * LIST (\HasNoChildren \Subscribed) "/" "a/b"
            S: * LIST (\NonExistent \Subscribed) "/" "gone/x"
            S: f OK List completed
            C: g LIST (SUBSCRIBED RECURSIVEMATCH) "" %
            S: * LIST (\HasNoChildren \Subscribed) "/" "INBOX"
            S: * LIST (\HasChildren) "/" "a" ("CHILDINFO" ("SUBSCRIBED"))
            S: * LIST (\NonExistent) "/" "gone" ("CHILDINFO" ("SUBSCRIBED"))
            S: g OK List completed
            C: h LIST "" a/b RETURN (SUBSCRIBED CHILDREN)
            S: * LIST (\HasNoChildren \Subscribed) "/" "a/b"
            S: h OK List completed
            C: i UNSUBSCRIBE a/b
            S: i OK Unsubscribe completed
            C: j LSUB "" a*
            S: j OK Lsub completed
            """
        )

    def test_patterns(self) -> None:
        """What a pattern stands for."""
        for pattern, name, matches in (
            ("*", "a/b", True),
            ("%", "a/b", False),
            ("%/%", "a/b", True),
            ("a%", "a", True),
            ("%b", "ab", True),
            ("*/c", "a/b/c", True),
            ("a*c", "a/b/c", True),
            ("a%c", "a/b/c", False),
            ("", "a", False),
            ("a", "A", False),
            ("a.c", "abc", False),
            ("*%", "a/b", True),
            ("InBoX", "INBOX", True),
            ("i%x", "INBOX", True),
            ("inbox*", "INBOX/x", True),
            ("inboxes", "INBOXes", False),
            ("*INBOX", "a/inbox", False),
        ):
            self.assertEqual(Pattern(pattern).matches(name), matches, (pattern, name))
        self.assertEqual(joined("a/", "%"), "a/%")
        self.assertEqual(joined("a/", "/b"), "b")

    def test_h23_wildcards_do_not_explode(self) -> None:
        """Any number of wildcards costs no more than one step a character: the
        work is counted in characters of names."""
        name = "a" * 200 + "b"
        for pattern in ("%*" * 5000, "*a" * 100 + "c", "%a*" * 60 + "x"):
            steps = 0

            class Counted(str):
                def __iter__(self):
                    nonlocal steps
                    for character in str.__iter__(self):
                        steps += 1
                        yield character

            Pattern(pattern).matches(Counted(name))
            self.assertLessEqual(steps, len(name))
        server = Server()
        for number in range(300):
            now(server.account().create(f"box{number}/inner"))
        client = server.login()
        client.send(b'a LIST "" "' + b"%*" * 3000 + b'"\r\n')
        self.assertEqual(client.received().count(b"* LIST"), 601)


class IdleTests(TestCase):
    """RFC 2177, and memory."""

    def test_idle(self) -> None:
        """What others do is told at once: new messages, flags, expunges."""
        server = Server()
        server.put(PLAIN, PLAIN)
        other, idle = server.select(), server.select()
        idle.run("C: a IDLE\nS: + idling")
        server.put(PLAIN)
        self.assertEqual(idle.received(), b"* 3 EXISTS\r\n* 1 RECENT\r\n")
        other.run(r"C: a STORE 2 +FLAGS.SILENT (\Deleted)" + "\nS*")
        self.assertEqual(idle.received(), b"* 2 FETCH (FLAGS (\\Deleted))\r\n")
        other.run("C: b EXPUNGE\nS*")
        self.assertEqual(idle.received(), b"* 2 EXPUNGE\r\n")
        idle.run("C: DONE\nS: a OK Idle completed\nC: b NOOP\nS: b OK Noop completed")

    def test_idle_begins_with_what_is_new(self) -> None:
        """Nothing gets lost between a command and IDLE."""
        server = Server()
        client = server.select()
        server.put(PLAIN)
        client.run("C: a IDLE\nS: + idling\nS: * 1 EXISTS\nS: * 1 RECENT")

    def test_idle_without_a_mailbox(self) -> None:
        """IDLE may be used when none is selected; anything but DONE ends it
        with BAD."""
        Server().login().run(
            """
            C: a IDLE
            S: + idling
            C: DONE
            S: a OK Idle completed
            C: b IDLE
            S: + idling
            C: c NOOP
            S: b BAD Expected DONE
            C: d NOOP
            S: d OK Noop completed
            """
        )

    def test_idle_is_told_once(self) -> None:
        """Changes that come together need not wake the session twice."""
        server = Server()
        idle = server.select()
        idle.run("C: a IDLE\nS: + idling")
        for _ in range(3):
            server.put(PLAIN)
        self.assertIn(b"* 3 EXISTS", idle.received())

    def test_h38_idle_sessions_are_small(self) -> None:
        """A thousand sessions in IDLE stay below 60 KB each; what the session
        itself takes is a fraction of that."""
        server = Server()
        server.put(*[PLAIN] * 50)
        idle = []
        for _ in range(20):
            idle.append(server.select())
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(50):
                client = server.select()
                client.run("C: a IDLE\nS: + idling")
                idle.append(client)
            after = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        self.assertLess((after - before) / 50, 15_000)

    async def test_deliveries_reach_every_idle_session(self) -> None:
        """Each of many sessions learns of a message."""
        server = Server()
        idle = [server.select() for _ in range(20)]
        for client in idle:
            client.run("C: a IDLE\nS: + idling")
        await appended(server.account())
        for client in idle:
            self.assertIn(b"* 1 EXISTS\r\n", client.received())
