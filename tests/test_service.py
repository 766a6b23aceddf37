"""L{twisted_mta.service}: a daemon's life, and what systemd hears of it."""

from __future__ import annotations

import errno
import os
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from twisted_mta.service import MtaService, notify_systemd


class Reactor(Clock):
    """One that runs; what another thread or a signal wants is done at once.

    @ivar stops: how often it was told to stop.
    """

    stops = 0

    def callWhenRunning(self, call: Any) -> None:
        call()

    def callFromThread(self, call: Any) -> None:
        call()

    def stop(self) -> None:
        self.stops += 1


class Daemon:
    """Does as the test says.

    @ivar did: what was asked of it.
    @ivar served: the start.
    """

    def __init__(self) -> None:
        self.did: list[str] = []
        self.served: Deferred[None] = Deferred()
        self.reloaded: Deferred[None] = Deferred()

    def bind(self) -> None:
        self.did.append("bind")

    async def serve(self) -> None:
        self.did.append("serve")
        await self.served

    async def reload(self) -> None:
        self.did.append("reload")
        await self.reloaded

    async def stop(self) -> None:
        self.did.append("stop")


class Life(SynchronousTestCase):
    def setUp(self) -> None:
        before = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        self.reactor = Reactor()
        self.daemon = Daemon()
        self.failures = 0
        self.slept: list[float] = []
        self.service = MtaService(
            self.reactor, self.daemon, self._failed, self.slept.append
        )

    def _failed(self) -> None:
        self.failures += 1

    def start(self) -> None:
        """As twistd does."""
        self.service.privilegedStartService()
        self.service.startService()

    def told_by(self, notifier: Path | str) -> None:
        """systemd wants to hear there."""
        self.patch(os, "environ", {**os.environ, "NOTIFY_SOCKET": str(notifier)})


class BindTests(Life):
    """Ports that cannot be had."""

    def cannot_bind(self, times: int, why: int) -> list[str]:
        """Start with a port that cannot be bound so often; what is logged."""
        failures = iter([CannotListenError("", 25, OSError(why, "no"))] * times)

        def bind() -> None:
            for failure in failures:
                raise failure

        self.patch(self.daemon, "bind", bind)
        with capturedLogs() as logs:
            self.start()
        return [formatEvent(event) for event in logs]

    def test_in_use_for_a_moment(self) -> None:
        """A port that is in use is tried again, and that is told."""
        told = self.cannot_bind(4, errno.EADDRINUSE)
        self.assertEqual([0.5] * 4, self.slept)
        self.assertIn("Couldn't listen on", told[0])
        self.assertIn("Trying again", told[0])
        self.assertEqual((0, ["serve"]), (self.failures, self.daemon.did))

    def test_in_use(self) -> None:
        """But not for ever."""
        told = self.cannot_bind(5, errno.EADDRINUSE)
        self.assertEqual([0.5] * 4, self.slept)
        self.assertIn("cannot start", told[-1])
        self.assertEqual((1, []), (self.failures, self.daemon.did))

    def test_not_allowed(self) -> None:
        """What does not change by waiting is told at once."""
        (told,) = self.cannot_bind(1, errno.EACCES)
        self.assertIn("cannot start", told)
        self.assertEqual([], self.slept)


class SystemdTests(Life):
    """What systemd is told."""

    def systemd(self) -> socket.socket:
        """Its end."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / "notify"
        end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(end.close)
        end.bind(str(path))
        end.setblocking(False)
        self.told_by(path)
        return end

    def test_life(self) -> None:
        """It is told when the server serves, when it begins to reload and at what
        time, when it has, and when it stops."""
        systemd = self.systemd()
        self.start()
        self.assertRaises(BlockingIOError, systemd.recv, 100)
        self.daemon.served.callback(None)
        self.assertEqual(b"READY=1", systemd.recv(100))
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        os.kill(os.getpid(), signal.SIGHUP)
        first, second = systemd.recv(100).decode().split("\n")
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.assertEqual("RELOADING=1", first)
        name, _, at = second.partition("=")
        self.assertEqual("MONOTONIC_USEC", name)
        self.assertTrue(before <= int(at) <= after)
        self.assertRaises(BlockingIOError, systemd.recv, 100)
        self.daemon.reloaded.callback(None)
        self.assertEqual(b"READY=1", systemd.recv(100))
        self.successResultOf(self.service.stopService())
        self.assertEqual(b"STOPPING=1", systemd.recv(100))

    def test_abstract(self) -> None:
        """An address that begins with an @ has no file."""
        end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(end.close)
        end.bind("")  # the system chooses one
        end.setblocking(False)
        self.told_by("@" + end.getsockname()[1:].decode())
        notify_systemd("READY=1")
        self.assertEqual(b"READY=1", end.recv(100))

    def test_nobody_there(self) -> None:
        """If systemd cannot be told, the server serves, reloads and stops all the
        same, and the log says why."""
        self.told_by("/nonexistent/notify")
        with capturedLogs() as logs:
            self.start()
            self.daemon.served.callback(None)
            os.kill(os.getpid(), signal.SIGHUP)
            self.daemon.reloaded.callback(None)
            self.successResultOf(self.service.stopService())
        self.assertEqual(["bind", "serve", "reload", "stop"], self.daemon.did)
        self.assertEqual((0, 0), (self.failures, self.reactor.stops))
        told = [formatEvent(event) for event in logs]
        self.assertEqual(4, len(told))
        self.assertRegex(told[0], "READY=1: .*/nonexistent/notify.*No such file")

    def test_nobody_reads(self) -> None:
        """Nothing waits for a systemd that does not read."""
        systemd = self.systemd()
        with capturedLogs() as logs:
            while not logs:
                notify_systemd("READY=1")
        self.assertIn("temporarily unavailable", formatEvent(logs[0]))
        self.assertEqual(b"READY=1", systemd.recv(100))


class EarlyTests(Life):
    """Signals that come before it serves."""

    def test_hangup(self) -> None:
        """SIGHUP ends nothing; what it asks for is done when the server serves,
        once."""
        self.start()
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertEqual(["bind", "serve"], self.daemon.did)
        self.daemon.served.callback(None)
        self.daemon.reloaded.callback(None)
        self.assertEqual(["bind", "serve", "reload"], self.daemon.did)

    def test_hangup_before_it_is_bound(self) -> None:
        """Not then either."""
        self.patch(self.daemon, "bind", lambda: os.kill(os.getpid(), signal.SIGHUP))
        self.start()
        self.daemon.served.callback(None)
        self.assertEqual(["serve", "reload"], self.daemon.did)

    def test_stop(self) -> None:
        """A start that ends because the server was told to stop is no failure."""
        self.start()
        self.successResultOf(self.service.stopService())
        with capturedLogs() as logs:
            self.daemon.served.errback(ValueError("stopped"))
        self.assertEqual([], logs)
        self.assertEqual((0, 0), (self.failures, self.reactor.stops))

    def test_cannot_start(self) -> None:
        """Any other is told, and ends the process."""
        self.start()
        with capturedLogs() as logs:
            self.daemon.served.errback(ValueError("no such thing"))
        self.assertEqual(
            ["cannot start: no such thing"], [formatEvent(event) for event in logs]
        )
        self.assertEqual((1, 1), (self.failures, self.reactor.stops))
