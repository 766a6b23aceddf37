"""What every mailbox backend must keep to, as tests: the promises of
L{IMailStore}, L{IAccount} and L{IMailbox}, one test each.

Whoever writes a backend derives a test case from this class first and
C{twisted.trial.unittest.TestCase} second, and gives it C{build}::

    class MaildirTests(StoreContract, TestCase):
        async def build(self):
            store = MaildirStore(self.mktemp())
            return store, alice, bob

It knows nothing of the backend but the interfaces. A backend may have lower
limits than another, but it must have some.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, cast
from unittest import TestCase

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from twisted_mta import errors
from twisted_mta.interfaces import (
    IAccount,
    IContent,
    IContentWriter,
    IMailbox,
    IMailStore,
)
from twisted_mta.mail import mime
from twisted_mta.mail.account import Account
from twisted_mta.mail.placement import Appended, Changes, FlagChange, Message, Part
from twisted_mta.mail.summary import summarize

SEEN = frozenset({"\\Seen"})
NO_FLAGS: frozenset[str] = frozenset()

T = TypeVar("T")

PLAIN = b"From: a@example.test\r\nSubject: hello\r\n\r\nA short body.\r\n"
MULTIPART = (
    b"From: Ann <a@example.test>\r\n"
    b"Subject: two parts\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="=="\r\n'
    b"\r\n"
    b"--==\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"\r\n"
    b"first\r\n"
    b"--==\r\n"
    b"Content-Type: application/octet-stream\r\n"
    b"Content-Transfer-Encoding: base64\r\n"
    b"\r\n"
    b"AAECAwQ=\r\n"
    b"--==--\r\n"
)
EIGHT_BIT = bytes(range(256)) + b"\r\n"

if TYPE_CHECKING:
    _Case = TestCase
else:
    _Case = object


async def appended(
    account: IAccount,
    name: str = "INBOX",
    octets: bytes = PLAIN,
    flags: frozenset[str] = NO_FLAGS,
    received_at: float = 1_000_000_000.0,
) -> Appended:
    """Put a message into a mailbox."""
    content = account.content()
    try:
        for at in range(0, len(octets), 30_000):
            content.write(octets[at : at + 30_000])
        await content.finish()
        return await account.append(name, content, flags, received_at)
    finally:
        content.abort()


async def read_all(content: IContent, piece: int = 50_000) -> bytes:
    """All octets of a content, in pieces."""
    pieces = []
    offset = 0
    while offset < content.size:
        octets = await content.read(offset, piece)
        if not octets:
            raise AssertionError(f"ends at {offset} of {content.size} octets")
        pieces.append(octets)
        offset += len(octets)
    return b"".join(pieces)


async def message(mailbox: IMailbox, uid: int, *parts: Part) -> Message:
    """One message."""
    (found,) = await mailbox.fetch([uid], frozenset(parts))
    return found


def uids_of(changes: Changes) -> list[int]:
    """The UIDs of what is new or changed."""
    return [row.uid for row in changes.rows]


class StoreContract(_Case):
    """The contract."""

    async def build(self) -> tuple[IMailStore, Account, Account]:
        """A fresh store, and two accounts that exist in it. What must be ended
        afterwards is left to C{addCleanup}."""
        raise NotImplementedError

    async def open_account(self) -> IAccount:
        store, account, _ = await self.build()
        return await store.account(account)

    async def filled(self, count: int = 3) -> tuple[IAccount, IMailbox, list[int]]:
        """An account, its INBOX with some messages, and their UIDs."""
        account = await self.open_account()
        uids = [(await appended(account)).uid for _ in range(count)]
        return account, await account.open("INBOX"), uids

    async def refused(self, error: type[Exception], awaited: Awaitable[object]) -> None:
        """What is awaited fails with this error."""
        try:
            await awaited
        except error:
            return
        self.fail(f"{error.__name__} was not raised")

    async def listed(self, account: IAccount) -> list[str]:
        """The names of an account's mailboxes."""
        return [info.name for info in await account.mailboxes()]

    # --- interfaces ---

    async def test_provides_the_interfaces(self) -> None:
        """Every object provides its interface, by signature too."""
        store, account, _ = await self.build()
        mailboxes = await store.account(account)
        verifyObject(IMailStore, store)
        verifyObject(IAccount, mailboxes)
        verifyObject(IMailbox, await mailboxes.open("INBOX"))
        content = mailboxes.content()
        verifyObject(IContentWriter, content)
        content.abort()
        uid = (await appended(mailboxes)).uid
        _, stored = await (await mailboxes.open("INBOX")).content(uid)
        verifyObject(IContent, stored)

    async def test_accounts_are_apart(self) -> None:
        """What one account has, another does not see."""
        store, one, other = await self.build()
        mine, theirs = await store.account(one), await store.account(other)
        await mine.create("Mine")
        await mine.subscribe("Mine")
        await appended(mine)
        self.assertNotIn("Mine", await self.listed(theirs))
        self.assertNotIn("Mine", await theirs.subscriptions())
        self.assertEqual((await theirs.status("INBOX")).messages, 0)

    async def test_an_account_asked_for_twice_is_the_same(self) -> None:
        """Two sessions of one account see the same mailboxes."""
        store, account, _ = await self.build()
        one, two = await store.account(account), await store.account(account)
        await one.create("Shared")
        self.assertIn("Shared", await self.listed(two))
        self.assertEqual(
            (await one.open("INBOX")).uidvalidity, (await two.open("INBOX")).uidvalidity
        )

    # --- mailboxes and their names ---

    async def test_inbox_is_there(self) -> None:
        """An account has an INBOX from the start, listed first, empty."""
        account = await self.open_account()
        await account.create("A")
        self.assertEqual((await self.listed(account))[0], "INBOX")
        status = await account.status("INBOX")
        self.assertEqual((status.messages, status.recent, status.unseen), (0, 0, 0))
        self.assertEqual(status.size, 0)
        self.assertEqual(status.uidnext, 1)
        self.assertGreater(status.highest_modseq, 0)
        self.assertTrue(0 < status.uidvalidity < 2**32)

    async def test_inbox_in_any_case(self) -> None:
        """INBOX is INBOX whatever its case; other names keep theirs."""
        account = await self.open_account()
        await appended(account, "inBox")
        self.assertEqual((await account.status("Inbox")).messages, 1)
        self.assertEqual((await account.open("inbox")).id, await self.id_of(account))
        await self.refused(errors.MailboxExists, account.create("iNBOX"))
        await account.create("a")
        await account.create("A")
        self.assertIn("a", await self.listed(account))
        self.assertIn("A", await self.listed(account))

    async def id_of(self, account: IAccount, name: str = "INBOX") -> int:
        """The id under which a mailbox is listed."""
        (found,) = [each.id for each in await account.mailboxes() if each.name == name]
        return found

    async def test_create(self) -> None:
        """A new mailbox is listed by what create gives back, is empty, and a
        second one of its name is refused."""
        account = await self.open_account()
        made = await account.create("Work")
        self.assertEqual((made.name, made.special_use), ("Work", ""))
        self.assertFalse(made.subscribed)
        self.assertIn(made, await account.mailboxes())
        self.assertEqual((await account.open("Work")).id, made.id)
        self.assertEqual((await account.status("Work")).messages, 0)
        await self.refused(errors.MailboxExists, account.create("Work"))

    async def test_create_makes_the_levels_above(self) -> None:
        """CREATE a/b/c makes a and a/b, and leaves those that exist alone."""
        account = await self.open_account()
        await account.create("a")
        await appended(account, "a")
        await account.create("a/b/c")
        self.assertLessEqual({"a", "a/b", "a/b/c"}, set(await self.listed(account)))
        self.assertEqual((await account.status("a")).messages, 1)

    async def test_special_use(self) -> None:
        """A special use given at CREATE is listed, through a rename too."""
        account = await self.open_account()
        made = await account.create("Absent/Gesendet", "\\Sent")
        self.assertEqual(made.special_use, "\\Sent")
        await account.rename("Absent/Gesendet", "Absent/Out")
        found = {each.name: each for each in await account.mailboxes()}
        self.assertEqual(found["Absent/Out"].special_use, "\\Sent")
        self.assertEqual(found["Absent"].special_use, "")

    async def test_names_are_sorted(self) -> None:
        """INBOX first, then by name."""
        account = await self.open_account()
        for name in ("zeta", "alpha", "INBOX/sub", "ALPHA", "alpha/beta"):
            await account.create(name)
        found = await self.listed(account)
        self.assertEqual(found, ["INBOX", *sorted(set(found) - {"INBOX"})])

    async def test_any_text_is_a_name(self) -> None:
        """Names round trip exactly: wildcards, quotes, other scripts, spaces."""
        account = await self.open_account()
        odd = (
            "%*",
            'a"b\\c',
            "&",
            "Entwürfe",
            "日本/語",
            " lead and trail ",
            "e\u0301",
        )
        for name in odd:
            await account.create(name)
        self.assertLessEqual(set(odd), set(await self.listed(account)))
        for name in odd:
            await account.delete(name)
        self.assertTrue(set(odd).isdisjoint(await self.listed(account)))

    async def test_h22_bad_names(self) -> None:
        """Names with empty levels, control characters, dots that climb, lone
        surrogates, too long or too deep are refused, by CREATE and RENAME, and
        no other method finds them."""
        account = await self.open_account()
        await account.create("good")
        before = await self.listed(account)
        bad = (
            "",
            "/",
            "/abs",
            "a//b",
            "trail/",
            "../../etc",
            "a/./b",
            "nul\0",
            "cr\r",
            "lf\nlf",
            "\x7f",
            "\ud800",
            "x" * 100_000,
            "/".join("x" * 1_000),
        )
        for name in bad:
            await self.refused(errors.BadMailboxName, account.create(name))
            await self.refused(errors.BadMailboxName, account.rename("good", name))
            await self.refused(errors.NoSuchMailbox, account.open(name))
            await self.refused(errors.NoSuchMailbox, account.status(name))
            await self.refused(errors.NoSuchMailbox, account.delete(name))
            await self.refused(errors.NoSuchMailbox, account.rename(name, "new"))
        self.assertEqual(await self.listed(account), before)

    async def test_missing_mailboxes(self) -> None:
        """What does not exist cannot be opened, counted, deleted, renamed,
        appended to or copied to."""
        account, inbox, uids = await self.filled(1)
        gone = "Gone"
        await self.refused(errors.NoSuchMailbox, account.open(gone))
        await self.refused(errors.NoSuchMailbox, account.status(gone))
        await self.refused(errors.NoSuchMailbox, account.delete(gone))
        await self.refused(errors.NoSuchMailbox, account.rename(gone, "New"))
        await self.refused(errors.NoSuchMailbox, appended(account, gone))
        await self.refused(errors.NoSuchMailbox, inbox.copy(uids, gone))
        await self.refused(errors.NoSuchMailbox, inbox.move(uids, gone))
        self.assertEqual((await account.status("INBOX")).messages, 1)
        self.assertNotIn(gone, await self.listed(account))

    async def test_delete(self) -> None:
        """A deleted mailbox is gone with its messages; who has it open learns
        by NoSuchMailbox."""
        account = await self.open_account()
        await account.create("Gone")
        uid = (await appended(account, "Gone")).uid
        opened = await account.open("Gone")
        await account.delete("Gone")
        self.assertNotIn("Gone", await self.listed(account))
        await self.refused(errors.NoSuchMailbox, account.open("Gone"))
        none: frozenset[Part] = frozenset()
        await self.refused(errors.NoSuchMailbox, opened.changes())
        await self.refused(errors.NoSuchMailbox, opened.claim_recent())
        await self.refused(errors.NoSuchMailbox, opened.recent())
        await self.refused(errors.NoSuchMailbox, opened.fetch([uid], none))
        await self.refused(errors.NoSuchMailbox, opened.content(uid))
        await self.refused(
            errors.NoSuchMailbox, opened.store([uid], FlagChange.ADD, SEEN)
        )
        await self.refused(errors.NoSuchMailbox, opened.copy([uid], "INBOX"))
        await self.refused(errors.NoSuchMailbox, opened.move([uid], "INBOX"))
        await self.refused(errors.NoSuchMailbox, opened.expunge([uid]))

    async def test_delete_only_leaves(self) -> None:
        """A mailbox with inferiors stays, and INBOX always stays."""
        account = await self.open_account()
        await account.create("a/b")
        await self.refused(errors.MailboxHasChildren, account.delete("a"))
        await self.refused(errors.NotPermitted, account.delete("inbox"))
        await account.delete("a/b")
        await account.delete("a")
        self.assertNotIn("a", await self.listed(account))

    async def test_similar_names_are_no_inferiors(self) -> None:
        """Only the separator makes an inferior: ab, a%, and a_ are none of a."""
        account = await self.open_account()
        for name in ("a", "ab", "a%", "a_/x", "A/b"):
            await account.create(name)
        await account.rename("a", "z")
        found = set(await self.listed(account))
        self.assertLessEqual({"z", "ab", "a%", "a_", "a_/x", "A", "A/b"}, found)
        await account.delete("z")

    async def test_recreated_mailbox_has_a_larger_uidvalidity(self) -> None:
        """A mailbox made anew under an old name cannot be taken for the old one
        (RFC 3501 2.3.1.1)."""
        account = await self.open_account()
        seen: list[tuple[int, int]] = []
        for _ in range(3):
            made = await account.create("Again")
            opened = await account.open("Again")
            self.assertNotIn((opened.uidvalidity, made.id), seen)
            if seen:
                self.assertGreater(opened.uidvalidity, seen[-1][0])
            self.assertEqual(
                opened.uidvalidity, (await account.status("Again")).uidvalidity
            )
            seen.append((opened.uidvalidity, made.id))
            await account.delete("Again")

    async def test_rename(self) -> None:
        """A renamed mailbox keeps its id, messages and UIDs, and takes its
        inferiors along; levels above the new name are made."""
        account = await self.open_account()
        await account.create("old/inner/deep")
        put = await appended(account, "old/inner")
        id = await self.id_of(account, "old/inner")
        await account.rename("old", "new/place")
        found = set(await self.listed(account))
        self.assertLessEqual(
            {"new", "new/place", "new/place/inner", "new/place/inner/deep"}, found
        )
        self.assertNotIn("old", found)
        self.assertNotIn("old/inner", found)
        moved = await account.open("new/place/inner")
        self.assertEqual(moved.id, id)
        self.assertEqual(uids_of(await moved.changes()), [put.uid])

    async def test_rename_keeps_who_has_it_open(self) -> None:
        """An open mailbox may be worked on after it was renamed."""
        account = await self.open_account()
        await account.create("old")
        opened = await account.open("old")
        put = await appended(account, "old")
        await account.rename("old", "new")
        await opened.store([put.uid], FlagChange.ADD, SEEN)
        found = await message(await account.open("new"), put.uid)
        self.assertEqual(found.flags, SEEN)

    async def test_rename_refusals(self) -> None:
        """Neither onto a mailbox that exists nor into itself."""
        account = await self.open_account()
        await account.create("a/b")
        await account.create("c")
        before = await self.listed(account)
        await self.refused(errors.MailboxExists, account.rename("a", "c"))
        await self.refused(errors.MailboxExists, account.rename("a", "a"))
        await self.refused(errors.MailboxExists, account.rename("a", "Inbox"))
        await self.refused(errors.BadMailboxName, account.rename("a", "a/x/y"))
        self.assertEqual(await self.listed(account), before)

    async def test_rename_inbox(self) -> None:
        """Renaming INBOX moves its messages and leaves INBOX empty, its
        inferiors unaffected (RFC 3501 6.3.5)."""
        account, inbox, uids = await self.filled(2)
        await account.create("INBOX/sub")
        await inbox.store(uids[:1], FlagChange.ADD, SEEN)
        since = (await inbox.changes()).modseq
        await account.rename("inbox", "Kept/Old")
        found = await self.listed(account)
        self.assertLessEqual({"INBOX", "INBOX/sub", "Kept", "Kept/Old"}, set(found))
        self.assertNotIn("Kept/Old/sub", found)
        self.assertEqual((await account.status("INBOX")).messages, 0)
        kept = await account.status("Kept/Old")
        self.assertEqual((kept.messages, kept.unseen), (2, 1))
        self.assertEqual(list((await inbox.changes(since)).vanished), uids)
        self.assertGreater((await appended(account)).uid, uids[-1])
        moved = await account.open("Kept/Old")
        (first, second) = (await moved.changes()).rows
        self.assertEqual((first.flags, second.flags), (SEEN, NO_FLAGS))

    async def test_subscriptions(self) -> None:
        """Subscribing shows in both listings, is no error twice, and needs no
        mailbox."""
        account = await self.open_account()
        await account.create("Here")
        for name in ("Here", "Here", "Nowhere/at/all", "inbox"):
            await account.subscribe(name)
        found = await account.subscriptions()
        self.assertEqual(sorted(found), ["Here", "INBOX", "Nowhere/at/all"])
        marked = [each.name for each in await account.mailboxes() if each.subscribed]
        self.assertEqual(sorted(marked), ["Here", "INBOX"])
        for name in ("Here", "Here", "Inbox", "never was"):
            await account.unsubscribe(name)
        self.assertEqual(list(await account.subscriptions()), ["Nowhere/at/all"])

    async def test_subscriptions_survive_delete(self) -> None:
        """RFC 3501 6.3.4 and 6.3.6: the name stays subscribed."""
        account = await self.open_account()
        await account.create("Gone")
        await account.subscribe("Gone")
        await account.delete("Gone")
        self.assertEqual(list(await account.subscriptions()), ["Gone"])
        made = await account.create("Gone")
        self.assertTrue(made.subscribed)

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

    async def octets(self, mailbox: IMailbox, uid: int) -> bytes:
        """A message whole, by content, and compared with what fetch gives."""
        prefix, content = await mailbox.content(uid)
        whole = prefix + await read_all(content)
        found = await message(mailbox, uid, Part.OCTETS)
        self.assertEqual(found.size, len(whole))
        if found.octets is not None:
            self.assertEqual(found.octets, whole)
            self.assertEqual(found.prefix, len(prefix))
        return whole

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

    # --- UIDs, modseqs, changes ---

    async def test_uids_only_grow(self) -> None:
        """No UID is given twice, not even that of the last message after it is
        expunged or moved away."""
        account = await self.open_account()
        await account.create("Box")
        inbox = await account.open("INBOX")
        given: list[int] = []
        for turn in range(6):
            status = await account.status("INBOX")
            put = await appended(account)
            self.assertGreaterEqual(put.uid, status.uidnext)
            self.assertTrue(all(put.uid > uid for uid in given))
            given.append(put.uid)
            if turn % 3 == 1:
                await inbox.expunge([put.uid])
            if turn % 3 == 2:
                await inbox.move([put.uid], "Box")
            self.assertGreater((await inbox.changes()).uidnext, put.uid)

    async def test_changes_from_zero(self) -> None:
        """changes(0) is all that is there, by UID, and nothing that is gone."""
        account, inbox, uids = await self.filled(3)
        await inbox.store(uids[:1], FlagChange.ADD, SEEN)
        await inbox.expunge(uids[1:2])
        changes = await inbox.changes(0)
        self.assertEqual(uids_of(changes), [uids[0], uids[2]])
        self.assertEqual(list(changes.vanished), [])
        self.assertEqual([row.flags for row in changes.rows], [SEEN, NO_FLAGS])
        self.assertEqual([row.size for row in changes.rows], [len(PLAIN)] * 2)
        self.assertEqual(changes.uidnext, (await account.status("INBOX")).uidnext)

    async def test_changes_since(self) -> None:
        """Since a modseq there is exactly what happened: new, changed, gone."""
        account, inbox, uids = await self.filled(4)
        since = (await inbox.changes()).modseq
        quiet = await inbox.changes(since)
        self.assertEqual((uids_of(quiet), list(quiet.vanished)), ([], []))
        await inbox.store([uids[2]], FlagChange.ADD, SEEN)
        await inbox.expunge([uids[3], uids[0]])
        new = (await appended(account)).uid
        news = await inbox.changes(since)
        self.assertEqual(uids_of(news), [uids[2], new])
        self.assertEqual(list(news.vanished), [uids[0], uids[3]])
        self.assertGreater(news.modseq, since)
        self.assertTrue(all(since < row.modseq <= news.modseq for row in news.rows))
        again = await inbox.changes(news.modseq)
        self.assertEqual((uids_of(again), list(again.vanished)), ([], []))

    async def test_a_message_may_come_and_go_between_two_questions(self) -> None:
        """What was appended and expunged since is not among the rows."""
        account, inbox, _ = await self.filled(1)
        since = (await inbox.changes()).modseq
        put = await appended(account)
        await inbox.expunge([put.uid])
        news = await inbox.changes(since)
        self.assertEqual(uids_of(news), [])
        self.assertLessEqual(set(news.vanished), {put.uid})
        self.assertGreater(news.uidnext, put.uid)

    async def test_modseq_of_messages(self) -> None:
        """A change of flags raises a message's modseq; flags that stay as they
        were do not, and other messages keep theirs."""
        _, inbox, uids = await self.filled(2)
        before = {row.uid: row.modseq for row in (await inbox.changes()).rows}
        await inbox.store(uids[:1], FlagChange.ADD, SEEN)
        after = {row.uid: row.modseq for row in (await inbox.changes()).rows}
        self.assertGreater(after[uids[0]], max(before.values()))
        self.assertEqual(after[uids[1]], before[uids[1]])
        await inbox.store(uids[:1], FlagChange.ADD, SEEN)
        await inbox.store(uids[:1], FlagChange.REPLACE, SEEN)
        await inbox.store(uids[:1], FlagChange.REMOVE, frozenset({"\\Draft"}))
        still = {row.uid: row.modseq for row in (await inbox.changes()).rows}
        self.assertEqual(still, after)
        found = await message(inbox, uids[0])
        self.assertEqual(found.modseq, after[uids[0]])

    async def test_highest_modseq(self) -> None:
        """Every change raises the mailbox's highest modseq, which never falls
        and is at least that of each message."""
        account, inbox, uids = await self.filled(2)
        highest = (await account.status("INBOX")).highest_modseq

        async def rises() -> None:
            nonlocal highest
            now = (await account.status("INBOX")).highest_modseq
            self.assertGreater(now, highest)
            changes = await inbox.changes()
            self.assertTrue(all(row.modseq <= now for row in changes.rows))
            highest = now

        await inbox.store(uids, FlagChange.ADD, SEEN)
        await rises()
        await inbox.expunge(uids[:1])
        await rises()
        await appended(account)
        await rises()
        await inbox.copy(uids[1:], "INBOX")
        await rises()

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

    # --- \Recent ---

    async def test_claim_recent(self) -> None:
        """Each message is recent to one session: who claims first."""
        account, inbox, uids = await self.filled(2)
        self.assertEqual((await account.status("INBOX")).recent, 2)
        self.assertEqual(await inbox.recent(), uids[0])
        self.assertEqual(await inbox.claim_recent(), uids[0])
        self.assertEqual((await account.status("INBOX")).recent, 0)
        other = await account.open("INBOX")
        self.assertGreater(await other.claim_recent(), uids[1])
        new = (await appended(account)).uid
        self.assertEqual((await account.status("INBOX")).recent, 1)
        lowest = await other.recent()
        self.assertTrue(uids[1] < lowest <= new)
        self.assertEqual(await inbox.claim_recent(), lowest)
        self.assertGreater(await other.claim_recent(), new)

    async def test_copies_are_recent(self) -> None:
        """What COPY puts into a mailbox is recent there (RFC 3501 6.4.7)."""
        account, inbox, uids = await self.filled(2)
        await account.create("Box")
        await inbox.copy(uids, "Box")
        self.assertEqual((await account.status("Box")).recent, 2)

    # --- copying, moving, expunging ---

    async def test_copy(self) -> None:
        """Copies keep flags, date, octets; the originals stay."""
        account, inbox, uids = await self.filled(1)
        flags = frozenset({"\\Seen", "kept"})
        put = await appended(account, "INBOX", MULTIPART, flags, 77.0)
        await account.create("Box")
        copied = await inbox.copy([put.uid, uids[0], 424_242], "Box")
        self.assertEqual([pair[0] for pair in copied.pairs], [uids[0], put.uid])
        there = [pair[1] for pair in copied.pairs]
        self.assertEqual(there, sorted(set(there)))
        box = await account.open("Box")
        self.assertEqual(copied.uidvalidity, box.uidvalidity)
        found = await message(box, there[1], *Part)
        original = await message(inbox, put.uid, *Part)
        self.assertEqual(found.flags, flags)
        self.assertEqual(found.received_at, 77.0)
        self.assertEqual(found.octets, MULTIPART)
        self.assertEqual(found.envelope, original.envelope)
        self.assertEqual((await account.status("INBOX")).messages, 2)

    async def test_copy_into_itself(self) -> None:
        """A mailbox may be the target of its own copies."""
        account, inbox, uids = await self.filled(2)
        copied = await inbox.copy(uids, "INBOX")
        self.assertEqual([pair[0] for pair in copied.pairs], uids)
        self.assertTrue(all(pair[1] > uids[1] for pair in copied.pairs))
        self.assertEqual((await account.status("INBOX")).messages, 4)

    async def test_copies_are_independent(self) -> None:
        """Flags, and expunging, of one do not touch the other."""
        account, inbox, uids = await self.filled(1)
        await account.create("Box")
        copied = await inbox.copy(uids, "Box")
        box, there = await account.open("Box"), copied.pairs[0][1]
        await inbox.store(uids, FlagChange.ADD, SEEN)
        self.assertEqual((await message(box, there)).flags, NO_FLAGS)
        await inbox.expunge(uids)
        self.assertEqual(await self.octets(box, there), PLAIN)

    async def test_copying_nothing(self) -> None:
        """Nothing to copy is no error."""
        account, inbox, uids = await self.filled(1)
        await account.create("Box")
        await inbox.expunge(uids)
        self.assertEqual(list((await inbox.copy(uids, "Box")).pairs), [])
        self.assertEqual(list((await inbox.move([], "Box")).pairs), [])
        self.assertEqual((await account.status("Box")).messages, 0)

    async def test_move(self) -> None:
        """Moving is a copy there and an expunge here, as one."""
        account, inbox, uids = await self.filled(3)
        await inbox.store(uids[:1], FlagChange.ADD, SEEN)
        await account.create("Box")
        since = (await inbox.changes()).modseq
        moved = await inbox.move([uids[2], uids[0]], "Box")
        self.assertEqual([pair[0] for pair in moved.pairs], [uids[0], uids[2]])
        news = await inbox.changes(since)
        self.assertEqual(list(news.vanished), [uids[0], uids[2]])
        self.assertEqual(uids_of(news), [])
        box = await account.open("Box")
        rows = (await box.changes()).rows
        self.assertEqual([row.uid for row in rows], [pair[1] for pair in moved.pairs])
        self.assertEqual([row.flags for row in rows], [SEEN, NO_FLAGS])
        self.assertEqual(await self.octets(box, rows[0].uid), PLAIN)

    async def test_move_into_itself(self) -> None:
        """A message moved to where it is gets a new UID."""
        _, inbox, uids = await self.filled(2)
        moved = await inbox.move(uids[:1], "INBOX")
        new = moved.pairs[0][1]
        self.assertGreater(new, uids[1])
        self.assertEqual(uids_of(await inbox.changes()), [uids[1], new])

    async def test_expunge(self) -> None:
        """Expunging takes what it is told to, whatever the flags, once."""
        account, inbox, uids = await self.filled(3)
        asked = [uids[2], uids[0], 31_337]
        self.assertEqual(list(await inbox.expunge(asked)), [uids[0], uids[2]])
        self.assertEqual(list(await inbox.expunge(asked)), [])
        self.assertEqual(list(await inbox.expunge([])), [])
        self.assertEqual(uids_of(await inbox.changes()), [uids[1]])
        self.assertEqual((await account.status("INBOX")).messages, 1)

    async def test_many_uids(self) -> None:
        """Thousands of UIDs at once are no special case."""
        account, inbox, uids = await self.filled(1)
        await account.create("Box")
        asked = range(1, 5_000)
        self.assertEqual(len(await inbox.fetch(asked, frozenset())), 1)
        await inbox.store(asked, FlagChange.ADD, SEEN)
        self.assertEqual([p[0] for p in (await inbox.copy(asked, "Box")).pairs], uids)
        self.assertEqual(list(await inbox.expunge(asked)), uids)

    # --- who watches ---

    async def test_watchers_are_hinted(self) -> None:
        """Whoever watches a mailbox learns of every kind of change another
        makes, and then finds it by changes()."""
        account, inbox, uids = await self.filled(2)
        watching = await account.open("INBOX")
        await account.create("Box")
        box = await account.open("Box")
        other = (await appended(account, "Box")).uid
        changes: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: inbox.store(uids, FlagChange.ADD, SEEN),
            lambda: appended(account),
            lambda: inbox.copy(uids, "INBOX"),
            lambda: box.copy([other], "INBOX"),
            lambda: box.move([other], "INBOX"),
            lambda: inbox.expunge(uids[:1]),
            lambda: inbox.move(uids[1:], "Box"),
            lambda: account.rename("INBOX", "Elsewhere"),
        )
        since = (await watching.changes()).modseq
        for change in changes:
            hinted: Deferred[None] = Deferred()
            cancel = watching.watch(lambda hinted=hinted: _fire(hinted))  # type: ignore[misc]
            await change()
            await hinted
            cancel()
            news = await watching.changes(since)
            self.assertTrue(news.rows or news.vanished)
            since = news.modseq

    async def test_a_cancelled_watch_is_silent(self) -> None:
        """After cancel there is no call; other watches of the same callback
        go on; cancel may be repeated."""
        account, inbox, _ = await self.filled(1)
        called: list[str] = []
        cancel = inbox.watch(lambda: called.append("cancelled"))
        hinted: Deferred[None] = Deferred()
        other = (await account.open("INBOX")).watch(lambda: _fire(hinted))
        cancel()
        cancel()
        await appended(account)
        await hinted
        other()
        self.assertEqual(called, [])

    async def test_sessions_do_not_lose_each_others_changes(self) -> None:
        """Operations that run at the same time all take effect, and their UIDs
        differ."""
        account, inbox, uids = await self.filled(2)
        await account.create("Box")
        pending = [Deferred.fromCoroutine(appended(account)) for _ in range(5)]
        flags = [frozenset({f"word{number}"}) for number in range(5)]
        running = [_running(inbox.store(uids, FlagChange.ADD, each)) for each in flags]
        given = [(await each).uid for each in pending]
        for each in running:
            await each
        self.assertEqual(len(set(given)), 5)
        self.assertEqual(uids_of(await inbox.changes()), sorted([*uids, *given]))
        found = await message(inbox, uids[0])
        self.assertEqual(found.flags, frozenset().union(*flags))

    async def test_a_message_goes_to_one_of_two_movers(self) -> None:
        """Two that move the same messages do not multiply them."""
        account, inbox, uids = await self.filled(3)
        await account.create("A")
        await account.create("B")
        one, two = _running(inbox.move(uids, "A")), _running(inbox.move(uids, "B"))
        pairs = [*(await one).pairs, *(await two).pairs]
        self.assertEqual(sorted(pair[0] for pair in pairs), uids)
        counts = [(await account.status(name)).messages for name in ("INBOX", "A", "B")]
        self.assertEqual((counts[0], sum(counts)), (0, 3))


def _fire(deferred: Deferred[None]) -> None:
    if not deferred.called:
        deferred.callback(None)


def _running(awaited: Awaitable[T]) -> Deferred[T]:
    """Start what was called, coroutine or Deferred, without waiting for it."""
    if isinstance(awaited, Deferred):
        return awaited
    return Deferred.fromCoroutine(cast(Coroutine[Any, Any, T], awaited))
