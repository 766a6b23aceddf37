"""What an operator has ordered for all that is to come."""

from dataclasses import dataclass

from twisted_mta.mail.filter import Filter


@dataclass(frozen=True, slots=True)
class Frozen:
    """A next hop that is not tried.

    @ivar since: seconds since the epoch; 0: somebody was about to thaw it, and did not
        come to the end.
    @ivar rows: how many rows of the queue wait for it.
    """

    site: str
    since: float
    who: str
    reason: str
    rows: int


@dataclass(frozen=True, slots=True)
class Rule:
    """Mail that fits is held when it is accepted.

    @ivar id: as text.
    @ivar added_at: seconds since the epoch.
    """

    id: str
    added_at: float
    who: str
    reason: str
    filter: Filter
