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
from twisted_mta.servers.smtp import reply, submission
from twisted_mta.servers.smtp.client import Client
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

    @property
    def saved_by(self) -> int | None:
        """The id of the account that keeps what it submits, if it wants to."""
        account = self._client.account
        return account.id if account is not None and account.save_sent else None

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
        exceeded = self._settings.allowance.exceeded(submitted, recipients)
        if not exceeded:
            return b""
        return made(451, "4.7.1", f"You may send {exceeded}; please go on later")

    async def count(self, recipients: int) -> None:
        """It submits a message with so many recipients."""
        account = self._client.account
        if account is not None:
            now = self._clock.seconds()
            await self._directory.submitted(account, now, 1, recipients)

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
