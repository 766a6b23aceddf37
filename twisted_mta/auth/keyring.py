"""What accounts log in with, in the ledger: hashes of passwords, what SCRAM needs of
them, and passwords of programs.

All passwords of an account have one salt for SCRAM, since it is told to the client
before anybody knows which of them he has. It comes of a secret of this server and the
address, so that one who asks for nobody's is told the like of it, and always the same
(RFC 5802 9); it stays when a password is changed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twisted.logger import Logger

from twisted_mta.auth.apppassword import AppPassword, app_hash, new_app_password
from twisted_mta.auth.passwords import Passwords
from twisted_mta.errors import AccountExists, NoSuchAccount, Temporary, TooMany
from twisted_mta.interfaces import ILedger, ITransaction, SqlValue
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address, split
from twisted_mta.wire import scram
from twisted_mta.wire.scram import Keys, read_keys

# Where the keys of a mechanism are, in the tables account and app_password.
_COLUMNS = {"SCRAM-SHA-256": "scram_sha256", "SCRAM-SHA-1": "scram_sha1"}

# That a password for a program was used is written down at most so often.
_USED_EVERY_S = 3600.0

# Passwords of programs of one account: each costs a login by SCRAM some hashes.
_PROGRAMS = 100

# The secret that salts are made of.
_SECRET = "scram"


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What an account's client by SCRAM may have a password of, all with one salt.

    @ivar keys: of each password.
    @ivar programs: whose each is; empty: it is the account's own.
    """

    account: Account
    keys: Sequence[Keys]
    programs: Sequence[str]


