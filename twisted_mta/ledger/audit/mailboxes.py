"""The rows of one account: mailboxes, placements, emails, and whether they refer
to each other as they must.

Each rule is one statement, so it sees one state of the ledger, in which all that
belongs together is there together: whatever mail flows meanwhile, it finds nothing
that is only on its way. A repair is a statement that says the rule once more. The
rules are in the order in which their repairs must come: what a placement that is
dropped leaves behind, later ones find.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import apsw

from twisted_mta.ledger.audit.finding import Finding, Look, address, places, run
from twisted_mta.ledger.sqlite import rows
from twisted_mta.mail.ids import to_text

_NO_MAILBOX = (
    " AND NOT EXISTS (SELECT 1 FROM mailbox m"
    " WHERE m.account_id = {0}.account_id AND m.id = {0}.mailbox_id)"
)
_NO_EMAIL = (
    " AND NOT EXISTS (SELECT 1 FROM email e"
    " WHERE e.account_id = placement.account_id AND e.id = placement.email_id)"
)
_NOWHERE = (
    " AND NOT EXISTS (SELECT 1 FROM placement p"
    " WHERE p.account_id = email.account_id AND p.email_id = email.id)"
)


def accounts(connection: apsw.Connection, look: Look) -> Iterator[Finding]:
    """All accounts, one after the other."""
    ids = [
        id
        for (id,) in rows(
            connection,
            "SELECT id FROM account UNION SELECT account_id FROM mailbox UNION"
            " SELECT account_id FROM email UNION SELECT account_id FROM placement",
        )
    ]
    for number, id in enumerate(ids):
        look("accounts", number, len(ids))
        if connection.execute(
            "SELECT 1 FROM account WHERE id = ?", (id,)
        ).fetchall() or not _has_mail(connection, id):
            for rule in _RULES:
                yield from rule(connection, id)
        else:
            yield Finding(
                f"account {id}: is gone, but not its mail: {_mail(connection, id)}",
                "cannot be repaired: address and password are lost; a backup has them",
            )


def _has_mail(connection: apsw.Connection, account: Any) -> bool:
    """Whether rows are left; not if the account was removed just now."""
    return bool(
        connection.execute(
            "SELECT 1 FROM mailbox WHERE account_id = ?1"
            " UNION ALL SELECT 1 FROM email WHERE account_id = ?1"
            " UNION ALL SELECT 1 FROM placement WHERE account_id = ?1 LIMIT 1",
            (account,),
        ).fetchall()
    )


def _mail(connection: apsw.Connection, account: Any) -> str:
    names = [
        str(name)
        for (name,) in rows(
            connection, "SELECT name FROM mailbox WHERE account_id = ?", (account,)
        )
    ]
    ((count,),) = connection.execute(
        "SELECT COUNT(*) FROM email WHERE account_id = ?", (account,)
    ).fetchall()
    return f"{count} messages, mailboxes {', '.join(names) or 'none'}"


# --- what refers to nothing ---


def _without_mailbox(connection: apsw.Connection, account: int) -> Iterator[Finding]:
    """Placements in a mailbox that is not there."""
    where = " WHERE account_id = ? AND mailbox_id = ?" + _NO_MAILBOX.format("placement")
    for mailbox, count in rows(
        connection,
        "SELECT mailbox_id, COUNT(*) FROM placement WHERE account_id = ?"
        + _NO_MAILBOX.format("placement")
        + " GROUP BY mailbox_id",
        (account,),
    ):
        yield Finding(
            f"{address(connection, account)}: {count} messages are in mailbox"
            f" {mailbox}, which is gone",
            "taken out of it; what is in no other mailbox goes to INBOX",
            partial(
                run, sql="DELETE FROM placement" + where, values=(account, mailbox)
            ),
        )
    for table in ("keyword", "vanished"):
        sql = f" FROM {table} WHERE account_id = ?" + _NO_MAILBOX.format(table)
        for (count,) in rows(connection, "SELECT COUNT(*)" + sql, (account,)):
            if count:
                yield Finding(
                    f"{address(connection, account)}: {count} rows of {table} are of"
                    " mailboxes that are gone",
                    "removed",
                    partial(run, sql="DELETE" + sql, values=(account,)),
                )


def _without_email(connection: apsw.Connection, account: int) -> Iterator[Finding]:
    """Placements of an email that is not there."""
    for mailbox, uid, email in rows(
        connection,
        "SELECT mailbox_id, uid, email_id FROM placement WHERE account_id = ?"
        + _NO_EMAIL,
        (account,),
    ):
        where = _mailbox(connection, account, mailbox)
        yield Finding(
            f"{where}/{uid}: its message {to_text(email)} is gone",
            "taken out of the mailbox: nothing of it is left; a backup may have it",
            partial(_vanish, account=account, mailbox=mailbox, uid=uid),
        )


def _vanish(connection: apsw.Connection, account: int, mailbox: int, uid: int) -> None:
    for modseq in _bumped(connection, account):
        for flags, size in rows(
            connection,
            "DELETE FROM placement WHERE account_id = ? AND mailbox_id = ? AND uid = ?"
            + _NO_EMAIL
            + " RETURNING flags, size",
            (account, mailbox, uid),
        ):
            connection.execute(
                "INSERT INTO vanished (account_id, mailbox_id, modseq, uid)"
                " VALUES (?, ?, ?, ?)",
                (account, mailbox, modseq, uid),
            )
            connection.execute(
                "UPDATE mailbox SET modseq = ?, messages = messages - 1,"
                " unseen = unseen - ?, size = size - ?"
                " WHERE account_id = ? AND id = ?",
                (modseq, 1 - flags % 2, size, account, mailbox),
            )


def _nowhere(connection: apsw.Connection, account: int) -> Iterator[Finding]:
    """Emails in no mailbox."""
    for (email,) in rows(
        connection, "SELECT id FROM email WHERE account_id = ?" + _NOWHERE, (account,)
    ):
        can = bool(
            rows(
                connection,
                "SELECT 1 FROM mailbox WHERE account_id = ? AND name = 'INBOX'",
                (account,),
            )
        )
        yield Finding(
            f"{address(connection, account)}: message {to_text(email)} is in"
            " no mailbox",
            "put into INBOX"
            if can
            else "cannot be put into INBOX, as there is none: log in once to have one",
            partial(_place, account=account, email=email) if can else None,
        )


def _place(connection: apsw.Connection, account: int, email: int) -> None:
    for (size,) in rows(
        connection,
        "SELECT size FROM email WHERE account_id = ? AND id = ?" + _NOWHERE,
        (account, email),
    ):
        for modseq in _bumped(connection, account):
            _put(connection, account, email, size, modseq)


def _put(
    connection: apsw.Connection, account: int, email: int, size: int, modseq: int
) -> None:
    for mailbox, uidnext in rows(
        connection,
        "UPDATE mailbox SET uidnext = uidnext + 1, modseq = ?, messages = messages + 1,"
        " unseen = unseen + 1, size = size + ? WHERE account_id = ? AND name = 'INBOX'"
        " RETURNING id, uidnext",
        (modseq, size, account),
    ):
        connection.execute(
            "INSERT INTO placement (account_id, mailbox_id, uid, email_id, modseq,"
            " flags, keywords, size, saved_at) VALUES (?, ?, ?, ?, ?, 0, '', ?, ?)",
            (account, mailbox, uidnext - 1, email, modseq, size, time.time()),
        )


def _without_content(connection: apsw.Connection, account: int) -> Iterator[Finding]:
    """Emails whose content is not there."""
    for (email,) in rows(
        connection,
        "SELECT id FROM email WHERE account_id = ? AND NOT EXISTS"
        " (SELECT 1 FROM content c WHERE c.id = email.content_id)",
        (account,),
    ):
        yield Finding(
            f"message {to_text(email)} has no content:"
            f" {places(connection, account, email)}",
            "cannot be repaired: only its summary is left; a backup may have it",
        )


# --- what is counted again ---

_SIZES = (
    "SELECT e.id, LENGTH(e.prefix) + c.size FROM email e JOIN content c"
    " ON c.id = e.content_id WHERE e.account_id = ?"
    " AND e.size <> LENGTH(e.prefix) + c.size"
)


def _sizes(connection: apsw.Connection, account: int) -> Iterator[Finding]:
    """Sizes that are kept twice."""
    for email, size in rows(connection, _SIZES, (account,)):
        yield Finding(
            f"message {to_text(email)} says a wrong size:"
            f" {places(connection, account, email)}",
            f"is {size} octets now",
            partial(
                run,
                sql="UPDATE email SET size = LENGTH(prefix) + (SELECT c.size FROM"
                " content c WHERE c.id = content_id) WHERE account_id = ? AND id = ?",
                values=(account, email),
            ),
        )
    wrong = (
        " WHERE account_id = ?1 AND size <> (SELECT e.size FROM email e"
        " WHERE e.account_id = ?1 AND e.id = email_id)"
    )
    for mailbox, uid in rows(
        connection, "SELECT mailbox_id, uid FROM placement" + wrong, (account,)
    ):
        yield Finding(
            f"{_mailbox(connection, account, mailbox)}/{uid}: says a wrong size",
            "taken from its message",
            partial(
                run,
                sql="UPDATE placement SET size = (SELECT e.size FROM email e WHERE"
                " e.account_id = ?1 AND e.id = email_id)"
                + wrong
                + " AND mailbox_id = ?2 AND uid = ?3",
                values=(account, mailbox, uid),
            ),
        )


# A mailbox's row: each column, and what it must be; or at least, or at most.
_COUNTED = (
    "(SELECT {} FROM placement p"
    " WHERE p.account_id = mailbox.account_id AND p.mailbox_id = mailbox.id)"
)
_HIGHEST = (
    "MAX((SELECT COALESCE(MAX(p.{0}), 0) FROM placement p"
    " WHERE p.account_id = mailbox.account_id AND p.mailbox_id = mailbox.id),"
    " (SELECT COALESCE(MAX(v.{0}), 0) FROM vanished v"
    " WHERE v.account_id = mailbox.account_id AND v.mailbox_id = mailbox.id))"
)
_COUNTS = (
    ("messages", "<>", _COUNTED.format("COUNT(*)")),
    ("unseen", "<>", _COUNTED.format("COALESCE(SUM(1 - p.flags % 2), 0)")),
    ("size", "<>", _COUNTED.format("COALESCE(SUM(p.size), 0)")),
    ("uidnext", "<", "1 + " + _HIGHEST.format("uid")),
    ("modseq", "<", _HIGHEST.format("modseq")),
    ("recent_uid", ">", "uidnext"),
)


def _counts(connection: apsw.Connection, account: int) -> Iterator[Finding]:
    """What a mailbox says of itself, counted again."""
    for column, wrong, right in _COUNTS:
        where = f" WHERE account_id = ? AND {column} {wrong} {right}"
        for mailbox, says, is_ in rows(
            connection, f"SELECT id, {column}, {right} FROM mailbox" + where, (account,)
        ):
            yield Finding(
                f"{_mailbox(connection, account, mailbox)}: {column} says {says},"
                f" should be {is_}",
                f"is {is_} now",
                partial(
                    run,
                    sql=f"UPDATE mailbox SET {column} = {right}{where} AND id = ?",
                    values=(account, mailbox),
                ),
            )


def _above_account(connection: apsw.Connection, account: int) -> Iterator[Finding]:
    """What an account gives out, in ascending order, has got behind."""
    for column in ("modseq", "uidvalidity"):
        highest = f"(SELECT MAX(m.{column}) FROM mailbox m WHERE m.account_id = ?1)"
        where = f" WHERE id = ?1 AND {column} < {highest}"
        for says, is_ in rows(
            connection, f"SELECT {column}, {highest} FROM account" + where, (account,)
        ):
            yield Finding(
                f"{address(connection, account)}: {column} says {says}, a mailbox"
                f" has {is_}",
                f"is {is_} now",
                partial(
                    run,
                    sql=f"UPDATE account SET {column} = {highest}{where}",
                    values=(account,),
                ),
            )


_RULES: tuple[Callable[[apsw.Connection, int], Iterator[Finding]], ...] = (
    _without_mailbox,
    _without_email,
    _nowhere,
    _without_content,
    _sizes,
    _counts,
    _above_account,
)


def _bumped(connection: apsw.Connection, account: int) -> list[int]:
    """The modseq of a change, or nothing if the account was removed."""
    return [
        modseq
        for (modseq,) in rows(
            connection,
            "UPDATE account SET modseq = modseq + 1 WHERE id = ? RETURNING modseq",
            (account,),
        )
    ]


def _mailbox(connection: apsw.Connection, account: int, mailbox: Any) -> str:
    for (name,) in connection.execute(
        "SELECT name FROM mailbox WHERE account_id = ? AND id = ?", (account, mailbox)
    ):
        return f"{address(connection, account)}: {name}"
    return f"{address(connection, account)}: mailbox {mailbox}"
