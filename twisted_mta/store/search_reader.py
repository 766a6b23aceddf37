"""Asking the search index which emails match.

Blocking; for a searching thread. An answer comes from one state of the index: what
it says of documents holds for those that were there then, and it tells which they
were. What an index of words says of a string without separators is exact; of
others it gives candidates, and where even those would be dearer than looking at
the messages, nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import apsw

from twisted_mta.mail import text, word
from twisted_mta.mail.criterion import (
    Criterion,
    DayCriterion,
    Place,
    TextCriterion,
)
from twisted_mta.mail.word import Piece
from twisted_mta.store.search_file import rows
from twisted_mta.store.search_text import BODY, FIELDS, HEADER
from twisted_mta.store.search_writer import ACCOUNT_SHIFT

# Terms of one query. FTS5 looks at each for each document.
_TERMS = 64

# Characters of what FTS5 calls a trigram.
_GRAM = 3

# Words that may contain a piece: some 100 us each, where looking at a message
# takes 80. No more than there are messages, and no more than this, some seconds.
_WORDS_MOST = 20_000

# Documents that terms may give, all counted, for each message that would have
# to be looked at otherwise.
_HITS_MOST = 10

# Pieces of what is looked for that are looked up. Sentences have no more words.
_PIECES = 20

# So few candidates are looked at sooner than another piece is.
_FEW = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """What the index says to one criterion.

    @ivar emails: those that match.
    @ivar exact: each of them does; if not, they have to be looked at.
    """

    emails: frozenset[int]
    exact: bool


@dataclass(frozen=True, slots=True)
class Answers:
    """What the index says.

    @ivar each: for each criterion; C{None}: nothing.
    @ivar large: emails that are too large to be indexed: they have to be looked
        at.
    @ivar modseq: up to here all emails of the account were documents.
    @ivar top: the documents have numbers below this one.
    """

    each: Sequence[Answer | None]
    large: frozenset[int]
    modseq: int
    top: int


class SearchReader:
    """One who searches.

    @param connection: to the index.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def find(
        self, account: int, criteria: Sequence[Criterion], worth: int
    ) -> Answers | None:
        """Ask.

        @param worth: how many messages would have to be looked at otherwise.
        @return: C{None} if the index does not know the account.
        @raise apsw.Error: the index is damaged or busy.
        """
        with _Snapshot(self._connection):
            found = self._rows(
                "SELECT number, modseq, top FROM account WHERE id = ?", account
            )
            if not found:
                return None
            ((number, modseq, top),) = found
            query = _Query(self._rows, number << ACCOUNT_SHIFT, top, worth)
            return Answers(
                [query.answer(each) for each in criteria], query.large(), modseq, top
            )

    def unknown(self, account: int, emails: Sequence[int], top: int) -> set[int]:
        """Those of the emails that are no documents with numbers below C{top}.

        @raise apsw.Error: the index is damaged or busy.
        """
        return _numbers(
            self._rows(
                "SELECT group_concat(value) FROM json_each(?) WHERE NOT EXISTS"
                " (SELECT 1 FROM document"
                " WHERE account = ? AND email = value AND number < ?)",
                json.dumps(emails),
                account,
                top,
            )
        )

    def _rows(self, sql: str, *values: int | str) -> list[tuple[Any, ...]]:
        return rows(self._connection, sql, *values)


