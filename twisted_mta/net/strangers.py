"""Who has to go when there is no room left.

A connection is a stranger until it has logged in or a message of it was received
whole. When all places are taken and one more comes, a stranger makes room for it:
the oldest of the network that has the most of them, if that still leaves it as many
as the newcomer's has; or else the oldest of all, if it has had its time. So
somebody who opens connections and holds them (slowloris) competes with himself. It
knows no sockets and no limits; who may stay without that is the L{Admission
<twisted_mta.net.admission>}'s to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

# What an honest client has come to a message within, and all that a stranger gets
# when places are few. Postfix under stress: smtpd_timeout is 10 s.
_TIME_S = 10.0


class Guest(Protocol):
    """A connection.

    @ivar stranger: it has not logged in, nor brought mail.
    """

    stranger: bool


Displace = Callable[[Guest], None]


class Strangers:
    """Those who may have to go, oldest first.

    @param seconds: the clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        # Dicts keep the order of coming.
        self._by_network: dict[str, dict[Guest, Displace]] = {}
        self._since: dict[Guest, tuple[float, str]] = {}

    def __len__(self) -> int:
        """How many there are, and those that are strangers no more."""
        return len(self._since)

    def add(self, network: str, guest: Guest, displace: Displace) -> None:
        """A connection came.

        @param displace: ends it; called without L{remove} being needed.
        """
        self._by_network.setdefault(network, {})[guest] = displace
        self._since[guest] = self._seconds(), network

    def remove(self, guest: Guest) -> None:
        """It ended; it need not be there any more."""
        if guest in self._since:
            self._take(guest)

    def displace(self, newcomer: str) -> bool:
        """Make room.

        @param newcomer: the network of the connection that needs it.
        @return: whether one was ended.
        """
        guest = self._crowding(newcomer) or self._overdue()
        if guest is None:
            return False
        self._take(guest)(guest)
        return True

    def _crowding(self, newcomer: str) -> Guest | None:
        """One of the network with the most. Looked for only when the house is full:
        130 us among 2,000 networks."""
        while self._by_network:
            network = max(
                self._by_network, key=lambda name: len(self._by_network[name])
            )
            guests = self._by_network[network]
            if len(guests) <= len(self._by_network.get(newcomer, ())) + 1:
                return None
            guest = self._first(guests)
            if guest is not None:
                return guest
        return None

    def _overdue(self) -> Guest | None:
        guest = self._first(self._since)
        if guest is not None and self._seconds() - self._since[guest][0] >= _TIME_S:
            return guest
        return None

    def _first(self, guests: Mapping[Guest, object]) -> Guest | None:
        """The oldest that is still a stranger; those before it are forgotten."""
        while guests:
            guest = next(iter(guests))
            if guest.stranger:
                return guest
            self._take(guest)
        return None

    def _take(self, guest: Guest) -> Displace:
        _, network = self._since.pop(guest)
        guests = self._by_network[network]
        displace = guests.pop(guest)
        if not guests:
            del self._by_network[network]
        return displace
