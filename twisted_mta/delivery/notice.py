"""What the sender of a queued message is told after an attempt.

It turns a settlement into notifications that are ready for the transaction
which records it: a bounce for those who failed, a warning for those who are
late, and for those whose sender asked for it (RFC 3461) that they have it. Nobody
is told of a message without a sender, of one that a policy keeps apart, nor of what he
did not want to hear.

If a bounce, the server's own, cannot be delivered in its turn, since the sender does
not exist or does not take it, the postmaster is told, once: what tells him is no
bounce. What came with the null sender from outside is nobody's: such are others'
bounces, and spam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mta.delivery.acceptance import Acceptance, OwnMail
from twisted_mta.delivery.bounce import HEADER_MOST, compose, unwanted
from twisted_mta.delivery.report import Action, Report
from twisted_mta.delivery.settlement import Settlement, Told
from twisted_mta.errors import MailError, NoSuchAccount, NoSuchMessage, Temporary
from twisted_mta.interfaces import ILedger, IQueue
from twisted_mta.mail.address import Address
from twisted_mta.mail.confirmation import Confirmation
from twisted_mta.mail.dsn import Notification, Notify
from twisted_mta.mail.envelope import BOUNCE, Body, Envelope, Return
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result

# A message that is larger is returned by its header alone, whatever was asked for
# (RFC 3461 4.3 allows it). Postfix: bounce_size_limit 50000.
_WHOLE_MOST = 50_000

#: Who is told of bounces that cannot be delivered: whoever the config says.
POSTMASTER = Address("postmaster", "")

# What a router says if that is nobody (RFC 3463 X.3.5).
_MISCONFIGURED = "4.3.5"

_DELIVERED = Outcome(Result.DELIVERED, "2.0.0", "")


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
        told = _told(job, settlement)
        if not told:
            return
        id = to_text(job.envelope.id)
        if job.told is None:
            if settlement.failed and job.envelope.origin == BOUNCE:
                await self._return_bounce(queue, job, settlement, notices)
            elif settlement.failed:
                self._log.info("{id}: status=dropped (no sender to tell)", id=id)
            return
        if job.envelope.quarantined:
            self._log.info("{id}: sender not told (it was quarantined)", id=id)
            return
        header = await self._read(job, HEADER_MOST)
        for action, recipients in told.items():
            if action is Action.DELAYED and unwanted(header):
                recipients = _some(recipients, lambda who: _asked(job, who))
                if not recipients:
                    continue
            await self._tell(
                queue, job, header, settlement, action, recipients, notices
            )

    async def confirm(
        self,
        queue: IQueue,
        envelope: Envelope,
        confirmed: Sequence[Confirmation],
        header: bytes,
        notices: list[Acceptance],
    ) -> None:
        """Make ready what the sender is told of a message that is being accepted.

        @param header: its header block.
        @param notices: see L{prepare}.
        @raise Temporary: where it goes cannot be said now.
        """
        if envelope.sender is None or envelope.quarantined:
            return
        for action in (Action.DELIVERED, Action.EXPANDED):
            those = [one for one in confirmed if one.action == action.value]
            if not those:
                continue
            report = Report(
                hostname=self._hostname,
                envelope=envelope,
                header=header,
                recipients=[(one.recipient, _DELIVERED) for one in those],
                now=self._clock.seconds(),
                action=action,
                asked={one.recipient: one.notification for one in those},
            )
            await self._add(queue, report, notices)

    async def _add(
        self, queue: IQueue, report: Report, notices: list[Acceptance]
    ) -> None:
        envelope, octets = compose(report)
        notice = await self._own.prepare(queue, envelope, octets)
        if notice is not None:
            notices.append(notice)
        elif envelope.origin == BOUNCE:
            await self._instead(queue, envelope, octets, NoSuchAccount(), notices)

    # --- to the postmaster ---

    async def instead(
        self,
        queue: IQueue,
        untold: Sequence[Acceptance],
        error: MailError,
        notices: list[Acceptance],
    ) -> Sequence[Acceptance]:
        """Make ready what the postmaster is told instead of the sender.

        @param untold: notifications that the sender's mailbox does not take.
        @param error: why.
        @param notices: see L{prepare}.
        @return: those that were put there.
        @raise Temporary: see L{prepare}.
        """
        there = len(notices)
        for notice in untold:
            if notice.envelope.origin == BOUNCE:
                octets = await notice.octets()
                await self._instead(queue, notice.envelope, octets, error, notices)
        return notices[there:]

    async def _instead(
        self,
        queue: IQueue,
        envelope: Envelope,
        octets: bytes,
        error: MailError,
        notices: list[Acceptance],
    ) -> None:
        """A bounce that cannot even be accepted."""
        outcome = Outcome(Result.FAILED, error.status, error.text)
        report = Report(
            hostname=self._hostname,
            envelope=envelope,
            header=octets[:HEADER_MOST],
            recipients=[(to, outcome) for to in envelope.recipients],
            now=self._clock.seconds(),
            whole=octets if len(octets) <= _WHOLE_MOST else None,
            instead=POSTMASTER,
        )
        await self._tell_postmaster(queue, report, notices)

    async def _return_bounce(
        self,
        queue: IQueue,
        job: Job,
        settlement: Settlement,
        notices: list[Acceptance],
    ) -> None:
        """A bounce that the next server does not take, or not in time."""
        whole = job.size <= _WHOLE_MOST
        octets = await self._read(job, job.size if whole else HEADER_MOST)
        report = Report(
            hostname=self._hostname,
            envelope=job.envelope,
            header=octets[:HEADER_MOST],
            recipients=settlement.failed,
            now=self._clock.seconds(),
            whole=octets if whole else None,
            instead=POSTMASTER,
        )
        await self._tell_postmaster(queue, report, notices)

    async def _tell_postmaster(
        self, queue: IQueue, report: Report, notices: list[Acceptance]
    ) -> None:
        try:
            await self._add(queue, report, notices)
        except Temporary as error:
            if error.status != _MISCONFIGURED:
                raise
            # It would be tried for ever, until somebody reads the log in any case.
            self._log.error(
                "{id}: status=dropped (nor can the postmaster be told: {why})",
                id=to_text(report.envelope.id),
                why=error.text,
            )

    async def _tell(
        self,
        queue: IQueue,
        job: Job,
        header: bytes,
        settlement: Settlement,
        action: Action,
        recipients: Told,
        notices: list[Acceptance],
    ) -> None:
        report = Report(
            hostname=self._hostname,
            envelope=job.envelope._replace(sender=job.told),
            header=header,
            recipients=recipients,
            now=self._clock.seconds(),
            action=action,
            retry_until=settlement.give_up_at if action is Action.DELAYED else None,
            asked=job.notifications,
            whole=await self._whole(job) if action is Action.FAILED else None,
        )
        await self._add(queue, report, notices)

    async def _whole(self, job: Job) -> bytes | None:
        """All of the message, if it shall be returned."""
        handling = job.envelope.handling
        if handling.ret is not Return.FULL or job.size > _WHOLE_MOST:
            return None
        if handling.require_tls or job.envelope.body is Body.BINARY:
            return None  # RFC 8689 5; and a report is no binary message
        return await self._read(job, job.size)

    async def _read(self, job: Job, most: int) -> bytes:
        """The message's beginning, so much of its content."""
        content = self._ledger.stored(job.content, job.size - len(job.prefix))
        try:
            return job.prefix + await content.read(0, most)
        except NoSuchMessage:
            # Removed from the queue meanwhile; then this is told to nobody.
            return job.prefix


