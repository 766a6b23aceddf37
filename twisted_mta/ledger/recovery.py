"""What crashes leave behind: cleaned up at each start.

C{docs/design.rst} has the table of states. SQLite brings its own file back by
itself; what is left to do at a start is to remove the files of content that no
row names. What must never be is looked for by an L{audit
<twisted_mta.ledger.audit.audit>}.
"""

from __future__ import annotations

import apsw

from twisted_mta.ledger.files import Files


def remove_orphans(connection: apsw.Connection, files: Files) -> int:
    """Remove files that no row names and that no process writes.

    @return: how many.
    """
    removed = 0
    for id in files.ids():
        if is_orphan(connection, files, id):
            files.remove(id)
            removed += 1
    return removed


def is_orphan(connection: apsw.Connection, files: Files, id: int) -> bool:
    """Whether a file that is there is nobody's, or is about to be removed."""
    # Its lock first: who commits a file keeps the lock until afterwards.
    return not files.is_arriving(id) and not _is_named(connection, id)


def _is_named(connection: apsw.Connection, id: int) -> bool:
    rows = connection.execute(
        "SELECT 1 FROM content WHERE id = ? AND octets IS NULL", (id,)
    )
    return bool(rows.fetchall())
