"""The load generators of Postfix's package: smtp-source, and smtp-sink, which is
sent to.

smtp-source knows one recipient, so mail for many mailboxes comes from as many
processes, one after the other in each of the sessions. What it sends is made by a
seeded generator and is the same for all servers.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Condition, Thread

from benchmarks.servers import free_port, wait_for

# A message that is larger has an attachment.
_TEXT_OCTETS = 16_000

# How long nothing may arrive before we say that something was lost.
_PATIENCE_S = 60.0


def missing() -> str:
    """What is not installed; empty if all is there."""
    absent = [word for word in ("smtp-source", "smtp-sink") if not shutil.which(word)]
    return f"{', '.join(absent)} (apt install postfix)" if absent else ""


def message(octets: int, seed: int = 1) -> bytes:
    """A message as people write them, of exactly so many octets on the wire."""
    chance = random.Random(seed)
    number = chance.getrandbits(64)
    head = (
        "From: Ann Example <ann@source.example>\r\n"
        "To: Bob Example <bob@example.test>\r\n"
        "Subject: The minutes of our last meeting, and what is to do\r\n"
        f"Message-ID: <{number:016x}@source.example>\r\n"
        "Date: Sat, 21 Nov 2026 01:34:43 +0000\r\n"
        "MIME-Version: 1.0\r\n"
    )
    if octets <= _TEXT_OCTETS:
        head += "Content-Type: text/plain; charset=utf-8\r\n\r\n"
        return _filled(head.encode(), _words(chance), octets)
    text = _filled(b"", _words(chance), 2000).decode()
    head += (
        'Content-Type: multipart/mixed; boundary="=_next"\r\n\r\n'
        f"--=_next\r\nContent-Type: text/plain\r\n\r\n{text}\r\n"
        '--=_next\r\nContent-Type: application/pdf; name="minutes.pdf"\r\n'
        "Content-Transfer-Encoding: base64\r\n\r\n"
    )
    end = b"--=_next--\r\n"
    return _filled(head.encode(), _base64(chance), octets - len(end)) + end


def _words(chance: random.Random) -> Iterator[bytes]:
    letters = "aabcdeeefghiijklmnnoooprrsssttuuvwy"
    words = ["".join(chance.choices(letters, k=n % 9 + 2)) for n in range(500)]
    while True:
        yield (" ".join(chance.choices(words, k=9)) + "\r\n").encode()


def _base64(chance: random.Random) -> Iterator[bytes]:
    while True:
        yield b64encode(chance.randbytes(57)) + b"\r\n"


def _filled(head: bytes, lines: Iterator[bytes], octets: int) -> bytes:
    pieces = [head]
    size = len(head)
    while size < octets:
        pieces.append(next(lines))
        size += len(pieces[-1])
    return b"".join(pieces)[: octets - 2] + b"\r\n"


class Source:
    """Sends one message again and again, from a number of sessions at once.

    @param octets: of the message.
    @param reuse: connections for many messages, instead of one for each.
    """

    def __init__(
        self, directory: Path, octets: int, sessions: int, reuse: bool
    ) -> None:
        # It makes CRLF of line feeds.
        self._file = directory / f"message-{octets}"
        self._file.write_bytes(message(octets).replace(b"\r\n", b"\n"))
        self._sessions = sessions
        self._flags = ["-d"] if reuse else []

    def send(self, port: int, recipients: Sequence[str], messages: int) -> float:
        """Send, until the last is acknowledged.

        @param messages: in all; each recipient gets as many as the others.
        @return: seconds.
        @raise RuntimeError: the server refused one.
        """
        started = time.monotonic()
        if len(recipients) == 1:
            self._run(port, recipients[0], messages, self._sessions)
        else:
            each = messages // len(recipients)
            with ThreadPoolExecutor(self._sessions) as pool:
                list(pool.map(lambda one: self._run(port, one, each, 1), recipients))
        return time.monotonic() - started

    def rotate(self, port: int, recipients: Sequence[str], messages: int) -> None:
        """Send to one recipient after the other, each session to whoever is next, until
        the last is acknowledged (L{benchmarks.rotation}).

        @raise RuntimeError: the server refused one.
        """
        content = self._file.read_bytes().replace(b"\n", b"\r\n")
        plan = self._file.with_name("plan")
        plan.write_bytes("\n".join(recipients).encode() + b"\n\n" + content + b".\r\n")
        words = map(str, (port, self._sessions, messages, plan))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.rotation", *words],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)

    def _run(self, port: int, recipient: str, messages: int, sessions: int) -> None:
        done = subprocess.run(
            [
                *("smtp-source", *self._flags, "-s", str(sessions)),
                *("-m", str(messages), "-F", str(self._file)),
                *("-M", "source.example", "-f", "ann@source.example"),
                *("-t", recipient, f"127.0.0.1:{port}"),
            ],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)


@contextmanager
def source(octets: int, sessions: int, reuse: bool) -> Iterator[Source]:
    """A L{Source}, with its message in a temporary file."""
    with TemporaryDirectory(prefix="twisted-mta-bench-load-") as directory:
        yield Source(Path(directory), octets, sessions, reuse)


class Sink:
    """A running smtp-sink that counts messages.

    @ivar port: where it listens.
    """

    def __init__(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.port = port
        self._process = process
        self._count = 0
        self._changed = Condition()
        Thread(target=self._read, daemon=True).start()

    @property
    def count(self) -> int:
        """Messages that came so far."""
        return self._count

    def wait(self, count: int) -> None:
        """Until so many have come since the beginning.

        @raise RuntimeError: none has come for a minute.
        """
        with self._changed:
            while self._count < count:
                if not self._changed.wait(_PATIENCE_S):
                    raise RuntimeError(f"{count - self._count} of {count} never came")

    def _read(self) -> None:
        """Its counters, C{sess=N quit=N mesg=N}, after each event."""
        assert self._process.stdout is not None
        rest = b""
        while octets := os.read(self._process.stdout.fileno(), 65536):
            rest = (rest + octets)[-200:]
            found = rest.rpartition(b"mesg=")[2].split()
            if b"mesg=" in rest and rest.endswith((b"\r", b"\n")) and found:
                with self._changed:
                    if self._count != int(found[0]):
                        self._count = int(found[0])
                        self._changed.notify_all()


@contextmanager
def sink(host: str = "127.0.0.1") -> Iterator[Sink]:
    """An smtp-sink, until the end.

    @param host: where it listens; C{0.0.0.0}: at each address of the loopback.
    """
    port = free_port()
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        ["smtp-sink", "-c", *user, "-m", "1000", f"{host}:{port}", "1000"],
        stdout=subprocess.PIPE,
    )
    try:
        wait_for(port)
        yield Sink(port, process)
    finally:
        process.terminate()
        process.wait()
