"""A server to be killed and starved: SMTP and IMAP without TLS, for the five
people of L{tests.system.load}; mail for elsewhere is held in its queue."""

import json
import sys
import unittest
from typing import Any

from tests.system import load
from tests.system.daemon import (
    Directory,
    Program,
    Server,
    free_port_base,
    mta,
    run,
    twistd,
)

_CONFIG = """\
hostname: mail.example.test
directory: {home}
domains: {{example.test: }}
listeners:
  - {{name: smtp, protocol: smtp, endpoints: ['tcp:{smtp}:interface=127.0.0.1']}}
  - name: imap
    protocol: imap
    plaintext_login: true
    endpoints: ['tcp:{imap}:interface=127.0.0.1']
smtp: {{relay_from: [127.0.0.1/32]}}
routes: [{{domain: "*", hold: true}}]
"""


class CrashCase(unittest.TestCase):
    """One directory, in which one server after another runs."""

    def setUp(self) -> None:
        directory = Directory()
        self.addCleanup(directory.remove)
        self.home = directory.path / "mail"
        self.base = free_port_base()
        self.config = directory.path / "mta.yaml"
        self.config.write_text(
            _CONFIG.format(home=self.home, smtp=self.base + 25, imap=self.base + 143)
        )
        for address in (*load.READERS, *load.FILERS):
            self.command("account", "add", address, text=load.PASSWORD)

    def command(self, *words: str, text: str = "") -> str:
        """What C{twisted-mta WORDS} prints."""
        return run([*mta(*words), "--config", str(self.config)], text).stdout

    def start(self) -> Server:
        """Start the server, and wait until it listens."""
        server = Server(self.config, self.base, ("smtp", "imap"))
        self.addCleanup(server.kill)
        return server

    def spawn(self) -> Program:
        """Start the server."""
        return Program(twistd(self.config))

    def queue(self) -> list[dict[str, Any]]:
        """What C{twisted-mta queue list} says."""
        return json.loads(self.command("queue", "list", "--json"))

    def assert_sound(self) -> None:
        """The ledger finds nothing wrong with itself."""
        words = [sys.executable, "-m", "tests.system.problems", str(self.home)]
        self.assertEqual(run(words).stdout, "")
