"""L{twisted_mta.ledger.room}: when new mail is refused, and when it is again
taken."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.ledger.case import LedgerCase
from tests.ledger.test_content import LARGE, SMALL
from twisted_mta.errors import LedgerFull
from twisted_mta.ledger.room import Room

HERE = Path("/mail")
BLOCK = 4096
RESERVE = 100 * BLOCK


class Disk:
    """A file system with so many blocks and files left; counts who asks."""

    def __init__(self, free: int, files: int = 1_000, counts: bool = True) -> None:
        self.free = free
        self.files = files
        self.counts = counts
        self.asked = 0
        self.error: OSError | None = None

    def __call__(self, path: Path) -> os.statvfs_result:
        assert path == HERE
        self.asked += 1
        if self.error is not None:
            raise self.error
        found = SimpleNamespace(
            f_bavail=self.free,
            f_frsize=BLOCK,
            f_files=5_000 if self.counts else 0,
            f_favail=self.files,
        )
        return cast(Any, found)


class RoomTests(SynchronousTestCase):
    """On a disk that is made up, at a time that is."""

    def setUp(self) -> None:
        self.now = 0.0
        self.disk = Disk(200)
        self.room = self.make(RESERVE)
        self.said: list[LogEvent] = []
        globalLogPublisher.addObserver(self.said.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.said.append)

    def make(self, reserve: int) -> Room:
        return Room(HERE, reserve, self.disk, lambda: self.now)

    def later(self, free: int) -> None:
        """A second has passed, and the disk has so many blocks left."""
        self.now += 1.0
        self.disk.free = free

    def takes(self, octets: int = 0, sparing: bool = False) -> bool:
        """Whether it takes something of this size."""
        try:
            self.room.need(octets, sparing)
        except LedgerFull:
            return False
        return True

    def levels(self) -> Sequence[str]:
        return [one["log_level"].name for one in self.said if "log_level" in one]

    def test_the_reserve_is_kept(self) -> None:
        """A message is taken if the reserve is left after it."""
        self.assertTrue(self.takes(100 * BLOCK))
        self.assertFalse(self.takes(100 * BLOCK + 1))
        self.assertTrue(self.takes())
        self.later(99)
        self.assertFalse(self.takes())

    def test_half_of_it_is_for_what_is_under_way(self) -> None:
        """What has begun, and what takes hardly any room."""
        self.later(99)
        self.assertTrue(self.takes(49 * BLOCK, sparing=True))
        self.assertFalse(self.takes(49 * BLOCK + 1, sparing=True))
        self.later(49)
        self.assertFalse(self.takes(sparing=True))

    def test_what_grows_is_counted(self) -> None:
        """A file that grows faster than the system is asked stops in time."""
        for _ in range(150):
            self.room.grow(BLOCK)
        self.assertRaises(LedgerFull, self.room.grow, BLOCK)
        self.assertEqual(self.disk.asked, 1)

    def test_the_system_is_asked_rarely(self) -> None:
        """Once a second, whoever asks."""
        for _ in range(1_000):
            self.now += 0.01
            self.takes(1)
        self.assertLessEqual(self.disk.asked, 11)

    def test_it_recovers(self) -> None:
        """By itself, once somewhat more than the reserve is free; the log says
        each change once."""
        for free, takes in ((99, False), (100, False), (105, False), (107, True)):
            self.later(free)
            self.assertEqual(self.takes(), takes, free)
        self.later(101)
        self.assertTrue(self.takes())
        self.assertEqual(self.levels(), ["error", "info"])

    def test_files_count_too(self) -> None:
        """A disk on which no files can be made any more is full; where files are
        not counted, none are missing."""
        self.disk.files = 99
        self.assertFalse(self.takes())
        self.disk.counts, self.disk.files = False, 0
        self.later(200)
        self.assertTrue(self.takes())

    def test_a_disk_that_says_nothing(self) -> None:
        """Mail is taken: to write it will tell."""
        self.disk.error = OSError(5, "I/O error")
        self.assertTrue(self.takes())
        self.assertEqual(self.levels(), ["warn"])

    def test_no_reserve(self) -> None:
        """Then nobody is asked."""
        self.room = self.make(0)
        self.disk.free = 0
        self.assertTrue(self.takes(1 << 40))
        self.assertEqual(self.disk.asked, 0)


class LedgerRoomTests(LedgerCase):
    """A ledger whose disk is nearly full."""

    async def setUp(self) -> None:
        await super().setUp()
        self.disk = Disk(200)
        self.ledger.room = Room(HERE, RESERVE, self.disk, lambda: 0.0)

    async def test_large_content_stops(self) -> None:
        """Within the reserve it goes no further; small content costs no disk
        before its commit."""
        self.disk.free = 60
        (await self.finished(SMALL)).abort()
        with self.assertRaises(LedgerFull):
            await self.finished(LARGE)
        self.assertRaises(LedgerFull, self.ledger.need, 0)
        self.ledger.need(0, sparing=True)
