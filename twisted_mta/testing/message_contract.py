"""The contract of mailbox backends: messages, what they hold and their flags."""

from __future__ import annotations

from twisted_mta import errors
from twisted_mta.mail import mime
from twisted_mta.mail.placement import FlagChange, Part
from twisted_mta.mail.summary import summarize
from twisted_mta.testing.store_case import (
    EIGHT_BIT,
    MULTIPART,
    NO_FLAGS,
    PLAIN,
    SEEN,
    StoreCase,
    appended,
    message,
    read_all,
)


class MessageContract(StoreCase):
    """L{IAccount.append}, and L{IMailbox} where it is about single messages."""

    # --- appending and fetching ---

    async def test_append(self) -> None:
        """A message is there with its UID, flags, date, size and octets."""
        account = await self.open_account()
        flags = frozenset({"\\Seen", "\\Draft", "$Junk", "own-word"})
        for octets in (PLAIN, MULTIPART, EIGHT_BIT, b"", b"\r\n", b"no end of line"):
            put = await appended(account, "INBOX", octets, flags, 1_234_567_890.0)
            mailbox = await account.open("INBOX")
            self.assertEqual(put.uidvalidity, mailbox.uidvalidity)
            found = await message(mailbox, put.uid)
            self.assertEqual(found.uid, put.uid)
            self.assertEqual(found.flags, flags)
            self.assertEqual(found.received_at, 1_234_567_890.0)
            self.assertEqual(found.size, len(octets))
            self.assertEqual(await self.octets(mailbox, put.uid), octets)

    async def test_an_append_that_failed_leaves_nothing(self) -> None:
        """Content that was aborted is in no mailbox; abort may be repeated."""
        account = await self.open_account()
        content = account.content()
        content.write(PLAIN)
        content.abort()
        content.abort()
        await self.refused(errors.NoSuchMailbox, appended(account, "Nowhere"))
        self.assertEqual((await account.status("INBOX")).messages, 0)

    async def test_large_content_is_streamed(self) -> None:
        """A message of a megabyte comes back to the octet, in pieces from any
        offset, and its structure is known."""
        account = await self.open_account()
        body = b"".join(b"%07d 0123456789\r\n" % line for line in range(60_000))
        octets = b"Subject: large\r\n\r\n" + body
        put = await appended(account, octets=octets)
        mailbox = await account.open("INBOX")
        prefix, content = await mailbox.content(put.uid)
        self.assertEqual(len(prefix) + content.size, len(octets))
        self.assertEqual(prefix + await read_all(content, 333_333), octets)
        self.assertEqual(await content.read(content.size, 10), b"")
        self.assertEqual(await content.read(content.size - 3, 10), octets[-3:])
        middle = await content.read(500_000, 1_000)
        self.assertEqual(middle, (octets[len(prefix) :])[500_000:501_000])
        found = await message(mailbox, put.uid, Part.HEADER, Part.SECTIONS)
        self.assertEqual(found.header, b"Subject: large\r\n\r\n")
        structure = mime.Structure.unpack(found.sections or b"")
        self.assertEqual(structure.root.end, content.size)

    async def test_content_writer(self) -> None:
        """A writer counts, notices eight bit, and reads back, once finished,
        what was written: small and large."""
        account = await self.open_account()
        for octets in (PLAIN, PLAIN + b"x" * 300_000, b"Subject: \xc3\xa9\r\n\r\n"):
            content = account.content()
            for at in range(0, len(octets), 7_777):
                content.write(octets[at : at + 7_777])
            await content.finish()
            self.assertEqual(content.size, len(octets))
            self.assertEqual(content.eight_bit, not octets.isascii())
            self.assertEqual(await read_all(content), octets)
            self.assertEqual(content.header(), octets[: octets.index(b"\r\n\r\n") + 4])
            self.assertEqual(content.structure().pack(), mime.scan(octets).pack())
            content.abort()

    async def test_fetch_parts(self) -> None:
        """Each part brings what was computed when the message was stored, and
        what was not asked for is None."""
        account = await self.open_account()
        put = await appended(account, octets=MULTIPART)
        mailbox = await account.open("INBOX")
        bare = await message(mailbox, put.uid)
        given = (bare.envelope, bare.bodystructure, bare.body, bare.sections)
        self.assertEqual(given, (None, None, None, None))
        self.assertEqual((bare.header, bare.octets), (None, None))
        header = MULTIPART[: MULTIPART.index(b"\r\n\r\n") + 4]
        expected = summarize(b"", header, mime.scan(MULTIPART))
        full = await message(mailbox, put.uid, *Part)
        self.assertEqual(full.envelope, expected.envelope)
        self.assertEqual(full.bodystructure, expected.bodystructure)
        self.assertEqual(full.body, expected.body)
        self.assertEqual(full.sections, expected.sections)
        self.assertEqual(full.header, header)
        self.assertEqual(full.octets, MULTIPART)
        self.assertEqual(full.prefix, 0)

    async def test_emails_have_stable_ids(self) -> None:
        """EMAILID stays with the message in every copy; another message, the
        same octets even, has another (RFC 8474)."""
        account, inbox, uids = await self.filled(2)
        await account.create("Copies")
        copied = await inbox.copy(uids[:1], "Copies")
        copies = await account.open("Copies")
        one, two = await inbox.fetch(uids, frozenset())
        copy = await message(copies, copied.pairs[0][1])
        self.assertEqual((copy.email, copy.thread), (one.email, one.thread))
        self.assertNotEqual(one.email, two.email)

    async def test_fetch_order(self) -> None:
        """Messages come by ascending UID, each once, those missing left out."""
        _, inbox, uids = await self.filled(4)
        await inbox.expunge([uids[1]])
        asked = [uids[3], 999_999, uids[1], uids[0]]
        found = await inbox.fetch(asked, frozenset())
        self.assertEqual([each.uid for each in found], [uids[0], uids[3]])
        self.assertEqual(list(await inbox.fetch([], frozenset())), [])
        self.assertEqual(list(await inbox.fetch([4_294_967_295], frozenset())), [])

    async def test_content_of_nothing(self) -> None:
        """The content of a message that is gone is refused."""
        _, inbox, uids = await self.filled(1)
        await inbox.expunge(uids)
        await self.refused(errors.NoSuchMessage, inbox.content(uids[0]))
        await self.refused(errors.NoSuchMessage, inbox.content(12_345))

    async def test_status_counts(self) -> None:
        """STATUS follows every kind of change."""
        account, inbox, uids = await self.filled(3)
        await inbox.store(uids[:1], FlagChange.ADD, SEEN)
        await appended(account, octets=MULTIPART, flags=SEEN)
        status = await account.status("INBOX")
        self.assertEqual((status.messages, status.unseen), (4, 2))
        self.assertEqual(status.size, 3 * len(PLAIN) + len(MULTIPART))
        await inbox.expunge(uids[:2])
        await inbox.store(uids, FlagChange.REPLACE, SEEN)
        status = await account.status("INBOX")
        self.assertEqual((status.messages, status.unseen), (2, 0))
        self.assertEqual(status.size, len(PLAIN) + len(MULTIPART))
        await account.create("Box")
        await inbox.move([uids[2]], "Box")
        self.assertEqual((await account.status("INBOX")).messages, 1)
        self.assertEqual((await account.status("Box")).size, len(PLAIN))

    # --- flags ---

    async def test_store(self) -> None:
        """Replace, add, remove: system flags and keywords alike."""
        _, inbox, uids = await self.filled(2)
        steps: tuple[tuple[FlagChange, set[str], set[str] | None], ...] = (
            (FlagChange.REPLACE, {"\\Seen", "$Junk"}, {"\\Seen", "$Junk"}),
            (FlagChange.ADD, {"\\Draft", "b"}, {"\\Seen", "$Junk", "\\Draft", "b"}),
            (FlagChange.REMOVE, {"\\Seen", "$Junk", "absent"}, {"\\Draft", "b"}),
            (FlagChange.REPLACE, {"\\Answered", "\\Deleted", "\\Draft"}, None),
            (FlagChange.REPLACE, set(), None),
        )
        for change, given, expected in steps:
            await inbox.store(uids[:1], change, frozenset(given))
            found = await message(inbox, uids[0])
            self.assertEqual(found.flags, given if expected is None else expected)
        self.assertEqual((await message(inbox, uids[1])).flags, NO_FLAGS)

    async def test_store_passes_over_what_is_gone(self) -> None:
        """UIDs that do not exist are no error and change nothing else."""
        _, inbox, uids = await self.filled(2)
        await inbox.expunge(uids[:1])
        await inbox.store([*uids, 77_777], FlagChange.ADD, SEEN)
        await inbox.store([], FlagChange.ADD, SEEN)
        self.assertEqual([row.flags for row in (await inbox.changes()).rows], [SEEN])

    async def test_h24_keyword_flood(self) -> None:
        """Different keywords come to an end, by TooMany, and what was there
        stays as it was."""
        _, inbox, uids = await self.filled(1)
        kept = frozenset({"\\Flagged", "first"})
        await inbox.store(uids, FlagChange.REPLACE, kept)
        for turn in range(200):
            words = frozenset(f"word-{turn}-{number}" for number in range(100))
            try:
                await inbox.store(uids, FlagChange.ADD, words)
            except errors.TooMany:
                break
        else:
            self.fail("20,000 different keywords were taken")
        self.assertLessEqual(kept, (await message(inbox, uids[0])).flags)
        await inbox.store(uids, FlagChange.REPLACE, kept)
        self.assertEqual((await message(inbox, uids[0])).flags, kept)
