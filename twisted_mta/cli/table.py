"""Listings for people and for programs."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

# Columns of a table whose cells are cut to what a person can still guess.
_LEAST = 12


def show(rows: Sequence[Mapping[str, Any]], as_json: bool, empty: str) -> None:
    """Print a listing.

    @param rows: all with the same keys, which are the columns' names.
    @param as_json: as one JSON array instead of a table.
    @param empty: what to print if there are no rows.
    """
    if as_json:
        print(json.dumps(list(rows), ensure_ascii=False))
        return
    if not rows:
        print(empty)
        return
    print("\n".join(lines(rows)))


def lines(
    rows: Sequence[Mapping[str, Any]],
    width: int | None = None,
    flexible: Sequence[str] = (),
) -> list[str]:
    """A listing as lines of text, the columns' names first.

    @param rows: at least one.
    @param width: characters of a line; C{None}: any number.
    @param flexible: columns whose cells may be cut for that, the widest first.
    """
    columns = list(rows[0])
    table = [columns, *([str(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[at]) for line in table) for at in range(len(columns))]
    if width is not None:
        _narrow(widths, [columns.index(name) for name in flexible], width)
    return [
        "  ".join(
            cut(cell, most).ljust(most) for cell, most in zip(line, widths, strict=True)
        )[:width].rstrip()
        for line in table
    ]


def _narrow(widths: list[int], flexible: Sequence[int], width: int) -> None:
    """Take from the widest of some columns until all fit, or nothing is left."""
    over = sum(widths) + 2 * (len(widths) - 1) - width
    while over > 0:
        widest = max(flexible, key=lambda at: widths[at], default=-1)
        if widest < 0 or widths[widest] <= _LEAST:
            return
        widths[widest] -= 1
        over -= 1


def cut(text: str, most: int) -> str:
    """A text of at most so many characters; what is longer ends in an ellipsis."""
    return text if len(text) <= most else f"{text[: max(most - 1, 0)]}\u2026"


def terminal() -> int | None:
    """How many characters a line of the terminal has; C{None}: it is none."""
    if not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def age(seconds: float) -> str:
    """A time span for people, two units of it: C{3h12m}."""
    left = max(int(seconds), 0)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if parts or left >= length or unit == "s":
            parts.append(f"{left // length}{unit}")
            left %= length
    return "".join(parts[:2])


def when(seconds: float) -> str:
    """A time of day for people, in their own zone."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def size(octets: int) -> str:
    """A size for people."""
    for unit in ("", "K", "M"):
        if octets < 1024:
            return f"{octets}{unit}"
        octets = (octets + 512) // 1024
    return f"{octets}G"
