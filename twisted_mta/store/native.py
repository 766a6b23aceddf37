"""The native store: mailboxes as rows of the ledger.

Mail comes into an INBOX within the transaction that accepts it, so the reply to
DATA costs one commit and no queue. No truth is held in memory: any number of
processes serve the same mailboxes at once. It knows the ledger by its interface
alone, and what it sends there is portable SQL.
"""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from twisted_mta import errors
from twisted_mta.interfaces import (
    IAccount,
    IContentWriter,
    ILedger,
    IMailStore,
    ITransaction,
    ITransactionalDelivery,
)
from twisted_mta.mail.account import Account
from twisted_mta.mail.ids import new_id
from twisted_mta.mail.placement import Appended, MailboxInfo, MailboxStatus
from twisted_mta.mail.summary import Email, summarize
from twisted_mta.store import name as names
from twisted_mta.store import native_rows as rows
from twisted_mta.store.native_mailbox import NativeMailbox, transfer
from twisted_mta.store.native_rows import Box, Placed, packed

#: Mailboxes of an account, and names that it subscribes to.
MAX_MAILBOXES = 10_000

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

    def __init__(self, ledger: ILedger) -> None:
        self._ledger = ledger

    async def account(self, account: Account) -> NativeAccount:
        """See L{IMailStore.account}.

        @raise NoSuchAccount: it was removed.
        """

        found = NativeAccount(self._ledger, account.id)
        try:
            await found.open(names.INBOX)
        except errors.NoSuchMailbox:
            await self._ledger.write(
                lambda transaction: _inbox(transaction, account.id)
            )
        return found

    def deliver(self, transaction: ITransaction, account: int, email: Email) -> None:
        """See L{ITransactionalDelivery.deliver}. Four statements, of 5 to 10 us.

        @raise NoSuchAccount: it was removed.
        """
        modseq = rows.bump(transaction, account)
        id = _keep(transaction, account, email)
        for _ in range(2):
            for mailbox, uidnext in transaction.execute(
                "UPDATE mailbox SET uidnext = uidnext + 1, modseq = ?,"
                " messages = messages + 1, unseen = unseen + 1, size = size + ?"
                " WHERE account_id = ? AND name = 'INBOX' RETURNING id, uidnext",
                (modseq, email.size, account),
            ):
                transaction.execute(
                    "INSERT INTO placement (account_id, mailbox_id, uid, email_id,"
                    " modseq, flags, keywords, size, saved_at)"
                    " VALUES (?, ?, ?, ?, ?, 0, '', ?, ?)",
                    (
                        account,
                        mailbox,
                        uidnext - 1,
                        id,
                        modseq,
                        email.size,
                        email.received_at,
                    ),
                )
                transaction.changed(rows.topic(mailbox))
                return
            _inbox(transaction, account)

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
        for table in ("placement", "vanished", "keyword", "subscription", "mailbox"):
            transaction.execute(f"DELETE FROM {table} WHERE account_id = ?", (account,))


