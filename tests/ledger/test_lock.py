"""Processes that want to write take turns."""

import threading
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted_mta.ledger.lock import WriteLock


class LockTests(unittest.TestCase):
    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / "ledger.lock"
        self.ours, self.theirs = WriteLock(path), WriteLock(path)
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)

    def test_one_at_a_time(self) -> None:
        """Nobody takes what another has."""
        self.assertTrue(self.ours.take_at_once())
        self.assertFalse(self.theirs.take_at_once())
        self.ours.give_back()
        self.assertTrue(self.theirs.take_at_once())

    def test_turns(self) -> None:
        """Whoever waits is next: one that has just written does not overtake."""
        self.assertTrue(self.ours.take_at_once())
        got = threading.Event()
        give_back = threading.Event()

        def wait() -> None:
            self.theirs.wait()
            got.set()
            give_back.wait(60)
            self.theirs.give_back()

        waiter = threading.Thread(target=wait)
        waiter.start()
        while True:  # until the waiter is at the gate
            self.ours.give_back()
            if not self.ours.take_at_once():
                break
        self.assertTrue(got.wait(60))
        self.assertFalse(self.ours.take_at_once())
        give_back.set()
        waiter.join()
        self.assertTrue(self.ours.take_at_once())

    def test_context(self) -> None:
        """It is held within, and given back whatever is raised."""
        with self.assertRaises(ZeroDivisionError), self.ours:
            self.assertFalse(self.theirs.take_at_once())
            raise ZeroDivisionError
        self.assertTrue(self.theirs.take_at_once())
