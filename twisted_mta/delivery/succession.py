"""Takes over what dead processes were delivering.

A process that was killed leaves leases in its name. They would end by themselves,
but whoever works on the same queue can know sooner that it is dead: the ledger
tells by a lock, see L{ILedger.inherit}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mta.delivery.alarm import Alarm
from twisted_mta.delivery.queue import Queue
from twisted_mta.errors import Temporary
from twisted_mta.interfaces import ILedger

# How often it is looked: some file locks are tried, 10 us each. What the dead
# process had begun may have reached the other server, which needs no hurry.
_LOOK_S = 2.0


class Succession:
    """Looks for dead processes, from the start on."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, ledger: ILedger, queue: Queue) -> None:
        self._clock = clock
        self._ledger = ledger
        self._queue = queue
        self._alarm = Alarm(clock)
        self._stopping = False
        self._loop: Deferred[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._loop = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """End, with what is begun."""
        self._stopping = True
        self._alarm.wake()
        if self._loop is not None:
            await self._loop

    async def _run(self) -> None:
        while not self._stopping:
            try:
                for name in await self._ledger.inherit(self._queue.inherit):
                    self._log.warn("{name} died; its leases are taken over", name=name)
            except Temporary as error:
                self._log.warn("leases cannot be taken over: {why}", why=error.text)
            except Exception:
                self._log.failure("leases cannot be taken over")
            await self._alarm.wait(_LOOK_S)
