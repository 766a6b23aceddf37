"""What the sender of a queued message is told after an attempt.

It turns a settlement into notifications that are ready for the transaction
which records it: a bounce for those who failed, a warning for those who are
late. Nobody is told of a message without a sender.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mta.delivery.acceptance import Acceptance, OwnMail
from twisted_mta.delivery.bounce import HEADER_MOST, Report, compose, unwanted
from twisted_mta.delivery.settlement import Settlement, Told
from twisted_mta.errors import NoSuchMessage
from twisted_mta.interfaces import ILedger, IQueue
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.job import Job


class Notices:
    """Makes notifications ready.

    @param hostname: this server's name.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, ledger: ILedger, own: OwnMail, hostname: str
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._own = own
        self._hostname = hostname

    async def prepare(
        self,
        queue: IQueue,
        job: Job,
        settlement: Settlement,
        notices: list[Acceptance],
    ) -> None:
        """Make ready what the sender is to be told.

        @param queue: takes notifications that go elsewhere.
        @param notices: where they are put, also those made before an error;
            whoever has them closes them.
        @raise Temporary: where it goes, or what the message was, cannot be
            said now.
        """
        if not (settlement.failed or settlement.warn):
            return
        id = to_text(job.envelope.id)
        if job.envelope.sender is None:
            if settlement.failed:
                self._log.info("{id}: status=dropped (no sender to tell)", id=id)
            return
        header = await self._header(job)
        if settlement.failed:
            await self._tell(queue, job, header, settlement.failed, None, notices)
        if settlement.warn and not unwanted(header):
            until = settlement.give_up_at
            await self._tell(queue, job, header, settlement.deferred, until, notices)

    async def _tell(
        self,
        queue: IQueue,
        job: Job,
        header: bytes,
        recipients: Told,
        retry_until: float | None,
        notices: list[Acceptance],
    ) -> None:
        report = Report(
            hostname=self._hostname,
            envelope=job.envelope,
            header=header,
            recipients=recipients,
            now=self._clock.seconds(),
            retry_until=retry_until,
        )
        envelope, octets = compose(report)
        notice = await self._own.prepare(queue, envelope, octets)
        if notice is not None:
            notices.append(notice)

    async def _header(self, job: Job) -> bytes:
        """The start of the message, with all of a header of usual length."""
        content = self._ledger.stored(job.content, job.size - len(job.prefix))
        try:
            return job.prefix + await content.read(0, HEADER_MOST)
        except NoSuchMessage:
            # Removed from the queue meanwhile; then this is told to nobody.
            return job.prefix
