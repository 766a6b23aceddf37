"""Whom nothing is sent to any more, and why."""

from typing import Literal, NamedTuple

from twisted_mta.mail.address import Address
from twisted_mta.mail.domain import known_as

Reason = Literal["hard_bounce", "complaint", "manual"]


class Suppressed(NamedTuple):
    """An entry of the list.

    @ivar address: as it was put on the list.
    @ivar scope: the address of the account that may not send there; empty: nobody may.
    @ivar source: what was said, and by whom.
    @ivar added_at: seconds since the epoch.
    @ivar until: when it leaves the list; C{None}: when somebody takes it off.
    """

    address: str
    scope: str
    reason: Reason
    source: str
    added_at: float
    until: float | None = None


def key(address: Address) -> str:
    """What an address is found by: case does not count, nor how its domain is
    written (RFC 5890)."""
    return Address(address.local, known_as(address.domain)).key