class _Snapshot:
    """Queries on one state of the index."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN")

    def __exit__(self, *_: object) -> None:
        self._connection.execute("ROLLBACK")


_Rows = Callable[..., list[tuple[Any, ...]]]


class _Query:
    """Questions to one account's documents.

    Lists of numbers come as one row of text: a thread gives up the interpreter
    for each row, and beside a reactor that is busy gets it back 0.5 ms later.

    @param bottom: the number of the account's first document.
    """

    def __init__(self, rows: _Rows, bottom: int, top: int, worth: int) -> None:
        self._rows = rows
        self._bottom = bottom
        self._last = top - 1
        self._worth = worth

    def answer(self, criterion: Criterion) -> Answer | None:
        """@return: C{None} if looking at the messages is better."""
        if isinstance(criterion, DayCriterion):
            return self._days(criterion)
        return self._text(criterion)

    def large(self) -> frozenset[int]:
        """See L{Answers}."""
        return frozenset(
            _numbers(
                self._rows(
                    "SELECT group_concat(email) FROM document"
                    " WHERE whole = 0 AND number BETWEEN ? AND ?",
                    self._bottom,
                    self._last,
                )
            )
        )

    def _days(self, criterion: DayCriterion) -> Answer:
        column = "sent" if criterion.sent else "received"
        emails = _numbers(
            self._rows(
                "SELECT group_concat(email) FROM document"
                f" WHERE number BETWEEN ? AND ? AND {column} BETWEEN ? AND ?",
                self._bottom,
                self._last,
                criterion.first,
                criterion.last,
            )
        )
        return Answer(frozenset(emails), True)

    def _text(self, criterion: TextCriterion) -> Answer | None:
        places, own = _places(criterion)
        wanted = criterion.text
        if not wanted and criterion.place is Place.FIELD:
            # As the line of the field begins; see text.block_text().
            places, own = HEADER, False
            wanted = "\n" + text.fold(criterion.field.decode("latin-1")) + ":"
        pieces, whole = word.pieces(wanted)
        # The longest are in the fewest words.
        pieces = sorted(pieces, key=lambda piece: -len(piece.text))[:_PIECES]
        terms = [
            [f"{place}{id}" for id in ids for place in places]
            for ids in map(self._words, pieces)
            if ids is not None
        ]
        found = self._with_all(terms)
        return None if found is None else Answer(self._emails(found), whole and own)

    def _with_all(self, terms: Sequence[Sequence[str]]) -> set[int] | None:
        """The documents that have one of the terms in each list, and perhaps some
        more if the lists are several; C{None} if there is no saying."""
        found: set[int] | None = None
        # FTS5 leaps from what the rarest of few terms has to the others.
        few = [f"({' OR '.join(each)})" for each in terms if len(each) <= _TERMS]
        if not all(terms):
            found = set()
        elif few:
            found = self._matching(" AND ".join(few))
        for each in terms:
            if found is not None and len(found) <= _FEW:
                break
            if len(each) > _TERMS:
                numbers = self._with_any(each)
                if numbers is not None:
                    found = numbers if found is None else found & numbers
        return found

    def _with_any(self, terms: Sequence[str]) -> set[int] | None:
        """The documents that have one of many terms; C{None}: it takes too long."""
        found: set[int] = set()
        hits = 0
        for at in range(0, len(terms), _TERMS):
            numbers = self._matching(" OR ".join(terms[at : at + _TERMS]))
            hits += len(numbers)
            found |= numbers
            if len(found) > self._last - self._bottom:
                break  # all of them
            if hits > _HITS_MOST * self._worth + _HITS_MOST * _TERMS:
                return None
        return found

    def _matching(self, query: str) -> set[int]:
        return _numbers(
            self._rows(
                "SELECT group_concat(rowid) FROM posting"
                " WHERE posting MATCH ? AND rowid BETWEEN ? AND ?",
                query,
                self._bottom,
                self._last,
            )
        )

    def _words(self, piece: Piece) -> list[str] | None:
        """The ids of the words that have a piece, in hexadecimal; short words
        first, since they are in more documents. C{None}: too many, or no
        telling."""
        wanted, starts, ends = piece
        if starts and ends:
            rows = self._rows(
                "SELECT printf('%x', id) FROM word WHERE text = ?", wanted
            )
            return [id for (id,) in rows]
        if len(wanted) < _GRAM:
            return None
        most = min(_WORDS_MOST, self._worth)
        ((joined,),) = self._rows(
            "SELECT group_concat(printf('%x', id)) FROM (SELECT w.id FROM gram"
            " JOIN word w ON w.id = gram.rowid WHERE gram MATCH ?1"
            f" AND {_HAS[starts, ends]} ORDER BY LENGTH(w.text) LIMIT ?3)",
            " AND ".join(
                f'"{wanted[at : at + _GRAM]}"' for at in range(len(wanted) - _GRAM + 1)
            ),
            wanted,
            most + 1,
        )
        ids = str(joined).split(",") if joined else []
        return None if len(ids) > most else ids

    def _emails(self, numbers: set[int]) -> frozenset[int]:
        return frozenset(
            _numbers(
                self._rows(
                    "SELECT group_concat(email) FROM json_each(?)"
                    " JOIN document ON number = value",
                    json.dumps(sorted(numbers)),
                )
            )
        )


# How a word (w.text) has a piece (?2).
_HAS = {
    (False, False): "INSTR(w.text, ?2)",
    (True, False): "SUBSTR(w.text, 1, LENGTH(?2)) = ?2",
    (False, True): "SUBSTR(w.text, -LENGTH(?2)) = ?2",
}


def _places(criterion: TextCriterion) -> tuple[str, bool]:
    """Where the index has the words of a place, and whether it has no others
    there."""
    if criterion.place is Place.BODY:
        return BODY, True
    if criterion.place is Place.TEXT:
        return BODY + HEADER, True
    own = FIELDS.get(criterion.field.lower())
    return (HEADER, False) if own is None else (own, True)


def _numbers(found: Sequence[tuple[Any, ...]]) -> set[int]:
    """What C{group_concat} gave; it gives C{NULL} for no rows."""
    ((joined,),) = found
    return set(map(int, str(joined).split(","))) if joined is not None else set()
