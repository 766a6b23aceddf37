"""Fill a ledger with messages that came, one after the other, to all accounts.

Rows are copies of those of one message that the server took itself, made by SQL
in the order in which they would have come, so that B-trees and file look as they
would. The server does not run meanwhile.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apsw

# Rows of one transaction.
_BATCH = 100_000

# Ids are microseconds times 4096 (twisted_mta.mail.ids): a message each 100 ms.
_BETWEEN = 100_000 << 12


class Filling:
    """A ledger that is filled.

    @param path: the database.
    """

    def __init__(self, path: Path) -> None:
        self._ledger = apsw.Connection(str(path))
        for pragma in ("synchronous = OFF", "cache_size = -500000", "temp_store = 2"):
            self._ledger.execute(f"PRAGMA {pragma}")
        self._ledger.execute("CREATE TEMP TABLE box (k PRIMARY KEY, account_id, id)")
        self._boxes = 0
        self._find_boxes()

    def close(self) -> None:
        """Put everything into the database file."""
        self._ledger.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self._ledger.close()

    def accounts(self, count: int) -> None:
        """Make as many accounts of one, C{user0@...}, with its password."""
        address = "replace(one.address, 'user0@', 'user' || (1 + i) || '@')"
        owner = {"id": "one.id + 1 + i", "account_id": "one.account_id + 1 + i"}
        key = address.replace("one.address", "one.address_key")
        with self._ledger:
            changed = {**owner, "address": address, "address_key": key}
            self._copy("account", "1", changed, 0, count - 1)
            for table in ("mailbox", "subscription"):
                for name in self._column(f"SELECT name FROM {table}"):
                    self._copy(table, f"name = '{name}'", owner, 0, count - 1)
        self._find_boxes()

    def mail(self, count: int) -> None:
        """Add messages; there must be one placement to copy."""
        email = self._number("SELECT email_id FROM placement LIMIT 1")
        content = self._number(
            f"SELECT content_id FROM email WHERE id = {email} LIMIT 1"
        )
        id = f"{email} - ({count} - i) * {_BETWEEN}"
        uid = f"1000 + i / {self._boxes}"
        ids = {"account_id": "box.account_id", "email_id": id, "mailbox_id": "box.id"}
        for first in range(0, count, _BATCH):
            end = min(first + _BATCH, count)
            with self._ledger:
                self._copy("content", f"id = {content}", {"id": id}, first, end)
                changed = {**ids, "id": id, "thread_id": id, "content_id": id}
                self._copy("email", f"id = {email}", changed, first, end)
                changed = {**ids, "uid": uid, "modseq": uid}
                self._copy("placement", f"email_id = {email}", changed, first, end)
        with self._ledger:
            self._ledger.execute(
                "UPDATE mailbox SET (messages, unseen, size, uidnext, modseq) ="
                " (SELECT count(*), count(*), sum(size), max(uid) + 1,"
                " max(modseq) + 1 FROM placement WHERE account_id ="
                " mailbox.account_id AND mailbox_id = mailbox.id)"
                " WHERE id IN (SELECT id FROM box)"
            )
            self._ledger.execute(
                "UPDATE account SET modseq = (SELECT max(modseq) FROM mailbox"
                " WHERE account_id = account.id)"
            )

    def queue(self, count: int) -> None:
        """Add messages that wait in the queue, on hold; one must be there."""
        queued, hop = next(self._ledger.execute("SELECT queued_id, id FROM hop"))
        id = f"{queued} - (1 + i) * {_BETWEEN}"
        for first in range(0, count, _BATCH):
            end = min(first + _BATCH, count)
            with self._ledger:
                self._copy("queued", f"id = {queued}", {"id": id}, first, end)
                changed = {"id": id, "queued_id": id, "held": "1"}
                self._copy("hop", f"id = {hop}", changed, first, end)
                self._copy("recipient", f"hop_id = {hop}", {"hop_id": id}, first, end)

    def _find_boxes(self) -> None:
        self._ledger.execute(
            "DELETE FROM box; INSERT INTO box"
            " SELECT row_number() OVER (ORDER BY account_id) - 1, account_id, id"
            " FROM mailbox WHERE name = 'INBOX'"
        )
        self._boxes = self._number("SELECT count(*) FROM box")

    def _number(self, query: str) -> int:
        return int(self._column(query)[0])

    def _column(self, query: str) -> list[Any]:
        return [row[0] for row in self._ledger.execute(query)]

    def _copy(
        self, table: str, which: str, changed: Mapping[str, str], first: int, end: int
    ) -> None:
        """Copies of one row.

        @param changed: SQL for the columns that differ, of C{i}, the number of the
            copy, and C{box}, one INBOX after the other.
        """
        columns = [
            row[1] for row in self._ledger.execute(f"PRAGMA table_info({table})")
        ]
        values = [changed.get(name, f"one.{name}") for name in columns]
        self._ledger.execute(
            f"WITH RECURSIVE number (i) AS (SELECT {first} UNION ALL"
            f" SELECT i + 1 FROM number WHERE i < {end - 1})"
            f" INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)}"
            f" FROM number CROSS JOIN (SELECT * FROM {table} WHERE {which} LIMIT 1) one"
            f" CROSS JOIN box ON box.k = i % {self._boxes}"
        )
