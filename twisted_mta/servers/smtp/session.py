"""An SMTP session: what each command means (RFC 5321), for mail exchangers and
submission servers (RFC 6409).

It speaks to a router, an intake, a directory, an authenticator and a policy, and
knows none of them. The 250 after content is written only when the intake has
taken responsibility. Every command is a C{do_} that returns the octets of its
reply; what counts as the client's error is read off the reply.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_mta.errors import BadContent, MailError, RelayDenied, TooLarge
from twisted_mta.interfaces import (
    IAuthenticator,
    IContentWriter,
    IDirectory,
    IIntake,
    IPolicy,
    IRouter,
)
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import LOCAL, Envelope, Origin
from twisted_mta.mail.ids import new_id, to_text
from twisted_mta.mail.reply import Reply
from twisted_mta.mail.verdict import Progress, Verdict
from twisted_mta.net.stream import SHUTTING_DOWN, TIMED_OUT, Closed, Stream
from twisted_mta.servers import errors
from twisted_mta.servers.smtp import reply, submission, trace
from twisted_mta.servers.smtp.reply import made, render
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.servers.smtp.transaction import Transaction
from twisted_mta.wire import sasl
from twisted_mta.wire.engine import RemoteProtocolError
from twisted_mta.wire.smtp import events
from twisted_mta.wire.smtp.events import Data, EndOfChunk, EndOfData, Fault
from twisted_mta.wire.smtp.server import SmtpServerEngine

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

_BARE = "A line ends with a bare CR or LF"  # RFC 5321 2.3.8
_FAULTS: Mapping[Fault, Callable[[], MailError]] = {
    Fault.BARE_LINE_END: lambda: BadContent(_BARE),
    Fault.TOO_LARGE: TooLarge,
    Fault.LINE_TOO_LONG: lambda: BadContent("A line is too long"),
}


class _Gone(Exception):
    """The conversation ended within a command: no answer is awaited, and no
    promise was made. Why is the next event."""


class SmtpSession:
    """One client; L{run} is its coroutine."""

    log = Logger()

    def __init__(
        self,
        stream: Stream,
        settings: SmtpSettings,
        clock: IReactorTime,
        router: IRouter,
        intake: IIntake,
        directory: IDirectory,
        authenticator: IAuthenticator | None = None,
        policy: IPolicy | None = None,
        tls: object | None = None,
    ) -> None:
        """
        @param stream: with a L{SmtpServerEngine}.
        @param authenticator: C{None} if nobody can log in here.
        @param policy: the opinion on every transaction.
        @param tls: the context for STARTTLS, C{None} if it is not offered.
        """
        self.stream = stream
        self.engine = cast(SmtpServerEngine, stream.engine)
        self._settings = settings
        self._clock = clock
        self._router = router
        self._intake = intake
        self._directory = directory
        self._authenticator = authenticator
        self._policy = policy
        self._tls = tls
        self._relays = False
        self._extended = False
        self._origin = LOCAL  # once the client connected, never local
        self._account: Account | None = None
        self._transaction: Transaction | None = None
        self._errors = 0
        self._junk = 0
        self._leaving = False

    async def run(self) -> None:
        """Speak until the client leaves."""
        try:
            await self._converse()
        except (RemoteProtocolError, CancelledError):
            raise
        except Exception:
            self.log.failure("{session}: a bug", session=self.stream.name)
            self.stream.write(reply.BUG)
        finally:
            self._reset()

    async def _converse(self) -> None:
        settings, stream = self._settings, self.stream
        stream.limit(settings.idle_s, settings.total_s)
        host, port = stream.peer()
        self._relays = not settings.submission and settings.relays_from(host)
        self._origin = Origin("SMTP", host, port, listener=settings.listener)
        refusal = await self._objection("connect")
        if refusal:
            stream.write(refusal)
            return
        stream.write(f"220 {settings.hostname} ESMTP\r\n".encode())
        while not self._leaving:
            event = await stream.next_event()
            do = _COMMANDS.get(type(event))
            if do is None:
                self._end(event)
                return
            stream.write(await self._answer(do, event))

    def _end(self, event: object) -> None:
        """What is no command ends the session."""
        if event is TIMED_OUT:
            self.stream.write(reply.TIMEOUT)
        elif event is SHUTTING_DOWN:
            self.stream.write(reply.STOPPING)
        elif not isinstance(event, Closed):
            raise TypeError(f"not an event of SMTP: {event!r}")

    async def _answer(self, do: _Do, command: object) -> bytes:
        """Do a command; a refusal becomes a line of the log."""
        transaction = self._transaction
        try:
            answer = await do(self, command)
        except MailError as error:
            answer = render(errors.smtp(error))
        except _Gone:
            return b""
        if answer[:1] >= b"4":
            self._log_refusal(command, transaction, answer)
            if answer[:1] == b"5":
                return await self._count_error(answer)
        return answer

    def _log_refusal(
        self, command: object, transaction: Transaction | None, answer: bytes
    ) -> None:
        self.log.info(
            "{session}: refused {command}: {reply}, client={client}, helo={helo}, "
            "from={sender}, to={recipient}, login={login}",
            session=self.stream.name,
            command=type(command).__name__,
            reply=answer.decode().rstrip(),
            client=self._origin.host,
            helo=self._origin.helo,
            sender=f"<{transaction.sender or ''}>" if transaction else "-",
            recipient=getattr(command, "recipient", "-"),
            login=self._origin.login or "-",
        )

    # --- how patient the server is ---

    async def _count_error(self, answer: bytes) -> bytes:
        """Errors without mail in between: some are answered at once, some late,
        then it ends (Postfix smtpd_soft_error_limit, smtpd_hard_error_limit)."""
        self._errors += 1
        if self._errors >= self._settings.hard_errors:
            return answer + self._leave(reply.TOO_MANY_ERRORS)
        if self._errors > self._settings.soft_errors:
            self.stream.flush()
            await deferLater(self._clock, self._settings.soft_error_delay_s)
        return answer

    def _junk_or(self, answer: bytes) -> bytes:
        """Commands that bring no mail nearer are counted (Postfix
        smtpd_junk_command_limit)."""
        self._junk += 1
        if self._junk > self._settings.junk_commands:
            return self._leave(reply.TOO_MUCH_JUNK)
        return answer

    def _leave(self, goodbye: bytes) -> bytes:
        """End the session after this answer."""
        self._leaving = True
        return goodbye

    async def _objection(
        self,
        stage: str,
        recipients: Sequence[Address] = (),
        size: int = 0,
        header: bytes = b"",
    ) -> bytes:
        """Ask the policy.

        @param stage: the name of the method of L{IPolicy}.
        @return: the reply that refuses, or nothing.
        """
        if self._policy is None:
            return b""
        sender = self._transaction.sender if self._transaction else None
        progress = Progress(
            self.stream.name, self._origin, sender, recipients, size, header
        )
        verdict: Verdict | None = await getattr(self._policy, stage)(progress)
        if verdict is None:
            return b""
        if verdict.disconnect:
            self._leaving = True
        return render(verdict.reply)

    def _reset(self) -> None:
        """End the transaction, if there is one."""
        if self._transaction is not None:
            self._transaction.abort()
            self._transaction = None

    # --- greeting, TLS, login ---

    async def do_HELLO(self, command: events.Hello) -> bytes:
        """RFC 5321 4.1.1.1; it resets (4.1.4)."""
        if command.early:
            return self._leave(reply.OUT_OF_STEP)
        self._reset()
        again = bool(self._origin.helo)
        self._extended = command.extended
        self._origin = replace(
            self._origin, helo=command.name, protocol=self._protocol()
        )
        refusal = await self._objection("helo")
        if refusal:
            self._origin = replace(self._origin, helo="")
            return refusal
        lines = [self._settings.hostname]
        if command.extended:
            lines += self._capabilities()
        answer = render(Reply(250, "", tuple(lines)))
        return self._junk_or(answer) if again else answer

    def _protocol(self) -> str:
        """RFC 3848; with SMTPUTF8 RFC 6531 4.3 says UTF8SMTP instead."""
        if not self._extended:
            return "SMTP"
        secure = "S" if self.stream.secure else ""
        return f"ESMTP{secure}{'A' if self._account else ''}"

    def _capabilities(self) -> list[str]:
        """What is possible now."""
        offered = [
            "PIPELINING",
            f"SIZE {self._settings.message_size}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            "CHUNKING",
        ]
        if self._may_start_tls():
            offered.append("STARTTLS")
        if self._authenticator and not self._account and self._may_log_in():
            offered.append("AUTH " + " ".join(sasl.SERVER_MECHANISMS))
        return [*offered, "HELP"]

    def _may_start_tls(self) -> bool:
        return self._tls is not None and not self.stream.secure

    def _may_log_in(self) -> bool:
        return self.stream.secure or self._settings.plaintext_login

    async def do_STARTTLS(self, command: events.StartTls) -> bytes:
        """RFC 3207. Whatever was said before is forgotten (4.2)."""
        if command.early:
            return self._leave(reply.OUT_OF_STEP)
        if not self._may_start_tls():
            return reply.NO_TLS
        self.stream.write(reply.BEGIN_TLS)
        if not await self.stream.start_tls(self._tls):
            raise _Gone
        self._reset()
        self._account = None
        self._extended = False
        self._origin = replace(
            self._origin, helo="", login="", tls=self.stream.tls, protocol="SMTP"
        )
        return b""

    async def do_AUTH(self, command: events.Auth) -> bytes:
        """RFC 4954."""
        if self._authenticator is None:
            return reply.NO_AUTH
        if not self._origin.helo:
            return reply.HELLO_FIRST
        if self._account is not None:
            return reply.LOGGED_IN_ALREADY
        if self._transaction is not None:
            return reply.NESTED_MAIL
        if not self._may_log_in():
            return reply.TLS_FIRST
        mechanism = sasl.SERVER_MECHANISMS.get(command.mechanism)
        if mechanism is None:
            return reply.NO_MECHANISM
        credentials = await self._exchange(mechanism(), command.initial)
        if credentials is None:
            return reply.AUTH_CANCELLED
        account = await self._authenticator.authenticate(
            credentials.name, credentials.password, self._origin.host
        )
        self._account = account
        self._origin = replace(
            self._origin, login=str(account.address), protocol=self._protocol()
        )
        return reply.LOGGED_IN

    async def _exchange(
        self, mechanism: sasl.ServerMechanism, initial: bytes | None
    ) -> sasl.Credentials | None:
        """Challenges and responses.

        @return: C{None} if the client cancelled.
        @raise MalformedResponse: it is not of the mechanism's form.
        """
        response = None if initial is None else sasl.decode_initial(initial)
        while True:
            step = mechanism.next(response)
            if not isinstance(step, bytes):
                return step
            self.stream.write(self.engine.start_auth(sasl.encode(step)))
            event = await self.stream.next_event()
            if not isinstance(event, events.AuthResponse):
                self.stream.post(event)
                raise _Gone
            if event.line == b"*":
                return None
            response = sasl.decode(event.line)

    # --- the transaction ---

    async def do_MAIL(self, command: events.Mail) -> bytes:
        """RFC 5321 4.1.1.2."""
        if not self._origin.helo:
            return reply.HELLO_FIRST
        if self._transaction is not None:
            return reply.NESTED_MAIL
        settings, sender = self._settings, command.sender
        if settings.submission and self._account is None:
            return reply.LOGIN_FIRST
        size = command.parameters.size or 0
        if size > settings.message_size:
            return reply.TOO_LARGE
        if sender is not None and not await self._may_send_as(sender):
            return reply.NOT_YOUR_SENDER
        self._transaction = Transaction(sender, command.parameters)
        refusal = await self._objection("mail", size=size)
        if refusal:
            self._reset()
        return refusal or reply.SENDER_OK

    async def _may_send_as(self, sender: Address) -> bool:
        if self._account is None or not self._settings.check_sender:
            return True
        return await self._directory.may_send_as(self._account, sender)

    async def do_RCPT(self, command: events.Rcpt) -> bytes:
        """RFC 5321 4.1.1.3. Who does not exist is refused here, and nothing is
        taken for elsewhere but from those we relay for."""
        transaction, recipient = self._transaction, command.recipient
        if transaction is None:
            return reply.MAIL_FIRST
        if transaction.content is not None:
            return reply.CHUNKS_STARTED
        if transaction.knows(recipient):
            return reply.RECIPIENT_OK
        if len(transaction.recipients) >= self._settings.recipients:
            return reply.TOO_MANY_RECIPIENTS
        resolved = await self._router.route(recipient)
        if not (resolved.local or self._account or self._relays):
            raise RelayDenied()
        if self._policy is not None:
            asked = (*transaction.recipients, recipient)
            size = transaction.parameters.size or 0
            refusal = await self._objection("rcpt", asked, size)
            if refusal:
                return refusal
        transaction.add(recipient, resolved.routes)
        return reply.RECIPIENT_OK

    async def do_DATA(self, command: events.DataCommand) -> bytes:
        """RFC 5321 4.1.1.4."""
        transaction = self._transaction
        if command.early:
            return self._leave(reply.OUT_OF_STEP)
        if transaction is None:
            return reply.MAIL_FIRST
        if transaction.content is not None:
            return reply.CHUNKS_STARTED
        if not transaction.recipients:
            return reply.NO_RECIPIENTS
        try:
            transaction.content = self._intake.content()
            self.stream.write(self.engine.start_data())
            await self._receive(transaction.content)
            return await self._accept(transaction, transaction.content)
        finally:
            self._reset()

    async def do_BDAT(self, command: events.Bdat) -> bytes:
        """RFC 3030 2. A chunk's octets come whatever we think of it; after a
        refused one only RSET helps, and the last one ends the transaction."""
        transaction = self._transaction
        try:
            if transaction is None:
                return await self._skip_chunk(reply.MAIL_FIRST)
            if transaction.failed:
                return await self._skip_chunk(reply.CHUNK_FAILED)
            if not transaction.recipients:
                transaction.failed = True
                return await self._skip_chunk(reply.NO_RECIPIENTS)
            return await self._take_chunk(transaction, command)
        finally:
            if command.last:
                self._reset()

    async def _skip_chunk(self, answer: bytes) -> bytes:
        await self._receive(None)
        return answer

    async def _take_chunk(
        self, transaction: Transaction, command: events.Bdat
    ) -> bytes:
        self.engine.start_chunk(first=transaction.content is None)
        if transaction.content is None:
            transaction.content = self._intake.content()
        try:
            await self._receive(transaction.content)
            if command.last:
                return await self._accept(transaction, transaction.content)
        except MailError:
            transaction.failed = True
            raise
        return made(250, "2.0.0", f"{command.size} octets received")

    async def _receive(self, content: IContentWriter | None) -> None:
        """Read content to its end, also when it cannot be kept.

        @param content: C{None} to keep nothing.
        @raise MailError: why it cannot be kept.
        """
        error: MailError | None = None
        stopping = False
        while True:
            event = await self.stream.next_event()
            if isinstance(event, Data):
                if content is not None and error is None:
                    try:
                        content.write(event.octets)
                    except MailError as caught:
                        error = caught
                        content.abort()
            elif isinstance(event, EndOfData | EndOfChunk):
                break
            elif event is SHUTTING_DOWN:
                stopping = True  # what has begun may come to its end
            else:
                self.stream.post(event)
                raise _Gone
        if stopping:
            self.stream.post(SHUTTING_DOWN)
        if event.fault is not None:
            error = _FAULTS[event.fault]()
        if error is not None:
            raise error

    async def _accept(self, transaction: Transaction, content: IContentWriter) -> bytes:
        """Take responsibility (RFC 5321 4.2.5), or say why not."""
        settings = self._settings
        await content.finish()
        block = content.header()
        trace.check(block, settings)
        envelope = self._envelope(transaction)
        prefix = trace.received(envelope, settings.hostname)
        if settings.submission and self._account is not None:
            if settings.check_sender:
                await submission.check_authors(block, self._account, self._directory)
            login = self._account.address
            prefix += submission.missing(block, envelope, login, settings.hostname)
        refusal = await self._objection(
            "message", envelope.recipients, content.size, block
        )
        if refusal:
            return refusal
        await self._intake.accept(envelope, transaction.routes, content, prefix)
        self._errors = self._junk = 0
        return f"250 2.0.0 Ok: queued as {to_text(envelope.id)}\r\n".encode()

    def _envelope(self, transaction: Transaction) -> Envelope:
        origin, parameters = self._origin, transaction.parameters
        if parameters.smtputf8:
            protocol = origin.protocol.replace("ESMTP", "UTF8SMTP")
            origin = replace(origin, protocol=protocol)
        return Envelope(
            new_id(),
            transaction.sender,
            tuple(transaction.recipients),
            self._clock.seconds(),
            origin,
            parameters.eight_bit,
            parameters.smtputf8,
        )

    # --- the rest ---

    async def do_RSET(self, command: events.Rset) -> bytes:
        self._reset()
        return self._junk_or(reply.OK)

    async def do_NOOP(self, command: events.Noop) -> bytes:
        return self._junk_or(reply.OK)

    async def do_HELP(self, command: events.Help) -> bytes:
        return self._junk_or(reply.HELP)

    async def do_VRFY(self, command: events.Vrfy) -> bytes:
        """RFC 5321 3.5.3: nobody is told who exists."""
        return self._junk_or(reply.CANNOT_VERIFY)

    async def do_EXPN(self, command: events.Expn) -> bytes:
        return self._junk_or(reply.NO_EXPANSION)

    async def do_QUIT(self, command: events.Quit) -> bytes:
        return self._leave(reply.BYE)

    async def bad_command(self, command: events.BadCommand) -> bytes:
        """What the grammar refused, with its own reply."""
        if command.close:
            self._leaving = True
        return made(command.code, command.status, command.text)


_Do = Callable[[SmtpSession, Any], Awaitable[bytes]]

_COMMANDS: Mapping[type, _Do] = {
    events.Auth: SmtpSession.do_AUTH,
    events.BadCommand: SmtpSession.bad_command,
    events.Bdat: SmtpSession.do_BDAT,
    events.DataCommand: SmtpSession.do_DATA,
    events.Expn: SmtpSession.do_EXPN,
    events.Hello: SmtpSession.do_HELLO,
    events.Help: SmtpSession.do_HELP,
    events.Mail: SmtpSession.do_MAIL,
    events.Noop: SmtpSession.do_NOOP,
    events.Quit: SmtpSession.do_QUIT,
    events.Rcpt: SmtpSession.do_RCPT,
    events.Rset: SmtpSession.do_RSET,
    events.StartTls: SmtpSession.do_STARTTLS,
    events.Vrfy: SmtpSession.do_VRFY,
}
