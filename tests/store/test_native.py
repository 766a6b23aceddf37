"""The native store keeps the contract of mailbox backends, and its own promises."""

from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from twisted_mta.interfaces import IMailStore, ITransaction
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address
from twisted_mta.store.native import NativeStore
from twisted_mta.testing.store_contract import StoreContract

ALICE = Account(1, Address("alice", "example.test"))
BOB = Account(2, Address("bob", "example.test"))


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
        self.ledger = Ledger(reactor, Path(self.mktemp()))
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
