"""An audit finds each thing that is wrong, says whose it is, and puts right what
can be."""

from __future__ import annotations

import os
import time
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults

from tests.ledger.audit.case import LARGE, SMALL, AuditCase
from tests.ledger.test_recovery import orphan
from twisted_mta.errors import LedgerUnavailable
from twisted_mta.ledger import collector
from twisted_mta.ledger.audit import audit
from twisted_mta.ledger.audit.audit import Audit
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.placement import FlagChange

A = "alice@example.test"


class SoundTests(AuditCase):
    """A ledger in which nothing is wrong."""

    async def test_nothing(self) -> None:
        """Is said of it, and a repair changes nothing."""
        before = self.sql("SELECT * FROM mailbox", "SELECT * FROM email")
        self.assert_found(repair=True)
        after = self.sql("SELECT * FROM mailbox", "SELECT * FROM email")
        self.assertEqual(before, after)

    async def test_while_mail_flows(self) -> None:
        """Nothing is found that is only on its way: mail comes, is moved, flagged
        and removed, content is collected and files arrive, all the time."""
        self.patch(collector, "_WAIT_S", 0.0)
        self.patch(collector, "_HELD_S", 0.0)
        ended = False

        async def client(octets: bytes) -> None:
            inbox = await self.account.open("INBOX")
            while not ended:
                uids = [await self.append(octets) for _ in range(3)]
                await inbox.store(uids[:1], FlagChange.ADD, frozenset({"\\Seen", "x"}))
                await inbox.copy(uids[1:2], "Trash")
                await inbox.move(uids[2:], "Archive")
                await inbox.expunge(uids)

        clients = [Deferred.fromCoroutine(client(one)) for one in (SMALL, LARGE) * 2]
        found = [await self.ledger.problems() for _ in range(8)]
        ended = True
        await gatherResults(clients)
        self.assertEqual(found, [[]] * 8)

    async def test_other_processes_are_not_kept_from_writing(self) -> None:
        """Between its steps, and while it looks at what it found, an audit has no
        lock: a write is done at once."""
        looking = Audit(self.directory)
        self.addCleanup(looking.close)
        self.sql("UPDATE mailbox SET messages = 9 WHERE name = 'INBOX'")
        wrong = f"{A}: INBOX: messages says 9, should be 2"
        self.assertEqual(next(looking.findings(False))[0].what, wrong)
        await self.append(SMALL)

    async def test_rests(self) -> None:
        """Now and then it reads nothing, so that the log can start anew: between
        any two steps, if there was none for a while."""
        rests = []
        self.patch(audit, "_WORK_S", -1.0)
        self.patch(time, "sleep", rests.append)
        self.assert_found()
        self.assertEqual(rests, [audit._REST_S] * 6)

    async def test_progress(self) -> None:
        """It says how far it has come."""
        seen = []
        looking = Audit(self.directory, lambda *said: seen.append(said))
        self.addCleanup(looking.close)
        self.assertEqual(list(looking.findings(False)), [])
        self.assertEqual(
            seen,
            [
                ("structure", 0, 1),
                ("content", 0, 3),
                ("accounts", 0, 1),
                ("queue", 0, 1),
                ("references", 0, 1),
                ("files", 0, 1),
            ],
        )


