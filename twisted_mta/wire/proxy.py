"""The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt): how a proxy
says for whom it connects.

It trusts nothing: a header is whole within so many octets or none, and what is none is
an error.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V1 = b"PROXY "
_V1_MOST = 107  # section 2.1, its line end included
# Of the addresses and what follows them (TLVs), which is passed over. Postfix reads
# 536 in all; AWS sends some 100.
_V2_MOST = 2048
_HEAD = len(_SIGNATURE) + 4

_TCP = re.compile(rb"TCP([46]) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) (\d{1,5}) (\d{1,5})")


class BadHeader(ValueError):
    """It is no PROXY header."""


@dataclass(frozen=True, slots=True)
class Proxied:
    """Who a connection is from.

    @ivar host: the client's address; empty: the proxy itself (a health check), or
        something that has no address.
    @ivar port: its port.
    @ivar length: octets of the header.
    """

    host: str
    port: int
    length: int


def read(octets: bytes) -> Proxied | None:
    """Read a header from the beginning of a connection.

    @return: C{None} if more has to come.
    @raise BadHeader: it is none.
    """
    if octets[: len(_SIGNATURE)] == _SIGNATURE[: len(octets)]:
        return _version_2(octets)
    if octets[: len(_V1)] == _V1[: len(octets)]:
        return _version_1(octets)
    raise BadHeader("no PROXY header")


def _version_1(octets: bytes) -> Proxied | None:
    line, end, _ = octets[:_V1_MOST].partition(b"\r\n")
    if not end:
        if len(octets) >= _V1_MOST or b"\n" in line:
            raise BadHeader("the header does not end")
        return None
    length = len(line) + 2
    said = line.removeprefix(_V1)
    if said == b"UNKNOWN" or said.startswith(b"UNKNOWN "):
        return Proxied("", 0, length)
    match = _TCP.fullmatch(said)
    if match is None:
        raise BadHeader("malformed")
    try:
        source = ip_address(match[2].decode())
        target = ip_address(match[3].decode())
    except ValueError:
        raise BadHeader("no address")
    port = int(match[4])
    if {source.version, target.version} != {int(match[1])} or port > 65535:
        raise BadHeader("malformed")
    return Proxied(str(source), port, length)


def _version_2(octets: bytes) -> Proxied | None:
    if len(octets) < _HEAD:
        return None
    command, family, size = struct.unpack_from("!BBH", octets, len(_SIGNATURE))
    if command not in (0x20, 0x21) or size > _V2_MOST:
        raise BadHeader("another version, or too long")
    length = _HEAD + size
    if len(octets) < length:
        return None
    # LOCAL (0x20): the proxy asks for itself. What is neither TCP nor UDP over IP has
    # no address that says anything here.
    if command == 0x20 or family not in _FAMILIES:
        return Proxied("", 0, length)
    form, address = _FAMILIES[family]
    if size < struct.calcsize(form):
        raise BadHeader("too short")
    source, _, port, _ = struct.unpack_from(form, octets, _HEAD)
    return Proxied(str(address(source)), port, length)


_FAMILIES: dict[int, tuple[str, type[IPv4Address] | type[IPv6Address]]] = {
    0x11: ("!4s4sHH", IPv4Address),
    0x21: ("!16s16sHH", IPv6Address),
}
