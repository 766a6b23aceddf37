"""Is the search index right, and how to have it made anew.

For an operator's command, beside a server or while none runs. The index may lag,
and may know emails that are gone; what it says of those that are there has to be
what they say.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import apsw
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from twisted_mta.interfaces import ILedger
from twisted_mta.store.search_file import SearchFiles, connect, damage, rows
from twisted_mta.store.search_source import documents, emails_after, placed_before
from twisted_mta.store.search_text import Document
from twisted_mta.store.search_writer import SearchWriter

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads, IReactorThreads

    class IReactor(IReactorThreads, IReactorFromThreads):
        """What a check needs of the reactor."""


T = TypeVar("T")

# Emails that are compared at once: their contents are in memory.
_AT_ONCE = 50


async def problems(reactor: IReactor, ledger: ILedger, directory: Path) -> list[str]:
    """Compare the index with the ledger; both may be in use. Reads every message.

    @param directory: of L{SearchFiles}.
    @return: what is wrong, a line each; empty if all is well, or if there is no
        index yet.
    """
    files = SearchFiles(directory)
    path = files.newest()
    if path is None:
        return []

    def in_thread(work: Callable[..., T], *values: Any) -> Deferred[T]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), work, *values)

    wrong: list[str] = []
    try:
        check = await in_thread(_Check, path)
        try:
            found = await in_thread(check.look)
            if found is not None:
                return [f"search index {path.name}: {found}"]
            for account, emails in check.batches():
                read = await documents(ledger, account, emails, in_thread)
                wrong += await in_thread(check.compare, account, read)
            if files.vouched() == path:
                wrong += await _left_out(ledger, check, in_thread)
        finally:
            check.close()
    except apsw.Error as error:
        wrong.append(f"search index {path.name}: {error}")
    return wrong


async def rebuild(directory: Path) -> None:
    """Have the index made anew: by the server that runs, within half a minute, or
    by the next one. Nobody uses it until then."""
    SearchFiles(directory).doubt()


async def _left_out(
    ledger: ILedger, check: _Check, in_thread: Callable[..., Awaitable[Any]]
) -> list[str]:
    """Emails that the index claims to have and has not."""
    wrong = []
    for account, modseq in check.progress():
        at = 0
        while emails := await ledger.read(
            partial(emails_after, account=account, at=at)
        ):
            at = emails[-1]
            missing = await in_thread(check.unknown, account, emails)
            early = await ledger.read(
                partial(placed_before, account=account, emails=missing, modseq=modseq)
            )
            wrong += [f"search index: email {email} is left out" for email in early]
    return wrong


class _Check:
    """One state of the index, to be compared. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path)
        self._connection.execute("BEGIN")
        self._writer = SearchWriter(self._connection)
        self._held: dict[int, int] = {}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close(True)

    def look(self) -> str | None:
        """Read the whole file.

        @return: what is wrong with it.
        """
        found = damage(self._connection)
        if found is not None:
            return found
        # A query of all terms; there is none of one document's.
        connection = self._connection
        connection.execute("PRAGMA query_only = OFF")
        connection.execute(
            "CREATE VIRTUAL TABLE temp.held USING fts5vocab(main, posting, instance)"
        )
        held = self._held
        for term, number in connection.execute("SELECT term, doc FROM temp.held"):
            held[number] = held.get(number, 0) + _weight(term)
        return None

    def batches(self) -> Iterator[tuple[int, Sequence[int]]]:
        """Account and some emails, until all documents were had."""
        for account, _ in self.progress():
            at = 0
            while emails := self._writer.documents(account, at, _AT_ONCE):
                at = emails[-1]
                yield account, emails

    def progress(self) -> Iterable[tuple[int, int]]:
        """Up to which modseq accounts are indexed."""
        return self._writer.progress().items()

    def unknown(self, account: int, emails: Sequence[int]) -> list[int]:
        """Those of the emails that are no documents."""
        return self._writer.unknown(account, emails)

    def compare(self, account: int, emails: Sequence[Document]) -> list[str]:
        """What the index says wrongly of emails that are there."""
        return [
            f"search index: email {email.email} says something else"
            for email in emails
            if not self._agrees(account, email)
        ]

    def _agrees(self, account: int, email: Document) -> bool:
        ((number, received, sent, whole),) = rows(
            self._connection,
            "SELECT number, received, sent, whole FROM document"
            " WHERE account = ? AND email = ?",
            account,
            email.email,
        )
        if not whole:
            return True  # it says nothing
        if (received, sent) != (email.received, email.sent) or email.words is None:
            return False
        weight = 0
        for place, words in email.words.items():
            ids = rows(
                self._connection,
                "SELECT printf('%x', w.id) FROM json_each(?)"
                " JOIN word w ON w.text = value",
                json.dumps(list(words)),
            )
            if len(ids) != len(words):
                return False
            weight += sum(_weight(place + id) for (id,) in ids)
        return weight == self._held.get(number, 0)


def _weight(term: str) -> int:
    """What adds up to the same for the same terms, in whatever order."""
    return 1 << 48 | zlib.crc32(term.encode("ascii"))
