"""A finding of an audit, and how people read what it is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import apsw

from twisted_mta.ledger.sqlite import rows
from twisted_mta.mail.ids import to_text

# Places of one message that a line names, so that one line stays one.
_NAMED = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be.

    @ivar what: what is wrong with what, in one line.
    @ivar remedy: what a repair does about it, or what nobody can.
    @ivar repair: run within a transaction, perhaps some time later: it looks
        again and changes nothing that has come right meanwhile. C{None}: it
        cannot be put right here.
    @ivar outside: run after that, without a transaction.
    @ivar problem: false if it is only worth doing.
    @ivar count: how many there are of it.
    """

    what: str
    remedy: str
    repair: Callable[[apsw.Connection], object] | None = None
    outside: Callable[[apsw.Connection], object] | None = None
    problem: bool = True
    count: int = 1

    @property
    def repairable(self) -> bool:
        """Whether a repair does something about it."""
        return self.repair is not None or self.outside is not None


Look = Callable[[str, int, int], None]
"""Told how far an audit has come: with what, how much of it, of how much."""


def address(connection: apsw.Connection, account: int) -> str:
    """Whose something is."""
    for (found,) in rows(
        connection, "SELECT address FROM account WHERE id = ?", (account,)
    ):
        return str(found)
    return f"account {account}"


def places(connection: apsw.Connection, account: int, email: int) -> str:
    """Where a message is, by mailbox and UID."""
    found = [
        f"{mailbox if name is None else name}/{uid}"
        for mailbox, name, uid in rows(
            connection,
            "SELECT p.mailbox_id, m.name, p.uid FROM placement p LEFT JOIN mailbox m"
            " ON m.account_id = p.account_id AND m.id = p.mailbox_id"
            " WHERE p.account_id = ? AND p.email_id = ? ORDER BY p.mailbox_id, p.uid",
            (account, email),
        )
    ]
    return f"{address(connection, account)}: {_listed(found) or 'no mailbox'}"


def owners(connection: apsw.Connection, content: int) -> str:
    """Which messages consist of this content: in mailboxes, and in the queue."""
    found = [
        places(connection, account, email)
        for account, email in rows(
            connection,
            "SELECT account_id, id FROM email WHERE content_id = ? LIMIT ?",
            (content, _NAMED + 1),
        )
    ]
    found += [
        f"queue: {to_text(queued)} from <{sender or ''}>"
        f" to {recipients(connection, queued)}"
        for queued, sender in rows(
            connection, "SELECT id, sender FROM queued WHERE content_id = ?", (content,)
        )
    ]
    return _listed(found, "; ") or "nobody"


def recipients(connection: apsw.Connection, queued: int) -> str:
    """Who still waits for a message of the queue."""
    found = [
        f"<{one}>"
        for (one,) in rows(
            connection,
            "SELECT r.address FROM recipient r JOIN hop h ON h.id = r.hop_id"
            " WHERE h.queued_id = ?",
            (queued,),
        )
    ]
    return _listed(found) or "nobody that is known"


def run(connection: apsw.Connection, sql: str, values: tuple[Any, ...]) -> None:
    """A repair that is one statement, once that is bound."""
    connection.execute(sql, values)


def _listed(names: list[str], between: str = ", ") -> str:
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return between.join(names[:_NAMED] + more)
