"""The servers that are measured, each in a directory of its own, on loopback.

Each is a context manager with the port of its SMTP listener and a measure of
the processor time that its processes have used.
"""

import json
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

ROOT = Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A server that runs.

    @ivar ports: by listener name.
    @ivar pid: of the process that is the parent of all of them.
    @ivar accounts: address and password.
    """

    name: str
    ports: dict[str, int]
    pid: int
    directory: Path
    accounts: tuple[tuple[str, str], ...] = ()

    def cpu_s(self) -> float:
        """Processor time of the process and all that descend from it, ended
        ones included."""
        return sum(_cpu_s(pid) for pid in _family(self.pid))

    def resident(self) -> int:
        """Resident octets of the one process."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (each for each in status.splitlines() if each.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    def peak(self) -> int:
        """The most resident octets that the process ever had."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (each for each in status.splitlines() if each.startswith("VmHWM"))
        return int(line.split()[1]) * 1024


def _fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu_s(pid: int) -> float:
    try:
        return sum(int(field) for field in _fields(pid)[11:15]) / TICK
    except OSError:
        return 0.0


def _family(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int(_fields(int(entry.name))[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children.get(pid, ())


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


def _environment() -> dict[str, str]:
    return dict(os.environ, PYTHONPATH=f"{ROOT}:{ROOT / 'plugins'}")


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "twisted_mta.cli.main", *words]


def _port_base() -> int:
    """Where all seven ports are probably free."""
    return 20000 + os.getpid() % 400 * 50


@contextmanager
def ours(*options: str) -> Iterator[Server]:
    """C{twisted-mta try} with the source tree's code."""
    with _directory() as directory:
        command = _command(
            *("try", "--json", "--directory", str(directory / "data")),
            *("--port-base", str(_port_base()), *options),
        )
        with _process(command, directory, subprocess.PIPE) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError((directory / "log").read_text())
            facts = json.loads(line)
            yield Server(
                "twisted-mta",
                {each["name"]: each["port"] for each in facts["listeners"]},
                facts["pid"],
                directory,
                tuple((one["address"], one["password"]) for one in facts["accounts"]),
            )


@contextmanager
def configured(more: str, relay: str) -> Iterator[Server]:
    """C{twistd mta} with the config of C{try} and more settings.

    @param more: YAML to append.
    @param relay: C{HOST:PORT} for mail for elsewhere.
    """
    account = ("alice@example.test", "a benchmark's password")
    with _directory() as directory:
        base = _port_base()
        made = subprocess.run(
            _command(
                *("try", "--print-config", "--directory", str(directory / "data")),
                *("--port-base", str(base), "--relay", relay),
            ),
            env=_environment(),
            check=True,
            capture_output=True,
            text=True,
        )
        config = directory / "mta.yaml"
        config.write_text(made.stdout + more)
        subprocess.run(
            _command("account", "add", "--config", str(config), account[0]),
            env=_environment(),
            input=account[1],
            check=True,
            capture_output=True,
            text=True,
        )
        command = [
            *(sys.executable, "-m", "twisted", "mta", "--config", str(config)),
        ]
        above = {"smtp": 25, "submission": 587, "imap": 143, "pop3": 110}
        ports = {name: base + number for name, number in above.items()}
        with _process(command, directory, subprocess.DEVNULL) as process:
            wait_for(ports["pop3"])
            yield Server("twisted-mta", ports, process.pid, directory, (account,))


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="twisted-mta-bench-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _process(
    command: list[str], directory: Path, stdout: int
) -> Iterator["subprocess.Popen[str]"]:
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=_environment(), stdout=stdout, stderr=log, text=True
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


_POSTFIX_MAIN = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
config_directory = {directory}
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.example.test
mydestination = example.test
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
maillog_file = {directory}/data/log
maillog_file_prefixes = {directory}
smtpd_client_restrictions = check_client_access static:HOLD
"""


@contextmanager
def postfix() -> Iterator[Server]:
    """A Postfix with its defaults that only queues: everything is on hold.

    Its queue is on the same disk as ours. It needs root, as Postfix does.
    """
    directory = Path(tempfile.mkdtemp(prefix="twisted-mta-bench-postfix-"))
    directory.chmod(0o755)
    port = free_port()
    (directory / "queue").mkdir()
    (directory / "data").mkdir()
    shutil.chown(directory / "data", "postfix")
    master = Path("/usr/share/postfix/master.cf.dist").read_text()
    lines = []
    for line in master.splitlines():
        words = line.split()
        if words[:2] == ["smtp", "inet"]:
            words[0] = str(port)
        if len(words) > 7 and words[4] in ("y", "-") and not line.startswith("#"):
            words[4] = "n"  # no chroot, as upstream's default
        lines.append(" ".join(words) if words and line[0] not in " \t#" else line)
    (directory / "master.cf").write_text("\n".join(lines) + "\n")
    (directory / "main.cf").write_text(_POSTFIX_MAIN.format(directory=directory))
    subprocess.run(
        ["postfix", "-c", str(directory), "start"], check=True, capture_output=True
    )
    try:
        wait_for(port)
        pid = int((directory / "queue/pid/master.pid").read_text())
        yield Server("postfix", {"smtp": port}, pid, directory)
    finally:
        subprocess.run(["postfix", "-c", str(directory), "stop"], capture_output=True)
        shutil.rmtree(directory, ignore_errors=True)
