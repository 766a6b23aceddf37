"""A real Postfix, started for a benchmark in a directory of its own.

Debian's package on loopback, with its queue on the same disk as everything else;
nothing of /etc/postfix is read or written. It syncs each queue file before it
answers, which cannot be switched off. What is said here is what the workload
needs; all else is Postfix's default, unless it is tuned.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.dovecot import dovecot, make_inboxes
from benchmarks.servers import Server, addresses, free_port, wait_for

_MASTER = Path("/usr/share/postfix/master.cf.dist")

_BASE = {
    "compatibility_level": "3.6",
    "queue_directory": "{directory}/queue",
    "data_directory": "{directory}/data",
    "config_directory": "{directory}",
    "mail_owner": "postfix",
    "setgid_group": "postdrop",
    "myhostname": "postfix.example.test",
    "mydestination": "example.test",
    "local_recipient_maps": "",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "mynetworks": "127.0.0.0/8",
    "maillog_file": "{directory}/data/log",
    "maillog_file_prefixes": "{directory}",
}

#: What makes it faster here, by its TUNING_README: more processes, used for
#: longer; no pause of a second when mail comes faster than it goes; no look-up of
#: the client's name, no counting of clients; up to 50 deliveries at once to the
#: same place, from the start.
TUNED = {
    "default_process_limit": "200",
    "max_use": "10000",
    "in_flow_delay": "0",
    "smtpd_peername_lookup": "no",
    "smtpd_client_connection_count_limit": "0",
    "default_destination_concurrency_limit": "50",
    "initial_destination_concurrency": "50",
}

#: Everything is put on hold: it only queues.
HOLD = {"smtpd_client_restrictions": "check_client_access static:HOLD"}


def available() -> str:
    """Why none can be started here; empty if one can."""
    if os.geteuid() != 0:
        return "it needs root"
    if shutil.which("postfix") is None or not _MASTER.exists():
        return "not installed (apt install postfix)"
    return ""


@contextmanager
def postfix(name: str, *settings: Mapping[str, str]) -> Iterator[Server]:
    """A Postfix with an SMTP listener.

    @param settings: lines of main.cf; what comes later wins.
    """
    directory = Path(tempfile.mkdtemp(prefix="twisted-mta-bench-postfix-"))
    port = free_port()
    chosen = {key: text for each in settings for key, text in each.items()}
    try:
        directory.chmod(0o755)
        (directory / "queue").mkdir()
        (directory / "data").mkdir()
        shutil.chown(directory / "data", "postfix")
        (directory / "master.cf").write_text(_master(port))
        lines = [f"{key} = {text}" for key, text in {**_BASE, **chosen}.items()]
        text = "\n".join(lines).replace("{directory}", str(directory))
        (directory / "main.cf").write_text(text + "\n")
        _command(directory, "start")
        try:
            wait_for(port)
            pid = int((directory / "queue/pid/master.pid").read_text())
            shown = ", ".join(f"{key} = {text}" for key, text in chosen.items())
            yield Server(
                name,
                {"smtp": port},
                pid,
                directory,
                settings=f"fsync of each queue file; log in a file; {shown}",
            )
        finally:
            _command(directory, "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def with_dovecot(
    users: int, more: Mapping[str, str] | None = None, tuned: bool = True
) -> Iterator[Server]:
    """A Postfix that hands everything to a Dovecot by LMTP; the ports are the
    SMTP of the one and what the other has."""
    with dovecot("sdbox", tuned=tuned, users=users) as store:
        make_inboxes(store)
        to_store = {
            "mydestination": "",
            "virtual_mailbox_domains": "example.test",
            "virtual_transport": f"lmtp:inet:127.0.0.1:{store.ports['lmtp']}",
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": f"inet:127.0.0.1:{store.ports['sasl']}",
        }
        chosen = (to_store, TUNED if tuned else {}, more or {})
        with postfix("postfix", *chosen) as queue:
            yield replace(
                queue,
                name="postfix + dovecot" + (", tuned" if tuned else ""),
                ports={**store.ports, **queue.ports},
                accounts=addresses(users),
                beside=(store.pid,),
                settings=f"{queue.settings}; dovecot: sdbox, mail_fsync = optimized"
                " (syncs each delivery), processes reused",
            )


def waits(server: Server) -> bool:
    """Whether any message waits to leave.

    @raise RuntimeError: one was deferred, and would wait for minutes.
    """
    # In the order in which messages go through, so that none is missed.
    for name in ("maildrop", "incoming", "active"):
        if next(os.scandir(server.directory / "queue" / name), None) is not None:
            return True
    for bucket in os.scandir(server.directory / "queue/deferred"):
        if bucket.is_file() or next(os.scandir(bucket), None) is not None:
            log = (server.directory / "data/log").read_text()
            lines = [line for line in log.splitlines() if "status=deferred" in line]
            raise RuntimeError(f"deferred: {lines[-1:]}")
    return False


def discard(server: Server) -> None:
    """Remove all that is held."""
    command = ["postsuper", "-c", str(server.directory), "-d", "ALL", "hold"]
    subprocess.run(command, check=True, capture_output=True)


def _master(port: int) -> str:
    lines = []
    for line in _MASTER.read_text().splitlines():
        words = line.split()
        if words[:2] == ["smtp", "inet"]:
            words[0] = str(port)
        if len(words) > 7 and words[4] in ("y", "-") and not line.startswith("#"):
            words[4] = "n"  # no chroot, as upstream's default
        lines.append(" ".join(words) if words and line[0] not in " \t#" else line)
    return "\n".join(lines) + "\n"


def _command(directory: Path, word: str) -> None:
    done = subprocess.run(
        ["postfix", "-c", str(directory), word], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"postfix {word}: {done.stderr}")
