"""What is held for its sender until a time (RFC 4865), and then goes on its way.

Such a message is a row of the queue, for an agent of its own whose next hop is here:
when the row is due, its recipients are resolved as if the message came now, and it is
accepted anew, as a message with a queue id of its own; so it is before its time if an
operator names it in a flush. In the transaction that accepts
it the recipients leave the row, so that nothing can release them twice. It trusts no
account or alias to be what it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.delivery.intake import Intake
from twisted_mta.delivery.text import one_line
from twisted_mta.errors import (
    LedgerFull,
    LedgerUnavailable,
    MailError,
    NoSuchAccount,
    NoSuchMessage,
    NoSuchQueueId,
    Permanent,
    Temporary,
)
from twisted_mta.interfaces import (
    IContent,
    IDeliveryAgent,
    IRouter,
    ITransaction,
)
from twisted_mta.ledger.copy import copy
from twisted_mta.mail import verp
from twisted_mta.mail.address import Address
from twisted_mta.mail.confirmation import Confirmation
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.history import Event, Kind
from twisted_mta.mail.ids import new_id, to_text
from twisted_mta.mail.job import Job
from twisted_mta.mail.notification import informed
from twisted_mta.mail.route import Outcome, Result, Route

# Whom the next server, or the transaction of the release, tells; not the queue.
_RELEASED = Outcome(Result.DELIVERED, "2.0.0", "Released", action="")


@dataclass(frozen=True, slots=True)
class _Share:
    """A recipient that can be released.

    @ivar told: what the sender who asked for it is told.
    """

    recipient: Address
    routes: Sequence[Route]
    told: Sequence[Confirmation]


@implementer(IDeliveryAgent)
class Release:
    """Releases what was held.

    @param intake: of the ledger that has the queue.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, router: IRouter, intake: Intake) -> None:
        self._clock = clock
        self._router = router
        self._intake = intake

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        """See L{IDeliveryAgent}."""
        by = job.envelope.handling.by
        deadline = job.envelope.received_at + (by.seconds if by else 0)
        if by and by.returns and self._clock.seconds() >= deadline:
            late = Outcome(Result.FAILED, "5.4.7", "It was released too late")
            return dict.fromkeys(job.recipients, late)
        outcomes: dict[Address, Outcome] = {}
        shares: list[_Share] = []
        mailing = job.envelope.mailing
        for recipient in job.recipients:
            try:
                resolved = await self._router.route(recipient, mailing)
                if resolved.returns and job.envelope.sender is not None:
                    raise NoSuchAccount("Only bounces go to a return address")
            except MailError as error:
                outcomes[recipient] = _outcome(error)
                continue
            asked = job.notification(recipient)
            routes = verp.each(job.envelope, recipient, resolved.routes)
            share = informed(recipient, routes, asked)
            shares.append(_Share(recipient, *share))
        if shares:
            outcomes |= await self._release(job, content, shares)
        return outcomes

    async def close(self) -> None:
        """See L{IDeliveryAgent}."""

    async def _release(
        self, job: Job, content: IContent, shares: Sequence[_Share]
    ) -> dict[Address, Outcome]:
        """All as one, or, if that cannot be, each by itself: who cannot have the
        message does not keep it from the others."""
        try:
            await self._accept(job, content, shares)
        except MailError as error:
            # What is of the ledger is of everybody.
            if len(shares) == 1 or isinstance(error, LedgerUnavailable | LedgerFull):
                return {share.recipient: _outcome(error) for share in shares}
            outcomes: dict[Address, Outcome] = {}
            for share in shares:
                outcomes |= await self._release(job, content, [share])
            return outcomes
        return {share.recipient: _RELEASED for share in shares}

    async def _accept(
        self, job: Job, content: IContent, shares: Sequence[_Share]
    ) -> None:
        """@raise MailError: it cannot be."""
        recipients = tuple(share.recipient for share in shares)
        now = self._clock.seconds()

        def leave(transaction: ITransaction) -> None:
            for recipient in recipients:
                key = job.id, str(recipient)
                where = "FROM recipient WHERE hop_id = ? AND address = ?"
                if not list(transaction.execute(f"SELECT 1 {where}", key)):
                    raise NoSuchQueueId()
                transaction.execute(f"DELETE {where}", key)
            self._intake.history.happened(
                transaction, _renewed(job, recipients, envelope, now)
            )

        # An operator may have released it early: that is its time then, also where a
        # notification tells what was asked for.
        handling = job.envelope.handling
        at = min(handling.release_at, now)
        envelope = job.envelope._replace(
            id=new_id(),
            recipients=recipients,
            handling=replace(handling, release_at=at),
            quarantined=False,  # it was held, and somebody let it go
        )
        own = self._intake.content()
        try:
            await copy(content, own)
            await self._intake.move(
                leave,
                envelope,
                [route for share in shares for route in share.routes],
                own,
                job.prefix,
                [one for share in shares for one in share.told],
            )
        finally:
            own.abort()
        self._log.info(
            "{id}: released as {released}",
            id=to_text(job.envelope.id),
            released=to_text(envelope.id),
        )


def _renewed(
    job: Job, recipients: Sequence[Address], envelope: Envelope, now: float
) -> list[Event]:
    """What is remembered of a message whose recipients go on under another id."""
    id = to_text(envelope.id)
    return [
        Event(
            *(job.envelope.id, new_id(), now, Kind.RENEWED),
            recipient=one_line(str(recipient)),
            text=id,
        )
        for recipient in recipients
    ]


def _outcome(error: MailError) -> Outcome:
    """What an error means for a recipient. What is wrong with the content is no
    reason to return it."""
    if isinstance(error, Permanent) and not isinstance(error, NoSuchMessage):
        return Outcome(Result.FAILED, error.status, error.text)
    status = error.status if isinstance(error, Temporary) else "4.3.0"
    return Outcome(Result.DEFERRED, status, error.text)
