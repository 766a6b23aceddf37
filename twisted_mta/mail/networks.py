"""Networks of the Internet that the config names, and who is in them."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network


class Networks:
    """Some networks, such as C{192.0.2.0/24}; an address by itself is one, too.

    @raise ValueError: one is none.
    """

    __slots__ = ("_networks",)

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(
            map(ip_network, texts)
        )

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._networks)

    def __contains__(self, host: str) -> bool:
        """Whether an address, as text, is in one of them; a unix socket is not."""
        if not self._networks:
            return False
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(
            address.version == network.version and address in network
            for network in self._networks
        )


NOBODY = Networks()
