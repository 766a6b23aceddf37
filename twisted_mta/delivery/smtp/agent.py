"""The delivery agent that speaks SMTP, or LMTP: one attempt for one message.

It goes through the hosts of a next hop, best first, until each recipient has an
answer that is final (RFC 5321 5.1): what one host defers another may take. It
keeps connections for a moment. It knows no queue and no retry times. The time
and the number of hosts of an attempt are bounded whatever they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.delivery.smtp.allowance import Allowance
from twisted_mta.delivery.smtp.demand import Demand
from twisted_mta.delivery.smtp.exchanger import (
    UNIX,
    Exchangers,
    Host,
    Listening,
)
from twisted_mta.delivery.smtp.outcome import (
    TlsFailed,
    Unusable,
    deferred,
    unreached,
)
from twisted_mta.delivery.smtp.pool import Pool, Way
from twisted_mta.delivery.smtp.race import Race
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
    IRated,
    IResolver,
    ISited,
    ITlsResults,
)
from twisted_mta.mail import header
from twisted_mta.mail.address import Address
from twisted_mta.mail.domain import ascii_domain
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome
from twisted_mta.net.client import Connection, connect
from twisted_mta.wire.smtp.client import SmtpClientEngine

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# What a domain is that takes no mail: it does not exist, or says so (RFC 7505).
_NOT_THERE = ("5.1.2", "5.1.10")


@implementer(IDeliveryAgent, IForesight, ISited, IRated)
class SmtpAgent:
    """Speaks SMTP to other servers, or LMTP.

    @ivar cheap: see L{IForesight}.
    @ivar rate: see L{IRated}.
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
        self.rate = settings.rate
        self._reactor = reactor
        self._settings = settings
        self._exchangers = Exchangers(resolver, settings, listening)
        self._security = Security(resolver, settings, policies, results)
        self._memory = memory
        self._pool = Pool(reactor, settings.idle_s, settings.idle_connections)
        # By whether it is IPv6: we have an address of each.
        self._allowances = [
            Allowance(settings.connections, self._pool.spare) for _ in range(2)
        ]

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        """See L{IDeliveryAgent}. The next hop is a domain, or a host as
        L{exchanger.read <twisted_mta.delivery.smtp.exchanger.read>} takes it."""
        work = Work(job, content, self._reactor)
        way = job.next_hop, self._tls(work)
        try:
            spoken_to = await self._over_idle(work, way)
            if work.open:
                await self._over_new(work, way, spoken_to)
        except CancelledError:
            if taken := work.taken():
                return taken
            raise
        return work.outcomes

    async def site(self, next_hop: str) -> str:
        """See L{ISited}."""
        return await self._exchangers.site(next_hop)

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
            outcome = _mistaken(error.outcome, next_hop, (recipient,))
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
        self._keep(way, session)
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
            mistaken = _mistaken(error.outcome, next_hop, work.job.recipients)
            work.blame(unreached(mistaken))
            return
        if not spoken_to:
            spoken_to = await self._over_shared(work, way, site, hosts)
        for _, group in groupby(hosts, key=attrgetter("preference")):
            left = [host for host in group if host not in spoken_to]
            while left and work.open and len(spoken_to) < self._settings.sessions:
                try:
                    found = await self._open_one(left, site, work)
                except Unusable as error:
                    work.blame(unreached(error.outcome))
                    continue
                if found is not None:
                    session, asked = found
                    spoken_to.add(session.host)
                    await self._send(session, work, (next_hop, asked))

    async def _over_shared(
        self, work: Work, way: Way, site: Site, hosts: Sequence[Host]
    ) -> set[Host]:
        """Use connections that were opened for other domains of these hosts, the best
        ones; those of which as much was asked as this domain asks.

        @return: the host that answered, if any.
        """
        best = [host for host in hosts if host.preference == hosts[0].preference]
        if not self._pool.leads_to(best, way[1]):
            return set()
        demands: dict[Host, Demand] = {}
        for host in best:
            try:
                demands[host] = await self._security.demand(site, host)
            except TlsFailed:
                continue  # which is said when it is to be spoken to
        while work.open and (session := self._pool.take_to(demands, way[1])):
            if await self._send(session, work, way):
                return {session.host}
        return set()

    async def _open_one(
        self, hosts: list[Host], site: Site, work: Work
    ) -> tuple[Session, Tls] | None:
        """A session that has begun, with whichever of some hosts answers first. That
        one is taken from the list, and those that were found not to answer. If its TLS
        is not as it should be and the message does not mind, it is as it is.

        @return: and what was asked of it; C{None}: nobody answers.
        @raise Unusable: who answered is of no use.
        """
        approach = partial(self._approach, site)
        race = Race(self._reactor, approach, lambda found: found[1].abort())
        first = await race.run(hosts)
        waived: Host | None = None
        for host, error in race.failures:
            hosts.remove(host)
            if not isinstance(error, Unusable):
                raise error
            if isinstance(error, TlsFailed) and await self._waives(work):
                waived = waived or host
                continue
            work.next_host()
            work.blame(unreached(error.outcome))
        work.next_host()
        if first is not None:
            waived, (demand, connection) = first
            hosts.remove(waived)
            try:
                return await self._begin(connection, waived, demand), site.tls
            except TlsFailed:
                if not await self._waives(work):
                    raise
        if waived is None:
            return None
        demand = await self._security.demand(Site(Tls.WAIVED, ""), waived)
        return await self._open(waived, demand), Tls.WAIVED

    async def _approach(self, site: Site, host: Host) -> tuple[Demand, Connection]:
        """@raise Unusable: it is not to be spoken to, or cannot be connected to."""
        demand = await self._security.demand(site, host)
        return demand, await self._connect(host, demand)

    async def _open(self, host: Host, demand: Demand) -> Session:
        """A session that has begun.

        @raise Unusable: none with this host.
        """
        return await self._begin(await self._connect(host, demand), host, demand)

    async def _connect(self, host: Host, demand: Demand) -> Connection:
        """@raise Unusable: it cannot be connected to."""
        settings = self._settings
        context = tls_context(host, demand, settings) if settings.implicit_tls else None
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

    async def _begin(
        self, connection: Connection, host: Host, demand: Demand
    ) -> Session:
        """@raise Unusable: no session with this host."""
        session = Session(connection, host, demand, self._settings)
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
        self._keep(way, session)
        return True

    def _keep(self, way: Way, session: Session) -> None:
        """Keep a session for the next message, unless somebody waits for its place."""
        if self._allowances[":" in session.host.address].wanted:
            session.leave()
        else:
            self._pool.put(way, session)


def _mistaken(
    outcome: Outcome, next_hop: str, recipients: Sequence[Address]
) -> Outcome:
    """What is said of a next hop that is not there. Where it is not the recipients' own
    domain an operator named it, whose mistake returns nobody's mail (Postfix does so
    for relayhost)."""
    if outcome.status not in _NOT_THERE:
        return outcome
    with suppress(ValueError):
        if next_hop not in {ascii_domain(to.domain) for to in recipients}:
            return deferred("4.3.5", outcome.diagnostic)
    return outcome
