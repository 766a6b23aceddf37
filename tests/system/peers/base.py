"""What the other mail servers have in common: how Debian's own binaries run beside each
other, and beside whatever mail server the machine has.

Their packages exclude each other, and have paths and users compiled in. So they are
unpacked, not installed (.ci/run), and each runs in a mount namespace of its own, where
its files lie over /usr, and its users and what it writes over the rest; nothing of the
machine changes. A namespace of processes sees to it that no process outlives the first.
One that is installed is used as it is. The network is the machine's.
"""

from __future__ import annotations

import os
import shutil
import signal
import smtplib
import socket
import subprocess
import unittest
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from tests.system.daemon import PATIENCE_S, Program, descendants, run, wait_until
from twisted_mta.net.tls import Pair

HOST = "127.0.0.1"

# Where .ci/run unpacks them, each in a directory of its name.
TREES = Path(os.environ.get("TWISTED_MTA_PEERS", "/var/cache/twisted-mta-peers"))

NAME = "mail.peer.test"
DOMAIN = "peer.test"
# More of its domains; the last is for who logs in.
DOMAINS = (DOMAIN, "plain.test", "login.test")
POSTMAN = "postman@peer.test"

# All of them are postman, but one is not taken at once.
LATER = "later"
PEOPLE = ("postman", LATER, "pöstman")

# The largest message that it takes.
SIZE = 300_000

# Who logs in at it.
USER, PASSWORD = "example", "correcthorse"

_USERS = ("postfix", "postdrop", "Debian-exim", "opensmtpd", "opensmtpq", "postman")
_FIRST_ID = 61_300

_ENTER = """
tree=$1 home=$2; shift 2
over() { mount -t overlay -o "lowerdir=$1" twisted-mta-test "$2"; }
if [ "$tree" = / ]
then over "$home/etc:/etc" /etc
else over "$tree/usr:/usr" /usr && over "$home/etc:$tree/etc:/etc" /etc
fi &&
over "$home/lib:/var/lib" /var/lib &&
mount --bind "$home/spool" /var/spool &&
mount --bind "$home/run" /run &&
exec "$@"
"""


@dataclass(frozen=True)
class Plan:
    """What a peer has to know.

    @ivar home: its directory, yet to be made.
    @ivar port: where it is to listen.
    @ivar pair: its certificate, for L{NAME}.
    @ivar ours: our ports, with that of LMTP.
    @ivar lmtp: our LMTP socket.
    @ivar trust: who vouches for our certificate, which is for C{localhost}.
    @ivar password: of alice and bob at our server.
    """

    home: Path
    port: int
    pair: Pair
    ours: Mapping[str, int]
    lmtp: Path
    trust: Path
    password: str


