"""Who is here: VRFY and EXPN (RFC 5321 3.5), for those who may ask."""

from __future__ import annotations

import re
from collections.abc import Sequence

from twisted_mta.errors import NoSuchAccount, NoSuchDomain
from twisted_mta.interfaces import IDirectory, IRouter
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.reply import Reply
from twisted_mta.servers.smtp import reply
from twisted_mta.servers.smtp.reply import made, render

# Members that one answer has at most: a reply has 128 lines in our own client.
_MEMBERS = 100

# RFC 6531 3.7.4.2: the answer may be in UTF-8.
_UTF8 = re.compile(r"(?i)\s+SMTPUTF8\s*$")


class Inquiry:
    """Answers."""

    def __init__(self, router: IRouter, directory: IDirectory) -> None:
        self._router = router
        self._directory = directory

    async def account(self, login: str) -> Account | None:
        """Whose a login is, C{None} if nobody's."""
        try:
            return await self._directory.account(split(login))
        except ValueError:
            return None

    async def verify(self, who: str) -> bytes:
        """Whether mail for somebody would be taken."""
        try:
            address = _address(who)
            resolved = await self._router.route(address)
        except ValueError:
            return reply.CANNOT_VERIFY  # a name: we know addresses
        except (NoSuchAccount, NoSuchDomain):
            return _UNKNOWN
        if not resolved.local or resolved.relayed or resolved.ask:
            return reply.CANNOT_VERIFY
        if not _may_name((address,), who):
            return _VERIFIED_UTF8
        return made(250, "2.1.5", f"<{address}>")

    async def expand(self, what: str) -> bytes:
        """Whom an alias leads to, one step."""
        try:
            address = _address(what)
        except ValueError:
            return _UNKNOWN
        targets = await self._directory.aliases(address)
        if not targets:
            if await self._directory.account(address) is None:
                return _UNKNOWN
            targets = (address,)
        if not _may_name(targets, what):
            return _EXPANDED_UTF8
        shown = [f"<{target}>" for target in targets[:_MEMBERS]]
        if len(targets) > _MEMBERS:
            shown.append(f"and {len(targets) - _MEMBERS} more")
        return render(Reply(250, "2.1.5", tuple(shown)))


_UNKNOWN = made(550, "5.1.1", "Nobody here has that address")
# RFC 6531 3.7.4.2, statuses of RFC 5248's registry.
_VERIFIED_UTF8 = made(252, "2.6.8", "The answer needs SMTPUTF8")
_EXPANDED_UTF8 = made(550, "5.6.8", "The answer needs SMTPUTF8")


def _may_name(addresses: Sequence[Address], asked: str) -> bool:
    """Whether the client can read these addresses."""
    return all(each.ascii for each in addresses) or bool(_UTF8.search(asked))


def _address(text: str) -> Address:
    """@raise ValueError: it is none."""
    text = _UTF8.sub("", text)
    return split(text.strip().removeprefix("<").removesuffix(">"))
