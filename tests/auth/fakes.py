"""What the tests of auth share: a ledger, cheap hashes, a clock with threads."""

from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from twisted_mta.auth.directory import LedgerDirectory
from twisted_mta.auth.keyring import Keyring
from twisted_mta.auth.passwords import Cost, Passwords
from twisted_mta.interfaces import ITransaction
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import split

# The least that argon2 takes: what is tested here is not its strength.
CHEAP = Cost(memory_kib=8, passes=1, lanes=1)


class ThreadClock(Clock):
    """A clock that the test moves, with the reactor's way out of threads."""

    def callFromThread(self, call: Any, *arguments: Any, **named: Any) -> None:
        cast(Any, reactor).callFromThread(call, *arguments, **named)


def nothing(transaction: ITransaction, account: int) -> None:
    """No mailboxes to make or remove."""


class DirectoryTestCase(TestCase):
    """With a ledger of its own and an empty directory."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.clock = ThreadClock()
        self.ledger = Ledger(cast(Any, reactor), Path(self.mktemp()))
        await self.ledger.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.ledger.close()))
        self.passwords = Passwords(cast(Any, self.clock), CHEAP)
        self.addCleanup(self.passwords.close)
        self.keyring = Keyring(self.ledger, self.passwords)
        self.directory = LedgerDirectory(
            self.ledger, self.keyring, {"plain.test": "", "dash.test": "-"}
        )

    async def add(self, address: str, password: str = "word") -> Account:
        """A new account."""
        return await self.directory.add_account(split(address), password, nothing)

    async def alias(self, address: str, *targets: str) -> None:
        """A new alias."""
        await self.directory.add_alias(split(address), [*map(split, targets)])
