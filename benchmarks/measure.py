"""What all workloads share: turns, medians, ratios, what it cost, what was set.

Machines are noisy, so only figures of one run are compared. The servers of a
workload run at the same time and take turns; a first round warms up and is not
counted. Ratios are made pair by pair, of turns that follow each other. The load
generator shares the machine with the servers, so the processor time of both
stands beside each figure: a server's whole family of processes, and this process
with all its others.

What came out is printed, and saved as JSON, from which L{benchmarks.table} makes
the tables of the documentation.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from benchmarks import processes
from benchmarks.servers import ROOT, Server

#: Where results are that the documentation is made from.
RESULTS = ROOT / "benchmarks" / "results"

#: How our servers' names begin.
OURS = "twisted-mta"

#: A turn: does it, and gives the count of things and the seconds.
Turn = Callable[[Server], tuple[float, float]]


def arguments(parser: argparse.ArgumentParser, runs: int = 5) -> None:
    """The options that every workload has."""
    parser.add_argument("--runs", type=int, default=runs, help="that count")
    parser.add_argument(
        "--quick", action="store_true", help="a short run, that is not saved"
    )
    parser.add_argument("--json", type=Path, help="a file for the figures")


@dataclass
class Figure:
    """What one server did in its turns.

    @ivar rates: things a second, or whatever the unit says.
    @ivar server_s: processor seconds of the server for 1,000 things.
    @ivar client_s: the same of the load generator.
    """

    rates: list[float] = field(default_factory=list)
    server_s: list[float] = field(default_factory=list)
    client_s: list[float] = field(default_factory=list)


class Report:
    """The figures of one workload: printed as they come, and saved.

    @param workload: its name.
    @param options: of the command line; they are saved with the figures.
    """

    def __init__(self, workload: str, options: argparse.Namespace) -> None:
        self._workload = workload
        self._options = options
        self._figures: list[dict[str, Any]] = []
        self._notes: list[dict[str, Any]] = []
        self._settings: dict[str, str] = {}
        self._machine = machine()
        print("  ".join(f"{name}: {value}" for name, value in self._machine.items()))

    def servers(self, under_test: Sequence[Server]) -> None:
        """Print and keep the settings of servers."""
        for server in under_test:
            if self._settings.get(server.name) != server.settings:
                self._settings[server.name] = server.settings
                print(f"{server.name}: {server.settings or 'its defaults'}")

    def skipped(self, name: str, why: str) -> None:
        """A peer that is not measured."""
        self._settings[name] = f"not measured: {why}"
        print(f"{name}: skipped, {why}")

    def turns(
        self,
        what: str,
        unit: str,
        under_test: Sequence[Server],
        turn: Turn,
        runs: int,
        warm: bool = True,
    ) -> None:
        """Let each server have its turn, again and again, and print.

        @param warm: the first round does not count.
        """
        self.servers(under_test)
        figures = {server.name: Figure() for server in under_test}
        for number in range(runs + warm):
            for server in under_test:
                os.sync()  # nobody pays for what another has left to be written
                before, own = server.cpu_s(), own_cpu_s(under_test)
                count, seconds = turn(server)
                if number or not warm:
                    figure = figures[server.name]
                    used_s = server.cpu_s() - before
                    own_s = own_cpu_s(under_test) - own
                    figure.rates.append(count / seconds)
                    figure.server_s.append(used_s / count * 1000)
                    figure.client_s.append(own_s / count * 1000)
        self.figures(what, unit, figures)

    def figures(self, what: str, unit: str, figures: Mapping[str, Figure]) -> None:
        """Print and keep what was measured."""
        print(f"{what}:")
        for name, figure in figures.items():
            line = f"  {name:28} {spread(figure.rates)} {unit}"
            if figure.server_s:
                line += f"  CPU s per 1,000: {significant(median(figure.server_s))}"
            if figure.client_s:
                line += f", load {significant(median(figure.client_s))}"
            print(line)
        for ours in figures:
            for other in figures:
                if ours.startswith(OURS) and not other.startswith(OURS):
                    found = ratios(figures[ours].rates, figures[other].rates)
                    print(f"  {ours} / {other}: {spread(found)}")
        sys.stdout.flush()
        kept = {
            name: {series: _rounded(values) for series, values in vars(each).items()}
            for name, each in figures.items()
        }
        self._figures.append({"what": what, "unit": unit, "servers": kept})

    def note(self, what: str, **values: object) -> None:
        """Print and keep what is no rate."""
        shown = ", ".join(f"{name}: {value}" for name, value in values.items())
        print(f"{what}: {shown}", flush=True)
        self._notes.append({"what": what, "values": values})

    def write(self) -> None:
        """Save everything: where C{--json} says, else, unless C{--quick},
        where the documentation's figures are."""
        path: Path | None = self._options.json
        if path is None and not self._options.quick:
            path = RESULTS / f"{self._workload}.json"
        if path is None:
            return
        given = {
            name: value
            for name, value in vars(self._options).items()
            if isinstance(value, str | int | float) and name != "quick"
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(
                {
                    "workload": self._workload,
                    "machine": self._machine,
                    "options": given,
                    "servers": self._settings,
                    "figures": self._figures,
                    "notes": self._notes,
                },
                indent=1,
            )
            + "\n"
        )
        print(f"saved in {path}")
        if path.parent == RESULTS:
            print("python -m benchmarks table  puts it into docs/benchmarks.rst")


def own_cpu_s(under_test: Sequence[Server]) -> float:
    """Processor time of this process and its others, without the servers."""
    mine = set(processes.family(os.getpid()))
    roots = {pid for each in under_test for pid in (each.pid, *each.beside)}
    used = processes.cpu_s(os.getpid())
    return used - sum(processes.cpu_s(pid) for pid in roots & mine)


def median(values: Sequence[float]) -> float:
    """The median; what is not there is no number."""
    return statistics.median(values) if values else float("nan")


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Pair by pair, of turns that followed each other."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def spread(values: Sequence[float]) -> str:
    """Median, least and most, for people."""
    if not values:
        return "none"
    least, most = significant(min(values)), significant(max(values))
    return f"{significant(median(values))} ({least} to {most})"


def significant(value: float) -> str:
    """Three digits that mean something, and no more behind the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def machine() -> dict[str, str]:
    """What a reader of figures must know of machine and programs."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    load = os.getloadavg()[0]
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "source": _source(),
        "processor": model,
        "cores": str(len(os.sched_getaffinity(0))),
        "load before": f"{load:.2f}",
        "kernel": platform.release(),
        "file system": _said("stat", "-f", "-c", "%T", tempfile.gettempdir()),
        "Python": platform.python_version(),
        "SQLite": apsw.sqlite_lib_version(),
    }


def _source() -> str:
    """The commit; dirty if anything differs from it but earlier results."""
    git = "git", "-C", str(ROOT)
    commit = _said(*git, "describe", "--always")
    others = "--", ".", ":!benchmarks/results"
    changed = _said(*git, "status", "--porcelain", "-uno", *others)
    return commit if changed == _NOTHING else f"{commit}-dirty"


_NOTHING = "unknown"


def _said(*command: str) -> str:
    """What a command prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return _NOTHING
    return done.stdout.strip() or _NOTHING
