"""The native store keeps the contract of mailbox backends, and its own promises."""

import unittest
from itertools import pairwise
from pathlib import Path

from hypothesis import given, strategies
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from twisted_mta.errors import NoSuchAccount, NoSuchMailbox, TooMany
from twisted_mta.interfaces import (
    IContentWriter,
    IMailStore,
    ITransaction,
    ITransactionalDelivery,
)
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.mail import flag
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address
from twisted_mta.mail.placement import FlagChange, Part
from twisted_mta.mail.summary import Email, summarize
from twisted_mta.store import native_account, native_rows
from twisted_mta.store.native import SPECIAL, NativeStore
from twisted_mta.testing.store_contract import (
    PLAIN,
    StoreContract,
    appended,
    message,
)

ALICE = Account(1, Address("alice", "example.test"))
BOB = Account(2, Address("bob", "example.test"))

PREFIX = b"Return-Path: <x@example.test>\r\nReceived: from a by b; now\r\n"
BODY = b"A short body.\r\n"


def add_account(transaction: ITransaction, account: Account) -> None:
    """A row as the directory makes it."""
    transaction.execute(
        "INSERT INTO account (id, address, address_key, password, created_at, modseq)"
        " VALUES (?, ?, ?, '', 0, 0)",
        (account.id, str(account.address), account.address.key),
    )


class NativeCase(TestCase):
    """A store on a ledger in a new directory."""

    async def store(self) -> NativeStore:
        """Both accounts exist. What the test leaves has to be sound."""
        self.directory = Path(self.mktemp())
        self.ledger = Ledger(reactor, self.directory)
        await self.ledger.open()
        self.addCleanup(self.ledger.close)
        self.addCleanup(self.is_sound)
        for account in (ALICE, BOB):
            await self.ledger.write(lambda t, account=account: add_account(t, account))
        return NativeStore(self.ledger)

    async def is_sound(self) -> None:
        """Counts, references and files are right."""
        self.assertEqual(await self.ledger.problems(), [])


class ContractTests(StoreContract, NativeCase):
    """L{StoreContract}, the ledger's integrity checked after each test."""

    async def build(self) -> tuple[IMailStore, Account, Account]:
        return await self.store(), ALICE, BOB


def an_email(
    transaction: ITransaction, content: IContentWriter, prefix: bytes
) -> Email:
    """Taken content as an email."""
    return Email(
        content=content.take(transaction),
        prefix=prefix,
        size=len(prefix) + content.size,
        received_at=123.0,
        summary=summarize(prefix, content.header(), content.structure()),
    )


