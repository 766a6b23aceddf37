"""The suppression list: rows of the ledger that say whom nothing is sent to any more.

An address gets there by hand, by servers that say for good that nobody has it, or by a
complaint. The refusals are counted in the transaction that records the attempt, so that
none is lost or counted twice. It trusts no server's word on anything but its own
addresses: a refusal for reasons of policy (5.7.x) says nothing of whether an address
exists.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.config import schema
from twisted_mta.delivery.settlement import Told
from twisted_mta.delivery.text import one_line
from twisted_mta.errors import NoSuchAccount, Temporary
from twisted_mta.interfaces import ILedger, ISuppression, ITransaction, SqlValue
from twisted_mta.mail.address import Address
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.job import Job
from twisted_mta.mail.suppressed import Reason, Suppressed, key

# The ledger's topic of the list.
_TOPIC = "suppressed"

# What a server says of an address that nobody has (RFC 3463 3.2 and 3.3, RFC 7505):
# bad mailbox, bad domain, bad syntax, null MX, mailbox disabled.
_HARD = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.10", "5.2.1"})

# An entry that is so young comes of the attempt that was just recorded.
_LATELY_S = 60.0

# Rows that each new one takes along when they are over.
_CLEARED = 100

# Characters of what was said.
_SOURCE = 300

_COLUMNS = "address, scope, reason, source, added_at, until"


@implementer(ISuppression)
class Suppression:
    """The list of one ledger."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, ledger: ILedger, settings: schema.Suppression
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._settings = settings
        # Whether there is anybody on it: most servers need not be asked more.
        self._empty: bool | None = None
        self._changes = 0
        ledger.watch(_TOPIC, self._changed)

    def _changed(self) -> None:
        self._empty = None
        self._changes += 1

    # --- ISuppression ---

    async def find(
        self, address: Address, account: Address | None = None
    ) -> Suppressed | None:
        """See L{ISuppression.find}."""
        if self._empty is None:
            changes = self._changes
            empty = await self._ledger.lookup(_nobody)
            if changes == self._changes:
                self._empty = empty
        if self._empty:
            return None
        now, keys = self._clock.seconds(), (key(address), key(account or _NOBODY))

        def query(transaction: ITransaction) -> Suppressed | None:
            rows = transaction.execute(
                f"SELECT {_COLUMNS} FROM suppressed WHERE address_key = ?"
                " AND scope IN ('', ?) AND (until IS NULL OR until > ?)"
                " ORDER BY scope LIMIT 1",
                (*keys, now),
            )
            return next((Suppressed(*row) for row in rows), None)

        return await self._ledger.lookup(query)

    async def listed(self) -> Sequence[Suppressed]:
        """See L{ISuppression.listed}."""
        now = self._clock.seconds()

        def query(transaction: ITransaction) -> list[Suppressed]:
            rows = transaction.execute(
                f"SELECT {_COLUMNS} FROM suppressed WHERE until IS NULL OR until > ?"
                " ORDER BY address_key, scope",
                (now,),
            )
            return [Suppressed(*row) for row in rows]

        return await self._ledger.read(query)

    async def add(
        self,
        address: Address,
        account: Address | None,
        reason: Reason,
        source: str,
        keep_s: float | None = None,
    ) -> None:
        """See L{ISuppression.add}."""
        replaced = _ANEW if reason == "manual" else _LONGER
        now = self._clock.seconds()
        until = None if keep_s is None else now + keep_s
        row = _row(address, account, reason, source, now, until)

        def unit(transaction: ITransaction) -> None:
            transaction.execute(f"{_ADD}{replaced}", row)
            transaction.changed(_TOPIC)

        await self._ledger.write(unit)

    async def remove(self, address: Address, account: Address | None = None) -> None:
        """See L{ISuppression.remove}."""
        keys = key(address), key(account) if account else ""

        def unit(transaction: ITransaction) -> None:
            where = "FROM suppressed WHERE address_key = ? AND scope = ?"
            if not list(transaction.execute(f"SELECT 1 {where}", keys)):
                raise NoSuchAccount(f"{address} is not on the list")
            transaction.execute(f"DELETE {where}", keys)
            # Nor does what was counted before put it there again.
            transaction.execute(
                "DELETE FROM hard_bounce WHERE address_key = ?", keys[:1]
            )
            transaction.changed(_TOPIC)

        await self._ledger.write(unit)

    def forget(self, transaction: ITransaction, account: Address) -> None:
        """Within a transaction: an account is removed, with its entries."""
        transaction.execute("DELETE FROM suppressed WHERE scope = ?", (key(account),))
        transaction.changed(_TOPIC)

    # --- for the queue ---

    def hard(self, job: Job, failed: Told) -> Told:
        """Those of an attempt's refusals that count. A bounce that cannot be delivered
        went to a sender, who may be forged."""
        if self._settings.hard_bounces is None or job.envelope.sender is None:
            return ()
        return tuple(
            (who, outcome)
            for who, outcome in failed
            if outcome.replied and outcome.status in _HARD
        )

    async def log(self, job: Job, failed: Told) -> None:
        """Say who is on the list since this attempt, which is recorded."""
        since = self._clock.seconds() - _LATELY_S
        for who, _ in self.hard(job, failed):
            try:
                entry = await self.find(who)
            except Temporary:
                return  # the list has it
            if entry and entry.reason == "hard_bounce" and entry.added_at > since:
                self._log.info(
                    "{id}: suppressed {address}: {source}",
                    id=to_text(job.envelope.id),
                    address=one_line(str(who)),
                    source=entry.source,
                )

    def bounced(
        self,
        transaction: ITransaction,
        message: int,
        refused: Told,
    ) -> None:
        """Within the transaction that records an attempt: count refusals.

        @param message: its queue id: it counts once.
        @param refused: as L{hard} gave them.
        """
        settings, now = self._settings, self._clock.seconds()
        since, until = now - settings.within, now + settings.keep
        _clear(transaction, since, now)
        transaction.executemany(
            "INSERT INTO hard_bounce (address_key, at, queued_id) VALUES (?, ?, ?)"
            " ON CONFLICT (address_key, queued_id) DO NOTHING",
            [(key(who), now, message) for who, _ in refused],
        )
        for who, outcome in refused:
            counted = transaction.execute(
                "SELECT COUNT(*) FROM hard_bounce WHERE address_key = ? AND at >= ?",
                (key(who), since),
            )
            if next(counted)[0] < (settings.hard_bounces or 1):
                continue
            source = f"{outcome.diagnostic} ({outcome.remote})"
            row = _row(who, None, "hard_bounce", source, now, until)
            transaction.execute(f"{_ADD}{_LONGER}", row)
            transaction.execute(
                "DELETE FROM hard_bounce WHERE address_key = ?", (key(who),)
            )
            transaction.changed(_TOPIC)


