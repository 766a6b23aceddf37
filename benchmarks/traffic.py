"""Clients of all protocols, for as long as one likes, beside a server that may die
at any moment.

Threads on the standard library's clients. Each message has an id of its own; what
was acknowledged is noted when it is, and by whom it must be found. Whatever breaks
because the server dies is forgotten, and the client tries something else.
"""

import imaplib
import itertools
import poplib
import random
import re
import smtplib
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from benchmarks.servers import Server

_BROKEN = (
    OSError,
    EOFError,
    smtplib.SMTPException,
    imaplib.IMAP4.error,
    poplib.error_proto,
)

# A pause between two messages of a sender, so that the machine is not saturated.
_PAUSE_S = 0.02
_TIMEOUT_S = 30

ID = re.compile(rb"<soak-(\d+)@soak\.example>")


class Traffic:
    """Senders and readers.

    @ivar local: acknowledged messages for mailboxes: id to recipients.
    @ivar outside: ids of those for elsewhere.
    @ivar done: how often each thing was done.
    @ivar broken: how often each broke off.
    """

    def __init__(self, server: Server, seed: int) -> None:
        self._server = server
        self._chance = random.Random(seed)
        self._numbers = itertools.count()
        self._open = threading.Event()
        self._ended = False
        self._busy = 0
        self._lock = threading.Condition()
        self.local: dict[int, Sequence[str]] = {}
        self.outside: set[int] = set()
        self.done: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()
        kinds = [self._send] * 4 + [self._submit] * 2 + [self._read] * 2
        self._threads = [
            threading.Thread(target=self._run, args=(kind, seed + n), daemon=True)
            for n, kind in enumerate([*kinds, self._idle, self._pop])
        ]
        for thread in self._threads:
            thread.start()

    def resume(self) -> None:
        """Let all work."""
        self._open.set()

    def pause(self) -> None:
        """Let all come to the end of what they do, and wait for it."""
        self._open.clear()
        with self._lock:
            self._lock.wait_for(lambda: not self._busy, _TIMEOUT_S * 2)

    def end(self) -> None:
        """No more."""
        self._ended = True
        self._open.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_S * 2)

    def _run(self, kind: Callable[[random.Random], None], seed: int) -> None:
        chance = random.Random(seed)
        while True:
            self._open.wait()
            if self._ended:
                return
            with self._lock:
                self._busy += 1
            try:
                kind(chance)
                with self._lock:
                    self.done[kind.__name__.strip("_")] += 1
            except _BROKEN:
                with self._lock:
                    self.broken[kind.__name__.strip("_")] += 1
                time.sleep(0.1)
            finally:
                with self._lock:
                    self._busy -= 1
                    self._lock.notify_all()
            time.sleep(_PAUSE_S)

    # --- mail in ---

    def _send(self, chance: random.Random) -> None:
        """From elsewhere to up to three mailboxes, a few on a connection."""
        with smtplib.SMTP(
            "127.0.0.1", self._server.ports["smtp"], timeout=_TIMEOUT_S
        ) as client:
            for _ in range(chance.randint(1, 5)):
                some = chance.sample(self._server.accounts, chance.randint(1, 3))
                to = [address for address, _ in some]
                number = next(self._numbers)
                refused = client.sendmail(
                    "ann@source.example",
                    to,
                    self._message(number, "ann@source.example", chance),
                )
                self.local[number] = [each for each in to if each not in refused]

    def _submit(self, chance: random.Random) -> None:
        """With a login, to elsewhere."""
        name, password = chance.choice(self._server.accounts)
        with smtplib.SMTP(
            "127.0.0.1", self._server.ports["submission"], timeout=_TIMEOUT_S
        ) as client:
            client.login(name, password)
            number = next(self._numbers)
            client.sendmail(
                name, ["someone@elsewhere.example"], self._message(number, name, chance)
            )
            self.outside.add(number)

    def _message(self, number: int, sender: str, chance: random.Random) -> bytes:
        # One of fifty is large enough for a file of its own.
        lines = 2000 if chance.random() < 0.02 else chance.randint(1, 60)
        return (
            f"From: <{sender}>\r\nMessage-ID: <soak-{number}@soak.example>\r\n"
            f"Subject: number {number}\r\n\r\n"
            + "all work and no play is dull\r\n"
            * lines
        ).encode()

    # --- and out ---

    def _login(self, chance: random.Random) -> imaplib.IMAP4:
        client = imaplib.IMAP4("127.0.0.1", self._server.ports["imap"], _TIMEOUT_S)
        try:
            client.login(*chance.choice(self._server.accounts))
            client.select()
        except BaseException:
            client.shutdown()
            raise
        return client

    def _read(self, chance: random.Random) -> None:
        """Look, read, flag, move and search."""
        client = self._login(chance)
        try:
            if client.select()[1] == [b"0"]:
                return
            client.fetch("1:*", "(UID FLAGS)")
            client.fetch("*", "(UID BODY.PEEK[])")
            client.store("*", "+FLAGS", r"(\Seen)")
            client.search(None, "UNSEEN", "SUBJECT", "7")
            if chance.random() < 0.3:
                client._simple_command("MOVE", "1", "Trash")
        finally:
            client.shutdown()

    def _idle(self, chance: random.Random) -> None:
        """Wait for mail for a second."""
        client = self._login(chance)
        try:
            client.send(b"idle IDLE\r\n")
            client.readline()
            time.sleep(1)
            client.send(b"DONE\r\n")
            while not (line := client.readline()).startswith(b"idle "):
                if not line:
                    raise EOFError
        finally:
            client.shutdown()

    def _pop(self, chance: random.Random) -> None:
        """Fetch one message."""
        client = poplib.POP3("127.0.0.1", self._server.ports["pop3"], _TIMEOUT_S)
        try:
            name, password = chance.choice(self._server.accounts)
            client.user(name)
            client.pass_(password)
            if client.stat()[0]:
                client.retr(1)
            client.quit()
        finally:
            client.close()


def found(server: Server) -> dict[str, Counter[int]]:
    """How often each message is in the mailboxes of each account, by IMAP."""
    there: dict[str, Counter[int]] = {}
    for name, password in server.accounts:
        counted = there[name] = Counter()
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"], 120) as client:
            client.login(name, password)
            for line in client.list()[1]:
                mailbox = line.split()[-1].decode()  # type: ignore[union-attr]
                if client.select(mailbox, readonly=True)[1] != [b"0"]:
                    said = client.fetch(
                        "1:*", "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])"
                    )[1]
                    for part in said:
                        if isinstance(part, tuple) and (match := ID.search(part[1])):
                            counted[int(match[1])] += 1
    return there


class Elsewhere:
    """Who gets mail for elsewhere: an SMTP server that remembers ids.

    @ivar received: how often each came.
    """

    def __init__(self) -> None:
        self.received: Counter[int] = Counter()
        received = self.received
        lock = threading.Lock()

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 elsewhere\r\n")
                while line := self.rfile.readline():
                    verb = line[:4].upper()
                    if verb == b"DATA":
                        self.wfile.write(b"354 go\r\n")
                        number = None
                        while (line := self.rfile.readline()) not in (b".\r\n", b""):
                            if number is None and (match := ID.search(line)):
                                number = int(match[1])
                        if line and number is not None:
                            with lock:
                                received[number] += 1
                    self.wfile.write(
                        b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n"
                    )
                    if verb == b"QUIT":
                        return

        class Listener(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """The server that sent to us was killed."""

        self._server = Listener(("127.0.0.1", 0), Session)
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> "Elsewhere":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
