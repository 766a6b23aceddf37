"""The native store: mailboxes as rows of the ledger.

Mail comes into an INBOX within the transaction that accepts it, so the reply to
DATA costs one commit and no queue. No truth is held in memory: any number of
processes serve the same mailboxes at once. It knows the ledger by its interface
alone, and what it sends there is portable SQL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zope.interface import implementer

from twisted_mta.errors import NoSuchMailbox
from twisted_mta.interfaces import (
    ILedger,
    IMailStore,
    ITransaction,
    ITransactionalDelivery,
    SqlValue,
)
from twisted_mta.mail.account import Account
from twisted_mta.mail.summary import Email
from twisted_mta.store import name as names
from twisted_mta.store import native_rows as rows
from twisted_mta.store.native_account import NativeAccount
from twisted_mta.store.search_index import SearchIndex

#: What a new account has besides its INBOX (RFC 6154), subscribed to, since
#: many clients show nothing else.
SPECIAL = (
    ("Archive", "\\Archive"),
    ("Drafts", "\\Drafts"),
    ("Junk", "\\Junk"),
    ("Sent", "\\Sent"),
    ("Trash", "\\Trash"),
)


@implementer(IMailStore, ITransactionalDelivery)
class NativeStore:
    """See L{IMailStore} and L{ITransactionalDelivery}."""

    def __init__(self, ledger: ILedger, index: SearchIndex | None = None) -> None:
        """@param index: what searches ask first, if there is one."""
        self._ledger = ledger
        self._index = index

    async def account(self, account: Account) -> NativeAccount:
        """See L{IMailStore.account}.

        @raise NoSuchAccount: it was removed.
        """

        found = NativeAccount(self._ledger, account.id, self._index)
        try:
            await found.open(names.INBOX)
        except NoSuchMailbox:
            await self._ledger.write(
                lambda transaction: _inbox(transaction, account.id)
            )
        return found

    def deliver(
        self, transaction: ITransaction, deliveries: Sequence[tuple[int, Email]]
    ) -> None:
        """See L{ITransactionalDelivery.deliver}. Two statements for each account
        and two for all emails: 13 us for an email alone, 5 among many."""
        by_mailbox: dict[tuple[int, str], list[tuple[int, Email]]] = {}
        ids = rows.keep(transaction, deliveries)
        for id, (account, email) in zip(ids, deliveries, strict=True):
            key = account, email.special_use
            by_mailbox.setdefault(key, []).append((id, email))
        placements: list[Sequence[SqlValue]] = []
        for (account, special_use), emails in by_mailbox.items():
            name = names.INBOX
            if special_use:
                name = _special(transaction, account, special_use)
            placements += _into(transaction, account, name, emails)
        transaction.executemany(rows.PLACE, placements)

    def provision(self, transaction: ITransaction, account: int) -> None:
        """Within the transaction that makes an account: its mailboxes."""
        _inbox(transaction, account)
        modseq = rows.bump(transaction, account)
        for name, special_use in SPECIAL:
            rows.make(transaction, account, name, modseq, special_use)
        transaction.executemany(
            "INSERT INTO subscription (account_id, name) VALUES (?, ?)",
            [(account, names.INBOX), *((account, name) for name, _ in SPECIAL)],
        )

    def discard(self, transaction: ITransaction, account: int) -> None:
        """Within the transaction that removes an account: all that was its."""
        contents = transaction.execute(
            "DELETE FROM email WHERE account_id = ? RETURNING content_id", (account,)
        )
        for (content,) in list(contents):
            self._ledger.release(transaction, content)
        for id in rows.names(transaction, account).values():
            transaction.changed(rows.topic(id))
        transaction.changed(rows.EMAILS)
        for table in ("placement", "vanished", "keyword", "subscription", "mailbox"):
            transaction.execute(f"DELETE FROM {table} WHERE account_id = ?", (account,))


def _special(transaction: ITransaction, account: int, special_use: str) -> str:
    """The name of an account's mailbox of a use; INBOX if it has none."""
    found = transaction.execute(
        "SELECT name FROM mailbox WHERE account_id = ? AND special_use = ?"
        " ORDER BY name LIMIT 1",
        (account, special_use),
    )
    return next((str(name) for (name,) in found), names.INBOX)


def _into(
    transaction: ITransaction,
    account: int,
    name: str,
    emails: Sequence[tuple[int, Email]],
) -> Iterator[Sequence[SqlValue]]:
    """Count emails into a mailbox of an account.

    @param name: of the mailbox; INBOX is made if it is missing.
    @param emails: each with its id.
    @return: the rows that place them there.
    @raise NoSuchAccount: it was removed.
    """
    modseq = rows.bump(transaction, account)
    size = sum(email.size for _, email in emails)
    unseen = sum(not email.seen for _, email in emails)
    for _ in range(2):
        for mailbox, uidnext in transaction.execute(
            "UPDATE mailbox SET uidnext = uidnext + ?, modseq = ?,"
            " messages = messages + ?, unseen = unseen + ?, size = size + ?"
            " WHERE account_id = ? AND name = ? RETURNING id, uidnext",
            (len(emails), modseq, len(emails), unseen, size, account, name),
        ):
            transaction.changed(rows.topic(mailbox))
            for uid, (id, email) in enumerate(emails, uidnext - len(emails)):
                yield (
                    account,
                    mailbox,
                    uid,
                    id,
                    modseq,
                    rows.SEEN_BIT if email.seen else 0,
                    "",
                    email.size,
                    email.received_at,
                )
            return
        _inbox(transaction, account)


def _inbox(transaction: ITransaction, account: int) -> None:
    """Make an account's INBOX, if it has none.

    @raise NoSuchAccount: it was removed.
    """
    if names.INBOX not in rows.names(transaction, account):
        modseq = rows.bump(transaction, account)
        rows.make(transaction, account, names.INBOX, modseq)
