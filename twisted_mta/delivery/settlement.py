"""What an attempt means for each recipient of a queue row.

A pure function from outcomes, age and schedule to who leaves the queue, who
stays, until when, and whether the sender is to be told. It trusts an agent to
name only recipients of the job; whom it forgot counts as deferred.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from twisted_mta.delivery.retry import Schedule
from twisted_mta.mail.address import Address
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result

_SILENT = Outcome(
    Result.DEFERRED, "4.3.0", "The delivery agent said nothing of this recipient"
)

# RFC 3463 3.5, X.4.7: delivery time expired.
_EXPIRED = "4.4.7"
# RFC 2852 4.1.2: it was not to be delivered later.
_NOT_IN_TIME = "5.4.7"

Told = tuple[tuple[Address, Outcome], ...]


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of an attempt.

    @ivar delivered: with what a sender who asked is told.
    @ivar failed: for these the sender is told; those of them that were deferred
        for too long included.
    @ivar due: when the deferred ones are tried again.
    @ivar warn: the sender is told that the deferred ones are late.
    @ivar give_up_at: when those would expire.
    """

    delivered: Told
    failed: Told
    deferred: Told
    due: float
    warn: bool
    give_up_at: float

    def postponed(self) -> "Settlement":
        """The same, when the sender cannot be told: nobody fails or is warned
        of, whoever was not delivered is tried again."""
        return replace(
            self, failed=(), deferred=self.deferred + self.failed, warn=False
        )


def judge(
    job: Job, outcomes: Mapping[Address, Outcome], schedule: Schedule, now: float
) -> Settlement:
    """Say what an attempt means.

    @param now: when it ended.
    """
    envelope, by = job.envelope, job.envelope.handling.by
    queued_at = envelope.released_at
    expired = schedule.expired(queued_at, now)
    status = _EXPIRED
    late = schedule.late(queued_at, now)
    due = schedule.next_attempt(queued_at, now, job.attempts + 1)
    if by is not None:  # RFC 2852: the sender's own time
        deadline = envelope.received_at + by.seconds
        if by.returns and now >= deadline:
            expired, status = True, _NOT_IN_TIME
        late = late or (not by.returns and now >= deadline)
        due = min(due, deadline) if now < deadline else due
    if give_up_at := envelope.handling.give_up_at:
        expired = expired or now >= give_up_at
        due = min(due, give_up_at) if now < give_up_at else due
    delivered: list[tuple[Address, Outcome]] = []
    failed: list[tuple[Address, Outcome]] = []
    deferred: list[tuple[Address, Outcome]] = []
    for recipient in job.recipients:
        outcome = outcomes.get(recipient, _SILENT)
        match outcome.result:
            case Result.DELIVERED:
                delivered.append((recipient, outcome))
            case Result.FAILED:
                failed.append((recipient, outcome))
            case Result.DEFERRED if expired:
                failed.append((recipient, replace(outcome, status=status)))
            case Result.DEFERRED:
                deferred.append((recipient, outcome))
    return Settlement(
        delivered=tuple(delivered),
        failed=tuple(failed),
        deferred=tuple(deferred),
        due=due,
        warn=bool(deferred) and not job.warned and late,
        give_up_at=schedule.give_up_at(queued_at),
    )
