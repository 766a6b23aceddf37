"""Sites that are down, with the real daemon and two workers that are killed."""

from __future__ import annotations

import os
import signal
import smtplib
import sqlite3
from collections import Counter
from contextlib import closing, suppress
from typing import Any

from tests.system.daemon import PATIENCE_S, mta, run, wait_until
from tests.system.sink import Answer, Sink
from tests.system.workercase import (
    ALICE,
    PASSWORD,
    TRUSTING,
    Crew,
    Crewed,
    children,
    wait_gone,
)

MESSAGES = 40


class DownTests(Crewed):
    """All mail goes to one host, where nobody listens yet."""

    def rows(self, crew: Crew, sql: str) -> list[Any]:
        path = crew.config.parent / "data" / "ledger.sqlite3"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as ledger:
            return ledger.execute(sql).fetchall()

    def send(self, crew: Crew, count: int, first: int = 0) -> None:
        port = crew.ports["submission"]
        with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE_S) as client:
            client.starttls(context=TRUSTING)
            client.login(ALICE, PASSWORD)
            for number in range(first, first + count):
                to = f"x{number}@elsewhere.test"
                client.sendmail(ALICE, [to], f"Subject: {number}\r\n\r\nHello\r\n")

    def test_killed_while_it_waits(self) -> None:
        """Mail for a site that is down waits without attempts. All processes are
        killed, and started again, and still know; when the site is there and an
        operator asks, every message goes out, once."""
        sink = Sink(self.home / "sink")
        port = sink.port
        sink.kill()
        route = f'routes: [{{domain: "*", next_hop: "[127.0.0.1]:{port}"}}]\n'
        crew = self.crew(2, route + "agents: {smtp: {kind: smtp, loopback: true}}\n")
        self.send(crew, MESSAGES)
        waits = "lease = '' AND (attempts > 0 OR site <> '')"
        waiting = f"SELECT COUNT(*) FROM hop WHERE {waits}"
        wait_until(lambda: self.rows(crew, waiting) == [(MESSAGES,)], "all wait", crew)
        # A window for each worker, and what had a place before they were in vain.
        (tried,) = self.rows(crew, "SELECT SUM(attempts) FROM hop")[0]
        self.assertLessEqual(tried, 20)
        text = "SELECT COUNT(*) FROM recipient WHERE diagnostic LIKE '%is down since%'"
        (parked,) = self.rows(crew, text)[0]
        self.assertGreaterEqual(parked, MESSAGES - tried)

        for pid in (crew.process.pid, *children(crew.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        crew.kill()
        for pid in crew.pids.values():
            wait_gone(pid)
        again = self.started(Crew(crew.config, crew.ports["smtp"] - 25))
        self.send(again, 5, MESSAGES)
        wait_until(
            lambda: self.rows(again, waiting) == [(MESSAGES + 5,)],
            "the new ones wait, too",
            again,
        )

        sink = Sink(self.home / "sink", Answer.ACCEPT, port)
        self.addCleanup(sink.kill)
        run(mta("queue", "flush", "--config", str(crew.config)))
        events = sink.wait(Answer.ACCEPT, MESSAGES + 5)
        wait_until(
            lambda: self.rows(again, "SELECT COUNT(*) FROM queued") == [(0,)],
            "nothing waits",
            again,
        )
        arrived = Counter(one["recipients"][0] for one in events)
        self.assertEqual(set(arrived.values()), {1})
        self.assertEqual(len(arrived), MESSAGES + 5)
        self.assertNotIn("Traceback", again.log)
