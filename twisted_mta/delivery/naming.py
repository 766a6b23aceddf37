"""Which site a next hop is.

A thousand domains at one provider are one site: its agent says so (L{ISited}), from the
DNS as a rule, so what it said is remembered for a while, of a bounded number of next
hops. To an agent that says nothing each next hop is a site. Rules of the config are
found here, too: a rule that names a domain is for the site of that domain; one that
names a dot and a domain makes all sites of which all hosts are below it one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import cast

from twisted.internet.interfaces import IReactorTime

from twisted_mta.config import schema
from twisted_mta.interfaces import IDeliveryAgent, ISited

#: An agent's name, and its next hop; or the name of the site of that.
Hop = tuple[str, str]

# How long a name is remembered. MX records of large providers live for 300 s to 1 h;
# Unbound's cache-max-ttl is a day.
_KEPT_S = 300.0

# What is remembered at most: 200 octets each.
_MOST = 50_000


class Naming:
    """The sites of next hops.

    @param agents: by their names.
    """

    def __init__(
        self,
        clock: IReactorTime,
        agents: Mapping[str, IDeliveryAgent],
        rules: Sequence[schema.Site] = (),
    ) -> None:
        self._clock = clock
        self._rules = rules
        self._sited = {
            name: cast(ISited, agent)
            for name, agent in agents.items()
            if ISited.providedBy(agent)
        }
        self._known: OrderedDict[Hop, tuple[str, float]] = OrderedDict()
        self._ruled: dict[Hop, schema.Site] = {}
        self._ruled_until: dict[str, float] = {}

    def known(self, hop: Hop) -> str | None:
        """The site's name, if it needs nobody to be asked."""
        agent, next_hop = hop
        if agent not in self._sited:
            return next_hop
        name, until = self._known.get(hop, ("", 0.0))
        return name if self._clock.seconds() < until else None

    async def name(self, hop: Hop) -> str:
        """The site's name."""
        if (known := self.known(hop)) is not None:
            return known
        agent = hop[0]
        if self._rules and self._clock.seconds() >= self._ruled_until.get(agent, 0.0):
            await self._resolve(agent)
        return await self._ask(hop)

    def rule(self, site: Hop) -> schema.Site | None:
        """The rule of a site, the first that fits."""
        ruled = self._ruled.get(site)
        if ruled is not None or not self._rules:
            return ruled
        hosts = _hosts(site[1])
        for rule in self._rules:
            if rule.domain == site[1] or all(_fits(host, rule) for host in hosts):
                return rule
        return None

    async def _ask(self, hop: Hop) -> str:
        agent, next_hop = hop
        name = self._together(await self._sited[agent].site(next_hop))
        self._known.pop(hop, None)
        self._known[hop] = name, self._clock.seconds() + _KEPT_S
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return name

    def _together(self, name: str) -> str:
        """The same, or the rule's name if it makes several sites one."""
        hosts = _hosts(name)
        for rule in self._rules:
            if rule.domain.startswith(".") and all(_fits(h, rule) for h in hosts):
                return rule.domain
        return name

    async def _resolve(self, agent: str) -> None:
        """Look up the sites of the domains that rules name."""
        self._ruled_until[agent] = self._clock.seconds() + _KEPT_S
        found: dict[Hop, schema.Site] = {}
        for rule in self._rules:
            if not rule.domain.startswith("."):
                found.setdefault((agent, await self._ask((agent, rule.domain))), rule)
        others = {site: r for site, r in self._ruled.items() if site[0] != agent}
        self._ruled = {**others, **found}


def _hosts(site: str) -> Sequence[str]:
    """The names of a site's hosts, without ports."""
    return [host.partition(":")[0] for host in site.split(",")]


def _fits(host: str, rule: schema.Site) -> bool:
    if rule.domain.startswith("."):
        return host.endswith(rule.domain)
    return host == rule.domain
