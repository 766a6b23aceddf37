"""What people are told of a status."""

import unittest

from twisted_mta.delivery.reason import meaning


class MeaningTests(unittest.TestCase):
    def test_known(self) -> None:
        """A code has its own sentence, whether temporary or not; one that is not known
        has that of its kind."""
        self.assertIn("spelled", meaning("5.1.1"))
        self.assertIn("full", meaning("5.2.2"))
        self.assertEqual(meaning("4.2.2"), meaning("5.2.2"))
        self.assertEqual(meaning("5.7.26"), meaning("5.7.1"))
        self.assertIn("address", meaning("5.1.999"))

    def test_nothing(self) -> None:
        """What says nothing has none, nor what is no code."""
        for status in ("5.0.0", "", "5", "nonsense", "5.9.1", "5..", "2.0.0"):
            self.assertEqual(meaning(status), "", status)
