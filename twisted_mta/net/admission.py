"""How many connections there may be: in all, and from one network.

It counts and knows no sockets. One Admission is shared by whatever shall share
a limit (all listeners of a protocol, say); several processes share one by the
L{tally <twisted_mta.net.tally>} that it counts with. A whole process has one more
around those, so that the descriptors that the rest of the server needs stay free.
"""

from __future__ import annotations

import resource
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from twisted_mta.net.tally import ITally, Tally

# Descriptors kept from clients: the ledger, its files of content, DNS, the
# connections of the queue (100), and what Python has open.
_RESERVED = 192

#: Why a connection may not stay when no network is to blame.
FULL = "too many connections"


@lru_cache(maxsize=4096)
def network(host: str) -> str:
    """The network that one customer of a provider has, by which clients are
    counted: an IPv4 address itself, the /64 of an IPv6 address (RFC 6177).

    @param host: an address as text; anything else (a unix socket) is its own.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)


def descriptors() -> int:
    """How many connections this process can have: its limit of open files,
    less what the rest of the server needs; at least a quarter of the limit."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return 1 << 20
    return max(limit - _RESERVED, limit // 4)


class Admission:
    """Counts connections and refuses those past a limit.

    @ivar count: how many there are, of this process.
    """

    def __init__(
        self,
        most: int,
        most_per_network: int | None = None,
        within: Admission | None = None,
        tally: ITally | None = None,
    ) -> None:
        """
        @param most: in all.
        @param most_per_network: from one L{network}; C{None}: as many as in
            all. Unix sockets do not count as a network.
        @param within: a wider one, which must admit them as well.
        @param tally: what counts; C{None}: this process alone.
        """
        self.count = 0
        self._most = most
        self._most_per_network = most if most_per_network is None else most_per_network
        self._within = within
        self._tally = Tally() if tally is None else tally

    def enter(self, host: str) -> str:
        """A connection came.

        @param host: its address, empty for a unix socket.
        @return: empty, and L{leave} must be called when it ends; or why it may
            not stay.
        """
        # Counted first: of two that come at the same moment to two processes
        # perhaps none gets the last place, but never both.
        key = network(host)
        refused = self._enter(key)
        if not refused and self._within is not None:
            refused = self._within.enter(host)
            if refused:
                self._leave(key)
        if not refused:
            self.count += 1
        return refused

    def leave(self, host: str) -> None:
        """A connection that was admitted ended."""
        self.count -= 1
        self._leave(network(host))
        if self._within is not None:
            self._within.leave(host)

    def _enter(self, key: str) -> str:
        add = self._tally.add
        if add("", 1) > self._most:
            refused = FULL
        elif key and add(key, 1) > self._most_per_network:
            refused = f"too many connections from {key}"
            add(key, -1)
        else:
            return ""
        add("", -1)
        return refused

    def _leave(self, key: str) -> None:
        self._tally.add("", -1)
        if key:
            self._tally.add(key, -1)
