"""From MAIL to the answer after content: a client's mail (RFC 5321 3.3).

The 250 after content is made only when the intake has taken responsibility.
Whatever cannot be taken is read to its end all the same, so that what follows
it is never mistaken for commands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from twisted_mta.errors import (
    BadContent,
    MailError,
    RelayDenied,
    TooLarge,
)
from twisted_mta.interfaces import (
    ICallout,
    IContentWriter,
    IDirectory,
    IIntake,
    IRecipients,
    IRouter,
)
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Body, Envelope
from twisted_mta.mail.ids import new_id
from twisted_mta.mail.route import RELEASE, Mailing, Resolved, Route, ToAgent
from twisted_mta.mail.verdict import Progress
from twisted_mta.net.stream import SHUTTING_DOWN, Stream
from twisted_mta.servers import errors
from twisted_mta.servers.smtp import carriage, claim, reply, submission, trace, wishes
from twisted_mta.servers.smtp.client import Client
from twisted_mta.servers.smtp.each import Each, last, queued
from twisted_mta.servers.smtp.fingerprint import fingerprint
from twisted_mta.servers.smtp.headerfilter import HeaderFilter
from twisted_mta.servers.smtp.promise import Promise
from twisted_mta.servers.smtp.reply import made
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.servers.smtp.submitter import Submitter
from twisted_mta.servers.smtp.transaction import Transaction
from twisted_mta.servers.smtp.unwanted import Unwanted
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


class Gone(Exception):
    """The conversation ended within a command: no answer is awaited, and no
    promise was made. Why is the stream's next event."""


