"""A server to be killed and starved: SMTP and IMAP without TLS, for the five
people of L{tests.system.load}; mail for elsewhere is held in its queue, unless a
test has it otherwise."""

import atexit
import json
import shutil
import sqlite3
import sys
import unittest
from contextlib import closing
from functools import cache
from pathlib import Path
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
    wait_until,
)

_CONFIG = """\
hostname: mail.example.test
directory: {home}
domains: {{example.test: }}
postmaster: pm@example.test
workers: {workers}
search: {{index: {index}}}
listeners:
  - {{name: smtp, protocol: smtp, endpoints: ['tcp:{smtp}:interface=127.0.0.1']}}
  - name: imap
    protocol: imap
    plaintext_login: true
    endpoints: ['tcp:{imap}:interface=127.0.0.1']
smtp: {{relay_from: [127.0.0.1/32]}}
"""

_HOLD = '{domain: "*", hold: true}'


def _write_config(
    path: Path,
    home: Path,
    base: int,
    more: str = "",
    workers: int = 1,
    index: bool = True,
) -> None:
    config = _CONFIG.format(
        home=home,
        smtp=base + 25,
        imap=base + 143,
        workers=workers,
        index=str(index).lower(),
    )
    path.write_text(config + more)


@cache
def _with_accounts() -> Path:
    """A directory in which there are accounts, and nothing else; made once."""
    directory = Directory()
    atexit.register(directory.remove)
    config = directory.path / "mta.yaml"
    _write_config(config, directory.path / "mail", 1000)
    for address in (*load.READERS, *load.FILERS):
        words = mta("account", "add", address, "--config", str(config))
        run(words, load.PASSWORD)
    return directory.path / "mail"


class CrashCase(unittest.TestCase):
    """One directory, in which one server after another runs.

    @cvar workers: how many processes serve.
    @cvar index: whether one more keeps the index of words.
    """

    workers = 1
    index = True

    def setUp(self) -> None:
        directory = Directory()
        self.addCleanup(directory.remove)
        self.home = directory.path / "mail"
        self.base = free_port_base()
        self.config = directory.path / "mta.yaml"
        chosen = self.more(), self.workers, self.index
        _write_config(self.config, self.home, self.base, *chosen)
        shutil.copytree(_with_accounts(), self.home)

    def more(self) -> str:
        """The end of the config."""
        return f"routes: [{_HOLD}]\n"

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
        words = mta("queue", "list", "--json", "--config", str(self.config))
        return json.loads(run(words).stdout)

    def wait_collected(self, server: Server) -> None:
        """Wait until nothing is left of what was released."""

        def collected() -> bool:
            with closing(sqlite3.connect(self.home / "ledger.sqlite3")) as database:
                ((count,),) = database.execute("SELECT COUNT(*) FROM released")
                return count == 0

        wait_until(collected, "what was released is collected", server)

    def assert_sound(self) -> None:
        """A ledger that no process has open finds nothing wrong with itself, and
        has no log."""
        words = [sys.executable, "-m", "tests.system.problems", str(self.home)]
        self.assertEqual(run(words).stdout, "")
        self.assertFalse((self.home / "ledger.sqlite3-wal").exists())
