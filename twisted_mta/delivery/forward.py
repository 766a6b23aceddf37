"""What becomes of mail that an address of ours sends on (an alias, a catch-all).

Its sender becomes a return address of ours (SRS), unless he is one of us or nobody; and
it gets C{Delivered-To} with our address, as of Postfix's local(8), by which it is known
if it comes round again. Both are of that way alone: in mailboxes here the same message
is as it came. It trusts neither that a header is true nor that it is short.

There is no C{Resent-}: those fields say that a person sent a message on by hand (RFC
5322 3.6.6), and readers show them so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.delivery.srs import Returns
from twisted_mta.delivery.text import one_line
from twisted_mta.errors import MailLoop
from twisted_mta.interfaces import IContent, IContentWriter, IDeliveryAgent
from twisted_mta.mail import header
from twisted_mta.mail.address import Address
from twisted_mta.mail.domain import known_as
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import LOOP, Outcome, Result, Route, ToAgent, ToMailbox

_FIELD = b"Delivered-To"

# Fields that are compared. Postfix: hopcount_limit 50 bounds them.
_FIELDS_MOST = 100


class Forwarding:
    """Makes routes ready that lead from an address of ours elsewhere.

    @param returns: makes return addresses; C{None}: senders stay as they are.
    @param domain: of return addresses; C{None}: that of the address which sends on.
    @param ours: whether a domain is.
    """

    _log = Logger()

    def __init__(
        self,
        returns: Returns | None,
        domain: str | None,
        ours: Callable[[str], bool],
    ) -> None:
        self._returns = returns
        self._domain = domain
        self._ours = ours

    async def ready(
        self, envelope: Envelope, routes: Sequence[Route], content: IContentWriter
    ) -> Sequence[Route]:
        """Routes as they are queued.

        @param content: finished.
        @raise MailLoop: all to whom it was written had it already.
        @raise Temporary: the ledger cannot be asked.
        """
        forwarders = {
            route.forwarder: None
            for route in routes
            if isinstance(route, ToAgent) and route.forwarder is not None
        }
        if not forwarders:
            return routes
        been = delivered_to(content.header())
        looped = {forwarder for forwarder in forwarders if forwarder.key in been}
        if looped.issuperset(envelope.recipients):
            raise _looped(next(iter(looped)))
        senders: dict[Address | None, Address | None] = {}
        for forwarder in forwarders:
            if forwarder not in looped:
                senders[forwarder] = await self._sender(envelope, forwarder)
        made: list[Route] = []
        for route in routes:
            if isinstance(route, ToMailbox) or route.forwarder is None:
                made.append(route)
            elif route.forwarder in senders:
                sender = route.sender or senders[route.forwarder]
                made.append(replace(route, sender=sender))
            else:
                self._log.warn(
                    "{id}: {to} had it before: a mail loop",
                    id=to_text(envelope.id),
                    to=one_line(str(route.forwarder)),
                )
                asked = route.notification
                made.append(ToAgent(LOOP, "", route.forwarder, notification=asked))
        return made

    async def _sender(self, envelope: Envelope, forwarder: Address) -> Address | None:
        """The sender on the way out; C{None} if he stays."""
        sender = envelope.sender
        if self._returns is None or sender is None or not sender.domain:
            return None
        if self._ours(sender.domain):
            return None
        domain = self._domain or known_as(forwarder.domain)
        if not domain:  # the bare postmaster, who has none
            return None
        try:
            return await self._returns.forward(sender, domain)
        except ValueError as error:
            self._log.warn(
                "{id}: sent on with its own sender: {why}",
                id=to_text(envelope.id),
                why=str(error),
            )
            return None


def _looped(forwarder: Address) -> MailLoop:
    return MailLoop(f"{one_line(str(forwarder))} had this message before: a mail loop")


def prefix(forwarder: Address | None) -> bytes | None:
    """What a message gets on its way from an address of ours."""
    if forwarder is None:
        return None
    return b"%b: %b\r\n" % (_FIELD, one_line(str(forwarder)).encode())


def delivered_to(block: bytes) -> set[str]:
    """The addresses, as keys, that a message was delivered to on its way."""
    if b"delivered-to" not in block.lower():
        return set()
    values = header.every(block, _FIELD)[:_FIELDS_MOST]
    return {value.decode("utf-8", "replace").casefold() for value in values}


@implementer(IDeliveryAgent)
class Loop:
    """What is left of a message that went round, when others were to have it, too: its
    sender is told."""

    async def deliver(self, job: Job, content: IContent) -> dict[Address, Outcome]:
        """See L{IDeliveryAgent}."""
        return {
            recipient: Outcome(Result.FAILED, MailLoop.status, _looped(recipient).text)
            for recipient in job.recipients
        }

    async def close(self) -> None:
        """See L{IDeliveryAgent}."""
