"""What the DNS says of where mail goes, and whether that is authentic.

Authentic means that a server which validates (DNSSEC) has found it so, and that the
operator trusts that server and the way to it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exchange:
    """The mail exchangers of a domain.

    @ivar records: preferences and hosts, by preference; empty if the domain exists
        without any.
    @ivar name: the domain that has them, aliases followed.
    @ivar secure: authentic, aliases included.
    """

    records: tuple[tuple[int, str], ...]
    name: str = ""
    secure: bool = False


@dataclass(frozen=True, slots=True)
class Located:
    """The addresses of a host.

    @ivar name: the host that has them, aliases followed.
    @ivar secure: authentic, aliases included.
    @ivar alias_secure: that is not so, but the host's name is an alias, and that is
        authentic: then the alias itself may have TLSA records (RFC 7672 2.2.2).
    """

    addresses: tuple[str, ...]
    name: str = ""
    secure: bool = False
    alias_secure: bool = False
