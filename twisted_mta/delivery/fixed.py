"""Delivery agents whose answer is always the same: mail that is thrown away, and mail
that is returned (Postfix: discard(8), error(8)).
"""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from twisted_mta.interfaces import IContent, IDeliveryAgent, IForesight
from twisted_mta.mail.address import Address
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome


@implementer(IDeliveryAgent, IForesight)
class Fixed:
    """Answers.

    @ivar cheap: see L{IForesight}: so a recipient who is never taken is refused at
        RCPT, and no bounce goes to a sender who may be forged.
    """

    cheap = True

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        """See L{IDeliveryAgent}."""
        return dict.fromkeys(job.recipients, self._outcome)

    async def foresee(self, next_hop: str, recipient: Address) -> Outcome:
        """See L{IForesight}."""
        return self._outcome

    async def close(self) -> None:
        """See L{IDeliveryAgent}."""
