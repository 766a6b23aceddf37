"""L{twisted_mta.net.child}: what a child's process runs first."""

import subprocess
import sys
import unittest

from tests.system.daemon import PATIENCE_S, environment


class ChildTests(unittest.TestCase):
    def test_interrupted(self) -> None:
        """What a terminal sends to all processes does not end a child that is still
        importing; it finds its words where it would without this."""
        done = subprocess.run(
            [
                *(sys.executable, "-P", "-m", "twisted_mta.net.child"),
                *("tests.net.interrupted", "1", "reactor"),
            ],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        self.assertEqual(
            (0, "1 reactor\n", ""), (done.returncode, done.stdout, done.stderr)
        )
