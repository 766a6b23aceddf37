"""The secrets with which return addresses (L{twisted_mta.mail.srs}) are made.

They are rows of the ledger, so that all processes of a server share them, and a backup
has them. A new one is made when the last is some months old; those before it are good
as long as an address that they made may be.
"""

from __future__ import annotations

import secrets

from twisted.internet.interfaces import IReactorTime

from twisted_mta.errors import NoSuchAccount
from twisted_mta.interfaces import ILedger, ITransaction
from twisted_mta.mail import srs
from twisted_mta.mail.address import Address

# What their names begin with in the table of secrets; then when they were made.
_NAME = "srs."

# After how long a new one is made. There is no precedent: postsrsd leaves it to the
# operator.
_ROTATED_S = 90 * 86400.0

# How long one is good after it was followed by another.
_KEPT_S = (srs.DAYS + 1) * 86400.0

_OCTETS = 32

# When it was made, and the secret; the newest first.
_Secrets = list[tuple[float, bytes]]


class Returns:
    """Makes return addresses and reads them."""

    def __init__(self, clock: IReactorTime, ledger: ILedger) -> None:
        self._clock = clock
        self._ledger = ledger
        self._known: _Secrets = []

    async def forward(self, sender: Address, domain: str) -> Address:
        """See L{srs.forward}.

        @raise ValueError: it would be too long.
        @raise Temporary: the ledger cannot be asked.
        """
        now = self._clock.seconds()
        if not self._known or now - self._known[0][0] > _ROTATED_S:
            self._known = await self._ledger.write(lambda t: _renewed(t, now))
        return srs.forward(sender, domain, self._known[0][1], now)

    async def original(self, address: Address) -> Address:
        """Whose return address this is.

        @raise NoSuchAccount: nobody's; the text says why.
        @raise Temporary: the ledger cannot be asked.
        """
        now = self._clock.seconds()
        try:
            return srs.reverse(address.local, [each for _, each in self._known], now)
        except srs.Forged:
            # Another process may have made a secret since.
            self._known = await self._ledger.lookup(_read)
        except srs.Outdated:
            raise _outdated()
        try:
            return srs.reverse(address.local, [each for _, each in self._known], now)
        except srs.Outdated:
            raise _outdated()
        except srs.Forged:
            raise NoSuchAccount("That return address (SRS) was not made here")


def _outdated() -> NoSuchAccount:
    text = f"That return address (SRS) is more than {srs.DAYS} days old"
    return NoSuchAccount(text)


def _read(transaction: ITransaction) -> _Secrets:
    rows = transaction.execute(
        "SELECT name, octets FROM secret WHERE name >= ? AND name < ?",
        (_NAME, _NAME + "~"),
    )
    found = [(float(name[len(_NAME) :]), bytes(octets)) for name, octets in rows]
    return sorted(found, reverse=True)


def _renewed(transaction: ITransaction, now: float) -> _Secrets:
    """The secrets, of which the first is not old."""
    found = _read(transaction)
    if found and now - found[0][0] <= _ROTATED_S:
        return found
    made = now, secrets.token_bytes(_OCTETS)
    transaction.execute(
        "INSERT INTO secret (name, octets) VALUES (?, ?)", (f"{_NAME}{now!r}", made[1])
    )
    kept, followed_at = [made], now
    for at, secret in found:
        if now - followed_at > _KEPT_S:
            transaction.execute(
                "DELETE FROM secret WHERE name = ?", (f"{_NAME}{at!r}",)
            )
        else:
            kept.append((at, secret))
        followed_at = at
    return kept