class ContentTests(AuditCase):
    """Octets, their rows and their files."""

    async def test_octets_of_a_row(self) -> None:
        """A bit that has flipped is found, with every message of whoever has it;
        only a backup can bring it back."""
        self.sql(
            "UPDATE content SET octets = CAST(replace(octets, 'S', 'T') AS BLOB)"
            f" WHERE id = {self.small}"
        )
        self.assert_lost(
            f"content {to_text(self.small)}: its octets are not those that came; it is"
            f" of {A}: INBOX/1, Archive/1"
        )

    async def test_octets_of_a_file(self) -> None:
        """The same in a file."""
        with self.file(self.large).open("r+b") as file:
            file.seek(50_000)
            file.write(b"x")
        self.assert_lost(
            f"content {to_text(self.large)}: its octets are not those that came; it is"
            f" of {A}: INBOX/2"
        )

    async def test_a_file_that_is_cut(self) -> None:
        """Says how much is left."""
        os.truncate(self.file(self.large), 10)
        self.assert_lost(
            f"content {to_text(self.large)}: has 10 octets instead of {len(LARGE)}; it"
            f" is of {A}: INBOX/2"
        )

    async def test_a_file_that_is_gone(self) -> None:
        """Is said to be, and nothing else suffers."""
        self.file(self.large).unlink()
        self.assert_lost(
            f"content {to_text(self.large)}: its file of {len(LARGE)} octets is gone;"
            f" it is of {A}: INBOX/2"
        )

    async def test_a_file_that_cannot_be_read(self) -> None:
        """Says why."""
        self.file(self.large).unlink()
        self.file(self.large).mkdir()
        self.assert_lost(
            f"content {to_text(self.large)}: cannot be read: [Errno 21] Is a directory;"
            f" it is of {A}: INBOX/2"
        )

    async def test_content_of_the_queue(self) -> None:
        """Says whose mail to whom is lost."""
        self.sql(f"UPDATE content SET octets = x'00' WHERE id = {self.waiting}")
        self.assert_lost(
            f"content {to_text(self.waiting)}: has 1 octets instead of 18; it is of"
            f" queue: {to_text(70)} from <ann@a.test> to <eve@b.test>"
        )

    async def test_a_wrong_size(self) -> None:
        """If the octets are those that came, their number is counted again."""
        self.sql(f"UPDATE content SET size = 99 WHERE id = {self.small}")
        wrong = f"message {to_text(self.email(self.small))} says a wrong size: "
        self.assertEqual(
            [finding.what for finding, _ in self.audit()],
            [
                f"content {to_text(self.small)}: says 99 octets, has the"
                f" {len(SMALL)} that came",
                wrong + f"{A}: INBOX/1, Archive/1",
            ],
        )
        self.audit(repair=True)
        self.assertEqual(self.audit(), [])

    def email(self, content: int) -> int:
        """The message that has this content."""
        ((id,),) = self.sql(f"SELECT id FROM email WHERE content_id = {content}")
        return int(str(id))

    async def test_nobody_refers_to_it(self) -> None:
        """It is given to the collector."""
        self.sql("DELETE FROM recipient", "DELETE FROM hop", "DELETE FROM queued")
        name = f"content {to_text(self.waiting)}"
        self.assert_found(f"{name}: nobody refers to it", repair=True)
        await self.ledger.collect()
        self.assertEqual(self.sql("SELECT COUNT(*) FROM content"), [(2,)])

    async def test_a_file_without_row(self) -> None:
        """Goes, unless it is just arriving."""
        lost = orphan(self.directory)
        arriving = await self.finished(LARGE)
        self.assert_found(f"content {lost.name}: a file that no row names", repair=True)
        self.assertFalse(lost.exists())
        arriving.abort()

    async def test_content_of_before_there_were_hashes(self) -> None:
        """Is no problem; a repair gives it one, which tells from then on."""
        self.sql("UPDATE content SET hash = NULL")
        self.assert_found()
        self.assertEqual(self.sql("SELECT COUNT(hash) FROM content"), [(0,)])
        self.audit(repair=True)
        self.assertEqual(self.sql("SELECT COUNT(hash) FROM content"), [(3,)])
        self.assert_found()
        with self.file(self.large).open("r+b") as file:
            file.write(b"x")
        self.assertEqual(len(self.audit()), 1)

    async def test_summaries(self) -> None:
        """Are made anew from the octets, small and large."""
        before = self.sql("SELECT * FROM email")
        for column in ("envelope", "bodystructure", "body", "sections"):
            self.sql(f"UPDATE email SET {column} = x'00'")
            for content, where in ((self.small, "1, Archive/1"), (self.large, "2")):
                what = f"message {to_text(self.email(content))}: {column} is not what"
                (found,) = [
                    one.what for one, _ in self.audit() if one.what.startswith(what)
                ]
                self.assertIn(f"give: {A}: INBOX/{where}", found)
            self.assertEqual([done for _, done in self.audit(True)], [True, True])
            self.assertEqual(self.sql("SELECT * FROM email"), before)


