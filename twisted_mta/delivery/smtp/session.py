"""One connection to one server: what is said, and what its answers mean.

The client's side of RFC 5321 with PIPELINING, SIZE, 8BITMIME, SMTPUTF8, DSN,
STARTTLS and AUTH as far as the server offers them. It knows no DNS and no other
host. It trusts no answer: each must come in time, is bounded by the engine, and
what it does not say is not assumed.

8-bit content goes to a server without 8BITMIME as it is, against the letter of
RFC 6152 3, as Exim and qmail send it: nearly every such server takes it, and
content is never rewritten here.

BUGS: when the connection breaks after the final dot and before its answer, the
message counts as not delivered and may arrive twice (RFC 1047).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from twisted_mta.delivery.smtp.exchanger import Host
from twisted_mta.delivery.smtp.form import Form, fit
from twisted_mta.delivery.smtp.outcome import (
    TlsFailed,
    Unusable,
    deferred,
    delivered,
    refused,
)
from twisted_mta.delivery.smtp.settings import Settings, Tls
from twisted_mta.delivery.smtp.work import Work
from twisted_mta.errors import MailError
from twisted_mta.mail.address import Address
from twisted_mta.mail.reply import Reply
from twisted_mta.mail.route import Outcome
from twisted_mta.net.client import Connection
from twisted_mta.net.stream import TimedOut
from twisted_mta.net.tls import CertificateError, opportunistic, verifying
from twisted_mta.wire import sasl
from twisted_mta.wire.engine import RemoteProtocolError
from twisted_mta.wire.saslclient import choose
from twisted_mta.wire.scram import ScramClient
from twisted_mta.wire.smtp import client
from twisted_mta.wire.smtp.content import DotStuffing

# Postfix: smtp_min_data_rate, octets a second.
_SLOWEST = 500

# Content is read and sent in runs of this size.
_RUN_OCTETS = 64 * 1024


class Stage(Enum):
    """What is waited for, as logs and DSNs say it."""

    GREETING = "the greeting"
    HELLO = "the answer to EHLO"
    TLS = "the answer to STARTTLS"
    AUTH = "the answer to AUTH"
    RSET = "the answer to RSET"
    MAIL = "the answer to MAIL FROM"
    RCPT = "the answer to RCPT TO"
    DATA = "the answer to DATA"
    BLOCK = "the server to read the message"
    FINAL = "the answer to the end of the message (it may arrive twice)"


class Session:
    """A connection to a server, for one message after the other.

    @ivar host: the server.
    """

    def __init__(self, connection: Connection, host: Host, settings: Settings) -> None:
        self.host = host
        self._connection = connection
        self._settings = settings
        self._remote = str(host)
        self._offers = client.Capabilities()
        self._messages = 0
        self._used = False  # a transaction was begun
        self._ahead = False  # the commands were sent already (PIPELINING)
        self._unfinished = False  # content was begun and not ended

    # --- what the agent calls ---

    async def begin(self, tls: Tls) -> None:
        """Greeting, EHLO, TLS and AUTH.

        @raise TlsFailed: the handshake failed.
        @raise Unusable: this server is of no use now.
        """
        timeouts = self._settings.timeouts
        self._connection.limit(timeouts.greeting_s, timeouts.message_s)
        greeting = await self._reply(Stage.GREETING)
        if not greeting.positive:
            # What is said here is of us, not of the mail, and so not final
            # (Postfix: smtp_skip_5xx_greeting); but for a host that takes no
            # mail at all (RFC 7504).
            final = greeting.code == 521
            raise Unusable(refused(greeting, self._remote, final=final))
        await self._hello()
        if not self._connection.secure and tls is not Tls.NONE:
            await self._start_tls(tls)
        if self._settings.credentials is not None:
            await self._log_in(self._settings.credentials)

    async def send(self, work: Work) -> None:
        """Try all open recipients, in as many transactions as it takes.

        @raise Unusable: the connection is of no use any more.
        """
        waiting = list(work.open)
        while waiting:
            batch = waiting[: self._settings.recipients]
            try:
                again = await self._transaction(work, batch)
            except MailError as error:  # the content is gone; the server is not
                text = f"The message cannot be read here: {error.text}"
                raise Unusable(deferred("4.3.0", text), retry=False)
            waiting = [*again, *waiting[len(batch) :]]

    @property
    def reusable(self) -> bool:
        """Whether another message may go this way. A server that spoke unasked
        is no more to be understood."""
        return (
            self._connection.alive
            and self._connection.engine.buffered() == 0
            and self._messages < self._settings.messages
        )

    def leave(self) -> None:
        """Say goodbye, without waiting for the answer (Postfix:
        smtp_skip_quit_response); within content, hang up, so that what was
        sent of it is not taken for whole."""
        if self._unfinished:
            self.abort()
        elif self._connection.alive:
            self._connection.write(client.QUIT)
            self._connection.close()

    def abort(self) -> None:
        """Hang up."""
        self._connection.abort()

    # --- the beginning ---

    async def _hello(self) -> None:
        reply = await self._ask(client.ehlo(self._settings.hostname), Stage.HELLO)
        if reply.positive:
            self._offers = client.capabilities(reply)
            return
        if reply.permanent:
            reply = await self._ask(client.helo(self._settings.hostname), Stage.HELLO)
        if not reply.positive:
            raise Unusable(refused(reply, self._remote))

    async def _start_tls(self, tls: Tls) -> None:
        refusal = "the server does not offer it"
        if "STARTTLS" in self._offers:
            reply = await self._ask(client.STARTTLS, Stage.TLS)
            if reply.positive:
                await self._handshake(tls)
                return
            refusal = f"the server said: {reply}"
        if tls.required:
            text = f"TLS is required, but {refusal}"
            raise Unusable(deferred("4.7.4", text, self._remote))

    async def _handshake(self, tls: Tls) -> None:
        context = tls_context(self.host, tls, self._settings)
        self._connection.limit(self._settings.timeouts.tls_s)
        if not await self._connection.start_tls(context):
            text = f"TLS failed: {self._connection.reason}"
            raise TlsFailed(deferred("4.7.5", text, self._remote))
        self._offers = client.Capabilities()
        await self._hello()

    async def _log_in(self, credentials: sasl.Credentials) -> None:
        if not self._connection.secure and self._settings.tls is not Tls.NONE:
            text = "The password is not sent to a server without TLS"
            raise Unusable(deferred("4.7.4", text, self._remote))
        mechanism = choose(self._offers.auth, credentials)
        if mechanism is None:
            text = "The server offers no way to log in that we know"
            raise Unusable(deferred("4.7.0", text, self._remote))
        command = client.auth(mechanism.name, mechanism.initial())
        reply = await self._ask(command, Stage.AUTH)
        while reply.code == 334:
            try:
                answer = mechanism.next(sasl.decode(reply.text.encode()))
            except sasl.MalformedResponse as error:
                raise Unusable(deferred("4.7.0", error.text, self._remote))
            reply = await self._ask(client.auth_response(answer), Stage.AUTH)
        if not reply.positive:
            # The operator's to mend (Postfix: smtp_sasl_auth_soft_bounce).
            raise Unusable(refused(reply, self._remote, final=False))
        if isinstance(mechanism, ScramClient) and not mechanism.verified:
            text = "The server did not show that it knows the password (SCRAM)"
            raise Unusable(deferred("4.7.0", text, self._remote))

    # --- a message ---

    async def _transaction(
        self, work: Work, batch: Sequence[Address]
    ) -> Sequence[Address]:
        """One MAIL, some RCPT, one DATA.

        @return: the recipients that another transaction may take: the server
            had enough with those before them (RFC 5321 4.5.3.1.10).
        """
        form = await fit(work, batch, self._offers, self._remote)
        if form is None:
            return ()
        timeouts = self._settings.timeouts
        total_s = timeouts.message_s + work.job.size / _SLOWEST
        self._connection.limit(timeouts.mail_s, total_s)
        accepted, again = await self._envelope(work, form)
        if accepted:
            self._unfinished = True
            await self._content(work)
            self._unfinished = False
            reply = await self._reply(Stage.FINAL)
            work.settle(accepted, self._taken(reply))
            self._messages += 1
        return again

    async def _envelope(
        self, work: Work, form: Form
    ) -> tuple[Sequence[Address], Sequence[Address]]:
        """Everything up to the answer to DATA.

        @return: whom the server accepted, waiting for content if there are
            any; and whom it may accept with another MAIL.
        """
        reset = client.RSET if self._used else b""
        self._used = True
        self._ahead = "PIPELINING" in self._offers
        if self._ahead:
            commands = (reset, form.mail, *form.rcpt.values(), client.DATA)
            self._connection.write(b"".join(commands))
        if reset:
            await self._ask(reset, Stage.RSET)
        mail = await self._ask(form.mail, Stage.MAIL)
        if not mail.positive:
            work.settle(form.rcpt, self._refusal(mail))
        accepted, again = await self._recipients(work, form, mail.positive)
        if accepted or self._ahead:
            data = await self._ask(client.DATA, Stage.DATA)
            if data.code != 354:
                work.settle(accepted, self._refusal(data))
                accepted = []
            elif not accepted:  # it shall not get a message for nobody
                self.abort()
                text = "The server wants a message without recipients"
                raise Unusable(deferred("4.5.0", text, self._remote))
        self._ahead = False
        return accepted, again

    async def _recipients(
        self, work: Work, form: Form, begun: bool
    ) -> tuple[list[Address], list[Address]]:
        """RCPT for each.

        @param begun: MAIL was accepted; else answers to what was sent with it
            are read and mean nothing.
        """
        accepted: list[Address] = []
        again: list[Address] = []
        if not begun and not self._ahead:
            return accepted, again
        for recipient, command in form.rcpt.items():
            reply = await self._ask(command, Stage.RCPT)
            if not begun:
                continue
            if reply.positive:
                accepted.append(recipient)
            elif reply.code in (452, 552) and accepted:
                again.append(recipient)
            else:
                # 552 was 452 once (RFC 5321 4.5.3.1.10).
                outcome = self._refusal(reply, final=reply.code != 552)
                work.settle([recipient], outcome)
        return accepted, again

    async def _content(self, work: Work) -> None:
        """The message, in runs, no faster than the server reads.

        @raise MailError: it cannot be read here.
        """
        self._connection.limit(self._settings.timeouts.block_s)
        stuffing = DotStuffing()
        self._connection.write(stuffing.encode(work.job.prefix))
        offset = 0
        while offset < work.content.size:
            run = await work.content.read(offset, _RUN_OCTETS)
            offset += len(run)
            self._connection.write(stuffing.encode(run))
            if not await self._connection.drain():
                # It may have said why before it hung up.
                reply = await self._reply(Stage.BLOCK)
                raise Unusable(refused(reply, self._remote))
        self._connection.write(stuffing.end())

    def _taken(self, reply: Reply) -> Outcome:
        if reply.positive:
            return delivered(reply, self._remote, "DSN" in self._offers)
        return self._refusal(reply, retry=False)

    def _refusal(
        self, reply: Reply, *, final: bool = True, retry: bool = True
    ) -> Outcome:
        """What a negative reply means.

        @raise Unusable: it is none. Server and client do not speak of the same
            command any more: a next one might be read as content.
        """
        outcome = refused(reply, self._remote, final=final)
        if reply.code < 400:
            self.abort()
            raise Unusable(outcome, retry=retry)
        return outcome

    # --- one answer ---

    async def _ask(self, command: bytes, stage: Stage) -> Reply:
        """The answer to a command, which is sent unless it was already."""
        if not self._ahead:
            self._connection.write(command)
        return await self._reply(stage)

    async def _reply(self, stage: Stage) -> Reply:
        """@raise Unusable: there is none, or it is the last (421)."""
        # What may have been delivered is not sent to another host at once.
        retry = stage is not Stage.FINAL
        self._connection.limit(_seconds(self._settings, stage))
        if self._ahead:
            # A server that sends each answer in a packet of its own waits for
            # our kernel's word on the last: 40 ms for each message.
            self._connection.acknowledge()
        try:
            event = await self._connection.next_event()
        except RemoteProtocolError as error:
            self.abort()
            text = f"The server broke the protocol: {error}"
            raise Unusable(deferred("4.5.0", text, self._remote), retry=retry)
        if isinstance(event, Reply):
            if event.code == 421:
                raise Unusable(refused(event, self._remote))
            return event
        if isinstance(event, TimedOut):
            self.abort()
            text = f"Timed out while waiting for {stage.value}"
        else:
            reason = self._connection.reason
            text = f"Lost the connection while waiting for {stage.value}: {reason}"
        raise Unusable(deferred("4.4.2", text, self._remote), retry=retry)


def _seconds(settings: Settings, stage: Stage) -> float:
    timeouts = settings.timeouts
    return {
        Stage.GREETING: timeouts.greeting_s,
        Stage.HELLO: timeouts.hello_s,
        Stage.TLS: timeouts.tls_s,
        Stage.AUTH: timeouts.auth_s,
        Stage.RSET: timeouts.rset_s,
        Stage.MAIL: timeouts.mail_s,
        Stage.RCPT: timeouts.rcpt_s,
        Stage.DATA: timeouts.data_s,
        Stage.BLOCK: timeouts.block_s,
        Stage.FINAL: timeouts.final_s,
    }[stage]


def tls_context(host: Host, tls: Tls, settings: Settings) -> object:
    """The TLS context for a host.

    @raise Unusable: none can be made.
    """
    if tls is not Tls.VERIFY:
        return opportunistic(host.name)
    try:
        return verifying(host.name, settings.trust)
    except (CertificateError, ValueError) as error:
        raise Unusable(deferred("4.7.5", f"Cannot verify {host.name}: {error}"))
