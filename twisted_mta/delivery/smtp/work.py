"""One message in one attempt: for whom it is still to be tried, and what became
of the others.
"""

from collections.abc import Iterable

from twisted_mta.interfaces import IContent
from twisted_mta.mail.address import Address
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result


class Work:
    """The state of an attempt.

    @ivar outcomes: what is known of each recipient so far.
    @ivar open: the recipients for whom another host may do better.
    """

    def __init__(self, job: Job, content: IContent, now: float = 0.0) -> None:
        """
        @param now: seconds since the epoch.
        """
        self.job = job
        self.now = now
        self.content = content
        self.outcomes: dict[Address, Outcome] = {}
        self.open = list(job.recipients)
        self._unanswered = set(job.recipients)

    def next_host(self) -> None:
        """Another host is tried: it has said nothing yet."""
        self._unanswered = set(self.open)

    def settle(self, recipients: Iterable[Address], outcome: Outcome) -> None:
        """Record what a host means for recipients."""
        for recipient in list(recipients):
            self.outcomes[recipient] = outcome
            self._unanswered.discard(recipient)
            if outcome.result is not Result.DEFERRED:
                self.open.remove(recipient)

    def blame(self, outcome: Outcome) -> None:
        """This host is of no use: record it for all of whom it said nothing.
        They stay open: another may do better. Of what several hosts mean for a
        recipient, that one may do later counts most, and a reply more than
        silence."""
        for recipient in self._unanswered:
            known = self.outcomes.get(recipient)
            if known is None or _weight(outcome) >= _weight(known):
                self.outcomes[recipient] = outcome

    def end(self) -> None:
        """No other host may be tried in this attempt."""
        self.open.clear()


def _weight(outcome: Outcome) -> tuple[bool, bool]:
    return outcome.result is Result.DEFERRED, outcome.replied
