"""Whether a message was accepted before, within the transaction that would accept it.

See L{twisted_mta.delivery.resend}, of which this is the part that the ledger runs,
maybe in the writer's thread. It changes nothing but the transaction, and may run again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from twisted_mta.delivery.rows import of
from twisted_mta.errors import LedgerUnavailable
from twisted_mta.interfaces import ILedger, ITransaction

#: A note: a fingerprint, and the id of the envelope that had it.
Key = tuple[bytes, int]


class Screen:
    """Looks at notes, and makes them.

    @param within_s: how long a note is good.
    @param lost: ids of notes of this process whose clients are gone, which is not yet
        written.
    """

    def __init__(self, ledger: ILedger, within_s: float, lost: Collection[int]) -> None:
        self._ledger = ledger
        self._within_s = within_s
        self._lost = lost

    def __call__(
        self, transaction: ITransaction, claims: Sequence[Claim]
    ) -> Sequence[int | None]:
        """See L{Claim.screen}."""
        take_back(transaction, [key for claim in claims for key in claim.seen])
        waiting = self._unseen(transaction, claims)
        taken: list[Key] = []
        before: list[int | None] = []
        for claim in claims:
            notes = waiting.get(claim.fingerprint)
            if notes:
                id, message = notes.pop()
                taken.append((claim.fingerprint, id))
                before.append(message)
            else:
                before.append(None)
        take_back(transaction, taken)
        owner = self._ledger.name
        transaction.executemany(
            "INSERT INTO accepted (fingerprint, id, message, owner, at)"
            " VALUES (?, ?, ?, ?, ?)",
            [
                (claim.fingerprint, claim.id, message or claim.id, owner, claim.at)
                for claim, message in zip(claims, before, strict=True)
            ],
        )
        return before

    def _unseen(
        self, transaction: ITransaction, claims: Sequence[Claim]
    ) -> dict[bytes, list[tuple[int, int]]]:
        """The ids of the unseen notes of some fingerprints, each with the message's,
        the oldest last."""
        found: dict[bytes, list[tuple[int, int]]] = {}
        since = claims[0].at - self._within_s
        what = "fingerprint, id, message, owner, at FROM accepted WHERE fingerprint"
        alive: dict[str, bool] = {}
        keys = list({claim.fingerprint for claim in claims})
        for fingerprint, id, message, owner, at in of(transaction, what, keys):
            if at < since:
                continue
            if owner and id not in self._lost:
                if owner not in alive:
                    alive[owner] = self._lives(owner)
                if alive[owner]:
                    continue
            found.setdefault(bytes(fingerprint), []).append((id, message))
        for notes in found.values():
            notes.sort(reverse=True)
        return found

    def _lives(self, owner: str) -> bool:
        try:
            return self._ledger.lives(owner)
        except LedgerUnavailable:
            return True  # it is not known that it is dead


class Claim:
    """A message that may have been accepted before, within the transaction that would
    accept it.

    @ivar seen: notes to take back in the same transaction.
    """

    __slots__ = ("_screen", "at", "fingerprint", "id", "seen")

    def __init__(
        self,
        screen: Screen,
        fingerprint: bytes,
        id: int,
        at: float,
        seen: Sequence[Key],
    ) -> None:
        self._screen = screen
        self.fingerprint = fingerprint
        self.id = id
        self.at = at
        self.seen = seen

    def screen(
        self, transaction: ITransaction, claims: Sequence[Claim]
    ) -> Sequence[int | None]:
        """Note some messages.

        @param claims: of one L{Screen}.
        @return: for each, by which id it was accepted before; C{None} if it is new.
        """
        return self._screen(transaction, claims)


def take_back(transaction: ITransaction, keys: Sequence[Key]) -> None:
    """Remove notes."""
    if keys:
        transaction.executemany(
            "DELETE FROM accepted WHERE fingerprint = ? AND id = ?", keys
        )
