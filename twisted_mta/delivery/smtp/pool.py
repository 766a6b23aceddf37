"""Connections that wait a moment for the next message to the same next hop, or to
another that has the same host.

Bounded in number and time. One that the server closed meanwhile is found out
when it is used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from twisted_mta.delivery.smtp.demand import Demand
from twisted_mta.delivery.smtp.exchanger import Host
from twisted_mta.delivery.smtp.session import Session
from twisted_mta.delivery.smtp.settings import Tls

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

# A next hop, and what is asked of it about TLS.
Way = tuple[str, Tls]

Idle = tuple[Way, Session, "IDelayedCall"]


class Pool:
    """Idle sessions by where they lead."""

    def __init__(self, clock: IReactorTime, idle_s: float, most: int) -> None:
        """
        @param most: how many are kept in all.
        """
        self._clock = clock
        self._idle_s = idle_s
        self._most = most
        self._idle: list[Idle] = []

    def take(self, way: Way) -> Session | None:
        """An idle session, the one used last; the caller's from now on."""
        return self._take([item for item in self._idle if item[0] == way])

    def leads_to(self, hosts: Collection[Host], tls: Tls) -> bool:
        """Whether an idle session leads to one of these hosts, of which as much was
        asked about TLS by message and config."""
        return bool(self._to(hosts, tls))

    def take_to(self, demands: Mapping[Host, Demand], tls: Tls) -> Session | None:
        """The same to one of these hosts, whatever next hop it was opened for; of
        which as much was demanded."""
        return self._take(
            [
                item
                for item in self._to(demands, tls)
                if item[1].demand.same_as(demands[item[1].host])
            ]
        )

    def _to(self, hosts: Collection[Host], tls: Tls) -> list[Idle]:
        return [
            item for item in self._idle if item[1].host in hosts and item[0][1] is tls
        ]

    def _take(self, fitting: list[Idle]) -> Session | None:
        for item in reversed(fitting):
            self._idle.remove(item)
            item[2].cancel()
            if item[1].reusable:
                return item[1]
            item[1].leave()
        return None

    def put(self, way: Way, session: Session) -> None:
        """Keep a session, or end it."""
        if not session.reusable or len(self._idle) >= self._most:
            session.leave()
            return
        expiry = self._clock.callLater(self._idle_s, self._expire, session)
        self._idle.append((way, session, expiry))

    def spare(self) -> None:
        """End the one that has been idle longest, if any: somebody waits."""
        if self._idle:
            _, session, expiry = self._idle.pop(0)
            expiry.cancel()
            session.leave()

    def close(self) -> None:
        """End all, now and from now on."""
        self._most = 0
        for _, session, expiry in self._idle:
            expiry.cancel()
            session.leave()
        self._idle.clear()

    def _expire(self, session: Session) -> None:
        self._idle = [item for item in self._idle if item[1] is not session]
        session.leave()
