"""The real server under attack, and an honest client beside the attacker.

What holds for every hostile input at once is checked here, in L{HostileCase}:
the process lives; the honest client is served while the attack goes on (the
attacker only stops when the honest one has its answer, so that a server that
serves the one before the other hangs the test); the resident memory of the
process grows by no more than a stated bound; mailboxes and queue have what was
acknowledged and nothing else; and the log says what happened, without a control
character.
"""

from __future__ import annotations

import atexit
import contextlib
import imaplib
import json
import poplib
import re
import smtplib
import socket
import ssl
import threading
import unittest
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from tests.system.daemon import (
    PATIENCE_S,
    Directory,
    Server,
    free_port_base,
    mta,
    run,
    wait_until,
)

HOST = "127.0.0.1"
ALICE = "alice@example.test"
BOB = "bob@example.test"
PASSWORD = "the quick brown fox"
STRANGER = "carol@elsewhere.test"

MIB = 1 << 10  # in KiB, as the kernel counts
_RECEIVE_OCTETS = 65536

# A server that has not read for so long is taken to have stopped reading; if it
# is only slow, the attack is weaker and the test no stricter.
_RELUCTANCE_S = 0.2
_NUMBERS = count(1)


class Wire:
    """A connection that says what no client library would.

    @param source: the address to come from; all of 127/8 is ours.
    @param buffer: the octets of replies that the kernel takes for us, if few.
    """

    def __init__(
        self,
        port: int,
        source: str = HOST,
        tls: bool = False,
        buffer: int | None = None,
    ) -> None:
        self._socket = socket.socket()
        if buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._socket.settimeout(PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.bind((source, 0))
        self._socket.connect((HOST, port))
        if tls:
            self._socket = untrusting().wrap_socket(self._socket)
        self._unread = b""
        self.closed = False

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def send(self, octets: bytes) -> bool:
        """Send.

        @return: whether the server was still there.
        """
        try:
            self._socket.sendall(octets)
        except TimeoutError:
            raise
        except OSError:
            self.closed = True
        return not self.closed

    def flood(self, octets: bytes, most: int) -> int:
        """Send the same again and again, up to so many octets, or until the
        server takes no more: it closed, or has not read for a while.

        @return: how many octets it took.
        """
        sent = 0
        self._socket.settimeout(_RELUCTANCE_S)
        try:
            while sent < most and self.send(octets):
                sent += len(octets)
        except TimeoutError:
            pass
        self._socket.settimeout(PATIENCE_S)
        return sent

    def line(self) -> bytes:
        """The next line, without its end; empty when the server has hung up."""
        while b"\n" not in self._unread:
            octets = self._receive()
            if not octets:
                line, self._unread = self._unread, b""
                return line
            self._unread += octets
        line, _, self._unread = self._unread.partition(b"\n")
        return line.rstrip(b"\r")

    def rest(self) -> bytes:
        """Everything up to the server's end of the connection."""
        parts = [self._unread]
        while octets := self._receive():
            parts.append(octets)
        return b"".join(parts)

    def until(self, start: bytes) -> bytes:
        """Read lines up to one that begins so.

        @raise AssertionError: there is none.
        """
        seen = []
        while line := self.line():
            if line.startswith(start):
                return line
            seen.append(line[:200])
        raise AssertionError(f"no {start!r}; at last {seen[-5:]!r}")

    def say(self, text: str, start: bytes = b"") -> bytes:
        """Send a line, and read the reply that begins so."""
        self.send(text.encode() + b"\r\n")
        return self.until(start) if start else self.line()

    def _receive(self) -> bytes:
        try:
            octets = self._socket.recv(_RECEIVE_OCTETS)
        except TimeoutError:
            raise
        except OSError:
            octets = b""
        self.closed = not octets
        return octets


class Attack(threading.Thread):
    """Does something hostile again and again, at least once, until it is told
    to stop."""

    def __init__(self, once: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._once = once
        self._enough = threading.Event()
        self._begun = threading.Event()
        self._error: BaseException | None = None
        self.start()
        self._begun.wait(PATIENCE_S)

    def run(self) -> None:
        try:
            while True:
                self._begun.set()
                self._once()
                if self._enough.is_set():
                    return
        except BaseException as error:
            self._error = error

    def stop(self) -> None:
        """It is enough.

        @raise BaseException: what went wrong with the attack.
        """
        self._enough.set()
        self.join(PATIENCE_S)
        if self._error is not None:
            raise self._error
        if self.is_alive():
            raise AssertionError("the attack has no end")


class _Current:
    """The server of the class whose tests run now. (trial calls no setUpClass.)"""

    def __init__(self) -> None:
        self._owner: type[HostileCase] | None = None
        self._server: Server | None = None
        self._directory = Directory()
        atexit.register(self.end)

    def server(self, owner: type[HostileCase]) -> Server:
        """The server of a class; that of another ends."""
        if self._owner is not owner or self._server is None:
            self.end()
            self._owner = owner
            self._directory = Directory()
            self._server = _start(self._directory.path, owner)
        return self._server

    def end(self) -> None:
        """Stop it."""
        server, self._server = self._server, None
        if server is not None:
            server.kill()
        self._directory.remove()


def _start(home: Path, owner: type[HostileCase]) -> Server:
    base = free_port_base()
    words = ["--directory", str(home / "mail"), "--port-base", str(base)]
    words += owner.options()
    config = home / "mta.yaml"
    config.write_text(run(mta("try", "--print-config", *words)).stdout + owner.SETTINGS)
    for address in (ALICE, BOB):
        run([*mta("account", "add", address), "--config", str(config)], PASSWORD)
    return Server(config, base)


_current = _Current()


class HostileCase(unittest.TestCase):
    """One server for a class; its accounts are alice and bob.

    @cvar SETTINGS: YAML added to the config of C{twisted-mta try}.
    """

    SETTINGS = ""

    @classmethod
    def options(cls) -> list[str]:
        """More words for C{twisted-mta try}."""
        return []

    def setUp(self) -> None:
        self.server = _current.server(type(self))
        self.home = self.server.config.parent
        self.subjects: list[str] = []
        self.honest()  # what is made once, and kept, is no growth
        self._log_from = len(self.server.log)

    # --- what holds for all ---

    def honest(self) -> None:
        """A client that writes to bob as another server would, and as alice,
        and bob, who reads both, by IMAP and by POP3."""
        name = f"honest-{next(_NUMBERS)}"
        text = f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: {name}\r\n\r\nHello.\r\n"
        with smtplib.SMTP(HOST, self.port("smtp"), timeout=PATIENCE_S) as client:
            client.sendmail(STRANGER, [BOB], text)
        with self.submission() as client:
            client.sendmail(ALICE, [BOB], text)
        self.subjects += [name] * 2
        with self.imap() as reader:
            reader.select("INBOX")
            self.assertEqual(
                len(reader.search(None, "SUBJECT", f'"{name}"')[1][0].split()), 2
            )
        pop = poplib.POP3_SSL(
            HOST, self.port("pop3s"), timeout=PATIENCE_S, context=untrusting()
        )
        pop.user(BOB)
        pop.pass_(PASSWORD)
        self.assertGreaterEqual(pop.stat()[0], 2)
        pop.quit()

    @contextlib.contextmanager
    def under_attack(self, growth: int) -> Iterator[None]:
        """What happens within must leave the server well, and grow its
        resident memory by no more than C{growth} KiB at any moment."""
        before = self.memory("VmRSS")
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # the peak: from now
        yield
        self.assertIsNone(self.server.process.poll(), "the server has died")
        grown = self.memory("VmHWM") - before
        self.assertLessEqual(grown, growth, "KiB of memory")

    def attacked(self, growth: int, *attacks: Callable[[], object]) -> None:
        """While these attacks go on, the honest client is served."""
        with self.under_attack(growth):
            running = [Attack(one) for one in attacks]
            try:
                self.honest()
            finally:
                for one in running:
                    one.stop()

    def nothing_else(self) -> None:
        """Bob has what the honest client sent, and what the test says was
        acknowledged besides; alice has nothing; nothing is queued.

        Bob's mailbox is empty afterwards."""
        with self.imap() as reader:
            found = subjects(reader)
            reader.uid("STORE", "1:*", "+FLAGS.SILENT", r"(\Deleted)")
            reader.expunge()
        self.assertEqual(sorted(found), sorted(self.subjects))
        with self.imap(ALICE) as reader:
            self.assertEqual(subjects(reader), [])
        self.assertEqual(self.command("queue", "list", "--json").strip() or "[]", "[]")

    def tearDown(self) -> None:
        if self.server.process.poll() is None:
            self.nothing_else()
        log = self.server.log
        strange = re.search(r"[^\n\t\x20-\x7e\x80-\U0010ffff]", log)
        self.assertIsNone(strange, "a control character in the log")
        self.assertNotIn("Traceback", log)
        self.assertNotIn("a bug", log)

    def logged(self, pattern: str) -> None:
        """The log has a line that matches, from this test."""
        wait_until(
            lambda: re.search(pattern, self.server.log[self._log_from :]),
            f"in the log: {pattern}",
            self.server,
        )

    # --- the server ---

    @property
    def pid(self) -> int:
        """Of the server."""
        return self.server.process.pid

    def memory(self, what: str) -> int:
        """KiB of the server's memory: VmRSS, or its peak, VmHWM."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"{what}:\s+(\d+) kB", text)
        assert found is not None
        return int(found[1])

    def port(self, name: str) -> int:
        """Of a listener."""
        return self.server.ports[name]

    def command(self, *words: str) -> str:
        """What C{twisted-mta WORDS} prints."""
        return self.server.command(*words)

    # --- sessions ---

    @contextlib.contextmanager
    def submission(self) -> Iterator[smtplib.SMTP]:
        """Alice's."""
        with smtplib.SMTP_SSL(
            HOST, self.port("submissions"), timeout=PATIENCE_S, context=untrusting()
        ) as client:
            client.login(ALICE, PASSWORD)
            yield client

    @contextlib.contextmanager
    def imap(self, address: str = BOB) -> Iterator[imaplib.IMAP4]:
        """A session with nothing selected."""
        with imaplib.IMAP4_SSL(
            HOST, self.port("imaps"), timeout=PATIENCE_S, ssl_context=untrusting()
        ) as client:
            client.login(address, PASSWORD)
            yield client

    def wire(
        self, name: str, source: str = HOST, buffer: int | None = None
    ) -> contextlib.AbstractContextManager[Wire]:
        """A connection that has read its greeting."""
        secure = name in ("submissions", "imaps", "pop3s")
        wire = Wire(self.port(name), source, secure, buffer)
        wire.line()
        return wire

    @contextlib.contextmanager
    def mail(self, source: str = HOST) -> Iterator[Wire]:
        """A connection on which content for bob may follow."""
        with self.wire("smtp", source) as wire:
            wire.say("EHLO elsewhere.test", b"250 ")
            wire.say(f"MAIL FROM:<{STRANGER}>", b"250 ")
            wire.say(f"RCPT TO:<{BOB}>", b"250 ")
            wire.say("DATA", b"354 ")
            yield wire

    @contextlib.contextmanager
    def reader(self, source: str = HOST, buffer: int | None = None) -> Iterator[Wire]:
        """Bob's INBOX, by IMAP."""
        with self.wire("imaps", source, buffer) as wire:
            wire.say(f'a LOGIN {BOB} "{PASSWORD}"', b"a OK")
            wire.say("a SELECT INBOX", b"a OK")
            yield wire


def subjects(reader: imaplib.IMAP4) -> list[str]:
    """Of all messages in INBOX."""
    reader.select("INBOX")
    _, parts = reader.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    heads = (part[1].decode() for part in parts if isinstance(part, tuple))
    return [head.partition(":")[2].strip() for head in heads]


def untrusting() -> ssl.SSLContext:
    """TLS with whoever is there; who the server is, is not what is tested."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def queued(text: str) -> list[dict[str, str]]:
    """The queue's rows."""
    rows: list[dict[str, str]] = json.loads(text)
    return rows
