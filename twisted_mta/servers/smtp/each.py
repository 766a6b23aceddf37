"""An answer for each recipient: LMTP (RFC 2033 4.2) and PRDR."""

from __future__ import annotations

from collections.abc import Sequence

from twisted_mta.errors import MailError
from twisted_mta.interfaces import IContentWriter, IIntake
from twisted_mta.ledger.copy import copy
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.ids import new_id, to_text
from twisted_mta.servers import errors
from twisted_mta.servers.smtp import reply
from twisted_mta.servers.smtp.transaction import Transaction


class Each:
    """Takes responsibility for each recipient: all as one, or, if that cannot be, each
    by itself, so that one who cannot have a message does not hurt the others.

    @param session: its name, for refusals.
    """

    def __init__(self, intake: IIntake, session: str) -> None:
        self._intake = intake
        self._session = session

    async def accept(
        self,
        transaction: Transaction,
        envelope: Envelope,
        content: IContentWriter,
        prefix: bytes,
    ) -> Sequence[bytes]:
        """See L{IIntake.accept}.

        @return: an answer for each recipient, in order.
        """
        routes, told = transaction.routes, transaction.confirmed
        try:
            await self._intake.accept(envelope, routes, content, prefix, told)
        except MailError as error:
            if len(transaction.recipients) == 1:
                return [not_taken(error, self._session)]
        else:
            return [queued(envelope)] * len(transaction.recipients)
        answers = []
        for recipient, (its_routes, its_told) in zip(
            transaction.recipients, transaction.shares, strict=True
        ):
            own = envelope._replace(id=new_id(), recipients=(recipient,))
            # A content of its own: what a commit has taken belongs to the ledger.
            its = self._intake.content()
            try:
                await copy(content, its)
                await self._intake.accept(
                    own, routes[its_routes], its, prefix, told[its_told]
                )
            except MailError as error:
                answers.append(not_taken(error, self._session))
            else:
                answers.append(queued(own))
            finally:
                its.abort()
        return answers


def queued(envelope: Envelope) -> bytes:
    """The answer that is a promise."""
    return f"250 2.0.0 Ok: queued as {to_text(envelope.id)}\r\n".encode()


def not_taken(error: MailError, session: str) -> bytes:
    """The answer that is none."""
    return reply.signed(reply.render(errors.smtp(error)), session)


def last(envelope: Envelope, answers: Sequence[bytes]) -> bytes:
    """The answer after those for each recipient (PRDR)."""
    taken = any(answer.startswith(b"2") for answer in answers)
    return queued(envelope) if taken else reply.NOBODY_TOOK_IT
