"""A test case with a ledger of its own."""

from collections.abc import Awaitable
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from twisted_mta.interfaces import IContentWriter, ITransaction
from twisted_mta.ledger.ledger import Ledger


class LedgerCase(TestCase):
    """L{ledger} is open, in L{directory}."""

    async def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.ledger = await self.another()
        await self.ledger.write(
            lambda transaction: transaction.execute(
                "CREATE TABLE note (word TEXT PRIMARY KEY)"
            )
        )

    async def another(self) -> Ledger:
        """The same ledger as another process has it."""
        ledger = Ledger(reactor, self.directory)
        await ledger.open()
        self.addCleanup(ledger.close)
        return ledger

    async def words(self) -> list[str]:
        """What was noted."""
        return await self.ledger.read(
            lambda transaction: [
                word
                for (word,) in transaction.execute(
                    "SELECT word FROM note ORDER BY word"
                )
            ]
        )

    async def finished(self, octets: bytes) -> IContentWriter:
        """New content."""
        content = self.ledger.content()
        for at in range(0, len(octets), 10_000):
            content.write(octets[at : at + 10_000])
        await content.finish()
        return content

    def files(self) -> list[Path]:
        """The files of content."""
        return [
            path for path in (self.directory / "content").rglob("*") if path.is_file()
        ]


def note(transaction: ITransaction, word: str) -> str:
    """A unit of work, once its word is bound."""
    transaction.execute("INSERT INTO note (word) VALUES (?)", (word,))
    transaction.changed(f"word:{word}")
    return word


async def outcome(awaited: Awaitable[object]) -> object:
    """What is awaited gives, or the type of what it raises."""
    try:
        return await awaited
    except Exception as error:
        return type(error)
