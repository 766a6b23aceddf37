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

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import Flag, auto
from typing import cast

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from twisted_mta.errors import AuthenticationFailed, MailError
from twisted_mta.interfaces import IAuthenticator, IContent, IMailStore
from twisted_mta.net.stream import SHUTTING_DOWN, TIMED_OUT, Closed, Stream
from twisted_mta.servers import errors
from twisted_mta.servers.maildrop import Maildrop, open_maildrop
from twisted_mta.wire import pop3, sasl
from twisted_mta.wire.engine import RemoteProtocolError
from twisted_mta.wire.pop3 import AuthResponse, BadCommand, Command, err, ok

# One read of a large message.
_RUN_OCTETS = 64 * 1024

# Lines of a listing between two looks whether the client reads them.
_LISTING_LINES = 2000

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


class _State(Flag):
    """RFC 1939 section 3; UPDATE is what L{Pop3Session.do_QUIT} does."""

    AUTHORIZATION = auto()
    TRANSACTION = auto()
    ANY = AUTHORIZATION | TRANSACTION


class _Abandoned(Exception):
    """A message cannot be sent to its end."""


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
        self._state = _State.AUTHORIZATION
        self._user: str | None = None
        self._maildrop: Maildrop | None = None
        self._bad = 0
        self._octets_sent = 0
        self._sending = False
        self._quit = False

    async def run(self) -> None:
        """Speak until the client leaves."""
        try:
            await self._converse()
        except (RemoteProtocolError, CancelledError):
            raise
        except _Abandoned:
            self.stream.abort()
        except Exception:
            self.log.failure("{session}: a bug", session=self.stream.name)
            if self._sending:
                self.stream.abort()  # words would be read as part of the message
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
                self.stream.write(await self._answer(event))
            elif isinstance(event, BadCommand):
                self._count_bad()
                self.stream.write(err(event.text))
            elif isinstance(event, Closed) or event is TIMED_OUT:
                return  # RFC 1939 section 3: without a word, nothing is removed
            elif event is SHUTTING_DOWN:
                self.stream.write(err("The server is shutting down", "SYS/TEMP"))
                return

    async def _answer(self, command: Command) -> bytes:
        """Do a command.

        @return: what is left to write.
        """
        states, do = _COMMANDS[command.verb]
        if self._state not in states:
            self._count_bad()
            return err(f"{command.verb} is not possible now")
        try:
            return await do(self, command)
        except MailError as error:
            code, text = errors.pop3(error)
            return err(text, code)

    def _count_bad(self) -> None:
        """One bad command or failed login more; too many end the session."""
        self._bad += 1
        if self._state is _State.AUTHORIZATION:
            most = self._settings.login_bad_commands
        else:
            most = self._settings.bad_commands
        if self._bad >= most:
            self.log.info("{session}: too many errors", session=self.stream.name)
            self._quit = True

    def _log_end(self) -> None:
        if self._maildrop is not None:
            self.log.info(
                "{session}: logout, sent={sent}, octets={octets}",
                session=self.stream.name,
                sent=len(self._maildrop.read),
                octets=self._octets_sent,
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
        if self._may_log_in():
            lines += ["USER", "SASL " + " ".join(sasl.SERVER_MECHANISMS)]
        if self._state is _State.AUTHORIZATION and self._may_start_tls():
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
        if self._maildrop is not None:
            removed = await self._maildrop.update()
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
        if not self._may_log_in():
            return self._no_plaintext()
        self._user = command.text.strip(" ")
        return ok("Password, please")

    async def do_PASS(self, command: Command) -> bytes:
        if not self._may_log_in():
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
            return _listing("Mechanisms follow", sasl.SERVER_MECHANISMS)
        made = sasl.SERVER_MECHANISMS.get(command.text)
        if made is None:
            self._count_bad()
            return err("No such mechanism")
        try:
            credentials = await self._exchange(made(), command.initial)
        except MailError:
            self._count_bad()
            raise
        if isinstance(credentials, sasl.Credentials):
            return await self._log_in(credentials.name, credentials.password)
        return credentials

    async def _exchange(
        self, mechanism: sasl.ServerMechanism, response: bytes | None
    ) -> sasl.Credentials | bytes:
        """Challenges and responses.

        @return: credentials, or the answer if it came to none.
        """
        while True:
            step = mechanism.next(response)
            if not isinstance(step, bytes):
                return step
            self.stream.write(self.engine.challenge(step))
            event = await self.stream.next_event()
            if isinstance(event, AuthResponse) and event.response is not None:
                response = event.response
                continue
            if isinstance(event, (AuthResponse, BadCommand)):
                self._count_bad()
                why = event.text if isinstance(event, BadCommand) else "Cancelled"
                return err(why)
            self.stream.post(event)  # closed, timed out: the loop ends the session
            return b""

    async def _log_in(self, name: str, password: str) -> bytes:
        host = self.stream.peer()[0]
        try:
            account = await self._authenticator.authenticate(name, password, host)
        except AuthenticationFailed:
            self._count_bad()
            raise
        mailboxes = await self._store.account(account)
        self._maildrop = await open_maildrop(await mailboxes.open("INBOX"))
        self._state = _State.TRANSACTION
        self._bad = 0
        self.stream.limit(self._settings.idle_s, float("inf"))
        self.log.info(
            "{session}: login={login}, client={host}, tls={tls!r}",
            session=self.stream.name,
            login=str(account.address),
            host=host,
            tls=self.stream.tls,
        )
        count, octets = self._maildrop.total()
        return ok(f"{count} messages ({octets} octets)")

    def _may_start_tls(self) -> bool:
        return self._tls is not None and not self.stream.secure

    def _may_log_in(self) -> bool:
        return self.stream.secure or self._settings.plaintext_login

    def _no_plaintext(self) -> bytes:
        self._count_bad()
        return err("Passwords only under TLS; say STLS first", "AUTH")

    # --- TRANSACTION ---

    @property
    def _drop(self) -> Maildrop:
        """Only in TRANSACTION, where it is always there."""
        assert self._maildrop is not None
        return self._maildrop

    async def do_STAT(self, command: Command) -> bytes:
        count, octets = self._drop.total()
        return ok(f"{count} {octets}")

    async def do_NOOP(self, command: Command) -> bytes:
        return ok()

    async def do_RSET(self, command: Command) -> bytes:
        self._drop.deleted.clear()
        return ok()

    async def do_DELE(self, command: Command) -> bytes:
        number = command.numbers[0]
        if number not in self._drop:
            return _no_message(number)
        self._drop.deleted.add(number)
        return ok(f"Message {number} will be deleted")

    async def do_LIST(self, command: Command) -> bytes:
        return await self._list(command, self._drop.size)

    async def do_UIDL(self, command: Command) -> bytes:
        return await self._list(command, self._drop.unique_id)

    async def _list(self, command: Command, told: Callable[[int], object]) -> bytes:
        if command.numbers:
            number = command.numbers[0]
            if number not in self._drop:
                return _no_message(number)
            return ok(f"{number} {told(number)}")
        self.stream.write(ok(f"{self._drop.total()[0]} messages"))
        lines: list[str] = []
        for number in self._drop:
            lines.append(f"{number} {told(number)}\r\n")
            if len(lines) == _LISTING_LINES:
                self.stream.write("".join(lines).encode())
                lines.clear()
                if not await self.stream.drain():
                    return b""
        return "".join(lines).encode() + pop3.END

    async def do_RETR(self, command: Command) -> bytes:
        number = command.numbers[0]
        if number not in self._drop:
            return _no_message(number)
        answer = await self._send(number, None)
        self._drop.read.add(number)
        return answer

    async def do_TOP(self, command: Command) -> bytes:
        number, lines = command.numbers
        if number not in self._drop:
            return _no_message(number)
        return await self._send(number, pop3.Top(lines))

    async def _send(self, number: int, top: pop3.Top | None) -> bytes:
        """Answer with a message, or what C{top} leaves of it.

        @raise NoSuchMessage: another session removed it.
        """
        text = pop3.MessageText()
        first = ok(f"{self._drop.size(number)} octets")
        octets = await self._drop.octets(number)
        if octets is not None:
            if top is not None:
                octets = top.feed(octets)
            self._octets_sent += len(octets)
            self.stream.write(first + text.feed(octets) + text.finish())
            await self.stream.drain()
            return b""
        prefix, content = await self._drop.content(number)
        self._sending = True
        self.stream.write(first)
        await self._send_run(prefix, text, top)
        await self._send_content(content, text, top)
        self._sending = False
        return text.finish()

    async def _send_content(
        self, content: IContent, text: pop3.MessageText, top: pop3.Top | None
    ) -> None:
        offset = 0
        while offset < content.size and not (top is not None and top.done):
            try:
                run = await content.read(offset, _RUN_OCTETS)
            except MailError as error:
                self.log.warn(
                    "{session}: abandoned within a message: {error}",
                    session=self.stream.name,
                    error=str(error),
                )
                raise _Abandoned
            if not run:
                raise _Abandoned
            offset += len(run)
            await self._send_run(run, text, top)

    async def _send_run(
        self, run: bytes, text: pop3.MessageText, top: pop3.Top | None
    ) -> None:
        if top is not None:
            if top.done:
                return
            run = top.feed(run)
        self._octets_sent += len(run)
        self.stream.write(text.feed(run))
        if not await self.stream.drain():
            raise _Abandoned


_Do = Callable[[Pop3Session, Command], Awaitable[bytes]]

_COMMANDS: dict[str, tuple[_State, _Do]] = {
    "AUTH": (_State.AUTHORIZATION, Pop3Session.do_AUTH),
    "CAPA": (_State.ANY, Pop3Session.do_CAPA),
    "DELE": (_State.TRANSACTION, Pop3Session.do_DELE),
    "LANG": (_State.ANY, Pop3Session.do_LANG),
    "LIST": (_State.TRANSACTION, Pop3Session.do_LIST),
    "NOOP": (_State.TRANSACTION, Pop3Session.do_NOOP),
    "PASS": (_State.AUTHORIZATION, Pop3Session.do_PASS),
    "QUIT": (_State.ANY, Pop3Session.do_QUIT),
    "RETR": (_State.TRANSACTION, Pop3Session.do_RETR),
    "RSET": (_State.TRANSACTION, Pop3Session.do_RSET),
    "STAT": (_State.TRANSACTION, Pop3Session.do_STAT),
    "STLS": (_State.AUTHORIZATION, Pop3Session.do_STLS),
    "TOP": (_State.TRANSACTION, Pop3Session.do_TOP),
    "UIDL": (_State.TRANSACTION, Pop3Session.do_UIDL),
    "USER": (_State.AUTHORIZATION, Pop3Session.do_USER),
    "UTF8": (_State.AUTHORIZATION, Pop3Session.do_UTF8),
}


def _no_message(number: int) -> bytes:
    return err(f"No message {number}")


def _listing(text: str, lines: Iterable[str]) -> bytes:
    """A short multi-line answer; no line begins with a dot."""
    body = "".join(f"{line}\r\n" for line in lines)
    return ok(text) + body.encode() + pop3.END
