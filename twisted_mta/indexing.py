"""The search indexer in a process of its own, beside the servers.

To take the words out of a message is a millisecond of Python. A thread of a server
that does so keeps the interpreter from the sessions, half a millisecond each time
that one wants it back. So the indexer is a process of low priority, on the same
ledger as everybody. The first of several servers keeps one; were it two for a
moment, one has custody of the index and the other waits.

L{Indexing} is what a server has of it; C{python -m twisted_mta.indexing} is the
process itself, which ends when its server does.
"""

from __future__ import annotations

import os
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger, globalLogBeginner

from twisted_mta.ledger.ledger import Ledger
from twisted_mta.net.channel import Channel, Word, attach
from twisted_mta.net.child import heed_sigterm
from twisted_mta.net.logrelay import LogRelay, observer, pipe_writer
from twisted_mta.net.supervisor import Supervisor
from twisted_mta.net.workerprocess import CHANNEL_FD, Orders, WorkerProcess
from twisted_mta.store.search_indexer import Indexer

# How much less important than mail: about a tenth of a processor when all are
# busy (nice(2)).
_NICE = 10


class Indexing:
    """Keeps the indexer's process running.

    @param directory: the ledger's.
    @param index: where the index is.
    """

    log = Logger()

    def __init__(self, reactor: Any, directory: Path, index: Path) -> None:
        self._reactor = reactor
        self._word: Word = {
            "word": "index",
            "ledger": str(directory.absolute()),
            "index": str(index.absolute()),
        }
        self._relay = LogRelay()
        self._supervisor = Supervisor(
            reactor, self._hire, lambda worker, word: None, lambda worker: None
        )
        self._starting: Deferred[None] | None = None

    @property
    def pid(self) -> int:
        """The process, or that which was the last."""
        return self._supervisor.workers[0].pid

    def start(self) -> None:
        """Start it. Mail does not wait for it: without one, searches read."""
        self._starting = Deferred.fromCoroutine(self._supervisor.start(1))
        self._starting.addErrback(self._cannot_start)

    async def stop(self, grace_s: float) -> None:
        """Let it end its batch.

        @param grace_s: after this it is killed, which an index survives.
        """
        if self._starting is not None:
            await self._supervisor.stop(grace_s)

    def _cannot_start(self, failure: Any) -> None:
        self.log.error(
            "no search indexer, searches are slow: {why}",
            why=failure.getErrorMessage(),
        )

    def _hire(self, boss: Supervisor, number: int) -> WorkerProcess:
        """@raise OSError: the system has no room for it."""
        worker = WorkerProcess(self._reactor, boss, number, 0, self._relay)
        worker.spawn("twisted_mta.indexing", Orders(self._word, ()))
        return worker


class Process:
    """The process itself.

    @ivar status: what it ends with.
    """

    log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._channel = Channel(self._heard, self.stop)
        self._ledger: Ledger | None = None
        self._indexer: Indexer | None = None
        self._stopping = False
        self._serving: Deferred[None] | None = None
        self.status = 0

    def attach(self, end: socket.socket) -> None:
        """Listen to the server."""
        attach(self._reactor, end, self._channel)

    def stop(self) -> None:
        """End, however often it is said."""
        if not self._stopping:
            self._stopping = True
            Deferred.fromCoroutine(self._stop())

    def _heard(self, word: Word) -> None:
        match word["word"]:
            case "index":
                self._serving = Deferred.fromCoroutine(self._serve(word))
            case "stop":
                self.stop()

    async def _serve(self, word: Word) -> None:
        # Whether it can be done is seen by whether it lives.
        self._channel.say("ready")
        try:
            ledger = Ledger(self._reactor, Path(word["ledger"]))
            await ledger.open()
            self._ledger = ledger
            if not self._stopping:
                self._indexer = Indexer(self._reactor, ledger, Path(word["index"]))
                self._indexer.start()
        except Exception as error:  # the top: logged, then the end
            self.log.error("the search indexer cannot start: {why}", why=str(error))
            self.status = 1
            self._reactor.callLater(0, self.stop)

    async def _stop(self) -> None:
        try:
            if self._serving is not None:
                await self._serving  # a ledger that is being opened is closed, too
            if self._indexer is not None:
                await self._indexer.stop()
            if self._ledger is not None:
                await self._ledger.close()
        except Exception:
            self.log.failure("the search indexer did not stop as it should")
            self.status = 1
        self._reactor.stop()


def main() -> int:
    """Index until the server ends.

    @return: the exit status.
    """
    import_module(sys.argv[2]).install()
    from twisted.internet import reactor as _reactor  # as installed

    reactor: Any = _reactor
    os.nice(_NICE)
    lines = observer(reactor, "search", pipe_writer(1))
    globalLogBeginner.beginLoggingTo([lines], redirectStandardIO=False)
    process = Process(reactor)
    process.attach(socket.socket(fileno=CHANNEL_FD))
    heed_sigterm(reactor, process.stop)
    reactor.run()
    lines.end()
    return process.status


if __name__ == "__main__":
    sys.exit(main())
