"""What who logged in may do: send as whom, and how much.

It has an opinion on nobody else. How much an account has submitted is kept in the
ledger, so that all processes know it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from twisted_mta.errors import NotPermitted
from twisted_mta.interfaces import IDirectory
from twisted_mta.mail.address import Address
from twisted_mta.mail.submitted import Saved
from twisted_mta.servers.smtp import reply, submission
from twisted_mta.servers.smtp.client import Client
from twisted_mta.servers.smtp.headerfilter import HeaderFilter
from twisted_mta.servers.smtp.reply import made
from twisted_mta.servers.smtp.settings import SmtpSettings

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


class Submitter:
    """The login of a session, which may not have come yet."""

    _log = Logger()

    def __init__(
        self,
        settings: SmtpSettings,
        clock: IReactorTime,
        client: Client,
        directory: IDirectory,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._client = client
        self._directory = directory

    @property
    def limited(self) -> bool:
        """How much it may submit has a limit."""
        return self._settings.allowance.limited and self._client.account is not None

    def saved(self, found: HeaderFilter | None) -> Saved | None:
        """The copy that it keeps of what it submits, if it wants to.

        @param found: has taken out what only it may see.
        """
        account = self._client.account
        if account is None or not account.save_sent:
            return None
        return Saved(account.id, found.blind if found is not None else b"")

    async def refusal(self, sender: Address | None) -> bytes:
        """Why it may not send now, or not as this, or nothing."""
        account = self._client.account
        if account is None:
            return b""
        if sender is not None:
            ours = sender.domain == account.address.domain
            if self._settings.check_sender != "none" and not (
                await self._directory.may_send_as(account, sender)
            ):
                if self._settings.check_sender == "strict":
                    return reply.NOT_YOUR_SENDER
                self._warn(f"the sender {sender} is not the login's")
            if not (ours or submission.fully_qualified(sender)):
                return reply.SENDER_UNQUALIFIED
        return await self.too_much(0) if self.limited else b""

    async def too_much(self, recipients: int) -> bytes:
        """Why it may not submit a message with so many recipients now, or nothing."""
        account = self._client.account
        if account is None:
            return b""
        now = self._clock.seconds()
        submitted = await self._directory.submitted(account, now)
        exceeded = self._settings.allowance.exceeded(submitted, 1, recipients)
        return _too_much(exceeded) if exceeded else b""

    async def count(self, recipients: int) -> bytes:
        """It submits a message with so many recipients.

        @return: why it may not after all, or nothing: other sessions of the account
            asked at the same time. Then it is not counted.
        """
        account = self._client.account
        if account is None:
            return b""
        now = self._clock.seconds()
        submitted = await self._directory.submitted(account, now, 1, recipients)
        exceeded = self._settings.allowance.exceeded(submitted)
        if not exceeded:
            return b""
        await self._directory.submitted(account, now, -1, -recipients)
        return _too_much(exceeded)

    async def check_authors(self, block: bytes) -> None:
        """Every address of From must be one that it may use.

        @raise MailError: see L{submission.check_authors}.
        """
        account, check = self._client.account, self._settings.check_sender
        if account is None or check == "none":
            return
        try:
            await submission.check_authors(block, account, self._directory)
        except NotPermitted as error:
            if check == "strict":
                raise
            self._warn(error.text)

    def _warn(self, why: str) -> None:
        self._log.warn(
            "{session}: login={login}: {why}",
            session=self._client.session,
            login=self._client.origin.login,
            why=why,
        )


def _too_much(exceeded: str) -> bytes:
    return made(451, "4.7.1", f"You may send {exceeded}; please go on later")
