"""The history of messages goes when it is old, in the background.

Small pieces, each a transaction of some milliseconds, with a rest after each, so that
nobody waits for them: a hundredth of the writer's time. What still waits in the queue
keeps its history, and what is done with keeps it for as long again. One process of a
server does it; if several did, nothing worse would happen than work done twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mta.delivery.alarm import Alarm
from twisted_mta.delivery.rows import of
from twisted_mta.errors import Temporary
from twisted_mta.interfaces import ILedger, ITransaction
from twisted_mta.mail.ids import since

# Messages of one piece: two statements of 10 us for each, and as much for each event.
_AT_ONCE = 100

# After each piece: 4,000 messages a second, which is more than are accepted.
_REST_S = 0.025

# How often it is looked for what has become old.
_LOOK_S = 600.0

# A server that starts has other things to do.
_FIRST_S = 30.0


class Sweep:
    """Sweeps the history of a ledger.

    @param keep_s: how long it is kept.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, ledger: ILedger, keep_s: float) -> None:
        self._clock = clock
        self._ledger = ledger
        self._keep_s = keep_s
        self._alarm = Alarm(clock)
        self._stopping = False
        self._loop: Deferred[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._loop = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """End, after the piece that is begun."""
        self._stopping = True
        self._alarm.wake()
        if self._loop is not None:
            await self._loop

    async def _run(self) -> None:
        await self._alarm.wait(_FIRST_S)
        while not self._stopping:
            try:
                await self.sweep()
            except Temporary as error:
                self._log.warn("history is not swept: {why}", why=error.text)
            except Exception:
                self._log.failure("history is not swept")
            if not self._stopping:
                await self._alarm.wait(_LOOK_S)

    async def sweep(self) -> int:
        """Remove all that is old by now.

        @return: the history of how many messages went.
        @raise Temporary: the ledger is not there; what is left is for another time.
        """
        old = since(self._clock.seconds() - self._keep_s)
        after, count = -1, 0
        while not self._stopping:
            seen, gone = await self._ledger.read(
                lambda transaction, after=after: _old(transaction, after, old)  # type: ignore[misc]
            )
            if gone:
                rows = [(id,) for id in gone]

                def unit(
                    transaction: ITransaction, rows: Sequence[tuple[int]] = rows
                ) -> None:
                    transaction.executemany(
                        "DELETE FROM event WHERE message_id = ?", rows
                    )
                    transaction.executemany("DELETE FROM history WHERE id = ?", rows)

                await self._ledger.write(unit)
                count += len(gone)
            if not seen:
                break
            after = seen
            await self._alarm.wait(_REST_S)
        return count


def _old(transaction: ITransaction, after: int, old: int) -> tuple[int, Sequence[int]]:
    """The next messages that are older than an id.

    @return: the last that was looked at, 0 if there was none; and those whose history
        can go.
    """
    found: set[int] = set()
    for what in (
        "id FROM history WHERE id > ? AND id < ? ORDER BY id",
        # Of messages that came before there was a history.
        "DISTINCT message_id FROM event WHERE message_id > ? AND message_id < ?"
        " ORDER BY message_id",
    ):
        rows = transaction.execute(f"SELECT {what} LIMIT ?", (after, old, _AT_ONCE))
        found.update(id for (id,) in rows)
    some = sorted(found)[:_AT_ONCE]
    if not some:
        return 0, ()
    kept = {id for (id,) in of(transaction, "id FROM queued WHERE id", some)}
    # Done with later than they came.
    what = "DISTINCT message_id FROM event WHERE message_id"
    kept |= {id for (id,) in of(transaction, what, some, " AND id >= ?", old)}
    return some[-1], [id for id in some if id not in kept]
