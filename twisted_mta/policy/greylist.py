"""Greylisting: who is new is asked to come again (RFC 6647).

What is remembered is in the ledger, so that all processes know it and a restart does
not make everybody new. It trusts nothing about its size: who never came back is
forgotten after two days, the others a month after they came last.
"""

from __future__ import annotations

from hashlib import blake2b
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from twisted_mta.errors import Temporary
from twisted_mta.interfaces import ILedger, ITransaction
from twisted_mta.mail.verdict import Progress, Verdict
from twisted_mta.policy.silent import Silent

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# Rows that one clearing removes at most, so that no commit waits for it long.
_CLEARED = 5000
_CLEAR_EVERY_S = 600.0


class Greylist(Silent):
    """Asks at RCPT. The null sender's mail waits as well, but at MESSAGE would be too
    late: a callback of other servers must see that the recipient exists."""

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        ledger: ILedger,
        *,
        delay_s: float,
        window_s: float,
        keep_s: float,
        trusted_after: int,
    ) -> None:
        """
        @param delay_s: how long who is new has to wait.
        @param window_s: until when he may come again.
        @param keep_s: how long who came back is remembered.
        @param trusted_after: how often a network comes back until it is not asked to
            any more; 0: for ever.
        """
        super().__init__(name)
        self._clock = clock
        self._ledger = ledger
        self._delay_s = delay_s
        self._window_s = window_s
        self._keep_s = keep_s
        self._trusted_after = trusted_after
        self._cleared = clock.seconds()

    async def rcpt(self, progress: Progress) -> Verdict | None:
        network = _network(progress.origin.host)
        if progress.trusted or not network:
            return None
        now = self._clock.seconds()
        sender = progress.sender.key if progress.sender else ""
        triplet = _key(network, sender, progress.recipients[-1].key)
        try:
            left = await self._left(now, _key(network), triplet)
        except Temporary as error:
            return Verdict.tempfail("Please try again later", error.text)
        if left <= 0:
            return None
        text = f"New here: please try again in {int(left) + 1} seconds (greylisting)"
        return Verdict.tempfail(text, f"greylisted: {network}")

    async def _left(self, now: float, network: bytes, triplet: bytes) -> float:
        """How many seconds somebody has to wait; what is new is remembered."""
        rows = await self._ledger.lookup(lambda t: _read(t, (network, triplet)))
        _, last, passed = rows.get(network, (0.0, 0.0, 0))
        if 0 < self._trusted_after <= passed and now - last < self._keep_s:
            # Written down once a day is enough to remember it.
            if now - last > 86400:
                await self._write(now, {network: (now, passed)})
            return 0.0
        first, last, came_back = rows.get(triplet, (now, 0.0, 0))
        known = triplet in rows
        if came_back and now - last < self._keep_s:
            if now - last > 86400:
                await self._write(now, {triplet: (now, came_back)})
            return 0.0
        if not known or came_back or now - first > self._window_s:
            await self._begin(now, triplet)
            return self._delay_s
        if now - first < self._delay_s:
            return self._delay_s - (now - first)
        await self._write(now, {triplet: (now, 1), network: (now, passed + 1)})
        return 0.0

    async def _begin(self, now: float, triplet: bytes) -> None:
        await self._run(
            now,
            lambda transaction: transaction.execute(
                "INSERT INTO greylist (id, first, last, passed) VALUES (?, ?, ?, 0)"
                " ON CONFLICT (id) DO UPDATE SET first = excluded.first,"
                " last = excluded.last, passed = 0",
                (triplet, now, now),
            ),
        )

    async def _write(self, now: float, changes: dict[bytes, tuple[float, int]]) -> None:
        rows = [(key, now, last, passed) for key, (last, passed) in changes.items()]
        await self._run(
            now,
            lambda transaction: transaction.executemany(
                "INSERT INTO greylist (id, first, last, passed) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET last = excluded.last,"
                " passed = excluded.passed",
                rows,
            ),
        )

    async def _run(self, now: float, unit: object) -> None:
        clears = now - self._cleared >= _CLEAR_EVERY_S
        if clears:
            self._cleared = now

        def run(transaction: ITransaction) -> None:
            unit(transaction)  # type: ignore[operator]
            if clears:
                _clear(transaction, now - self._window_s, now - self._keep_s)

        await self._ledger.write(run, brief=not clears)


def _read(
    transaction: ITransaction, keys: tuple[bytes, ...]
) -> dict[bytes, tuple[float, float, int]]:
    rows = transaction.execute(
        "SELECT id, first, last, passed FROM greylist WHERE id IN (?, ?)", keys
    )
    return {bytes(id): (first, last, passed) for id, first, last, passed in rows}


def _clear(transaction: ITransaction, new_before: float, known_before: float) -> None:
    transaction.execute(
        "DELETE FROM greylist WHERE id IN (SELECT id FROM greylist WHERE last < ?"
        " AND (passed = 0 OR last < ?) ORDER BY last LIMIT ?)",
        (max(new_before, known_before), known_before, _CLEARED),
    )


def _key(*words: str) -> bytes:
    return blake2b("\\0".join(words).encode(), digest_size=16).digest()


def _network(host: str) -> str:
    """The /24 or /48 that an address is in (RFC 6647 5), since large senders come
    again from a neighbour; empty for what is no address."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
    bits = 24 if address.version == 4 else 48
    return str(ip_network((address, bits), strict=False))
