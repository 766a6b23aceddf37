"""The servers that are measured, each in a directory of its own, on loopback.

Each is a context manager with the ports of its listeners, its accounts, what was
set, and a measure of what its processes use. All keep their mail on the same disk.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import attrs

from benchmarks import processes
from twisted_mta.config.schema import Config

ROOT = Path(__file__).resolve().parent.parent

#: A server that stops properly has done so by then.
_STOP_S = 90

#: The password of every account.
PASSWORD = "benchmark"

#: Whether the source tree's server can have several processes.
HAS_WORKERS = "workers" in attrs.fields_dict(Config)


@dataclass(frozen=True)
class Server:
    """A server that runs.

    @ivar ports: by listener name.
    @ivar pid: of the process that is the parent of all of them.
    @ivar accounts: address and password.
    @ivar settings: what was set, and what it does to keep mail, for people.
    @ivar beside: the same as C{pid}, of other programs that take part.
    """

    name: str
    ports: dict[str, int]
    pid: int
    directory: Path
    accounts: tuple[tuple[str, str], ...] = ()
    settings: str = ""
    beside: tuple[int, ...] = ()

    def cpu_s(self) -> float:
        """Processor time of the process and all that descend from it, ended
        ones included."""
        return sum(map(processes.cpu_s, (self.pid, *self.beside)))

    def proportional(self) -> int:
        """Octets of memory of all its processes, of shared pages each one's
        part (PSS)."""
        return sum(map(processes.proportional, (self.pid, *self.beside)))

    def descriptors(self) -> int:
        """File descriptors that all its processes have open."""
        return sum(map(processes.descriptors, (self.pid, *self.beside)))

    def resident(self) -> int:
        """Resident octets of the one process."""
        return self._status("VmRSS")

    def peak(self) -> int:
        """The most resident octets that the process ever had."""
        return self._status("VmHWM")

    def _status(self, field: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (each for each in status.splitlines() if each.startswith(field))
        return int(line.split()[1]) * 1024


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def environment() -> dict[str, str]:
    """The environment in which the source tree's code runs."""
    return dict(os.environ, PYTHONPATH=f"{ROOT}:{ROOT / 'plugins'}")


def addresses(count: int) -> tuple[tuple[str, str], ...]:
    """The accounts that every server has: address and password."""
    return tuple((f"user{n}@example.test", PASSWORD) for n in range(count))


def _port_base() -> int:
    """Where all seven ports are free."""
    for base in range(20000 + os.getpid() % 400 * 50, 60000, 7):
        try:
            for above in (25, 587, 465, 143, 993, 110, 995):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", base + above))
        except OSError:
            continue
        return base
    raise RuntimeError("no free ports")


@dataclass(frozen=True)
class Installation:
    """Our server's directory with its config and accounts; L{running} starts it,
    as often as one likes.

    @ivar config: its file.
    @ivar ports: by listener name.
    """

    directory: Path
    config: Path
    ports: dict[str, int]
    accounts: tuple[tuple[str, str], ...]
    workers: int

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it as its systemd unit does, with its log in a file; wait
        until it listens."""
        script = "import sys; from twisted.scripts.twistd import run; run()"
        words = ["--nodaemon", "--pidfile=", "mta", "--config", str(self.config)]
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", script, *words],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            for port in self.ports.values():
                wait_for(port)
        except BaseException:
            process.kill()
            process.wait()
            print((self.directory / "log").read_text()[-2000:], file=sys.stderr)
            raise
        return process

    def server(self, pid: int) -> Server:
        """What is measured."""
        plural = "worker" if self.workers == 1 else "workers"
        return Server(
            f"twisted-mta, {self.workers} {plural}",
            self.ports,
            pid,
            self.directory,
            self.accounts,
            "SQLite with synchronous=FULL, a commit before each 250; log in a file;"
            " no limits on connections of one address",
        )


@contextmanager
def installation(
    more: str = "",
    relay: str = "127.0.0.1:1",
    plaintext: bool = False,
    users: int = 1,
    workers: int = 1,
) -> Iterator[Installation]:
    """A directory with the config of C{try} and more settings, and accounts.

    @param more: YAML to append.
    @param relay: C{HOST:PORT} for mail for elsewhere; empty: its own exchangers.
    @param plaintext: passwords may come without TLS.
    """
    directory = Path(tempfile.mkdtemp(prefix="twisted-mta-bench-"))
    try:
        base = _port_base()
        where = ["--directory", str(directory / "data"), "--port-base", str(base)]
        where += ["--relay", relay] if relay else []
        made = _run("twisted_mta.cli.main", "try", "--print-config", *where)
        made = made.replace('routes: [{domain: "*", hold: true}]\n', "")
        lines = [line for line in made.splitlines() if not line.startswith("workers:")]
        if HAS_WORKERS:
            lines.append(f"workers: {workers}")
        text = "\n".join(lines) + "\n" + more
        if plaintext:
            for protocol in ("submission", "imap", "pop3"):
                listener = f"protocol: {protocol}\n    tls: starttls"
                in_clear = f"{listener}\n    plaintext_login: true"
                text = text.replace(listener, in_clear)
        config = directory / "mta.yaml"
        config.write_text(text)
        _run("benchmarks.accounts", str(config), str(users))
        above = {"smtp": 25, "submission": 587, "imap": 143, "pop3": 110}
        ports = {name: base + number for name, number in above.items()}
        yield Installation(directory, config, ports, addresses(users), workers)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


#: For L{configured}: a load generator is one address.
CONNECTIONS = """
connections: {most: 5000, most_per_address: 5000}
"""


@contextmanager
def configured(
    more: str = CONNECTIONS,
    relay: str = "127.0.0.1:1",
    plaintext: bool = False,
    users: int = 1,
    workers: int = 1,
) -> Iterator[Server]:
    """Our server with the config of C{try} and more settings, until the end; see
    L{installation}."""
    with installation(more, relay, plaintext, users, workers) as made:
        process = made.start()
        try:
            yield made.server(process.pid)
        finally:
            stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process, and wait for it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except BaseException:
        process.kill()
        process.wait()
        raise


def _run(module: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        env=environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(words)}: {done.stderr}")
    return done.stdout