_NOBODY = Address("", "")

_ADD = (
    "INSERT INTO suppressed (address_key, scope, address, reason, source, added_at,"
    " until) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (address_key, scope) DO UPDATE SET"
    " reason = excluded.reason, source = excluded.source,"
    " added_at = excluded.added_at, until = excluded.until"
)
# What is on the list already is replaced by an operator; by others only if it would
# leave the list earlier.
_ANEW = ""
_LONGER = " WHERE suppressed.until IS NOT NULL AND suppressed.until < excluded.until"


def _row(
    address: Address,
    account: Address | None,
    reason: Reason,
    source: str,
    now: float,
    until: float | None,
) -> Sequence[SqlValue]:
    scope = key(account) if account else ""
    shown = one_line(str(address)), reason, one_line(source, _SOURCE)
    return (key(address), scope, *shown, now, until)


def _nobody(transaction: ITransaction) -> bool:
    return not list(transaction.execute("SELECT 1 FROM suppressed LIMIT 1"))


def _clear(transaction: ITransaction, since: float, now: float) -> None:
    """Remove some of what is over."""
    transaction.execute(
        "DELETE FROM hard_bounce WHERE (address_key, queued_id) IN (SELECT"
        " address_key, queued_id FROM hard_bounce WHERE at < ? ORDER BY at LIMIT ?)",
        (since, _CLEARED),
    )
    transaction.execute(
        "DELETE FROM suppressed WHERE (address_key, scope) IN (SELECT address_key,"
        " scope FROM suppressed WHERE until < ? ORDER BY until LIMIT ?)",
        (now, _CLEARED),
    )