class DeliveryTests(NativeCase):
    """Mail that comes into an INBOX with the transaction that accepts it."""

    async def deliver(
        self,
        store: NativeStore,
        octets: bytes,
        *accounts: Account,
        quarantined: bool = False,
    ) -> None:
        """One message, one transaction."""
        content = self.ledger.content()
        content.write(octets)
        await content.finish()

        def unit(transaction: ITransaction) -> None:
            email = an_email(transaction, content, PREFIX)
            if quarantined:
                email = email._replace(special_use="\\Junk")
            store.deliver(transaction, [(account.id, email) for account in accounts])

        try:
            await self.ledger.write(unit)
        finally:
            content.abort()

    async def count(self, table: str) -> int:
        """How many rows there are."""
        ((count,),) = await self.ledger.read(
            lambda t: list(t.execute(f"SELECT COUNT(*) FROM {table}"))
        )
        return int(count)

    async def test_provides_the_interface(self) -> None:
        """By signature too."""
        verifyObject(ITransactionalDelivery, await self.store())

    async def test_an_account_that_never_logged_in(self) -> None:
        """Its INBOX is made, and the message is there, prefix first."""
        store = await self.store()
        await self.deliver(store, PLAIN, ALICE)
        inbox = await (await store.account(ALICE)).open("INBOX")
        found = await message(inbox, 1, *Part)
        self.assertEqual(found.octets, PREFIX + PLAIN)
        self.assertEqual(found.prefix, len(PREFIX))
        self.assertEqual(found.header, PREFIX + PLAIN[: -len(BODY)])
        self.assertEqual((found.received_at, found.flags), (123.0, frozenset()))
        self.assertEqual((await inbox.content(1))[0], PREFIX)

    async def test_quarantined(self) -> None:
        """What policies want to be kept apart is in the mailbox for junk, whatever
        that is called; in INBOX if there is none. What comes with it is not."""
        store = await self.store()
        account = await store.account(ALICE)
        await self.deliver(store, PLAIN, ALICE, quarantined=True)
        self.assertEqual((await account.status("INBOX")).messages, 1)
        await account.create("Spam", "\\Junk")
        await self.deliver(store, PLAIN, ALICE, quarantined=True)
        await self.deliver(store, PLAIN, ALICE)
        self.assertEqual((await account.status("INBOX")).messages, 2)
        spam = await account.open("Spam")
        self.assertEqual((await message(spam, 1, *Part)).octets, PREFIX + PLAIN)
        self.assertEqual((await account.status("Spam")).messages, 1)

    async def test_content_is_kept_once(self) -> None:
        """Two accounts, one content; it goes with the last of them."""
        store = await self.store()
        await self.deliver(store, PLAIN, ALICE, BOB)
        self.assertEqual(
            (await self.count("content"), await self.count("email")), (1, 2)
        )
        for account, left in ((ALICE, 1), (BOB, 0)):
            inbox = await (await store.account(account)).open("INBOX")
            await inbox.expunge([1])
            await self.ledger.collect()
            self.assertEqual(await self.count("content"), left)

    async def test_an_account_that_was_removed(self) -> None:
        """Nothing is kept, for nobody."""
        store = await self.store()
        gone = Account(99, Address("gone", "example.test"))
        with self.assertRaises(NoSuchAccount):
            await self.deliver(store, PLAIN, ALICE, gone)
        self.assertEqual(
            (await self.count("content"), await self.count("email")), (0, 0)
        )
        with self.assertRaises(NoSuchAccount):
            await store.account(gone)

    async def test_watchers_are_hinted(self) -> None:
        """Who idles in an INBOX learns of it."""
        store = await self.store()
        inbox = await (await store.account(ALICE)).open("INBOX")
        hinted: Deferred[None] = Deferred()
        cancel = inbox.watch(lambda: hinted.callback(None))
        await self.deliver(store, PLAIN, ALICE)
        await hinted
        cancel()

    async def test_uids_grow_in_order_of_acceptance(self) -> None:
        """Also among messages that one commit accepts."""
        store = await self.store()
        await gatherResults(
            [
                Deferred.fromCoroutine(
                    self.deliver(store, b"Subject: %d\r\n\r\n" % turn, ALICE)
                )
                for turn in range(30)
            ]
        )
        inbox = await (await store.account(ALICE)).open("INBOX")
        found = await inbox.fetch(range(1, 100), frozenset({Part.HEADER}))
        self.assertEqual([each.uid for each in found], list(range(1, 31)))

    async def test_the_header_of_a_large_message(self) -> None:
        """It is read from the file, without its body."""
        store = await self.store()
        header = b"Subject: large\r\n" + b"X-Long: line\r\n" * 9_000 + b"\r\n"
        await self.deliver(store, header + b"x" * 200_000, ALICE)
        inbox = await (await store.account(ALICE)).open("INBOX")
        found = await message(inbox, 1, Part.HEADER, Part.OCTETS)
        self.assertEqual(found.header, PREFIX + header)
        self.assertIsNone(found.octets)
        self.assertEqual(found.prefix, len(PREFIX))


class AccountTests(NativeCase):
    """Accounts come and go."""

    async def test_provision(self) -> None:
        """A new account has an INBOX and the special mailboxes, and is
        subscribed to them."""
        store = await self.store()
        await self.ledger.write(lambda t: store.provision(t, ALICE.id))
        account = await store.account(ALICE)
        found = {info.name: info.special_use for info in await account.mailboxes()}
        self.assertEqual(found, {"INBOX": "", **dict(SPECIAL)})
        self.assertEqual(list(await account.subscriptions()), list(found))

    async def test_discard(self) -> None:
        """A removed account takes all it had along, content too, and nothing
        of another's."""
        store = await self.store()
        for each in (ALICE, BOB):
            account = await store.account(each)
            put = await appended(account, flags=frozenset({"word"}))
            inbox = await account.open("INBOX")
            await inbox.copy([put.uid], "INBOX")
            await inbox.expunge([put.uid])
            await account.subscribe("INBOX")
        opened = await (await store.account(ALICE)).open("INBOX")

        def remove(transaction: ITransaction) -> None:
            store.discard(transaction, ALICE.id)
            transaction.execute("DELETE FROM account WHERE id = ?", (ALICE.id,))

        await self.ledger.write(remove)
        await self.ledger.collect()
        for table, left in (
            ("mailbox", 1),
            ("placement", 1),
            ("vanished", 1),
            ("keyword", 1),
            ("subscription", 1),
            ("email", 1),
            ("content", 1),
        ):
            ((count,),) = await self.ledger.read(
                lambda t, table=table: list(t.execute(f"SELECT COUNT(*) FROM {table}"))
            )
            self.assertEqual(count, left, table)
        with self.assertRaises(NoSuchMailbox):
            await opened.changes()

    async def test_mailboxes_come_to_an_end(self) -> None:
        """Mailboxes and subscriptions past their limit are refused."""
        self.patch(native_account, "MAX_MAILBOXES", 3)
        account = await (await self.store()).account(ALICE)
        await account.create("a/b")
        with self.assertRaises(TooMany):
            await account.create("c")
        for name in ("a", "b", "c"):
            await account.subscribe(name)
        await account.subscribe("a")
        with self.assertRaises(TooMany):
            await account.subscribe("d")

    async def test_two_processes(self) -> None:
        """What one process does, another sees at once."""
        store = await self.store()
        other = Ledger(reactor, self.directory)
        await other.open()
        self.addCleanup(other.close)
        here = await store.account(ALICE)
        there = await NativeStore(other).account(ALICE)
        put = await appended(here)
        inbox = await there.open("INBOX")
        await inbox.store([put.uid], FlagChange.ADD, frozenset({"\\Seen"}))
        self.assertEqual((await here.status("INBOX")).unseen, 0)
        self.assertEqual((await appended(there)).uid, put.uid + 1)


