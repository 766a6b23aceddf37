"""Where mail is, and what an operator does with it, by the real daemon: its history,
orders that a running server obeys at once, and the table that is watched."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
import unittest
from typing import Any

from tests.system.daemon import (
    PATIENCE_S,
    Directory,
    Server,
    environment,
    free_port_base,
    mta,
    run,
    wait_until,
)
from tests.system.relaycase import PASSWORD, config, submit, wait_for
from tests.system.sink import Answer, Sink

ALICE = "alice@a.test"
TEXT = "Subject: hello\r\n\r\nHello\r\n"


class OperatorCase(unittest.TestCase):
    """One server and a sink that is its smarthost.

    @cvar workers: how many it has.
    """

    workers = 1

    def setUp(self) -> None:
        self.directory = Directory()
        self.addCleanup(self.directory.remove)
        self.sink = Sink(self.directory.path / "sink")
        self.addCleanup(self.sink.kill)
        self.base = free_port_base()
        home = self.directory.path / "a"
        home.mkdir()
        self.site = f"127.0.0.1:{self.sink.port}"
        route = f'routes: [{{domain: "*", next_hop: "{self.site}"}}]\n'
        agents = "agents: {smtp: {kind: smtp, reply_timeout: 60s}}\n"
        self.config = config(home, self.base, "a.test", route + agents)
        text = self.config.read_text()
        workers = text.replace("workers: 1\n", f"workers: {self.workers}\n")
        self.config.write_text(workers)
        self.server = self.start()
        self.server.command("account", "add", ALICE, text=PASSWORD)

    def start(self) -> Server:
        server = Server(self.config, self.base)
        self.addCleanup(server.kill)
        return server

    def submit(self, *recipients: str) -> None:
        submit(self.server, ALICE, list(recipients), TEXT)

    def json(self, *words: str) -> Any:
        return json.loads(self.server.command("queue", *words, "--json"))

    def said(self, *words: str) -> str:
        return self.server.command("queue", *words)

    def finished(self, count: int) -> list[dict[str, Any]]:
        """What is finished, once it is so much."""

        def there() -> bool:
            return len(self.json("list", "--finished")) >= count

        wait_until(there, f"{count} messages are finished", self.server)
        found: list[dict[str, Any]] = self.json("list", "--finished")
        return found


class HistoryTests(OperatorCase):
    """Where is my mail?"""

    def test_delivered(self) -> None:
        """A message that has left is shown with all that is known of it: how it came,
        in whose mailbox it is, what the next server said; and so is a bounce."""
        self.submit(ALICE, "bob@b.test")
        self.sink.wait(Answer.ACCEPT)
        (row,) = self.finished(1)
        self.assertEqual(row["outcomes"], {"mailbox": 1, "delivered": 1})
        self.assertEqual(row["origin"]["login"], ALICE)
        self.assertTrue(row["origin"]["tls"].startswith("TLSv1.3"))
        shown = self.said("show", row["id"])
        for text in (
            f"In the mailbox of <{ALICE}>",
            "by ESMTPSA at submission",
            "delivered 2.0.0 <bob@b.test>",
            "in the clear",
            "250 2.0.0",
        ):
            self.assertIn(text, shown)
        self.assertIn("tls=none, ", self.server.log)

        self.sink.answer(Answer.REFUSE)
        self.submit("bob@b.test")
        wait_for(self.server, ALICE, 2)
        bounce, refused, _ = self.finished(3)
        self.assertEqual(refused["outcomes"], {"failed": 1})
        told = self.json("show", refused["id"])["events"][-1]
        self.assertEqual((told["kind"], told["text"]), ("notified", bounce["id"]))
        found = self.json("list", "--finished", "--recipient", "bob@b.test")
        self.assertEqual(len(found), 2)

    def test_perhaps_twice(self) -> None:
        """An attempt that was cut short by the death of the server, and one whose last
        answer was lost, say that the next server may have the message."""
        self.sink.answer(Answer.HANG)
        self.submit("bob@b.test")
        self.sink.wait(Answer.HANG)
        self.server.kill()
        self.sink.answer(Answer.DROP)
        self.server = self.start()
        self.sink.wait(Answer.DROP)

        def settled() -> bool:
            (row,) = self.json("list")
            return bool(row["attempts"])

        wait_until(settled, "the second attempt has ended", self.server)
        (row,) = self.json("list")
        cut, lost = self.json("show", row["id"])["events"]
        self.assertEqual((cut["kind"], cut["uncertain"]), ("cut short", True))
        self.assertEqual((lost["kind"], lost["uncertain"]), ("deferred", True))
        shown = " ".join(self.said("show", row["id"]).split())
        self.assertIn("was cut short; the next server may have it already", shown)
        self.assertIn("The next server may have it all the same.", shown)


class WorkersTests(OperatorCase):
    """Orders, with two workers and commands beside them."""

    workers = 2

    def test_orders(self) -> None:
        """A next hop that is frozen is not tried by anybody, a rule holds what comes,
        and what an operator returns is returned."""
        self.said("freeze", self.site, "--reason", "maintenance")
        self.submit("bob@b.test")
        (frozen,) = self.json("list", "--frozen")
        self.assertEqual((frozen["site"], frozen["rows"]), (self.site, 1))
        self.said("thaw", self.site)
        self.sink.wait(Answer.ACCEPT)
        self.finished(1)

        self.said("rules", "add", "--account", ALICE, "--reason", "stolen password")

        def held() -> bool:
            self.submit("eve@c.test")
            return any(row["state"] == "held" for row in self.json("list"))

        # Each worker hears of it by itself, within milliseconds.
        wait_until(held, "the rule holds", self.server)
        (row, *_) = self.json("list", "--state", "held")
        self.assertIn("stolen password", self.said("show", row["id"]))
        self.assertIn("1 message returned", self.said("bounce", row["id"]))
        (message,) = wait_for(self.server, ALICE, 1)
        self.assertIn("5.7.1", message.as_string())


class WatchTests(unittest.TestCase):
    """C{list --watch} on a terminal."""

    def test_watch(self) -> None:
        """It shows what waits in a window's size until Ctrl-C, and leaves the terminal
        as it was."""
        directory = Directory()
        self.addCleanup(directory.remove)
        path = config(directory.path, free_port_base(), "a.test", "")
        # One that makes no sense is one clear line, and nothing is done.
        words = ["requeue", "--all", "--next-hop", "no where", "--config", str(path)]
        done = run(mta("queue", *words), check=False)
        said = "twisted-mta: 'no where' is no next hop; give a domain, or [HOST]:PORT\n"
        self.assertEqual((done.returncode, done.stderr), (1, said))
        words = mta("queue", "list", "--watch", "--config", str(path))
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 60, 0, 0))
        process = subprocess.Popen(
            words,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(),
            start_new_session=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        os.close(theirs)
        shown = b""
        while b"Nothing waits." not in shown:
            shown += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        while True:
            try:
                octets = os.read(ours, 4096)
            except OSError:  # nobody has the other end any more
                break
            if not octets:
                break
            shown += octets
        self.assertEqual(process.wait(PATIENCE_S), 0)
        self.assertTrue(shown.rstrip().endswith(b"\x1b[?1049l"), shown)
        self.assertNotIn(b"Traceback", shown)
