"""One worker as its supervisor sees it: a child process, the channel to it, and
its log.

A worker says C{ready} when it listens, or C{failed} and why. It is told what to
do by words; when it does not do it in time it is killed.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from twisted_mta.net.channel import Channel, Word, attach
from twisted_mta.net.logrelay import LogRelay

#: Where a worker finds its end of the channel.
CHANNEL_FD = 3

#: The first of what it inherits besides.
FIRST_FD = 4

# What its process runs first.
_CHILD = "twisted_mta.net.child"

# What a process said last is there when it has ended, unless a child of its own
# keeps the channel.
_LAST_WORD_S = 1.0

# What a supervisor has of systemd is not its workers'.
_OF_SYSTEMD = ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is given.

    @ivar word: the first word it hears, complete but for the descriptors.
    @ivar fds: descriptors that it inherits, in this order from L{FIRST_FD} on.
    """

    word: Word
    fds: Sequence[int]


class IBoss(Protocol):
    """Who wants to know what becomes of a worker."""

    def ready(self, worker: WorkerProcess) -> None:
        """It does its work."""

    def heard(self, worker: WorkerProcess, word: Word) -> None:
        """It said something else."""

    def ended(self, worker: WorkerProcess, how: str) -> None:
        """It is gone. Called once, after everything else."""


class WorkerProcess(ProcessProtocol):
    """A child process.

    @ivar number: whose place it takes, from 1.
    @ivar column: where it counts.
    @ivar started: when, by the reactor's clock.
    @ivar reason: why it could not start, as it said itself.
    @ivar is_ready: whether it does its work.
    """

    def __init__(
        self, reactor: Any, boss: IBoss, number: int, column: int, relay: LogRelay
    ) -> None:
        self._reactor = reactor
        self._boss = boss
        self.number = number
        self.column = column
        self.started = reactor.seconds()
        self.reason = ""
        self.is_ready = False
        self._write_log: dict[int, Callable[[bytes], None]] = {
            1: relay.stream(),
            2: relay.stream(),
        }
        self._channel = Channel(self._hear, self._silent)
        self._ended = ""
        self._waiting: IDelayedCall | None = None

    @property
    def pid(self) -> int:
        """Its process's, or that which it had."""
        return int(self._pid)

    def spawn(self, module: str, orders: Orders) -> None:
        """Start the process.

        @raise OSError: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        fds: dict[int, int | str] = {
            0: "w",
            1: "r",
            2: "r",
            CHANNEL_FD: theirs.fileno(),
        }
        fds.update(enumerate(orders.fds, FIRST_FD))
        try:
            self._reactor.spawnProcess(
                self,
                sys.executable,
                [
                    *(sys.executable, "-P", "-m", _CHILD, module),
                    *(str(self.number), type(self._reactor).__module__),
                ],
                _environment(),
                childFDs=fds,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._pid = self.transport.pid  # type: ignore[union-attr]
        attach(self._reactor, ours, self._channel)
        self._channel.say(**orders.word)

    def say(self, word: str, **more: Any) -> None:
        """Tell it something."""
        self._channel.say(word, **more)

    def kill(self) -> None:
        """kill -9."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(signal.SIGKILL)  # type: ignore[union-attr]

    # --- what Twisted calls ---

    def connectionMade(self) -> None:
        self.transport.closeStdin()  # type: ignore[union-attr]

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._write_log[childFD](data)

    def childConnectionLost(self, childFD: int) -> None:
        if childFD in self._write_log:
            self._write_log[childFD](b"")

    def processEnded(self, reason: Failure) -> None:
        self._ended = _how(reason.value)
        if self._channel.is_open:
            self._waiting = self._reactor.callLater(_LAST_WORD_S, self._channel.hang_up)
        else:
            self._boss.ended(self, self._ended)

    # --- within ---

    def _silent(self) -> None:
        """The channel has ended; whatever was said is heard."""
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()
        if self._ended:
            self._boss.ended(self, self._ended)

    def _hear(self, word: Word) -> None:
        if word["word"] == "ready":
            self.is_ready = True
            self._boss.ready(self)
        elif word["word"] == "failed":
            self.reason = word["why"]
        else:
            self._boss.heard(self, word)


def _how(ended: Any) -> str:
    """How a process ended, in words."""
    if ended.signal is not None:
        with suppress(ValueError):
            return f"killed by {signal.Signals(ended.signal).name}"
        return f"killed by signal {ended.signal}"
    return f"exit status {ended.exitCode}"


def _environment() -> dict[str, str]:
    """Ours, and where our modules come from."""
    environment = {
        name: value for name, value in os.environ.items() if name not in _OF_SYSTEMD
    }
    path = [os.path.abspath(entry) for entry in sys.path]
    return {**environment, "PYTHONPATH": os.pathsep.join(path)}