class ManyTests(NativeCase):
    """Many messages at once, where statements are for ranges of them and changes
    are read in a thread."""

    async def test_many_changes(self) -> None:
        """Few changes and many are told alike: what is new, what has become of
        flags, what is gone; and the counts stay right."""
        account = await (await self.store()).account(ALICE)
        await gatherResults(
            [Deferred.fromCoroutine(appended(account)) for _ in range(450)]
        )
        inbox = await account.open("INBOX")
        everything = await inbox.changes(0)
        uids = [row.uid for row in everything.rows]
        self.assertEqual(uids, list(range(1, 451)))
        seen, odd = frozenset({flag.SEEN}), frozenset({"odd"})
        for some in (uids[::2], uids[:3], uids):
            before = (await inbox.changes(0)).modseq
            await inbox.store(some, FlagChange.ADD, odd)
            await inbox.store(some, FlagChange.ADD, seen)
            changed = await inbox.changes(before)
            known = await inbox.changes(0)
            self.assertTrue({row.uid for row in changed.rows} <= set(some))
            after = {row.uid: row.flags for row in known.rows}
            self.assertTrue(all(after[uid] == seen | odd for uid in some))
            for row in changed.rows:
                self.assertEqual(row.flags, after[row.uid])
        self.assertEqual((await account.status("INBOX")).unseen, 0)
        before = (await inbox.changes(0)).modseq
        # Nothing has changed: no message gets a modseq.
        await inbox.store(uids, FlagChange.ADD, seen)
        self.assertEqual((await inbox.changes(before)).rows, ())
        for gone in (uids[5:8], uids[100:400]):
            before = (await inbox.changes(0)).modseq
            self.assertEqual(list(await inbox.expunge(gone)), gone)
            self.assertEqual(list((await inbox.changes(before)).vanished), gone)
        left = [uid for uid in uids if not 5 < uid <= 8 and not 100 < uid <= 400]
        self.assertEqual([row.uid for row in (await inbox.changes(0)).rows], left)
        self.assertEqual((await account.status("INBOX")).messages, len(left))


class KeywordTests(NativeCase):
    """Keywords are few, but make room again."""

    async def test_unused_keywords_make_room(self) -> None:
        """What no message has any more does not count."""
        account = await (await self.store()).account(ALICE)
        put = await appended(account)
        inbox = await account.open("INBOX")
        for turn in range(4):
            words = frozenset(f"word-{turn}-{number}" for number in range(100))
            await inbox.store([put.uid], FlagChange.REPLACE, words)
        self.assertEqual((await message(inbox, put.uid)).flags, words)

    async def test_refused_keywords_leave_nothing(self) -> None:
        """By STORE, APPEND and COPY alike."""
        account = await (await self.store()).account(ALICE)
        await account.create("Box")
        words = frozenset(f"word-{number}" for number in range(100))
        others = frozenset(f"other-{number}" for number in range(100))
        put = await appended(account, flags=words)
        await appended(account, "Box", flags=others)
        inbox = await account.open("INBOX")
        with self.assertRaises(TooMany):
            await inbox.store([put.uid], FlagChange.ADD, others)
        with self.assertRaises(TooMany):
            await inbox.copy([put.uid], "Box")
        with self.assertRaises(TooMany):
            await appended(account, flags=others)
        self.assertEqual((await account.status("Box")).messages, 1)
        self.assertEqual((await account.status("INBOX")).messages, 1)


class SpanTests(unittest.TestCase):
    """Ranges that UIDs are looked up by."""

    @given(
        strategies.sets(strategies.integers(1, 500)),
        strategies.integers(1, 20),
    )
    def test_spans(self, uids: set[int], gap: int) -> None:
        """They hold each UID, are apart by more than the gap, ascend, and
        begin and end with a UID that was asked for."""
        found = list(native_rows.spans(sorted(uids), gap))
        for first, last in found:
            self.assertLessEqual({first, last}, uids)
        held = {uid for first, last in found for uid in range(first, last + 1)}
        self.assertLessEqual(uids, held)
        for (_, last), (first, _) in pairwise(found):
            self.assertGreater(first - last, gap)

    @given(strategies.sets(strategies.sampled_from([*flag.SYSTEM, "a", "$Junk", "b"])))
    def test_flags(self, flags: set[str]) -> None:
        """Flags come back from a row as they were."""
        given = frozenset(flags)
        self.assertEqual(native_rows.unpacked(*native_rows.packed(given)), given)
