"""The search index as sessions ask it: it may say nothing, never wrong.

Queries run in threads of their own, so that a long one keeps nobody from reading
mail. Whatever is wrong with the index, a search goes on without it. It knows no
mailbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

import apsw
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from twisted_mta.mail.criterion import Criterion
from twisted_mta.store.search_file import DAMAGED, SearchFiles, connect
from twisted_mta.store.search_reader import Answers, SearchReader

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

T = TypeVar("T")

# Threads that search at once; each may use a processor.
_SEARCHERS = 2


class SearchIndex:
    """The index of one ledger's mail.

    @param directory: of L{SearchFiles}; it need not be there.
    """

    log = Logger()

    def __init__(self, reactor: IReactorFromThreads, directory: Path) -> None:
        self._reactor = reactor
        self._files = SearchFiles(directory)
        self._pool: ThreadPool | None = None
        self._idle: SimpleQueue[_Open] = SimpleQueue()
        self._closed = False

    async def find(
        self, account: int, criteria: Sequence[Criterion], worth: int
    ) -> tuple[Answers, Path] | None:
        """Ask (L{SearchReader.find}).

        @return: the answers, and which index gave them; C{None}: there are none.
        """

        def query(reader: SearchReader, path: Path) -> tuple[Answers, Path] | None:
            answers = reader.find(account, criteria, worth)
            return None if answers is None else (answers, path)

        return await self._ask(query)

    async def unknown(
        self, account: int, emails: Sequence[int], top: int, path: Path
    ) -> set[int]:
        """Those of the emails that an answer did not take into account.

        @param top: L{Answers.top}.
        @param path: which index gave it; if that is gone, all of them.
        """

        def query(reader: SearchReader, now: Path) -> set[int] | None:
            return reader.unknown(account, emails, top) if now == path else None

        found = await self._ask(query)
        return set(emails) if found is None else found

    async def close(self) -> None:
        """End the threads."""
        self._closed = True
        if self._pool is not None:
            self._pool.stop()
        while not self._idle.empty():
            self._idle.get().reader.close()

    async def _ask(self, query: Callable[[SearchReader, Path], T | None]) -> T | None:
        if self._closed:
            return None
        if self._pool is None:
            # At the first search: an operator's command has none.
            self._pool = ThreadPool(0, _SEARCHERS, "search")
            self._pool.start()
        return await deferToThreadPool(self._reactor, self._pool, self._run, query)

    # --- in a thread ---

    def _run(self, query: Callable[[SearchReader, Path], T | None]) -> T | None:
        opened: _Open | None = None
        try:
            path = self._files.vouched()
            if path is None:
                return None
            opened = self._open(path)
            answer = query(opened.reader, path)
        except (apsw.Error, OSError) as error:
            self.log.warn("search: no answer from the index: {error!r}", error=error)
            if isinstance(error, DAMAGED):
                self._files.doubt()
            if opened is not None:
                opened.reader.close()
            return None
        self._idle.put(opened)
        return answer

    def _open(self, path: Path) -> _Open:
        with suppress(Empty):
            while True:
                opened = self._idle.get_nowait()
                if opened.path == path:
                    return opened
                opened.reader.close()
        return _Open(path, SearchReader(connect(path)))


class _Open:
    """A connection, and to which index."""

    __slots__ = ("path", "reader")

    def __init__(self, path: Path, reader: SearchReader) -> None:
        self.path = path
        self.reader = reader
