"""The octets of a message on their way out."""

from __future__ import annotations

from collections.abc import AsyncIterator

from twisted_mta.interfaces import IContent
from twisted_mta.mail.job import Job

#: Content is read and sent in runs of this size.
RUN_OCTETS = 64 * 1024


class Original:
    """A message as it came, its prefix first.

    @ivar size: octets.
    """

    def __init__(self, job: Job, content: IContent) -> None:
        self.size = job.size
        self._prefix = job.prefix
        self._content = content

    async def runs(self) -> AsyncIterator[bytes]:
        """All of it."""
        yield self._prefix
        offset = 0
        while offset < self._content.size:
            run = await self._content.read(offset, RUN_OCTETS)
            offset += len(run)
            yield run

    async def read(self, offset: int, most: int) -> bytes:
        """Up to C{most} octets from C{offset}; fewer only at the end."""
        begin = self._prefix[offset : offset + most]
        if len(begin) == most:
            return begin
        behind = max(0, offset - len(self._prefix))
        return begin + await self._content.read(behind, most - len(begin))
