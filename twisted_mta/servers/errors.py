"""The one table: how each domain error reads in each protocol.

Errors of L{twisted_mta.errors} carry a status and a text; what a client of SMTP,
IMAP or POP3 is told of them beyond that is here. A class that is not in the
table reads like the nearest of its bases that is.
"""

from typing import NamedTuple

from twisted_mta import errors
from twisted_mta.errors import MailError
from twisted_mta.mail.reply import Reply
from twisted_mta.wire.sasl import MalformedResponse


class Rendering(NamedTuple):
    """How an error reads.

    @ivar smtp: the reply code (RFC 5321 4.2.3, RFC 4954 6).
    @ivar imap: the response code of a NO (RFC 3501 7.1, RFC 5530), or empty.
    @ivar pop3: the response code of a -ERR (RFC 2449 8, RFC 3206), or empty.
    """

    smtp: int
    imap: str = ""
    pop3: str = ""


_TABLE: dict[type[MailError], Rendering] = {
    MailError: Rendering(451, "UNAVAILABLE", "SYS/TEMP"),
    errors.Temporary: Rendering(451, "UNAVAILABLE", "SYS/TEMP"),
    errors.Unverified: Rendering(450, "UNAVAILABLE", "SYS/TEMP"),
    # Not OVERQUOTA: whoever reads it is not the one who can make room.
    errors.LedgerFull: Rendering(452, "UNAVAILABLE", "SYS/TEMP"),
    errors.AuthenticationUnavailable: Rendering(454, "UNAVAILABLE", "SYS/TEMP"),
    errors.Permanent: Rendering(550),
    errors.AuthenticationFailed: Rendering(535, "AUTHENTICATIONFAILED", "AUTH"),
    errors.AuthenticationCancelled: Rendering(501),
    errors.UnknownMechanism: Rendering(504, "CANNOT"),
    MalformedResponse: Rendering(501),
    errors.NotPermitted: Rendering(550, "NOPERM"),  # another login might
    errors.InboxNeeded: Rendering(550, "CANNOT"),  # nobody ever can
    errors.TooLarge: Rendering(552, "TOOBIG"),  # RFC 4469 4.2
    errors.OverQuota: Rendering(552, "OVERQUOTA"),
    errors.MailLoop: Rendering(554),
    errors.BadContent: Rendering(554),
    errors.NoSuchMailbox: Rendering(550, "NONEXISTENT"),
    errors.MailboxExists: Rendering(550, "ALREADYEXISTS"),
    errors.BadMailboxName: Rendering(550, "CANNOT"),
    errors.MailboxHasChildren: Rendering(550, "HASCHILDREN"),  # RFC 9051 7.1
    errors.NoSuchMessage: Rendering(550, "EXPUNGEISSUED"),
    errors.TooMany: Rendering(550, "LIMIT"),
}


def rendering(error: MailError) -> Rendering:
    """How this error reads."""
    for kind in type(error).__mro__:
        if kind in _TABLE:
            return _TABLE[kind]
    raise TypeError(f"not a MailError: {error!r}")


def smtp(error: MailError) -> Reply:
    """The reply that says this error."""
    return Reply(rendering(error).smtp, error.status, (error.text,))


def imap(error: MailError) -> tuple[bytes, str]:
    """The response code, which may be empty, and the text of a NO."""
    return rendering(error).imap.encode(), error.text


def pop3(error: MailError) -> tuple[str, str]:
    """The response code, which may be empty, and the text of a -ERR."""
    return rendering(error).pop3, error.text
