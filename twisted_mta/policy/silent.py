"""A policy that has no opinion, to derive from."""

from zope.interface import implementer

from twisted_mta.interfaces import IPolicy
from twisted_mta.mail.verdict import Progress, Verdict


@implementer(IPolicy)
class Silent:
    """Says nothing at any stage; who derives from it says something at some.

    @param name: for the log.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    async def connect(self, progress: Progress) -> Verdict | None:
        return None

    async def helo(self, progress: Progress) -> Verdict | None:
        return None

    async def mail(self, progress: Progress) -> Verdict | None:
        return None

    async def rcpt(self, progress: Progress) -> Verdict | None:
        return None

    async def message(self, progress: Progress) -> Verdict | None:
        return None