class MailboxTests(AuditCase):
    """Mailboxes, placements, emails."""

    async def test_counts(self) -> None:
        """Each count of a mailbox is counted again."""
        size = len(SMALL) + len(LARGE)
        for column, says, right in (
            ("messages", 9, 2),
            ("unseen", 0, 2),
            ("size", 5, size),
            ("uidnext", 2, 3),
            ("recent_uid", 7, 3),
        ):
            self.sql(f"UPDATE mailbox SET {column} = {says} WHERE name = 'INBOX'")
            self.assert_found(
                f"{A}: INBOX: {column} says {says}, should be {right}", repair=True
            )

    async def test_uidnext_of_what_is_gone(self) -> None:
        """A UID that was given once is not given again."""
        await (await self.account.open("INBOX")).expunge([1, 2])
        self.sql("UPDATE mailbox SET uidnext = 1 WHERE name = 'INBOX'")
        self.assert_found(f"{A}: INBOX: uidnext says 1, should be 3", repair=True)
        self.assertEqual(await self.append(SMALL), 3)
        self.assertEqual(self.audit(), [])

    async def test_modseqs(self) -> None:
        """What clients may have seen is not given out again."""
        ((modseq,),) = self.sql("SELECT modseq FROM mailbox WHERE name = 'INBOX'")
        self.sql("UPDATE mailbox SET modseq = 1 WHERE name = 'INBOX'")
        self.assert_found(f"{A}: INBOX: modseq says 1, should be {modseq}", repair=True)
        ((highest, uidvalidity),) = self.sql(
            "SELECT MAX(modseq), MAX(uidvalidity) FROM mailbox"
        )
        self.sql("UPDATE account SET modseq = 1, uidvalidity = 1")
        self.assert_found(
            f"{A}: modseq says 1, a mailbox has {highest}",
            f"{A}: uidvalidity says 1, a mailbox has {uidvalidity}",
            repair=True,
        )

    async def test_sizes(self) -> None:
        """Those of placements are those of their messages."""
        self.sql("UPDATE placement SET size = size + 1 WHERE uid = 2")
        size = len(SMALL) + len(LARGE)
        self.assert_found(
            f"{A}: INBOX/2: says a wrong size",
            f"{A}: INBOX: size says {size}, should be {size + 1}",
        )
        self.assertEqual([done for _, done in self.audit(True)], [True])
        self.assertEqual(self.audit(), [])

    async def test_a_placement_without_email(self) -> None:
        """Is dropped, and clients are told that the message is gone."""
        ((id,),) = self.sql("SELECT MAX(id) FROM email")
        self.sql(f"DELETE FROM email WHERE id = {id}")
        self.audit(repair=True)  # the content is free now
        self.assertEqual(self.audit(), [])
        mailbox = await self.account.open("INBOX")
        changes = await mailbox.changes(1)
        self.assertEqual((await self.account.status("INBOX")).messages, 1)
        self.assertEqual(list(changes.vanished), [2])

    async def test_what_is_said_of_it(self) -> None:
        """Mailbox, UID and message."""
        self.sql(f"DELETE FROM email WHERE content_id = {self.large}")
        said = [finding.what for finding, _ in self.audit()]
        self.assertRegex(said[0], rf"^{A}: INBOX/2: its message \w{{13}} is gone$")
        self.assertEqual(
            said[1:], [f"content {to_text(self.large)}: nobody refers to it"]
        )

    async def test_an_email_in_no_mailbox(self) -> None:
        """Comes back into INBOX, as a new message."""
        self.sql("DELETE FROM placement WHERE uid = 2")
        what = [finding.what for finding, _ in self.audit()]
        self.assertRegex(what[0], rf"^{A}: message \w{{13}} is in no mailbox$")
        self.audit(repair=True)
        self.assertEqual(self.audit(), [])
        _, content = await (await self.account.open("INBOX")).content(3)
        self.assertEqual(await content.read(0, len(LARGE)), LARGE)

    async def test_a_mailbox_that_is_gone(self) -> None:
        """What was in it and in no other comes back into INBOX."""
        await (await self.account.open("INBOX")).move([2], "Archive")
        ((id,),) = self.sql("SELECT id FROM mailbox WHERE name = 'Archive'")
        self.sql("DELETE FROM mailbox WHERE name = 'Archive'")
        self.assert_found(
            f"{A}: 2 messages are in mailbox {id}, which is gone",
        )
        self.assertEqual([done for _, done in self.audit(True)], [True, True])
        self.assertEqual(self.audit(), [])
        mailbox = await self.account.open("INBOX")
        rows = (await mailbox.changes()).rows
        self.assertEqual([row.size for row in rows], [len(SMALL), len(LARGE)])

    async def test_an_account_that_is_gone(self) -> None:
        """Cannot be made up; what it had is left alone."""
        self.sql("DELETE FROM account")
        self.assert_lost(
            "account 1: is gone, but not its mail: 2 messages, mailboxes Archive,"
            " Drafts, INBOX, Junk, Sent, Trash"
        )

    async def test_an_email_without_content(self) -> None:
        """Says where it is."""
        self.sql(f"DELETE FROM content WHERE id = {self.small}")
        (what,) = [finding.what for finding, _ in self.audit()]
        self.assertRegex(
            what, rf"^message \w{{13}} has no content: {A}: INBOX/1, Archive/1$"
        )
        self.assert_lost(what)


