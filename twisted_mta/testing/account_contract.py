"""The contract of mailbox backends: accounts, and the names of mailboxes."""

from __future__ import annotations

from zope.interface.verify import verifyObject

from twisted_mta import errors
from twisted_mta.interfaces import (
    IAccount,
    IContent,
    IContentWriter,
    IMailbox,
    IMailStore,
)
from twisted_mta.mail.placement import FlagChange, Part
from twisted_mta.testing.store_case import (
    NO_FLAGS,
    SEEN,
    StoreCase,
    appended,
    message,
    uids_of,
)


class AccountContract(StoreCase):
    """L{IMailStore} and L{IAccount}."""

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

    async def test_many(self) -> None:
        """All mailboxes are listed, all subscriptions, and all messages counted that
        nobody was told of, when they are hundreds."""
        account = await self.open_account()
        many = [f"m{number:03}" for number in range(250)]
        for name in many:
            await account.create(name)
            await account.subscribe(name)
            await appended(account, "m000")
        self.assertLessEqual(set(many), set(await self.listed(account)))
        self.assertLessEqual(set(many), set(await account.subscriptions()))
        status = await account.status("m000")
        self.assertEqual((status.messages, status.recent), (250, 250))
        self.assertEqual((await account.status("m001")).recent, 0)

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
        await self.refused(errors.InboxNeeded, account.delete("inbox"))
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
