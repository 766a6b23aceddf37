"""The composition root: from a config to a service tree.

It says in which order things start and stop. With its neighbours on this floor,
L{twisted_mta.office} (what stands on the ledger), L{twisted_mta.desk} (what is
spoken at listeners) and L{twisted_mta.parts} (what the config chooses by kind),
it alone knows which class stands behind which interface; everything gets what
it needs by its constructor.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mta.config.check import host_port
from twisted_mta.config.load import Document
from twisted_mta.config.schema import Config
from twisted_mta.delivery.intake import Intake
from twisted_mta.delivery.runner import Runner
from twisted_mta.desk import Desk
from twisted_mta.errors import ConfigError, MailError
from twisted_mta.mail.address import split
from twisted_mta.net.admission import Admission, descriptors
from twisted_mta.net.listener import Listener
from twisted_mta.net.poller import polled
from twisted_mta.net.resolver import Resolver, system_hosts, system_servers
from twisted_mta.net.tls import CertificateError, Pair, ServerTls
from twisted_mta.office import Office, open_office, search_directory
from twisted_mta.parts import Parts
from twisted_mta.store.search_indexer import Indexer

# How long sessions and attempts may take to end when the server stops; systemd
# waits 90 s by default, a person at Ctrl-C does not.
_GRACE_S = 5.0


def part_problems(document: Document, config: Config) -> Sequence[str]:
    """What is wrong with the plugins, endpoints and certificates of a config."""
    problems: list[str] = []
    looks: Sequence[Callable[[], object]] = (
        lambda: Parts(document, config, tuple),
        lambda: _server_tls(document, config),
    )
    for look in looks:
        try:
            look()
        except ConfigError as error:
            problems += error.problems
    return problems


def _server_tls(document: Document, config: Config) -> ServerTls | None:
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
    return ServerTls(pairs) if pairs else None


def _resolver(reactor: Any, config: Config) -> Resolver:
    servers = [host_port(server) for server in config.dns.servers]
    return Resolver(
        reactor,
        servers or system_servers(),
        hosts=system_hosts(),
        timeout_s=config.dns.timeout,
    )


class Mta(Service):
    """The whole server, as one service of twistd.

    It starts the ledger, the queue run and the listeners, in this order, and
    stops them in reverse, each awaited.

    @ivar office: once started.
    @ivar intake: once started.
    """

    log = Logger()
    name = "mta"

    office: Office
    intake: Intake

    def __init__(
        self,
        reactor: Any,
        document: Document,
        config: Config,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param failed: called when the service could not start; the reactor is
            stopped then.
        @raise ConfigError: a plugin, an endpoint or a certificate is wrong.
        """
        self._reactor = reactor = polled(reactor)
        self._config = config
        self._failed = failed
        self._parts = Parts(document, config, self._addresses)
        self._tls = _server_tls(document, config)
        self._listeners: list[Listener] = []
        self._runner: Runner | None = None
        self._indexer: Indexer | None = None
        self._opened = False

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

    async def start(self) -> None:
        """Start everything; if one thing cannot, stop what had started.

        @raise MailError: the ledger cannot be opened.
        @raise CannotListenError: an endpoint is in use.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        signal.signal(signal.SIGHUP, self._on_hangup)
        notify_systemd("READY=1")

    async def _start(self) -> None:
        config, reactor = self._config, self._reactor
        self.office = office = await open_office(reactor, config)
        self._opened = True
        self._indexer = Indexer(reactor, office.ledger, search_directory(config))
        self._indexer.start()
        self.intake = Intake(office.ledger, office.store, office.queue, office.own)
        environment = {
            "reactor": reactor,
            "resolver": _resolver(reactor, config),
            "ledger": office.ledger,
        }
        self._runner = Runner(
            reactor,
            office.ledger,
            office.queue,
            self._parts.agents(**environment),
            concurrency=config.queue.concurrency,
            per_hop=config.queue.concurrency_per_hop,
            grace_s=_GRACE_S,
        )
        await self._runner.start()
        desk = Desk(
            reactor,
            config,
            office,
            self.intake,
            self._parts.policies(**environment),
            self._tls,
        )
        admission = Admission(
            min(config.connections.most, descriptors()),
            config.connections.most_per_address,
        )
        for settings in config.listeners:
            listener = Listener(
                reactor,
                settings.name,
                settings.endpoints,
                desk.spoken(settings),
                admission,
                self._tls if settings.tls == "implicit" else None,
            )
            self._listeners.append(listener)
            await listener.start()

    async def stop(self) -> None:
        """Stop everything, in reverse.

        @raise Exception: a part did not stop as it should; the others have
            stopped. Threads that were left would keep the process from ending.
        """
        notify_systemd("STOPPING=1")
        try:
            await self._stop_listeners()
        finally:
            try:
                await self._stop_runner()
            finally:
                try:
                    await self._stop_indexer()
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
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.stop()

    async def _stop_indexer(self) -> None:
        indexer, self._indexer = self._indexer, None
        if indexer is not None:
            await indexer.stop()

    async def _close_office(self) -> None:
        if self._opened:
            self._opened = False
            await self.office.close()

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        starting = Deferred.fromCoroutine(self._begin())
        starting.addErrback(self._cannot_start)

    async def _begin(self) -> None:
        await self.start()
        await self.look_for_postmaster()

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

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self.stop())

    def _cannot_start(self, failure: Failure) -> None:
        self.log.critical("cannot start: {why}", why=failure.getErrorMessage())
        self._failed()
        self._reactor.stop()

    def _on_hangup(self, *_: object) -> None:
        self._reactor.callFromThread(self.reload)

    def reload(self) -> None:
        """Read the certificates again."""
        if self._tls is not None and self._tls.reload():
            self.log.info("certificates read again")


def notify_systemd(state: str) -> None:
    """Tell systemd of a change, if it asked to be told (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        if address.startswith("@"):
            address = "\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.sendto(state.encode(), address)
