"""The native store's rows: what is done to mailboxes within one transaction.

Portable SQL, keyed by the account; the same modseq for all that a transaction
changes. Each function keeps the counts in a mailbox's row right. It knows no
session and no name's spelling; it trusts its caller to give canonical names and
modseqs that L{bump} made in the same transaction.

BUGS: what is known of expunged UIDs (C{vanished}) is kept as long as the mailbox,
some 30 octets each.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from twisted_mta.errors import NoSuchAccount, NoSuchMailbox, TooMany
from twisted_mta.interfaces import ILedger, ITransaction
from twisted_mta.mail.flag import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN
from twisted_mta.mail.ids import new_id
from twisted_mta.mail.summary import Email

#: Different keywords in a mailbox (Cyrus: MAX_USER_FLAGS 128).
MAX_KEYWORDS = 128

SEEN_BIT, DELETED_BIT = 1, 8
_BITS = {SEEN: SEEN_BIT, ANSWERED: 2, FLAGGED: 4, DELETED: DELETED_BIT, DRAFT: 16}

# UIDs that are asked for are looked up by ranges; a gap this wide is read over.
_GAP = 16


class Box(NamedTuple):
    """A mailbox's row."""

    id: int
    name: str
    uidvalidity: int
    uidnext: int
    recent_uid: int
    modseq: int
    messages: int
    unseen: int
    size: int


class Placed(NamedTuple):
    """A placement's row."""

    uid: int
    email: int
    bits: int
    keywords: str
    size: int


#: What a ledger tells watchers by when an email came or went, whosever.
EMAILS = "emails"

_BOX = (
    "SELECT id, name, uidvalidity, uidnext, recent_uid, modseq, messages, unseen,"
    " size FROM mailbox WHERE account_id = ?"
)
_BOX_BY_NAME = _BOX + " AND name = ?"
_BOX_BY_ID = _BOX + " AND id = ?"


def topic(mailbox: int) -> str:
    """What a ledger tells watchers of a mailbox by."""
    return f"mailbox:{mailbox}"


# --- flags ---


@lru_cache(maxsize=4096)
def packed(flags: frozenset[str]) -> tuple[int, str]:
    """Flags as a row has them: bits, and keywords sorted with a space between."""
    bits = sum(_BITS.get(flag, 0) for flag in flags)
    return bits, " ".join(sorted(flag for flag in flags if flag not in _BITS))


@lru_cache(maxsize=4096)
def unpacked(bits: int, keywords: str) -> frozenset[str]:
    """The same back: one set, however many messages have it."""
    flags = {flag for flag, bit in _BITS.items() if bits & bit}
    return frozenset(flags.union(keywords.split()))


def learn(
    transaction: ITransaction, account: int, mailbox: int, keywords: Iterable[str]
) -> None:
    """Messages of a mailbox have got these keywords.

    @raise TooMany: there are too many different ones now.
    """
    given = set(keywords)
    if not given:
        return
    owner = account, mailbox
    known = {
        name
        for (name,) in transaction.execute(
            "SELECT name FROM keyword WHERE account_id = ? AND mailbox_id = ?", owner
        )
    }
    if len(known | given) > MAX_KEYWORDS:
        used = _keywords_in_use(transaction, account, mailbox)
        if len(used) > MAX_KEYWORDS:
            raise TooMany("There are too many keywords in this mailbox")
        transaction.executemany(
            "DELETE FROM keyword WHERE account_id = ? AND mailbox_id = ? AND name = ?",
            [(*owner, name) for name in known - used],
        )
    transaction.executemany(
        "INSERT INTO keyword (account_id, mailbox_id, name) VALUES (?, ?, ?)",
        [(*owner, name) for name in sorted(given - known)],
    )


def _keywords_in_use(transaction: ITransaction, account: int, mailbox: int) -> set[str]:
    """Those that a message has: reads all of the mailbox's placements."""
    used: set[str] = set()
    for (keywords,) in transaction.execute(
        "SELECT DISTINCT keywords FROM placement"
        " WHERE account_id = ? AND mailbox_id = ?",
        (account, mailbox),
    ):
        used.update(keywords.split())
    return used


