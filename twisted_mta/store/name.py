"""Names of mailboxes, for every backend: levels separated by C{/}, one INBOX.

It trusts nothing about a name: whatever passes L{canonical} can be kept in a
database or become a path of directories without leading elsewhere. What a name
looks like on the wire (modified UTF-7) is not known here.
"""

import re

from twisted_mta.errors import BadMailboxName

SEPARATOR = "/"
INBOX = "INBOX"

#: Levels (Dovecot: 20) and octets of a level (what a file system takes: 255).
MAX_LEVELS = 20
MAX_LEVEL_OCTETS = 255

# Controls, and halves of surrogate pairs, which no encoding can write.
_BAD = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def canonical(name: str) -> str:
    """The one spelling of a name: a first level INBOX of any case in capitals
    (RFC 3501 5.1), everything else as it is.

    @raise BadMailboxName: an empty level, C{.} or C{..} as a level (backends
        that keep files), a control character, too long or too deep.
    """
    levels = name.split(SEPARATOR)
    if len(levels) > MAX_LEVELS or _BAD.search(name):
        raise BadMailboxName()
    for level in levels:
        if level in ("", ".", "..") or len(level.encode()) > MAX_LEVEL_OCTETS:
            raise BadMailboxName()
    if levels[0].upper() == INBOX:
        levels[0] = INBOX
    return SEPARATOR.join(levels)


def levels_above(name: str) -> list[str]:
    """The superior names, outermost first."""
    levels = name.split(SEPARATOR)
    return [SEPARATOR.join(levels[:count]) for count in range(1, len(levels))]


def is_inferior(name: str, superior: str) -> bool:
    """Whether a name lies below another."""
    return name.startswith(superior + SEPARATOR)


def listing_key(name: str) -> tuple[bool, str]:
    """By what listings are sorted: INBOX first, then by name."""
    return name != INBOX, name
