"""The delivery agent that speaks SMTP, or LMTP: one attempt for one message.

It goes through the hosts of a next hop, best first, until each recipient has an
answer that is final (RFC 5321 5.1): what one host defers another may take. It
keeps connections for a moment. It knows no queue and no retry times. The time
and the number of hosts of an attempt are bounded whatever they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectError
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.delivery.smtp.demand import Demand
from twisted_mta.delivery.smtp.exchanger import UNIX, Exchangers, Host, Listening
from twisted_mta.delivery.smtp.outcome import (
    TlsFailed,
    Unusable,
    deferred,
    unreached,
)
from twisted_mta.delivery.smtp.pool import Pool, Way
from twisted_mta.delivery.smtp.security import Policies, Security, Site
from twisted_mta.delivery.smtp.session import Session, tls_context
from twisted_mta.delivery.smtp.settings import Settings, Tls
from twisted_mta.delivery.smtp.tlsmemory import TlsMemory
from twisted_mta.delivery.smtp.work import Work
from twisted_mta.errors import MailError
from twisted_mta.interfaces import (
    IContent,
    IDeliveryAgent,
    IForesight,
    IResolver,
    ITlsResults,
)
from twisted_mta.mail import header
from twisted_mta.mail.address import Address
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome
from twisted_mta.net.client import connect
from twisted_mta.wire.smtp.client import SmtpClientEngine

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


@implementer(IDeliveryAgent, IForesight)
class SmtpAgent:
    """Speaks SMTP to other servers, or LMTP.

    @ivar cheap: see L{IForesight}.
    """

    log = Logger()
    cheap = False

    def __init__(
        self,
        reactor: IReactorTime,
        resolver: IResolver,
        settings: Settings,
        listening: Listening = tuple,
        policies: Policies | None = None,
        results: ITlsResults | None = None,
        memory: TlsMemory | None = None,
    ) -> None:
        """
        @param reactor: the clock; provides TCP.
        @param listening: called to learn at which addresses and ports this
            server takes mail, so that it does not speak to itself.
        @param policies: of domains (MTA-STS), C{None}: they are not asked for.
        @param results: where it is counted how TLS went.
        @param memory: of which hosts had TLS.
        """
        self._reactor = reactor
        self._settings = settings
        self._exchangers = Exchangers(resolver, settings, listening)
        self._security = Security(resolver, settings, policies, results)
        self._memory = memory
        self._pool = Pool(reactor, settings.idle_s, settings.idle_connections)

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        """See L{IDeliveryAgent}. The next hop is a domain, or a host as
        L{exchanger.read <twisted_mta.delivery.smtp.exchanger.read>} takes it."""
        work = Work(job, content, self._reactor)
        way = job.next_hop, self._tls(work)
        spoken_to = await self._over_idle(work, way)
        if work.open:
            await self._over_new(work, way, spoken_to)
        return work.outcomes

    async def close(self) -> None:
        """See L{IDeliveryAgent}."""
        self._pool.close()

    async def foresee(self, next_hop: str, recipient: Address) -> Outcome:
        """See L{IForesight}. The first host that can be spoken to says it."""
        way = next_hop, self._own_tls(next_hop)
        while session := self._pool.take(way):
            try:
                return await self._foreseen(session, way, recipient)
            except Unusable as error:
                if not error.retry:
                    return error.outcome
        outcome = deferred("4.4.1", "Nobody there can be spoken to")
        try:
            hosts = await self._exchangers.find(next_hop)
            site = await self._security.site(*way)
            for host in hosts:
                try:
                    demand = await self._security.demand(site, host)
                    session = await self._open(host, demand)
                    return await self._foreseen(session, way, recipient)
                except Unusable as error:
                    outcome = error.outcome
        except Unusable as error:
            outcome = error.outcome
        return outcome

    async def _foreseen(
        self, session: Session, way: Way, recipient: Address
    ) -> Outcome:
        """@raise Unusable: this session cannot say it."""
        try:
            outcome = await session.foresee(recipient)
        except Unusable:
            session.leave()
            raise
        except BaseException:
            session.abort()
            raise
        self._pool.put(way, session)
        return outcome

    def _own_tls(self, next_hop: str) -> Tls:
        """What the settings ask. Nobody else hears a socket of this machine."""
        if self._settings.lmtp and next_hop.startswith(UNIX):
            return Tls.NONE
        return self._settings.tls

    def _tls(self, work: Work) -> Tls:
        """What is asked of the next server. A message may ask for more than the
        settings, or for less (RFC 8689); not where our password goes with it."""
        tls = self._own_tls(work.job.next_hop)
        if tls is Tls.NONE and self._settings.tls is not Tls.NONE:
            return tls
        handling = work.job.envelope.handling
        if handling.require_tls:
            return Tls.PROMISED
        if handling.tls_waived and self._settings.credentials is None:
            return Tls.WAIVED
        return self._settings.tls

    async def _waives(self, work: Work) -> bool:
        """Whether a message is rather to go without TLS than not (RFC 8689 5). That is
        in its header, which is looked at only where it matters."""
        if work.job.envelope.handling.require_tls or self._settings.credentials:
            return False
        try:
            said = header.every(await work.header(), b"TLS-Required")
        except MailError:
            return False
        return len(said) == 1 and said[0].lower() == b"no"

    async def _over_idle(self, work: Work, way: Way) -> set[Host]:
        """Use connections that are there, until one turns out to work.

        @return: the host that answered, if any.
        """
        while work.open and (session := self._pool.take(way)):
            if await self._send(session, work, way):
                return {session.host}
        return set()

    async def _over_new(self, work: Work, way: Way, spoken_to: set[Host]) -> None:
        work.next_host()
        next_hop, tls = way
        try:
            hosts = await self._exchangers.find(next_hop)
            site = await self._security.site(next_hop, tls)
        except Unusable as error:
            work.blame(unreached(error.outcome))
            return
        for host in hosts:
            if not work.open or len(spoken_to) >= self._settings.sessions:
                return
            if host in spoken_to:
                continue
            work.next_host()
            try:
                session, asked = await self._reach(host, site, work)
            except Unusable as error:
                work.blame(unreached(error.outcome))
            else:
                spoken_to.add(host)
                await self._send(session, work, (next_hop, asked))

    async def _reach(self, host: Host, site: Site, work: Work) -> tuple[Session, Tls]:
        """A session with a host as it should be; if that cannot be and the message
        does not mind, as it is.

        @return: and what was asked of it.
        @raise Unusable: there is none.
        """
        try:
            demand = await self._security.demand(site, host)
            return await self._open(host, demand), site.tls
        except TlsFailed:
            if not await self._waives(work):
                raise
        demand = await self._security.demand(Site(Tls.WAIVED, ""), host)
        return await self._open(host, demand), Tls.WAIVED

    async def _open(self, host: Host, demand: Demand) -> Session:
        """A session that has begun.

        @raise Unusable: none with this host.
        """
        settings = self._settings
        context = tls_context(host, demand, settings) if settings.implicit_tls else None
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
        session = Session(connection, host, demand, settings)
        tell = partial(self._security.count, host, demand, session.source)
        try:
            await session.begin()
        except TlsFailed as error:
            session.abort()
            tell(error.result, str(error))
            if demand.tls is not Tls.MAY:
                raise
            self.log.info(
                "smtp: {host}: {why}; going on without", host=str(host), why=str(error)
            )
            return await self._open(host, demand.in_clear())
        except Unusable as error:
            error.outcome = replace(error.outcome, tls=session.channel)
            session.leave()
            raise
        except BaseException:
            session.abort()
            raise
        tell(*session.missed)
        await self._look_at(session)
        return session

    async def _look_at(self, session: Session) -> None:
        """Whether a host that had TLS still has it.

        @raise TlsFailed: no, and its mail is to wait.
        """
        demand, host = session.demand, session.host
        if self._memory is None or demand.required or demand.waived:
            return
        try:
            await self._memory.met(host.name, str(host), session.secure)
        except TlsFailed:
            session.leave()
            raise
        except BaseException:
            session.abort()
            raise

    async def _send(self, session: Session, work: Work, way: Way) -> bool:
        """Use a session, and further ones with the host if it takes no more over
        one; then keep or end it.

        @return: whether the host said something of every recipient.
        """
        work.next_host(session.channel)
        waiting: Sequence[Address] = work.open
        # A server that wants a connection for each recipient does not keep us for ever.
        until = self._reactor.seconds() + self._settings.timeouts.message_s
        try:
            while waiting := await session.send(work, waiting):
                if self._reactor.seconds() > until:
                    text = "The server takes too little over one connection"
                    remote = str(session.host)
                    raise Unusable(deferred("4.5.3", text, remote), retry=False)
                session.leave()
                session = await self._open(session.host, session.demand)
                work.channel = session.channel
        except Unusable as error:
            session.leave()
            work.blame(error.outcome)
            if not error.retry:
                work.end()
            return False
        except BaseException:
            session.abort()
            raise
        self._pool.put(way, session)
        return True
