"""A server of several workers, and clients that know whom of them they reached."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import smtplib
import socket
import ssl
import unittest
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tests.system.daemon import (
    ABOVE,
    PATIENCE_S,
    Directory,
    Server,
    free_port_base,
    mta,
    run,
    runs,
    twistd,
    wait_until,
)

ALICE = "alice@example.test"
BOB = "bob@example.test"
ELSEWHERE = "friend@elsewhere.test"
PASSWORD = "correct horse"

TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname = False
TRUSTING.verify_mode = ssl.CERT_NONE


class Template:
    """What each test begins with: a config of C{try}, and two accounts. It is
    made once, since its programs take longer than many a test."""

    def __init__(self) -> None:
        self._directory: Directory | None = None

    def copy(self, home: Path, base: int, workers: int, more: str = "") -> Path:
        """The config of a server of its own, for so many workers.

        @param more: YAML to append.
        """
        if self._directory is None:
            self._directory = Directory()
            atexit.register(self._directory.remove)
            self._make(self._directory.path)
        shutil.copytree(self._directory.path, home, dirs_exist_ok=True)
        path = home / "mta.yaml"
        text = path.read_text().replace(str(self._directory.path), str(home))
        text = text.replace("workers: 1\n", f"workers: {workers}\n")
        if "routes:" in more:
            text = text.replace('routes: [{domain: "*", hold: true}]\n', "")
        for above in ABOVE.values():
            text = text.replace(f":{above}:", f":{base + above}:")
        path.write_text(text + more)
        return path

    def _make(self, directory: Path) -> None:
        words = ("try", "--print-config", "--directory", str(directory / "data"))
        path = directory / "mta.yaml"
        path.write_text(run(mta(*words, "--port-base", "0")).stdout)
        for address in (ALICE, BOB):
            words = ("account", "add", "--config", str(path), address)
            run(mta(*words), text=PASSWORD)


TEMPLATE = Template()


class Crew(Server):
    """C{twistd -n mta} with several workers, once all of them serve.

    @param options: of twistd.
    @param log: where it logs to, if not to standard output.
    """

    def __init__(
        self,
        config: Path,
        base: int,
        options: Sequence[str] = (),
        log: Path | None = None,
    ) -> None:
        self._file = log
        self._options = tuple(options)
        super().__init__(config, base)
        self.pids = self.wait_for_workers()

    def words(self, config: Path) -> list[str]:
        words = twistd(config)
        at = words.index("mta")
        return [*words[:at], *self._options, *words[at:]]

    @property
    def lines(self) -> str:
        """The log, wherever it is."""
        return self._file.read_text() if self._file is not None else self.log

    def wait_for_line(self, pattern: str, times: int = 1) -> list[str]:
        """Wait until the log has a pattern so often; what its group is."""

        def found() -> list[str] | None:
            all = re.findall(pattern, self.lines)
            return all if len(all) >= times else None

        there: list[str] = wait_until(found, f"the log has {pattern}", self)
        return there

    def wait_for_workers(self) -> dict[int, int]:
        """The pid of each worker, once all serve."""
        (line,) = self.wait_for_line(r"\d workers serve: (.*)")
        pairs = re.findall(r"(\d+) pid=(\d+)", line)
        return {int(number): int(pid) for number, pid in pairs}

    def successor(self, number: int, times: int = 1) -> int:
        """The pid of the worker that took a place, for the nth time."""
        pattern = rf"worker {number} serves, pid=(\d+)"
        return int(self.wait_for_line(pattern, times)[times - 1])

    def worker_of(self, client: socket.socket) -> int:
        """The pid of the worker that accepted a client's connection."""
        inode = _inode(client.getsockname()[1])
        for pid in children(self.process.pid):
            with suppress(OSError):  # it ended
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    with suppress(OSError):  # it was closed
                        if os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]":
                            return pid
        return 0

    def dial(self, name: str = "smtp") -> socket.socket:
        """A connection, once a worker has accepted it."""
        client = socket.create_connection(("127.0.0.1", self.ports[name]), PATIENCE_S)
        if name.endswith("s"):
            client = TRUSTING.wrap_socket(client)
        return client

    def reach(self, pid: int, name: str = "smtp") -> Client:
        """A client of one worker; dials until it is the one."""
        others = []
        try:
            while True:
                self.check(f"worker {pid} accepts")
                client = Client(self.dial(name))
                if self.worker_of(client.socket) == pid:
                    return client
                others.append(client)
        finally:
            for other in others:
                other.close()


