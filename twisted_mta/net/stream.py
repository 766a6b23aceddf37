"""The one Twisted protocol: it pumps any engine from any transport.

A Stream pushes what arrives into its engine and hands the engine's events to a
coroutine that pulls them, one at a time. It knows no mail. It trusts the engine
to bound its buffer; it bounds the rest: reading stops while the session is busy
and much is buffered, a session that produces faster than its peer reads waits
in L{Stream.drain}, and whoever does neither read nor write in time is cut off.

What it costs: an event that is already there costs a plain call, a wait for the
peer little more (L{twisted_mta.net.task}). Replies that are ready together leave
in one write, when the session next waits.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import interfaces
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection as TcpConnection
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mta.net.hearing import out_of_reach
from twisted_mta.net.patience import WRITE_S, Patience
from twisted_mta.net.task import PAUSE, Task
from twisted_mta.wire.engine import IEngine, RemoteProtocolError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# Reading stops while this much waits for the session (as much again may be on
# its way): a few of Twisted's reads of 64 KiB.
_READ_AHEAD = 256 * 1024

# Written octets gather up to here before they go to the transport, so that
# replies leave together and memory stays flat.
_WRITE_TOGETHER = 64 * 1024

# Linux only.
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class Closed:
    """The last event: the connection is gone, nothing can be written.

    @ivar heard: the peer has read what was written, as far as can be known
        (L{twisted_mta.net.hearing}).
    """

    __slots__ = ("_failure", "heard")

    def __init__(self, failure: Failure, heard: bool) -> None:
        self._failure = failure
        self.heard = heard

    @property
    def reason(self) -> str:
        """Why, in words."""
        return self._failure.getErrorMessage()


class TimedOut:
    """Nothing came within the time that the session set. Said once; the
    session says goodbye and ends."""

    __slots__ = ()


class TooSlow:
    """What came was less than the session L{asked for <Stream.pace>}. As
    L{TIMED_OUT}, it is said once."""

    __slots__ = ()


class ShuttingDown:
    """The server stops; the session says goodbye and ends."""

    __slots__ = ()


TIMED_OUT = TimedOut()
TOO_SLOW = TooSlow()
SHUTTING_DOWN = ShuttingDown()

Session = Callable[["Stream"], Coroutine[Any, Any, None]]


@implementer(interfaces.IPushProducer, interfaces.IHandshakeListener)
class Stream(Protocol):
    """One connection.

    @ivar engine: the engine in use.
    @ivar session: a word that names this connection in logs.
    @ivar secure: TLS is on.
    @ivar prompt: whenever it waits for the peer, what has come is L{acknowledged
        <acknowledge>}.
    @ivar stranger: it may have to go when there is no room, until its session says
        otherwise (L{twisted_mta.net.strangers}).
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        engine: IEngine,
        session: Session,
        name: str,
        tls: object | None = None,
        on_end: Callable[[Stream], None] | None = None,
        peer: tuple[str, int] | None = None,
    ) -> None:
        """
        @param session: called with this Stream once connected; what it returns
            is run as the session's coroutine.
        @param name: the connection's name in logs.
        @param tls: the TLS context factory with which the connection begins
            (implicit TLS), or C{None}.
        @param on_end: called once, when the connection and the session ended.
        @param peer: who the peer is, if a proxy has said so.
        """
        self.engine = engine
        self.name = name
        self.secure = False
        self.stranger = True
        self.prompt = False
        self.tls = ""
        self._session = session
        self._implicit_tls = tls
        self._on_end = on_end
        self._peer = peer
        self._out: list[bytes] = []
        self._out_octets = 0
        self._posted: deque[object] = deque()
        self._task: Task | None = None
        self._drained: Deferred[None] | None = None
        self._handshake: Deferred[None] | None = None
        self._closed: Closed | None = None
        self._running = False
        self._ended = False
        self._reading = True
        self._producing = False
        self._full = False
        self._direct = False
        self._patience = Patience(reactor, self._out_of_patience)

    # --- what a session calls ---

    def peer(self) -> tuple[str, int]:
        """The peer's address and port; empty and 0 for a unix socket."""
        if self._peer is not None:
            return self._peer
        address = cast(interfaces.ITransport, self.transport).getPeer()
        return getattr(address, "host", ""), getattr(address, "port", 0)

    def handle(self) -> Any:
        """The TLS connection, as pyOpenSSL has it; only if it is L{secure}."""
        return cast(Any, self.transport).getHandle()

    def limit(
        self,
        idle_s: float,
        total_s: float | None = None,
        write_s: float = WRITE_S,
    ) -> None:
        """Set how long the peer may take.

        @param idle_s: for each thing that the session waits for.
        @param total_s: for the rest of the connection, from now on.
        @param write_s: for each L{drain}, if that is less than C{idle_s}.
        """
        self._patience.limit(idle_s, total_s, write_s)
        if self._waiting():
            self._start_clock()

    def pace(self, least: float) -> None:
        """Set how fast the peer has to send; else the session is told
        L{TOO_SLOW}.

        @param least: octets a second, see L{Patience.pace}; 0: any.
        """
        self._patience.pace(least)

    def write(self, octets: bytes) -> None:
        """Send; at the latest when the session next waits."""
        self._out.append(octets)
        self._out_octets += len(octets)
        if self._out_octets > _WRITE_TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Hand to the transport what was written."""
        if self._out:
            octets = b"".join(self._out)
            self._out.clear()
            self._out_octets = 0
            if self._closed is None:
                self._send(octets)
            else:
                self._closed.heard = False

    def _send(self, octets: bytes) -> None:
        """Give octets to the kernel at once, as long as it takes them all: a
        reply. Twisted's own C{write} asks the poller to be told that it may,
        and then not to be told any more: 60 us for each reply."""
        transport = cast(Any, self.transport)
        if self._direct and not transport.TLS:
            sent = transport.writeSomeData(octets)
            if sent == len(octets):
                return
            self._direct = False  # what follows has to wait behind the rest
            if isinstance(sent, int) and sent > 0:
                octets = octets[sent:]
        transport.write(octets)

    async def drain(self) -> bool:
        """Wait until the peer has read most of what was written; one that does
        not in time is cut off.

        @return: whether the connection still stands; a session that streams
            stops when it does not.
        """
        if not self._producing and self._closed is None:
            self._producing = True
            cast(interfaces.IConsumer, self.transport).registerProducer(self, True)
        self.flush()
        if self._full and self._closed is None:
            self._drained = Deferred()
            self._start_clock()
            await self._drained
        return self._closed is None

    async def next_event(self) -> object:
        """The next event of the engine; or one that was L{posted <post>},
        L{TIMED_OUT}, L{TOO_SLOW}, L{SHUTTING_DOWN}, or at the end always L{Closed}.

        @raise RemoteProtocolError: see L{IEngine.next_event}.
        """
        if self._posted:
            return self._posted.popleft()
        event = self.engine.next_event()
        if event is not None:
            return event
        if self._closed is not None:
            return self._closed
        self.flush()
        if self.prompt:
            self.acknowledge()
        self._start_clock()
        if not self._reading:
            self._reading = True
            cast(interfaces.IPushProducer, self.transport).resumeProducing()
        return await self._pause()

    def acknowledge(self) -> None:
        """Let the peer know at once that what it sent is here.

        For peers that send the rest of something in a packet of its own: their
        kernel keeps it until ours has acknowledged the first, which ours delays
        in the hope of an answer to send along (Nagle's algorithm against
        delayed acknowledgements, 40 ms on Linux).
        """
        if self._closed is None and isinstance(self.transport, TcpConnection):
            ours = self.transport.socket
            if _QUICKACK is not None and ours.family != socket.AF_UNIX:
                ours.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def heard(self) -> bool:
        """Whether the peer has what was written, as far as can be known; of one that
        is still there, whether it is in reach."""
        if self._closed is not None:
            return self._closed.heard and not self._out
        if isinstance(self.transport, TcpConnection):
            with suppress(OSError):
                return not out_of_reach(self.transport.socket)
        return True

    def post(self, event: object) -> None:
        """Give the session an event that is not the peer's, before any other:
        a hint that a mailbox changed, say."""
        if self._paused():
            self._resume(event)
        else:
            self._posted.append(event)

    async def start_tls(self, context: object) -> bool:
        """Begin TLS: what was written goes out in the clear, what was received
        is dropped (RFC 3207 4.2: commands injected before TLS), and the engine
        starts afresh.

        @param context: the context factory, server or client.
        @return: whether the handshake succeeded; if not, the connection is
            gone.
        """
        self.flush()
        if self._closed is None:
            self._begin_handshake(context)
            self._handshake = Deferred()
            self._start_clock()
            await self._handshake
        return self._closed is None

    def close(self) -> None:
        """Send what was written, then close."""
        self.flush()
        if self._producing:
            self._producing = False
            cast(interfaces.IConsumer, self.transport).unregisterProducer()
        if self._closed is None:
            cast(interfaces.ITransport, self.transport).loseConnection()
        # What had nothing left to write is gone; else a peer that does not read
        # must not keep the connection.
        if self._closed is None:
            self._patience.linger()

    def abort(self) -> None:
        """Close at once; what was written may be lost."""
        self._direct = False
        if self._closed is None:
            cast(interfaces.ITCPTransport, self.transport).abortConnection()

    # --- what a listener calls ---

    def shut_down(self) -> None:
        """Tell the session that the server stops. A handshake is cut short."""
        self._patience.hurry()
        if self._handshake is not None:
            self.abort()
        elif not self._running:
            self.close()
        self.post(SHUTTING_DOWN)

    # --- what Twisted calls ---

    def connectionMade(self) -> None:
        transport = cast(interfaces.ITCPTransport, self.transport)
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self._direct = isinstance(transport, TcpConnection)
        if self._implicit_tls is not None:
            self._begin_handshake(self._implicit_tls)
        self._running = True
        self._task = Task(self._run(), self._task_ended)
        self._task.start()

    def dataReceived(self, data: bytes) -> None:
        if self._handshake is not None:
            return  # in the clear, after STARTTLS: injected
        if not self._running:
            return  # nobody will take it: said after QUIT, or after our goodbye
        self._patience.octets += len(data)
        self.engine.receive_data(data)
        if self._paused():
            try:
                event = self.engine.next_event()
            except RemoteProtocolError as error:
                self._patience.stop()
                self._resume_raising(error)
                return
            if event is not None:
                self._resume(event)
            elif self._patience.paced:
                # It comes, and nobody is told of it: content that is refused already.
                self._start_clock()
        if (
            self._reading
            and not self._paused()
            and self._closed is None
            and self.engine.buffered() > _READ_AHEAD
        ):
            self._reading = False
            cast(interfaces.IPushProducer, self.transport).pauseProducing()

    def handshakeCompleted(self) -> None:
        self.secure = True
        handle = self.handle()
        self.tls = f"{handle.get_protocol_version_name()} {handle.get_cipher_name()}"
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closed = Closed(reason, self._was_heard(reason))
        if self._handshake is not None:
            self.log.info(
                "{name}: no TLS: {reason}", name=self.name, reason=self._closed.reason
            )
        self._producing = False
        self._patience.stop()
        self._out.clear()
        self._out_octets = 0
        for waiting in ("_handshake", "_drained"):
            deferred = getattr(self, waiting)
            if deferred is not None:
                setattr(self, waiting, None)
                deferred.callback(None)
        if self._paused():
            self._resume(self._closed)
        self._end()

    def _was_heard(self, reason: Failure) -> bool:
        """Whether the peer had read all when the connection ended."""
        if self._out:
            return False
        orderly = isinstance(reason.value, ConnectionDone)
        at_the_end: bool | None = getattr(self.transport, "heard", None)
        # TLS has a goodbye, and our answer to it resets a socket that is closed.
        if at_the_end is None or (self.secure and orderly):
            return orderly
        return at_the_end

    # A push producer to the transport: it says when its buffer is full.

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False
        # The transport has nothing left to write.
        self._direct = isinstance(self.transport, TcpConnection)
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    def stopProducing(self) -> None:
        pass  # connectionLost follows at once, and ends every wait

    # --- within ---

    async def _run(self) -> None:
        """The one place where a session is entered and its failures end."""
        try:
            if self._implicit_tls is not None:
                self._handshake = Deferred()
                self._start_clock()
                await self._handshake
            if self._closed is None:
                await self._session(self)
        except RemoteProtocolError as error:
            self.log.info("{name}: closed: {reason}", name=self.name, reason=str(error))
            self.write(error.reply)
        finally:
            self._running = False
            self.close()
            self._end()

    def _task_ended(self, failure: Failure | None) -> None:
        self._task = None
        if failure is not None:
            self.log.failure(
                "{name}: a bug ended this session", failure, name=self.name
            )

    def _begin_handshake(self, context: object) -> None:
        self.engine.discard()
        self._direct = False
        if not self._reading:
            self._reading = True
            cast(interfaces.IPushProducer, self.transport).resumeProducing()
        cast(Any, self.transport).startTLS(context)

    # How whoever called next_event waits, and is given an event.

    def _paused(self) -> bool:
        return self._task is not None and self._task.paused

    def _pause(self) -> Awaitable[object]:
        return PAUSE

    def _resume(self, event: object) -> None:
        cast(Task, self._task).resume(event)

    def _resume_raising(self, error: RemoteProtocolError) -> None:
        cast(Task, self._task).fail(error)

    def _end(self) -> None:
        if self._closed is not None and not self._running and not self._ended:
            self._ended = True
            self._patience.stop()
            if self._on_end is not None:
                self._on_end(self)

    def _waiting(self) -> bool:
        return self._paused() or not (self._drained is self._handshake is None)

    def _start_clock(self) -> None:
        self._patience.wait(writing=self._drained is not None)

    def _out_of_patience(self, too_slow: bool) -> None:
        if self._closed is not None:
            return
        if too_slow:
            if self._paused():
                self._resume(TOO_SLOW)
            return  # else it is our turn, and the next wait begins anew
        if not self._running:
            self.abort()  # closed, and the peer does not read the rest
        elif self._paused():
            self._resume(TIMED_OUT)
        elif self._waiting():
            if self._drained is not None:
                self.log.info("{name}: cut off: it does not read", name=self.name)
            self.abort()  # or it does not shake hands
