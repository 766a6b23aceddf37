"""One run of a program: it is fed, heard, and ended if it does not end by itself.

It trusts no program to read, to be quiet, to end, or to end what it starts. Signals are
for its whole process group, which L{twisted_mta.delivery.pipe.launch} makes.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mta.delivery.pipe import launch
from twisted_mta.delivery.pipe.ending import Ended
from twisted_mta.delivery.pipe.settings import Settings

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

_LAUNCH = str(Path(launch.__file__).resolve())
# Without what Python code of others could be in: no PYTHONPATH, no site-packages.
_WORDS = (sys.executable, "-I", "-S", _LAUNCH)


@implementer(IPushProducer)
class Run(ProcessProtocol):
    """A program that runs.

    @raise OSError: it cannot be started.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        settings: Settings,
        argv: Sequence[str],
        on_end: Callable[[Run], None],
    ) -> None:
        """
        @param reactor: starts processes.
        @param on_end: called once it has ended, whether anybody waits for that or not.
        """
        self._on_end = on_end
        self._clock = clock
        self._settings = settings
        self._kept = b""
        self._heard = 0
        self._killed = ""
        self._code = -signal.SIGKILL
        self._ended: Deferred[None] = Deferred()
        self._over = False
        self._room: Deferred[None] | None = None
        self._full = False
        self._fed = False
        self._calls: list[IDelayedCall] = []
        words = (*_WORDS, settings.user or "", settings.directory, *argv)
        self._process = reactor.spawnProcess(
            self,
            sys.executable,
            [word.encode() for word in words],
            env={**settings.environment, launch.NAMES: ",".join(settings.environment)},
            childFDs={0: "w", 1: "r", 2: "r"},
        )
        self._pid: int | None = self._process.pid
        self._stdin = self._process.pipes[0]
        self._stdin.registerProducer(self, True)
        self._later(settings.timeout_s, self._too_long)

    # --- what the agent calls ---

    async def feed(self, octets: bytes) -> bool:
        """Give it more of the message, and wait until there is room for what follows.

        @return: whether it still reads.
        """
        if self._fed or self._over:
            return False
        self._stdin.write(octets)
        if self._full and not self._fed:
            self._room = Deferred()
            await self._room
        return not self._fed

    def finish(self) -> None:
        """That was all of the message."""
        if not self._fed:
            self._fed = True
            self._stdin.unregisterProducer()
            self._process.closeStdin()

    async def ended(self) -> Ended:
        """Wait for its end."""
        if not self._over:
            await self._ended
        return Ended(self._code, self._kept, self._killed)

    def abort(self) -> None:
        """End it now. It has not seen the end of the message."""
        self._killed = self._killed or "The run was ended"
        self._signal(signal.SIGKILL)

    # --- its time and its words ---

    def _later(self, seconds: float, call: Any, *arguments: Any) -> None:
        self._calls.append(self._clock.callLater(seconds, call, *arguments))

    def _too_long(self) -> None:
        self._kill(f"The program took more than {self._settings.timeout_s:g} s")

    def _kill(self, why: str) -> None:
        if not self._killed:
            self._killed = why
            self._signal(signal.SIGTERM)
            self._later(self._settings.grace_s, self._signal, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        """Send it to all of its processes. The number of the first is nobody else's as
        long as that has not been waited for."""
        if self._pid is None:
            return
        with suppress(PermissionError):  # it became somebody else
            try:
                os.killpg(self._pid, number)
            except ProcessLookupError:  # it has not its group yet
                os.kill(self._pid, number)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._kept += data[: self._settings.diagnostic - len(self._kept)]
        self._heard += len(data)
        if self._heard > self._settings.output:
            self._kill(f"The program wrote more than {self._settings.output} octets")

    # --- what Twisted calls ---

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False
        self._go_on()

    def stopProducing(self) -> None:
        self._fed = True
        self._go_on()

    def childConnectionLost(self, childFD: int) -> None:
        if childFD == 0:
            self.stopProducing()

    def _go_on(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)

    def processExited(self, reason: Failure) -> None:
        pid, self._pid = self._pid, None
        if pid is not None and self._killed:
            # Those that it started and that did not listen.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        value: Any = reason.value
        self._code = value.exitCode if value.exitCode is not None else -value.signal
        if not self._over:
            self._later(self._settings.linger_s, self._process.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        self._over = True
        for call in self._calls:
            if call.active():
                call.cancel()
        self.stopProducing()
        self._on_end(self)
        if not self._ended.called:
            self._ended.callback(None)
