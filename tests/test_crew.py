"""L{twisted_mta.crew}: a supervisor with workers that are none."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from twisted_mta import crew
from twisted_mta.crew import Crew
from twisted_mta.net.workerprocess import Orders

CONFIG = """\
hostname: {name}
directory: "{directory}"
domains: {{example.test: }}
postmaster: pm@example.test
workers: 2
listeners:
  - {{name: smtp, protocol: smtp, endpoints: ['tcp:{port}:interface=127.0.0.1']}}
"""

# What a worker of this name cannot start with.
BROKEN = "broken.example.test"


class Worker:
    """Starts at once, if it can, and stops at once.

    @cvar failing: which of those that shall serve L{BROKEN} cannot, by place.
    """

    failing = 0
    reason = ""
    is_ready = False
    pid = 100

    def __init__(self, _: Any, boss: Any, number: int, column: int, *__: Any) -> None:
        self._boss = boss
        self.number = number
        self.column = column
        self.started = 0.0

    def spawn(self, module: str, orders: Orders) -> None:
        self.orders = orders
        reactor.callLater(0, self._begin)  # type: ignore[attr-defined]

    def _begin(self) -> None:
        if BROKEN in self.orders.word["text"] and self.number == self.failing:
            self.reason = "no such thing"
            self._boss.ended(self, "exit status 1")
        else:
            self.is_ready = True
            self._boss.ready(self)

    def say(self, word: str, **more: Any) -> None:
        if word == "stop":
            reactor.callLater(  # type: ignore[attr-defined]
                0, self._boss.ended, self, "exit status 0"
            )


def free_port() -> int:
    """One that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ReloadTests(TestCase):
    """A config that is read again."""

    async def crew(self) -> Crew:
        """One that serves."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        self.path = Path(directory) / "mta.yaml"
        self.patch(crew, "WorkerProcess", Worker)
        self.write("old.example.test", free_port())
        made = Crew(reactor, self.path)
        self.addCleanup(lambda: ensureDeferred(made.stop()))
        made.bind()
        await made.serve()
        return made

    def write(self, name: str, port: int) -> None:
        """Write the config."""
        directory = self.path.parent / "state"
        self.path.write_text(CONFIG.format(name=name, port=port, directory=directory))

    async def test_one_cannot_start(self) -> None:
        """If one worker cannot start with a config, all workers that are left have
        the old one, and the ports that only the new one has are free: the next
        config may have them."""
        for failing in (1, 2):
            self.patch(Worker, "failing", failing)
            crew = await self.crew()
            old = crew._supervisor.workers
            port = free_port()
            self.write(BROKEN, port)
            with capturedLogs() as logs:
                await crew.reload()
            told = [formatEvent(event) for event in logs]
            self.assertIn("config not reloaded: no such thing", told)
            self.assertEqual(old, crew._supervisor.workers)
            self.write("new.example.test", port)
            with capturedLogs() as logs:
                await crew.reload()
            self.assertIn("config reloaded", formatEvent(logs[-1]))
            self.assertNotIn(old[0], crew._supervisor.workers)
            self.assertEqual(2, len(crew._supervisor.workers))
