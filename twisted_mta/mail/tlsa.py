"""TLSA records: what the DNS says of a server's certificate (RFC 6698, RFC 7671).

Values only. Whether a certificate fits is for L{twisted_mta.net.verification} to say,
whether the DNS may be believed for the resolver.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

# Octets of a digest by matching type (RFC 6698 2.1.3); 0 is no digest but all of it.
_DIGESTS = {1: 32, 2: 64}

#: Records of one host that are looked at. A host that renews its key has 2 to 4.
MOST = 32


class Usage(IntEnum):
    """What a record is of; the two that mail knows (RFC 7672 3.1)."""

    TA = 2  # an authority above the certificate
    EE = 3  # the certificate itself


class Selector(IntEnum):
    """What of a certificate is compared."""

    CERTIFICATE = 0
    KEY = 1


@dataclass(frozen=True, slots=True, order=True)
class Tlsa:
    """One record, as numbers, since the DNS may say any.

    @ivar matching: 0: C{data} is the thing itself; 1: its SHA-256; 2: its SHA-512.
    """

    usage: int
    selector: int
    matching: int
    data: bytes

    @property
    def usable(self) -> bool:
        """Whether mail can be delivered by it. A record that is none still says that
        there is TLS (RFC 7672 2.2)."""
        if self.usage not in (Usage.TA, Usage.EE):
            return False  # RFC 7672 3.1.3: those of the Web's authorities are not
        if self.selector not in (Selector.CERTIFICATE, Selector.KEY):
            return False
        if self.matching == 0:
            return bool(self.data)
        return _DIGESTS.get(self.matching) == len(self.data)

    def __str__(self) -> str:
        return f"{self.usage} {self.selector} {self.matching} {self.data.hex()}"


def best(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    """Those that a certificate is compared with: the usable ones, and of digests of the
    same thing those of the strongest algorithm (RFC 7671 9)."""
    usable = [one for one in records if one.usable]
    strongest: dict[tuple[int, int], int] = {}
    for one in usable:
        thing = one.usage, one.selector
        strongest[thing] = max(one.matching, strongest.get(thing, 0))
    return tuple(
        one for one in usable if one.matching in (0, strongest[one.usage, one.selector])
    )


#: Stands for records whose form is wrong: they are there, and of no use.
UNREADABLE = Tlsa(255, 255, 255, b"")
