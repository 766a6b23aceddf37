"""Several workers: mail goes in and out of any of them, and what becomes of the
others when one ends."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from contextlib import suppress

from tests.system.daemon import PATIENCE_S, wait_until
from tests.system.sink import Answer, Sink
from tests.system.workercase import (
    ALICE,
    BOB,
    ELSEWHERE,
    PASSWORD,
    Client,
    Crew,
    Crewed,
    children,
    deliver,
    submit,
    wait_gone,
)


class Callers:
    """Clients that come and go without pause.

    @ivar greeted: how many were.
    @ivar refused: how many found nobody who listens.
    @ivar cut: how many were, before they were greeted.
    """

    def __init__(self, crew: Crew, threads: int = 2) -> None:
        self.greeted = self.refused = self.cut = 0
        self._crew = crew
        self._stopping = False
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _call(self) -> None:
        while not self._stopping:
            try:
                client = Client(self._crew.dial())
            except ConnectionRefusedError:
                self._count("refused")
                continue
            self._count("greeted" if client.greeting.startswith("220") else "cut")
            with suppress(OSError):  # it was cut
                client.say("QUIT")
            client.close()

    def _count(self, what: str) -> None:
        with self._lock:
            setattr(self, what, getattr(self, what) + 1)

    def more(self, count: int) -> None:
        """Wait until so many more were greeted."""
        enough = self.greeted + count
        wait_until(lambda: self.greeted >= enough, f"{count} callers", self._crew)

    def end(self) -> None:
        """Call no more."""
        self._stopping = True
        for thread in self._threads:
            thread.join(PATIENCE_S)


class MailTests(Crewed):
    """What is done by one worker is seen by the others."""

    def test_mail_in_and_out(self) -> None:
        """Mail for an account and for elsewhere goes through whichever of three
        workers; the log says which, and says so while it starts."""
        sink = Sink(self.home / "sink")
        self.addCleanup(sink.kill)
        route = f'routes: [{{domain: "*", next_hop: "[127.0.0.1]:{sink.port}"}}]\n'
        crew = self.crew(3, route + "agents: {smtp: {kind: smtp, loopback: true}}\n")
        self.assertEqual([1, 2, 3], sorted(crew.pids))
        for number, pid in crew.pids.items():
            client = crew.reach(pid)
            for line in (
                "HELO test",
                f"MAIL FROM:<{ELSEWHERE}>",
                f"RCPT TO:<{ALICE}>",
                "DATA",
            ):
                self.assertRegex(client.say(line), "^(2|3)")
            accepted = client.say("Subject: hello\r\n\r\nHello\r\n.")
            self.assertRegex(accepted, "^250 ")
            crew.wait_for_line(rf"\[w{number} .*mailboxes=<{ALICE}>")
            client.close()
        for number in range(6):
            submit(crew, f"out {number}")
        sink.wait(Answer.ACCEPT, 6)
        readers = [crew.reach(pid, "imaps") for pid in crew.pids.values()]
        for reader in readers:
            self.assertIn("OK", reader.command("a", f'LOGIN {ALICE} "{PASSWORD}"'))
            self.assertIn("3", reader.say("b STATUS INBOX (MESSAGES)"))
            reader.close()

    def test_idle(self) -> None:
        """A client that waits at one worker sees what another has stored."""
        crew = self.crew()
        one, other = crew.pids.values()
        waiting = crew.reach(one, "imaps")
        self.assertIn("OK", waiting.command("a", f'LOGIN {ALICE} "{PASSWORD}"'))
        self.assertIn("OK", waiting.command("b", "SELECT INBOX"))
        self.assertTrue(waiting.say("c IDLE").startswith("+"))
        writing = crew.reach(other, "imaps")
        self.assertIn("OK", writing.command("a", f'LOGIN {ALICE} "{PASSWORD}"'))
        for count in range(1, 4):
            self.assertIn("+", writing.say("b APPEND INBOX {19}"))
            writing.socket.sendall(b"Subject: x\r\n\r\nx\r\nxx\r\n")
            self.assertIn("OK", writing.answer("b"))
            while f"* {count} EXISTS" not in (line := waiting.line()):
                self.assertTrue(line)
        waiting.close()
        writing.close()

    def test_limits_are_everybodys(self) -> None:
        """The limit of connections from one address holds for all workers
        together, and so does what wrong passwords cost."""
        crew = self.crew(more="connections: {most_per_address: 6}\n")
        clients = [Client(crew.dial()) for _ in range(6)]
        reached = {crew.worker_of(client.socket) for client in clients}
        self.assertEqual(reached, set(crew.pids.values()))
        for _ in range(4):
            self.assertIn("421", Client(crew.dial()).greeting)
        for client in clients:
            client.close()

        def there_is_room() -> bool:
            client = Client(crew.dial())
            client.close()
            return client.greeting.startswith("220")

        wait_until(there_is_room, "the places are free again", crew)
        one, other = crew.pids.values()
        guessing = crew.reach(one, "imaps")
        self.assertIn("NO", guessing.command("a", f"LOGIN {ALICE} wrong"))
        crew.wait_for_line("login failed")
        again = crew.reach(other, "imaps")
        began = time.monotonic()
        self.assertIn("NO", again.command("a", f"LOGIN {ALICE} wrong"))
        self.assertGreater(time.monotonic() - began, 1.9)


class EndTests(Crewed):
    """Workers, and the supervisor, come to an end."""

    def test_killed_worker(self) -> None:
        """When a worker is killed under load, only its own connections end: the
        others go on, nobody is refused, and another takes its place."""
        crew = self.crew()
        victim, other = crew.pids.values()
        lost = crew.reach(victim)
        kept = [crew.reach(other) for _ in range(3)]
        callers = Callers(crew)
        try:
            callers.more(20)
            os.kill(victim, signal.SIGKILL)
            callers.more(20)
            successor = crew.successor(1)
            callers.more(20)
        finally:
            callers.end()
        self.assertEqual(0, callers.refused)
        # At most those that were between being accepted and greeted.
        self.assertLessEqual(callers.cut, 2)
        self.assertEqual("", lost.line())
        for client in kept:
            self.assertRegex(client.say("NOOP"), "^250 ")
            client.close()
        crew.wait_for_line(r"worker 1 ended \(killed by SIGKILL\).* starts in 0 s")
        crew.reach(successor).close()
        deliver(crew, "still here")

    def test_replaced_worker(self) -> None:
        """SIGTERM to a worker replaces it: its sessions are told, its mail that
        has begun comes to an end, nobody else notices."""
        crew = self.crew()
        old, other = crew.pids.values()
        told, kept = crew.reach(old), crew.reach(other)
        begun = crew.reach(old)
        for line in ("HELO x", f"MAIL FROM:<{ELSEWHERE}>", f"RCPT TO:<{BOB}>", "DATA"):
            self.assertRegex(begun.say(line), "^(2|3)")
        callers = Callers(crew)
        try:
            callers.more(10)
            os.kill(old, signal.SIGTERM)
            self.assertRegex(told.line(), "^421 ")
            self.assertRegex(begun.say("Subject: x\r\n\r\nx\r\n."), "^250 ")
            crew.successor(1)
            callers.more(10)
        finally:
            callers.end()
        self.assertEqual((0, 0), (callers.refused, callers.cut))
        self.assertRegex(kept.say("NOOP"), "^250 ")
        for client in (told, begun, kept):
            client.close()

    def test_killed_supervisor(self) -> None:
        """When the supervisor is killed its workers let go of the ports at once
        and end; another can be started on the same ports at once."""
        crew = self.crew()
        client = crew.reach(crew.pids[1])
        deliver(crew, "before")
        crew.kill()
        again = self.started(Crew(crew.config, crew.ports["smtp"] - 25))
        self.assertRegex(client.line(), "^421 ")
        client.close()
        for pid in crew.pids.values():
            wait_gone(pid)
        deliver(again, "after")
        reader = again.reach(again.pids[1], "imaps")
        self.assertIn("OK", reader.command("a", f'LOGIN {ALICE} "{PASSWORD}"'))
        self.assertIn("2", reader.say("b STATUS INBOX (MESSAGES)"))
        reader.close()

    def test_stop(self) -> None:
        """SIGTERM stops all: every session is told, mail that has begun comes to
        its end, and nothing is left."""
        crew = self.crew()
        clients = [crew.reach(pid) for pid in crew.pids.values()]
        begun = crew.reach(crew.pids[1])
        for line in ("HELO x", f"MAIL FROM:<{ELSEWHERE}>", f"RCPT TO:<{BOB}>", "DATA"):
            self.assertRegex(begun.say(line), "^(2|3)")
        os.kill(crew.process.pid, signal.SIGTERM)
        for client in clients:
            self.assertRegex(client.line(), "^421 ")
            client.close()
        self.assertRegex(begun.say("Subject: x\r\n\r\nx\r\n."), "^250 ")
        begun.close()
        crew.process.wait(PATIENCE_S)
        for pid in crew.pids.values():
            wait_gone(pid)
        with self.assertRaises(ConnectionRefusedError):
            crew.dial()
        self.assertNotIn("Traceback", crew.log)
        processes = crew.config.parent / "data" / "processes"
        self.assertEqual([], list(processes.iterdir()))

    def test_leases_of_the_dead(self) -> None:
        """What a killed process was delivering is delivered by another within
        seconds: by the other worker, and by the next server when all died."""
        sink = Sink(self.home / "sink", Answer.HANG)
        self.addCleanup(sink.kill)
        route = f'routes: [{{domain: "*", next_hop: "[127.0.0.1]:{sink.port}"}}]\n'
        crew = self.crew(2, route + "agents: {smtp: {kind: smtp, loopback: true}}\n")
        submit(crew, "one")
        sink.wait(Answer.HANG)
        (owner,) = self._owners(crew)
        sink.answer(Answer.ACCEPT)
        os.kill(owner, signal.SIGKILL)
        began = time.monotonic()
        sink.wait(Answer.ACCEPT)
        # A lease lasts 120 s.
        self.assertLess(time.monotonic() - began, 60)
        wait_until(lambda: not self._owners(crew), "nothing waits", crew)

        sink.answer(Answer.HANG)
        submit(crew, "two")
        sink.wait(Answer.HANG, 2)
        for pid in (crew.process.pid, *children(crew.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        crew.kill()
        sink.answer(Answer.ACCEPT)
        began = time.monotonic()
        again = self.started(Crew(crew.config, crew.ports["smtp"] - 25))
        sink.wait(Answer.ACCEPT, 2)
        self.assertLess(time.monotonic() - began, 60)
        again.wait_for_line("died; its leases are taken over")

    def _owners(self, crew: Crew) -> list[int]:
        """The pids of those that have leases."""
        path = crew.config.parent / "data" / "ledger.sqlite3"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as ledger:
            rows = ledger.execute("SELECT lease FROM hop WHERE lease <> ''").fetchall()
        return [int(lease.partition("-")[0]) for (lease,) in rows]
