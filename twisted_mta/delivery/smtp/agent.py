"""The delivery agent that speaks SMTP: one attempt for one message.

It goes through the hosts of a next hop, best first, until each recipient has an
answer that is final (RFC 5321 5.1): what one host defers another may take. It
keeps connections for a moment. It knows no queue and no retry times. The time
and the number of hosts of an attempt are bounded whatever they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectError
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.delivery.smtp.allowance import Allowance
from twisted_mta.delivery.smtp.exchanger import Exchangers, Host, Listening, read
from twisted_mta.delivery.smtp.outcome import TlsFailed, Unusable, deferred, failed
from twisted_mta.delivery.smtp.pool import Pool, Way
from twisted_mta.delivery.smtp.race import Race
from twisted_mta.delivery.smtp.session import Session, tls_context
from twisted_mta.delivery.smtp.settings import Settings, Tls
from twisted_mta.delivery.smtp.work import Work
from twisted_mta.interfaces import IContent, IDeliveryAgent, IResolver, ISited
from twisted_mta.mail import header
from twisted_mta.mail.address import Address
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome
from twisted_mta.net.client import Connection, connect
from twisted_mta.wire.smtp.client import SmtpClientEngine

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


@implementer(IDeliveryAgent, ISited)
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
        # By whether it is IPv6: we have an address of each.
        self._allowances = [
            Allowance(settings.connections, self._pool.spare) for _ in range(2)
        ]

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        """See L{IDeliveryAgent}. The next hop is a domain, or a host as
        L{exchanger.read <twisted_mta.delivery.smtp.exchanger.read>} takes it."""
        work = Work(job, content, self._reactor)
        way = job.next_hop, await self._tls(work)
        if way[1] is Tls.PROMISED and not self._knows_host(job.next_hop):
            text = "REQUIRETLS is asked for, and whom to verify cannot be known"
            work.settle(job.recipients, failed("5.7.30", text))
            return work.outcomes
        spoken_to = await self._over_idle(work, way)
        if work.open:
            await self._over_new(work, way, spoken_to)
        return work.outcomes

    async def site(self, next_hop: str) -> str:
        """See L{ISited}."""
        return await self._exchangers.site(next_hop)

    async def close(self) -> None:
        """See L{IDeliveryAgent}."""
        self._pool.close()

    async def _tls(self, work: Work) -> Tls:
        """What is asked of the next server. A message may ask for more than the
        settings, or for less (RFC 8689); not where our password goes with it."""
        tls = self._settings.tls
        if work.job.envelope.handling.require_tls:
            return Tls.PROMISED
        if tls.required and self._settings.credentials is None:
            said = header.every(await work.header(), b"TLS-Required")
            if len(said) == 1 and said[0].lower() == b"no":
                return Tls.MAY
        return tls

    def _knows_host(self, next_hop: str) -> bool:
        """Whether a host that has a certificate of its name is the right one (RFC 8689
        4.2.1): the operator named it, or says that the DNS is to be believed, which is
        asked without DNSSEC."""
        try:
            exchanged = read(next_hop).exchanged
        except ValueError:
            return False
        return not exchanged or self._settings.tls is Tls.VERIFY

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
        except Unusable as error:
            work.blame(error.outcome)
            return
        if not spoken_to:
            spoken_to = await self._over_shared(work, way, hosts)
        for _, group in groupby(hosts, key=attrgetter("preference")):
            left = [host for host in group if host not in spoken_to]
            while left and work.open and len(spoken_to) < self._settings.sessions:
                try:
                    session = await self._open_one(left, tls, work)
                except Unusable as error:
                    work.blame(error.outcome)
                    continue
                if session is not None:
                    spoken_to.add(session.host)
                    await self._send(session, work, way)

    async def _over_shared(
        self, work: Work, way: Way, hosts: Sequence[Host]
    ) -> set[Host]:
        """Use connections that were opened for other domains of these hosts, the best
        ones.

        @return: the host that answered, if any.
        """
        best = [host for host in hosts if host.preference == hosts[0].preference]
        while work.open and (session := self._pool.take_to(best, way[1])):
            if await self._send(session, work, way):
                return {session.host}
        return set()

    async def _open_one(
        self, hosts: list[Host], tls: Tls, work: Work
    ) -> Session | None:
        """A session that has begun, with whichever of some hosts answers first. That
        one is taken from the list, and those that were found not to answer.

        @return: C{None}: nobody answers.
        @raise Unusable: who answered is of no use.
        """
        race = Race(self._reactor, partial(self._connect, tls=tls), Connection.abort)
        first = await race.run(hosts)
        for host, error in race.failures:
            hosts.remove(host)
            if not isinstance(error, Unusable):
                raise error
            work.next_host()
            work.blame(error.outcome)
        work.next_host()
        if first is None:
            return None
        host, connection = first
        hosts.remove(host)
        return await self._begin(connection, host, tls)

    async def _open(self, host: Host, tls: Tls) -> Session:
        """A session that has begun.

        @raise Unusable: none with this host.
        """
        return await self._begin(await self._connect(host, tls), host, tls)

    async def _connect(self, host: Host, tls: Tls) -> Connection:
        """@raise Unusable: it cannot be connected to."""
        settings = self._settings
        context = tls_context(host, tls, settings) if settings.implicit_tls else None
        family = ":" in host.address
        ended = await self._allowances[family].take()
        try:
            return await connect(
                self._reactor,
                (host.address, host.port),
                SmtpClientEngine(),
                str(host),
                timeout_s=settings.timeouts.connect_s,
                tls=context,
                source=next(
                    (s for s in settings.sources if (":" in s) == family), None
                ),
                ended=ended,
            )
        except BaseException as error:
            ended()
            if not isinstance(error, ConnectError):
                raise
            text = f"Cannot connect to {host}: {error}"
            raise Unusable(deferred("4.4.1", text, str(host)))

    async def _begin(self, connection: Connection, host: Host, tls: Tls) -> Session:
        """@raise Unusable: no session with this host."""
        session = Session(connection, host, self._settings)
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

    async def _send(self, session: Session, work: Work, way: Way) -> bool:
        """Use a session, and further ones with the host if it takes no more over
        one; then keep or end it.

        @return: whether the host said something of every recipient.
        """
        work.next_host()
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
                session = await self._open(session.host, way[1])
        except Unusable as error:
            session.leave()
            work.blame(error.outcome)
            if not error.retry:
                work.end()
            return False
        except BaseException:
            session.abort()
            raise
        if self._allowances[":" in session.host.address].wanted:
            session.leave()
        else:
            self._pool.put(way, session)
        return True
