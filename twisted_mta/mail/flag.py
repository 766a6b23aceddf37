"""Flags and keywords of messages (RFC 3501 2.3.2), each with one spelling.

Flags compare without regard to case on the wire, but are kept in sets of
strings; so every flag that enters is given its canonical spelling here.
"""

import re

SEEN = "\\Seen"
ANSWERED = "\\Answered"
FLAGGED = "\\Flagged"
DELETED = "\\Deleted"
DRAFT = "\\Draft"
#: Told by the session, never stored and never set by a client.
RECENT = "\\Recent"

#: The flags that a client may set, in the order of RFC 3501.
SYSTEM = (ANSWERED, FLAGGED, DELETED, SEEN, DRAFT)

#: Dovecot: keywords of at most 50 characters.
KEYWORD_LENGTH = 50

# Spellings that clients look for, some of them with regard to case: IANA's
# registry of keywords, Thunderbird's and Apple Mail's own. Any other keyword is
# kept in lower case, as JMAP does (RFC 8621 4.1.1).
_KNOWN = (
    *SYSTEM,
    "$Forwarded",
    "$MDNSent",
    "$Junk",
    "$NotJunk",
    "$Phishing",
    "$Important",
    "$Submitted",
    "$SubmitPending",
    "$MailFlagBit0",
    "$MailFlagBit1",
    "$MailFlagBit2",
    "Forwarded",
    "Junk",
    "NonJunk",
    "NotJunk",
    "Redirected",
)
_CANONICAL = {flag.lower(): flag for flag in _KNOWN}

# RFC 3501 9, flag-keyword = atom.
_KEYWORD = re.compile(r"[^\x00-\x20\x7f-\U0010ffff(){%*\"\\\]]+")


class KeywordTooLong(ValueError):
    """A keyword has more than L{KEYWORD_LENGTH} characters."""


def canonical(flag: str) -> str:
    """The one spelling of a flag that a client wants to set or to look for.

    @raise KeywordTooLong: it is a keyword, but too long.
    @raise ValueError: no flag can have this name, or none that may be set,
        such as \\Recent.
    """
    known = _CANONICAL.get(flag.lower())
    if known is not None:
        return known
    if not _KEYWORD.fullmatch(flag):
        raise ValueError("not a flag")
    if len(flag) > KEYWORD_LENGTH:
        raise KeywordTooLong("keyword too long")
    return flag.lower()
