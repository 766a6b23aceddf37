"""SQLite's own check of its file. An index can be made anew from its table; what
is wrong with a table cannot be put right from within."""

from __future__ import annotations

import re
from collections.abc import Iterator

import apsw

from twisted_mta.ledger.audit.finding import Finding, Look
from twisted_mta.ledger.sqlite import rows

# After so many the file is as broken as it can be.
_MOST = 1000

# What SQLite says when only an index is wrong.
_OF_INDEX = re.compile(
    r"row \d+ missing from index (?P<one>\w+)"
    r"|wrong # of entries in index (?P<two>\w+)"
    r"|row \d+ values differ from index (?P<three>\w+)"
    r"|rowid not at end-of-record for row \d+ of index (?P<four>\w+)"
)


def structure(connection: apsw.Connection, look: Look) -> Iterator[Finding]:
    """What is wrong with the file."""
    look("structure", 0, 1)
    indices: dict[str, str] = {}
    for (text,) in rows(connection, f"PRAGMA integrity_check({_MOST})"):
        said = str(text)
        match = _OF_INDEX.fullmatch(said)
        if match is not None:
            indices.setdefault(str(match[match.lastgroup or 0]), said)
        elif said != "ok":
            yield Finding(
                f"ledger.sqlite3: {' '.join(said.split())}",
                "cannot be repaired here: rows may be lost; restore a backup",
            )
    for index, said in indices.items():
        yield Finding(
            f"index {index}: {said}",
            "made anew from its table",
            repair=lambda connection, index=index: connection.execute(  # type: ignore[misc]
                f'REINDEX "{index}"'
            ),
        )
