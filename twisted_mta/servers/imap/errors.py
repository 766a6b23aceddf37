"""What IMAP says of the domain errors: the response code of a tagged NO.

The codes are RFC 5530's but where another is named. An error's own text follows
the code, so nothing is worded here; what is no domain error is a bug and never
comes this way.
"""

from twisted_mta import errors

#: The nearest class in an error's ancestry counts; C{b""}: no code fits.
CODES: dict[type[errors.MailError], bytes] = {
    errors.Temporary: b"UNAVAILABLE",
    errors.AuthenticationFailed: b"AUTHENTICATIONFAILED",
    errors.NotPermitted: b"CANNOT",
    errors.TooLarge: b"TOOBIG",  # RFC 4469
    errors.OverQuota: b"OVERQUOTA",
    errors.NoSuchMailbox: b"NONEXISTENT",
    errors.MailboxExists: b"ALREADYEXISTS",
    errors.BadMailboxName: b"CANNOT",
    errors.MailboxHasChildren: b"HASCHILDREN",  # RFC 9051
    errors.NoSuchMessage: b"EXPUNGEISSUED",
    errors.TooMany: b"LIMIT",
    errors.MailError: b"",
}


def code(error: errors.MailError) -> bytes:
    """The response code of an error, or C{b""}."""
    for ancestor in type(error).__mro__:
        found = CODES.get(ancestor)
        if found is not None:
            return found
    return b""


class Refused(Exception):
    """A command that is answered with NO or BAD for reasons of IMAP alone.

    @ivar condition: C{b"NO"} or C{b"BAD"}.
    """

    def __init__(self, text: str, code: bytes = b"", condition: bytes = b"NO") -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.condition = condition


class Leave(Exception):
    """The session is over.

    @ivar goodbye: octets to write before the connection closes, if any.
    """

    def __init__(self, goodbye: bytes = b"") -> None:
        super().__init__("the session is over")
        self.goodbye = goodbye
