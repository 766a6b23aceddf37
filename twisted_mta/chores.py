"""What a server does now and then about the channel to other servers.

It counts how TLS went (every process), tells who wants to know, and fetches policies of
domains anew before they end (one process for all).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted_mta.config.check import host_port
from twisted_mta.config.schema import Config
from twisted_mta.delivery.chore import Chore
from twisted_mta.delivery.smtp.sts import StsPolicies, StsRenewal
from twisted_mta.delivery.tlsreports import LOOK_S, TlsReports
from twisted_mta.delivery.tlsresults import FLUSH_S, TlsResults
from twisted_mta.interfaces import IResolver
from twisted_mta.mail.tlsreport import Submitter
from twisted_mta.net.https import Https
from twisted_mta.office import Office


class Chores:
    """All of them.

    @ivar web: a client of the Web, as the config says.
    @ivar results: where it is counted how TLS went; C{None} if nobody reports.
    """

    def __init__(
        self, reactor: Any, config: Config, office: Office, resolver: IResolver
    ) -> None:
        self._reactor = reactor
        self._office = office
        self._resolver = resolver
        self._by = _submitter(config)
        proxy = config.web.proxy
        self.web = Https(
            reactor,
            resolver,
            trust=config.web.trust,
            proxy=None if proxy is None else host_port(proxy),
        )
        self.results: TlsResults | None = None
        if self._by is not None:
            self.results = TlsResults(reactor, office.ledger)
        self._begun: list[Chore] = []

    def start(self, first: bool) -> None:
        """Begin.

        @param first: this process does what one does for all.
        """
        if self.results is not None:
            self._begin(self.results.flush, FLUSH_S, "counting TLS results")
        if not first:
            return
        clock, ledger, own = self._reactor, self._office.ledger, self._office.own
        policies = StsPolicies(clock, self._resolver, ledger, self.web)
        renewal = StsRenewal(clock, ledger, policies)
        self._begin(renewal.work, renewal.every_s, "renewing MTA-STS policies")
        if self._by is not None:
            queue = self._office.queue
            reports = TlsReports(
                clock, ledger, self._resolver, self.web, own, queue, self._by
            )
            self._begin(reports.work, LOOK_S, "reporting TLS results")

    def _begin(
        self, work: Callable[[], Awaitable[None]], every_s: float, what: str
    ) -> None:
        chore = Chore(self._reactor, work, every_s, what)
        self._begun.append(chore)
        chore.start()

    async def stop(self) -> None:
        """End, after the queue run, whose last results are still counted."""
        begun, self._begun = self._begun, []
        for chore in begun:
            await chore.stop()
        if self.results is not None:
            await self.results.flush()


def _submitter(config: Config) -> Submitter | None:
    """@return: C{None} if nobody reports."""
    told = config.tls_reports
    if told.sender is None:
        return None
    return Submitter(
        told.organization or config.hostname,
        told.sender,
        told.contact or f"mailto:{told.sender}",
        config.hostname,
    )