class Reception:
    """A client's transactions, one after another.

    @ivar transaction: the one under way.
    @ivar accepted: how many messages were.
    @ivar promise: what the client was told of the last of them.
    """

    def __init__(
        self,
        stream: Stream,
        engine: SmtpServerEngine,
        settings: SmtpSettings,
        clock: IReactorTime,
        client: Client,
        router: IRouter,
        intake: IIntake,
        directory: IDirectory,
        recipients: IRecipients | None = None,
        unwanted: Unwanted | None = None,
        callout: ICallout | None = None,
    ) -> None:
        """
        @param recipients: who exists in domains that are relayed.
        @param unwanted: whom nothing is sent to.
        """
        self._recipients = recipients
        self._unwanted = unwanted
        self.transaction: Transaction | None = None
        self.accepted = 0
        self.promise = Promise(stream, intake)
        self._stream = stream
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._client = client
        self._router = router
        self._intake = intake
        self._callout = callout
        self._filter: HeaderFilter | None = None
        self._submitter = Submitter(settings, clock, client, directory)

    def reset(self) -> None:
        """End the transaction, if there is one."""
        self._stream.pace(0)
        if self.transaction is not None:
            self.transaction.abort()
            self.transaction = None

    async def mail(self, command: events.Mail) -> bytes:
        """RFC 5321 4.1.1.2."""
        if not self._client.origin.helo:
            return reply.HELLO_FIRST
        if self.transaction is not None:
            return reply.NESTED_MAIL
        settings, sender = self._settings, command.sender
        offer = self._client.offer
        if not command.parameters.keywords <= offer.mail:
            return reply.NOT_OFFERED
        if command.parameters.body is Body.BINARY and not carriage.binary(offer):
            return reply.NOT_OFFERED
        if settings.submission and self._client.account is None:
            return reply.LOGIN_FIRST
        if command.parameters.verp and sender is None:
            return reply.NO_SENDER_TO_VARY
        size = command.parameters.size or 0
        if size > settings.message_size:
            return reply.TOO_LARGE
        if command.parameters.keywords:
            secure, now = self._stream.secure, self._clock.seconds()
            refusal = wishes.refusal(command.parameters, settings, secure, now)
            if refusal:
                return refusal
        self._intake.need(size)
        refusal = await self._submitter.refusal(sender) or await claim.refusal(
            sender, settings, self._client, self._router
        )
        if refusal:
            return refusal
        parameters = command.parameters
        binary = parameters.body is Body.BINARY
        self._engine.begin(parameters.smtputf8, binary)
        self.transaction = Transaction(sender, parameters, self._verp(command))
        if settings.submission:
            self._filter = HeaderFilter(settings.header_size)
        refusal = await self._judge("mail", (), size)
        if refusal:
            self.reset()
            return refusal
        return wishes.answer(command.parameters, settings, self._client.trusted)

    def _verp(self, command: events.Mail) -> str:
        """With what recipients are written into the sender, or nothing."""
        account = self._client.account
        if account is None and not self._client.relays:
            return ""
        login = account.address if account is not None else None
        return wishes.verp(command.parameters, self._settings, command.sender, login)

    async def rcpt(self, command: events.Rcpt) -> bytes:
        """RFC 5321 4.1.1.3. Who does not exist is refused here, and nothing is
        taken for elsewhere but from those we relay for."""
        transaction, recipient = self.transaction, command.recipient
        if transaction is None:
            return reply.MAIL_FIRST
        if transaction.content is not None:
            return reply.CHUNKS_STARTED
        if not command.parameters.keywords <= self._client.offer.rcpt:
            return reply.NOT_OFFERED
        if len(transaction.given) >= self._settings.recipients:
            return reply.TOO_MANY_RECIPIENTS
        if transaction.repeats(recipient):
            return reply.RECIPIENT_OK
        mailing = Mailing(transaction.sender, self._client.origin.login)
        resolved = await self._router.route(recipient, mailing)
        if not (resolved.local or self._client.account or self._client.relays):
            raise RelayDenied()
        if resolved.returns and transaction.sender is not None:
            return reply.RETURNS_ONLY
        if self._settings.submission and not (
            resolved.local or submission.fully_qualified(recipient)
        ):
            return reply.RECIPIENT_UNQUALIFIED
        if resolved.relayed and not self._client.trusted:
            await self._exists(recipient, resolved)
        routes: Sequence[Route] = resolved.routes
        if self._unwanted is not None:
            refusal, routes = await self._unwanted.refusal(
                self._client, recipient, routes
            )
            if refusal:
                return refusal
        if self._submitter.limited:
            count = len(transaction.recipients) + 1
            refusal = await self._submitter.too_much(count)
            if refusal:
                return refusal
        if self._client.policies is not None:
            asked = (*transaction.recipients, recipient)
            size = transaction.parameters.size or 0
            refusal = await self._judge("rcpt", asked, size)
            if refusal:
                return refusal
        if self._callout is not None:
            await self._callout.ask(resolved)
        notification = command.parameters.notification
        if transaction.parameters.held:
            # Where it goes then is asked then; nobody has it before.
            waiting = ToAgent(RELEASE, "", recipient, notification=notification)
            transaction.add(recipient, (waiting,))
        else:
            transaction.add(recipient, tuple(routes), notification)
        return reply.RECIPIENT_OK

    async def _exists(self, recipient: Address, resolved: Resolved) -> None:
        """@raise MailError: nobody has it, or that cannot be said now."""
        way = resolved.routes[0]
        if self._recipients is None or not isinstance(way, ToAgent):
            raise RelayDenied()
        await self._recipients.check(recipient, way)

    async def data(self, command: events.DataCommand) -> bytes:
        """RFC 5321 4.1.1.4."""
        transaction = self.transaction
        if command.early:
            return self._client.leave(reply.OUT_OF_STEP)
        if transaction is None:
            return reply.MAIL_FIRST
        if transaction.content is not None:
            return reply.CHUNKS_STARTED
        if not transaction.recipients:
            return self._for_nobody
        if transaction.parameters.body is Body.BINARY:
            return reply.BINARY_IN_CHUNKS
        try:
            self._intake.need(transaction.parameters.size or 0)
            transaction.content = self._intake.content()
            self._stream.write(self._engine.start_data())
            try:
                await self._receive(transaction.content)
                answers = await self._accept(transaction, transaction.content)
            except MailError as error:
                answers = [self._not_taken(error)]
            return self._last_word(transaction, answers)
        finally:
            self.reset()

    def _last_word(self, transaction: Transaction, answers: Sequence[bytes]) -> bytes:
        """What is said after the last of the content: in LMTP once for each recipient
        as it was given (RFC 2033 4.2 and 4.3).

        @param answers: one, or one for each.
        """
        if self._settings.lmtp and len(answers) == 1:
            # Of a last chunk for nobody: none.
            answers = [answers[0]] * len(transaction.given)
        return b"".join(answers)

    @property
    def _for_nobody(self) -> bytes:
        lmtp = self._settings.lmtp
        return reply.NO_RECIPIENTS_LMTP if lmtp else reply.NO_RECIPIENTS

    def _not_taken(self, error: MailError) -> bytes:
        return reply.render(errors.smtp(error))

    async def bdat(self, command: events.Bdat) -> bytes:
        """RFC 3030 2. A chunk's octets come whatever we think of it; after a
        refused one only RSET helps, and the last one ends the transaction."""
        transaction = self.transaction
        try:
            refusal = self._chunk_refusal(transaction, command)
            if transaction is None or refusal:
                await self._receive(None)
                answers: Sequence[bytes] = [refusal]
            else:
                answers = await self._take_chunk(transaction, command)
            if transaction is None or not command.last:
                return b"".join(answers)
            return self._last_word(transaction, answers)
        finally:
            if command.last or transaction is None:
                self.reset()

    def _chunk_refusal(
        self, transaction: Transaction | None, command: events.Bdat
    ) -> bytes:
        """Why a chunk is not looked at, or nothing."""
        if "CHUNKING" not in self._client.offer.keywords:
            return reply.NO_CHUNKING
        if transaction is None:
            return reply.MAIL_FIRST
        if transaction.failed:
            return reply.CHUNK_FAILED
        refusal = b"" if transaction.recipients else self._for_nobody
        if not refusal and transaction.content is None:
            try:
                self._intake.need(transaction.parameters.size or command.size)
            except MailError as error:
                refusal = self._not_taken(error)
        transaction.failed = bool(refusal)
        return refusal

    async def _take_chunk(
        self, transaction: Transaction, command: events.Bdat
    ) -> Sequence[bytes]:
        self._engine.start_chunk(first=transaction.content is None)
        if transaction.content is None:
            transaction.content = self._intake.content()
        try:
            await self._receive(transaction.content)
            if command.last:
                return await self._accept(transaction, transaction.content)
        except MailError as error:
            transaction.failed = True
            return [self._not_taken(error)]
        return [made(250, "2.0.0", f"{command.size} octets received")]

    async def _receive(self, content: IContentWriter | None) -> None:
        """Read content to its end, also when it cannot be kept. From its first octet
        to its last, over all chunks of it, it has to keep pace.

        @param content: C{None} to keep nothing.
        @raise MailError: why it cannot be kept.
        """
        error: MailError | None = None
        stopping = False
        filtered = self._filter
        self._stream.pace(self._settings.min_data_rate)
        while True:
            event = await self._stream.next_event()
            if isinstance(event, Data):
                if content is not None and error is None:
                    octets = event.octets
                    if filtered is not None:
                        octets = filtered.pass_on(octets)
                    try:
                        content.write(octets)
                    except MailError as caught:
                        error = caught
                        content.abort()
            elif isinstance(event, EndOfData | EndOfChunk):
                break
            elif event is SHUTTING_DOWN:
                stopping = True  # what has begun may come to its end
            else:
                self._stream.post(event)
                raise Gone
        if stopping:
            self._stream.post(SHUTTING_DOWN)
        if event.fault is not None:
            error = _FAULTS[event.fault]()
        if error is not None:
            raise error
        whole = isinstance(event, EndOfData) or event.last
        if filtered is not None and content is not None and whole:
            content.write(filtered.end())

    async def _accept(
        self, transaction: Transaction, content: IContentWriter
    ) -> Sequence[bytes]:
        """Take responsibility (RFC 5321 4.2.5), or say why not.

        @return: an answer; in LMTP perhaps one for each RCPT.
        """
        settings = self._settings
        await content.finish()
        self._stream.stranger = False
        saved = self._submitter.saved(self._filter)
        envelope = self._envelope(transaction)
        sign = b""
        if settings.recognises_resent:
            # Of what came, not of what is made of it.
            sign = fingerprint(envelope.origin, transaction, content.digest())
        if envelope.body is Body.BINARY and (
            saved is not None or carriage.in_mailboxes(transaction.routes)
        ):
            content = await carriage.readable(content, self._intake)
            transaction.content = content
            envelope = envelope._replace(body=Body.EIGHT_BIT)
        block = content.header()
        trace.check(block, settings)
        if trace.solicits(block, settings.no_soliciting):
            return [reply.NO_SOLICITING]
        prefix = trace.received(envelope, settings.hostname)
        if settings.submission and self._client.account is not None:
            await self._submitter.check_authors(block)
            login = self._client.account.address
            prefix += submission.missing(block, envelope, login, settings.hostname)
        refusal = await self._judge("message", envelope.recipients, content.size, block)
        if refusal:
            return [refusal]
        if self._client.policies is not None:
            marks = (*self._client.judged.values(), *transaction.judged.values())
            quarantined = any(mark.quarantine for mark in marks)
            envelope = envelope._replace(quarantined=quarantined)
            prefix = trace.tags(marks) + prefix
        if self._submitter.limited:
            refusal = await self._submitter.count(len(transaction.recipients))
            if refusal:
                return [refusal]
        if not (settings.lmtp or transaction.parameters.prdr):
            id = await self._intake.accept(
                envelope,
                transaction.routes,
                content,
                prefix,
                transaction.confirmed,
                saved,
                sign,
            )
            self.accepted += 1
            self.promise.make(sign, envelope.id)
            return [queued(id)]
        each = Each(self._intake, self._client.session, self.promise)
        answers = await each.accept(transaction, envelope, content, prefix, saved, sign)
        self.accepted += any(answer.startswith(b"2") for answer in answers)
        if settings.lmtp:
            return answers
        return [b"".join((reply.EACH_FOLLOWS, *answers, last(answers)))]

    def _envelope(self, transaction: Transaction) -> Envelope:
        origin, parameters = self._client.origin, transaction.parameters
        if parameters.smtputf8:
            protocol = origin.protocol.replace("ESMTP", "UTF8SMTP")
            origin = replace(origin, protocol=protocol)
        now, trusted = self._clock.seconds(), self._client.trusted
        return Envelope(
            new_id(),
            transaction.sender,
            tuple(transaction.recipients),
            now,
            origin,
            parameters.body,
            parameters.smtputf8,
            wishes.handling(parameters, self._settings, trusted, now, transaction.verp),
        )

    async def _judge(
        self,
        stage: str,
        recipients: Sequence[Address],
        size: int,
        header: bytes = b"",
    ) -> bytes:
        """Ask the policies of the transaction.

        @return: the reply that refuses, or nothing.
        """
        client, transaction = self._client, self.transaction
        if client.policies is None or transaction is None:
            return b""
        judged = transaction.judged
        if any(one.exempt for one in (*client.judged.values(), *judged.values())):
            return b""
        asked = Progress(
            client.session,
            client.origin,
            transaction.sender,
            recipients,
            size,
            header,
            client.trusted,
        )
        return client.keep(stage, await client.policies.ask(stage, asked), judged)
