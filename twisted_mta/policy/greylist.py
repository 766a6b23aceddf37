"""Greylisting: who is new is asked to come again (RFC 6647).

What is remembered is in the ledger, so that all processes know it and a restart does
not make everybody new. It trusts nothing about its size: who never came back is
forgotten after two days, the others a month after they came last, and of too many
those that came least lately.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from hashlib import blake2b
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from twisted_mta.errors import Temporary
from twisted_mta.interfaces import ILedger, ITransaction
from twisted_mta.mail.verdict import Progress, Verdict
from twisted_mta.policy.silent import Silent

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# Rows that one clearing removes at most, so that no commit waits for it long; and how
# many may be new until the next one, fewer, so that no flood outruns it.
_CLEARED = 5000
_CLEAR_AFTER = 1000
_CLEAR_EVERY_S = 600.0

# A day after it was written down, a row's last use is written down again: enough to
# remember it.
_FRESH_S = 86400.0

# Keys that this process knows to need no looking up.
_KNOWN = 10_000

# Rows at most, of some 80 octets: 80 MB. Who never came back goes first: a flood is
# of those.
_MOST = 1_000_000


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
        most: int = _MOST,
    ) -> None:
        """
        @param delay_s: how long who is new has to wait.
        @param window_s: until when he may come again.
        @param keep_s: how long who came back is remembered.
        @param trusted_after: how often a network comes back until it is not asked to
            any more; 0: for ever.
        @param most: how many rows there are at most, but for what is new since the
            last clearing.
        """
        super().__init__(name)
        self._clock = clock
        self._ledger = ledger
        self._delay_s = delay_s
        self._window_s = window_s
        self._keep_s = keep_s
        self._fresh_s = min(_FRESH_S, keep_s / 2)
        self._trusted_after = trusted_after
        self._most = most
        self._cleared = clock.seconds()
        self._new = 0
        self._known: OrderedDict[bytes, float] = OrderedDict()

    async def rcpt(self, progress: Progress) -> Verdict | None:
        network = _network(progress.origin.host)
        if progress.trusted or not network:
            return None
        now = self._clock.seconds()
        sender = progress.sender.key if progress.sender else ""
        triplet = _key(network, sender, progress.recipients[-1].key)
        keys = _key(network), triplet
        if any(now < self._known.get(key, 0.0) for key in keys):
            return None
        try:
            left = await self._left(now, *keys)
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
            await self._use(now, network, last, passed)
            return 0.0
        first, last, came_back = rows.get(triplet, (now, 0.0, 0))
        known = triplet in rows
        if came_back and now - last < self._keep_s:
            await self._use(now, triplet, last, came_back)
            return 0.0
        if not known or came_back or now - first > self._window_s:
            await self._begin(now, triplet)
            return self._delay_s
        if now - first < self._delay_s:
            return self._delay_s - (now - first)
        await self._write(now, {triplet: (now, 1), network: (now, passed + 1)})
        return 0.0

    async def _use(self, now: float, key: bytes, last: float, passed: int) -> None:
        """One that need not wait came."""
        if now - last > self._fresh_s:
            await self._write(now, {key: (now, passed)})
            last = now
        self._known[key] = last + self._fresh_s
        self._known.move_to_end(key)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    async def _begin(self, now: float, triplet: bytes) -> None:
        self._new += 1
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
        waited = now - self._cleared >= _CLEAR_EVERY_S
        clears = waited or self._new >= _CLEAR_AFTER
        if clears:
            self._cleared, self._new = now, 0

        def run(transaction: ITransaction) -> None:
            unit(transaction)  # type: ignore[operator]
            if clears:
                new_before, known_before = now - self._window_s, now - self._keep_s
                _clear(transaction, new_before, known_before, self._most)

        await self._ledger.write(run, brief=not clears)


def _read(
    transaction: ITransaction, keys: tuple[bytes, ...]
) -> dict[bytes, tuple[float, float, int]]:
    rows = transaction.execute(
        "SELECT id, first, last, passed FROM greylist WHERE id IN (?, ?)", keys
    )
    return {bytes(id): (first, last, passed) for id, first, last, passed in rows}


def _clear(
    transaction: ITransaction, new_before: float, known_before: float, most: int
) -> None:
    """Remove what nobody needs any more, and what is too much."""
    transaction.execute(
        "DELETE FROM greylist WHERE id IN (SELECT id FROM greylist"
        " WHERE passed = 0 AND last < ? ORDER BY last LIMIT ?)",
        (new_before, _CLEARED),
    )
    transaction.execute(
        "DELETE FROM greylist WHERE id IN (SELECT id FROM greylist"
        " WHERE last < ? ORDER BY last LIMIT ?)",
        (known_before, _CLEARED),
    )
    ((count,),) = transaction.execute("SELECT COUNT(*) FROM greylist")
    if count > most:
        transaction.execute(
            "DELETE FROM greylist WHERE id IN (SELECT id FROM greylist"
            " ORDER BY passed, last LIMIT ?)",
            (min(count - most, _CLEARED),),
        )


def _key(*words: str) -> bytes:
    return blake2b("\0".join(words).encode(), digest_size=16).digest()


@lru_cache(maxsize=4096)
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
