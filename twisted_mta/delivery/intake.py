"""Taking responsibility for messages: the moment before the 250.

Everything that a message needs is one transaction of the ledger. When L{accept
<Intake.accept>} returns, each mailbox has it and each row for elsewhere is in
the queue; when it raises, nothing is anywhere. What a sender asked to be told of a
delivery (RFC 3461) is written in the same transaction. The queue's runner hears of
new rows by the ledger's topic, after the commit. A message that was accepted before,
and whose client did not hear of it, is not accepted anew
(L{twisted_mta.delivery.resend}).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.delivery.acceptance import Acceptance, OwnMail
from twisted_mta.delivery.forward import Forwarding
from twisted_mta.delivery.history import notified
from twisted_mta.delivery.notice import Notices
from twisted_mta.delivery.resend import Resends
from twisted_mta.interfaces import (
    IContentWriter,
    IHistory,
    IIntake,
    ILedger,
    IQueue,
    ITransaction,
    ITransactionalDelivery,
)
from twisted_mta.mail.confirmation import Confirmation
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.route import Route
from twisted_mta.mail.submitted import Saved

_log = Logger()  # not the class's: that would be made anew for each message


@implementer(IIntake)
class Intake:
    """Accepts messages into mailboxes and the queue.

    @param own: makes this server's own messages ready.
    @param notices: makes notifications ready.
    @param resends: knows what came before.
    @param forwarding: makes routes ready that lead on from an address of ours; C{None}:
        they stay as they are.
    """

    def __init__(
        self,
        ledger: ILedger,
        store: ITransactionalDelivery,
        queue: IQueue,
        own: OwnMail,
        notices: Notices,
        resends: Resends,
        forwarding: Forwarding | None = None,
    ) -> None:
        self._resends = resends
        self._forwarding = forwarding
        self._notices = notices
        self._ledger = ledger
        self._store = store
        self._queue = queue
        self._own = own

    def need(self, octets: int) -> None:
        """See L{IIntake.need}."""
        self._ledger.need(octets)

    def content(self) -> IContentWriter:
        """See L{IIntake.content}."""
        return self._ledger.content()

    async def accept(
        self,
        envelope: Envelope,
        routes: Sequence[Route],
        content: IContentWriter,
        prefix: bytes,
        confirmed: Sequence[Confirmation] = (),
        saved: Saved | None = None,
        fingerprint: bytes = b"",
    ) -> int:
        """See L{IIntake.accept}."""
        id = envelope.id
        claim = self._resends.claim(fingerprint, id) if fingerprint else None
        store, queue = self._store, self._queue
        try:
            if self._forwarding is not None:
                routes = await self._forwarding.ready(envelope, routes, content)
            unit = Acceptance(
                store, queue, envelope, routes, content, prefix, saved, claim
            )
            if confirmed:
                header = prefix + content.header()
                return await self._accept(unit, envelope, header, confirmed)
            before = await self._ledger.write(unit, brief=unit.brief)
        except BaseException:
            if claim is not None:
                self._resends.give_back(claim)
            raise
        if before is not None:
            unit.log_again(_log, before)
            return before
        unit.log(_log)
        return id

    def promised(self, fingerprint: bytes, id: int, heard: Callable[[], bool]) -> None:
        """See L{IIntake.promised}."""
        self._resends.promised(fingerprint, id, heard)

    def seen(self, fingerprint: bytes, id: int) -> None:
        """See L{IIntake.seen}."""
        self._resends.seen(fingerprint, id)

    def unseen(self, fingerprint: bytes, id: int) -> None:
        """See L{IIntake.unseen}."""
        self._resends.unseen(fingerprint, id)

    async def move(
        self,
        leave: Callable[[ITransaction], None],
        envelope: Envelope,
        routes: Sequence[Route],
        content: IContentWriter,
        prefix: bytes,
        confirmed: Sequence[Confirmation],
    ) -> None:
        """Accept a message that this server has already, as L{accept} does.

        @param leave: a unit of work that takes it from where it is.
        @raise MailError: it stays there.
        """
        if self._forwarding is not None:
            routes = await self._forwarding.ready(envelope, routes, content)
        unit = Acceptance(self._store, self._queue, envelope, routes, content, prefix)
        header = prefix + content.header()
        await self._accept(unit, envelope, header, confirmed, leave)

    @property
    def history(self) -> IHistory:
        """Where it is remembered."""
        return self._queue.history

    async def _accept(
        self,
        unit: Acceptance,
        envelope: Envelope,
        header: bytes,
        confirmed: Sequence[Confirmation],
        *leave: Callable[[ITransaction], None],
    ) -> int:
        """Accept a message with what its sender is told of it.

        @param leave: units of work that come before it, in one transaction.
        @return: see L{IIntake.accept}.
        """
        notices: list[Acceptance] = []
        try:
            await self._notices.confirm(
                self._queue, envelope, confirmed, header, notices
            )
            now = envelope.received_at
            events = [notified(envelope.id, notice.id, now) for notice in notices]

            def tell(transaction: ITransaction) -> None:
                self._queue.history.happened(transaction, events)

            before = await self._ledger.write(_all(leave, unit, (*notices, tell)))
        finally:
            for notice in notices:
                notice.close()
        if before is not None:
            unit.log_again(_log, before)
            return before
        for accepted in (unit, *notices):
            accepted.log(_log)
        return envelope.id

    async def start(self, domain: str, below: bool = False) -> int:
        """See L{IIntake.start}."""
        return await self._queue.start(domain, below)

    async def submit(self, envelope: Envelope, octets: bytes) -> None:
        """See L{IIntake.submit}."""
        unit = await self._own.prepare(self._queue, envelope, octets)
        if unit is None:
            return
        try:
            await self._ledger.write(unit)
        finally:
            unit.close()
        unit.log(_log)


def _all(
    leave: Sequence[Callable[[ITransaction], None]],
    message: Acceptance,
    notices: Sequence[Callable[[ITransaction], object]],
) -> Callable[[ITransaction], int | None]:
    """All as one unit of work; it says whether the message was accepted before, of
    which the sender was told then."""

    def unit(transaction: ITransaction) -> int | None:
        for each in leave:
            each(transaction)
        before = message(transaction)
        if before is None:
            for notice in notices:
                notice(transaction)
        return before

    return unit
