"""What the indexer asks of the ledger: which emails there are, and what they say.

Short queries, a page each: who reads long keeps the ledger's log from being
restarted. It knows no index.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.logger import Logger

from twisted_mta.errors import NoSuchMessage
from twisted_mta.interfaces import ILedger, ITransaction
from twisted_mta.mail import header
from twisted_mta.store.native_mailbox import header_of
from twisted_mta.store.search_text import (
    Document,
    Source,
    TooLarge,
    document,
    read_texts,
    texts,
)

# Placements or emails of one query.
PAGE = 500

_log = Logger()

_Documents = Callable[[], list[Document]]


async def documents(
    ledger: ILedger,
    account: int,
    emails: Sequence[int],
    in_thread: Callable[[_Documents], Awaitable[list[Document]]],
) -> list[Document]:
    """Emails as the index has them; those that are gone are passed over.

    @param emails: not many (tens), for all of them are in memory at once.
    @param in_thread: runs what computes, a few milliseconds.
    """
    found = await ledger.read(
        lambda transaction: _sources(transaction, account, emails)
    )
    bodies: list[tuple[Source, list[str] | None]] = []
    for source, content, size in found:
        if source.octets is not None:
            bodies.append((source, None))
        elif (read := await _read_file(ledger, source, content, size)) is not None:
            bodies.append(read)
    return await in_thread(lambda: [_document(source, body) for source, body in bodies])


async def _read_file(
    ledger: ILedger, source: Source, content: int, size: int
) -> tuple[Source, list[str] | None] | None:
    """An email whose content is in a file.

    @return: the email with its header, and its texts, C{None} for too many; or
        C{None}: it is gone.
    """
    stored = ledger.stored(content, size)
    try:
        block = source.header + await header_of(stored, source.sections)
        try:
            body = await read_texts(source.sections, stored.read)
        except TooLarge:
            body = None
    except NoSuchMessage:
        return None
    return source._replace(header=block), body


def _document(source: Source, body: list[str] | None) -> Document:
    """One that cannot be read (a bug) is left to be looked at."""
    try:
        if source.octets is not None:
            return document(source, texts(source.sections, source.octets))
        return document(source, body)
    except Exception:
        _log.failure("search: email {email} is not indexed", email=source.email)
        return Document(source.email, 0, 0, None)


def accounts(transaction: ITransaction) -> dict[int, int]:
    """Every account's modseq."""
    return dict(transaction.execute("SELECT id, modseq FROM account"))


def changed_mailboxes(transaction: ITransaction, account: int, since: int) -> list[int]:
    found = transaction.execute(
        "SELECT id FROM mailbox WHERE account_id = ? AND modseq > ?", (account, since)
    )
    return [id for (id,) in found]


def page(
    transaction: ITransaction, account: int, mailbox: int, after: tuple[int, int]
) -> list[tuple[int, int, int]]:
    """Modseq, UID and email of placements, from behind one on."""
    found: list[tuple[Any, ...]] = list(
        transaction.execute(
            "SELECT modseq, uid, email_id FROM placement WHERE account_id = ?"
            " AND mailbox_id = ? AND (modseq, uid) > (?, ?)"
            " ORDER BY modseq, uid LIMIT ?",
            (account, mailbox, *after, PAGE),
        )
    )
    return [(modseq, uid, email) for modseq, uid, email in found]


def _sources(
    transaction: ITransaction, account: int, emails: Sequence[int]
) -> list[tuple[Source, int, int]]:
    """Those of the emails that are there, each with its content's id and size."""
    marks = ", ".join("?" * len(emails))
    found = []
    for row in transaction.execute(
        "SELECT e.id, e.received_at, e.prefix, e.sections, c.octets, c.id, c.size"
        " FROM email e JOIN content c ON c.id = e.content_id"
        f" WHERE e.account_id = ? AND e.id IN ({marks})",
        (account, *emails),
    ):
        email, received_at, block, sections, octets, content, size = row
        if octets is not None:
            block += octets[: min(header.body_start(octets), header.BLOCK_MAX)]
        source = Source(email, received_at, block, sections, octets)
        found.append((source, content, size))
    return found


def email_count(transaction: ITransaction, account: int) -> int:
    ((count,),) = list(
        transaction.execute(
            "SELECT COUNT(*) FROM email WHERE account_id = ?", (account,)
        )
    )
    return int(count)


def emails_between(
    transaction: ITransaction, account: int, first: int, last: int
) -> set[int]:
    found = transaction.execute(
        "SELECT id FROM email WHERE account_id = ? AND id BETWEEN ? AND ?",
        (account, first, last),
    )
    return {id for (id,) in found}


def emails_after(transaction: ITransaction, account: int, at: int) -> list[int]:
    """An account's emails, ascending, from behind one on."""
    found = transaction.execute(
        "SELECT id FROM email WHERE account_id = ? AND id > ? ORDER BY id LIMIT ?",
        (account, at, PAGE),
    )
    return [id for (id,) in found]


def placed_before(
    transaction: ITransaction, account: int, emails: Sequence[int], modseq: int
) -> list[int]:
    """Those of the emails that were placed up to a modseq."""
    return [
        email
        for email in emails
        for _ in transaction.execute(
            "SELECT 1 FROM placement WHERE account_id = ? AND email_id = ?"
            " AND modseq <= ? LIMIT 1",
            (account, email, modseq),
        )
    ]
