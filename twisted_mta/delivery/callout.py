"""Asks agents whether a recipient is taken, while the client that names him waits.

Only the next server knows who is there in a domain that it delivers for (Postfix:
address verification, Exim: callout). What it said is remembered for a while, so that
who tries names one after the other costs it as little as it can. It knows no protocol.
It trusts neither the client, nor the next server to answer in time: so many are asked
at once, each for so long, and whoever cannot be asked about may come later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred, DeferredSemaphore, TimeoutError
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.delivery.text import one_line
from twisted_mta.errors import MailError, NoSuchAccount, Permanent, Temporary
from twisted_mta.interfaces import ICallout, IDeliveryAgent, IForesight
from twisted_mta.mail.route import Outcome, Resolved, Result, ToAgent

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# How long an answer counts, in seconds. Postfix keeps who is taken for 31 days and who
# is not for 3; but it keeps them on disk, and a new account should not wait for days.
_KEPT_S = {Result.DELIVERED: 3600.0, Result.FAILED: 300.0, Result.DEFERRED: 10.0}
# Answers that are kept, some 500 octets each. Postfix's file has no bound.
_MOST = 20_000
# Asked at once of one next hop. Postfix: 20.
_AT_ONCE = 20
# How long a client waits. Postfix: 9 s, Exim: 30 s; clients wait for 5 minutes.
_PATIENCE_S = 30.0

_Key = tuple[str, str, str]


@implementer(ICallout)
class Callout:
    """Asks.

    @param agents: by the names that routes give them; those that provide
        L{IForesight} are asked.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, agents: Mapping[str, IDeliveryAgent]
    ) -> None:
        self._clock = clock
        self._agents = {
            name: cast(IForesight, agent)
            for name, agent in agents.items()
            if IForesight.providedBy(agent)
        }
        self._known: dict[_Key, tuple[float, Outcome]] = {}
        # By next hop: those that the config's domains name.
        self._places: dict[tuple[str, str], DeferredSemaphore] = {}

    async def ask(self, resolved: Resolved) -> None:
        """See L{ICallout.ask}. An agent that cannot say it takes everybody."""
        route = resolved.routes[0]
        if len(resolved.routes) != 1 or not isinstance(route, ToAgent):
            return
        agent = self._agents.get(route.agent)
        if agent is None:
            return
        if agent.cheap:
            outcome = await agent.foresee(route.next_hop, route.recipient)
        elif resolved.ask:
            outcome = await self._said(agent, route)
        else:
            return
        if outcome.result is not Result.DELIVERED:
            raise _error(outcome)

    async def _said(self, agent: IForesight, route: ToAgent) -> Outcome:
        key = route.agent, route.next_hop, route.recipient.key
        now = self._clock.seconds()
        until, outcome = self._known.get(key, (0.0, None))
        if outcome is not None and now < until:
            return outcome
        outcome = await self._asked(agent, route)
        self._known.pop(key, None)
        if len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[key] = self._clock.seconds() + _KEPT_S[outcome.result], outcome
        self._log.info(
            "asked of <{to}>: relay={relay}, dsn={dsn}, {result} ({said})",
            to=one_line(str(route.recipient)),
            relay=one_line(outcome.remote) or "none",
            dsn=outcome.status,
            result=_SAYS[outcome.result],
            said=one_line(outcome.diagnostic),
        )
        return outcome

    async def _asked(self, agent: IForesight, route: ToAgent) -> Outcome:
        async def ask() -> Outcome:
            return await agent.foresee(route.next_hop, route.recipient)

        # Whoever waits for a place waits within the same time.
        places = self._places.setdefault(
            (route.agent, route.next_hop), DeferredSemaphore(_AT_ONCE)
        )
        waiting: Deferred[Outcome] = places.run(lambda: Deferred.fromCoroutine(ask()))
        waiting.addTimeout(_PATIENCE_S, self._clock)
        try:
            return await waiting
        except TimeoutError:
            return Outcome(Result.DEFERRED, "4.4.1", "The next server did not say it")


_SAYS = {
    Result.DELIVERED: "is taken",
    Result.FAILED: "is not taken",
    Result.DEFERRED: "is not known",
}


def _error(outcome: Outcome) -> MailError:
    """What the client is told. Of another server's words only what they mean: it is
    ours to answer for."""
    own = _own(outcome)
    if outcome.result is Result.DEFERRED:
        text = "Whether the recipient exists cannot be said now"
        return Temporary(own or text, outcome.status)
    if not own and outcome.status in ("5.1.1", "5.1.6", "5.0.0"):
        return NoSuchAccount()
    text = "The server of this recipient does not take mail for him"
    return Permanent(own or text, outcome.status)


def _own(outcome: Outcome) -> str:
    """What an agent says that asked nobody."""
    return "" if outcome.replied or outcome.remote else one_line(outcome.diagnostic)