# --- accounts and mailboxes ---


def bump(transaction: ITransaction, account: int) -> int:
    """The modseq of what this transaction changes in an account.

    @raise NoSuchAccount: it was removed.
    """
    for (modseq,) in transaction.execute(
        "UPDATE account SET modseq = modseq + 1 WHERE id = ? RETURNING modseq",
        (account,),
    ):
        return int(modseq)
    raise NoSuchAccount()


def named(transaction: ITransaction, account: int, name: str) -> Box:
    """A mailbox by its name.

    @raise NoSuchMailbox:
    """
    for row in transaction.execute(_BOX_BY_NAME, (account, name)):
        return Box._make(row)
    raise NoSuchMailbox()


def opened(transaction: ITransaction, account: int, id: int) -> Box:
    """A mailbox by its id.

    @raise NoSuchMailbox: it was deleted.
    """
    for row in transaction.execute(_BOX_BY_ID, (account, id)):
        return Box._make(row)
    raise NoSuchMailbox()


def names(transaction: ITransaction, account: int) -> dict[str, int]:
    """The ids of an account's mailboxes by name."""
    rows = transaction.execute(
        "SELECT name, id FROM mailbox WHERE account_id = ?", (account,)
    )
    return {name: int(id) for name, id in rows}


def make(
    transaction: ITransaction,
    account: int,
    name: str,
    modseq: int,
    special_use: str = "",
) -> Box:
    """A new, empty mailbox. Its UIDVALIDITY is larger than that of any mailbox
    the account ever had: the time, or one more than the last."""
    uidvalidity = 0
    for (given,) in transaction.execute(
        "UPDATE account SET uidvalidity ="
        " CASE WHEN uidvalidity < ? THEN ? ELSE uidvalidity + 1 END"
        " WHERE id = ? RETURNING uidvalidity",
        (now := int(time.time()), now, account),
    ):
        uidvalidity = int(given)
    box = Box(new_id(), name, uidvalidity, 1, 1, modseq, 0, 0, 0)
    transaction.execute(
        "INSERT INTO mailbox (account_id, id, name, special_use, uidvalidity,"
        " uidnext, recent_uid, modseq, messages, unseen, size)"
        " VALUES (?, ?, ?, ?, ?, 1, 1, ?, 0, 0, 0)",
        (account, box.id, name, special_use, uidvalidity, modseq),
    )
    return box


def touch(
    transaction: ITransaction,
    account: int,
    id: int,
    modseq: int,
    messages: int = 0,
    unseen: int = 0,
    size: int = 0,
) -> None:
    """Add to a mailbox's counts, and tell who watches it."""
    transaction.execute(
        "UPDATE mailbox SET modseq = ?, messages = messages + ?,"
        " unseen = unseen + ?, size = size + ? WHERE account_id = ? AND id = ?",
        (modseq, messages, unseen, size, account, id),
    )
    transaction.changed(topic(id))


# --- placements ---


def spans(uids: Iterable[int], gap: int = _GAP) -> Iterator[tuple[int, int]]:
    """Ranges, first and last, that hold ascending UIDs; gaps up to C{gap} are
    read over, so there are few ranges and little is read in vain."""
    first = last = 0
    for uid in uids:
        if not first:
            first = uid
        elif uid - last > gap:
            yield first, last
            first = uid
        last = uid
    if first:
        yield first, last


def placed(
    transaction: ITransaction, account: int, mailbox: int, uids: Sequence[int]
) -> list[Placed]:
    """Those of the messages that are there, by ascending UID."""
    wanted = set(uids)
    return [
        Placed._make(row)
        for first, last in spans(sorted(wanted))
        for row in transaction.execute(
            "SELECT uid, email_id, flags, keywords, size FROM placement"
            " WHERE account_id = ? AND mailbox_id = ? AND uid BETWEEN ? AND ?"
            " ORDER BY uid",
            (account, mailbox, first, last),
        )
        if row[0] in wanted
    ]


