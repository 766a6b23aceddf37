"""L{twisted_mta.cli.main}: what it finds, and when."""

import contextlib
import io
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

from twisted_mta.cli import main

ROOT = Path(__file__).resolve().parent.parent.parent

COMMANDS = (
    "try",
    "check FILE",
    "backup TARGET",
    "account add ADDRESS",
    "account password ADDRESS",
    "account remove ADDRESS",
    "account list",
    "alias add ADDRESS TARGET",
    "alias remove ADDRESS",
    "alias list",
    "queue list",
    "queue show ID",
    "queue flush",
    "queue hold ID",
    "queue release ID",
    "queue remove ID",
)


class MainTests(unittest.TestCase):
    """Before a command runs."""

    def test_commands(self) -> None:
        """Each command is a function that there is, and none is another's."""
        found = set()
        for line in COMMANDS:
            options = main.parser().parse_args(line.split())
            function = main.find(options.run)
            self.assertTrue(callable(function), line)
            found.add(function)
        self.assertEqual(len(COMMANDS), len(found))

    def test_reads_before_it_imports(self) -> None:
        """The command line is read before anything large is imported."""
        program = (
            "import sys; from twisted_mta.cli.main import parser;"
            "parser().parse_args(['account', 'list']);"
            "print({'twisted', 'yaml', 'attrs'} & set(sys.modules))"
        )
        words = [sys.executable, "-c", program]
        said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        self.assertEqual(("set()\n", ""), (said.stdout, said.stderr))

    def test_interrupted(self) -> None:
        """Ctrl-C while it imports ends it without a traceback."""
        errors = io.StringIO()
        with (
            mock.patch.object(main, "import_module", side_effect=KeyboardInterrupt),
            contextlib.redirect_stderr(errors),
        ):
            self.assertEqual(1, main.main(["account", "list"]))
        self.assertEqual("\n", errors.getvalue())
