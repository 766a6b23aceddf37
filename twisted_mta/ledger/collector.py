"""Content that nobody refers to any more goes, in the background.

Whoever deletes a row that refers to content puts the content into the table
C{released}, in the same transaction. The collector looks whether any other row
refers to it, deletes it if not, and removes its file after the commit: a crash
in between leaves an orphan, which the next start removes. Several processes may
collect at once; each row is deleted by one. While somebody L{holds
<twisted_mta.ledger.hold>} the content, such as a backup, they wait.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_mta.errors import MailError
from twisted_mta.interfaces import ILedger, ITransaction
from twisted_mta.ledger.files import Files
from twisted_mta.ledger.hold import Hold

TOPIC = "released"

# Content rows of one transaction: some milliseconds of the writer's time.
_AT_ONCE = 50

# Somebody who empties a folder releases much within a moment.
_WAIT_S = 1.0

# A backup holds content for some seconds or minutes.
_HELD_S = 5.0

# A disk that fails, or is full, is looked at again.
_TROUBLE_S = 60.0

_Background = Callable[[Callable[[], None]], Deferred[None]]


class Collector:
    """The collector of one process.

    @param hold: who else may need the content to stay.
    @param background: runs what blocks in a thread.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        ledger: ILedger,
        files: Files,
        hold: Hold,
        background: _Background,
    ) -> None:
        self._reactor = reactor
        self._ledger = ledger
        self._files = files
        self._hold = hold
        self._background = background
        self._soon: IDelayedCall | None = None
        self._running: Deferred[None] | None = None
        self._again = False
        self._closing = False
        self._cancel = ledger.watch(TOPIC, self.hint)

    async def close(self) -> None:
        """End what runs; the rest waits for the next start."""
        self._closing = True
        self._cancel()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._running is not None:
            await self._running

    async def collect(self) -> None:
        """Collect all that is released; while it is held, try again later."""
        more = True
        while more and not self._closing:
            with self._hold.removing() as permitted:
                if not permitted:
                    self._look_again(_HELD_S)
                    return
                more, in_files = await self._ledger.write(_collect_some)
                for id in in_files:
                    await self._background(lambda id=id: self._files.remove(id))  # type: ignore[misc]

    def hint(self) -> None:
        if self._running is not None:
            self._again = True
        else:
            self._look_again(_WAIT_S)

    def _look_again(self, wait_s: float) -> None:
        if self._soon is None and not self._closing:
            self._soon = self._reactor.callLater(wait_s, self._start)

    def _start(self) -> None:
        self._soon = None
        self._running = Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        try:
            await self.collect()
        except MailError as error:
            self.log.warn("ledger: content is not collected: {why}", why=error.text)
            self._look_again(_TROUBLE_S)
        except Exception:
            self.log.failure("ledger: content is not collected")
        self._running = None
        if self._again:
            self._again = False
            self.hint()


_SOME = "SELECT content_id FROM released ORDER BY content_id LIMIT ?"
_GONE = (
    f"id IN ({_SOME})"
    " AND NOT EXISTS (SELECT 1 FROM email WHERE content_id = content.id)"
    " AND NOT EXISTS (SELECT 1 FROM queued WHERE content_id = content.id)"
)


def _collect_some(transaction: ITransaction) -> tuple[bool, list[int]]:
    """A unit of work. It has few statements, however many rows: at each of them, and
    at each row that comes back, the writer's thread waits for the interpreter.

    @return: whether there may be more, and the ids of content in files that no
        row names any more.
    """
    some = (_AT_ONCE,)
    in_files = transaction.execute(
        f"SELECT id FROM content WHERE {_GONE} AND octets IS NULL", some
    )
    ids = [id for (id,) in in_files]
    transaction.execute(f"DELETE FROM content WHERE {_GONE}", some)
    count = next(transaction.execute(f"SELECT COUNT(*) FROM ({_SOME})", some))[0]
    transaction.execute(f"DELETE FROM released WHERE content_id IN ({_SOME})", some)
    return count == _AT_ONCE, ids


def release(transaction: ITransaction, content: int) -> None:
    """Within a transaction that deletes a row which refers to content."""
    transaction.execute(
        "INSERT INTO released (content_id) VALUES (?) ON CONFLICT DO NOTHING",
        (content,),
    )
    transaction.changed(TOPIC)
