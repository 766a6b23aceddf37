"""Complaints that providers report (feedback loops, RFC 5965) become entries of the
suppression list.

Mail for an address of C{suppression: complaints} is a row of the queue for this agent.
Anybody can write a report in anybody's name, and put somebody on the list who never
complained. So a report is believed only if all of this is so: it came from a network
that the operator named; it has the form of one; it says who complained, or the sender
of the message does (VERP), since many providers do not; and the message that it returns
went through this server lately, by a trace of ours. Others are a line of the log.
Nobody is answered.

BUGS: that the message went to the one who complains is the provider's word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.config import schema
from twisted_mta.delivery.text import one_line
from twisted_mta.errors import MailError
from twisted_mta.interfaces import IContent, IDeliveryAgent, IDirectory, ISuppression
from twisted_mta.mail import feedback, verp
from twisted_mta.mail.address import Address
from twisted_mta.mail.feedback import Feedback
from twisted_mta.mail.ids import made_at, to_text
from twisted_mta.mail.job import Job
from twisted_mta.mail.networks import Networks
from twisted_mta.mail.route import Outcome, Result

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# The largest report that is read. Providers return the message whole; Gmail's limit
# for that is 25 MB, but what is complained about is rarely large.
_OCTETS = 1 << 20

# How long ago a message that is complained about may have been sent. Postfix and others
# name none; people look through their spam once a month.
_LATELY_S = 60 * 86400.0

_READ = Outcome(Result.DELIVERED, "2.0.0", "Read", action="")


@implementer(IDeliveryAgent)
class Complaints:
    """Reads reports.

    @param directory: says whose a sender is.
    @param delimiters: of VERP, besides the usual.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        suppression: ISuppression,
        directory: IDirectory,
        settings: schema.Suppression,
        hostname: str,
        delimiters: Sequence[str] = (),
    ) -> None:
        self._clock = clock
        self._suppression = suppression
        self._directory = directory
        self._keep_s = settings.keep
        self._networks = Networks(settings.complaints_from)
        self._hostname = hostname
        self._delimiters = dict.fromkeys((verp.DELIMITERS, *delimiters))

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        """See L{IDeliveryAgent}."""
        try:
            why = await self._take(job, content)
        except MailError as error:
            outcome = Outcome(Result.DEFERRED, "4.3.0", error.text)
            return dict.fromkeys(job.recipients, outcome)
        if why:
            self._log.warn(
                "{id}: no report of a complaint that is believed: {why}",
                id=to_text(job.envelope.id),
                why=why,
            )
        return dict.fromkeys(job.recipients, _READ)

    async def close(self) -> None:
        """See L{IDeliveryAgent}."""

    async def _take(self, job: Job, content: IContent) -> str:
        """Put on the list who complained.

        @return: why not, or nothing.
        @raise MailError: it cannot be read or recorded now.
        """
        if job.envelope.origin.host not in self._networks:
            return "it came from elsewhere than complaints_from"
        if content.size > _OCTETS:
            return f"it is larger than {_OCTETS >> 20}M"
        found = feedback.read(await content.read(0, content.size))
        if found is None:
            return "it has not the form of one (RFC 5965)"
        message = feedback.passed(found.message, self._hostname)
        age_s = None if message is None else self._clock.seconds() - made_at(message)
        if message is None or age_s is None or not 0 <= age_s <= _LATELY_S:
            return "the message that it returns did not go through here lately"
        account, named = await self._sender(found)
        recipients = found.recipients or named
        if not recipients:
            return "it does not say who complained (Original-Rcpt-To)"
        teller = found.agent or "a program without a name"
        source = (
            f"{found.kind} of {to_text(message)}, told from"
            f" {job.envelope.origin.host} by {teller}"
        )
        for recipient in recipients:
            await self._suppression.add(
                recipient, account, "complaint", source, self._keep_s
            )
            self._log.info(
                "{id}: suppressed {address} for {scope}: {source}",
                id=to_text(job.envelope.id),
                address=one_line(str(recipient)),
                scope=str(account) if account else "all senders",
                source=one_line(source),
            )
        return ""

    async def _sender(
        self, found: Feedback
    ) -> tuple[Address | None, tuple[Address, ...]]:
        """Whose mail it was: he may write there no more; C{None}: nobody may. And the
        recipient whom his address names (VERP), if it does."""
        sender = found.sender
        if sender is None:
            return None, ()
        account = await self._directory.account(sender)
        if account is not None:
            return account.address, ()
        for delimiters in self._delimiters:
            read = verp.read(sender, delimiters)
            account = await self._directory.account(read[0]) if read else None
            if read and account is not None:
                return account.address, (read[1],)
        return None, ()
