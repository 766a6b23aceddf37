"""Where clients connect: endpoints, limits, and an end that waits.

A Listener makes a L{Stream} of each connection that its L{Admission} lets in;
if all places are taken, one of the L{Strangers} may have to go first. The others
read a goodbye and are closed at once, so that a full server costs its clients a
retry and itself next to nothing. When no descriptor is left at
all, Twisted's port keeps one in reserve to accept and close with, so nothing
spins. It knows no protocol beyond the octets of the goodbye.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from twisted_mta.mail.networks import NOBODY, Networks
from twisted_mta.net.admission import FULL, Admission, network
from twisted_mta.net.proxied import Preface
from twisted_mta.net.refusal import Refusal, Refusals
from twisted_mta.net.sockets import endpoint
from twisted_mta.net.strangers import Guest, Strangers
from twisted_mta.net.stream import Session, Stream
from twisted_mta.wire.engine import IEngine

#: Puts a factory behind an endpoint.
Listen = Callable[[str, Factory], Awaitable[IListeningPort]]

# A log line on displaced connections at most this often.
_DISPLACED_LOG_S = 10.0


@dataclass(frozen=True, slots=True)
class Spoken:
    """What is spoken at a listener.

    @ivar engine: makes the engine of a connection.
    @ivar session: makes the coroutine of a connection.
    @ivar goodbye: makes what is said in the clear to a connection that is one too
        many, such as C{b"421 4.7.0 ..."} with its line end, given the name under
        which the log has the reason.
    """

    engine: Callable[[], IEngine]
    session: Session
    goodbye: Callable[[str], bytes]


class Listener(Factory):
    """One listener of the config, with all its endpoints.

    @ivar name: in logs, and the beginning of its connections' names.
    """

    log = Logger()
    noisy = False

    def __init__(
        self,
        reactor: IReactorTime,
        name: str,
        endpoints: Sequence[str],
        spoken: Spoken,
        admission: Admission,
        tls: object | None = None,
        strangers: Strangers | None = None,
        proxies: Networks = NOBODY,
    ) -> None:
        """
        @param reactor: also what listens.
        @param endpoints: Twisted's endpoint strings, C{tcp:25} or
            C{systemd:domain=INET:index=0}.
        @param tls: the context with which connections begin (implicit TLS).
        @param strangers: shared with whoever shares the admission.
        @param proxies: whose connections begin with a PROXY header.
        """
        self.name = name
        self._reactor = reactor
        self._endpoints = tuple(endpoints)
        self._spoken = spoken
        self._admission = admission
        self._strangers = strangers or Strangers(reactor.seconds)
        self._tls = tls
        self._proxies = proxies
        self._ports: list[IListeningPort] = []
        # With the host that its place is counted for, until it is displaced.
        self._streams: dict[Stream, str | None] = {}
        self._made = 0
        self._stopping = False
        self._empty: Deferred[None] | None = None
        self._refusals = Refusals(reactor, self._next_name, spoken.goodbye)
        self._displaced = _Told(reactor, _DISPLACED_LOG_S)

    async def start(self, listen: Listen | None = None) -> None:
        """Listen at each endpoint; if one cannot, at none.

        @param listen: how; C{None}: the endpoints are bound now.
        @raise CannotListenError: the address is in use or not ours.
        @raise ValueError: an endpoint string is malformed.
        """
        self._stopping = False
        try:
            for description in self._endpoints:
                self._ports.append(await (listen or self._bind)(description, self))
        except BaseException:
            await self._close_ports()
            raise
        self.log.info("{name}: listening at {where}", name=self.name, where=self.where)

    @property
    def where(self) -> Sequence[tuple[str, int]]:
        """The host and port of each endpoint as bound; a path and 0 for a unix
        socket."""
        hosts = [port.getHost() for port in self._ports]
        return [_host_and_port(host) for host in hosts]

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._streams)

    async def stop(self, grace_s: float = 10.0) -> None:
        """Stop listening, tell the sessions, and wait until all have ended.

        @param grace_s: how long sessions may take before their connections are
            cut, and then how long they may take to notice (a session that
            waits for a commit ends after it).
        """
        self._stopping = True
        await self._close_ports()
        for stream in list(self._streams):
            stream.shut_down()
        if not await self._drained(grace_s):
            self.log.info(
                "{name}: cutting {count} connections",
                name=self.name,
                count=len(self._streams),
            )
            for stream in list(self._streams):
                stream.abort()
            if not await self._drained(grace_s):
                self.log.error(
                    "{name}: {count} sessions did not end: {names}",
                    name=self.name,
                    count=len(self._streams),
                    names=[stream.name for stream in self._streams],
                )

    # --- what Twisted calls ---

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        if self._stopping:
            return None
        host = _host_and_port(addr)[0] if hasattr(addr, "port") else ""
        if self._proxies and host in self._proxies:
            return Preface(self._reactor, self.name, self._proxied)
        return self._admitted(host, None)

    def _proxied(self, host: str, port: int) -> Protocol | None:
        """A proxy has said for whom it connects."""
        return None if self._stopping else self._admitted(host, (host, port))

    def _admitted(self, host: str, peer: tuple[str, int] | None) -> Protocol | None:
        refused = self._admission.enter(host)
        if refused == FULL and self._strangers.displace(network(host)):
            refused = self._admission.enter(host)
        if refused:
            goodbye = self._refusals.refuse(refused, host)
            # Within TLS there is no room for words before the handshake.
            return None if self._tls is not None else Refusal(goodbye)
        try:
            stream = Stream(
                self._reactor,
                self._spoken.engine(),
                self._spoken.session,
                self._next_name(),
                tls=self._tls,
                on_end=self._ended,
                peer=peer,
            )
        except BaseException:
            self._admission.leave(host)
            raise
        self._streams[stream] = host
        self._strangers.add(network(host), stream, self._displace)
        return stream

    # --- within ---

    def _next_name(self) -> str:
        """Of a connection, in logs."""
        self._made += 1
        return f"{self.name}-{self._made:x}"

    async def _bind(self, description: str, factory: Factory) -> IListeningPort:
        return await endpoint(self._reactor, description).listen(factory)

    def _displace(self, stream: Guest) -> None:
        """End a connection so that another has its place: without a word, which it
        might not read."""
        assert isinstance(stream, Stream)
        host = self._streams[stream]
        assert host is not None
        self._streams[stream] = None
        self._admission.leave(host)
        if self._displaced.now():
            self.log.warn(
                "{name}: full: {count} connections that neither logged in nor sent"
                " mail made room for others, the last of {host}",
                name=self.name,
                count=self._displaced.count(),
                host=host,
            )
        stream.abort()

    def _ended(self, stream: Stream) -> None:
        self._strangers.remove(stream)
        host = self._streams.pop(stream)
        if host is not None:
            self._admission.leave(host)
        if not self._streams and self._empty is not None:
            empty, self._empty = self._empty, None
            empty.callback(None)

    async def _drained(self, most_s: float) -> bool:
        """Wait for the last connection to end, but not for ever."""
        if self._streams:
            self._empty = Deferred()
            timeout = self._reactor.callLater(most_s, self._give_up)
            await self._empty
            if timeout.active():
                timeout.cancel()
        return not self._streams

    def _give_up(self) -> None:
        empty, self._empty = self._empty, None
        if empty is not None:
            empty.callback(None)

    async def _close_ports(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            closing = port.stopListening()
            if closing is not None:
                await closing


class _Told:
    """Something that happens often and is told now and then, with how often."""

    def __init__(self, reactor: IReactorTime, every_s: float) -> None:
        self._reactor = reactor
        self._every_s = every_s
        self._count = 0
        self._said = float("-inf")

    def now(self) -> bool:
        """It happened; whether to tell."""
        self._count += 1
        return self._reactor.seconds() - self._said >= self._every_s

    def count(self) -> int:
        """It is told: how often it happened since."""
        count, self._count = self._count, 0
        self._said = self._reactor.seconds()
        return count


def _host_and_port(address: Any) -> tuple[str, int]:
    """Of an IPv4 or IPv6 address; of a unix socket its path and 0."""
    if hasattr(address, "port"):
        return address.host, address.port
    name = getattr(address, "name", None) or b""
    return name.decode(errors="replace"), 0
