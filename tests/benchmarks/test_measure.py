"""What the benchmarks compute and print."""

import argparse
import contextlib
import io
import json
import os
import tempfile
import unittest
from pathlib import Path

from benchmarks.load import message
from benchmarks.measure import Figure, Report, ratios, significant, spread
from benchmarks.servers import Server


class Numbers(unittest.TestCase):
    """Medians, ratios and their printing."""

    def test_ratios_are_of_pairs(self) -> None:
        """Each turn is compared with the other's of the same round."""
        self.assertEqual(ratios([10.0, 30.0], [5.0, 10.0]), [2.0, 3.0])

    def test_a_round_that_one_missed_is_an_error(self) -> None:
        """Nothing is compared with what was not measured."""
        with self.assertRaises(ValueError):
            ratios([1.0, 2.0], [1.0])

    def test_spread(self) -> None:
        """Median, least and most are shown."""
        self.assertEqual(spread([3.0, 1.0, 2.0]), "2.00 (1.00 to 3.00)")
        self.assertEqual(spread([]), "none")

    def test_digits(self) -> None:
        """No digits that mean nothing."""
        shown = [significant(value) for value in (0.123, 12.34, 1234.5)]
        self.assertEqual(shown, ["0.12", "12.3", "1,234"])


class Turns(unittest.TestCase):
    """L{Report.turns}."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "figures.json"
        options = argparse.Namespace(json=self.path, quick=False, runs=3)
        with contextlib.redirect_stdout(io.StringIO()):
            self.report = Report("example", options)

    def measure(self, runs: int, warm: bool) -> tuple[list[str], dict[str, Figure]]:
        """@return: whose turn it was, and what was saved."""
        called: list[str] = []
        servers = [
            Server(name, {}, os.getpid(), Path("/")) for name in ("twisted-mta", "peer")
        ]

        def turn(server: Server) -> tuple[float, float]:
            called.append(server.name)
            return float(len(called)), 1.0

        with contextlib.redirect_stdout(io.StringIO()):
            self.report.turns("a thing", "/s", servers, turn, runs, warm)
            self.report.write()
        saved = json.loads(self.path.read_text())["figures"][0]["servers"]
        return called, {name: Figure(**each) for name, each in saved.items()}

    def test_they_alternate_and_the_first_round_does_not_count(self) -> None:
        """Servers take turns; the warm-up is in no figure."""
        called, figures = self.measure(2, True)
        self.assertEqual(called, ["twisted-mta", "peer"] * 3)
        self.assertEqual(figures["twisted-mta"].rates, [3.0, 5.0])
        self.assertEqual(figures["peer"].rates, [4.0, 6.0])

    def test_without_a_warm_up(self) -> None:
        """Every round counts."""
        _, figures = self.measure(1, False)
        self.assertEqual(figures["twisted-mta"].rates, [1.0])

    def test_processor_time_is_kept(self) -> None:
        """Beside each rate stands what it cost the server and the load."""
        _, figures = self.measure(2, True)
        self.assertEqual(len(figures["peer"].server_s), 2)
        self.assertEqual(len(figures["peer"].client_s), 2)

    def test_quick_figures_are_not_saved(self) -> None:
        """C{--quick} leaves the documentation's figures alone."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            options = argparse.Namespace(json=None, quick=True)
            Report("example", options).write()
        self.assertNotIn("saved", printed.getvalue())


class Messages(unittest.TestCase):
    """The seeded generator."""

    def test_sizes(self) -> None:
        """A message has the size that was asked for, in whole lines."""
        for octets in (2048, 102_400):
            made = message(octets)
            self.assertEqual(len(made), octets)
            self.assertTrue(made.endswith(b"\r\n"))
            self.assertEqual(made.count(b"\n"), made.count(b"\r\n"))

    def test_always_the_same(self) -> None:
        """All servers, and all runs, get the same."""
        self.assertEqual(message(2048, 7), message(2048, 7))
        self.assertNotEqual(message(2048, 7), message(2048, 8))