PLACE = (
    "INSERT INTO placement (account_id, mailbox_id, uid, email_id, modseq, flags,"
    " keywords, size, saved_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def keep(
    transaction: ITransaction, emails: Sequence[tuple[int, Email]]
) -> Sequence[int]:
    """Make emails rows.

    @param emails: each with its account.
    @return: their ids, which are also those of their threads.
    """
    ids = [new_id() for _ in emails]
    transaction.executemany(
        "INSERT INTO email (account_id, id, thread_id, content_id, prefix, size,"
        " received_at, envelope, bodystructure, body, sections)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                account,
                id,
                id,
                email.content,
                email.prefix,
                email.size,
                email.received_at,
                email.summary.envelope,
                email.summary.bodystructure,
                email.summary.body,
                email.summary.sections,
            )
            for id, (account, email) in zip(ids, emails, strict=True)
        ],
    )
    transaction.changed(EMAILS)
    return ids


def place(
    transaction: ITransaction,
    account: int,
    box: Box,
    rows: Sequence[Placed],
    modseq: int,
) -> list[int]:
    """Put emails that the account has into a mailbox, with the flags of these
    placements.

    @return: their UIDs there.
    @raise TooMany: too many keywords there.
    """
    size = sum(row.size for row in rows)
    unseen = sum(not row.bits & SEEN_BIT for row in rows)
    # The next UID from the row and not from C{box}: this transaction may have
    # placed something before.
    ((uidnext,),) = list(
        transaction.execute(
            "UPDATE mailbox SET uidnext = uidnext + ?"
            " WHERE account_id = ? AND id = ? RETURNING uidnext",
            (len(rows), account, box.id),
        )
    )
    uids = list(range(uidnext - len(rows), uidnext))
    saved_at = time.time()
    transaction.executemany(
        PLACE,
        [
            (
                account,
                box.id,
                uid,
                row.email,
                modseq,
                row.bits,
                row.keywords,
                row.size,
                saved_at,
            )
            for uid, row in zip(uids, rows, strict=True)
        ],
    )
    touch(transaction, account, box.id, modseq, len(rows), unseen, size)
    words = {row.keywords for row in rows}
    learn(transaction, account, box.id, " ".join(words).split())
    return uids


def unplace(
    transaction: ITransaction,
    account: int,
    mailbox: int,
    rows: Sequence[Placed],
    modseq: int,
) -> None:
    """Take messages out of a mailbox. Their emails stay; see L{forget}."""
    transaction.executemany(
        "DELETE FROM placement"
        " WHERE account_id = ? AND mailbox_id = ? AND uid BETWEEN ? AND ?",
        [
            (account, mailbox, first, last)
            for first, last in spans([row.uid for row in rows], gap=1)
        ],
    )
    transaction.executemany(
        "INSERT INTO vanished (account_id, mailbox_id, modseq, uid)"
        " VALUES (?, ?, ?, ?)",
        [(account, mailbox, modseq, row.uid) for row in rows],
    )
    touch(
        transaction,
        account,
        mailbox,
        modseq,
        -len(rows),
        -sum(not row.bits & SEEN_BIT for row in rows),
        -sum(row.size for row in rows),
    )


def forget(
    ledger: ILedger, transaction: ITransaction, account: int, emails: Iterable[int]
) -> None:
    """Delete those of the emails that are in no mailbox any more, and let go of
    their content."""
    for email in emails:
        gone = transaction.execute(
            "DELETE FROM email WHERE account_id = ? AND id = ? AND NOT EXISTS"
            " (SELECT 1 FROM placement WHERE account_id = ? AND email_id = ?)"
            " RETURNING content_id",
            (account, email, account, email),
        )
        for (content,) in list(gone):
            ledger.release(transaction, content)
            transaction.changed(EMAILS)
