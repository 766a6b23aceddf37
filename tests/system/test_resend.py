"""Accepted once: clients that never saw our answer send again, and those that saw it
may send the same as often as they like."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import sqlite3
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.system.daemon import PATIENCE_S, Server, run, wait_until
from tests.system.loopback import APART, set_up
from tests.system.workercase import (
    ALICE,
    BOB,
    ELSEWHERE,
    PASSWORD,
    TRUSTING,
    Crewed,
    wait_gone,
)

# Set where tests have a network of their own.
_APART = "TWISTED_MTA_TEST_APART"

TEXT = b"Message-ID: <one@example.test>\r\nSubject: once\r\n\r\nHello\r\n.\r\n"


class ResendCase(Crewed):
    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the ledger has. Read-only: the last who has it open would tidy up."""
        (path,) = Path(self.home).rglob("ledger.sqlite3")
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute(sql).fetchall()

    def count(self, table: str) -> int:
        return int(self.rows(f"SELECT COUNT(*) FROM {table}")[0][0])

    def dial(self, server: Server, name: str = "smtp") -> smtplib.SMTP:
        """A client that has said all but the content."""
        client = smtplib.SMTP("127.0.0.1", server.ports[name], timeout=PATIENCE_S)
        self.addCleanup(client.close)
        client.ehlo("client.example")
        to = [ALICE]
        if name == "submission":
            client.starttls(context=TRUSTING)
            client.login(BOB, PASSWORD)
            to.append(ELSEWHERE)
        return self.begin(client, to)

    def begin(self, client: smtplib.SMTP, to: list[str]) -> smtplib.SMTP:
        """A transaction, up to its content."""
        client.mail(BOB if ELSEWHERE in to else ELSEWHERE)
        for recipient in to:
            self.assertEqual(client.rcpt(recipient)[0], 250)
        self.assertEqual(client.docmd("DATA")[0], 354)
        return client

    def finish(self, client: smtplib.SMTP) -> str:
        """Send the content.

        @return: the id that the message has.
        """
        client.send(TEXT)
        code, said = client.getreply()
        self.assertEqual(code, 250)
        return said.decode().rpartition(" ")[2]

    def sent(self, server: Server, name: str = "smtp") -> str:
        """Send it, and go on."""
        client = self.dial(server, name)
        id = self.finish(client)
        client.quit()
        return id

    def unseen(self, server: Server, name: str = "smtp") -> tuple[smtplib.SMTP, str]:
        """Send it, and do not look at the answer.

        @return: the client, and the id that the server gave it.
        """
        client = self.dial(server, name)
        client.send(TEXT)
        wait_until(lambda: self.count("accepted"), "it is accepted", server)
        return client, self.accepted(server)[-1]

    def accepted(self, server: Server) -> list[str]:
        """The ids of what was accepted, as the log has it."""
        pattern = r"(\w{13}): from=.* status=accepted"
        ids: list[str] = wait_until(
            lambda: re.findall(pattern, server.log), "the log has it", server
        )
        return ids


class ResendTests(ResendCase):
    def test_killed(self) -> None:
        """The server is killed when it has committed, before anybody reads the 250.
        The client sends again: one copy in the mailbox, one in the queue, under the
        first id. Once it knows, the same is a new message."""
        config, base = self.config(workers=1)
        server = Server(config, base)
        try:
            client, id = self.unseen(server, "submission")
        finally:
            server.kill()
        client.close()
        server = Server(config, base)
        self.addCleanup(server.kill)
        self.assertEqual(self.sent(server, "submission"), id)
        pattern = f"{id}: from=<{BOB}>.* status=already accepted"
        wait_until(lambda: re.search(pattern, server.log), "the log says so", server)
        self.assertEqual((self.count("email"), self.count("queued")), (1, 1))
        self.assertEqual(self.count("content"), 1)
        self.assertNotEqual(self.sent(server, "submission"), id)
        self.assertEqual((self.count("email"), self.count("queued")), (2, 2))

    def test_hung_up(self) -> None:
        """A client whose connection ends before it reads the 250 sends again; it is
        told the first id, as often as that happens."""
        config, base = self.config(workers=1)
        server = Server(config, base)
        self.addCleanup(server.kill)
        client, id = self.unseen(server)
        client.close()
        client = self.dial(server)
        client.send(TEXT)
        wait_until(lambda: "already accepted" in server.log, "it came again", server)
        client.close()
        self.assertEqual(self.sent(server), id)
        self.assertEqual(self.count("email"), 1)
        self.assertEqual(server.stop(), -signal.SIGINT)
        self.assertEqual(self.rows("SELECT * FROM accepted"), [])

    def test_worker_killed(self) -> None:
        """A worker is killed, and the client comes at once to another."""
        crew = self.crew()
        client, id = self.unseen(crew)
        assert client.sock is not None
        pid = crew.worker_of(client.sock)
        os.kill(pid, signal.SIGKILL)
        with suppress(ConnectionResetError):
            while client.sock.recv(1000):
                pass
        client.close()
        self.assertEqual(self.sent(crew), id)
        self.assertEqual(self.count("email"), 1)
        wait_gone(pid)

    def test_on_purpose(self) -> None:
        """Who sends the same many times, on several connections at once to several
        workers, one after the other or each by itself, politely or not, has it
        accepted as often."""
        crew = self.crew()
        ids: list[str] = []

        def load(number: int) -> None:
            client = self.dial(crew)
            for left in range(10, 0, -1):
                ids.append(self.finish(client))
                if left == 1:
                    break
                if number % 2:
                    self.begin(client, [ALICE])
                    continue
                # Without a word of goodbye, half of them.
                (client.close if number % 4 else client.quit)()
                client = self.dial(crew)
            client.close()

        threads = [threading.Thread(target=load, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(ids), 80)
        self.assertEqual(len(set(ids)), 80)
        self.assertEqual(self.count("email"), 80)
        self.assertNotIn("already", crew.lines)
        wait_until(lambda: not self.count("accepted"), "all is known", crew)


class ApartTests(ResendCase):
    """In a network of our own, which can be taken down."""

    def setUp(self) -> None:
        super().setUp()
        self.apart = _APART in os.environ
        if not self.apart:
            words = [*APART, sys.executable]
            trial = ["-m", "twisted.trial", f"--temp-directory={self.home}/trial"]
            done = run([*words, *trial, self.id()], check=False, **{_APART: "yes"})
            if "unshare" in done.stderr and os.environ.get("CI") != "true":
                self.skipTest(done.stderr.strip())
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_out_of_reach(self) -> None:
        """A client is out of reach before the 250 leaves, and its connection has no
        end. It sends again on another: one copy, and the first id on both, if it comes
        to read the first after all."""
        if not self.apart:
            return
        set_up(True)
        config, base = self.config(workers=1)
        server = Server(config, base)
        self.addCleanup(server.kill)
        client = self.dial(server)
        server.process.send_signal(signal.SIGSTOP)
        client.send(TEXT)
        set_up(False)
        server.process.send_signal(signal.SIGCONT)
        wait_until(
            lambda: self.rows("SELECT owner FROM accepted") == [("",)], "gone", server
        )
        (id,) = self.accepted(server)
        set_up(True)
        self.assertEqual(self.sent(server), id)
        self.assertTrue(client.getreply()[1].endswith(id.encode()))
        client.quit()
        self.assertEqual(self.count("email"), 1)
        self.assertNotEqual(self.sent(server), id)
        self.assertEqual(self.count("email"), 2)
