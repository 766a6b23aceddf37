"""The delivery agent that speaks SMTP: one attempt for one message.

It goes through the hosts of a next hop, best first, until each recipient has an
answer that is final (RFC 5321 5.1): what one host defers another may take. It
keeps connections for a moment. It knows no queue and no retry times. The time
and the number of hosts of an attempt are bounded whatever they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectError
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.delivery.smtp.exchanger import Exchangers, Host, Listening, read
from twisted_mta.delivery.smtp.outcome import (
    TlsFailed,
    Unusable,
    deferred,
    failed,
)
from twisted_mta.delivery.smtp.pool import Pool
from twisted_mta.delivery.smtp.session import Session, tls_context
from twisted_mta.delivery.smtp.settings import Settings, Tls
from twisted_mta.delivery.smtp.work import Work
from twisted_mta.interfaces import IContent, IDeliveryAgent, IResolver
from twisted_mta.mail.address import Address
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome
from twisted_mta.net.client import connect
from twisted_mta.wire.smtp.client import SmtpClientEngine

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


@implementer(IDeliveryAgent)
class SmtpAgent:
    """Speaks SMTP to other servers."""

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        resolver: IResolver,
        settings: Settings,
        listening: Listening = tuple,
    ) -> None:
        """
        @param reactor: the clock; provides TCP.
        @param listening: called to learn at which addresses and ports this
            server takes mail, so that it does not speak to itself.
        """
        self._reactor = reactor
        self._settings = settings
        self._exchangers = Exchangers(resolver, settings, listening)
        self._pool = Pool(reactor, settings.idle_s, settings.idle_connections)

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        """See L{IDeliveryAgent}. The next hop is a domain, or a host as
        L{exchanger.read <twisted_mta.delivery.smtp.exchanger.read>} takes it."""
        work = Work(job, content, self._reactor.seconds())
        strict = job.envelope.handling.require_tls
        if strict and _is_domain(job.next_hop):
            # RFC 8689 4.2.1: its exchangers would have to be known for certain, and
            # the DNS is asked without DNSSEC.
            text = "REQUIRETLS is asked for, and whom to verify cannot be known"
            work.settle(job.recipients, failed("5.7.30", text))
            return work.outcomes
        # An idle connection may not have been verified.
        spoken_to = set() if strict else await self._over_idle(work)
        if work.open:
            tls = Tls.VERIFY if strict else self._settings.tls
            await self._over_new(work, spoken_to, tls)
        return work.outcomes

    async def close(self) -> None:
        """See L{IDeliveryAgent}."""
        self._pool.close()

    async def _over_idle(self, work: Work) -> set[Host]:
        """Use connections that are there, until one turns out to work.

        @return: the host that answered, if any.
        """
        while work.open and (session := self._pool.take(work.job.next_hop)):
            if await self._send(session, work):
                return {session.host}
        return set()

    async def _over_new(self, work: Work, spoken_to: set[Host], tls: Tls) -> None:
        work.next_host()
        try:
            hosts = await self._exchangers.find(work.job.next_hop)
        except Unusable as error:
            work.blame(error.outcome)
            return
        for host in hosts:
            if not work.open or len(spoken_to) >= self._settings.sessions:
                return
            if host in spoken_to:
                continue
            work.next_host()
            try:
                session = await self._open(host, tls)
            except Unusable as error:
                work.blame(error.outcome)
            else:
                spoken_to.add(host)
                await self._send(session, work)

    async def _open(self, host: Host, tls: Tls) -> Session:
        """A session that has begun.

        @raise Unusable: none with this host.
        """
        settings = self._settings
        context = tls_context(host, tls, settings) if settings.implicit_tls else None
        family = ":" in host.address
        try:
            connection = await connect(
                self._reactor,
                (host.address, host.port),
                SmtpClientEngine(),
                str(host),
                timeout_s=settings.timeouts.connect_s,
                tls=context,
                source=next(
                    (s for s in settings.sources if (":" in s) == family), None
                ),
            )
        except ConnectError as error:
            text = f"Cannot connect to {host}: {error}"
            raise Unusable(deferred("4.4.1", text, str(host)))
        session = Session(connection, host, settings)
        try:
            await session.begin(tls)
        except TlsFailed as error:
            session.abort()
            if tls is not Tls.MAY:
                raise
            self.log.info(
                "smtp: {host}: {why}; going on without", host=str(host), why=str(error)
            )
            return await self._open(host, Tls.NONE)
        except Unusable:
            session.leave()
            raise
        except BaseException:
            session.abort()
            raise
        return session

    async def _send(self, session: Session, work: Work) -> bool:
        """Use a session; then keep or end it.

        @return: whether the host said something of every recipient.
        """
        work.next_host()
        try:
            await session.send(work)
        except Unusable as error:
            session.leave()
            work.blame(error.outcome)
            if not error.retry:
                work.end()
            return False
        except BaseException:
            session.abort()
            raise
        self._pool.put(work.job.next_hop, session)
        return True


def _is_domain(next_hop: str) -> bool:
    """Whether its mail exchangers are meant, or nothing can be."""
    try:
        return read(next_hop).exchanged
    except ValueError:
        return True