def _told(job: Job, settlement: Settlement) -> dict[Action, Told]:
    """Of whom the sender is to be told what."""
    wanted = job.notification
    told = {
        Action.FAILED: _some(settlement.failed, lambda who: wanted(who).failure),
        Action.DELAYED: _some(
            settlement.deferred if settlement.warn else (),
            lambda who: wanted(who).delay,
        ),
    }
    for action in (Action.DELIVERED, Action.RELAYED):
        told[action] = tuple(
            (who, outcome)
            for who, outcome in settlement.delivered
            if (wanted(who).success and outcome.action == action.value)
            or (action is Action.RELAYED and _traced(wanted(who), outcome))
        )
    return {action: recipients for action, recipients in told.items() if recipients}


def _asked(job: Job, recipient: Address) -> bool:
    """Whether the sender asked to be told of a delay, in one way or another."""
    wanted = job.notification(recipient)
    return wanted.notify is not None or job.envelope.handling.by is not None


def _traced(asked: Notification, outcome: Outcome) -> bool:
    return outcome.action == "traced" and asked.notify is not Notify.NEVER


def _some(
    entries: Iterable[tuple[Address, Outcome]], wanted: Callable[[Address], bool]
) -> Told:
    return tuple(entry for entry in entries if wanted(entry[0]))