class Peer(Program):
    """A mail server for L{DOMAINS}, whose one mailbox is postman's, a Maildir.

    It takes mail for elsewhere from this machine. To our domain it goes by SMTP,
    under TLS that it verifies; to C{lmtp.test} by LMTP; and from alice by submission.
    C{later@} is not taken before L{open_gate}.

    @cvar tree: the directory in L{TREES}.
    @cvar binary: what must be in it.
    @cvar tls: as C{agents: tls} is for it.
    """

    tree: ClassVar[str]
    binary: ClassVar[str]
    tls: ClassVar[str] = "verify"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.home = plan.home
        self.port = plan.port
        self.mail = plan.home / "mail"
        self.gate = plan.home / "opened"
        self._read = 0
        _lay_out(plan)
        for path in (self.mail, *self.mail.iterdir()):
            self.give(path, "postman")
        words = self.prepare()
        super().__init__([*_entering(self.where(), plan.home), *words])
        self.drain()

    @classmethod
    def where(cls) -> Path | None:
        """The root of its files, if it is here."""
        for root in (TREES / cls.tree, Path("/")):
            if (root / cls.binary).is_file():
                return root
        return None

    @classmethod
    def need(cls) -> None:
        """Skip the test where it is not to be had; in CI, fail."""
        if cls.where() is None:
            _without(f"not unpacked in {TREES}, nor installed: {cls.tree}")
        refused = _refused()
        if refused:
            _without(f"no namespaces here: {refused}")

    def prepare(self) -> Sequence[str]:
        """Write its config.

        @return: the words that start it in the foreground.
        """
        raise NotImplementedError

    def give(self, path: Path, user: str) -> None:
        """Let a user of its own have a file."""
        os.chown(path, self.id_of(user), self.id_of(user, "group"))

    def id_of(self, name: str, kind: str = "passwd") -> int:
        """The number of a user or a group, as it sees them."""
        for line in (self.home / "etc" / kind).read_text().splitlines():
            known, _, number, *_ = line.split(":")
            if known == name:
                return int(number)
        raise AssertionError(f"no {name} in {kind}")

    def kill(self) -> None:
        """kill -9 the first process of its namespace, with which all others end."""
        with suppress(StopIteration, ProcessLookupError):
            os.kill(next(descendants(self.process.pid)), signal.SIGKILL)
        super().kill()

    def mark(self) -> None:
        """L{said} begins here."""
        self._read = len(self.log)

    @property
    def said(self) -> str:
        """Its log, from the mark on."""
        return self.log[self._read :]

    def wait(self) -> None:
        """Until it serves."""
        wait_until(self._greets, "the peer listens", self)

    def _greets(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), PATIENCE_S) as client:
                return client.recv(4).startswith(b"220")
        except OSError:
            return False

    def open_gate(self) -> None:
        """From now on C{later@} is taken."""
        self.gate.touch()

    def hurry(self) -> None:
        """Have it try what waits, if it would not within seconds."""

    def command(self, *words: str) -> None:
        """Run a program where its files are, whatever becomes of it."""
        inside = next(descendants(self.process.pid))
        run(["nsenter", f"--target={inside}", "--mount", "--pid", *words], check=False)

    def wait_for_line(self, *parts: str) -> str:
        """The first line of its log since the mark that has all of these, once it is
        there."""

        def found() -> str:
            lines = self.said.splitlines()
            return next((a for a in lines if all(part in a for part in parts)), "")

        line: str = wait_until(found, f"the peer's log has {parts}", self)
        return line

    # --- mail ---

    def send(
        self,
        content: bytes,
        sender: str,
        recipients: Sequence[str],
        options: Sequence[str] = (),
        each: Sequence[str] = (),
    ) -> None:
        """Hand it a message.

        @param options: of MAIL.
        @param each: of each RCPT.
        """
        with smtplib.SMTP(HOST, self.port, "client.test", PATIENCE_S) as client:
            client.ehlo()
            client.sendmail(sender, list(recipients), content, options, each)

    def mailbox(self) -> list[bytes]:
        """All messages of postman, with line ends as on the wire."""
        files = sorted(self.mail.glob("new/*"))
        return [one.read_bytes().replace(b"\n", b"\r\n") for one in files]

    def wait_for(self, word: str) -> bytes:
        """The message in whose header or text this is, once it is there."""

        def found() -> bytes:
            octets = word.encode()
            return next((one for one in self.mailbox() if octets in one), b"")

        octets: bytes = wait_until(found, f"postman has {word!r}", self)
        return octets


def free_port() -> int:
    """A port of the loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _lay_out(plan: Plan) -> None:
    """Make the directories that lie over the machine's, and the users."""
    for name in ("etc", "lib/opensmtpd/empty", "spool", "run", "mail"):
        (plan.home / name).mkdir(parents=True)
    for name in ("passwd", "group"):
        lines = Path("/etc", name).read_text().splitlines()
        known = {line.split(":")[0] for line in lines}
        for number, user in enumerate(_USERS, _FIRST_ID):
            rest = f":{number}::{plan.home}/mail:/bin/sh" if name == "passwd" else ":"
            if user not in known:
                lines.append(f"{user}:x:{number}{rest}")
        (plan.home / "etc" / name).write_text("\n".join(lines) + "\n")
    for name in ("new", "cur", "tmp"):
        (plan.home / "mail" / name).mkdir()


def _entering(tree: Path | None, home: Path) -> list[str]:
    """The words before those of a peer."""
    return [
        *("unshare", "--mount", "--pid", "--fork", "--mount-proc"),
        *("sh", "-c", _ENTER, "sh", str(tree), str(home)),
    ]


@cache
def _refused() -> str:
    """Why this machine lets us have no namespaces with overlays, if it is so."""
    if shutil.which("unshare") is None:
        return "not installed: unshare"
    words = [
        *("unshare", "--mount", "--pid", "--fork", "--mount-proc"),
        *("mount", "-t", "overlay", "-o", "lowerdir=/etc:/usr", "test", "/etc"),
    ]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""


def _without(why: str) -> None:
    if os.environ.get("CI") == "true":
        raise AssertionError(why)
    raise unittest.SkipTest(why)