class QueueTests(AuditCase):
    """Messages, next hops, recipients."""

    async def test_a_message_without_content(self) -> None:
        """Says who waits for it."""
        self.sql(f"DELETE FROM content WHERE id = {self.waiting}")
        self.assert_lost(f"queued {to_text(70)} to <eve@b.test> has no content")

    async def test_a_message_without_hop(self) -> None:
        """Says who its recipients were; who of them has it is not known."""
        self.sql("DELETE FROM recipient", "DELETE FROM hop")
        self.assert_lost(
            f"queued {to_text(70)} waits for no next hop; its recipients were"
            " <eve@b.test>"
        )

    async def test_a_hop_without_recipient(self) -> None:
        """Is kept."""
        self.sql("DELETE FROM recipient")
        self.assert_lost(f"hop 71 of {to_text(70)} to b.test has no recipient")

    async def test_a_hop_without_message(self) -> None:
        """Goes with its recipients, which are said."""
        self.sql("DELETE FROM queued", f"DELETE FROM content WHERE id = {self.waiting}")
        self.assert_found(
            f"hop 71 to b.test for <eve@b.test>: its message {to_text(70)} is gone",
            repair=True,
        )

    async def test_a_recipient_without_hop(self) -> None:
        """Goes."""
        self.sql("INSERT INTO recipient VALUES (5, 'fay@c.test', '', '', '', 0, '')")
        self.assert_found(
            "recipient <fay@c.test> waits for hop 5, which is gone", repair=True
        )


class StructureTests(AuditCase):
    """SQLite's own file."""

    async def test_an_index(self) -> None:
        """That does not fit its table is made anew."""
        right = "CREATE INDEX hop_due ON hop (held, due)"
        for schema in (right + " WHERE 0", right):
            self.sql(
                "PRAGMA writable_schema = ON",
                f"UPDATE sqlite_schema SET sql = '{schema}' WHERE name = 'hop_due'",
            )
            self.sql("UPDATE hop SET due = due + 1 WHERE due = 0")
        self.assert_found(
            "index hop_due: row 1 missing from index hop_due", repair=True
        )

    async def test_a_table(self) -> None:
        """That is damaged is said to be, and what can be read besides is looked
        at all the same."""
        ((root, page),) = self.sql(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size)"
            " FROM sqlite_schema WHERE name = 'placement'"
        )
        self.sql(f"UPDATE content SET size = 99 WHERE id = {self.waiting}")
        await self.ledger.close()
        with (self.directory / "ledger.sqlite3").open("r+b") as file:
            file.seek((int(str(root)) - 1) * int(str(page)))
            file.write(b"damage" * 100)
        for repair in (False, True):
            found = self.audit(repair)
            remedies = [one.remedy for one, done in found if not done]
            self.assertRegex("\n".join(remedies), "restore a backup")
            said = "\n".join(one.what for one, _ in found)
            self.assertRegex(said, "malformed|btree")
            self.assertEqual("says 99 octets" in said, True)

    async def test_what_is_no_ledger(self) -> None:
        """Cannot be looked at; the error says where it is."""
        await self.ledger.close()
        path = self.directory / "ledger.sqlite3"
        path.write_bytes(b"something else" * 1_000)
        with self.assertRaisesRegex(LedgerUnavailable, f"{path} cannot be opened"):
            Audit(self.directory)
        lock = self.directory / "ledger.lock"
        lock.unlink()
        lock.mkdir()
        with self.assertRaisesRegex(LedgerUnavailable, f"opened: .*{lock}"):
            Audit(self.directory)

    async def test_no_ledger(self) -> None:
        """Says so, and makes none."""
        directory = Path(self.mktemp())
        with self.assertRaisesRegex(LedgerUnavailable, "holds no ledger"):
            Audit(directory)
        self.assertFalse(directory.exists())
