"""The tables of docs/benchmarks.rst are made from the saved figures."""

import unittest

from benchmarks.__main__ import WORKLOADS
from benchmarks.measure import RESULTS
from benchmarks.table import PAGE, page


class Page(unittest.TestCase):
    """L{benchmarks.table}."""

    def test_the_page_agrees_with_the_results(self) -> None:
        """No figure is in the documentation that was not saved by a run, and
        none is out of date."""
        text = PAGE.read_text()
        self.assertEqual(text, page(text), "run python -m benchmarks table")

    def test_every_workload_has_its_place(self) -> None:
        """Each workload is on the page, and so is each file of results."""
        text = PAGE.read_text()
        saved = {path.stem for path in RESULTS.glob("*.json")}
        for name in set(WORKLOADS) | saved:
            with self.subTest(name=name):
                self.assertIn(f"\n.. figures of {name}\n", text)

    def test_what_stood_there_is_replaced(self) -> None:
        """Between the marks only what was measured stays."""
        text = "a\n\n.. figures of nothing\n\nold\n\n.. end of figures\n\nb\n"
        made = page(text)
        self.assertNotIn("old", made)
        self.assertEqual(page(made), made)
        self.assertTrue(made.startswith("a\n") and made.endswith("\nb\n"))

    def test_marks_that_do_not_fit(self) -> None:
        """A page whose marks are broken is not written."""
        for text in (".. figures of a\n", ".. end of figures\n"):
            with self.subTest(text=text), self.assertRaises(ValueError):
                page(text)
