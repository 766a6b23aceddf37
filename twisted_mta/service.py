"""The server as twistd runs it: bind while still root, start, stop, signals.

What is run is a L{IDaemon}: the whole server in this process
(L{twisted_mta.app}), or a supervisor of workers (L{twisted_mta.crew}). If it
cannot start, the process ends with a status that says so. systemd is told of
every change.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()

# How often it is tried to bind, and the pause between; nginx does the same.
_TRIES = 5
_TRY_S = 0.5


class IDaemon(Protocol):
    """What can be run."""

    def bind(self) -> None:
        """Bind all sockets. Called with the powers the process began with."""

    async def serve(self) -> None:
        """Start; if something cannot, or L{stop} is called meanwhile, that is
        raised and nothing is left running."""

    async def reload(self) -> None:
        """Read again what can be read while running; raises nothing."""

    async def stop(self) -> None:
        """Stop, in a bounded time, also what has not started yet."""


class MtaService(Service):
    """A daemon's life in twistd.

    @param failed: called when it could not start; the reactor is stopped then.
    @param sleep: waits, before the reactor runs.
    """

    log = Logger()
    name = "mta"

    def __init__(
        self,
        reactor: Any,
        daemon: IDaemon,
        failed: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._reactor = reactor
        self._daemon = daemon
        self._failed = failed
        self._sleep = sleep
        self._bound = False
        self._unbound: Exception | None = None
        self._ready = False
        self._stopping = False
        self._wanted = False

    def privilegedStartService(self) -> None:
        """Bind. twistd drops root's powers after this."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        on_hangup(self._reactor, self._hung_up)
        self._bound = True
        try:
            self._bind()
        except Exception as error:  # told where every failure to start is
            self._unbound = error

    def _bind(self) -> None:
        """Bind; a port in use is tried again for a while. A worker whose supervisor
        was killed while it began lets go of it in a moment.

        @raise CannotListenError: it stays in use.
        """
        for left in reversed(range(_TRIES)):
            try:
                self._daemon.bind()
                return
            except CannotListenError as error:
                if not left or error.socketError.errno != errno.EADDRINUSE:
                    raise
                self.log.warn("{error} Trying again.", error=str(error))
            self._sleep(_TRY_S)

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        # From now on, since SIGHUP ends a process that does not take it.
        on_hangup(self._reactor, self._hung_up)
        # When the reactor runs: it cannot be stopped before.
        self._reactor.callWhenRunning(
            lambda: Deferred.fromCoroutine(self._start()).addErrback(self._cannot_start)
        )

    async def _start(self) -> None:
        if not self._bound:  # not every runner of services asks for it
            self._daemon.bind()
        if self._unbound is not None:
            raise self._unbound
        await self._daemon.serve()
        self._ready = True
        notify_systemd("READY=1")
        if self._wanted:
            await self._reload()

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        self._stopping = True
        notify_systemd("STOPPING=1")
        return Deferred.fromCoroutine(self._daemon.stop())

    def _cannot_start(self, failure: Failure) -> None:
        if self._stopping:
            return  # it was not to start any more
        self.log.critical("cannot start: {why}", why=failure.getErrorMessage())
        self._failed()
        self._reactor.stop()

    def _hung_up(self) -> None:
        if self._ready and not self._stopping:
            Deferred.fromCoroutine(self._reload())
        self._wanted = True  # if it is not ready yet: then

    async def _reload(self) -> None:
        # sd_notify(3) wants the time of it, to tell one reload from the next.
        at = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        notify_systemd(f"RELOADING=1\nMONOTONIC_USEC={at}")
        try:
            await self._daemon.reload()
        finally:
            notify_systemd("READY=1")


def on_hangup(reactor: Any, reload: Callable[[], object]) -> None:
    """Call something in the reactor's thread whenever SIGHUP comes."""
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reload))


def notify_systemd(state: str) -> None:
    """Tell systemd of a change, if it asked to be told (sd_notify(3)). If it cannot
    be told, or not at once, that is logged: nothing here depends on it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        if address.startswith("@"):
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
                notifier.setblocking(False)
                notifier.sendto(state.encode(), address)
        except OSError as error:
            _log.warn(
                "systemd is not told {state}: $NOTIFY_SOCKET ({address}): {error}",
                state=state.partition("\n")[0],
                address=os.environ["NOTIFY_SOCKET"],
                error=error,
            )
