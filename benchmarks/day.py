"""A day in an office: who does what, and when.

It is made by a seeded generator, so that all servers have the same day. A day of
nine hours is squeezed into any number of seconds, with more to do in the morning
and after lunch. What a user does in it, in the words of IMAP and SMTP, is played by
a L{Player}; each operation is timed from when it was due, so that a server that
falls behind cannot hide it.
"""

import asyncio
import random
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.load import message
from benchmarks.servers import Server

#: How often each user does it in a day. Some 40 mails a day come to an office
#: worker, by the statistics that are about; the rest is what clients do of it.
OPERATIONS = {
    "arrival": 20,  # from elsewhere, by a connection of its own
    "submission": 8,  # three of four to a colleague, with a login of its own
    "fetch": 20,  # the newest message, whole
    "list": 10,  # the ENVELOPEs of 50 messages
    "flag": 10,  # the newest was read
    "move": 5,  # the oldest, to Trash
    "search": 2,  # in headers and texts
    "login": 10,  # a phone looks in: LOGIN, SELECT, LOGOUT
}

#: Mail that came between its 250 and the EXISTS that a client in IDLE reads.
NOTICE = "notice in IDLE"

_MESSAGE = message(4096)
_AUTHOR = b"ann@source.example"
_OUTSIDE = "someone@elsewhere.example"

# How long the last notice may take before we say that it was lost.
_PATIENCE_S = 60


@dataclass(frozen=True)
class Event:
    """Something to do.

    @ivar at_s: from the beginning.
    @ivar other: a colleague; C{None}: somebody elsewhere.
    """

    at_s: float
    user: int
    what: str
    other: int | None


def schedule(users: int, seconds: float, seed: int = 1) -> list[Event]:
    """A day."""
    chance = random.Random(seed)
    events = []
    for user in range(users):
        for what, times in OPERATIONS.items():
            for _ in range(times):
                busiest = chance.choice((0.2, 0.6))
                at_s = chance.triangular(0, 1, busiest) * seconds
                colleague = chance.randrange(users) if chance.random() < 0.75 else None
                events.append(Event(at_s, user, what, colleague))
    return sorted(events, key=lambda event: event.at_s)


class Player:
    """Plays a day against a server.

    @ivar seconds: how long each operation of a kind took.
    """

    def __init__(self, server: Server, events: Sequence[Event]) -> None:
        self._server = server
        self._events = events
        self.seconds: dict[str, list[float]] = {
            name: [] for name in (*OPERATIONS, NOTICE)
        }
        self._watchers: list[_Watcher] = []
        self._desks: list[_Imap] = []
        self._locks: list[asyncio.Lock] = []

    async def prepare(self, kept: int) -> None:
        """Put mail into all mailboxes, and let all log in."""
        port = self._server.ports["smtp"]
        addresses = [address for address, _ in self._server.accounts]
        for _ in range(kept):
            for at in range(0, len(addresses), 100):
                await _send(port, "", addresses[at : at + 100])
        deadline = time.monotonic() + 3 * _PATIENCE_S
        for user in range(len(addresses)):
            desk = await _Imap.open(self._server, user)
            if not await desk.do('LIST "" Trash'):
                await desk.do("CREATE Trash")
            while await desk.select() < kept:
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"{self._server.name}: mail for {addresses[user]} did not come"
                    )
                await asyncio.sleep(0.1)
            self._desks.append(desk)
            self._locks.append(asyncio.Lock())
            watcher = _Watcher(await _Imap.open(self._server, user), self._noticed)
            await watcher.begin()
            self._watchers.append(watcher)

    async def play(self) -> None:
        """The day, until everybody has read of everything.

        @raise RuntimeError: something was refused, or lost.
        """
        began = time.monotonic()
        doing = []
        for event in self._events:
            due = began + event.at_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            doing.append(asyncio.create_task(self._do(event, due)))
        await asyncio.gather(*doing)
        deadline = time.monotonic() + _PATIENCE_S
        while any(watcher.waits for watcher in self._watchers):
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{self._server.name}: a client in IDLE was not told of a message"
                )
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Everybody goes home."""
        for watcher in self._watchers:
            watcher.close()
        for desk in self._desks:
            desk.close()

    def _noticed(self, seconds: float) -> None:
        self.seconds[NOTICE].append(seconds)

    async def _do(self, event: Event, due: float) -> None:
        match event.what:
            case "arrival":
                await self._mail(self._server.ports["smtp"], event.user, "")
            case "submission":
                name, password = self._server.accounts[event.user]
                login = b64encode(f"\0{name}\0{password}".encode()).decode()
                ports = self._server.ports
                port = ports.get("submission", ports["smtp"])
                await self._mail(port, event.other, login, name)
            case "login":
                phone = await _Imap.open(self._server, event.user)
                await phone.select()
                await phone.do("LOGOUT")
                phone.close()
            case _:
                async with self._locks[event.user]:
                    await self._desks[event.user].do(_COMMANDS[event.what])
        self.seconds[event.what].append(time.monotonic() - due)

    async def _mail(
        self, port: int, user: int | None, login: str, sender: str = ""
    ) -> None:
        to = _OUTSIDE if user is None else self._server.accounts[user][0]
        await _send(port, login, [to], sender or _AUTHOR.decode())
        if user is not None:
            self._watchers[user].accepted()


_COMMANDS = {
    "fetch": "FETCH * (UID FLAGS BODY.PEEK[])",
    "list": "FETCH 1:50 (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)",
    "flag": r"STORE * +FLAGS (\Seen)",
    "move": "MOVE 1 Trash",
    "search": "SEARCH OR FROM nobody TEXT nowhere",
}


async def _send(
    port: int,
    login: str,
    recipients: Sequence[str],
    sender: str = _AUTHOR.decode(),
) -> None:
    """A message over a connection of its own, its commands pipelined.

    @param login: for AUTH PLAIN; empty: none.
    @raise RuntimeError: it was refused.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await _reply(reader, 220)
        writer.write(b"EHLO source.example\r\n")
        await _reply(reader, 250)
        if login:
            writer.write(f"AUTH PLAIN {login}\r\n".encode())
            await _reply(reader, 235)
        commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{to}>" for to in recipients)]
        writer.write("".join(f"{line}\r\n" for line in (*commands, "DATA")).encode())
        for _ in commands:
            await _reply(reader, 250)
        await _reply(reader, 354)
        writer.write(_MESSAGE.replace(_AUTHOR, sender.encode(), 1) + b".\r\n")
        await _reply(reader, 250)
        writer.write(b"QUIT\r\n")
    finally:
        writer.close()


