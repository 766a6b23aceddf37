"""The composition root: from a config to a service tree.

It says in which order things start and stop. With its neighbours on this floor,
L{twisted_mta.office} (what stands on the ledger), L{twisted_mta.desk} (what is
spoken at listeners) and L{twisted_mta.parts} (what the config chooses by kind),
it alone knows which class stands behind which interface; everything gets what
it needs by its constructor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mta.auth.throttle import Throttle
from twisted_mta.chores import Chores
from twisted_mta.config import schema
from twisted_mta.config.check import host_port
from twisted_mta.config.load import Document
from twisted_mta.config.schema import Config
from twisted_mta.delivery.callout import Callout
from twisted_mta.delivery.complaint import Complaints
from twisted_mta.delivery.forward import Forwarding, Loop
from twisted_mta.delivery.intake import Intake
from twisted_mta.delivery.notice import Notices
from twisted_mta.delivery.relayed import Relayed, read_lists
from twisted_mta.delivery.release import Release
from twisted_mta.delivery.resend import Resends
from twisted_mta.delivery.runner import Runner
from twisted_mta.delivery.succession import Succession
from twisted_mta.delivery.sweep import Sweep
from twisted_mta.desk import Desk
from twisted_mta.errors import ConfigError, MailError
from twisted_mta.indexing import Indexing
from twisted_mta.interfaces import IDeliveryAgent
from twisted_mta.mail.address import split
from twisted_mta.mail.domain import known_as
from twisted_mta.mail.networks import Networks
from twisted_mta.mail.route import COMPLAINT, LOOP, RELEASE
from twisted_mta.net.admission import Admission, descriptors
from twisted_mta.net.listener import Listener
from twisted_mta.net.place import Place, alone
from twisted_mta.net.poller import polled, unpolled
from twisted_mta.net.resolver import Resolver, system_hosts, system_servers
from twisted_mta.net.sockets import Sockets
from twisted_mta.net.strangers import Strangers
from twisted_mta.net.tls import CertificateError, Pair, ServerTls
from twisted_mta.office import Office, open_office, search_directory
from twisted_mta.parts import Parts

# How long sessions and attempts may take to end when the server stops; systemd
# waits 90 s by default, a person at Ctrl-C does not.
_GRACE_S = 5.0


def part_problems(document: Document, config: Config) -> Sequence[str]:
    """What is wrong with the plugins, endpoints and certificates of a config."""
    problems: list[str] = []
    looks: Sequence[Callable[[], object]] = (
        lambda: Parts(document, config, tuple),
        lambda: read_lists(config.relay_domains),
        lambda: _server_tls(document, config),
    )
    for look in looks:
        try:
            look()
        except ConfigError as error:
            problems += error.problems
    return problems


def _server_tls(document: Document, config: Config) -> _Tls | None:
    """@raise ConfigError: certificates cannot be used."""
    pairs = [Pair(one.certificate, one.key) for one in config.certificates]
    problems = []
    for index, pair in enumerate(pairs):
        try:
            ServerTls([pair])
        except CertificateError as error:
            problems.append(document.problem(("certificates", index), str(error)))
    if problems:
        raise ConfigError(problems)
    if not pairs:
        return None
    try:
        return _Tls(pairs, config.login.authorities)
    except CertificateError as error:
        where = ("login", "authorities")
        raise ConfigError([document.problem(where, str(error))])


class _Tls:
    """What listeners show: other mail servers are not asked for certificates, since
    theirs are of authorities that nobody here knows."""

    def __init__(self, pairs: Sequence[Pair], authorities: Path | None) -> None:
        self._mail = self._logins = ServerTls(pairs)
        if authorities is not None:
            self._logins = ServerTls(pairs, authorities)

    def of(self, listener: schema.Listener) -> ServerTls:
        """The context of a listener."""
        return self._mail if listener.protocol == "smtp" else self._logins

    def reload(self) -> bool:
        """See L{ServerTls.reload}."""
        reloaded = self._mail.reload()
        if self._logins is not self._mail:
            reloaded = self._logins.reload() and reloaded
        return reloaded


def _resolver(reactor: Any, config: Config) -> Resolver:
    servers = [host_port(server) for server in config.dns.servers]
    return Resolver(
        reactor,
        servers or system_servers(),
        hosts=system_hosts(),
        timeout_s=config.dns.timeout,
        validating=config.dns.validating,
    )


class Stopped(Exception):
    """The server was told to stop before it had started."""


class Mta:
    """The whole server in one process, be it the only one or not.

    It starts the ledger, the queue run and the listeners, in this order, and
    stops them in reverse, each awaited.

    @ivar office: once started.
    @ivar intake: once started.
    """

    log = Logger()

    office: Office
    intake: Intake

    def __init__(
        self,
        reactor: Any,
        document: Document,
        config: Config,
        sockets: Sockets | None = None,
        place: Place | None = None,
    ) -> None:
        """
        @param sockets: where to listen, if it is bound; it is closed in the end.
        @param place: among the processes that serve; C{None}: it is alone.
        @raise ConfigError: a plugin, an endpoint or a certificate is wrong.
        """
        self._reactor = reactor = polled(reactor)
        self._config = config
        self._sockets = sockets
        self._place = place or alone()
        self._parts = Parts(document, config, self._addresses)
        self._tls = _server_tls(document, config)
        self._lists = read_lists(config.relay_domains)
        self._throttle = Throttle(reactor, self._place.tell, self._place.tally)
        self._listeners: list[Listener] = []
        self._runner: Runner | None = None
        self._indexing: Indexing | None = None
        self._relayed: Relayed | None = None
        self._succession: Succession | None = None
        self._resends: Resends | None = None
        self._sweep: Sweep | None = None
        self._chores: Chores | None = None
        self._opened = False
        # While it starts, and once it was told to stop.
        self._starting: Deferred[None] | None = None
        self._stopping = False

    def listening(self) -> Sequence[tuple[str, str, int]]:
        """Name, host and port of each endpoint that listens."""
        return [
            (listener.name, host, port)
            for listener in self._listeners
            for host, port in listener.where
        ]

    def _addresses(self) -> Sequence[tuple[str, int]]:
        return [(host, port) for _, host, port in self.listening()]

    # --- life ---

    def bind(self) -> None:
        """Bind all sockets.

        @raise CannotListenError: an endpoint is in use.
        """
        if self._sockets is None:
            self._sockets = Sockets(self._reactor)
            self._sockets.bind(endpoints(self._config))

    async def start(self) -> None:
        """Start everything; if one thing cannot, stop what had started.

        @raise MailError: the ledger cannot be opened.
        @raise CannotListenError: an endpoint is in use.
        @raise Stopped: L{stop} was called meanwhile.
        """
        await self._begin(self._start)

    async def serve(self) -> None:
        """The same, and say what the operator may have forgotten."""
        await self._begin(self._serve)

    async def _begin(self, work: Callable[[], Awaitable[None]]) -> None:
        self._starting = starting = Deferred[None]()
        try:
            self._go_on()
            await work()
            self._go_on()
        except BaseException:
            await self._stop()
            raise
        finally:
            self._starting = None
            starting.callback(None)

    def _go_on(self) -> None:
        """@raise Stopped: no."""
        if self._stopping:
            raise Stopped("told to stop before it had started")

    async def _serve(self) -> None:
        await self._start()
        if self._place.number == 1:
            await self.look_for_postmaster()

    async def _start(self) -> None:
        self.bind()
        self.office = office = await open_office(self._reactor, self._config)
        self._opened = True
        self._go_on()
        self._start_indexing()
        notices = Notices(
            self._reactor, office.ledger, office.own, self._config.hostname
        )
        self._resends = Resends(
            self._reactor, office.ledger, self._config.smtp.resent_within
        )
        settings = self._config.forwarding
        forwarding = Forwarding(
            office.returns if settings.srs else None,
            settings.domain and known_as(settings.domain),
            office.router.ours,
        )
        self.intake = Intake(
            office.ledger,
            office.store,
            office.queue,
            office.own,
            notices,
            self._resends,
            forwarding,
        )
        await self._resends.start()
        resolver = _resolver(self._reactor, self._config)
        self._chores = Chores(self._reactor, self._config, office, resolver)
        self._chores.start(first=self._place.number == 1)
        environment = {
            "reactor": self._reactor,
            "resolver": resolver,
            "web": self._chores.web,
            "tls_results": self._chores.results,
            "ledger": office.ledger,
            "rates": self._place.rates,
            "share": self._place.share,
        }
        agents = self._parts.agents(**environment)
        await self._start_queue(agents)
        callout = Callout(self._reactor, office.ledger, agents)
        self._relayed = Relayed(self._config.relay_domains, self._lists, callout)
        await self._start_listeners(environment, callout)

    def _start_indexing(self) -> None:
        config = self._config
        if self._place.number == 1 and config.search.index:
            self._indexing = Indexing(
                unpolled(self._reactor),
                config.directory,
                search_directory(config.directory),
            )
            self._indexing.start()

    async def _start_queue(self, agents: Mapping[str, IDeliveryAgent]) -> None:
        office, reactor, place = self.office, self._reactor, self._place
        queue = self._config.queue
        per_hop = place.share(queue.concurrency_per_hop)
        self._runner = Runner(
            reactor,
            office.ledger,
            office.queue,
            {
                **agents,
                RELEASE: Release(reactor, office.router, self.intake),
                LOOP: Loop(),
                COMPLAINT: Complaints(
                    *(reactor, office.suppression, office.directory),
                    *(self._config.suppression, self._config.hostname),
                    [each.delimiters for each in self._config.smtp.verp],
                ),
            },
            # Whose share of one is nothing leaves the queue to the others.
            concurrency=place.share(queue.concurrency) if per_hop else 0,
            per_hop=per_hop,
            grace_s=_GRACE_S,
            settings=queue,
            share=place.share,
        )
        await self._runner.start()
        self._go_on()
        self._succession = Succession(reactor, office.ledger, office.queue)
        await self._succession.start()
        self._go_on()
        if place.number == 1:
            self._sweep = Sweep(reactor, office.ledger, queue.history)
            await self._sweep.start()

    async def _start_listeners(
        self, environment: Mapping[str, Any], callout: Callout
    ) -> None:
        config, reactor = self._config, self._reactor
        desk = Desk(
            reactor,
            config,
            self.office,
            self.intake,
            self._parts.policies(**environment),
            self._parts.verifiers(**environment),
            self._tls_of,
            self._throttle,
            cast(Relayed, self._relayed),
            callout,
        )
        admission = Admission(
            config.connections.most,
            config.connections.most_per_address,
            Admission(descriptors()),
            self._place.tally,
        )
        strangers = Strangers(reactor.seconds)
        for settings in config.listeners:
            listener = Listener(
                reactor,
                settings.name,
                settings.endpoints,
                desk.spoken(settings),
                admission,
                self._tls_of(settings) if settings.tls == "implicit" else None,
                strangers,
                Networks(settings.proxies),
            )
            self._listeners.append(listener)
            await listener.start(cast(Sockets, self._sockets).adopt)
            self._go_on()

    def _tls_of(self, listener: schema.Listener) -> ServerTls | None:
        return None if self._tls is None else self._tls.of(listener)

    async def stop(self) -> None:
        """Stop everything, in reverse. A start that is under way ends first, after
        the step that it is at: a ledger that is being opened is closed as well.

        @raise Exception: a part did not stop as it should; the others have
            stopped. Threads that were left would keep the process from ending.
        """
        self._stopping = True
        if self._starting is not None:
            await self._starting
        await self._stop()

    async def _stop(self) -> None:
        try:
            # First of all, so that nobody waits to be accepted by us.
            if self._sockets is not None:
                await self._sockets.close()
            await self._stop_listeners()
        finally:
            try:
                await self._stop_runner()
            finally:
                try:
                    await self._stop_chores()
                finally:
                    try:
                        await self._stop_indexing()
                    finally:
                        await self._close_office()

    async def _stop_listeners(self) -> None:
        listeners, self._listeners = self._listeners, []
        stopping = [
            Deferred.fromCoroutine(listener.stop(_GRACE_S)) for listener in listeners
        ]
        for _, outcome in await DeferredList(stopping, consumeErrors=True):
            if isinstance(outcome, Failure):
                outcome.raiseException()

    async def _stop_runner(self) -> None:
        resends, self._resends = self._resends, None
        if resends is not None:
            await resends.stop()
        sweep, self._sweep = self._sweep, None
        if sweep is not None:
            await sweep.stop()
        succession, self._succession = self._succession, None
        if succession is not None:
            await succession.stop()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.stop()

    async def _stop_chores(self) -> None:
        chores, self._chores = self._chores, None
        if chores is not None:
            await chores.stop()

    async def _stop_indexing(self) -> None:
        indexing, self._indexing = self._indexing, None
        if indexing is not None:
            await indexing.stop(_GRACE_S)

    async def _close_office(self) -> None:
        if self._opened:
            self._opened = False
            await self.office.close()

    async def look_for_postmaster(self) -> None:
        """Warn when C{postmaster@} and C{abuse@} have no reader, which a new
        server has not before its first account."""
        address = self._config.postmaster
        try:
            await self.office.router.route(split(address))
        except MailError as error:
            self.log.warn(
                "the config's 'postmaster', {address}, gets no mail ({why}); run"
                " 'twisted-mta account add {address}' or"
                " 'twisted-mta alias add {address} TARGET'",
                address=address,
                why=error.text,
            )

    async def reload(self) -> None:
        """Read the certificates again, and the lists of recipients."""
        if self._tls is not None and self._tls.reload():
            self.log.info("certificates read again")
        if self._relayed is not None and self._relayed.reload():
            self.log.info("lists of recipients read again")

    def heard_of_login(self, about: str) -> None:
        """What another process told of a login that failed, or of one from where there
        was none before."""
        self._throttle.heard(about)


def endpoints(config: Config) -> Sequence[str]:
    """All endpoints of a config."""
    return [one for listener in config.listeners for one in listener.endpoints]
