"""L{twisted_mta.ledger.losthints}: when all is looked at."""

import unittest

from twisted_mta.ledger.losthints import POLL_S, LostHints


class LostHintsTests(unittest.TestCase):
    """A look a second; the first two happened before anything."""

    def setUp(self) -> None:
        self.lost = LostHints()
        self.lost.connected(1)
        self.now = 0.0
        self.version = 1
        self.assertEqual(self.looks("..")[0], 0)

    def looks(self, events: str) -> tuple[int, float]:
        """A second for each sign: C{w}, another process wrote; C{h}, it wrote and
        said so; C{l}, it said so after the look before; C{.}, nothing.

        @return: how often all was looked at, and when last.
        """
        count, last = 0, -1.0
        for event in events:
            self.now += 1
            self.version += event in "wh"
            if event in "hl":
                self.lost.hinted()
            if self.lost.look(self.version, self.now):
                count += 1
                last = self.now
        return count, last

    def test_nothing_written(self) -> None:
        """Then there is nothing to look at."""
        self.assertEqual(self.looks("." * 100)[0], 0)

    def test_no_hint(self) -> None:
        """What was written without a hint is found two looks later at most."""
        begin = self.now
        self.assertEqual(self.looks("w..."), (1, begin + 2))

    def test_hints(self) -> None:
        """Where hints come all is looked at by the slow poll alone."""
        self.assertLessEqual(self.looks("h" * 100)[0], 100 / POLL_S)

    def test_hint_after_the_look(self) -> None:
        """A hint may come after the look that sees the change."""
        begin = self.now
        self.assertEqual(self.looks("wl" + "." * 20), (1, begin + 1 + POLL_S))

    def test_lost_among_others(self) -> None:
        """A hint that is lost among others is found by the slow poll."""
        self.looks("hhwhh")
        wrote = 5.0
        self.assertLessEqual(self.looks("h" * 20)[1] - wrote, 2 * POLL_S)
        self.assertGreaterEqual(self.looks("h" * 12)[0], 1)

    def test_another_connection(self) -> None:
        """What was written while there was no connection is found at once, even
        if the version of the new connection happens to be the same."""
        self.lost.connected(self.version)
        self.assertEqual(self.looks(".."), (1, self.now - 1))
