"""Put the saved figures into the documentation.

C{docs/benchmarks.rst} has a pair of marks for each workload; what stands between
them is made from C{benchmarks/results}, and from nothing else. A test holds that
the two agree.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.measure import (
    OURS,
    RESULTS,
    Figure,
    median,
    ratios,
    significant,
    spread,
)
from benchmarks.servers import ROOT

#: The page that has the tables.
PAGE = ROOT / "docs" / "benchmarks.rst"

_BEGIN = ".. figures of "
_END = ".. end of figures"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "--check", action="store_true", help="only say whether they agree"
    )


def run(options: argparse.Namespace) -> None:
    """Write the page.

    @raise SystemExit: C{--check}, and the page is not as the results are.
    """
    there = PAGE.read_text()
    wanted = page(there)
    if options.check and there != wanted:
        raise SystemExit("docs/benchmarks.rst: run python -m benchmarks table")
    PAGE.write_text(wanted)


def page(text: str) -> str:
    """The page with the figures as they are saved.

    @raise ValueError: marks that do not fit each other.
    """
    lines: list[str] = []
    within = False
    for line in text.splitlines():
        if line.startswith(_BEGIN):
            if within:
                raise ValueError(f"no end before {line!r}")
            within = True
            lines += [line, "", *section(line.removeprefix(_BEGIN).strip()), ""]
        elif line == _END:
            if not within:
                raise ValueError("an end without a beginning")
            within = False
        if not within:
            lines.append(line)
    if within:
        raise ValueError("figures without an end")
    return "\n".join(lines) + "\n"


def section(workload: str) -> Iterator[str]:
    """What the page says of one workload's results, in lines."""
    path = RESULTS / f"{workload}.json"
    if not path.exists():
        yield "No figures are saved."
        return
    saved = json.loads(path.read_text())
    machine = saved["machine"]
    yield (
        f"Measured on {machine['date']} at {machine['source']}: {machine['cores']}"
        f" cores ({machine['processor']}), Linux {machine['kernel']}, Python"
        f" {machine['Python']}, SQLite {machine['SQLite']}; load before:"
        f" {machine['load before']}."
    )
    if saved["servers"]:
        yield ""
        for name, settings in saved["servers"].items():
            yield f"* {name}: {_plain(settings)}"
    if saved["figures"]:
        yield ""
        yield from _figures(saved["figures"])
    if saved["notes"]:
        yield ""
        yield from _notes(saved["notes"])


def _figures(figures: Sequence[dict[str, Any]]) -> Iterator[str]:
    head = ("", "", "median (least to most)", f"{OURS} / it")
    yield from _table(
        (24, 22, 22, 18, 14), (*head, "CPU s of 1,000: server, load"), _rows(figures)
    )


def _rows(figures: Sequence[dict[str, Any]]) -> Iterator[Sequence[str]]:
    for figure in figures:
        servers = {name: Figure(**each) for name, each in figure["servers"].items()}
        ours = [name for name in servers if name.startswith(OURS)]
        what = figure["what"]
        for name, each in servers.items():
            ratio = ""
            if ours and name not in ours:
                # Beside the last of ours, which has the most processes.
                ratio = spread(ratios(servers[ours[-1]].rates, each.rates))
            cost = [
                significant(median(series))
                for series in (each.server_s, each.client_s)
                if series
            ]
            rate = f"{spread(each.rates)} {figure['unit']}"
            yield (_plain(what), _plain(name), rate, ratio, ", ".join(cost))
            what = ""


def _notes(notes: Sequence[dict[str, Any]]) -> Iterator[str]:
    rows = []
    for note in notes:
        values = ", ".join(
            f"{name.replace('_', ' ')}: {value}"
            for name, value in note["values"].items()
        )
        rows.append((_plain(note["what"]), _plain(values)))
    yield from _table((60, 40), None, rows)


def _table(
    widths: Sequence[int],
    head: Sequence[str] | None,
    rows: Iterator[Sequence[str]] | Sequence[Sequence[str]],
) -> Iterator[str]:
    yield ".. list-table::"
    if head:
        yield "   :header-rows: 1"
    yield f"   :widths: {' '.join(map(str, widths))}"
    yield ""
    for row in ([head] if head else []) + list(rows):
        for number, cell in enumerate(row):
            mark = "  - " if number else "* - "
            yield f"   {mark}{cell}".rstrip()


def _plain(text: str) -> str:
    """Text in which nothing is markup."""
    for mark in "\\*`|":
        text = text.replace(mark, f"\\{mark}")
    return text