class Client:
    """A connection by lines, greeted."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._file = connection.makefile("rb")
        self.greeting = self.line()

    def line(self) -> str:
        """The next line; empty at the end."""
        try:
            return self._file.readline().decode().strip()
        except ConnectionResetError:
            return ""

    def say(self, line: str) -> str:
        """A line, and the line that answers it."""
        self.socket.sendall(line.encode() + b"\r\n")
        return self.line()

    def command(self, tag: str, words: str) -> str:
        """An IMAP command, and the line that ends its answer."""
        self.socket.sendall(f"{tag} {words}\r\n".encode())
        return self.answer(tag)

    def answer(self, tag: str) -> str:
        """The line that ends the answer to an IMAP command."""
        answer = self.line()
        while answer and not answer.startswith((f"{tag} ", "+")):
            answer = self.line()
        return answer

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self.socket.close()


class Crewed(unittest.TestCase):
    """Tests of several workers.

    @ivar home: an empty directory.
    """

    def setUp(self) -> None:
        directory = Directory()
        self.addCleanup(directory.remove)
        self.home = directory.path

    def config(self, workers: int = 2, more: str = "") -> tuple[Path, int]:
        """A config, with the accounts of alice and bob; and its port base."""
        base = free_port_base()
        return TEMPLATE.copy(self.home, base, workers, more), base

    def crew(self, workers: int = 2, more: str = "") -> Crew:
        """A server that runs, and ends with the test."""
        return self.started(Crew(*self.config(workers, more)))

    def started(self, crew: Crew) -> Crew:
        """It is to end with the test, with all its workers."""
        self.addCleanup(self._end, crew)
        return crew

    def _end(self, crew: Crew) -> None:
        workers = children(crew.process.pid)
        crew.kill()
        for pid in workers:
            wait_gone(pid)


def deliver(crew: Crew, subject: str, recipient: str = ALICE) -> None:
    """Send a message as another server does."""
    with smtplib.SMTP("127.0.0.1", crew.ports["smtp"], timeout=PATIENCE_S) as client:
        client.sendmail(ELSEWHERE, [recipient], f"Subject: {subject}\r\n\r\nHello\r\n")


def submit(crew: Crew, subject: str, recipient: str = ELSEWHERE) -> None:
    """Send a message as a person's program does."""
    port = crew.ports["submission"]
    with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE_S) as client:
        client.starttls(context=TRUSTING)
        client.login(ALICE, PASSWORD)
        client.sendmail(ALICE, [recipient], f"Subject: {subject}\r\n\r\nHello\r\n")


def children(parent: int) -> list[int]:
    """The pids of a process's children."""
    return [pid for pid in _pids() if _stat(pid)[1:2] == [str(parent)]]


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    return not runs(pid)


def wait_gone(pid: int) -> None:
    """Wait for the end of a process that is nobody's child."""
    wait_until(lambda: is_gone(pid), f"{pid} ends")


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _stat(pid: int) -> list[str]:
    """State, parent and so on; nothing of a process that is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _inode(port: int) -> str:
    """Of the socket whose peer has a port, once it was accepted."""

    def find() -> str | None:
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            remote = int(fields[2].rpartition(":")[2], 16)
            if remote == port and fields[3] == "01" and fields[9] != "0":
                return fields[9]
        return None

    found: str = wait_until(find, f"the connection of port {port} is accepted")
    return found
