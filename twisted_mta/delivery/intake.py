"""Taking responsibility for messages: the moment before the 250.

Everything that a message needs is one transaction of the ledger. When L{accept
<Intake.accept>} returns, each mailbox has it and each row for elsewhere is in
the queue; when it raises, nothing is anywhere. What a sender asked to be told of a
delivery (RFC 3461) is written in the same transaction. The queue's runner hears of
new rows by the ledger's topic, after the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.delivery.acceptance import Acceptance, OwnMail
from twisted_mta.delivery.history import notified
from twisted_mta.delivery.notice import Notices
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
    """

    def __init__(
        self,
        ledger: ILedger,
        store: ITransactionalDelivery,
        queue: IQueue,
        own: OwnMail,
        notices: Notices,
    ) -> None:
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
    ) -> None:
        """See L{IIntake.accept}."""
        unit = Acceptance(
            self._store, self._queue, envelope, routes, content, prefix, saved
        )
        if not confirmed:
            await self._ledger.write(unit, brief=unit.brief)
            unit.log(_log)
            return
        await self._accept(unit, envelope, prefix + content.header(), confirmed)

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
        *before: Callable[[ITransaction], None],
    ) -> None:
        """Accept a message with what its sender is told of it.

        @param before: units of work that come before it, in one transaction.
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

            await self._ledger.write(_all((*before, unit, *notices, tell)))
        finally:
            for notice in notices:
                notice.close()
        for accepted in (unit, *notices):
            accepted.log(_log)

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
    units: Sequence[Callable[[ITransaction], None]],
) -> Callable[[ITransaction], None]:
    def unit(transaction: ITransaction) -> None:
        for each in units:
            each(transaction)

    return unit
