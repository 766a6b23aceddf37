"""A delivery agent over others: several ways that share the mail, and those that are
taken when nobody can be reached.

A message's way is chosen by weight, and by its queue id alone, so that its later
attempts take the same one, as greylisting and reputation ask; but while a way is down
its share goes to the others. It knows no protocol: what a way is, and whether somebody
was reached, is in the outcomes of its agent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.delivery.text import one_line
from twisted_mta.errors import MailError
from twisted_mta.interfaces import IContent, IDeliveryAgent, IForesight
from twisted_mta.mail.address import Address
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# Next hops that are remembered to be down, some 300 octets each. Postfix has no bound:
# its queue manager remembers dead ones as long as it has mail for them.
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Way:
    """A way.

    @ivar agent: its name in the config.
    @ivar next_hop: C{None}: that of the mail.
    @ivar weight: its share of the mail, among others'.
    """

    agent: str
    next_hop: str | None = None
    weight: float = 1.0


@implementer(IDeliveryAgent, IForesight)
class Several:
    """Hands mail to others.

    @param agents: whom ways name.
    @param ways: at least one.
    @param fallback: tried in this order within the same attempt.
    @param on_any: whatever a recipient was deferred for; else only if nobody was
        reached.
    @param pause_s: how long a way is passed over after nobody there was reached.
    @ivar cheap: see L{IForesight}.
    """

    _log = Logger()
    cheap = False

    def __init__(
        self,
        clock: IReactorTime,
        agents: Mapping[str, IDeliveryAgent],
        ways: Sequence[Way],
        fallback: Sequence[Way] = (),
        *,
        on_any: bool = False,
        pause_s: float = 60.0,
    ) -> None:
        self._clock = clock
        self._agents = agents
        self._ways = ways
        self._fallback = fallback
        self._on_any = on_any
        self._pause_s = pause_s
        self._down: dict[tuple[str, str], float] = {}

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        """See L{IDeliveryAgent}."""
        outcomes: dict[Address, Outcome] = {}
        waiting = job.recipients
        for way in self._order(job):
            part = replace(
                job,
                agent=way.agent,
                next_hop=way.next_hop or job.next_hop,
                recipients=waiting,
            )
            try:
                said = await self._agents[way.agent].deliver(part, content)
            except CancelledError:
                taken = {
                    who: outcome
                    for who, outcome in outcomes.items()
                    if outcome.result is Result.DELIVERED
                }
                if taken:
                    return taken
                raise
            except Exception as error:
                # What is known of some recipients is not lost for it.
                if not outcomes:
                    raise
                if not isinstance(error, MailError):
                    self._log.failure("agent {agent} is broken", agent=way.agent)
                break
            self._note(part, said)
            outcomes |= said
            waiting = tuple(who for who in waiting if self._goes_on(said.get(who)))
            if not waiting:
                break
        return outcomes

    async def foresee(self, next_hop: str, recipient: Address) -> Outcome:
        """See L{IForesight}. The ways are asked that can say it, until one does."""
        outcome = Outcome(Result.DELIVERED, "2.0.0", "Nobody is asked")
        for way in (*self._ways, *self._fallback):
            agent = self._agents[way.agent]
            if IForesight.providedBy(agent):
                outcome = await cast(IForesight, agent).foresee(
                    way.next_hop or next_hop, recipient
                )
                if outcome.result is not Result.DEFERRED:
                    break
        return outcome

    async def close(self) -> None:
        """See L{IDeliveryAgent}. The others are closed by who made them."""

    def _order(self, job: Job) -> Sequence[Way]:
        """The ways of an attempt: the one that is chosen, and what is behind it. Of
        ways that are down none is passed over if there is no other."""
        chosen = sorted(
            range(len(self._ways)),
            key=lambda number: _draw(job, number, self._ways[number].weight),
        )
        ways = [self._ways[number] for number in chosen]
        up = [way for way in ways if self._up(way, job)]
        behind = [way for way in self._fallback if self._up(way, job)]
        if not up and not behind:
            return [ways[0], *self._fallback]
        return [*up[:1], *behind]

    def _up(self, way: Way, job: Job) -> bool:
        until = self._down.get((way.agent, way.next_hop or job.next_hop))
        return until is None or self._clock.seconds() >= until

    def _note(self, job: Job, said: Mapping[Address, Outcome]) -> None:
        """Remember whether anybody was reached there."""
        hop = job.agent, job.next_hop
        if not said or not all(outcome.unreached for outcome in said.values()):
            if self._down.pop(hop, None) is not None:
                self._log.info("{hop}: up again", hop=" ".join(hop))
            return
        if hop not in self._down:
            self._log.warn(
                "{hop}: nobody is reached there ({why}); passed over for {pause:g} s",
                hop=" ".join(hop),
                why=one_line(next(iter(said.values())).diagnostic),
                pause=self._pause_s,
            )
            if len(self._down) >= _MOST:
                del self._down[next(iter(self._down))]
        self._down[hop] = self._clock.seconds() + self._pause_s

    def _goes_on(self, outcome: Outcome | None) -> bool:
        """Whether a fallback is tried for a recipient."""
        if outcome is None or outcome.result is not Result.DEFERRED:
            return False
        return self._on_any or outcome.unreached


def _draw(job: Job, number: int, weight: float) -> float:
    """The lot of a way for a message: the lowest has it. Of all messages each way has
    its share, and if one is left out the others keep theirs (weighted rendezvous
    hashing)."""
    octets = job.envelope.id.to_bytes(16, "big") + number.to_bytes(4, "big")
    lot = int.from_bytes(blake2b(octets, digest_size=8).digest(), "big")
    return -math.log((lot + 1) / 2.0**64) / weight
