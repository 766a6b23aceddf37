"""Which agent leads where: what the config's routes, domains and agents say of agents
and next hops, checked before there is a server.

It knows agents by the plugins that make them (L{IChecksNextHop
<twisted_mta.plugin.IChecksNextHop>}, L{IUsesAgents <twisted_mta.plugin.IUsesAgents>}),
and no kind of them by name but smtp, whose next hops are in the DNS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twisted_mta.config.check import DEFAULT_AGENT
from twisted_mta.config.load import Problem, Where
from twisted_mta.config.schema import Config
from twisted_mta.plugin import IChecksNextHop, IForesees, IUsesAgents


class Passage:
    """The agents of a config.

    @param agents: by name, each with its plugin and settings.
    @ivar order: all names, those that others use before them. Of those that use each
        other in a circle one comes too early, which is one of the L{problems}.
    """

    def __init__(self, agents: Mapping[str, tuple[Any, Any]]) -> None:
        self._agents = agents
        self._circles: list[Problem] = []
        order: list[str] = []
        for name in agents:
            self._walk(name, (), order)
        self.order: Sequence[str] = order

    def problems(self, config: Config) -> Iterator[Problem]:
        """What is wrong with how agents, routes and domains lead to each other."""
        yield from self._circles
        for name in self._agents:
            for where, other, next_hop in self._uses(name):
                if other not in self._agents:
                    if other not in config.agents:  # else its kind is wrong
                        known = ", ".join(sorted(self._agents))
                        text = f"no agent '{other}'; known are {known}"
                        yield (*where, "agent"), text
                else:
                    yield from self._next_hop(where, other, next_hop)
        for index, route in enumerate(config.routes):
            at: Where = ("routes", index)
            ours = _domain(route.recipient) in config.domains
            yield from self._next_hop(at, route.agent, route.next_hop, ours)
        for domain, settings in config.domains.items():
            if settings.deliver is not None:
                at = ("domains", domain)
                yield from self._next_hop(at, settings.deliver, settings.next_hop, True)
                if settings.recipients == "ask":
                    yield from self._asks((*at, "recipients"), settings.deliver)
        for domain, relayed in config.relay_domains.items():
            at = ("relay_domains", domain)
            yield from self._next_hop(at, relayed.agent, relayed.next_hop)
            if relayed.recipients == "callout":
                yield from self._asks(
                    (*at, "recipients"), relayed.agent, "name files, or say 'any'"
                )

    def _next_hop(
        self, where: Where, name: str, next_hop: str | None, ours: bool = False
    ) -> Iterator[Problem]:
        """@param ours: it is for a domain whose mail exchanger is this server."""
        if name not in self._agents:
            return  # which was told
        plugin, settings = self._agents[name]
        if IChecksNextHop.providedBy(plugin):
            try:
                plugin.check_next_hop(settings, next_hop)
            except ValueError as error:
                at = where if next_hop is None else (*where, "next_hop")
                yield at, str(error)
                return
        if ours and next_hop is None and self._to_exchangers(name):
            text = f"agent '{name}' needs a 'next_hop': the domain's own is this server"
            yield where, text

    def _to_exchangers(self, name: str, above: tuple[str, ...] = ()) -> bool:
        """Whether an agent that is told no next hop looks in the DNS for one."""
        if name not in self._agents or name in above:
            return False
        kind: str = self._agents[name][0].name
        return kind == DEFAULT_AGENT or any(
            next_hop is None and self._to_exchangers(other, (*above, name))
            for _, other, next_hop in self._uses(name)
        )

    def _asks(
        self, where: Where, name: str, instead: str = "say 'listed' or 'any'"
    ) -> Iterator[Problem]:
        if name in self._agents and not self._can_say(name):
            yield where, f"agent '{name}' cannot be asked; {instead}"

    def _can_say(self, name: str, above: tuple[str, ...] = ()) -> bool:
        """Whether an agent knows who is taken; one over others if any of those does."""
        if name not in self._agents or name in above:
            return False
        if not IForesees.providedBy(self._agents[name][0]):
            return False
        others = [other for _, other, _ in self._uses(name)]
        return not others or any(self._can_say(one, (*above, name)) for one in others)

    def _uses(self, name: str) -> Iterator[tuple[Where, str, str | None]]:
        plugin, settings = self._agents[name]
        if IUsesAgents.providedBy(plugin):
            for where, other, next_hop in plugin.uses(settings):
                yield ("agents", name, *where), other, next_hop

    def _walk(self, name: str, above: tuple[str, ...], order: list[str]) -> None:
        if name in order:
            return
        for where, other, _ in self._uses(name):
            if other in (*above, name):
                path = " -> ".join((*above, name, other))
                self._circles.append(
                    ((*where, "agent"), f"leads in a circle: {path}; break it")
                )
            elif other in self._agents:
                self._walk(other, (*above, name), order)
        order.append(name)


def _domain(recipient: str | None) -> str:
    return (recipient or "").rpartition("@")[2].lower()
