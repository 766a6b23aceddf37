"""A worker's process: a whole server that accepts at its supervisor's sockets.

It is C{python -m twisted_mta.worker}, started by L{twisted_mta.crew} with
descriptors that mean something; nobody else starts it. The first word on its
channel says what to do. When the channel ends, the supervisor is gone: sockets are
closed at once, so that the next supervisor can bind them, and all ends as when
told to stop.
"""

from __future__ import annotations

import os
import socket
import sys
from importlib import import_module
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger, globalLogBeginner

from twisted_mta.app import Mta, Stopped
from twisted_mta.config.check import parse
from twisted_mta.net.channel import Channel, Word, attach
from twisted_mta.net.child import heed_sigterm
from twisted_mta.net.fairness import Fairness
from twisted_mta.net.logrelay import observer, pipe_writer
from twisted_mta.net.place import Place
from twisted_mta.net.poller import polled
from twisted_mta.net.sockets import Sockets
from twisted_mta.net.tally import RATES, Memory, SharedTally
from twisted_mta.net.workerprocess import CHANNEL_FD


class Worker:
    """One of several servers.

    @ivar status: what the process ends with.
    """

    log = Logger()

    def __init__(self, reactor: Any, number: int) -> None:
        self._reactor = polled(reactor)
        self._number = number
        self._channel = Channel(self._heard, self._left)
        self._server: Mta | None = None
        self._stopping = False
        self._alone = False
        self._done = False
        self.status = 0

    def attach(self, end: socket.socket) -> None:
        """Listen to the supervisor."""
        attach(self._reactor, end, self._channel)

    async def serve(self, word: Word) -> None:
        """Start the server."""
        try:
            self._server = self._made(word)
            await self._server.serve()
        except Stopped:
            pass  # by L{stop}, which awaits this
        except Exception as error:  # the top: told to the supervisor, then the end
            self.log.debug("cannot start: {error!r}", error=error)
            self.status = 1
            self._channel.say("failed", why=str(error))
            self._server = None
            self.stop()
        else:
            self._channel.say("ready")

    def stop(self) -> None:
        """End, however often it is said."""
        if not self._stopping:
            self._stopping = True
            Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        try:
            if self._server is not None:
                await self._server.stop()
        except Exception:
            self.log.failure("did not stop as it should")
            self.status = 1
        finally:
            # The supervisor must have heard the last word.
            self._done = True
            if self._alone:
                self._reactor.stop()
            else:
                self._channel.hang_up()

    def _left(self) -> None:
        """The channel has ended: from here, or the supervisor is gone."""
        self._alone = True
        if self._done:
            self._reactor.stop()
        else:
            self.stop()

    def _made(self, word: Word) -> Mta:
        memory = Memory(word["columns"], word["memory"], bytes.fromhex(word["secret"]))
        column = word["column"]
        sockets = Sockets(self._reactor, Fairness(self._reactor, memory, column))
        sockets.inherit(word["sockets"])
        place = Place(
            word["number"],
            word["of"],
            SharedTally(memory, column),
            SharedTally(memory, column, RATES),
            lambda about: self._channel.say("login", about=about),
        )
        document, config = parse(word["name"], word["text"])
        return Mta(self._reactor, document, config, sockets, place)

    def _heard(self, word: Word) -> None:
        match word["word"]:
            case "serve":
                Deferred.fromCoroutine(self.serve(word))
            case "stop":
                self.stop()
            case "reload" if self._server is not None:
                Deferred.fromCoroutine(self._server.reload())
            case "login" if self._server is not None:
                self._server.heard_of_login(word["about"])


def main() -> int:
    """Serve until told to stop.

    @return: the exit status.
    """
    number, reactor_module = int(sys.argv[1]), sys.argv[2]
    import_module(reactor_module).install()
    from twisted.internet import reactor as _reactor  # as installed

    reactor: Any = _reactor
    lines = observer(reactor, f"w{number}", pipe_writer(1))
    globalLogBeginner.beginLoggingTo([lines], redirectStandardIO=False)
    worker = Worker(reactor, number)
    worker.attach(socket.socket(fileno=CHANNEL_FD))
    heed_sigterm(reactor, worker.stop)
    reactor.run()
    lines.end()
    return worker.status


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # What could not be stopped must not keep the process.
    os._exit(status)
