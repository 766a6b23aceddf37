"""A real Dovecot, started for a benchmark in a directory of its own.

Debian's package with a config of its own on loopback; nothing of /etc/dovecot is
read or written. What is said here is what a deployed server would have; all else
is Dovecot's default (mail_fsync = optimized, no full-text index). Passwords are
kept in a passwd-file, in the clear: Dovecot computes a hash anew at each login,
even with its cache on, and the hash's cost is nothing that these workloads are
after, so the peer is spared it.

Logins, as deployed: by default Dovecot starts a process for each connection and
one more for each session. Tuned, both are reused, as its manual says under "high-
performance mode" and "service_count".
"""

import imaplib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers import Server, free_port, wait_for

#: Who owns the mail: a user that every Debian has.
_OWNER = "mail"

_CONFIG = """
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
instance_name = benchmark
listen = 127.0.0.1
protocols = imap pop3 lmtp
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_location = {format}:~/{format}
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 5000
default_process_limit = {processes}
default_client_limit = 20000
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {directory}/users
}}
userdb {{
  driver = static
  args = uid={owner} gid={owner} home={directory}/mail/%u allow_all_users=yes
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
  {login}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
  {login}
}}
service imap {{
  process_limit = {processes}
  {reuse}
}}
service pop3 {{
  process_limit = {processes}
  {reuse}
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {sasl}
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
"""

# Login processes as many as processors, each for any number of connections;
# session processes that wait and serve a thousand sessions each in turn.
_LOGIN = """service_count = 0
  process_min_avail = {processors}
  client_limit = 5000"""
_REUSE = """service_count = 1000
  process_min_avail = {processors}"""


def available() -> bool:
    """Whether a Dovecot can be started here; it needs root, as Dovecot does."""
    return os.geteuid() == 0 and shutil.which("dovecot", path=_PATH) is not None


# How many inotify instances a user may have. Each of Dovecot's sessions in IDLE has
# one; beyond Debian's 128 they are told of new mail every half minute only, which its
# manual says to mend so.
_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
_INSTANCES_MOST = 8192


@contextmanager
def _many_watches() -> Iterator[None]:
    before = _INSTANCES.read_text()
    _INSTANCES.write_text(f"{max(int(before), _INSTANCES_MOST)}\n")
    try:
        yield
    finally:
        _INSTANCES.write_text(before)


_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@contextmanager
def dovecot(
    format: str = "sdbox", tuned: bool = False, users: int = 1, processes: int = 2000
) -> Iterator[Server]:
    """A Dovecot with ports C{imap}, C{pop3}, C{lmtp} and C{sasl}, and accounts
    C{user0@example.test}, C{user1@example.test}...

    @param format: of its mailboxes: C{sdbox} or C{maildir}.
    @param tuned: reuse its processes.
    @param processes: the most of a kind.
    """
    accounts = tuple((f"user{n}@example.test", "benchmark") for n in range(users))
    ports = {name: free_port() for name in ("imap", "pop3", "lmtp", "sasl")}
    directory = Path(tempfile.mkdtemp(prefix="twisted-mta-bench-dovecot-"))
    try:
        directory.chmod(0o755)
        (directory / "mail").mkdir()
        shutil.chown(directory / "mail", _OWNER, _OWNER)
        lines = [f"{name}:{password}\n" for name, password in accounts]
        (directory / "users").write_text("".join(lines))
        processors = os.cpu_count() or 1
        config = directory / "dovecot.conf"
        config.write_text(
            _CONFIG.format(
                directory=directory,
                format=format,
                owner=_OWNER,
                processes=processes,
                login=_LOGIN.format(processors=processors) if tuned else "",
                reuse=_REUSE.format(processors=processors) if tuned else "",
                **ports,
            )
        )
        name = f"dovecot {format}" + (", tuned" if tuned else "")
        with _many_watches(), _running(config) as pid:
            for port in ports.values():
                wait_for(port)
            settings = (
                "its defaults: mail_fsync = optimized; no TLS;"
                f" fs.inotify.max_user_instances = {_INSTANCES_MOST}"
            )
            if tuned:
                settings += "; service_count = 0 (login), 1000, process_min_avail"
            yield Server(name, ports, pid, directory, accounts, settings)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def make_inboxes(server: Server) -> None:
    """Open each account's INBOX, which makes it. Two deliveries that find none
    would both make it, and the one that comes second is put off for minutes."""
    for name, password in server.accounts:
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as client:
            client.login(name, password)
            client.select()


@contextmanager
def _running(config: Path) -> Iterator[int]:
    """Its master in the foreground, as a child of ours.

    @return: the master's process id; all other processes are its children.
    """
    command = [shutil.which("dovecot", path=_PATH) or "dovecot"]
    process = subprocess.Popen([*command, "-F", "-c", str(config)])
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)