async def _reply(reader: asyncio.StreamReader, code: int) -> None:
    line = await reader.readline()
    while line[3:4] == b"-":
        line = await reader.readline()
    if line[:3] != b"%d" % code:
        raise RuntimeError(f"not {code}: {line.decode()!r}")


class _Imap:
    """A client of IMAP, logged in."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._number = 0

    @classmethod
    async def open(cls, server: Server, user: int) -> "_Imap":
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.ports["imap"]
        )
        made = cls(reader, writer)
        await reader.readline()
        name, password = server.accounts[user]
        await made.do(f'LOGIN "{name}" "{password}"')
        return made

    def close(self) -> None:
        self.writer.close()

    async def do(self, command: str) -> list[bytes]:
        """@return: the lines before the tagged one.
        @raise RuntimeError: it was not OK.
        """
        self._number += 1
        tag = b"tag%d " % self._number
        self.writer.write(tag + command.encode() + b"\r\n")
        lines = []
        while not (line := await self.reader.readline()).startswith(tag):
            if not line:
                raise RuntimeError(f"closed during {command}")
            lines.append(line)
        if not line.startswith(tag + b"OK"):
            raise RuntimeError(f"{command}: {line.decode()!r}")
        return lines

    async def select(self) -> int:
        """Select INBOX.

        @return: how many messages are in it.
        """
        for line in await self.do("SELECT INBOX"):
            words = line.split()
            if words[2:3] == [b"EXISTS"]:
                return int(words[1])
        raise RuntimeError("SELECT told no EXISTS")


class _Watcher:
    """A client in IDLE, that is told of mail.

    @ivar waits: messages that were accepted, and that it has not read of.
    """

    def __init__(self, client: _Imap, noticed: Callable[[float], None]) -> None:
        self._client = client
        self._noticed = noticed
        self._count = 0
        self._accepted: deque[float] = deque()
        self._early = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def waits(self) -> int:
        return len(self._accepted)

    async def begin(self) -> None:
        self._count = await self._client.select()
        self._client.writer.write(b"idle IDLE\r\n")
        while not (await self._client.reader.readline()).startswith(b"+"):
            pass
        self._task = asyncio.create_task(self._watch())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._client.close()

    def accepted(self) -> None:
        """A message for this user was acknowledged just now."""
        if self._early:
            self._early -= 1
            self._noticed(0.0)
        else:
            self._accepted.append(time.monotonic())

    async def _watch(self) -> None:
        while line := await self._client.reader.readline():
            words = line.split()
            if words[2:3] == [b"EXPUNGE"]:
                self._count -= 1
            elif words[2:3] == [b"EXISTS"]:
                new, self._count = int(words[1]) - self._count, int(words[1])
                now = time.monotonic()
                for _ in range(new):
                    if self._accepted:
                        self._noticed(now - self._accepted.popleft())
                    else:  # it was told before the sender was
                        self._early += 1
