"""An answer for each recipient: LMTP (RFC 2033 4.2) and PRDR."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.logger import Logger

from twisted_mta.errors import LedgerFull, LedgerUnavailable, MailError
from twisted_mta.interfaces import IContentWriter, IIntake
from twisted_mta.ledger.copy import copy
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.ids import new_id, to_text
from twisted_mta.mail.submitted import Saved
from twisted_mta.servers import errors
from twisted_mta.servers.smtp import reply
from twisted_mta.servers.smtp.promise import Promise
from twisted_mta.servers.smtp.transaction import Transaction

# What is no recipient's fault: the others would fare no better.
_FOR_ALL = (LedgerFull, LedgerUnavailable)


class Each:
    """Takes responsibility for each recipient: all as one, or, if that cannot be, each
    half of them, and so on, so that one who cannot have a message does not hurt the
    others: as many transactions as its share of them is deep.

    @param session: its name, for the log.
    @param promise: what the client is told last.
    """

    _log = Logger()

    def __init__(self, intake: IIntake, session: str, promise: Promise) -> None:
        self._promise = promise
        self._intake = intake
        self._session = session

    async def accept(
        self,
        transaction: Transaction,
        envelope: Envelope,
        content: IContentWriter,
        prefix: bytes,
        saved: Saved | None = None,
        fingerprint: bytes = b"",
    ) -> Sequence[bytes]:
        """See L{IIntake.accept}. Only what is taken as one is recognised when it is
        sent again.

        @return: an answer for each RCPT that was taken, in order.
        """
        routes, told = transaction.routes, transaction.confirmed
        count = len(transaction.recipients)
        answers = [b""] * count
        try:
            id = await self._intake.accept(
                envelope, routes, content, prefix, told, saved, fingerprint
            )
        except MailError as error:
            parts = self._without(error, envelope, answers, 0, count)
        else:
            self._promise.make(fingerprint, envelope.id)
            return [queued(id)] * len(transaction.given)
        while parts:
            begin, end = parts.pop()
            first, last = transaction.shares[begin], transaction.shares[end - 1]
            part = envelope._replace(
                id=new_id(), recipients=envelope.recipients[begin:end]
            )
            # A content of its own: what a commit has taken belongs to the ledger.
            its = self._intake.content()
            try:
                await copy(content, its)
                await self._intake.accept(
                    part,
                    routes[first[0].start : last[0].stop],
                    its,
                    prefix,
                    told[first[1].start : last[1].stop],
                    saved,
                )
            except MailError as error:
                parts += self._without(error, part, answers, begin, end)
            else:
                answers[begin:end] = [queued(part.id)] * (end - begin)
                saved = None  # once
            finally:
                its.abort()
        return [answers[place] for place in transaction.given]

    def _without(
        self,
        error: MailError,
        envelope: Envelope,
        answers: list[bytes],
        begin: int,
        end: int,
    ) -> list[tuple[int, int]]:
        """Some recipients cannot have it together.

        @return: the halves, the first last; none if there is an answer for them.
        """
        if end - begin > 1 and not isinstance(error, _FOR_ALL):
            middle = (begin + end) // 2
            return [(middle, end), (begin, middle)]
        answer = reply.render(errors.smtp(error))
        for recipient in envelope.recipients:
            self._log.info(
                "{session}: refused {recipient}: {reply}, from={sender}",
                session=self._session,
                recipient=recipient,
                reply=" ".join(answer.decode().splitlines()),
                sender=f"<{envelope.sender or ''}>",
            )
        answers[begin:end] = [answer] * (end - begin)
        return []


def queued(id: int) -> bytes:
    """The answer that is a promise."""
    return f"250 2.0.0 Ok: queued as {to_text(id)}\r\n".encode()


def last(answers: Sequence[bytes]) -> bytes:
    """The answer after those for each recipient (PRDR). Clients look at it first: with
    5yz it is the end of the message for all of them."""
    classes = {answer[:1] for answer in answers}
    if b"2" in classes:
        return reply.SOMEBODY_TOOK_IT
    return reply.NOBODY_YET if b"4" in classes else reply.NOBODY_TOOK_IT
