"""All checks in one run: C{python -m tests [NAMES]}.

Without names: ruff, mypy, then every test with trial, two pieces at a time: most of
them wait for something. The last line counts:
C{N passed, N failed, N skipped}; each of the linters counts as one test.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
CHECKS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
}
# Tests of the real daemon choose their ports by the slot (tests/system/daemon.py).
_SLOTS = min(2, len(os.sched_getaffinity(0)))
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


def shards() -> list[str]:
    """All tests in pieces that can run side by side, what takes long first: each
    module of system tests, each other package."""
    tests = ROOT / "tests"
    system = [f"tests.system.{path.stem}" for path in _modules(tests / "system")]
    packages = [f"tests.{path.parent.name}" for path in tests.glob("*/__init__.py")]
    packages.remove("tests.system")
    modules = [f"tests.{path.stem}" for path in _modules(tests)]
    packages.sort(key=lambda name: (name != "tests.ledger", name))
    return [packages[0], *system, *packages[1:], *modules]


def _modules(directory: Path) -> list[Path]:
    return sorted(directory.glob("test_*.py"))


def trial(names: list[str], slot: int = 0) -> tuple[list[str], Counter[str]]:
    """Run tests.

    @param slot: its own of each run at the same time.
    @return: what trial printed, and its counts.
    """
    environment = dict(os.environ)
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'plugins'}"
    environment["TWISTED_MTA_TEST_SLOT"] = str(slot)
    alone = slot == 0
    with tempfile.TemporaryDirectory(prefix="twisted-mta-tests-") as temporary:
        command = ["-m", "twisted.trial", f"--temp-directory={temporary}/trial"]
        runner = subprocess.Popen(
            [sys.executable, *command, *names],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        printed: list[str] = []
        assert runner.stdout is not None
        for line in runner.stdout:
            printed.append(line)
            if alone:
                print(line, end="", flush=True)
        status = runner.wait()
    last = next((line for line in reversed(printed) if line.strip()), "")
    counts = Counter({kind: int(number) for kind, number in _COUNT.findall(last)})
    if status and not counts["failures"] + counts["errors"]:
        counts["errors"] += 1  # it did not get as far as counting
    return printed, counts


def side_by_side(names: list[str]) -> Counter[str]:
    """Run pieces of the tests, as many at a time as there are slots, and print what
    each printed when it ends; but last what those printed that failed."""
    counts: Counter[str] = Counter()
    failed: dict[str, str] = {}
    slots = SimpleQueue[int]()
    for slot in range(1, _SLOTS + 1):
        slots.put(slot)

    def run(name: str) -> tuple[str, list[str], Counter[str]]:
        slot = slots.get()
        try:
            return name, *trial([name], slot)
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(_SLOTS) as pool:
        for done in as_completed([pool.submit(run, name) for name in names]):
            name, printed, its = done.result()
            counts += its
            if its["failures"] + its["errors"]:
                failed[name] = "".join(printed)
                print(f"{name}: FAILED, see below", flush=True)
            else:
                print("".join(printed), flush=True)
    for text in failed.values():
        print(text)
    if failed:
        print(f"To see it again: ./test {' '.join(sorted(failed))}")
    return counts


def main(names: list[str]) -> int:
    """Run what was asked for.

    @return: the exit status.
    """
    linted = [] if names else [check(name, CHECKS[name]) for name in CHECKS]
    counts = trial(names)[1] if names else side_by_side(shards())
    passed = counts["successes"] + linted.count(True)
    failed = counts["failures"] + counts["errors"] + linted.count(False)
    print(f"{passed} passed, {failed} failed, {counts['skips']} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
