"""What crashes leave behind, and what must never be: cleaned up, and looked for.

C{docs/design.rst} has the table of states. SQLite brings its own file back by
itself; what is left to do at a start is to remove the files of content that no
row names. L{problems} says what is wrong with a ledger; it repairs nothing.
"""

from __future__ import annotations

import apsw

from twisted_mta.ledger.files import Files
from twisted_mta.ledger.lock import WriteLock

# What each query finds must not be. Each gives one text a row.
_INVARIANTS = (
    # A content row has somebody who refers to it, or waits for the collector.
    "SELECT 'content ' || c.id || ': nobody refers to it' FROM content c"
    " WHERE NOT EXISTS (SELECT 1 FROM email e WHERE e.content_id = c.id)"
    " AND NOT EXISTS (SELECT 1 FROM queued q WHERE q.content_id = c.id)"
    " AND NOT EXISTS (SELECT 1 FROM released r WHERE r.content_id = c.id)",
    "SELECT 'content ' || id || ': size differs' FROM content"
    " WHERE octets IS NOT NULL AND LENGTH(octets) <> size",
    "SELECT 'email ' || e.id || ': no content' FROM email e"
    " WHERE NOT EXISTS (SELECT 1 FROM content c WHERE c.id = e.content_id)",
    "SELECT 'queued ' || q.id || ': no content' FROM queued q"
    " WHERE NOT EXISTS (SELECT 1 FROM content c WHERE c.id = q.content_id)",
    "SELECT 'queued ' || q.id || ': no hop' FROM queued q"
    " WHERE NOT EXISTS (SELECT 1 FROM hop h WHERE h.queued_id = q.id)",
    "SELECT 'hop ' || h.id || ': no message' FROM hop h"
    " WHERE NOT EXISTS (SELECT 1 FROM queued q WHERE q.id = h.queued_id)",
    "SELECT 'hop ' || h.id || ': no recipient' FROM hop h"
    " WHERE NOT EXISTS (SELECT 1 FROM recipient r WHERE r.hop_id = h.id)",
    "SELECT 'recipient ' || r.address || ': no hop ' || r.hop_id FROM recipient r"
    " WHERE NOT EXISTS (SELECT 1 FROM hop h WHERE h.id = r.hop_id)",
    "SELECT 'email ' || e.id || ': in no mailbox' FROM email e"
    " WHERE NOT EXISTS (SELECT 1 FROM placement p"
    " WHERE p.account_id = e.account_id AND p.email_id = e.id)",
    "SELECT 'placement ' || p.mailbox_id || '/' || p.uid || ': no email'"
    " FROM placement p WHERE NOT EXISTS (SELECT 1 FROM email e"
    " WHERE e.account_id = p.account_id AND e.id = p.email_id)",
    "SELECT 'placement ' || p.mailbox_id || '/' || p.uid || ': no mailbox'"
    " FROM placement p WHERE NOT EXISTS (SELECT 1 FROM mailbox m"
    " WHERE m.account_id = p.account_id AND m.id = p.mailbox_id)",
    "SELECT 'mailbox ' || m.id || ': no account' FROM mailbox m"
    " WHERE NOT EXISTS (SELECT 1 FROM account a WHERE a.id = m.account_id)",
    # What a mailbox says of itself, counted again.
    "SELECT 'mailbox ' || m.id || ': counts are wrong' FROM mailbox m LEFT JOIN"
    " (SELECT account_id, mailbox_id, COUNT(*) AS messages, SUM(size) AS size,"
    " SUM(1 - flags % 2) AS unseen, MAX(uid) AS uid, MAX(modseq) AS modseq"
    " FROM placement GROUP BY account_id, mailbox_id) p"
    " ON p.account_id = m.account_id AND p.mailbox_id = m.id"
    " WHERE m.messages <> COALESCE(p.messages, 0) OR m.size <> COALESCE(p.size, 0)"
    " OR m.unseen <> COALESCE(p.unseen, 0) OR m.uidnext <= COALESCE(p.uid, 0)"
    " OR m.modseq < COALESCE(p.modseq, 0)",
    "SELECT 'mailbox ' || m.id || ': modseq above its account''s' FROM mailbox m"
    " JOIN account a ON a.id = m.account_id WHERE m.modseq > a.modseq",
)


def remove_orphans(connection: apsw.Connection, files: Files) -> int:
    """Remove files that no row names and that no process writes.

    @return: how many.
    """
    removed = 0
    for id in files.ids():
        # Locked files first: who commits one keeps the lock until afterwards.
        if not files.is_arriving(id) and not _is_named(connection, id):
            files.remove(id)
            removed += 1
    return removed


def problems(connection: apsw.Connection, files: Files, lock: WriteLock) -> list[str]:
    """Look through the whole ledger; nobody writes meanwhile.

    @return: what is wrong, a line each; empty if all is well.
    """
    with lock:
        return [
            *(
                text
                for (text,) in connection.execute("PRAGMA integrity_check")
                if text != "ok"
            ),
            *(text for query in _INVARIANTS for (text,) in connection.execute(query)),
            *_wrong_files(connection, files),
        ]


def _wrong_files(connection: apsw.Connection, files: Files) -> list[str]:
    wrong = []
    named = connection.execute("SELECT id, size FROM content WHERE octets IS NULL")
    for id, size in named:
        found = files.size(id)
        if found != size:
            there = "no file" if found is None else f"a file of {found} octets"
            wrong.append(f"content {id}: {there} instead of {size} octets")
    for id in files.ids():
        if not files.is_arriving(id) and not _is_named(connection, id):
            wrong.append(f"content {id}: a file that no row names")
    return wrong


def _is_named(connection: apsw.Connection, id: int) -> bool:
    rows = connection.execute(
        "SELECT 1 FROM content WHERE id = ? AND octets IS NULL", (id,)
    )
    return bool(rows.fetchall())
