"""Who is here: VRFY and EXPN (RFC 5321 3.5), for those who may ask."""

from __future__ import annotations

from twisted_mta.errors import NoSuchAccount, NoSuchDomain
from twisted_mta.interfaces import IDirectory, IRouter
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.reply import Reply
from twisted_mta.servers.smtp import reply
from twisted_mta.servers.smtp.reply import made, render

# Members that one answer has at most: a reply has 128 lines in our own client.
_MEMBERS = 100


class Inquiry:
    """Answers."""

    def __init__(self, router: IRouter, directory: IDirectory) -> None:
        self._router = router
        self._directory = directory

    async def verify(self, who: str) -> bytes:
        """Whether mail for somebody would be taken."""
        try:
            address = _address(who)
            resolved = await self._router.route(address)
        except ValueError:
            return reply.CANNOT_VERIFY  # a name: we know addresses
        except (NoSuchAccount, NoSuchDomain):
            return _UNKNOWN
        if not resolved.local:
            return reply.CANNOT_VERIFY
        return made(250, "2.1.5", f"<{address}>")

    async def expand(self, what: str) -> bytes:
        """Whom an alias leads to, one step."""
        try:
            address = _address(what)
        except ValueError:
            return _UNKNOWN
        targets = await self._directory.aliases(address)
        if targets:
            shown = [f"<{target}>" for target in targets[:_MEMBERS]]
            if len(targets) > _MEMBERS:
                shown.append(f"and {len(targets) - _MEMBERS} more")
            return render(Reply(250, "2.1.5", tuple(shown)))
        if await self._directory.account(address) is not None:
            return made(250, "2.1.5", f"<{address}>")
        return _UNKNOWN


_UNKNOWN = made(550, "5.1.1", "Nobody here has that address")


def _address(text: str) -> Address:
    """@raise ValueError: it is none."""
    return split(text.strip().removeprefix("<").removesuffix(">"))
