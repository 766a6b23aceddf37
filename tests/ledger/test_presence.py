"""L{twisted_mta.ledger.presence}: who is there, and who died."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import unittest
import unittest.mock
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.ledger.case import LedgerCase, note
from twisted_mta.errors import LedgerUnavailable
from twisted_mta.interfaces import ITransaction
from twisted_mta.ledger.presence import Presence

_CHILD = """
import sys, time
from pathlib import Path
from twisted_mta.ledger.presence import Presence
print(Presence(Path(sys.argv[1])).name, flush=True)
time.sleep(600)
"""


@contextmanager
def child(directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that is there, and its name. In the end it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(directory)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def killed(directory: Path) -> str:
    """The name of a process that was killed."""
    with child(directory) as (_, name):
        return name


class PresenceTests(unittest.TestCase):
    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name) / "processes"
        self.one = Presence(self.directory)

    def dead(self, presence: Presence) -> list[str]:
        """Names, and all is left to be found again."""
        names = []
        for remains in presence.dead():
            names.append(remains.name)
            remains.let_go()
        return names

    def test_the_living(self) -> None:
        """Who is there is not dead to anybody, and who left is forgotten."""
        other = Presence(self.directory)
        self.assertNotEqual(self.one.name, other.name)
        self.assertEqual((self.dead(self.one), self.dead(other)), ([], []))
        other.leave()
        self.assertEqual(self.dead(self.one), [])
        self.assertEqual(os.listdir(self.directory), [self.one.name])

    def test_the_dead(self) -> None:
        """A process that was killed is found until it is buried, with its
        socket."""
        name = killed(self.directory)
        self.one.socket(name).touch()
        self.assertEqual(self.dead(self.one), [name])
        (remains,) = self.one.dead()
        remains.bury()
        self.assertEqual(self.dead(self.one), [])
        self.assertEqual(os.listdir(self.directory), [self.one.name])

    def test_lives(self) -> None:
        """It can be asked of each whether it lives, also while somebody takes over what
        it left; and who asks keeps nobody from that."""
        other = Presence(self.directory)
        with child(self.directory) as (process, name):
            self.assertTrue(self.one.lives(name))
            self.assertTrue(self.one.lives(name))
            process.kill()
            process.wait()
        for one in (self.one, other):
            self.assertTrue(one.lives(self.one.name))
            self.assertTrue(one.lives(other.name))
            self.assertFalse(one.lives(name))
        (remains,) = self.one.dead()
        self.assertFalse(other.lives(name))
        self.assertEqual(self.dead(other), [])
        remains.bury()
        self.assertFalse(other.lives(name))
        other.leave()
        self.assertFalse(self.one.lives(other.name))

    def test_found_once(self) -> None:
        """While one process takes over, another does not find it."""
        other = Presence(self.directory)
        name = killed(self.directory)
        (remains,) = self.one.dead()
        self.assertEqual(self.dead(other), [])
        remains.let_go()
        self.assertEqual(self.dead(other), [name])

    def test_taken_for_dead_before_it_was_locked(self) -> None:
        """A process whose new file was removed, since it was not locked yet,
        takes another name before it does anything."""
        whole, first = fcntl.flock, []

        def late(fd: int, operation: int) -> None:
            if not first:
                (name,) = set(os.listdir(self.directory)) - {self.one.name}
                first.append(name)
                (remains,) = self.one.dead()
                remains.bury()
            whole(fd, operation)

        with unittest.mock.patch.object(fcntl, "flock", late):
            # dead() locks, too: it is not the first then.
            other = Presence(self.directory)
        self.assertNotEqual(first, [other.name])
        self.assertIn(other.name, os.listdir(self.directory))


class InheritTests(LedgerCase):
    """L{Ledger.inherit}."""

    async def test_inherit(self) -> None:
        """A dead process's name comes once, in a unit of work."""
        name = killed(self.directory / "processes")
        other = await self.another()
        self.assertEqual([name], await self.ledger.inherit(note))
        self.assertEqual([name], await self.words())
        for ledger in (self.ledger, other):
            self.assertEqual([], await ledger.inherit(note))

    async def test_failed(self) -> None:
        """If the unit fails the name comes again."""
        name = killed(self.directory / "processes")

        def fail(transaction: ITransaction, name: str) -> None:
            raise LedgerUnavailable("not now")

        with self.assertRaises(LedgerUnavailable):
            await self.ledger.inherit(fail)
        self.assertEqual([name], await self.ledger.inherit(note))

    async def test_h52_unreadable(self) -> None:
        """A directory that cannot be read is the storage's fault, for now."""
        processes = self.directory / "processes"
        name = killed(processes)
        elsewhere = processes.rename(self.directory / "elsewhere")
        with self.assertRaises(LedgerUnavailable):
            await self.ledger.inherit(note)
        elsewhere.rename(processes)
        self.assertEqual([name], await self.ledger.inherit(note))

    async def test_closed(self) -> None:
        """Who closed its ledger left nothing."""
        other = await self.another()
        await other.close()
        self.assertEqual([], await self.ledger.inherit(note))
