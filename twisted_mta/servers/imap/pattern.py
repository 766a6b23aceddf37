"""Patterns of LIST and LSUB (RFC 3501 6.3.8): C{*} matches anything, C{%}
anything within one level.

Whatever the pattern, a match costs one step for each character of the name: all
the places in the pattern that can be reached stand as bits in one number, so
C{%*%*%*} is no dearer than C{*}. It knows no mailboxes.
"""

import re

SEPARATOR = "/"
INBOX = "INBOX"

_WILDCARDS = re.compile(r"[%*]{2,}")
_INBOX_LEVEL = re.compile(r"inbox(?![^/%*])", re.IGNORECASE)


class Pattern:
    """A pattern that names are tried on.

    The C{n}th bit of a number stands for the place before the C{n}th character
    of the pattern, the last one for its end. No two wildcards are neighbours.
    """

    __slots__ = ("_any", "_end", "_inbox", "_level", "_literal")

    def __init__(self, pattern: str) -> None:
        pattern = _WILDCARDS.sub(lambda run: "*" if "*" in run[0] else "%", pattern)
        if _INBOX_LEVEL.match(pattern):
            pattern = INBOX + pattern[len(INBOX) :]
        self._any = self._level = 0
        self._literal: dict[str, int] = {}
        for place, character in enumerate(pattern):
            bit = 1 << place
            if character == "*":
                self._any |= bit
            elif character == "%":
                self._level |= bit
            else:
                self._literal[character] = self._literal.get(character, 0) | bit
        self._end = 1 << len(pattern)
        # INBOX is found whatever the case, by "in%" too.
        upper = pattern.upper()
        self._inbox = pattern != upper and Pattern(upper).matches(INBOX)

    def matches(self, name: str) -> bool:
        """Whether the pattern stands for this name."""
        if name == INBOX and self._inbox:
            return True
        places = self._past_wildcards(1)
        for character in name:
            stay = places & self._any
            if character != SEPARATOR:
                stay |= places & self._level
            move = (places & self._literal.get(character, 0)) << 1
            places = self._past_wildcards(stay | move)
            if not places:
                return False
        return places & self._end != 0

    def _past_wildcards(self, places: int) -> int:
        """A wildcard may stand for nothing."""
        return places | (places & (self._any | self._level)) << 1


def joined(reference: str, pattern: str) -> str:
    """A reference and a pattern as one: the second after the first; a pattern
    that starts with the separator stands for itself."""
    if pattern.startswith(SEPARATOR):
        return pattern.lstrip(SEPARATOR)
    return reference + pattern
