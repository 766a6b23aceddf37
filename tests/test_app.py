"""The composition root's life."""

import shutil
import signal
import tempfile
import threading
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from twisted_mta.app import Mta
from twisted_mta.config.check import parse
from twisted_mta.net.listener import Listener

CONFIG = """\
hostname: mail.example.test
directory: "{}"
domains: {{example.test: }}
listeners:
  - {{name: one, protocol: smtp, endpoints: ['tcp:0:interface=127.0.0.1']}}
  - {{name: two, protocol: pop3, endpoints: ['tcp:0:interface=127.0.0.1']}}
"""


class Broken(Exception):
    """A listener's bug."""


class MtaTests(TestCase):
    """How it stops."""

    async def test_one_part_does_not_stop(self) -> None:
        """When one part fails to stop, the others stop all the same: no port
        listens, and no thread is left to keep the process from ending."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        path = Path(directory) / "state"
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        before = set(threading.enumerate())
        server = Mta(reactor, *parse("mta.yaml", CONFIG.format(path)))
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
