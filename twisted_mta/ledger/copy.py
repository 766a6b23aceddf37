"""A second content with the octets of a first, which belongs to a commit."""

from twisted_mta.errors import LedgerUnavailable
from twisted_mta.interfaces import IContent, IContentWriter

# What is copied at once.
_RUN_OCTETS = 64 * 1024


async def copy(content: IContent, to: IContentWriter) -> None:
    """Write all of a content into another, and finish that.

    @raise MailError: it cannot be read, or not be written.
    """
    offset = 0
    while offset < content.size:
        run = await content.read(offset, _RUN_OCTETS)
        if not run:
            raise LedgerUnavailable("The content ends before its end")
        to.write(run)
        offset += len(run)
    await to.finish()
