"""The rows of the queue, and whether they refer to each other as they must. Each
rule is one statement, as for L{mailboxes <twisted_mta.ledger.audit.mailboxes>}."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import apsw

from twisted_mta.ledger.audit.finding import Finding, Look, recipients, run
from twisted_mta.ledger.sqlite import rows
from twisted_mta.mail.ids import to_text

_NO_QUEUED = " NOT EXISTS (SELECT 1 FROM queued q WHERE q.id = queued_id)"
_NO_RECIPIENT = " NOT EXISTS (SELECT 1 FROM recipient r WHERE r.hop_id = hop.id)"
_NO_HOP = " NOT EXISTS (SELECT 1 FROM hop h WHERE h.id = hop_id)"


def queue(connection: apsw.Connection, look: Look) -> Iterator[Finding]:
    """The queue as a whole."""
    look("queue", 0, 1)
    for (queued,) in rows(
        connection,
        "SELECT id FROM queued WHERE NOT EXISTS"
        " (SELECT 1 FROM content c WHERE c.id = content_id)",
    ):
        yield Finding(
            f"queued {_id(queued)} to {recipients(connection, queued)} has no content",
            "cannot be repaired: tell the sender, then 'twisted-mta queue remove"
            f" {_id(queued)}'; a backup may have it",
        )
    yield from _hops(connection)
    for hop, address in rows(
        connection, "SELECT hop_id, address FROM recipient WHERE" + _NO_HOP
    ):
        yield Finding(
            f"recipient <{address}> waits for hop {hop}, which is gone",
            "removed: which message it was is not known",
            partial(
                run,
                sql="DELETE FROM recipient WHERE hop_id = ? AND address = ? AND"
                + _NO_HOP,
                values=(hop, address),
            ),
        )
    # After the hops that their own repair leaves without one.
    for queued, envelope in rows(
        connection,
        "SELECT id, envelope FROM queued WHERE NOT EXISTS"
        " (SELECT 1 FROM hop h WHERE h.queued_id = queued.id)",
    ):
        yield Finding(
            f"queued {_id(queued)} waits for no next hop; its recipients were"
            f" {_recipients(envelope)}",
            "cannot be repaired: who of them still waits for it is not known; it is"
            " kept, and a backup may have the rest",
        )


def _hops(connection: apsw.Connection) -> Iterator[Finding]:
    for hop, next_hop, queued in rows(
        connection, "SELECT id, next_hop, queued_id FROM hop WHERE" + _NO_QUEUED
    ):
        waiting = ", ".join(
            f"<{address}>"
            for (address,) in rows(
                connection,
                "SELECT address FROM recipient WHERE hop_id = ?",
                (hop,),
            )
        )
        yield Finding(
            f"hop {hop} to {next_hop or '-'} for {waiting or 'nobody'}: its message"
            f" {_id(queued)} is gone",
            "removed: nothing of the message is left; a backup may have it",
            partial(_drop, hop=hop),
        )
    for hop, next_hop, queued in rows(
        connection, "SELECT id, next_hop, queued_id FROM hop WHERE" + _NO_RECIPIENT
    ):
        yield Finding(
            f"hop {hop} of {_id(queued)} to {next_hop or '-'} has no recipient",
            "cannot be repaired: who they were is not known; 'twisted-mta queue remove"
            f" {_id(queued)}' ends it, and a backup may have them",
        )


def _drop(connection: apsw.Connection, hop: int) -> None:
    for _ in connection.execute(
        f"DELETE FROM hop WHERE id = ? AND {_NO_QUEUED} RETURNING id", (hop,)
    ).fetchall():
        connection.execute("DELETE FROM recipient WHERE hop_id = ?", (hop,))


def _recipients(envelope: Any) -> str:
    try:
        return ", ".join(f"<{one}>" for one in json.loads(envelope)["recipients"])
    except (ValueError, KeyError, TypeError):
        return "not readable any more"


def _id(value: Any) -> str:
    return to_text(int(value))
