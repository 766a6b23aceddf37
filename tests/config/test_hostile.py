"""Rows of HOSTILE.md that a config could undo."""

import unittest

from tests.config.test_load import SMALL, problems


class LimitTests(unittest.TestCase):
    def test_h10_header_size(self) -> None:
        """The limit of headers cannot be past what of a header is looked at."""
        self.assertEqual(problems(SMALL + "smtp: {header_size: 1M}\n"), ())
        (problem,) = problems(SMALL + "smtp: {header_size: 2M}\n")
        self.assertIn("smtp.header_size: must be less than 2M", problem)
