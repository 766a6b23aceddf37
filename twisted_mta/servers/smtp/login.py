"""AUTH: how a client of SMTP logs in (RFC 4954), and whether it can now."""

from __future__ import annotations

from dataclasses import replace

from twisted_mta.errors import AuthenticationCancelled
from twisted_mta.interfaces import IAuthenticator
from twisted_mta.mail.channel import NOT_CERTIFIED, Channel
from twisted_mta.net.stream import Stream
from twisted_mta.servers.channel import channel
from twisted_mta.servers.smtp import reply
from twisted_mta.servers.smtp.client import Client
from twisted_mta.servers.smtp.reception import Gone, Reception
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.wire import sasl
from twisted_mta.wire.smtp import events
from twisted_mta.wire.smtp.server import SmtpServerEngine


class Login:
    """The login of one session.

    @param authenticator: C{None} if nobody can log in here.
    """

    __slots__ = (
        "_authenticator",
        "_client",
        "_engine",
        "_reception",
        "_settings",
        "_stream",
    )

    def __init__(
        self,
        stream: Stream,
        engine: SmtpServerEngine,
        settings: SmtpSettings,
        client: Client,
        reception: Reception,
        authenticator: IAuthenticator | None,
    ) -> None:
        self._stream = stream
        self._engine = engine
        self._settings = settings
        self._client = client
        self._reception = reception
        self._authenticator = authenticator

    def mechanisms(self) -> str:
        """Those that EHLO offers now; empty if nobody can log in, or somebody has."""
        if self._authenticator is None or self._client.account is not None:
            return ""
        if not self._private:
            return ""
        return " ".join(self._authenticator.mechanisms(self._channel()))

    async def auth(self, command: events.Auth) -> bytes:
        """The answer to AUTH.

        @raise MailError: it failed.
        @raise Gone: the client left in the middle of it.
        """
        client = self._client
        if self._authenticator is None or "AUTH" not in client.offer.keywords:
            return reply.NO_AUTH
        if not client.origin.helo:
            return reply.HELLO_FIRST
        if client.account is not None:
            return reply.LOGGED_IN_ALREADY
        if self._reception.transaction is not None:
            return reply.NESTED_MAIL
        if not self._private:
            return reply.TLS_FIRST
        said = command.initial
        initial = None if said is None else sasl.decode_initial(said)
        account = await self._authenticator.exchange(
            command.mechanism, initial, self._channel(), self._ask
        )
        client.log_in(account)
        self._stream.stranger = False
        return reply.LOGGED_IN

    @property
    def _private(self) -> bool:
        """Passwords may be said."""
        return self._stream.secure or self._settings.plaintext_login

    def _channel(self) -> Channel:
        found = channel(self._stream, "smtp", self._private)
        if not self._client.speaks_for_another:
            return found
        # Guesses are the other's, and the certificate is not.
        return replace(found, host=self._client.origin.host, certified=NOT_CERTIFIED)

    async def _ask(self, challenge: bytes) -> bytes:
        """Send a challenge and read the response.

        @raise AuthenticationCancelled: there is none.
        @raise MalformedResponse: it is none.
        """
        self._stream.write(self._engine.start_auth(sasl.encode(challenge)))
        event = await self._stream.next_event()
        if not isinstance(event, events.AuthResponse):
            self._stream.post(event)
            raise Gone
        if event.line == b"*":
            raise AuthenticationCancelled()
        return sasl.decode(event.line)
