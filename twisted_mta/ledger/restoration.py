"""A ledger that has gone back in time: what a backup became when it is used.

Between the backup and the disaster, mailboxes gave out UIDs that clients remember.
The same UIDs will now be given to other messages, and clients would show those that
they remember, or delete the wrong ones. So each mailbox gets another UIDVALIDITY,
with which clients forget what they knew (RFC 3501 2.3.1.1). To leave out UIDs
instead would spare them the reading, but messages that were deleted after the backup
come back under UIDs which clients know to be gone, and they would not show them.

A backup has a file that says that it is one. The first start, of a server or of a
command that works on the ledger, does what is needed and removes it.
"""

from __future__ import annotations

import time
from pathlib import Path

import apsw

from twisted_mta.ledger.files import synchronise
from twisted_mta.ledger.lock import WriteLock
from twisted_mta.ledger.sqlite import rows

#: Whoever restores in another way makes a file of this name.
MARKER = "backup"


def restore(connection: apsw.Connection, lock: WriteLock, directory: Path) -> int:
    """Make a backup a ledger like any other, if it is one.

    @return: how many mailboxes have a new UIDVALIDITY.
    """
    marker = directory / MARKER
    if not marker.exists():
        return 0
    with lock:
        if not marker.exists():
            return 0  # another process was faster
        connection.execute("BEGIN IMMEDIATE")
        try:
            count = _change(connection, int(time.time()))
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        # A crash before this only means that it is done once more.
        marker.unlink()
        synchronise(directory)
    return count


def _change(connection: apsw.Connection, now: int) -> int:
    """Larger for each mailbox than any that its account ever had, as for a new one
    (L{twisted_mta.store.native_rows.make})."""
    mailboxes = rows(
        connection,
        "SELECT a.id, m.id, a.uidvalidity FROM account a JOIN mailbox m"
        " ON m.account_id = a.id ORDER BY a.id, m.id",
    )
    given: dict[int, int] = {}
    changes = []
    for account, mailbox, last in mailboxes:
        given[account] = max(now, given.get(account, last) + 1)
        changes.append((given[account], account, mailbox))
    connection.executemany(
        "UPDATE mailbox SET uidvalidity = ? WHERE account_id = ? AND id = ?", changes
    )
    connection.executemany(
        "UPDATE account SET uidvalidity = ? WHERE id = ?",
        [(last, account) for account, last in given.items()],
    )
    return len(changes)
