"""Who wants no more mail: what the suppression list means at RCPT.

Whoever submits is refused, in words that he can act on: it is his list that has to be
mended. Of what an address here sends on, only those ways are left out that lead to
somebody on the list, and only if the config says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from twisted_mta.interfaces import ISuppression
from twisted_mta.mail.address import Address
from twisted_mta.mail.reply import Reply
from twisted_mta.mail.route import Route, ToAgent
from twisted_mta.mail.suppressed import Suppressed
from twisted_mta.servers.smtp.client import Client
from twisted_mta.servers.smtp.reply import made, render

_WHY = {
    "hard_bounce": "Its server says that nobody has it",
    "complaint": "Its owner complained",
    "manual": "Put there by hand",
}

# Characters of the source: a reply's line has 512 octets (RFC 5321 4.5.3.1.5).
_SOURCE = 300


class Unwanted:
    """The list, as sessions ask.

    @param postmaster: who takes somebody off the list.
    @param forwarded: what is sent on is looked at, too.
    """

    def __init__(
        self, suppression: ISuppression, postmaster: str, forwarded: bool
    ) -> None:
        self._suppression = suppression
        self._postmaster = postmaster
        self._forwarded = forwarded

    async def refusal(
        self, client: Client, recipient: Address, routes: Sequence[Route]
    ) -> tuple[bytes, Sequence[Route]]:
        """Why a recipient is refused, or nothing; and the routes that are left.

        @raise Temporary: it cannot be said now.
        """
        if client.account is not None or client.relays:
            account = client.account.address if client.account else None
            found = await self._suppression.find(recipient, account)
            if found is not None:
                return self._reply(recipient, found), routes
        if not self._forwarded:
            return b"", routes
        left, found = [], None
        for route in routes:
            forwarded = isinstance(route, ToAgent) and route.forwarder is not None
            entry = forwarded and await self._suppression.find(route.recipient)
            found = entry or found
            if not entry:
                left.append(route)
        if left or not found:
            return b"", left
        # To whom it is sent on is nobody's business.
        return made(550, "5.7.1", "Mail for this address is not sent on any more"), left

    def _reply(self, recipient: Address, found: Suppressed) -> bytes:
        since = datetime.fromtimestamp(int(found.added_at), UTC)
        whose = "for your account" if found.scope else "of this server"
        lines = (
            f"{recipient} is on the suppression list {whose} since {since:%Y-%m-%d}",
            f"{_WHY[found.reason]}: {found.source[:_SOURCE]}",
            f"To have it taken off, write to {self._postmaster}",
        )
        plain = (line.encode("ascii", "replace").decode() for line in lines)
        return render(Reply(550, "5.7.1", tuple(plain)))
