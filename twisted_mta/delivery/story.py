"""The history of messages, as it is read: one message, or those that are done with.

Queries for threads that read. What they give was made one line each when it was
written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

from twisted_mta.delivery.record import read_envelope
from twisted_mta.delivery.rows import of
from twisted_mta.delivery.selection import Selection
from twisted_mta.errors import BadFilter
from twisted_mta.interfaces import ITransaction, SqlValue
from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.filter import NULL, Filter, address, at_domain, like, matches
from twisted_mta.mail.history import LAST, Event, Finished, Passage
from twisted_mta.mail.ids import from_text, since, to_text

_PASSAGE = (
    "id, received_at, size, sender, recipients, mailboxes, queued, protocol, host,"
    " port, helo, tls, login, listener FROM history"
)

_EVENT = f"{', '.join(Event._fields)} FROM event"

# Events of a message that are read: a thousand recipients, ten attempts.
_EVENTS = 10_000

# An id is made when the client says MAIL, and its message comes later: a connection
# lasts six hours at most.
_SLACK_S = 86_400.0


def passage(transaction: ITransaction, message: int) -> Passage | None:
    """How a message came; of one that still waits, also if it came before there was a
    history."""
    rows = transaction.execute(f"SELECT {_PASSAGE} WHERE id = ?", (message,))
    for row in list(rows):
        return _passage(row)
    rows = transaction.execute(
        "SELECT envelope, size FROM queued WHERE id = ?", (message,)
    )
    for text, size in list(rows):
        envelope = read_envelope(text)
        recipients = tuple(map(str, envelope.recipients))
        return Passage(
            id=to_text(message),
            received_at=envelope.received_at,
            size=size,
            sender=str(envelope.sender or ""),
            origin=envelope.origin,
            recipients=recipients,
            mailboxes=(),
            queued=recipients,
        )
    return None


def events(transaction: ITransaction, message: int) -> Sequence[Event]:
    """What happened to a message; of very much the last."""
    rows = transaction.execute(
        f"SELECT {_EVENT} WHERE message_id = ? ORDER BY id DESC LIMIT ?",
        (message, _EVENTS),
    )
    return [Event(*row)._replace(uncertain=bool(row[-1])) for row in rows][::-1]


def finished(
    transaction: ITransaction, filter: Filter, now: float, most: int, before: int
) -> Sequence[Finished]:
    """Messages that are done with, the newest first.

    @param before: only those with a lower id.
    @raise BadFilter: it asks for what only those have that wait.
    """
    chosen = _select(filter, now)
    chosen.need("id < ?", before)
    chosen.need("NOT EXISTS (SELECT 1 FROM queued q WHERE q.id = history.id)")
    rows = transaction.execute(
        f"SELECT {_PASSAGE} WHERE {chosen.where()} ORDER BY id DESC", chosen.values
    )
    patterns = _recipients(filter)
    fitting = (one for one in map(_passage, rows) if _is_to(one, patterns))
    passages = list(islice(fitting, most))
    ids = [from_text(one.id) for one in passages]
    happened: dict[str, list[Any]] = {one.id: [] for one in passages}
    what = "message_id, id, at, kind, text FROM event WHERE message_id"
    for row in of(transaction, what, ids, " ORDER BY message_id, id"):
        happened[to_text(row[0])].append(row[2:])
    return [_finished(one, happened[one.id]) for one in passages]


def _finished(one: Passage, happened: Sequence[tuple[float, str, str]]) -> Finished:
    outcomes = Counter({"mailbox": len(one.mailboxes)} if one.mailboxes else {})
    outcomes.update(kind for _, kind, _ in happened if kind in LAST)
    ends = [text for _, kind, text in happened if kind in LAST]
    return Finished(
        passage=one,
        done_at=happened[-1][0] if happened else one.received_at,
        outcomes=tuple(outcomes.items()),
        text=ends[-1] if ends else "",
    )


def _select(filter: Filter, now: float) -> Selection:
    """A condition on the history. The key alone is an index: what is asked for is
    looked for from the newest on, or from an age on."""
    found = Selection()
    if filter.states:
        raise BadFilter("state: what is finished has none")
    if filter.ids:
        marks = ", ".join("?" * len(filter.ids))
        found.need(f"id IN ({marks})", *map(from_text, filter.ids))
    if filter.sender == NULL:
        found.need("sender = ''")
    elif filter.sender is not None:
        found.need("sender LIKE ? ESCAPE '!'", like(address(filter.sender)))
    for line in _recipients(filter):
        _need_line(found, like(line))
    if filter.account is not None:
        found.need("login LIKE ? ESCAPE '!'", like(address(filter.account)))
    if filter.older_s is not None:
        found.need("id < ?", since(now - filter.older_s + _SLACK_S))
        found.need("received_at <= ?", now - filter.older_s)
    if filter.younger_s is not None:
        found.need("id > ?", since(now - filter.younger_s - _SLACK_S))
        found.need("received_at > ?", now - filter.younger_s)
    for column, pattern in (
        ("next_hop", filter.site),
        ("agent", filter.agent),
        ("text", None if filter.error is None else f"*{filter.error}*"),
    ):
        if pattern is not None:
            found.need(
                "EXISTS (SELECT 1 FROM event e WHERE e.message_id = history.id"
                f" AND e.{column} LIKE ? ESCAPE '!')",
                like(pattern),
            )
    return found


def _recipients(filter: Filter) -> Sequence[str]:
    patterns = []
    if filter.recipient is not None:
        patterns.append(address(filter.recipient))
    if filter.domain is not None:
        patterns.append(at_domain(filter.domain))
    return patterns


def _need_line(found: Selection, pattern: str) -> None:
    """One of the recipients fits, as it was given or after aliases. A C{*} in the
    middle may reach over the end of a line here; L{_is_to} looks closer."""
    lines = [
        f"(? || {column} || ?) LIKE ? ESCAPE '!'"
        for column in ("recipients", "mailboxes", "queued")
    ]
    values: tuple[SqlValue, ...] = ("\n", "\n", f"%\n{pattern}\n%")
    found.need(f"({' OR '.join(lines)})", *values, *values, *values)


def _is_to(one: Passage, patterns: Sequence[str]) -> bool:
    addresses = {*one.recipients, *one.mailboxes, *one.queued}
    return all(
        any(matches(pattern, address) for address in addresses) for pattern in patterns
    )


def _passage(row: tuple[Any, ...]) -> Passage:
    id, received_at, size, sender, recipients, mailboxes, queued, *origin = row
    return Passage(
        id=to_text(id),
        received_at=received_at,
        size=size,
        sender=sender,
        origin=Origin(*origin),
        recipients=tuple(recipients.split("\n")) if recipients else (),
        mailboxes=tuple(mailboxes.split("\n")) if mailboxes else (),
        queued=tuple(queued.split("\n")) if queued else (),
    )
