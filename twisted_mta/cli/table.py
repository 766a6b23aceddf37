"""Listings for people and for programs."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any


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
    columns = list(rows[0])
    lines = [columns, *([str(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


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
