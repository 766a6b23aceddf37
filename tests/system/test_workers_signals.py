"""Several workers: what signals do, where log lines go, and what happens when the
server cannot start."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from unittest import mock

from tests.system.daemon import (
    PATIENCE_S,
    Program,
    Server,
    environment,
    listens,
    twistd,
    wait_until,
)
from tests.system.workercase import (
    TRUSTING,
    Client,
    Crew,
    Crewed,
    children,
    deliver,
    wait_gone,
)
from twisted_mta.net.selfsigned import self_signed
from twisted_mta.net.tls import Pair


def certificate(crew: Crew, pid: int) -> bytes:
    """What a worker shows."""
    client = crew.reach(pid)
    client.say("EHLO x")
    while client.line()[3] == "-":
        pass
    client.say("STARTTLS")
    with TRUSTING.wrap_socket(client.socket) as wrapped:
        shown = wrapped.getpeercert(binary_form=True)
    client.close()
    assert shown is not None
    return shown


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class ReloadTests(Crewed):
    """SIGHUP."""

    def test_certificates(self) -> None:
        """With the config as it was, all workers show the new certificate, and
        none is replaced."""
        crew = self.crew()
        before = {certificate(crew, pid) for pid in crew.pids.values()}
        self.assertEqual(1, len(before))
        data = self.home / "data"
        pair = Pair(data / "certificate.pem", data / "key.pem")
        for path in (pair.certificate, pair.key):
            path.unlink()
        self_signed(pair, ("localhost",))
        os.kill(crew.process.pid, signal.SIGHUP)
        crew.wait_for_line("certificates read again", 2)
        after = {certificate(crew, pid) for pid in crew.pids.values()}
        self.assertEqual(1, len(after))
        self.assertNotEqual(before, after)

    def test_config(self) -> None:
        """A config that is wrong, or wants what a restart only can do, is logged
        and changes nothing. One that is right is what new workers serve, which
        take the places of the old ones; its new endpoints are there, those that it
        has no more are gone, and nobody is refused."""
        crew = self.crew()
        text = crew.config.read_text()

        def reload(changed: str, line: str) -> None:
            crew.config.write_text(changed)
            os.kill(crew.process.pid, signal.SIGHUP)
            crew.wait_for_line(line)

        reload(text.replace("hostname:", "hastname:"), "not reloaded: .*'hostname'")
        reload(text.replace("workers: 2", "workers: 3"), "'workers' has changed; ")
        taken = f"tcp:{crew.ports['pop3']}:interface=127.0.0.1"
        reload(text.replace("tcp:", f"{taken}', 'tcp:", 1), "not reloaded: .*in use")
        self.assertEqual(set(crew.pids.values()), set(children(crew.process.pid)))

        old, moved = crew.ports["pop3"], crew.ports["pop3"] + 2
        changed = text.replace("mail.example.test", "new.example.test")
        changed = changed.replace(f":{old}:", f":{moved}:")
        kept = crew.reach(crew.pids[2])
        reload(changed, "config reloaded, all workers replaced")
        self.assertIn("new.example.test", Client(crew.dial()).greeting)
        self.assertTrue(listens(moved))
        self.assertFalse(listens(old))
        self.assertRegex(kept.line(), "^421 ")
        kept.close()
        now = set(children(crew.process.pid))
        self.assertEqual(2, len(now))
        self.assertTrue(now.isdisjoint(crew.pids.values()))
        deliver(crew, "to the new ones")


class SystemdTests(Crewed):
    """What systemd is told."""

    def _told(self, workers: int) -> None:
        path, base = self.config(workers)
        systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(systemd.close)
        systemd.settimeout(PATIENCE_S)
        systemd.bind(str(self.home / "notify"))
        with mock.patch.dict(os.environ, NOTIFY_SOCKET=str(self.home / "notify")):
            server = Server(path, base)
        self.addCleanup(server.kill)
        self.assertEqual(b"READY=1", systemd.recv(100))
        os.kill(server.process.pid, signal.SIGHUP)
        self.assertRegex(systemd.recv(100), rb"^RELOADING=1\nMONOTONIC_USEC=\d+$")
        self.assertEqual(b"READY=1", systemd.recv(100))
        server.stop()
        self.assertEqual(b"STOPPING=1", systemd.recv(100))
        systemd.setblocking(False)
        self.assertRaises(BlockingIOError, systemd.recv, 100)

    def test_one(self) -> None:
        """A server of one process says that it is ready, reloads and stops."""
        self._told(1)

    def test_several(self) -> None:
        """One of several says the same, each once: the supervisor, for all."""
        self._told(2)


class LogTests(Crewed):
    """The log."""

    def test_reopened(self) -> None:
        """Lines of workers are in the file that twistd logs to, each with the
        worker's name; after SIGUSR1 they are in the new file."""
        path, base = self.config()
        log = self.home / "log"
        crew = self.started(Crew(path, base, ("--logfile", str(log)), log))
        deliver(crew, "one")
        crew.wait_for_line(r"\n\S+ \[w[12] \S+#info\] \w{13}: from=.*status=accepted\n")
        os.kill(crew.process.pid, signal.SIGUSR1)
        wait_until(lambda: len(list(self.home.glob("log.*"))), "the log is renamed")
        deliver(crew, "two")
        crew.wait_for_line(r"\[w[12] \S+#info\] \w{13}: from=.*status=accepted\n")
        self.assertNotIn("workers serve", log.read_text())


class StartTests(Crewed):
    """The start."""

    def test_cannot_start(self) -> None:
        """If the workers cannot open the ledger the server says why and ends
        with a status that says so, and nothing is left."""
        path, _ = self.config()
        ledger = self.home / "data" / "ledger.sqlite3"
        ledger.write_bytes(b"no ledger " * 1000)
        done = subprocess.run(
            twistd(path),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        self.assertEqual(1, done.returncode)
        self.assertRegex(done.stdout, r"#critical\] cannot start: .*cannot be opened")
        self.assertNotIn("Traceback", done.stdout + done.stderr)

    def test_after_a_kill(self) -> None:
        """A worker that had not begun when its supervisor was killed holds the ports
        for a moment; the next server waits for it."""
        crew = self.crew()
        os.kill(crew.pids[1], signal.SIGKILL)
        known = {*crew.pids.values()}
        (new,) = wait_until(
            lambda: set(children(crew.process.pid)) - known, "another starts", crew
        )
        self.addCleanup(_kill, new)
        os.kill(new, signal.SIGSTOP)
        crew.process.kill()
        crew.process.wait(PATIENCE_S)
        wait_gone(crew.pids[2])
        again = Program(twistd(crew.config))
        self.addCleanup(again.kill)
        again.drain()
        wait_until(lambda: "Trying again" in again.log, "it finds the port", again)
        os.kill(new, signal.SIGKILL)
        wait_until(lambda: "2 workers serve" in again.log, "it serves", again)
        deliver(crew, "to the next one")

    def test_started_again(self) -> None:
        """A worker that dies and cannot start again is tried again, ever more
        rarely, and serves as soon as it can."""
        crew = self.crew()
        lock = self.home / "data" / "processes"
        away = self.home / "away"
        lock.rename(away)
        lock.write_text("in the way")
        os.kill(crew.pids[1], signal.SIGKILL)
        crew.wait_for_line(r"worker 1 ended \(.*cannot be opened.* starts in [12] s", 2)
        lock.unlink()
        away.rename(lock)
        successor = crew.successor(1)
        crew.reach(successor).close()
