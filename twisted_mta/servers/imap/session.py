"""An IMAP session (RFC 3501): pulls commands, has them done, answers.

It speaks to an authenticator and a mail store and knows neither. What a command
does is in the modules whose tables are joined here, one C{do_} for each; what is
the same for all is here: whether the state allows it, what the client is told of
its mailbox at the end, how errors are worded, and how the session ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from twisted_mta.errors import MailError
from twisted_mta.servers import errors
from twisted_mta.servers.imap import (
    auth,
    fetch,
    listing,
    mailbox,
    messages,
    search,
)
from twisted_mta.servers.imap.client import Answer, Client, ImapSettings
from twisted_mta.servers.imap.errors import Leave, Refused
from twisted_mta.servers.imap.memo import Memo
from twisted_mta.wire.engine import RemoteProtocolError
from twisted_mta.wire.imap import replies
from twisted_mta.wire.imap.commands import COMMANDS, Trait
from twisted_mta.wire.imap.engine import ImapServerEngine
from twisted_mta.wire.imap.model import BadCommand, Command, Continue

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from twisted_mta.interfaces import IAuthenticator, IMailStore
    from twisted_mta.net.stream import Stream

__all__ = ["DO", "ImapSession", "ImapSettings"]

#: What each command does; the keys are those of the engine's table.
DO: dict[str, Callable[..., Awaitable[Answer | None]]] = {
    **auth.COMMANDS,
    **mailbox.COMMANDS,
    **listing.COMMANDS,
    **messages.COMMANDS,
    **fetch.COMMANDS,
    **search.COMMANDS,
}


class ImapSession:
    """One client; L{run} is its coroutine."""

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        stream: Stream,
        settings: ImapSettings,
        authenticator: IAuthenticator,
        store: IMailStore,
        tls: object | None = None,
        memo: Memo | None = None,
    ) -> None:
        """
        @param stream: with an L{ImapServerEngine}.
        @param tls: the context for STARTTLS, C{None} if it is not offered.
        @param memo: shared with the other sessions of this store; one of its
            own if C{None}.
        """
        engine = cast(ImapServerEngine, stream.engine)
        self._client = Client(
            reactor, stream, engine, settings, authenticator, store, tls, memo or Memo()
        )
        self._began = reactor.seconds()

    async def run(self) -> None:
        """Speak until one of the two leaves."""
        client = self._client
        try:
            await self._converse()
        except Leave as leave:
            if client.sending:
                client.stream.abort()
            else:
                client.write(leave.goodbye)
        except (RemoteProtocolError, CancelledError):
            raise
        except Exception:
            self.log.failure("{session}: a bug", session=client.stream.name)
            if client.sending:
                client.stream.abort()
            else:
                client.write(replies.bye("Internal error", b"SERVERBUG"))
        finally:
            client.unselect()
            self._log_end()

    async def _converse(self) -> None:
        client = self._client
        settings = client.settings
        client.stream.limit(settings.login_idle_s, settings.login_total_s)
        client.write(auth.greeting(client))
        while not client.leaving:
            event = await client.next_event()
            if isinstance(event, Command):
                await self._perform(event)
            elif isinstance(event, BadCommand):
                client.write(replies.refusal(event))
            elif isinstance(event, Continue):
                client.write(event.octets)
            await client.pace()

    async def _perform(self, command: Command) -> None:
        """Do a command and answer it."""
        client = self._client
        client.commands += 1
        spec = COMMANDS[command.name]
        with_uid = command.name.startswith("UID ")
        if Trait.USES_MAILBOX in spec.traits:
            # Work on what is there now; numbers stay as the client knows them.
            await client.sync(expunges=False, with_uid=with_uid)
        answer = await self._answer(command)
        if answer is None:
            return
        expunges = Trait.BREAKS_SEQS in spec.traits
        await client.sync(expunges, with_uid)
        condition, text, response_code = answer.condition, answer.text, answer.code
        client.write(replies.status(command.tag, condition, text, response_code))

    async def _answer(self, command: Command) -> Answer | None:
        """Do a command.

        @return: C{None} if it was answered.
        """
        client = self._client
        try:
            if client.state not in COMMANDS[command.name].states:
                raise Refused("Not in this state", condition=b"BAD")
            return await DO[command.name](client, command)
        except Refused as refused:
            if refused.condition == b"BAD":
                client.engine.note_bad()
            return Answer(refused.text, refused.code, refused.condition)
        except MailError as error:
            if client.sending:
                raise Leave()
            code, text = errors.imap(error)
            return Answer(text, code, b"NO")
        except (Leave, RemoteProtocolError, CancelledError):
            raise
        except Exception:
            if client.sending:
                raise
            self.log.failure(
                "{session}: a bug in {command}",
                session=client.stream.name,
                command=command.name,
            )
            return Answer("Internal error", b"SERVERBUG", b"NO")

    def _log_end(self) -> None:
        client = self._client
        self.log.info(
            "{session}: ended, login={login}, commands={commands}, sent={octets}, "
            "seconds={seconds:.1f}",
            session=client.stream.name,
            login="" if client.login is None else str(client.login.address),
            commands=client.commands,
            octets=client.octets,
            seconds=client.now() - self._began,
        )
