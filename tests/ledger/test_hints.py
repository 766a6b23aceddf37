"""L{twisted_mta.ledger.hints}: what one process changed, another hears."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.ledger.case import LedgerCase, note
from twisted_mta.ledger import hints, writer
from twisted_mta.ledger.hints import Hints
from twisted_mta.ledger.presence import Presence


class Reactor(Clock):
    """Reads when the test says so."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)

    def read(self) -> None:
        """A second later, what has been said by then."""
        self.advance(1)
        for reader in self.readers:
            reader.doRead()


class HintsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.directory = Path(self.mktemp()).absolute()
        self.heard: list[tuple[str, set[str] | None]] = []
        self.one, self.other = self.process("one"), self.process("other")

    def process(self, name: str) -> Hints:
        """A process that hears; it leaves with the test."""
        presence = Presence(self.directory)
        self.addCleanup(presence.leave)

        def heard(topics: Iterable[str] | None) -> None:
            self.heard.append((name, None if topics is None else set(topics)))

        process = Hints(cast(Any, self.reactor), presence, heard)
        self.addCleanup(lambda: process in self.reactor.readers and process.close())
        return process

    def test_heard_by_the_others(self) -> None:
        """The others hear what was changed; who changed it does not."""
        self.one.send({"queue", "mailbox:1"})
        self.reactor.read()
        self.assertEqual(self.heard, [("other", {"queue", "mailbox:1"})])

    def test_together(self) -> None:
        """What gathered is heard as one."""
        for number in range(5):
            self.one.send([f"mailbox:{number}"])
        self.reactor.read()
        self.assertEqual(
            self.heard, [("other", {f"mailbox:{number}" for number in range(5)})]
        )

    def test_pause(self) -> None:
        """The first is told at once; what follows soon, together after a pause."""
        self.one.send(["a"])
        self.other.doRead()
        self.assertEqual(self.heard, [("other", {"a"})])
        for topic in "bcb":
            self.one.send([topic])
        self.other.doRead()
        self.assertEqual(len(self.heard), 1)
        self.reactor.advance(0.1)
        self.other.doRead()
        self.assertEqual(self.heard[1:], [("other", {"b", "c"})])

    def test_closed_in_the_pause(self) -> None:
        """What was to be told is told before the end."""
        self.one.send(["a"])
        self.one.send(["b"])
        self.one.close()
        self.other.doRead()
        self.assertEqual(self.heard, [("other", {"a", "b"})])

    def test_nothing_changed(self) -> None:
        """Then nobody is told."""
        self.one.send([])
        self.reactor.read()
        self.assertEqual(self.heard, [])

    def test_too_many(self) -> None:
        """Too many to name become anything."""
        self.one.send([f"mailbox:{number}" for number in range(100_000)])
        self.reactor.read()
        self.assertEqual(self.heard, [("other", None)])

    def test_full(self) -> None:
        """Who does not read loses hints, and nobody waits or fails for it; what
        it reads later arrives again."""
        for _ in range(5_000):
            self.one.send(["queue"])
            self.reactor.advance(1)
        for _ in range(100):
            self.reactor.read()
        self.one.send(["late"])
        self.reactor.read()
        self.assertEqual(self.heard[-1], ("other", {"late"}))

    def test_who_came_later(self) -> None:
        """A process that came later hears what is said after that; one that died
        is passed over."""
        third = self.process("third")
        os.utime(self.directory)  # a tick of the file system's clock later
        dead = self.directory / "1-dead.hints"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
            directory = os.open(self.directory, os.O_RDONLY)
            self.addCleanup(os.close, directory)
            gone.bind(f"/proc/self/fd/{directory}/{dead.name}")  # a short name
        third.send(["queue"])
        self.reactor.read()
        self.assertEqual({name for name, _ in self.heard}, {"one", "other"})

    def test_who_came_within_a_tick(self) -> None:
        """Who comes while the directory's time stays the same hears all the same."""
        self.one.send(["before"])
        then = self.directory.stat().st_mtime_ns
        self.process("third")
        os.utime(self.directory, ns=(then, then))
        self.reactor.read()
        self.one.send(["queue"])
        self.reactor.read()
        self.assertIn(("third", {"queue"}), self.heard)

    def test_private(self) -> None:
        """Nobody but the owner can say anything."""
        for path in self.directory.glob("*.hints"):
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)

    def test_long_path(self) -> None:
        """A directory may have a longer name than a socket may."""
        self.directory = Path(self.mktemp()).absolute() / ("d" * 120)
        self.directory.parent.mkdir()
        one = self.process("far one")
        self.process("far other")
        one.send(["queue"])
        self.reactor.read()
        self.assertEqual(self.heard, [("far other", {"queue"})])


class BetweenLedgersTests(LedgerCase):
    """The same, between ledgers as two processes have them."""

    async def test_commit(self) -> None:
        """Who watches a topic at one is called after a commit at the other,
        without looking; the commit's own process is not told again."""
        # Looking is what would find it a second later.
        self.patch(writer.Writer, "_others_wrote", lambda *_: False)
        other = await self.another()
        heard: Deferred[None] = Deferred()
        calls: list[str] = []
        other.watch("word:hello", lambda: heard.callback(None))
        self.ledger.watch("word:hello", lambda: calls.append("own"))
        self.ledger.watch("word:other", lambda: calls.append("wrong"))
        await self.ledger.write(lambda transaction: note(transaction, "hello"))
        await heard
        self.assertEqual(calls, ["own"])

    async def test_lost(self) -> None:
        """A hint that is lost costs a delay only."""
        self.patch(hints.Hints, "send", lambda *_: None)
        other = await self.another()
        await other.write(lambda transaction: None)  # it looks from now on
        heard: Deferred[None] = Deferred()
        other.watch("word:hello", lambda: heard.called or heard.callback(None))
        await self.ledger.write(lambda transaction: note(transaction, "hello"))
        await heard

    async def test_no_socket(self) -> None:
        """Where there can be no socket the ledger opens all the same."""

        def no(*_: object) -> None:
            raise OSError("no sockets here")

        self.patch(hints.socket, "socket", no)
        other = await self.another()
        await other.write(lambda transaction: note(transaction, "hello"))
        self.assertEqual(["hello"], await self.words())
