"""A POP3 session (RFC 1939): the INBOX as one snapshot, until QUIT.

It speaks to an authenticator and a mail store, and knows neither. What the
client sees is what the INBOX held at its login, by UID: other sessions go on
meanwhile, so there is no lock, and C{[IN-USE]} (RFC 2449) is never said; a
message that another session removed is answered with an error. Messages are
removed at QUIT alone; a connection that is lost or times out removes nothing.

Deviation: RFC 6856 wants messages with UTF-8 in the header refused or rewritten
until the client says UTF8. They are sent as they came, as Dovecot does: mail
with raw 8-bit headers is old and common, and a client that cannot fetch a
message cannot delete it either.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from twisted_mta.errors import AuthenticationFailed, MailError
from twisted_mta.interfaces import IAuthenticator, IMailStore
from twisted_mta.mail.account import Account
from twisted_mta.mail.channel import Channel
from twisted_mta.net.stream import SHUTTING_DOWN, TIMED_OUT, Closed, Stream
from twisted_mta.servers import errors
from twisted_mta.servers.channel import channel, takes_passwords
from twisted_mta.servers.maildrop import open_maildrop
from twisted_mta.servers.pop3_transaction import TRANSACTION, Abandoned, Transaction
from twisted_mta.wire import pop3
from twisted_mta.wire.engine import RemoteProtocolError
from twisted_mta.wire.pop3 import AuthResponse, BadCommand, Command, err, ok

# RFC 6856 section 3.2; i-default is RFC 2277's.
_LANGUAGES = {"en": "English", "i-default": "Default language"}


@dataclass(frozen=True, slots=True)
class Pop3Settings:
    """How a listener speaks POP3.

    @ivar hostname: in the greeting.
    @ivar plaintext_login: passwords may come without TLS.
    @ivar idle_s: silence of a client that logged in; RFC 1939 section 3: at
        least 10 minutes.
    @ivar login_idle_s: the same before. Dovecot: 1 minute.
    @ivar login_total_s: how long a login may take in all. Dovecot: 3 minutes.
    @ivar bad_commands: before the connection ends. Dovecot: 20.
    @ivar login_bad_commands: the same before login, failed logins included.
        Dovecot: 3.
    """

    hostname: str
    plaintext_login: bool = False
    idle_s: float = 600
    login_idle_s: float = 60
    login_total_s: float = 180
    bad_commands: int = 20
    login_bad_commands: int = 3


# Octets of replies until the client must have read most of them: who pipelines
# for ever and never reads holds no more than this and what the kernel takes.
_UNREAD_OCTETS = 64 * 1024


class _NoResponse(Exception):
    """A challenge came to nothing.

    @ivar answer: to AUTH; empty if the session ends.
    """

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


class Pop3Session:
    """One client; L{run} is its coroutine."""

    log = Logger()

    def __init__(
        self,
        stream: Stream,
        settings: Pop3Settings,
        authenticator: IAuthenticator,
        store: IMailStore,
        tls: object | None = None,
    ) -> None:
        """
        @param stream: with a L{pop3.Pop3Engine}.
        @param tls: the context for STLS, C{None} if it is not offered.
        """
        self.stream = stream
        self.engine = cast(pop3.Pop3Engine, stream.engine)
        self._settings = settings
        self._authenticator = authenticator
        self._store = store
        self._tls = tls
        self._user: str | None = None
        self._transaction: Transaction | None = None
        self._bad = 0
        self._unread = 0
        self._quit = False

    async def run(self) -> None:
        """Speak until the client leaves."""
        try:
            await self._converse()
        except (RemoteProtocolError, CancelledError):
            raise
        except Abandoned:
            self.stream.abort()
        except Exception:
            self.log.failure("{session}: a bug", session=self.stream.name)
            if self._transaction is not None and self._transaction.sending:
                self.stream.abort()
            else:
                self.stream.write(err("Internal error", "SYS/TEMP"))
        finally:
            self._log_end()

    async def _converse(self) -> None:
        settings = self._settings
        self.stream.limit(settings.login_idle_s, settings.login_total_s)
        self.stream.write(ok(f"{settings.hostname} POP3 ready"))
        while not self._quit:
            event = await self.stream.next_event()
            if isinstance(event, Command):
                await self._say(await self._answer(event))
            elif isinstance(event, BadCommand):
                self._count_bad()
                await self._say(err(event.text))
            elif isinstance(event, Closed) or event is TIMED_OUT:
                return  # RFC 1939 section 3: without a word, nothing is removed
            elif event is SHUTTING_DOWN:
                self.stream.write(err("The server is shutting down", "SYS/TEMP"))
                return

    async def _say(self, answer: bytes) -> None:
        """Send, no faster than the client reads. If it is gone, that is the
        next event."""
        self.stream.write(answer)
        self._unread += len(answer)
        if self._unread > _UNREAD_OCTETS:
            self._unread = 0
            await self.stream.drain()

    async def _answer(self, command: Command) -> bytes:
        """Do a command.

        @return: what is left to write.
        """
        verb, transaction = command.verb, self._transaction
        try:
            if verb in _ANY_STATE:
                return await _ANY_STATE[verb](self, command)
            if transaction is None and verb in _AUTHORIZATION:
                return await _AUTHORIZATION[verb](self, command)
            if transaction is not None and verb in TRANSACTION:
                return await TRANSACTION[verb](transaction, command)
        except MailError as error:
            code, text = errors.pop3(error)
            return err(text, code)
        self._count_bad()
        return err(f"{verb} is not possible now")

    def _count_bad(self) -> None:
        """One bad command or failed login more; too many end the session."""
        self._bad += 1
        if self._transaction is None:
            most = self._settings.login_bad_commands
        else:
            most = self._settings.bad_commands
        if self._bad >= most:
            self.log.info("{session}: too many errors", session=self.stream.name)
            self._quit = True

    def _log_end(self) -> None:
        transaction = self._transaction
        if transaction is not None:
            self.log.info(
                "{session}: logout, sent={sent}, octets={octets}",
                session=self.stream.name,
                sent=len(transaction.maildrop.read),
                octets=transaction.octets,
            )

    # --- in any state ---

    async def do_CAPA(self, command: Command) -> bytes:
        """RFC 2449 section 5; computed for what is possible now."""
        lines = [
            "TOP",
            "UIDL",
            "RESP-CODES",
            "AUTH-RESP-CODE",
            "PIPELINING",
            "EXPIRE NEVER",
            "LANG",
            "UTF8 USER",
            "IMPLEMENTATION twisted-mta",
        ]
        if self._takes_passwords():
            lines.append("USER")
        if mechanisms := self._mechanisms():
            lines.append("SASL " + " ".join(mechanisms))
        if self._transaction is None and self._may_start_tls():
            lines.append("STLS")
        return _listing("Capabilities follow", lines)

    async def do_LANG(self, command: Command) -> bytes:
        """RFC 6856 section 3."""
        if not command.text:
            lines = [f"{tag} {name}" for tag, name in _LANGUAGES.items()]
            return _listing("Languages follow", lines)
        asked = command.text.lower()
        # RFC 4647 section 3.4: en-GB is served by en.
        tag = asked if asked in _LANGUAGES else asked.partition("-")[0]
        if asked == "*":
            tag = "i-default"
        if tag not in _LANGUAGES:
            return err("No such language")
        return ok(f"{tag} Texts are in English")

    async def do_QUIT(self, command: Command) -> bytes:
        """Once logged in, the UPDATE state (RFC 1939 section 6)."""
        self._quit = True
        if self._transaction is not None:
            removed = await self._transaction.maildrop.update()
            self.log.info(
                "{session}: removed={removed}",
                session=self.stream.name,
                removed=removed,
            )
        return ok("Bye")

    # --- AUTHORIZATION ---

    async def do_STLS(self, command: Command) -> bytes:
        """RFC 2595 section 4."""
        if not self._may_start_tls():
            return err("TLS is not possible now")
        self.stream.write(ok("Begin TLS"))
        self._user = None
        await self.stream.start_tls(self._tls)
        return b""

    async def do_UTF8(self, command: Command) -> bytes:
        """RFC 6856 section 2; names and passwords are UTF-8 in any case."""
        return ok("UTF-8 accepted")

    async def do_USER(self, command: Command) -> bytes:
        """RFC 1939 section 7; any name is welcome, so that nothing is told."""
        if not self._takes_passwords():
            return self._no_plaintext()
        self._user = command.text.strip(" ")
        return ok("Password, please")

    async def do_PASS(self, command: Command) -> bytes:
        if not self._takes_passwords():
            return self._no_plaintext()
        name, self._user = self._user, None
        if name is None:
            self._count_bad()
            return err("USER comes first")
        return await self._log_in(name, command.text)

    async def do_AUTH(self, command: Command) -> bytes:
        """RFC 5034; without a mechanism it lists them, as Outlook asks."""
        if not self._may_log_in():
            return self._no_plaintext()
        if not command.text:
            return _listing("Mechanisms follow", self._mechanisms())
        try:
            account = await self._authenticator.exchange(
                command.text, command.initial, self._channel(), self._ask
            )
        except _NoResponse as none:
            return none.answer
        except MailError:
            self._count_bad()
            raise
        return await self._begin(account)

    def _mechanisms(self) -> Sequence[str]:
        return self._authenticator.mechanisms(self._channel())

    def _takes_passwords(self) -> bool:
        return takes_passwords(self._authenticator, self._channel())

    def _channel(self) -> Channel:
        return channel(self.stream, "pop3", self._may_log_in())

    async def _ask(self, challenge: bytes) -> bytes:
        """Send a challenge and read the response.

        @raise _NoResponse: there is none.
        """
        self.stream.write(self.engine.challenge(challenge))
        event = await self.stream.next_event()
        if isinstance(event, AuthResponse) and event.response is not None:
            return event.response
        if isinstance(event, (AuthResponse, BadCommand)):
            self._count_bad()
            why = event.text if isinstance(event, BadCommand) else "Cancelled"
            raise _NoResponse(err(why))
        self.stream.post(event)  # closed, timed out: the loop ends the session
        raise _NoResponse(b"")

    async def _log_in(self, name: str, password: str) -> bytes:
        try:
            account = await self._authenticator.authenticate(
                name, password, self._channel()
            )
        except AuthenticationFailed:
            self._count_bad()
            raise
        return await self._begin(account)

    async def _begin(self, account: Account) -> bytes:
        """The TRANSACTION state."""
        mailboxes = await self._store.account(account)
        maildrop = await open_maildrop(await mailboxes.open("INBOX"))
        self._transaction = Transaction(self.stream, maildrop)
        self._bad = 0
        self.stream.stranger = False
        self.stream.limit(self._settings.idle_s, float("inf"))
        self.log.info(
            "{session}: login={login}, client={host}, tls={tls!r}",
            session=self.stream.name,
            login=str(account.address),
            host=self.stream.peer()[0],
            tls=self.stream.tls,
        )
        count, octets = maildrop.total()
        return ok(f"{count} messages ({octets} octets)")

    def _may_start_tls(self) -> bool:
        return self._tls is not None and not self.stream.secure

    def _may_log_in(self) -> bool:
        return self.stream.secure or self._settings.plaintext_login

    def _no_plaintext(self) -> bytes:
        self._count_bad()
        if self._may_log_in():
            return err("Passwords are not taken; say AUTH", "AUTH")
        return err("Passwords only under TLS; say STLS first", "AUTH")


_Commands = dict[str, Callable[[Pop3Session, Command], Awaitable[bytes]]]

# RFC 1939 section 3: which commands are possible in which state. The others of
# the TRANSACTION state are in pop3_transaction; UPDATE is what QUIT does there.
_ANY_STATE: _Commands = {
    "CAPA": Pop3Session.do_CAPA,
    "LANG": Pop3Session.do_LANG,
    "QUIT": Pop3Session.do_QUIT,
}
_AUTHORIZATION: _Commands = {
    "AUTH": Pop3Session.do_AUTH,
    "PASS": Pop3Session.do_PASS,
    "STLS": Pop3Session.do_STLS,
    "USER": Pop3Session.do_USER,
    "UTF8": Pop3Session.do_UTF8,
}


def _listing(text: str, lines: Iterable[str]) -> bytes:
    """A short multi-line answer; no line begins with a dot."""
    body = "".join(f"{line}\r\n" for line in lines)
    return ok(text) + body.encode() + pop3.END
