"""Rows that wait without an attempt: for a site that is down, or for room at one.

They are put off many at once, in two statements. Those of a site that is down say so
in the queue, and bear its name, by which they are found when it is there again. The
attempts that were made are not counted any higher.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted_mta.delivery.rows import TOPIC
from twisted_mta.delivery.text import one_line
from twisted_mta.interfaces import ITransaction
from twisted_mta.mail.job import Parked


class Parking:
    """The unit of work that puts them off, as far as the leases are still ours.

    @param owner: whose the leases are.
    """

    __slots__ = ("_owner", "_parked")

    def __init__(self, owner: str, parked: Sequence[Parked]) -> None:
        self._owner = owner
        self._parked = parked

    def __call__(self, transaction: ITransaction) -> None:
        """The unit of work."""
        transaction.executemany(
            "UPDATE recipient SET status = ?, diagnostic = ?, remote = ?, replied = ?"
            " WHERE hop_id = (SELECT id FROM hop WHERE id = ? AND lease = ?)",
            [
                (
                    one.outcome.status,
                    one_line(one.outcome.diagnostic),
                    one_line(one.outcome.remote),
                    int(one.outcome.replied),
                    one.job.id,
                    self._owner,
                )
                for one in self._parked
                if one.outcome is not None
            ],
        )
        transaction.executemany(
            "UPDATE hop SET lease = '', due = ?, site = ? WHERE id = ? AND lease = ?",
            [(one.due, one.site, one.job.id, self._owner) for one in self._parked],
        )
        transaction.changed(TOPIC)


def wake(
    transaction: ITransaction, agent: str, site: str, now: float, most: int
) -> int:
    """A site is there again: some that wait for it are due.

    @return: how many; fewer than C{most} if these are all.
    """
    found = transaction.execute(
        "SELECT id, due FROM hop WHERE agent = ? AND site = ? AND site <> '' LIMIT ?",
        (agent, site, most),
    )
    rows = [(min(due, now), id) for id, due in found]
    transaction.executemany("UPDATE hop SET due = ?, site = '' WHERE id = ?", rows)
    if rows:
        transaction.changed(TOPIC)
    return len(rows)
