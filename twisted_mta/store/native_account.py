"""The mailboxes of one account of the native store, by name.

It knows nothing of messages but that an email is placed in a mailbox. It trusts
L{twisted_mta.store.native_rows} to keep counts and modseqs right.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from zope.interface import implementer

from twisted_mta import errors
from twisted_mta.interfaces import (
    IAccount,
    IContentWriter,
    ILedger,
    ITransaction,
)
from twisted_mta.mail.placement import Appended, MailboxInfo, MailboxStatus
from twisted_mta.mail.summary import Email, summarize
from twisted_mta.store import name as names
from twisted_mta.store import native_rows as rows
from twisted_mta.store.native_mailbox import NativeMailbox, transfer
from twisted_mta.store.native_rows import Box, Placed, packed
from twisted_mta.store.native_search import SearchableMailbox
from twisted_mta.store.search_index import SearchIndex

#: Mailboxes of an account, and names that it subscribes to.
MAX_MAILBOXES = 10_000

# Up to here rows are looked up in the reactor's thread: 2 us each.
_FEW = 100
_ALL = 1 << 62


@implementer(IAccount)
class NativeAccount:
    """See L{IAccount}."""

    def __init__(
        self, ledger: ILedger, account: int, index: SearchIndex | None = None
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._index = index

    # --- reading ---

    async def mailboxes(self) -> Sequence[MailboxInfo]:
        """See L{IAccount.mailboxes}."""
        found = await self._all(
            "SELECT m.id, m.name, m.special_use, s.name IS NOT NULL FROM mailbox m"
            " LEFT JOIN subscription s"
            " ON s.account_id = m.account_id AND s.name = m.name"
            " WHERE m.account_id = ?"
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
        found = await self._all("SELECT name FROM subscription WHERE account_id = ?")
        return sorted((name for (name,) in found), key=names.listing_key)

    async def _all(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """The rows of the account; looked up, if they are few."""

        def query(transaction: ITransaction, most: int) -> list[tuple[Any, ...]]:
            return list(transaction.execute(f"{sql} LIMIT ?", (self._account, most)))

        found = await self._ledger.lookup(partial(query, most=_FEW + 1))
        if len(found) <= _FEW:
            return found
        return await self._ledger.read(partial(query, most=_ALL))

    async def status(self, name: str) -> MailboxStatus:
        """See L{IAccount.status}."""
        there = await self._ledger.lookup(partial(self._find, name=name))

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
                # Counted by another statement, perhaps after a commit.
                recent=min(recent, box.messages),
                unseen=box.unseen,
                uidnext=box.uidnext,
                uidvalidity=box.uidvalidity,
                highest_modseq=box.modseq,
                size=box.size,
            )

        if there.uidnext - there.recent_uid <= _FEW:
            return await self._ledger.lookup(query)
        return await self._ledger.read(query)

    async def open(self, name: str) -> NativeMailbox:
        """See L{IAccount.open}."""
        box = await self._ledger.lookup(
            lambda transaction: self._find(transaction, name)
        )
        if self._index is None:
            return NativeMailbox(self._ledger, self._account, box)
        return SearchableMailbox(self._ledger, self._account, box, self._index)

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
                raise errors.InboxNeeded()
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

    def need(self, octets: int) -> None:
        """See L{IAccount.need}."""
        self._ledger.need(octets)

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
            (id,) = rows.keep(transaction, [(self._account, email)])
            placed = Placed(0, id, bits, keywords, content.size)
            (uid,) = rows.place(transaction, self._account, box, [placed], modseq)
            return Appended(box.uidvalidity, uid)

        # Keywords that are new may take a look at all messages.
        return await self._ledger.write(unit, brief=not keywords)

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
