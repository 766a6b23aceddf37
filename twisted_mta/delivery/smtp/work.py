"""One message in one attempt: for whom it is still to be tried, and what became
of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from twisted_mta.interfaces import IContent
from twisted_mta.mail.address import Address
from twisted_mta.mail.conversion import Conversion
from twisted_mta.mail.downgrade import Level
from twisted_mta.mail.envelope import DeliverBy
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# How much of a message is searched for the end of its header; headers beyond
# count as ASCII. Postfix's header_size_limit is 100 KB.
_HEADER_OCTETS = 128 * 1024


class Work:
    """The state of an attempt.

    @ivar outcomes: what is known of each recipient so far.
    @ivar open: the recipients for whom another host may do better.
    @ivar conversions: of the message, for servers that take less.
    @ivar channel: how the one to the host being tried is, see L{Outcome.tls}.
    """

    def __init__(self, job: Job, content: IContent, clock: IReactorTime) -> None:
        self.job = job
        self.content = content
        self.outcomes: dict[Address, Outcome] = {}
        self.open = list(job.recipients)
        self._unanswered = set(job.recipients)
        self.conversions: dict[Level, Conversion] = {}
        self.channel = ""
        self._clock = clock
        self._header: bytes | None = None

    async def header(self) -> bytes:
        """The message's header block, our own fields first.

        @raise MailError: it cannot be read.
        """
        if self._header is None:
            begin = await self.content.read(0, _HEADER_OCTETS)
            self._header = self.job.prefix + begin.partition(b"\r\n\r\n")[0]
        return self._header

    def seconds_left(self, by: DeliverBy) -> int:
        """Until when it is to be delivered (RFC 2852): of the time that its sender
        gave, what has not passed here."""
        passed_s = self._clock.seconds() - self.job.envelope.received_at
        return by.seconds - int(max(0.0, passed_s))

    def next_host(self, channel: str = "") -> None:
        """Another host is tried: it has said nothing yet."""
        self._unanswered = set(self.open)
        self.channel = channel

    def settle(self, recipients: Iterable[Address], outcome: Outcome) -> None:
        """Record what a host means for recipients."""
        outcome = self._spoken(outcome)
        for recipient in list(recipients):
            self.outcomes[recipient] = outcome
            self._unanswered.discard(recipient)
            if outcome.result is not Result.DEFERRED:
                self.open.remove(recipient)

    def blame(self, outcome: Outcome) -> None:
        """This host is of no use: record it for all of whom it said nothing.
        They stay open: another may do better. Of what several hosts mean for a
        recipient, that one may do later counts most, then what was said of this
        mail, and a reply more than silence."""
        outcome = self._spoken(outcome)
        for recipient in self._unanswered:
            known = self.outcomes.get(recipient)
            if known is None or _weight(outcome) >= _weight(known):
                self.outcomes[recipient] = outcome

    def taken(self) -> Mapping[Address, Outcome]:
        """Who has the message, if the attempt goes no further: he is not to get it
        again."""
        return {
            recipient: outcome
            for recipient, outcome in self.outcomes.items()
            if outcome.result is Result.DELIVERED
        }

    async def note(self) -> None:
        """Have it recorded who has the message, before others are tried."""
        if self.job.note is not None and (taken := self.taken()):
            await self.job.note(taken)

    def _spoken(self, outcome: Outcome) -> Outcome:
        """With what the host is spoken to with."""
        return replace(outcome, tls=self.channel) if self.channel else outcome

    def end(self) -> None:
        """No other host may be tried in this attempt."""
        self.open.clear()


def _weight(outcome: Outcome) -> tuple[bool, bool, bool]:
    deferred = outcome.result is Result.DEFERRED
    return deferred, not outcome.unreached, outcome.replied
