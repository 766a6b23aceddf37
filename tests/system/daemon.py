"""The real server in its own process, and other programs beside it.

Everything is started in a directory of its own, on loopback and free ports, and
only what was started is stopped, by its pid.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent

# A safety net, not a requirement: whatever takes this long hangs.
PATIENCE_S = 120

ABOVE = {
    "smtp": 25,
    "submission": 587,
    "submissions": 465,
    "imap": 143,
    "imaps": 993,
    "pop3": 110,
    "pop3s": 995,
}


def environment(**more: str) -> dict[str, str]:
    """The environment in which the source tree's code runs."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "plugins")))
    return {**os.environ, "PYTHONPATH": path, **more}


def mta(*words: str) -> list[str]:
    """The words of C{twisted-mta ...}."""
    return [sys.executable, "-m", "twisted_mta.cli.main", *words]


def twistd(config: Path) -> list[str]:
    """The words of C{twistd -n mta --config FILE}."""
    script = "import sys; from twisted.scripts.twistd import run; run()"
    return [
        *(sys.executable, "-c", script, "-n", "--pidfile=", "mta"),
        *("--config", str(config)),
    ]


def run(
    words: Sequence[str], text: str = "", check: bool = True, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    @param text: its standard input.
    @raise AssertionError: it failed, unless C{check} is false.
    """
    done = subprocess.run(
        words,
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE_S,
        env=environment(**more),
    )
    if check and done.returncode:
        raise AssertionError(
            f"{' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done


def need(*programs: str) -> None:
    """Skip the test where a program is not installed; in CI, fail."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing and os.environ.get("CI") == "true":
        raise AssertionError(f"not installed: {', '.join(missing)}")
    if missing:
        raise unittest.SkipTest(f"not installed: {', '.join(missing)}")


def free_port_base(servers: int = 1) -> int:
    """A base for C{--port-base}: all seven ports above it are free, and no other run
    of tests at the same time looks there.

    @param servers: that the next bases have free ports for as well.
    """
    slot = int(os.environ.get("TWISTED_MTA_TEST_SLOT", "0"))
    start = 1024 + slot * 10_000
    for base in range(start + os.getpid() % 400 * 20, start + 9_000, 7):
        try:
            for number, above in product(range(servers), ABOVE.values()):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", base + number + above))
        except OSError:
            continue
        return base
    raise AssertionError("no free ports")


def wait_until(true: Any, what: str, *alive: Program) -> Any:
    """Ask until the answer is true.

    @param alive: who must not die meanwhile: it would never be true then.
    @return: the answer.
    """
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        answer = true()
        if answer:
            return answer
        for program in alive:
            program.check(what)
        time.sleep(0.02)
    raise AssertionError(f"never: {what}")


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process has started, and theirs."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, path.read_text().split()):
                yield child
                yield from descendants(child)


def runs(pid: int) -> bool:
    """Whether a process has not ended, be it waited for or not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def listens(port: int) -> bool:
    """Whether somebody does."""
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE_S).close()
    except OSError:
        return False
    return True


class Program:
    """A program that runs until it is stopped.

    @ivar log: what it printed on standard error so far.
    """

    def __init__(self, words: Sequence[str], **more: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as we
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(**more),
        )
        self._drain: threading.Thread | None = None

    @property
    def log(self) -> str:
        """What it printed on standard error, and after L{ready} on standard
        output too."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def check(self, what: str) -> None:
        """See whether it still runs.

        @param what: what it should do.
        @raise AssertionError: it has ended.
        """
        status = self.process.poll()
        if status is not None:
            raise AssertionError(f"ended with {status} before {what}:\n{self.log}")

    def line(self) -> str:
        """The next line that it prints; empty at its end. What it prints
        after that is added to the log."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        self.drain()
        return line

    def drain(self) -> None:
        """Add what it prints on standard output to the log from now on."""
        if self._drain is None:
            self._drain = threading.Thread(target=self._copy, daemon=True)
            self._drain.start()

    def _copy(self) -> None:
        assert self.process.stdout is not None
        while octets := self.process.stdout.read1(65536):  # type: ignore[attr-defined]
            os.write(self._log.fileno(), octets)

    def kill(self) -> None:
        """kill -9; then wait for the processes that it had started, which end by
        themselves."""
        orphans = list(descendants(self.process.pid))
        self.process.kill()
        self._reap()
        wait_until(lambda: not any(map(runs, orphans)), "orphans end")

    def stop(self) -> int:
        """End it as Ctrl-C would.

        @return: its exit status.
        """
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
        return self._reap()

    def _reap(self) -> int:
        status = self.process.wait()
        if self._drain is not None:
            self._drain.join(PATIENCE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status


class Daemon(Program):
    """C{twisted-mta try}.

    @ivar passwords: by address.
    @ivar ports: by listener name.
    """

    def __init__(self, directory: Path, *options: str, base: int | None = None) -> None:
        self.directory = directory
        self.base = free_port_base() if base is None else base
        super().__init__(
            mta(
                *("try", "--json", "--directory", str(directory)),
                *("--port-base", str(self.base), *options),
            )
        )
        line = self.line()
        if not line:
            self.process.wait(PATIENCE_S)
            self.check("it starts")
        self.facts: dict[str, Any] = json.loads(line)
        self.passwords: dict[str, str] = {
            one["address"]: one["password"] for one in self.facts["accounts"]
        }
        self.ports: dict[str, int] = {
            one["name"]: one["port"] for one in self.facts["listeners"]
        }

    def command(self, *words: str, text: str = "") -> str:
        """What C{twisted-mta WORDS --directory DIR} prints."""
        return run(mta(*words, "--directory", str(self.directory)), text).stdout


class Server(Program):
    """C{twistd -n mta} on a config.

    @param config: the config's file; its listeners are those of C{try}.
    @param base: of its ports.
    @param names: its listeners, if it has not all of them.
    """

    def __init__(
        self, config: Path, base: int, names: Sequence[str] = tuple(ABOVE)
    ) -> None:
        super().__init__(self.words(config))
        self.drain()
        self.config = config
        self.ports = {name: base + ABOVE[name] for name in names}
        wait_until(self._ready, "it listens", self)

    def words(self, config: Path) -> list[str]:
        """How it is started."""
        return twistd(config)

    def _ready(self) -> bool:
        return all(listens(port) for port in self.ports.values()) and self._greets()

    def _greets(self) -> bool:
        """Whether it serves: it binds long before, as root may have to."""
        plain = next(name for name in self.ports if not name.endswith("s"))
        try:
            where = "127.0.0.1", self.ports[plain]
            with socket.create_connection(where, PATIENCE_S) as client:
                return bool(client.recv(1))
        except ConnectionError:
            return False

    def command(self, *words: str, text: str = "") -> str:
        """What C{twisted-mta WORDS --config FILE} prints."""
        return run(mta(*words, "--config", str(self.config)), text).stdout


class Directory:
    """A temporary directory, for a test class.

    @param in_memory: where fsync costs nothing, if there is such a place.
    """

    def __init__(self, in_memory: bool = False) -> None:
        where = "/dev/shm" if in_memory and os.path.isdir("/dev/shm") else None
        self.path = Path(tempfile.mkdtemp(prefix="twisted-mta-test-", dir=where))

    def remove(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
