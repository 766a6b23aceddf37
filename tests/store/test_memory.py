"""The memory store keeps the contract of mailbox backends."""

from twisted.trial.unittest import TestCase

from twisted_mta.errors import OverQuota, TooMany
from twisted_mta.interfaces import IMailStore
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address
from twisted_mta.mail.placement import Part
from twisted_mta.store import memory, memory_box
from twisted_mta.testing.store_contract import (
    PLAIN,
    StoreContract,
    appended,
    message,
)

ALICE = Account(1, Address("alice", "example.test"))
BOB = Account(2, Address("bob", "example.test"))


class ContractTests(StoreContract, TestCase):
    """L{StoreContract}."""

    async def build(self) -> tuple[IMailStore, Account, Account]:
        return memory.MemoryStore(), ALICE, BOB


class LimitTests(TestCase):
    """What the memory store promises beyond the contract."""

    async def test_over_quota(self) -> None:
        """A message over quota is refused and nothing is stored."""
        store = memory.MemoryStore(quota_octets=len(PLAIN) + 10)
        account = await store.account(ALICE)
        await appended(account)
        with self.assertRaises(OverQuota):
            await appended(account)
        self.assertEqual((await account.status("INBOX")).messages, 1)

    async def test_mailboxes_come_to_an_end(self) -> None:
        """More mailboxes than the limit are refused."""
        self.patch(memory, "MAX_MAILBOXES", 3)
        account = await memory.MemoryStore().account(ALICE)
        await account.create("a")
        await account.create("b")
        with self.assertRaises(TooMany):
            await account.create("c")
        for name in ("a", "b", "c"):
            await account.subscribe(name)
        with self.assertRaises(TooMany):
            await account.subscribe("d")

    async def test_large_messages_are_not_inline(self) -> None:
        """A message as large as a store keeps in a file has no octets in rows,
        so that sessions are tested on both ways."""
        account = await memory.MemoryStore().account(ALICE)
        octets = PLAIN + b"x" * memory_box.INLINE_OCTETS
        put = await appended(account, octets=octets)
        found = await message(await account.open("INBOX"), put.uid, Part.OCTETS)
        self.assertIsNone(found.octets)

    async def test_prefix(self) -> None:
        """Header fields kept before the content are part of the message."""
        account = await memory.MemoryStore().account(ALICE)
        content = account.content()
        content.write(PLAIN)
        await content.finish()
        prefix = b"Return-Path: <a@example.test>\r\n"
        put = await account.append("INBOX", content, frozenset(), 0.0, prefix)
        found = await message(await account.open("INBOX"), put.uid, *Part)
        self.assertEqual(found.octets, prefix + PLAIN)
        self.assertEqual(found.prefix, len(prefix))
        self.assertTrue((found.header or b"").startswith(prefix + b"From:"))
        self.assertEqual(found.size, len(prefix + PLAIN))
