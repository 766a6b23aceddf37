"""An SMTP session: what each command means (RFC 5321), for mail exchangers and
submission servers (RFC 6409).

This is the conversation, from the greeting to the goodbye; mail itself is the
L{Reception}'s, AUTH the L{Login}'s, and the L{Temper} says when it is enough. It
speaks to a router, an intake, a directory, an authenticator and policies, and knows
none of them. Every command is a C{do_} that returns the octets of its reply; what
counts as the client's error is read off the reply.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_mta.errors import MailError
from twisted_mta.interfaces import (
    IAuthenticator,
    ICallout,
    IDirectory,
    IIntake,
    IPolicyChain,
    IRecipients,
    IRouter,
)
from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.reply import Reply
from twisted_mta.net.stream import (
    SHUTTING_DOWN,
    TIMED_OUT,
    TOO_SLOW,
    Closed,
    Stream,
)
from twisted_mta.servers import errors
from twisted_mta.servers.smtp import reply
from twisted_mta.servers.smtp.client import Client
from twisted_mta.servers.smtp.ehlo import capabilities
from twisted_mta.servers.smtp.inquiry import Inquiry
from twisted_mta.servers.smtp.login import Login
from twisted_mta.servers.smtp.reception import Gone, Reception
from twisted_mta.servers.smtp.reply import made, render
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.servers.smtp.temper import Temper
from twisted_mta.servers.smtp.transaction import Transaction
from twisted_mta.servers.smtp.unwanted import Unwanted
from twisted_mta.wire.engine import RemoteProtocolError
from twisted_mta.wire.smtp import events
from twisted_mta.wire.smtp.server import SmtpServerEngine

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# Octets of replies until the client must have read most of them: who pipelines
# for ever and never reads holds no more than this and what the kernel takes.
_UNREAD_OCTETS = 64 * 1024


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
        policies: IPolicyChain | None = None,
        tls: object | None = None,
        recipients: IRecipients | None = None,
        unwanted: Unwanted | None = None,
        callout: ICallout | None = None,
    ) -> None:
        """
        @param stream: connected, with a L{SmtpServerEngine}.
        @param authenticator: C{None} if nobody can log in here.
        @param policies: the opinions on every transaction.
        @param tls: the context for STARTTLS, C{None} if it is not offered.
        @param recipients: who exists in domains that are relayed.
        @param unwanted: whom nothing is sent to.
        @param callout: C{None}: nobody is asked about recipients.
        """
        host, port = stream.peer()
        origin = Origin("SMTP", host, port, tls=stream.tls, listener=settings.listener)
        relays = not settings.submission and host in settings.relay_from
        self.stream = stream
        self.engine = cast(SmtpServerEngine, stream.engine)
        self._settings = settings
        self._clock = clock
        self._tls = tls
        offer = settings.offer(host)
        self._client = Client(
            stream.name, origin, relays, offer, policies, settings.submission
        )
        self._intake = intake
        self._inquiry = Inquiry(router, directory)
        self._reception = Reception(
            stream,
            self.engine,
            settings,
            clock,
            self._client,
            router,
            intake,
            directory,
            recipients,
            unwanted,
            callout,
        )
        reception = self._reception
        self._temper = Temper(stream, settings, clock, self._client, reception)
        self._login = Login(
            stream, self.engine, settings, self._client, reception, authenticator
        )
        self._unread = 0

    async def run(self) -> None:
        """Speak until the client leaves."""
        try:
            await self._converse()
        except CancelledError:
            raise
        except RemoteProtocolError as error:
            self._log_end(str(error))
            self._write(error.reply)
        except Exception:
            self.log.failure("{session}: a bug", session=self.stream.name)
            self._write(reply.BUG)
        finally:
            self._reception.promise.end()
            self._reception.reset()

    async def _converse(self) -> None:
        stream, client = self.stream, self._client
        stream.limit(self._settings.idle_s, self._settings.total_s)
        refusal = await client.judge("connect")
        if refusal:
            self._write(refusal)
            return
        if self._settings.greeting_pause_s and not client.trusted:
            await deferLater(self._clock, self._settings.greeting_pause_s)
            if self.engine.buffered():
                self.log.info(
                    "{session}: refused: spoke before the greeting, client={client}",
                    session=stream.name,
                    client=client.origin.host or "-",
                )
                self._write(reply.OUT_OF_STEP)
                return
        stream.write(self._greeting())
        promise = self._reception.promise
        while not client.leaving:
            event = await stream.next_event()
            do = _COMMANDS.get(type(event))
            if do is None:
                promise.end()  # before the goodbye is in the way
                self._end(event)
                return
            if promise.open:
                promise.go_on()
            if not await self._say(await self._answer(do, event)):
                return

    def _greeting(self) -> bytes:
        protocol = "LMTP" if self._settings.lmtp else "ESMTP"
        return f"220 {self._settings.hostname} {protocol}\r\n".encode()

    async def _say(self, answer: bytes) -> bool:
        """Send, no faster than the client reads.

        @return: whether it is still there.
        """
        self._write(answer)
        self._unread += len(answer)
        if self._unread <= _UNREAD_OCTETS:
            return True
        self._unread = 0
        return await self.stream.drain()

    def _write(self, answer: bytes) -> None:
        """Each refusal, whoever made it, names the session."""
        # One of several lines may be some and may not (LMTP, PRDR, a goodbye).
        if answer[:1] >= b"4" or answer.count(b"\n") > 1:
            answer = reply.signed(answer, self.stream.name)
        if "ENHANCEDSTATUSCODES" not in self._client.offer.keywords:
            answer = reply.plain(answer)
        self.stream.write(answer)

    def _end(self, event: object) -> None:
        """What is no command ends the session."""
        if event is TIMED_OUT:
            self._log_end("nothing came in time")
            self._write(reply.TIMEOUT)
        elif event is TOO_SLOW:
            least = self._settings.min_data_rate
            self._log_end(f"content came slower than {least} octets/s")
            self._write(reply.TOO_SLOW)
        elif event is SHUTTING_DOWN:
            self._log_end("the server stops")
            self._write(reply.STOPPING)
        elif not isinstance(event, Closed):
            raise TypeError(f"not an event of SMTP: {event!r}")

    def _log_end(self, why: str) -> None:
        """The line of the log for a goodbye that is no answer."""
        self.log.info(
            "{session}: refused: {why}, client={client}, helo={helo}, login={login}",
            session=self.stream.name,
            why=why,
            client=self._client.origin.host or "-",
            helo=self._client.origin.helo or "-",
            login=self._client.origin.login or "-",
        )

    async def _answer(self, do: _Do, command: object) -> bytes:
        """Do a command; a refusal becomes a line of the log."""
        transaction = self._reception.transaction
        try:
            answer = await do(self, command)
        except MailError as error:
            answer = render(errors.smtp(error))
        except Gone:
            return b""
        # Not if a recipient has what others could not have.
        if answer[:1] >= b"4" and b"\n2" not in answer:
            self._log_refusal(command, transaction, answer)
            if answer[:1] == b"5":
                return await self._temper.error(answer)
        return answer

    def _log_refusal(
        self, command: object, transaction: Transaction | None, answer: bytes
    ) -> None:
        origin = self._client.origin
        said = command if isinstance(command, events.Mail) else transaction
        self.log.info(
            "{session}: refused {command}: {reply}, client={client}, helo={helo}, "
            "from={sender}, to={recipient}, login={login}",
            session=self.stream.name,
            command=type(command).__name__,
            reply=" ".join(dict.fromkeys(answer.decode().splitlines())),
            client=origin.host or "-",
            helo=origin.helo or "-",
            sender=f"<{said.sender or ''}>" if said else "-",
            recipient=getattr(command, "recipient", "-"),
            login=origin.login or "-",
        )

    # --- hello, TLS, login ---

    async def do_HELLO(self, command: events.Hello) -> bytes:
        """HELO and EHLO (RFC 5321 4.1.1.1); they reset (4.1.4)."""
        client = self._client
        if command.early:
            return client.leave(reply.OUT_OF_STEP)
        if command.lmtp != self._settings.lmtp:
            return reply.SAY_LHLO if self._settings.lmtp else reply.NO_LMTP
        self._reception.reset()
        again = bool(client.origin.helo)
        client.hello(command.name, command.extended, command.lmtp)
        refusal = await client.judge("helo")
        if refusal:
            client.hello("", extended=False)
            return refusal
        lines = [self._settings.hostname]
        if command.extended:
            lines += self._capabilities()
        answer = render(Reply(250, "", tuple(lines)))
        return await self._temper.junk(answer) if again else answer

    def _capabilities(self) -> Iterator[str]:
        return capabilities(
            self._settings,
            self._client.offer,
            secure=self.stream.secure,
            starttls=self._may_start_tls(),
            mechanisms=self._login.mechanisms(),
            now=self._clock.seconds(),
        )

    def _may_start_tls(self) -> bool:
        offered = self._tls is not None and "STARTTLS" in self._client.offer.keywords
        return offered and not self.stream.secure

    async def do_STARTTLS(self, command: events.StartTls) -> bytes:
        """RFC 3207. Whatever was said before is forgotten; who spoke on in the
        clear is no client but an attacker on the way."""
        if command.early:
            return self._client.leave(reply.OUT_OF_STEP)
        if not self._may_start_tls():
            return reply.NO_TLS
        self.stream.write(reply.BEGIN_TLS)
        if not await self.stream.start_tls(self._tls):
            raise Gone
        self._reception.reset()
        self._client.forget(self.stream.tls)
        return b""

    def do_AUTH(self, command: events.Auth) -> Awaitable[bytes]:
        return self._login.auth(command)

    # --- mail ---

    async def do_MAIL(self, command: events.Mail) -> bytes:
        if self._out_of_step():
            return self._client.leave(reply.OUT_OF_STEP)
        return await self._reception.mail(command)

    async def do_RCPT(self, command: events.Rcpt) -> bytes:
        if self._out_of_step():
            return self._client.leave(reply.OUT_OF_STEP)
        return await self._reception.rcpt(command)

    def _out_of_step(self) -> bool:
        """A stranger pipelines, and was not told that he may (Postfix
        reject_unauth_pipelining): programs for spam do not wait for answers."""
        client = self._client
        if client.extended and "PIPELINING" in client.offer.keywords:
            return False
        said = bool(client.origin.helo) and not client.trusted
        return said and self.engine.buffered() > 0

    def do_DATA(self, command: events.DataCommand) -> Awaitable[bytes]:
        return self._reception.data(command)

    def do_BDAT(self, command: events.Bdat) -> Awaitable[bytes]:
        return self._reception.bdat(command)

    async def do_RSET(self, command: events.Rset) -> bytes:
        self._reception.reset()
        return await self._temper.junk(reply.OK)

    # --- the rest ---

    async def do_NOOP(self, command: events.Noop) -> bytes:
        return await self._temper.junk(reply.OK)

    async def do_HELP(self, command: events.Help) -> bytes:
        return await self._temper.junk(reply.HELP)

    async def do_VRFY(self, command: events.Vrfy) -> bytes:
        """RFC 5321 3.5.3: few are told who exists."""
        if "VRFY" not in self._client.offer.keywords:
            return await self._temper.junk(reply.CANNOT_VERIFY)
        return await self._temper.junk(await self._inquiry.verify(command.who))

    async def do_EXPN(self, command: events.Expn) -> bytes:
        """RFC 5321 3.5.2."""
        if "EXPN" not in self._client.offer.keywords:
            return await self._temper.junk(reply.NO_EXPANSION)
        return await self._temper.junk(await self._inquiry.expand(command.what))

    async def do_ETRN(self, command: events.Etrn) -> bytes:
        """RFC 1985. Who asks is not looked at: the mail goes where it would go."""
        if self._reception.transaction is not None:
            return reply.NESTED_MAIL
        below = command.node.startswith("@")
        node = command.node.removeprefix("@")
        if "ETRN" not in self._client.offer.keywords:
            return await self._temper.junk(reply.NO_ETRN)
        if node not in self._settings.etrn:
            return await self._temper.junk(reply.NO_SUCH_NODE)
        count = await self._intake.start(node, below)
        text = f"{count} messages for {node} are tried now"
        answer = made(253, "2.0.0", text) if count else reply.NOTHING_WAITS
        return await self._temper.junk(answer)

    async def do_XCLIENT(self, command: events.XClient) -> bytes:
        """As Postfix has it: the session begins anew, as that client's."""
        client = self._client
        if self._reception.transaction is not None:
            return reply.NESTED_MAIL
        if "XCLIENT" not in client.offer.keywords:
            return reply.NO_XCLIENT
        login, account = command.attributes.get("LOGIN"), None
        if login and self._settings.submission:
            account = await self._inquiry.account(login)
            if account is None:
                return reply.NO_SUCH_LOGIN
        client.become(command.attributes, account, self._settings)
        self.log.info(
            "{session}: XCLIENT {said}",
            session=self.stream.name,
            said=_shown(command.attributes),
        )
        refusal = await client.judge("connect")
        return client.leave(refusal) if refusal else self._greeting()

    async def do_XFORWARD(self, command: events.XForward) -> bytes:
        """As Postfix has it: for the log."""
        if self._reception.transaction is not None:
            return reply.NESTED_MAIL
        if "XFORWARD" not in self._client.offer.keywords:
            return reply.NO_XCLIENT
        self.log.info(
            "{session}: XFORWARD {said}",
            session=self.stream.name,
            said=_shown(command.attributes),
        )
        return reply.OK

    async def do_QUIT(self, command: events.Quit) -> bytes:
        return self._client.leave(reply.BYE)

    async def bad_command(self, command: events.BadCommand) -> bytes:
        """What the grammar refused, with its own reply."""
        answer = made(command.code, command.status, command.text)
        return self._client.leave(answer) if command.close else answer


def _shown(attributes: Mapping[str, str | None]) -> str:
    said = [f"{name}={value or '-'}" for name, value in attributes.items()]
    return ", ".join(said)


_Do = Callable[[SmtpSession, Any], Awaitable[bytes]]

_COMMANDS: Mapping[type, _Do] = {
    events.Auth: SmtpSession.do_AUTH,
    events.BadCommand: SmtpSession.bad_command,
    events.Bdat: SmtpSession.do_BDAT,
    events.DataCommand: SmtpSession.do_DATA,
    events.Etrn: SmtpSession.do_ETRN,
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
    events.XClient: SmtpSession.do_XCLIENT,
    events.XForward: SmtpSession.do_XFORWARD,
}
