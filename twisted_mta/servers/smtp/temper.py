"""How patient the server is with a client that brings no mail: errors are answered
late after some, and end the session after more; so do commands without effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import deferLater

from twisted_mta.net.stream import Stream
from twisted_mta.servers.smtp import reply
from twisted_mta.servers.smtp.client import Client
from twisted_mta.servers.smtp.reception import Reception
from twisted_mta.servers.smtp.settings import SmtpSettings

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


class Temper:
    """The patience with one client."""

    __slots__ = (
        "_client",
        "_clock",
        "_errors",
        "_forgiven",
        "_junk",
        "_reception",
        "_settings",
        "_stream",
    )

    def __init__(
        self,
        stream: Stream,
        settings: SmtpSettings,
        clock: IReactorTime,
        client: Client,
        reception: Reception,
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._clock = clock
        self._client = client
        self._reception = reception
        self._errors = 0
        self._junk = 0
        self._forgiven = 0  # messages that had been accepted by then

    async def error(self, answer: bytes) -> bytes:
        """Count an error. Without mail in between some are answered at once, some
        late, then it ends (Postfix smtpd_soft_error_limit, smtpd_hard_error_limit).

        @param answer: to it.
        @return: what is said to it.
        """
        self._forgive()
        self._errors += 1
        if self._errors >= self._settings.hard_errors:
            return answer + self._client.leave(reply.TOO_MANY_ERRORS)
        if self._errors > self._settings.soft_errors:
            self._stream.flush()
            await deferLater(self._clock, self._settings.soft_error_delay_s)
        return answer

    async def junk(self, answer: bytes) -> bytes:
        """Count a command that brings no mail nearer (Postfix
        smtpd_junk_command_limit). Who has sent too many is told so late, or he
        would be back at once.

        @param answer: to it.
        @return: what is said to it.
        """
        self._forgive()
        self._junk += 1
        if self._junk > self._settings.junk_commands:
            self._stream.flush()
            await deferLater(self._clock, self._settings.junk_delay_s)
            return self._client.leave(reply.TOO_MUCH_JUNK)
        return answer

    def _forgive(self) -> None:
        """Mail pays for the errors and the junk before it."""
        if self._reception.accepted > self._forgiven:
            self._forgiven = self._reception.accepted
            self._errors = self._junk = 0
