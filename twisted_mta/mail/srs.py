"""Return addresses of forwarded mail (SRS, the Sender Rewriting Scheme), as values.

What an address of ours sends on comes from us, not from its author's servers, and SPF
(RFC 7208) says so. So its sender becomes an address of ours that holds the author's:
C{SRS0=HHHH=TT=example.net=bob@ours}. A bounce to it is sent on to the author. If the
sender is such an address of another forwarder already, ours leads to that one alone,
C{SRS1=HHHH=other.example==HHHH=TT=example.net=bob@ours}, however many there were.

The form, the hash and the time stamp are those of libsrs2 and postsrsd: HMAC-SHA1 of
what stands in the address in lower case, 4 characters of its base64; days in base32.
Programs on the way may change the case of letters, so that it does not count. The
module knows no secrets and no clock.
"""

import base64
import hashlib
import hmac

from twisted_mta.mail.address import Address
from twisted_mta.mail.domain import known_as

#: How long such an address is good, in days. libsrs2, postsrsd: 21.
DAYS = 21

# Octets of an address. RFC 5321 4.5.3.1.1 has 64 for a local part, which no address
# with another in it keeps to; servers in use (Postfix, Exim, Gmail) hold to the 256 of
# a path alone, of which two are its angle brackets.
_ADDRESS_MOST = 254

# libsrs2: SRS_HASH_LENGTH; postsrsd: the same. 38 characters when case is folded: one
# of two million guesses is right, and each wrong one is an error of the client.
_HASH = 4

_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_TIMES = len(_BASE32) ** 2
_DAY_S = 86400

# What may stand behind the tag of others; ours is the first.
_SEPARATORS = ("=", "+", "-")


class Forged(ValueError):
    """The address is not one that was made with any of the secrets."""


class Outdated(ValueError):
    """It was made here, too long ago."""


def is_return(local: str) -> bool:
    """Whether a local part is a return address by its form; of whom is not said."""
    return local[4:5] == "=" and local[:4].upper() in ("SRS0", "SRS1")


def forward(sender: Address, domain: str, secret: bytes, now: float) -> Address:
    """A sender's return address.

    @param domain: ours, as A-labels.
    @param now: seconds since the epoch.
    @raise ValueError: it would be longer than addresses are.
    """
    local = _guarded(sender, secret) or _first(sender, secret, now)
    made = Address(local, domain)
    if len(str(made).encode()) > _ADDRESS_MOST:
        raise ValueError("the return address would be too long")
    return made


def reverse(local: str, secrets: list[bytes], now: float) -> Address:
    """Where mail for a return address of ours goes.

    @param secrets: that may have made it.
    @raise Forged: none of them has.
    @raise Outdated: it is too old.
    """
    tag, rest = local[:4].upper(), local[5:]
    if tag == "SRS1":
        hashed, host, user = _split(rest, 3)
        _check(hashed, secrets, host, user)
        return Address("SRS0" + user, host.lower())
    hashed, stamp, host, user = _split(rest, 4)
    _check(hashed, secrets, stamp, host, user)
    if (_day(now) - _number(stamp)) % _TIMES > DAYS:
        raise Outdated("the return address is too old")
    return Address(user, host.lower())


def _first(sender: Address, secret: bytes, now: float) -> str:
    host, day = known_as(sender.domain), _day(now)
    stamp = _BASE32[day >> 5] + _BASE32[day & 31]
    hashed = _hash(secret, stamp, host, sender.local)
    return f"SRS0={hashed}={stamp}={host}={sender.local}"


def _guarded(sender: Address, secret: bytes) -> str:
    """Of a sender that is a return address already; empty if it is none."""
    local = sender.local
    tag, separator, rest = local[:4].upper(), local[4:5], local[5:]
    if separator not in _SEPARATORS or not rest:
        return ""
    host, user = known_as(sender.domain), separator + rest
    if tag == "SRS1":
        parts = rest.split("=", 2)
        if len(parts) < 3 or parts[2][:1] not in _SEPARATORS:
            return ""
        host, user = parts[1], parts[2]
    elif tag != "SRS0":
        return ""
    return f"SRS1={_hash(secret, host, user)}={host}={user}"


def _split(rest: str, count: int) -> list[str]:
    parts = rest.split("=", count - 1)
    if len(parts) != count or not all(parts):
        raise Forged("not a return address")
    return parts


def _check(hashed: str, secrets: list[bytes], *words: str) -> None:
    given = hashed.lower().encode()
    for secret in secrets:
        if hmac.compare_digest(_hash(secret, *words).lower().encode(), given):
            return
    raise Forged("the return address was not made here")


def _hash(secret: bytes, *words: str) -> str:
    octets = "".join(words).lower().encode()
    return base64.b64encode(hmac.digest(secret, octets, hashlib.sha1)).decode()[:_HASH]


def _day(now: float) -> int:
    return int(now // _DAY_S) % _TIMES


def _number(stamp: str) -> int:
    number = 0
    for char in stamp.upper():
        number = number << 5 | _BASE32.index(char)
    return number
