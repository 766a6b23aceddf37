"""The background indexer: what came is indexed, what went leaves the index.

One process of all has custody of the index; the others wait for theirs. A round
looks which accounts have changed, goes through what was placed in them since it
last looked, and indexes the emails that are no documents yet, in small batches with
pauses, so that mail is accepted meanwhile as fast as ever. It reads the ledger in
short queries, so the ledger's log can be restarted.

Documents stay true for ever, since an email never changes and its id is not given
twice. How far an account is indexed holds only while its ledger lives on: one that
was restored from a backup gives the same modseqs to other mail. So whoever takes
custody begins at modseq 0 in every account, which finds nearly all of it indexed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import apsw
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from twisted_mta.errors import MailError
from twisted_mta.interfaces import ILedger
from twisted_mta.ledger.sqlite import translated
from twisted_mta.mail.uidset import LARGEST
from twisted_mta.store import native_rows as rows
from twisted_mta.store.search_file import DAMAGED, Custody, SearchFiles
from twisted_mta.store.search_source import (
    PAGE,
    accounts,
    changed_mailboxes,
    documents,
    email_count,
    emails_between,
    page,
)
from twisted_mta.store.search_text import Document
from twisted_mta.store.search_writer import SearchWriter

if TYPE_CHECKING:
    from twisted.internet.interfaces import (
        IDelayedCall,
        IReactorFromThreads,
        IReactorTime,
    )

    class IReactor(IReactorTime, IReactorFromThreads):
        """What an indexer needs of the reactor."""


T = TypeVar("T")

# Mail that comes within this time is indexed together.
_GATHER_S = 1.0

# A round without a hint: another process' hints may be lost.
_ROUND_S = 30.0

# How often a process that has not the custody asks for it.
_CUSTODY_S = 5.0

# How often emails that are gone are looked for.
_COLLECT_S = 300.0

# Emails that are read at once: with content of 128 KiB at most, some MB.
_BATCH = 50

# Words of documents that gather before they are added, some 400 messages. FTS5
# writes a segment for each transaction and merges them later: in batches of 50 a
# message costs twice as much.
_GATHER_WORDS = 200_000

# After a batch it does nothing for as long as the batch took.
_REST = 1.0


class _Holding:
    """The custody, and what comes with it.

    @ivar progress: up to which modseq each account is indexed.
    """

    __slots__ = ("connection", "custody", "path", "progress", "writer")

    def __init__(
        self, custody: Custody, path: Path, connection: apsw.Connection
    ) -> None:
        self.custody = custody
        self.path = path
        self.connection = connection
        self.writer = SearchWriter(connection)
        self.writer.start_over()
        self.progress: dict[int, int] = self.writer.progress()


class Indexer:
    """The indexer of one process.

    @param directory: of L{SearchFiles}.
    @param rest: how long it does nothing after a batch, in times of the batch.
    """

    log = Logger()

    def __init__(
        self, reactor: IReactor, ledger: ILedger, directory: Path, rest: float = _REST
    ) -> None:
        self._reactor = reactor
        self._ledger = ledger
        self._rest = rest
        self._files = SearchFiles(directory)
        self._pool = ThreadPool(0, 1, "search indexer")
        self._holding: _Holding | None = None
        self._collect_at = 0.0
        self._changed: set[int] = set()  # accounts to be looked at for what went
        self._cancel: Callable[[], None] = lambda: None
        self._running: Deferred[None] | None = None
        self._sleep: tuple[IDelayedCall, Deferred[None]] | None = None
        self._hinted = False
        self._idle = False
        self._stopping = False

    # --- life ---

    def begin(self) -> None:
        """Start the thread; L{round} may be called then. L{start} does it."""
        self._pool.start()

    def start(self) -> None:
        """Begin, in the background."""
        self.begin()
        self._cancel = self._ledger.watch(rows.EMAILS, self._hint)
        self._running = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """End after the batch that is under way, and close the index in order.
        May be repeated."""
        if self._stopping:
            return
        self._stopping = True
        self._cancel()
        self._wake()
        if self._running is not None:
            await self._running
        holding, self._holding = self._holding, None
        if holding is not None:
            await self._in_thread(
                lambda: holding.custody.close(holding.path, holding.connection)
            )
        self._pool.stop()

    def _hint(self) -> None:
        self._hinted = True
        if self._idle:
            self._idle = False
            self._wake()

    async def _run(self) -> None:
        while not self._stopping:
            wait_s = _ROUND_S if await self._try_round() else _CUSTODY_S
            if not self._hinted or self._holding is None:
                self._idle = self._holding is not None
                await self._pause(wait_s)
                self._idle = False
            await self._pause(_GATHER_S)

    async def _try_round(self) -> bool:
        """A round, whatever becomes of it.

        @return: whether this process has the custody.
        """
        try:
            return await self.round()
        except DAMAGED as error:
            self.log.error("search: the index is made anew: {error!r}", error=error)
            self._files.doubt()
        except Exception as error:
            if isinstance(translated(error), MailError):
                self.log.warn("search: indexing goes on later: {error!r}", error=error)
            else:
                self.log.failure("search: indexing goes on later")
        return self._holding is not None

    # --- a round ---

    async def round(self) -> bool:
        """Index all that is not indexed; now and then, collect what went.

        @return: whether this process has the custody.
        """
        self._hinted = False
        if self._holding is None:
            self._holding = await self._in_thread(self._take)
            if self._holding is None:
                return False
            self._collect_at = 0.0
        holding = self._holding
        if holding.custody.doubted() or not holding.path.exists():
            self._holding = None
            await self._in_thread(lambda: _drop(holding))
            return await self.round()
        known = await self._ledger.read(accounts)
        for account, modseq in known.items():
            if holding.progress.get(account, 0) < modseq:
                await self._catch_up(holding, account, modseq)
                self._changed.add(account)
            if self._stopping:
                return True
        now = self._reactor.seconds()
        if now >= self._collect_at:
            self._collect_at = now + _COLLECT_S
            await self.collect()
        return True

    def _take(self) -> _Holding | None:
        custody = self._files.custody()
        if custody is None:
            return None
        try:
            holding = _Holding(custody, *custody.open())
            custody.vouch(holding.path)
        except BaseException:
            custody.give_up()
            raise
        return holding

    async def _catch_up(self, holding: _Holding, account: int, modseq: int) -> None:
        """Index an account's emails that were placed up to a modseq."""
        writer = holding.writer
        since = holding.progress.get(account, 0)
        for mailbox in await self._ledger.read(
            partial(changed_mailboxes, account=account, since=since)
        ):
            at: tuple[int, int] | None = since, LARGEST
            while at is not None and not self._stopping:
                placed = await self._ledger.read(
                    partial(page, account=account, mailbox=mailbox, after=at)
                )
                at = placed[-1][:2] if len(placed) == PAGE else None
                emails = list(dict.fromkeys(email for _, _, email in placed))
                new = await self._in_thread(partial(writer.unknown, account, emails))
                await self._index(writer, account, new)
        if not self._stopping:
            await self._in_thread(lambda: writer.advance(account, modseq))
            holding.progress[account] = modseq

    async def _index(
        self, writer: SearchWriter, account: int, emails: Sequence[int]
    ) -> None:
        """Index emails; those that are gone are passed over."""
        waiting: list[Document] = []
        words = 0
        for at in range(0, len(emails), _BATCH):
            if self._stopping:
                break
            began = time.monotonic()
            some = emails[at : at + _BATCH]
            read = await documents(self._ledger, account, some, self._in_thread)
            waiting += read
            words += sum(map(_word_count, read))
            if words > _GATHER_WORDS:
                await self._in_thread(partial(writer.add, account, waiting))
                waiting, words = [], 0
            await self._pause((time.monotonic() - began) * self._rest)
        if waiting:
            await self._in_thread(partial(writer.add, account, waiting))

    # --- what went ---

    async def collect(self) -> None:
        """Take out what is gone from the ledger. Needs the custody."""
        holding = self._holding
        if holding is None:
            return
        known = await self._ledger.read(accounts)
        for account in [each for each in holding.progress if each not in known]:
            await self._collect(holding.writer, account)
            await self._in_thread(partial(holding.writer.forget, account))
            del holding.progress[account]
        changed, self._changed = self._changed, set()
        for account in changed.intersection(known):
            await self._collect(holding.writer, account)
        await self._sweep(holding.writer)

    async def _collect(self, writer: SearchWriter, account: int) -> None:
        """Take out an account's emails that are gone. Counts say whether any are,
        since what is in the ledger is indexed, or soon will be."""
        there = await self._ledger.read(partial(email_count, account=account))
        if await self._in_thread(lambda: writer.count(account)) <= there:
            return
        after = 0
        while not self._stopping:
            emails = await self._in_thread(
                partial(writer.documents, account, after, PAGE)
            )
            if not emails:
                return
            after = emails[-1]
            kept = await self._ledger.read(
                partial(emails_between, account=account, first=emails[0], last=after)
            )
            gone = [email for email in emails if email not in kept]
            if gone:
                await self._in_thread(partial(writer.remove, account, gone))
                await self._pause(0)

    async def _sweep(self, writer: SearchWriter) -> None:
        """Take out words that are in no document any more."""
        if not await self._in_thread(writer.wants_sweep):
            return
        after = 0
        while not self._stopping:
            began = time.monotonic()
            after = await self._in_thread(partial(writer.sweep, after))
            if not after:
                return
            await self._pause((time.monotonic() - began) * self._rest)

    # --- within ---

    def _in_thread(self, work: Callable[[], T]) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._pool, work)

    async def _pause(self, seconds: float) -> None:
        """Do nothing for a while, less if it shall stop."""
        if self._stopping:
            return
        over: Deferred[None] = Deferred()
        self._sleep = self._reactor.callLater(seconds, self._slept), over
        await over

    def _slept(self) -> None:
        sleep, self._sleep = self._sleep, None
        if sleep is not None:
            sleep[1].callback(None)

    def _wake(self) -> None:
        if self._sleep is not None:
            self._sleep[0].cancel()
            self._slept()


def _drop(holding: _Holding) -> None:
    """Give back the custody of an index that is no good."""
    try:
        holding.connection.close(True)
    finally:
        holding.custody.give_up()


def _word_count(document: Document) -> int:
    return sum(map(len, (document.words or {}).values()))