class Keyring:
    """What accounts log in with."""

    log = Logger()

    def __init__(self, ledger: ILedger, passwords: Passwords) -> None:
        self._ledger = ledger
        self._passwords = passwords
        self._secret = b""

    # --- an account's own password ---

    async def credentials(self, address: Address) -> tuple[Account, str] | None:
        """An account and its password's hash."""
        key = address.key

        def query(transaction: ITransaction) -> tuple[int, str, int, str] | None:
            return _row(transaction, "password", key)

        found = await self._ledger.lookup(query)
        if found is None:
            return None
        return _account(found), found[3]

    async def made(self, address: Address, password: str) -> tuple[str, str, str]:
        """What is stored of a new password: its hash, and its keys for SCRAM."""
        hashed = await self._passwords.hash(password)
        return hashed, *await self._keys(address, password)

    async def keep_scram(self, account: Account, stored: str, password: str) -> None:
        """Make what SCRAM needs of a password that was found right, for an account of
        before there was any. On a full disk it is left out: people log in to make
        room.

        @param stored: the hash that it was right for: a password that is changed
            meanwhile must not come back this way.
        """

        def query(transaction: ITransaction) -> bool:
            rows = transaction.execute(
                "SELECT 1 FROM account WHERE id = ? AND scram_sha256 = ''",
                (account.id,),
            )
            return bool(list(rows))

        if not await self._ledger.lookup(query):
            return
        try:
            keys = await self._keys(account.address, password)
        except Temporary as error:
            self._not_noted(error)
            return
        if all(keys):
            await self._note(
                "UPDATE account SET scram_sha256 = ?, scram_sha1 = ?"
                " WHERE id = ? AND scram_sha256 = '' AND password = ?",
                (*keys, account.id, stored),
            )

    # --- SCRAM ---

    async def scram_keys(
        self, address: Address, mechanism: str, protocol: str
    ) -> ScramKeys | None:
        """An account and the keys of its passwords for a mechanism.

        @param protocol: leaves out passwords of programs for others.
        @return: C{None} if there are none (yet).
        """
        key, column = address.key, _COLUMNS[mechanism]

        def query(
            transaction: ITransaction,
        ) -> tuple[tuple[int, str, int, str], list[tuple[str, str]]] | None:
            row = _row(transaction, column, key)
            if row is None:
                return None
            rows = transaction.execute(
                f"SELECT name, protocols, {column} FROM app_password"
                f" WHERE account_id = ? AND {column} <> '' ORDER BY name",
                (row[0],),
            )
            programs = [
                (name, text) for name, used, text in rows if protocol in used.split()
            ]
            return row, programs

        found = await self._ledger.lookup(query)
        if found is None:
            return None
        row, programs = found
        texts = [("", row[3])] if row[3] else []
        read = [(name, read_keys(text)) for name, text in (*texts, *programs)]
        if not read:
            return None
        first = read[0][1]
        fit = [
            (name, keys)
            for name, keys in read
            if (keys.salt, keys.iterations) == (first.salt, first.iterations)
        ]
        return ScramKeys(
            _account(row), [keys for _, keys in fit], [name for name, _ in fit]
        )

    async def no_keys(self, name: str, mechanism: str) -> Keys:
        """Keys that nobody has, for a name that nobody has."""
        return scram.no_keys(mechanism, await self._server_secret(), name)

    async def _keys(self, address: Address, password: str) -> tuple[str, str]:
        """Keys of a new password of an account, with the salt of its others."""
        secret = await self._server_secret()
        key = address.key

        def query(transaction: ITransaction) -> Mapping[str, Keys]:
            others: dict[str, Keys] = {}
            for mechanism, column in _COLUMNS.items():
                rows = transaction.execute(
                    f"SELECT app_password.{column} FROM app_password JOIN account"
                    " ON app_password.account_id = account.id"
                    f" WHERE address_key = ? AND app_password.{column} <> ''"
                    f" UNION ALL SELECT {column} FROM account"
                    f" WHERE address_key = ? AND {column} <> ''",
                    (key, key),
                )
                for (text,) in rows:
                    others.setdefault(mechanism, read_keys(text))
            return others

        others = await self._ledger.lookup(query)
        like = {
            mechanism: others.get(mechanism) or scram.no_keys(mechanism, secret, key)
            for mechanism in _COLUMNS
        }
        return await self._passwords.scram(password, like)

    async def _server_secret(self) -> bytes:
        """A secret that all processes of this server share; made when it is first
        needed."""
        if not self._secret:

            def unit(transaction: ITransaction) -> bytes:
                transaction.execute(
                    "INSERT INTO secret (name, octets) VALUES (?, ?)"
                    " ON CONFLICT (name) DO NOTHING",
                    (_SECRET, secrets.token_bytes(32)),
                )
                rows = transaction.execute(
                    "SELECT octets FROM secret WHERE name = ?", (_SECRET,)
                )
                return next(bytes(octets) for (octets,) in rows)

            self._secret = await self._ledger.write(unit)
        return self._secret

    # --- passwords of programs ---

    async def check_app_password(
        self, account: Account, password: str, protocol: str
    ) -> bool:
        """Whether this is one of the account's passwords for programs that may be
        used here. It has so many random bits that a plain hash protects it."""
        hashed = app_hash(password)
        if not hashed:
            return False

        def query(transaction: ITransaction) -> str | None:
            rows = transaction.execute(
                "SELECT name, protocols FROM app_password"
                " WHERE account_id = ? AND password = ?",
                (account.id, hashed),
            )
            return next((name for name, used in rows if protocol in used.split()), None)

        name = await self._ledger.lookup(query)
        if name is None:
            return False
        await self.used(account, name)
        return True

    async def used(self, account: Account, name: str) -> None:
        """Note that a password of a program was used; to the hour."""
        now = time.time()

        def query(transaction: ITransaction) -> bool:
            rows = transaction.execute(
                "SELECT 1 FROM app_password"
                " WHERE account_id = ? AND name = ? AND used_at < ?",
                (account.id, name, now - _USED_EVERY_S),
            )
            return bool(list(rows))

        if await self._ledger.lookup(query):
            await self._note(
                "UPDATE app_password SET used_at = ? WHERE account_id = ? AND name = ?",
                (now, account.id, name),
            )

    async def add_app_password(
        self, address: Address, name: str, protocols: Sequence[str]
    ) -> str:
        """Make a password for a program.

        @param name: what the person calls it.
        @param protocols: some of L{PROTOCOLS}.
        @return: the password, which nobody can be told again.
        @raise NoSuchAccount:
        @raise AccountExists: the account has one of that name.
        @raise TooMany: it has a hundred.
        """
        password = new_app_password()
        keys = await self._keys(address, password)

        def unit(transaction: ITransaction) -> None:
            id = account_id(transaction, address)
            names = [
                each
                for (each,) in transaction.execute(
                    "SELECT name FROM app_password WHERE account_id = ?", (id,)
                )
            ]
            if name in names:
                raise AccountExists(f"{address} has a password of that name already")
            if len(names) >= _PROGRAMS:
                raise TooMany(f"{address} has {_PROGRAMS} of them; remove some")
            transaction.execute(
                "INSERT INTO app_password (account_id, name, password, scram_sha256,"
                " scram_sha1, protocols, created_at, used_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
                (
                    *(id, name, app_hash(password), *keys),
                    *(" ".join(protocols), time.time()),
                ),
            )

        await self._ledger.write(unit)
        return password

    async def remove_app_password(self, address: Address, name: str) -> None:
        """Take one back; it is of no use from now on.

        @raise NoSuchAccount: there is none of that name.
        """

        def unit(transaction: ITransaction) -> None:
            values = (account_id(transaction, address), name)
            where = "WHERE account_id = ? AND name = ?"
            if not list(
                transaction.execute(f"SELECT 1 FROM app_password {where}", values)
            ):
                raise NoSuchAccount(f"{address} has no password of that name")
            transaction.execute(f"DELETE FROM app_password {where}", values)

        await self._ledger.write(unit)

    async def app_passwords(self, address: Address) -> Sequence[AppPassword]:
        """Those of an account, by name.

        @raise NoSuchAccount:
        """

        def query(transaction: ITransaction) -> Sequence[AppPassword]:
            rows = transaction.execute(
                "SELECT name, protocols, created_at, used_at FROM app_password"
                " WHERE account_id = ? ORDER BY name",
                (account_id(transaction, address),),
            )
            return [AppPassword(*row) for row in rows]

        return await self._ledger.read(query)

    # --- within ---

    async def _note(self, statement: str, values: Sequence[SqlValue]) -> None:
        """Write what a login may leave out."""

        def unit(transaction: ITransaction) -> None:
            transaction.execute(statement, values)

        try:
            await self._ledger.write(unit)
        except Temporary as error:
            self._not_noted(error)

    def _not_noted(self, error: Temporary) -> None:
        self.log.warn("a login was not noted: {why}", why=str(error))


def account_id(transaction: ITransaction, address: Address) -> int:
    """The id of an account.

    @raise NoSuchAccount:
    """
    rows = list(
        transaction.execute(
            "SELECT id FROM account WHERE address_key = ?", (address.key,)
        )
    )
    if not rows:
        raise NoSuchAccount(f"There is no account {address}")
    id_: int = rows[0][0]
    return id_


def _row(
    transaction: ITransaction, column: str, key: str
) -> tuple[int, str, int, str] | None:
    rows = transaction.execute(
        f"SELECT id, address, save_sent, {column} FROM account WHERE address_key = ?",
        (key,),
    )
    return next((tuple(row) for row in rows), None)


def _account(row: tuple[int, str, int, str]) -> Account:
    id, text, save_sent, _ = row
    return Account(id, split(text), bool(save_sent))
