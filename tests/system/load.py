"""Clients that send, file and read mail while their server is killed, and note
what they were told.

Each is a thread. Whatever it is doing when the server dies, it notes what may
have come of it, forgets the connection, and goes on when the server is back.
No message is sent twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import imaplib
import itertools
import random
import re
import smtplib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.system.daemon import PATIENCE_S, Program, wait_until
from tests.system.evidence import Evidence, Places, Promise, Uid, inbox

PASSWORD = "correct horse"

# Mail for these is only ever delivered.
READERS = ("alice@example.test", "bob@example.test", "carol@example.test")
# These file messages, and get mail besides.
FILERS = ("dora@example.test", "emil@example.test")
# Routed to a host that takes nothing.
ELSEWHERE = ("eve@elsewhere.test", "fred@nowhere.test")

# Above this the server keeps content in a file.
LARGE_OCTETS = 128 * 1024

# How often it is seen whether the server lives.
_LOOK_S = 0.5

_CONNECTIONS = itertools.count(1)

# The server died, in the words of each library; and what is an OSError too.
_DIED = (OSError, EOFError, imaplib.IMAP4.abort)


@dataclass
class Load:
    """The clients of one server.

    @ivar up: the server runs.
    @ivar failures: what a client could not understand; must stay empty.
    """

    ports: dict[str, int]
    evidence: Evidence = field(default_factory=Evidence)
    up: threading.Event = field(default_factory=threading.Event)
    failures: list[str] = field(default_factory=list)
    _ending: bool = False
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Five who keep their connections, three who make one for each message,
        two who file mail, one who looks what is new."""
        self._turns = (
            *(_Sender(self, f"kept{number}", fresh=False).turn for number in range(5)),
            *(_Sender(self, f"fresh{number}", fresh=True).turn for number in range(3)),
            *(
                _Filer(self, f"filed{number}", address).turn
                for number, address in enumerate(FILERS)
            ),
            _Reader(self).turn,
        )

    def start(self) -> None:
        """Let all begin; or go on, after an end."""
        self._ending = False
        self._threads = [self._begin(turn) for turn in self._turns]

    def end(self) -> None:
        """Let all end, after what they are doing."""
        self._ending = True
        self.up.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            if thread.is_alive():
                self.failures.append(f"{thread.name}: hangs")

    def wait_for(self, what: str, number: int, server: Program) -> None:
        """Wait until so much more was acknowledged by a server that lives."""
        evidence = self.evidence
        with evidence.changed:
            end = evidence.acknowledged[what] + number

            def there() -> bool:
                if self.failures:
                    raise AssertionError(self.failures)
                return evidence.changed.wait_for(
                    lambda: evidence.acknowledged[what] >= end, _LOOK_S
                )

            wait_until(there, f"{number} more {what}", server)

    def _begin(self, turn: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            while not self._ending:
                if not self.up.wait(PATIENCE_S):
                    self.failures.append("the server does not come back")
                    return
                try:
                    turn()
                except Exception as error:
                    if _has_died(error):
                        continue
                    self.failures.append(f"{turn.__self__}: {error!r}")  # type: ignore[attr-defined]
                    return

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread


def _has_died(error: Exception) -> bool:
    """Whether an error means that the server has gone, or, as a worker that sees
    that its supervisor is dead, goes."""
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code == 421
    return isinstance(error, _DIED)


def message(token: str, chance: random.Random, large: bool | None = None) -> bytes:
    """A message with dots where they hurt.

    @param large: it shall have a file of its own; not said: one of seven has.
    """
    if large is None:
        large = chance.randrange(7) == 0
    size = chance.randrange(LARGE_OCTETS, 200_000) if large else chance.randrange(3000)
    line = hashlib.sha256(token.encode()).hexdigest()
    body = f".{line}\r\n..\r\n{line} {token}\r\n" * (size // 140 + 1)
    return (
        "From: Load <load@load.test>\r\n"
        f"Subject: {token}\r\nX-Token: {token}\r\n\r\n{body}"
    ).encode()


@contextlib.contextmanager
def smtp(port: int) -> Iterator[smtplib.SMTP]:
    """A connection that is left without ado."""
    client = smtplib.SMTP("127.0.0.1", port, "load.test", PATIENCE_S)
    try:
        client.ehlo()
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def imap(port: int, address: str) -> Iterator[imaplib.IMAP4]:
    """The same, logged in. No two of them use the same tags."""
    client = imaplib.IMAP4("127.0.0.1", port, PATIENCE_S)
    # imaplib begins with four letters by chance, which are not many.
    letters = b"T%dx" % next(_CONNECTIONS)
    client.tagre = re.compile(client.tagre.pattern.replace(client.tagpre, letters))  # type: ignore[attr-defined]
    client.tagpre = letters  # type: ignore[attr-defined]
    try:
        client.login(address, PASSWORD)
        yield client
    finally:
        with contextlib.suppress(*_DIED):
            client.shutdown()


def done(client: imaplib.IMAP4) -> bytes:
    """How the server's answer to the last command begins."""
    last: int = client.tagnum - 1  # type: ignore[attr-defined]
    return b"%b%d OK " % (client.tagpre, last)  # type: ignore[attr-defined]


class _Client:
    """A name, and a number for each message."""

    def __init__(self, load: Load, name: str) -> None:
        self.load = load
        self.evidence = load.evidence
        self.name = name
        self.chance = random.Random(name)
        self._number = 0

    def __repr__(self) -> str:
        return self.name

    def compose(self) -> tuple[str, bytes, Promise]:
        """A new message."""
        self._number += 1
        token = f"{self.name}-{self._number}"
        octets = message(token, self.chance)
        return token, octets, self.evidence.offer(token, octets)


class _Sender(_Client):
    """Another mail server."""

    def __init__(self, load: Load, name: str, fresh: bool) -> None:
        super().__init__(load, name)
        self._fresh = fresh

    def turn(self) -> None:
        """One connection."""
        with smtp(self.load.ports["smtp"]) as client:
            while not self.load._ending:
                self._send(client)
                if self._fresh:
                    break

    def _send(self, client: smtplib.SMTP) -> None:
        token, octets, promise = self.compose()
        people = [*READERS, *FILERS, *ELSEWHERE]
        recipients = self.chance.sample(people, self.chance.choice((1, 1, 1, 2, 3, 5)))
        _expect(client.mail(f"{token}@load.test"))
        for recipient in recipients:
            _expect(client.rcpt(recipient))
        if self.chance.random() < 0.1:
            # It never came whole, so it must be nowhere.
            client.docmd("DATA")
            client.send(octets[: self.chance.randrange(len(octets))])
            raise EOFError("the client hangs up")
        places = _places(recipients)
        promise.allowed = (), places
        way = self._data if self.chance.random() < 0.6 else self._bdat
        promise.keep(places, _expect(way(client, octets)))
        self.evidence.acknowledge("sent")

    def _data(self, client: smtplib.SMTP, octets: bytes) -> tuple[int, bytes]:
        return client.data(octets)

    def _bdat(self, client: smtplib.SMTP, octets: bytes) -> tuple[int, bytes]:
        cut = self.chance.randrange(len(octets))
        client.send(b"BDAT %d\r\n%b" % (cut, octets[:cut]))
        _expect(client.getreply())
        rest = octets[cut:]
        client.send(b"BDAT %d LAST\r\n%b" % (len(rest), rest))
        return client.getreply()


def _expect(reply: tuple[int, bytes]) -> bytes:
    """Nothing is refused here for any reason but that the server ends.

    @return: the server's words.
    """
    if reply[0] == 421:
        raise EOFError("the server stops")
    if reply[0] != 250:
        raise AssertionError(f"the server said {reply}")
    return reply[1]


def _places(recipients: Sequence[str]) -> Places:
    return tuple(
        sorted(f"queue/{one}" if one in ELSEWHERE else inbox(one) for one in recipients)
    )


class _Filer(_Client):
    """A person at a mail program, who files mail: each message goes through
    INBOX, Archive and Trash by APPEND, COPY, MOVE and EXPUNGE."""

    def __init__(self, load: Load, name: str, address: str) -> None:
        super().__init__(load, name)
        self._address = address

    def turn(self) -> None:
        """One session."""
        with imap(self.load.ports["imap"], self._address) as client:
            client.select("INBOX")
            while not self.load._ending:
                self._file(client)

    def _file(self, client: imaplib.IMAP4) -> None:
        token, octets, promise = self.compose()
        self._do(
            client, promise, ("INBOX",), client.append, "INBOX", None, None, octets
        )
        uid = self._given(client, "APPENDUID", "INBOX", token)
        if self.chance.random() < 0.5:
            self._do(
                client,
                promise,
                ("Archive", "INBOX"),
                client.uid,
                "COPY",
                uid,
                "Archive",
            )
            self._given(client, "COPYUID", "Archive", token)
            # Another EXPUNGE, of a later session, may be what removes it.
            self._may_be(promise, ("Archive",))
            _ok(client.uid("STORE", uid, "+FLAGS.SILENT", r"(\Deleted)"))
            self._do(client, promise, ("Archive",), client.expunge)
        else:
            self._do(client, promise, ("Trash",), client.uid, "MOVE", uid, "Trash")
            self._given(client, "COPYUID", "Trash", token)

    def _may_be(self, promise: Promise, mailboxes: Sequence[str]) -> Places:
        """From now on it may be in these."""
        places = tuple(f"{self._address}/{mailbox}" for mailbox in mailboxes)
        if places not in promise.allowed:
            promise.allowed = *promise.allowed, places
        return places

    def _do(
        self,
        client: imaplib.IMAP4,
        promise: Promise,
        mailboxes: Sequence[str],
        command: Callable[..., tuple[str, list[bytes]]],
        *arguments: object,
    ) -> None:
        """A command after whose OK the message is in these mailboxes, and until
        then in these or where it was."""
        places = self._may_be(promise, mailboxes)
        _ok(command(*arguments))
        promise.keep(places, done(client))
        self.evidence.acknowledge("filed")

    def _given(self, client: imaplib.IMAP4, code: str, mailbox: str, token: str) -> str:
        """Note the UID that a response code gives; it is the last number."""
        _, data = client.response(code)
        assert data and data[-1], f"no {code}"
        numbers = data[-1].split()
        place = f"{self._address}/{mailbox}"
        uid = Uid(place, int(numbers[0]), int(numbers[-1]), token, done(client))
        self.evidence.see(uid)
        return numbers[-1].decode()


def _ok(answer: tuple[str, list[bytes]]) -> None:
    if answer[0] != "OK":
        raise AssertionError(f"the server said {answer}")


_SEEN = re.compile(rb"UID (\d+)")


class _Reader(_Client):
    """Somebody who looks, again and again, what is new in the INBOXes to which
    mail is only delivered. What he has seen must stay as it was."""

    def __init__(self, load: Load) -> None:
        super().__init__(load, "reader")
        self._next = dict.fromkeys(READERS, 1)

    def turn(self) -> None:
        """Look at all of them."""
        for address in READERS:
            with imap(self.load.ports["imap"], address) as client:
                self._look(client, address)

    def _look(self, client: imaplib.IMAP4, address: str) -> None:
        client.select("INBOX", readonly=True)
        validity = int(client.response("UIDVALIDITY")[1][0] or 0)
        next_uid = int(client.response("UIDNEXT")[1][0] or 0)
        first = self._next[address]
        if next_uid < first:
            raise AssertionError(f"UIDNEXT went back from {first} to {next_uid}")
        if next_uid == first:
            return
        _, data = client.uid(
            "FETCH", f"{first}:{next_uid - 1}", "(BODY.PEEK[HEADER.FIELDS (X-TOKEN)])"
        )
        for item in data:
            if isinstance(item, tuple):
                uid = int(_SEEN.search(item[0])[1])  # type: ignore[index]
                token = item[1].strip().removeprefix(b"X-Token: ").decode()
                seen = Uid(inbox(address), validity, uid, token, done(client))
                self.evidence.see(seen)
                self.evidence.found(seen)
                self._next[address] = uid + 1
