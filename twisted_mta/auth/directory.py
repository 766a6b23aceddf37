"""Accounts and aliases in the ledger (the tables account and alias).

It looks addresses up exactly as they are; what subaddresses, catch-all and our
domains mean for mail is the router's. Aliases may lead to accounts, to other
aliases, elsewhere, or in circles: whoever follows them bounds it. What accounts log
in with is the L{Keyring}'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from zope.interface import implementer

from twisted_mta.auth.keyring import Keyring, account_id
from twisted_mta.errors import AccountExists, NoSuchAccount
from twisted_mta.interfaces import IDirectory, ILedger, ITransaction
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.ids import new_id
from twisted_mta.mail.submitted import Submitted

# Hours that are summed up.
_HOURS = 24

# How far aliases are followed to find out for whom somebody may send.
_ALIAS_DEPTH = 10
_ALIAS_TARGETS = 1000

# What the ledger tells of removed accounts by.
_TOPIC = "account"

# Accounts that are remembered, some 300 octets each.
_KNOWN_MOST = 20_000

OnAccount = Callable[[ITransaction, int], None]


@implementer(IDirectory)
class LedgerDirectory:
    """Who exists, and the means to change it."""

    def __init__(
        self,
        ledger: ILedger,
        keyring: Keyring,
        separators: Mapping[str, str] | None = None,
    ) -> None:
        """
        @param keyring: makes what is stored of passwords.
        @param separators: what separates a subaddress, by domain; C{+} for a
            domain that is not in it, none where it is empty.
        """
        self._ledger = ledger
        self._keyring = keyring
        self._separators = dict(separators or {})
        # Accounts that were looked up: asked for with each recipient of each
        # message. Forgotten when the ledger says that one was removed, by
        # whichever process.
        self._known: dict[str, Account] = {}
        ledger.watch(_TOPIC, self._known.clear)

    # --- IDirectory ---

    async def account(self, address: Address) -> Account | None:
        known = self._known.get(address.key)
        if known is not None:
            return known
        found = await self._keyring.credentials(address)
        if found is None:
            return None
        if len(self._known) >= _KNOWN_MOST:
            self._known.clear()
        self._known[address.key] = found[0]
        return found[0]

    async def aliases(self, address: Address) -> Sequence[Address]:
        key = address.key

        def query(transaction: ITransaction) -> Sequence[str]:
            rows = transaction.execute(
                "SELECT target FROM alias WHERE address_key = ? ORDER BY target_key",
                (key,),
            )
            return [target for (target,) in rows]

        return [split(target) for target in await self._ledger.lookup(query)]

    async def may_send_as(self, account: Account, address: Address) -> bool:
        # Two domains that are one when case is folded (a sharp s, say) are not the
        # same to the DNS (RFC 5891).
        exact = address.domain == account.address.domain
        if not exact and address.domain.casefold() != address.domain.lower():
            return False
        own = account.address.key
        keys = {address.key, self._without_detail(address).key}
        if own in keys:
            return True

        def query(transaction: ITransaction) -> bool:
            return _leads_to(transaction, keys, own)

        return await self._ledger.lookup(query)

    def _without_detail(self, address: Address) -> Address:
        separator = self._separators.get(address.domain, "+")
        if not separator:
            return address
        base = address.local.partition(separator)[0]
        return Address(base, address.domain) if base else address

    # --- submission ---

    async def submitted(
        self, account: Account, now: float, messages: int = 0, recipients: int = 0
    ) -> Submitted:
        """See L{IDirectory.submitted}."""
        hour = int(now // 3600)

        def unit(transaction: ITransaction) -> Sequence[tuple[int, int, int]]:
            if messages or recipients:
                transaction.execute(
                    "INSERT INTO submitted (account_id, hour, messages, recipients)"
                    " VALUES (?, ?, ?, ?) ON CONFLICT (account_id, hour) DO UPDATE"
                    " SET messages = submitted.messages + excluded.messages,"
                    " recipients = submitted.recipients + excluded.recipients",
                    (account.id, hour, messages, recipients),
                )
                transaction.execute(
                    "DELETE FROM submitted WHERE account_id = ? AND hour < ?",
                    (account.id, hour - _HOURS),
                )
            rows = transaction.execute(
                "SELECT hour, messages, recipients FROM submitted"
                " WHERE account_id = ? AND hour >= ?",
                (account.id, hour - _HOURS),
            )
            return [(at, sent, to) for at, sent, to in rows]

        if messages or recipients:
            rows = await self._ledger.write(unit, brief=True)
        else:
            rows = await self._ledger.lookup(unit)
        return _summed(rows, now)

    async def set_save_sent(self, address: Address, save: bool) -> None:
        """Whether what an account submits is kept in its mailbox for sent mail.

        @raise NoSuchAccount:
        """

        def unit(transaction: ITransaction) -> None:
            account_id(transaction, address)
            transaction.changed(_TOPIC)
            transaction.execute(
                "UPDATE account SET save_sent = ? WHERE address_key = ?",
                (int(save), address.key),
            )

        await self._ledger.write(unit)
        self._known.clear()  # the hint comes later

    # --- administration ---

    async def add_account(
        self, address: Address, password: str, provision: OnAccount
    ) -> Account:
        """Make an account.

        @param password: in the clear.
        @param provision: called within the transaction with the account's id,
            to make its mailboxes.
        @raise AccountExists: the address is an account's or an alias.
        """
        stored = await self._keyring.made(address, password)
        made = Account(new_id(), address)

        def unit(transaction: ITransaction) -> None:
            if _exists(transaction, "account", address) or _exists(
                transaction, "alias", address
            ):
                raise AccountExists()
            transaction.execute(
                "INSERT INTO account (id, address, address_key, password,"
                " scram_sha256, scram_sha1, created_at, modseq)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
                (made.id, str(address), address.key, *stored, time.time()),
            )
            provision(transaction, made.id)

        await self._ledger.write(unit)
        return made

    async def set_password(self, address: Address, password: str) -> None:
        """Change a password.

        @param password: in the clear.
        @raise NoSuchAccount:
        """
        stored = await self._keyring.made(address, password)

        def unit(transaction: ITransaction) -> None:
            account_id(transaction, address)
            transaction.execute(
                "UPDATE account SET password = ?, scram_sha256 = ?, scram_sha1 = ?"
                " WHERE address_key = ?",
                (*stored, address.key),
            )

        await self._ledger.write(unit)

    async def remove_account(self, address: Address, discard: OnAccount) -> None:
        """Remove an account, and the aliases that lead to it.

        @param discard: called within the transaction with the account's id, to
            remove its mailboxes.
        @raise NoSuchAccount:
        """

        def unit(transaction: ITransaction) -> None:
            id_ = account_id(transaction, address)
            discard(transaction, id_)
            transaction.changed(_TOPIC)
            transaction.execute("DELETE FROM account WHERE id = ?", (id_,))
            for table in ("app_password", "submitted"):
                transaction.execute(f"DELETE FROM {table} WHERE account_id = ?", (id_,))
            transaction.execute(
                "DELETE FROM alias WHERE target_key = ?", (address.key,)
            )

        await self._ledger.write(unit)
        self._known.clear()  # the hint comes later

    async def accounts(self) -> Sequence[Account]:
        """All accounts, by address."""

        def query(transaction: ITransaction) -> Sequence[tuple[int, str]]:
            rows = transaction.execute(
                "SELECT id, address FROM account ORDER BY address_key"
            )
            return [(id_, address) for id_, address in rows]

        found = await self._ledger.read(query)
        return [Account(id_, split(address)) for id_, address in found]

    async def add_alias(self, address: Address, targets: Sequence[Address]) -> None:
        """Make an address lead to others, besides those it leads to already.

        @raise AccountExists: the address is an account's.
        """

        def unit(transaction: ITransaction) -> None:
            if _exists(transaction, "account", address):
                raise AccountExists()
            there = set(
                transaction.execute(
                    "SELECT target_key FROM alias WHERE address_key = ?",
                    (address.key,),
                )
            )
            new = {target.key: target for target in targets}
            transaction.executemany(
                "INSERT INTO alias (address_key, address, target, target_key)"
                " VALUES (?, ?, ?, ?)",
                [
                    (address.key, str(address), str(target), key)
                    for key, target in new.items()
                    if (key,) not in there
                ],
            )

        await self._ledger.write(unit)

    async def remove_alias(
        self, address: Address, targets: Sequence[Address] = ()
    ) -> None:
        """Remove targets of an alias; all of them if none are named.

        @raise NoSuchAccount: the address is no alias, or one that does not lead
            to one of these; nothing is removed.
        """

        def unit(transaction: ITransaction) -> None:
            if not _exists(transaction, "alias", address):
                raise NoSuchAccount(f"{address} is no alias")
            if not targets:
                transaction.execute(
                    "DELETE FROM alias WHERE address_key = ?", (address.key,)
                )
            for target in targets:
                values = (address.key, target.key)
                where = "WHERE address_key = ? AND target_key = ?"
                rows = transaction.execute(f"SELECT 1 FROM alias {where}", values)
                if not list(rows):
                    raise NoSuchAccount(f"{address} does not lead to {target}")
                transaction.execute(f"DELETE FROM alias {where}", values)

        await self._ledger.write(unit)

    async def all_aliases(self) -> Sequence[tuple[Address, Address]]:
        """Every alias and target, by alias."""

        def query(transaction: ITransaction) -> Sequence[tuple[str, str]]:
            rows = transaction.execute(
                "SELECT address, target FROM alias ORDER BY address_key, target_key"
            )
            return [(address, target) for address, target in rows]

        found = await self._ledger.read(query)
        return [(split(address), split(target)) for address, target in found]


def _summed(rows: Sequence[tuple[int, int, int]], now: float) -> Submitted:
    """What was submitted in the last hour and the last 24; of the hour that has only
    its end in there, by that share."""
    hour, share = int(now // 3600), 1 - now % 3600 / 3600
    sums = [0.0, 0.0, 0.0, 0.0]
    for at, messages, recipients in rows:
        age = hour - at
        for place, hours in ((0, 1), (1, _HOURS)):
            weight = 1.0 if age < hours else share if age == hours else 0.0
            sums[place] += weight * messages
            sums[place + 2] += weight * recipients
    return Submitted(*sums)


def _exists(transaction: ITransaction, table: str, address: Address) -> bool:
    rows = transaction.execute(
        f"SELECT 1 FROM {table} WHERE address_key = ? LIMIT 1", (address.key,)
    )
    return bool(list(rows))


def _leads_to(transaction: ITransaction, keys: set[str], wanted: str) -> bool:
    """Whether one of these aliases leads to an account, over others too."""
    seen: set[str] = set()
    level = set(keys)
    for _ in range(_ALIAS_DEPTH):
        if wanted in level:
            return True
        seen |= level
        if not level or len(seen) > _ALIAS_TARGETS:
            return False
        targets: set[str] = set()
        for key in level:
            targets.update(
                target
                for (target,) in transaction.execute(
                    "SELECT target_key FROM alias WHERE address_key = ?", (key,)
                )
            )
        level = targets - seen
    return False