@implementer(IAccount)
class NativeAccount:
    """See L{IAccount}."""

    def __init__(self, ledger: ILedger, account: int) -> None:
        self._ledger = ledger
        self._account = account

    # --- reading ---

    async def mailboxes(self) -> Sequence[MailboxInfo]:
        """See L{IAccount.mailboxes}."""
        return await self._ledger.read(self._list)

    def _list(self, transaction: ITransaction) -> list[MailboxInfo]:
        found = transaction.execute(
            "SELECT m.id, m.name, m.special_use, s.name IS NOT NULL FROM mailbox m"
            " LEFT JOIN subscription s"
            " ON s.account_id = m.account_id AND s.name = m.name"
            " WHERE m.account_id = ?",
            (self._account,),
        )
        return sorted(
            (
                MailboxInfo(id, name, special_use, bool(subscribed))
                for id, name, special_use, subscribed in found
            ),
            key=lambda info: names.listing_key(info.name),
        )

    async def subscriptions(self) -> Sequence[str]:
        """See L{IAccount.subscriptions}."""

        def query(transaction: ITransaction) -> list[str]:
            found = transaction.execute(
                "SELECT name FROM subscription WHERE account_id = ?", (self._account,)
            )
            return sorted((name for (name,) in found), key=names.listing_key)

        return await self._ledger.read(query)

    async def status(self, name: str) -> MailboxStatus:
        """See L{IAccount.status}."""

        def query(transaction: ITransaction) -> MailboxStatus:
            box = self._find(transaction, name)
            ((recent,),) = list(
                transaction.execute(
                    "SELECT COUNT(*) FROM placement"
                    " WHERE account_id = ? AND mailbox_id = ? AND uid >= ?",
                    (self._account, box.id, box.recent_uid),
                )
            )
            return MailboxStatus(
                messages=box.messages,
                recent=recent,
                unseen=box.unseen,
                uidnext=box.uidnext,
                uidvalidity=box.uidvalidity,
                highest_modseq=box.modseq,
                size=box.size,
            )

        return await self._ledger.read(query)

    async def open(self, name: str) -> NativeMailbox:
        """See L{IAccount.open}."""
        box = await self._ledger.lookup(
            lambda transaction: self._find(transaction, name)
        )
        return NativeMailbox(self._ledger, self._account, box)

    # --- changing ---

    async def create(self, name: str, special_use: str = "") -> MailboxInfo:
        """See L{IAccount.create}."""
        name = names.canonical(name)

        def unit(transaction: ITransaction) -> MailboxInfo:
            known = rows.names(transaction, self._account)
            if name in known:
                raise errors.MailboxExists()
            modseq = rows.bump(transaction, self._account)
            self._make_levels_above(transaction, name, known, modseq)
            box = rows.make(transaction, self._account, name, modseq, special_use)
            return MailboxInfo(
                box.id, name, special_use, self._subscribed(transaction, name)
            )

        return await self._ledger.write(unit)

    async def delete(self, name: str) -> None:
        """See L{IAccount.delete}."""

        def unit(transaction: ITransaction) -> None:
            box = self._find(transaction, name)
            if box.name == names.INBOX:
                raise errors.NotPermitted("INBOX cannot be deleted")
            known = rows.names(transaction, self._account)
            if any(names.is_inferior(other, box.name) for other in known):
                raise errors.MailboxHasChildren()
            self._remove(transaction, box)

        await self._ledger.write(unit)

    def _remove(self, transaction: ITransaction, box: Box) -> None:
        owner = self._account, box.id
        rows.bump(transaction, self._account)
        emails = transaction.execute(
            "DELETE FROM placement WHERE account_id = ? AND mailbox_id = ?"
            " RETURNING email_id",
            owner,
        )
        gone = dict.fromkeys(email for (email,) in emails)
        rows.forget(self._ledger, transaction, self._account, gone)
        for table in ("vanished", "keyword"):
            transaction.execute(
                f"DELETE FROM {table} WHERE account_id = ? AND mailbox_id = ?", owner
            )
        transaction.execute(
            "DELETE FROM mailbox WHERE account_id = ? AND id = ?", owner
        )
        transaction.changed(rows.topic(box.id))

    async def rename(self, old: str, new: str) -> None:
        """See L{IAccount.rename}."""

        def unit(transaction: ITransaction) -> None:
            box = self._find(transaction, old)
            name = names.canonical(new)
            known = rows.names(transaction, self._account)
            if name in known:
                raise errors.MailboxExists()
            if box.name != names.INBOX and names.is_inferior(name, box.name):
                raise errors.BadMailboxName("A mailbox cannot move into itself")
            modseq = rows.bump(transaction, self._account)
            self._make_levels_above(transaction, name, known, modseq)
            if box.name == names.INBOX:
                self._empty_inbox(transaction, box, name, modseq)
            else:
                self._rename(transaction, box.name, name, known)

        await self._ledger.write(unit)

    def _rename(
        self, transaction: ITransaction, old: str, new: str, known: dict[str, int]
    ) -> None:
        transaction.executemany(
            "UPDATE mailbox SET name = ? WHERE account_id = ? AND id = ?",
            [
                (new + name[len(old) :], self._account, id)
                for name, id in known.items()
                if name == old or names.is_inferior(name, old)
            ],
        )

    def _empty_inbox(
        self, transaction: ITransaction, inbox: Box, name: str, modseq: int
    ) -> None:
        """RFC 3501 6.3.5: INBOX stays, its messages go."""
        target = rows.make(transaction, self._account, name, modseq)
        found = [
            Placed._make(row)
            for row in transaction.execute(
                "SELECT uid, email_id, flags, keywords, size FROM placement"
                " WHERE account_id = ? AND mailbox_id = ? ORDER BY uid",
                (self._account, inbox.id),
            )
        ]
        transfer(
            transaction, self._account, inbox.id, target, found, modseq, keep=False
        )

    async def subscribe(self, name: str) -> None:
        """See L{IAccount.subscribe}.

        @raise TooMany:
        """
        name = names.canonical(name)

        def unit(transaction: ITransaction) -> None:
            transaction.execute(
                "INSERT INTO subscription (account_id, name) VALUES (?, ?)"
                " ON CONFLICT DO NOTHING",
                (self._account, name),
            )
            ((count,),) = list(
                transaction.execute(
                    "SELECT COUNT(*) FROM subscription WHERE account_id = ?",
                    (self._account,),
                )
            )
            if count > MAX_MAILBOXES:
                raise errors.TooMany("There are too many subscriptions")

        await self._ledger.write(unit)

    async def unsubscribe(self, name: str) -> None:
        """See L{IAccount.unsubscribe}."""
        name = names.canonical(name)

        def unit(transaction: ITransaction) -> None:
            transaction.execute(
                "DELETE FROM subscription WHERE account_id = ? AND name = ?",
                (self._account, name),
            )

        await self._ledger.write(unit)

    # --- messages ---

    def content(self) -> IContentWriter:
        """See L{IAccount.content}."""
        return self._ledger.content()

    async def append(
        self,
        name: str,
        content: IContentWriter,
        flags: frozenset[str],
        received_at: float,
    ) -> Appended:
        """See L{IAccount.append}."""
        summary = summarize(b"", content.header(), content.structure())
        bits, keywords = packed(flags)

        def unit(transaction: ITransaction) -> Appended:
            box = self._find(transaction, name)
            modseq = rows.bump(transaction, self._account)
            taken = content.take(transaction)
            email = Email(taken, b"", content.size, received_at, summary)
            id = _keep(transaction, self._account, email)
            placed = Placed(0, id, bits, keywords, content.size)
            (uid,) = rows.place(transaction, self._account, box, [placed], modseq)
            return Appended(box.uidvalidity, uid)

        return await self._ledger.write(unit)

    # --- within ---

    def _find(self, transaction: ITransaction, name: str) -> Box:
        try:
            name = names.canonical(name)
        except errors.BadMailboxName:
            raise errors.NoSuchMailbox()
        return rows.named(transaction, self._account, name)

    def _subscribed(self, transaction: ITransaction, name: str) -> bool:
        found = transaction.execute(
            "SELECT 1 FROM subscription WHERE account_id = ? AND name = ?",
            (self._account, name),
        )
        return next(found, None) is not None

    def _make_levels_above(
        self, transaction: ITransaction, name: str, known: dict[str, int], modseq: int
    ) -> None:
        """@raise TooMany: with these and the mailbox itself."""
        missing = [level for level in names.levels_above(name) if level not in known]
        if len(known) + len(missing) >= MAX_MAILBOXES:
            raise errors.TooMany("There are too many mailboxes")
        for level in missing:
            rows.make(transaction, self._account, level, modseq)


def _inbox(transaction: ITransaction, account: int) -> None:
    """Make an account's INBOX, if it has none.

    @raise NoSuchAccount: it was removed.
    """
    if names.INBOX not in rows.names(transaction, account):
        modseq = rows.bump(transaction, account)
        rows.make(transaction, account, names.INBOX, modseq)


def _keep(transaction: ITransaction, account: int, email: Email) -> int:
    """Make an email a row.

    @return: its id, which is also that of its thread.
    """
    id = new_id()
    summary = email.summary
    transaction.execute(
        "INSERT INTO email (account_id, id, thread_id, content_id, prefix, size,"
        " received_at, envelope, bodystructure, body, sections)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            account,
            id,
            id,
            email.content,
            email.prefix,
            email.size,
            email.received_at,
            summary.envelope,
            summary.bodystructure,
            summary.body,
            summary.sections,
        ),
    )
    return id
