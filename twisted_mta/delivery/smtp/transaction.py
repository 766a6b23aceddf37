"""One MAIL, some RCPT, and the message (RFC 5321 3.3, RFC 2920, RFC 3030).

With PIPELINING all commands go out at once. With CHUNKING besides, a message that
is small goes out with them, which saves waiting for the answer to DATA: over a
connection that is there it takes one round trip. A message that is binary goes in
chunks, of which two at most are not answered yet.

In LMTP the content has an answer for each recipient that was accepted, in their order
(RFC 2033 4.2 and 4.3); each counts as soon as it is there.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted_mta.delivery.smtp.dialog import Dialog, Stage
from twisted_mta.delivery.smtp.form import Form
from twisted_mta.delivery.smtp.outcome import Unusable, deferred, delivered, refused
from twisted_mta.delivery.smtp.settings import Settings
from twisted_mta.delivery.smtp.source import RUN_OCTETS
from twisted_mta.delivery.smtp.work import Work
from twisted_mta.mail.address import Address
from twisted_mta.mail.reply import Reply
from twisted_mta.mail.route import Outcome
from twisted_mta.wire.smtp import client, content
from twisted_mta.wire.smtp.content import DotStuffing

# Postfix: smtp_min_data_rate, octets a second.
_SLOWEST = 500


class Transaction:
    """One attempt to hand a message over for some recipients."""

    def __init__(
        self, dialog: Dialog, settings: Settings, work: Work, form: Form
    ) -> None:
        self._dialog = dialog
        self._settings = settings
        self._work = work
        self._form = form

    async def run(self, first: bool) -> Sequence[Address]:
        """Do it.

        @param first: of the connection.
        @return: the recipients that another transaction may take: the server
            had enough with those before them (RFC 5321 4.5.3.1.10).
        @raise Unusable: the connection is of no use any more.
        @raise MailError: the message cannot be read here.
        """
        dialog, timeouts = self._dialog, self._settings.timeouts
        chunk = await self._small()
        total_s = timeouts.message_s + self._work.job.size / _SLOWEST
        dialog.connection.limit(timeouts.mail_s, total_s)
        try:
            accepted, again = await self._envelope(b"" if first else client.RSET, chunk)
            if chunk:
                final = await dialog.reply(Stage.FINAL if accepted else Stage.DATA)
                if not accepted and final.positive:
                    raise self._nobodys()
            elif accepted:
                final = await self._content()
            if accepted:
                await self._settle(accepted, final)
        finally:
            dialog.ahead = dialog.whole = False
        return again

    async def _settle(self, accepted: Sequence[Address], final: Reply) -> None:
        """Record what the server made of the content.

        @param final: its first answer.
        """
        if not self._settings.lmtp:
            self._work.settle(accepted, self._taken(final))
            return
        for number, recipient in enumerate(accepted):
            if number:
                final = await self._dialog.reply(Stage.FINAL)
            self._work.settle([recipient], self._taken(final))

    async def _small(self) -> bytes:
        """All of the message as one chunk, if it goes out with the commands."""
        offers, form = self._dialog.offers, self._form
        if self._settings.lmtp:  # a last chunk for nobody would have no answer
            return b""
        if "CHUNKING" not in offers or "PIPELINING" not in offers or form.binary:
            return b""
        if form.size is None or form.size > RUN_OCTETS:
            return b""
        whole = b"".join([run async for run in form.source.runs()])
        octets = content.lines(content.Folding().encode(whole))
        return client.bdat(len(octets), last=True) + octets

    async def _envelope(
        self, reset: bytes, chunk: bytes
    ) -> tuple[Sequence[Address], Sequence[Address]]:
        """Everything up to the answer to DATA, if that is said.

        @return: whom the server accepted, waiting for content if there are
            any; and whom it may accept with another MAIL.
        """
        dialog, form = self._dialog, self._form
        chunked = bool(chunk) or form.binary
        dialog.ahead = "PIPELINING" in dialog.offers
        if dialog.ahead:
            last = chunk if chunked else client.DATA
            commands = (reset, form.origin, form.mail, *form.rcpt.values(), last)
            dialog.connection.write(b"".join(commands))
            dialog.whole = bool(chunk)
        if reset:
            await dialog.ask(reset, Stage.RSET)
        if form.origin:  # what it does not want to know it need not
            await dialog.ask(form.origin, Stage.ORIGIN)
        mail = await dialog.ask(form.mail, Stage.MAIL)
        if not mail.positive:
            self._work.settle(form.rcpt, self._refusal(mail))
        accepted, again = await self._recipients(mail.positive)
        if not chunked and (accepted or dialog.ahead):
            data = await dialog.ask(client.DATA, Stage.DATA)
            if data.code != 354:
                self._work.settle(accepted, self._refusal(data))
                accepted = []
            elif not accepted:
                raise self._nobodys()
        return accepted, again

    def _nobodys(self) -> Unusable:
        """A server shall not get a message for nobody."""
        self._dialog.connection.abort()
        text = "The server wants a message without recipients"
        return Unusable(deferred("4.5.0", text, self._dialog.remote))

    async def _recipients(self, begun: bool) -> tuple[list[Address], list[Address]]:
        """RCPT for each.

        @param begun: MAIL was accepted; else answers to what was sent with it
            are read and mean nothing.
        """
        accepted: list[Address] = []
        again: list[Address] = []
        if not begun and not self._dialog.ahead:
            return accepted, again
        for recipient, command in self._form.rcpt.items():
            reply = await self._dialog.ask(command, Stage.RCPT)
            if not begun:
                continue
            if reply.positive:
                accepted.append(recipient)
            elif reply.code in (452, 552) and accepted:
                again.append(recipient)
            else:
                # 552 was 452 once (RFC 5321 4.5.3.1.10).
                outcome = self._refusal(reply, final=reply.code != 552)
                self._work.settle([recipient], outcome)
        return accepted, again

    async def _content(self) -> Reply:
        """The message, no faster than the server reads, and the answer to it.

        @raise MailError: it cannot be read here.
        """
        dialog = self._dialog
        dialog.ahead = False
        dialog.unfinished = True
        dialog.connection.limit(self._settings.timeouts.block_s)
        if self._form.binary:
            return await self._chunks()
        folding, stuffing = content.Folding(), DotStuffing()
        unread = 0
        async for run in self._form.source.runs():
            dialog.connection.write(stuffing.encode(folding.encode(run)))
            unread += len(run)
            if unread >= RUN_OCTETS:  # the prefix leaves with what follows it
                await self._drain()
                unread = 0
        await self._drain()
        dialog.connection.write(stuffing.end())
        dialog.unfinished = False
        return await dialog.reply(Stage.FINAL)

    async def _chunks(self) -> Reply:
        """The message as it is. Chunks are counted, not looked at."""
        dialog = self._dialog
        waiting = False
        async for run in self._form.source.runs():
            dialog.connection.write(client.bdat(len(run), last=False) + run)
            await self._drain()
            if waiting:
                reply = await dialog.reply(Stage.BLOCK)
                if not reply.positive:
                    self._lmtp_refused(reply)
                    # The chunk that is on its way is answered too.
                    await dialog.reply(Stage.BLOCK)
                    dialog.unfinished = False
                    return reply
            waiting = True
        dialog.connection.write(client.bdat(0, last=True))
        dialog.unfinished = False
        if waiting and not (reply := await dialog.reply(Stage.BLOCK)).positive:
            self._lmtp_refused(reply)
            await dialog.reply(Stage.BLOCK)
            return reply
        return await dialog.reply(Stage.FINAL)

    def _lmtp_refused(self, reply: Reply) -> None:
        """A chunk was refused. In LMTP it is not worth knowing how many answers the
        chunk behind it gets.

        @raise Unusable: if this is LMTP.
        """
        if self._settings.lmtp:
            self._dialog.connection.abort()
            raise Unusable(self._refusal(reply), retry=False)

    async def _drain(self) -> None:
        if not await self._dialog.connection.drain():
            # It may have said why before it hung up.
            reply = await self._dialog.reply(Stage.BLOCK)
            raise Unusable(refused(reply, self._dialog.remote))

    # --- what answers mean ---

    def _taken(self, reply: Reply) -> Outcome:
        if reply.positive:
            return delivered(reply, self._dialog.remote, self._action())
        return self._refusal(reply, retry=False)

    def _action(self) -> str:
        """What the sender is told of a message that was taken."""
        offers, by = self._dialog.offers, self._work.job.envelope.handling.by
        # RFC 2852 4.1.4: of each step, if he asked for that; and that nobody promises
        # the time any more.
        if self._settings.lmtp:  # it is where it was to go
            return "" if "DSN" in offers else "delivered"
        if by is not None and (by.trace or "DELIVERBY" not in offers):
            return "traced"
        return "" if "DSN" in offers else "relayed"

    def _refusal(
        self, reply: Reply, *, final: bool = True, retry: bool = True
    ) -> Outcome:
        """What a negative reply means.

        @raise Unusable: it is none. Server and client do not speak of the same
            command any more: a next one might be read as content.
        """
        outcome = refused(reply, self._dialog.remote, final=final)
        if reply.code < 400:
            self._dialog.connection.abort()
            raise Unusable(outcome, retry=retry)
        return outcome
