"""Messages that hold more than text (RFC 3030).

Binary content goes on as it is to other servers. Into mailboxes it goes with its binary
parts in base64: neither POP3 nor IMAP's FETCH can carry a NUL (RFC 3501 9, CHAR8), or
lines that do not end.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted_mta.errors import BadContent
from twisted_mta.interfaces import IContentWriter, IIntake
from twisted_mta.mail.conversion import convert
from twisted_mta.mail.downgrade import Level, Unconvertible
from twisted_mta.mail.route import RELEASE, Route, ToMailbox
from twisted_mta.wire.smtp.extension import Offer


def binary(offer: Offer) -> bool:
    """Whether binary content is taken: it cannot come with DATA, and BODY says so."""
    return offer.keywords >= {"BINARYMIME", "CHUNKING", "8BITMIME"}


def in_mailboxes(routes: Sequence[Route]) -> bool:
    """Whether some of it stays here, or may when it is released."""
    return any(
        isinstance(route, ToMailbox) or route.agent == RELEASE for route in routes
    )


async def readable(content: IContentWriter, intake: IIntake) -> IContentWriter:
    """Binary content as it can be read here.

    @param content: finished; aborted.
    @return: another, finished.
    @raise BadContent: it cannot be made so.
    @raise MailError: there is no room for it.
    """
    made = intake.content()
    try:
        conversion = await convert(content, Level.EIGHT_BIT, binary=True)
        async for run in conversion.runs():
            made.write(run)
        await made.finish()
    except Unconvertible as error:
        made.abort()
        raise BadContent(f"Binary content that cannot be converted: {error}")
    except BaseException:
        made.abort()
        raise
    content.abort()
    return made
