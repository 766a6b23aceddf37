"""MTA-STS policies: which hosts take a domain's mail, always with TLS (RFC 8461).

A pure reader of what a domain says in the DNS and over HTTPS. It trusts neither: what
is not as the RFC says is no policy, and what is too long is not read on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

#: Octets of a policy (RFC 8461 3.3 speaks of 64 KB), and
OCTETS_MOST = 64 * 1024
# of its hosts: Google's has 5.
_HOSTS_MOST = 100

# RFC 8461 3.2: a year and a day.
_AGE_MOST_S = 31_557_600

_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_HOST = re.compile(r"(?:\*\.)?[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")


class Mode(Enum):
    """What is done about a host that is not right."""

    ENFORCE = "enforce"  # it gets no mail
    TESTING = "testing"  # it gets mail, and the domain hears of it (RFC 8460)
    NONE = "none"  # nothing: the domain wants to be rid of its policy


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A policy.

    @ivar hosts: patterns of the mail exchangers' names, lower case.
    @ivar age_s: how long it holds from when it was fetched.
    """

    mode: Mode
    hosts: tuple[str, ...]
    age_s: int

    def names(self, host: str) -> bool:
        """Whether a host is one of the domain's (RFC 8461 4.1): C{*} stands for one
        label."""
        host = host.lower()
        above = host.partition(".")[2]
        return host in self.hosts or (bool(above) and f"*.{above}" in self.hosts)

    @property
    def strings(self) -> tuple[str, ...]:
        """Its lines, as L{read} takes them."""
        return (
            "version: STSv1",
            f"mode: {self.mode.value}",
            *(f"mx: {host}" for host in self.hosts),
            f"max_age: {self.age_s}",
        )


def announced(texts: Iterable[bytes]) -> str | None:
    """The id of the policy that a domain says it has (RFC 8461 3.1), from the TXT
    records of C{_mta-sts.DOMAIN}; C{None} if it says nothing that can be understood."""
    records = [one for one in texts if one.partition(b";")[0].strip() == b"v=STSv1"]
    if len(records) != 1:
        return None
    for field in records[0].decode("ascii", "replace").split(";")[1:]:
        name, _, value = field.partition("=")
        if name.strip() == "id":  # of fields that come twice the first counts
            id = value.strip()
            return id if _ID.fullmatch(id) else None
    return None


def read(octets: bytes) -> StsPolicy:
    """A policy as its domain's Web server has it (RFC 8461 3.2).

    @raise ValueError: it is none, and why.
    """
    if len(octets) > OCTETS_MOST:
        raise ValueError("it is too long")
    fields: dict[str, str] = {}
    hosts: dict[str, None] = {}
    for line in octets.decode("utf-8", "replace").splitlines():
        if not line.strip():
            continue
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon:
            raise ValueError("a line has no colon")
        if name == "mx":
            hosts[_host(value)] = None
        else:
            fields.setdefault(name, value)  # RFC 8461 3.2: the first counts
    if fields.get("version") != "STSv1":
        raise ValueError("its version is not STSv1")
    try:
        mode = Mode(fields.get("mode", ""))
    except ValueError:
        raise ValueError("its mode is not enforce, testing or none")
    if len(hosts) > _HOSTS_MOST:
        raise ValueError("it has too many hosts")
    if not hosts and mode is not Mode.NONE:
        raise ValueError("it names no host")
    return StsPolicy(mode, tuple(hosts), _age(fields.get("max_age", "")))


def _host(value: str) -> str:
    if len(value) > 255 or not _HOST.fullmatch(value):
        raise ValueError("it names what is no host")
    return value.lower()


def _age(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", value):
        raise ValueError("its max_age is no number of up to 10 digits")
    # A longer one is not what the RFC allows; a year of it is what it can be.
    return min(int(value), _AGE_MOST_S)
