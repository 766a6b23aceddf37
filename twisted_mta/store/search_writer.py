"""Writing the search index: documents enter and leave.

Blocking; for the indexer's thread. Each method is one transaction. It trusts its
caller to be the only writer (L{twisted_mta.store.search_file.Custody}).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import apsw

from twisted_mta.store.search_file import rows
from twisted_mta.store.search_text import BODY, FIELDS, HEADER, Document

#: Bits of a document's number below those of its account's.
ACCOUNT_SHIFT = 32

# Words whose ids are remembered: most of a message's are among them. 15 MB.
_REMEMBERED = 100_000

# Words that are looked at in one transaction of a sweep.
_SWEPT_AT_ONCE = 500

# Documents that left, beyond as many as there are, before words are swept.
_SWEEP_SLACK = 10_000


class SearchWriter:
    """The one writer.

    @param connection: to the index.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._ids: dict[str, str] = {}

    def progress(self) -> dict[int, int]:
        """Up to which modseq each account is indexed."""
        return dict(rows(self._connection, "SELECT id, modseq FROM account"))

    def start_over(self) -> None:
        """Trust no account's progress; the documents stay."""
        with self._connection:
            self._connection.execute("UPDATE account SET modseq = 0")

    def unknown(self, account: int, emails: Sequence[int]) -> list[int]:
        """Those of the emails that are no documents yet."""
        found = rows(
            self._connection,
            "SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM document"
            " WHERE account = ? AND email = value)",
            json.dumps(emails),
            account,
        )
        return [email for (email,) in found]

    def add(self, account: int, documents: Sequence[Document]) -> None:
        """Index emails that are no documents yet."""
        connection = self._connection
        try:
            with connection:
                number = self._take_numbers(account, len(documents))
                self._learn(documents)
                connection.executemany(
                    "INSERT INTO document (number, account, email, received, sent,"
                    " whole) VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        (number + at, account, *each[:3], each.words is not None)
                        for at, each in enumerate(documents)
                    ],
                )
                connection.executemany(
                    "INSERT INTO posting (rowid, words) VALUES (?, ?)",
                    [
                        (number + at, self._postings(each))
                        for at, each in enumerate(documents)
                        if each.words is not None
                    ],
                )
        except BaseException:
            self._ids.clear()  # some may be of words that were rolled back
            raise

    def advance(self, account: int, modseq: int) -> None:
        """All emails of an account that were placed up to a modseq are
        documents."""
        with self._connection:
            self._take_numbers(account, 0)
            self._connection.execute(
                "UPDATE account SET modseq = ? WHERE id = ?", (modseq, account)
            )

    def documents(self, account: int, after: int, most: int) -> list[int]:
        """Emails that are documents, ascending, from behind one on."""
        found = rows(
            self._connection,
            "SELECT email FROM document WHERE account = ? AND email > ?"
            " ORDER BY email LIMIT ?",
            account,
            after,
            most,
        )
        return [email for (email,) in found]

    def count(self, account: int) -> int:
        """How many documents an account has."""
        ((count,),) = rows(
            self._connection,
            "SELECT COUNT(*) FROM document WHERE account = ?",
            account,
        )
        return int(count)

    def remove(self, account: int, emails: Iterable[int]) -> None:
        """Take out documents of emails that are gone."""
        connection = self._connection
        with connection:
            numbers = [
                number
                for email in emails
                for (number,) in rows(
                    connection,
                    "DELETE FROM document WHERE account = ? AND email = ?"
                    " RETURNING number",
                    account,
                    email,
                )
            ]
            connection.executemany(
                "DELETE FROM posting WHERE rowid = ?", [(each,) for each in numbers]
            )
            connection.execute("UPDATE meta SET gone = gone + ?", (len(numbers),))

    def forget(self, account: int) -> None:
        """An account without documents is gone."""
        with self._connection:
            self._connection.execute("DELETE FROM account WHERE id = ?", (account,))

    # --- words that no document has any more ---

    def wants_sweep(self) -> bool:
        """Whether so many documents have left that words should follow."""
        ((gone, there),) = rows(
            self._connection, "SELECT gone, (SELECT COUNT(*) FROM document) FROM meta"
        )
        return bool(gone > there + _SWEEP_SLACK)

    def sweep(self, after: int) -> int:
        """Take out some words that no document has.

        @param after: the id behind which to go on, 0 to begin with.
        @return: where to go on, 0 at the end.
        """
        connection = self._connection
        looked = rows(
            connection,
            "SELECT id, text FROM word WHERE id > ? ORDER BY id LIMIT ?",
            after,
            _SWEPT_AT_ONCE,
        )
        unused = [(id, word) for id, word in looked if not self._is_used(id)]
        with connection:
            connection.executemany(
                "INSERT INTO gram (gram, rowid, text) VALUES ('delete', ?, ?)",
                [(id, word) for id, word in unused if len(word) > 2],
            )
            connection.executemany(
                "DELETE FROM word WHERE id = ?", [(id,) for id, _ in unused]
            )
            for _, word in unused:
                self._ids.pop(word, None)
            if len(looked) < _SWEPT_AT_ONCE:
                connection.execute("UPDATE meta SET gone = 0")
                return 0
        return int(looked[-1][0])

    def _is_used(self, id: int) -> bool:
        terms = " OR ".join(
            [f"{place}{id:x}" for place in (BODY, HEADER, *FIELDS.values())]
        )
        return bool(
            rows(
                self._connection,
                "SELECT 1 FROM posting WHERE posting MATCH ? LIMIT 1",
                terms,
            )
        )

    # --- within ---

    def _take_numbers(self, account: int, count: int) -> int:
        """The first of some new numbers of documents."""
        connection = self._connection
        connection.execute(
            "INSERT INTO account (id, number, modseq, top)"
            " SELECT ?1, number, 0, number << ?2 FROM"
            " (SELECT COALESCE(MAX(number), 0) + 1 AS number FROM account)"
            " WHERE NOT EXISTS (SELECT 1 FROM account WHERE id = ?1)",
            (account, ACCOUNT_SHIFT),
        )
        ((top,),) = rows(
            connection,
            "UPDATE account SET top = top + ? WHERE id = ? RETURNING top",
            count,
            account,
        )
        return int(top) - count

    def _learn(self, documents: Sequence[Document]) -> None:
        """Have an id for each of the words. The statements do them all at once:
        a thread that runs many gives up the interpreter at each."""
        connection, ids = self._connection, self._ids
        if len(ids) > _REMEMBERED:
            ids.clear()
        used = {
            word
            for each in documents
            for words in (each.words or {}).values()
            for word in words
        }
        asked = json.dumps([word for word in used if word not in ids])
        ((last,),) = rows(connection, "SELECT COALESCE(MAX(id), 0) FROM word")
        connection.execute(
            "INSERT INTO word (text) SELECT value FROM json_each(?) WHERE true"
            " ON CONFLICT DO NOTHING",
            (asked,),
        )
        connection.execute(
            "INSERT INTO gram (rowid, text) SELECT id, text FROM word"
            " WHERE id > ? AND LENGTH(text) > 2",
            (last,),
        )
        known = rows(
            connection,
            "SELECT w.text, w.id FROM json_each(?) JOIN word w ON w.text = value",
            asked,
        )
        ids.update((word, f"{id:x}") for word, id in known)

    def _postings(self, document: Document) -> str:
        ids = self._ids
        return " ".join(
            [
                place + ids[word]
                for place, words in (document.words or {}).items()
                for word in words
            ]
        )
