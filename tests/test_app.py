"""The composition root's life."""

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import (
    LogEvent,
    capturedLogs,
    formatEvent,
    globalLogPublisher,
)
from twisted.trial.unittest import TestCase

from twisted_mta import app
from twisted_mta.app import Mta, Stopped
from twisted_mta.config.check import parse
from twisted_mta.delivery.runner import Runner
from twisted_mta.delivery.succession import Succession
from twisted_mta.mail.address import split
from twisted_mta.net.listener import Listener

CONFIG = """\
hostname: mail.example.test
directory: "{}"
domains: {{example.test: }}
postmaster: pm@example.test
listeners:
  - {{name: one, protocol: smtp, endpoints: ['tcp:0:interface=127.0.0.1']}}
  - {{name: two, protocol: pop3, endpoints: ['tcp:0:interface=127.0.0.1']}}
"""


class Broken(Exception):
    """A listener's bug."""


class MtaTests(TestCase):
    """How it starts and stops."""

    def server(self) -> Mta:
        """A new one, with a directory of its own."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        path = Path(directory) / "state"
        return Mta(reactor, *parse("mta.yaml", CONFIG.format(path)))

    async def test_postmaster(self) -> None:
        """While nobody reads the postmaster's mail, each start says so, and what
        to do."""
        server = self.server()
        warned: Deferred[str] = Deferred()

        def hear(event: LogEvent) -> None:
            if event.get("log_namespace") == "twisted_mta.app.Mta":
                warned.callback(formatEvent(event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        await server.serve()
        try:
            self.assertRegex(
                await warned,
                "'postmaster', pm@example.test, .*'twisted-mta account add pm@.*alias",
            )
            await server.office.add_account(split("pm@example.test"), "tin whistle")
            with capturedLogs() as heard:
                await server.look_for_postmaster()
            self.assertEqual([], heard)
        finally:
            await server.stop()

    async def test_stopped_while_it_starts(self) -> None:
        """Whatever the start is at when the server is told to stop: it starts no
        more, and all that had started has stopped when the stop is over."""
        before = set(threading.enumerate())
        for part, name in (
            (app, "open_office"),
            (Runner, "start"),
            (Succession, "start"),
            (Listener, "start"),
            (Mta, "look_for_postmaster"),
        ):
            server = self.server()
            stopping: list[Deferred[None]] = []
            whole = getattr(part, name)

            async def begin(*arguments: Any, whole: Any = whole) -> Any:
                stopping.append(Deferred.fromCoroutine(server.stop()))  # noqa: B023
                return await whole(*arguments)

            with mock.patch.object(part, name, begin), self.assertRaises(Stopped):
                await server.serve()
            await stopping[0]
            self.assertEqual(1, len(stopping), name)
            self.assertEqual([], list(server.listening()), name)
            self.assertEqual(before, set(threading.enumerate()), name)

    async def test_stopped_before_it_starts(self) -> None:
        """Then it does not start."""
        server = self.server()
        await server.stop()
        with self.assertRaises(Stopped):
            await server.serve()
        self.assertEqual([], list(server.listening()))

    async def test_one_part_does_not_stop(self) -> None:
        """When one part fails to stop, the others stop all the same: no port
        listens, and no thread is left to keep the process from ending."""
        before = set(threading.enumerate())
        server = self.server()
        await server.start()
        self.assertEqual(["one", "two"], [name for name, _, _ in server.listening()])
        whole = Listener.stop

        async def stop(listener: Listener, grace_s: float) -> None:
            await whole(listener, grace_s)
            if listener.name == "one":
                raise Broken()

        self.patch(Listener, "stop", stop)
        with self.assertRaises(Broken):
            await server.stop()
        self.assertEqual([], list(server.listening()))
        self.assertEqual(before, set(threading.enumerate()))
