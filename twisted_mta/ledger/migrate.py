"""The ledger's schema: numbered files that are run once each, in order.

C{schema/001.sql} and those after it are written in the portable subset. How far
a ledger has come stands in its table C{ledger}. Each step is one transaction,
so a crash leaves the state before or after it.
"""

from __future__ import annotations

from importlib.resources import files

import apsw

from twisted_mta.errors import LedgerUnavailable
from twisted_mta.ledger.lock import WriteLock
from twisted_mta.ledger.sqlite import dialect

# One row. C{opened} counts how often a writer opened the ledger.
_TABLE = """
CREATE TABLE IF NOT EXISTS ledger (
    version BIGINT NOT NULL,
    opened  BIGINT NOT NULL
)
"""


class LedgerTooNew(LedgerUnavailable):
    """A later version of the program has written the ledger."""


def steps() -> dict[int, str]:
    """The migrations, by number."""
    directory = files("twisted_mta.ledger") / "schema"
    return {
        int(file.name.removesuffix(".sql")): file.read_text("utf-8")
        for file in directory.iterdir()
        if file.name.endswith(".sql")
    }


def migrate(connection: apsw.Connection, lock: WriteLock) -> int:
    """Bring a ledger up to date.

    @return: its version.
    @raise LedgerTooNew: nothing was changed.
    """
    known = steps()
    newest = max(known)
    while True:
        with lock:
            connection.execute("BEGIN IMMEDIATE")
            try:
                version = _version(connection)
                if version > newest:
                    raise LedgerTooNew(
                        f"The ledger has version {version}, this program knows up "
                        f"to {newest}; install the newer program again"
                    )
                if version < newest:
                    connection.execute(dialect(known[version + 1]))
                    connection.execute("UPDATE ledger SET version = version + 1")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        if version == newest:
            return version


def _version(connection: apsw.Connection) -> int:
    connection.execute(_TABLE)
    for (version,) in connection.execute("SELECT version FROM ledger"):
        return int(version)
    connection.execute("INSERT INTO ledger (version, opened) VALUES (0, 0)")
    return 0
