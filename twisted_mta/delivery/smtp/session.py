"""One connection to one server: how it begins, what goes over it, how it ends.

The client's side of RFC 5321 with STARTTLS and AUTH, and with what else the server
offers as far as it is of use: see L{twisted_mta.delivery.smtp.form}. It knows no DNS
and no other host. How much may go over one connection is the server's to say (LIMITS,
RFC 9422).

BUGS: when the connection breaks after the end of the message and before its answer,
the message counts as not delivered and may arrive twice (RFC 1047). Its outcome says
so.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted_mta.delivery.smtp.demand import Demand, Proof
from twisted_mta.delivery.smtp.dialog import Dialog, Stage
from twisted_mta.delivery.smtp.exchanger import Host
from twisted_mta.delivery.smtp.form import fit, spelt
from twisted_mta.delivery.smtp.login import log_in
from twisted_mta.delivery.smtp.outcome import (
    TlsFailed,
    Unusable,
    deferred,
    delivered,
    failed,
    refused,
)
from twisted_mta.delivery.smtp.settings import Settings, Tls
from twisted_mta.delivery.smtp.transaction import Transaction
from twisted_mta.delivery.smtp.work import Work
from twisted_mta.errors import MailError
from twisted_mta.mail.address import Address
from twisted_mta.mail.route import Outcome
from twisted_mta.net.client import Connection
from twisted_mta.net.tls import CertificateError, opportunistic, verifying
from twisted_mta.net.verification import (
    Unverified,
    check_authority,
    check_tlsa,
    watching,
)
from twisted_mta.wire.smtp import client
from twisted_mta.wire.smtp.capabilities import Capabilities, capabilities

# RFC 8460 4.3.1.
_NO_TLS = "starttls-not-supported"


class Session:
    """A connection to a server, for one message after the other.

    @ivar host: the server.
    @ivar demand: what is asked of the channel to it.
    @ivar channel: how that is, see L{Outcome.tls <twisted_mta.mail.route.Outcome>}.
    @ivar missed: what it is not, though nothing depends on it: as a report calls it,
        and in words; two empty texts if there is nothing.
    """

    def __init__(
        self, connection: Connection, host: Host, demand: Demand, settings: Settings
    ) -> None:
        self.host = host
        self.demand = demand
        self.channel = ""
        self.missed = "", ""
        self._connection = connection
        self._dialog = Dialog(connection, host, settings)
        self._settings = settings
        self._remote = str(host)
        self._transactions = 0
        self._domains: set[str] = set()

    # --- what the agent calls ---

    @property
    def secure(self) -> bool:
        """There is TLS."""
        return self._connection.secure

    @property
    def source(self) -> str:
        """Our address."""
        return self._connection.source

    async def begin(self) -> None:
        """Greeting, EHLO, TLS and AUTH.

        @raise TlsFailed: the channel is not as it was asked for.
        @raise Unusable: this server is of no use now.
        """
        timeouts = self._settings.timeouts
        self._connection.limit(timeouts.greeting_s, timeouts.message_s)
        if self._connection.secure:
            self._verify()
        greeting = await self._dialog.reply(Stage.GREETING)
        if not greeting.positive:
            # What is said here is of us, not of the mail, and so not final
            # (Postfix: smtp_skip_5xx_greeting); but for a host that takes no
            # mail at all (RFC 7504).
            final = greeting.code == 521
            raise Unusable(refused(greeting, self._remote, final=final))
        await self._hello()
        if not self._connection.secure and self.demand.tls is not Tls.NONE:
            await self._start_tls()
        if self.demand.promised and "REQUIRETLS" not in self._dialog.offers:
            text = "The server does not promise TLS on the rest of the way"
            raise Unusable(failed("5.7.30", text, self._remote))
        await log_in(self._dialog, self._settings)

    async def send(self, work: Work, recipients: Sequence[Address]) -> list[Address]:
        """Try recipients, in as many transactions as it takes.

        @return: those that need another connection: the server takes no more over
            this one (RFC 9422).
        @raise Unusable: the connection is of no use any more.
        """
        waiting = list(recipients)
        while waiting and self._may_begin:
            batch, rest = self._batch(waiting)
            if not batch:
                break
            try:
                again = await self._transaction(work, batch)
            except MailError as error:  # the content is gone; the server is not
                text = f"The message cannot be read here: {error.text}"
                raise Unusable(deferred("4.3.0", text), retry=False)
            waiting = [*again, *rest]
            if waiting:
                await work.note()
        return waiting

    async def foresee(self, recipient: Address) -> Outcome:
        """What this server says of a recipient. The transaction is left as it is: the
        next begins with RSET.

        @raise Unusable: the connection is of no use any more.
        """
        try:
            written = spelt(recipient, "SMTPUTF8" in self._dialog.offers) or recipient
        except ValueError:
            return failed("5.6.7", "The server does not do SMTPUTF8", self._remote)
        utf8 = not written.ascii
        self._transactions += 1
        ask, timeouts = self._dialog.ask, self._settings.timeouts
        self._connection.limit(timeouts.mail_s, timeouts.message_s)
        if self._transactions > 1:
            await ask(client.RSET, Stage.RSET)
        # Nobody is told of what comes back (Exim: callouts have the null sender).
        reply = await ask(client.mail(None, smtputf8=utf8), Stage.MAIL)
        if not reply.positive:
            # It says nothing of the recipient.
            return refused(reply, self._remote, final=False)
        reply = await ask(client.rcpt(written), Stage.RCPT)
        if reply.positive:
            return delivered(reply, self._remote, "")
        return refused(reply, self._remote, final=reply.code != 552)

    @property
    def reusable(self) -> bool:
        """Whether another message may go this way. A server that spoke unasked
        is no more to be understood."""
        return (
            self._connection.alive
            and self._connection.engine.buffered() == 0
            and self._transactions < self._settings.messages
            and self._may_begin
        )

    def leave(self) -> None:
        """Say goodbye, without waiting for the answer (Postfix:
        smtp_skip_quit_response); within content, hang up, so that what was
        sent of it is not taken for whole."""
        if self._dialog.unfinished:
            self.abort()
        elif self._connection.alive:
            self._connection.write(client.QUIT)
            self._connection.close()

    def abort(self) -> None:
        """Hang up."""
        self._connection.abort()

    # --- the beginning ---

    async def _hello(self) -> None:
        hostname, ask = self._settings.hostname, self._dialog.ask
        hello = client.lhlo if self._settings.lmtp else client.ehlo
        reply = await ask(hello(hostname), Stage.HELLO)
        if reply.positive:
            offers = capabilities(reply)
            self._dialog.offers = offers.without(self._settings.without)
            return
        if reply.permanent and not self._settings.lmtp:
            reply = await ask(client.helo(hostname), Stage.HELLO)
        if not reply.positive:
            # Who knows no LHLO is the operator's mistake, not the sender's.
            final = not self._settings.lmtp
            raise Unusable(refused(reply, self._remote, final=final))

    async def _start_tls(self) -> None:
        demand = self.demand
        text = "TLS is required, but the server "
        if "STARTTLS" in self._dialog.offers:
            reply = await self._dialog.ask(client.STARTTLS, Stage.TLS)
            if reply.positive:
                await self._handshake()
                return
            text += f"said: {reply}"
        elif demand.promised:
            text += "has none"
            raise TlsFailed(failed("5.7.30", text, self._remote), _NO_TLS)
        else:
            text += "does not offer it"
        if demand.required:
            raise TlsFailed(deferred("4.7.4", text, self._remote), _NO_TLS)
        self.missed = _NO_TLS, ""

    async def _handshake(self) -> None:
        context = tls_context(self.host, self.demand, self._settings)
        self._connection.limit(self._settings.timeouts.tls_s)
        if not await self._connection.start_tls(context):
            text = f"TLS failed: {self._connection.reason}"
            raise TlsFailed(deferred("4.7.5", text, self._remote))
        self._verify()
        self._dialog.offers = Capabilities()
        await self._hello()

    def _verify(self) -> None:
        """Judge the server's certificate; nothing was said to it over TLS yet.

        @raise TlsFailed: it is not the right one.
        """
        demand, proof = self.demand, self.demand.proof
        try:
            if demand.tlsa:
                check_tlsa(self._connection.handle(), demand.tlsa, demand.names)
            elif proof is Proof.STS:
                check_authority(self._connection.handle(), self.host.name)
        except Unverified as error:
            if demand.enforced:
                text = f"{proof.value}: {error}"
                outcome = deferred("4.7.5", text, self._remote)
                raise TlsFailed(outcome, error.fault.value)
            self.missed = error.fault.value, str(error)
            proof = Proof.NONE
        self.channel = f"{self._connection.tls} ({proof.value})"

    # --- a message ---

    @property
    def _may_begin(self) -> bool:
        most = self._dialog.offers.limits.transactions
        return most is None or self._transactions < most

    def _batch(self, waiting: list[Address]) -> tuple[list[Address], list[Address]]:
        """Whom the next transaction is for, and the others."""
        limits = self._dialog.offers.limits
        most = min(self._settings.recipients, limits.recipients or len(waiting))
        if limits.domains is None:
            return waiting[:most], waiting[most:]
        batch: list[Address] = []
        rest: list[Address] = []
        for recipient in waiting:
            domains = self._domains | {recipient.domain}
            if len(batch) < most and len(domains) <= limits.domains:
                self._domains = domains
                batch.append(recipient)
            else:
                rest.append(recipient)
        return batch, rest

    async def _transaction(
        self, work: Work, batch: Sequence[Address]
    ) -> Sequence[Address]:
        """@return: see L{Transaction.run}."""
        form = await fit(work, batch, self._dialog.offers, self._remote, self._settings)
        if form is None:
            return ()
        self._transactions += 1
        transaction = Transaction(self._dialog, self._settings, work, form)
        return await transaction.run(first=self._transactions == 1)


def tls_context(host: Host, demand: Demand, settings: Settings) -> object:
    """The TLS context for a host.

    @raise Unusable: none can be made.
    """
    name = demand.name or host.name
    try:
        if demand.tls is Tls.VERIFY:
            return verifying(name, settings.trust, settings.pair)
        if demand.proof is Proof.STS:
            return watching(name, settings.trust, settings.pair)
        return opportunistic(name, settings.pair)
    except (CertificateError, ValueError) as error:
        raise Unusable(deferred("4.7.5", f"No TLS with {name}: {error}"))
