"""What a server offers in its answer to EHLO (RFC 5321 4.1.1.1), read.

It trusts no server: words that are none, and numbers out of bounds, count as not
said.
"""

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from functools import lru_cache

from twisted_mta.mail.reply import Reply

# RFC 9422 3: at most six digits, and no limit is 0.
_LIMIT = re.compile(r"([A-Z0-9\-]{1,30})=([1-9][0-9]{0,5})")
_MOST_SECONDS = re.compile(r"[0-9]{1,9}")  # RFC 2852 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes over one connection (RFC 9422); C{None}: not said.

    @ivar recipients: in one transaction (RCPTMAX).
    @ivar transactions: how many of them (MAILMAX).
    @ivar domains: of all recipients together (RCPTDOMAINMAX).
    """

    recipients: int | None = None
    transactions: int | None = None
    domains: int | None = None


UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server offers.

    @ivar keywords: each in upper case with its parameters, in upper case too.
    """

    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    def without(self, keywords: Set[str]) -> "Capabilities":
        """All but some."""
        return Capabilities(
            {word: has for word, has in self.keywords.items() if word not in keywords}
        )

    @property
    def size(self) -> int | None:
        """The largest message in octets (RFC 1870); C{None} if not said, and
        also for 0, which is no limit."""
        for word in self.keywords.get("SIZE", ())[:1]:
            if word.isascii() and word.isdigit() and len(word) <= 20:
                return int(word) or None
        return None

    @property
    def auth(self) -> frozenset[str]:
        """The SASL mechanisms (RFC 4954)."""
        return frozenset(self.keywords.get("AUTH", ()))

    @property
    def limits(self) -> Limits:
        """RFC 9422."""
        words = self.keywords.get("LIMITS")
        return UNLIMITED if words is None else _limits(words)

    @property
    def soonest_s(self) -> int:
        """The shortest time in which it delivers, in seconds (RFC 2852 2)."""
        for word in self.keywords.get("DELIVERBY", ())[:1]:
            if _MOST_SECONDS.fullmatch(word):
                return int(word)
        return 0


@lru_cache(maxsize=64)
def _limits(words: tuple[str, ...]) -> Limits:
    said = [match for word in words if (match := _LIMIT.fullmatch(word))]
    limits = {match[1]: int(match[2]) for match in said}
    return Limits(
        limits.get("RCPTMAX"), limits.get("MAILMAX"), limits.get("RCPTDOMAINMAX")
    )


def capabilities(reply: Reply) -> Capabilities:
    """Read the answer to EHLO (RFC 5321 4.1.1.1); lines that are no keyword are
    passed over."""
    keywords: dict[str, tuple[str, ...]] = {}
    for line in reply.lines[1:]:
        line = line.upper()
        if line.startswith("AUTH="):  # as some servers said it before RFC 2554
            line = line.replace("=", " ", 1)
        words = line.split()
        if words:
            keyword, *values = words
            keywords[keyword] = (*keywords.get(keyword, ()), *values)
    return Capabilities(keywords)
