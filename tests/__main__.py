"""All checks in one run: C{python -m tests [NAMES]}.

Without names: ruff, mypy, then every test with trial. The last line counts:
C{N passed, N failed, N skipped}; each of the linters counts as one test.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
}
_COUNT = re.compile(r"(failures|errors|skips|successes|expectedFailures)=(\d+)")


def check(name: str, command: list[str]) -> bool:
    """Run one linter."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(f"{name}: {'ok' if done.returncode == 0 else 'FAILED'}", flush=True)
    if done.returncode:
        print(done.stdout, flush=True)
    return done.returncode == 0


def trial(names: list[str]) -> tuple[int, int, int]:
    """Run the tests.

    @return: passed, failed, skipped.
    """
    environment = dict(os.environ)
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'plugins'}"
    with tempfile.TemporaryDirectory(prefix="twisted-mta-tests-") as temporary:
        command = ["-m", "twisted.trial", f"--temp-directory={temporary}/trial"]
        runner = subprocess.Popen(
            [sys.executable, *command, *names],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        last = ""
        assert runner.stdout is not None
        for line in runner.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
        status = runner.wait()
    counts = {kind: int(number) for kind, number in _COUNT.findall(last)}
    failed = counts.get("failures", 0) + counts.get("errors", 0)
    if status and not failed:
        failed = 1  # it did not get as far as counting
    return counts.get("successes", 0), failed, counts.get("skips", 0)


def main(names: list[str]) -> int:
    """Run what was asked for.

    @return: the exit status.
    """
    linted = [] if names else [check(name, CHECKS[name]) for name in CHECKS]
    passed, failed, skipped = trial(names or ["tests"])
    passed += linted.count(True)
    failed += linted.count(False)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
