"""L{twisted_mta.net.stream}: one connection, on a transport of strings and a
clock that the test moves."""

from collections.abc import Callable, Coroutine
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.net.lines import Lines
from twisted_mta.net.stream import SHUTTING_DOWN, TIMED_OUT, Closed, Stream

Session = Callable[[Stream], Coroutine[Any, Any, None]]


class Handle:
    """What a transport says of its TLS."""

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_cipher_name(self) -> str:
        return "CIPHER"

    def get_peer_certificate(self) -> None:
        return None


class Transport(StringTransport):
    """Counts writes, and remembers that TLS was begun."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.context: object = None
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)

    def abortConnection(self) -> None:
        self.aborted = True

    def startTLS(self, context: object) -> None:
        self.context = context

    def getHandle(self) -> Handle:
        return Handle()


class Wire:
    """A connected stream, and what its session saw."""

    def __init__(self, session: Session, tls: object | None = None) -> None:
        self.clock = Clock()
        self.engine = Lines()
        self.ended = 0
        self.transport = Transport()
        reactor = cast(IReactorTime, self.clock)
        self.stream = Stream(reactor, self.engine, session, "t-1", tls, self._end)
        self.stream.makeConnection(self.transport)

    def _end(self, stream: Stream) -> None:
        self.ended += 1

    def said(self) -> bytes:
        """What was written since the last time."""
        octets: bytes = self.transport.value()
        self.transport.clear()
        return octets

    def lose(self, reason: Exception | None = None) -> None:
        """The connection ends."""
        self.stream.connectionLost(Failure(reason or ConnectionDone()))


async def echo(stream: Stream) -> None:
    """Says each line again, until anything else happens."""
    while isinstance(event := await stream.next_event(), bytes):
        stream.write(event + b"\r\n")
    name = type(event).__name__.encode()
    stream.write(b"end: " + name + b"\r\n")


class EventTests(TestCase):
    def test_every_chunking(self) -> None:
        """However octets arrive, the session gets the same events in order."""
        octets = b"one\r\ntwo\r\n\r\nthree\r\n"
        for size in range(1, len(octets) + 1):
            wire = Wire(echo)
            for at in range(0, len(octets), size):
                wire.stream.dataReceived(octets[at : at + size])
            self.assertEqual(wire.said(), octets)

    def test_burst_is_answered_in_one_write(self) -> None:
        """Replies that are ready together leave together."""
        wire = Wire(echo)
        wire.stream.dataReceived(b"a\r\n" * 50)
        self.assertEqual(wire.said(), b"a\r\n" * 50)
        self.assertEqual(wire.transport.writes, 1)

    def test_much_output_leaves_before_the_session_waits(self) -> None:
        """Written octets do not pile up beyond 64 KiB."""
        most = 0

        async def session(stream: Stream) -> None:
            nonlocal most
            for _ in range(100):
                stream.write(b"x" * 10_000)
                most = max(most, stream._out_octets)

        wire = Wire(session)
        self.assertEqual(len(wire.said()), 1_000_000)
        self.assertLessEqual(most, 64 * 1024)

    def test_posted_events_come_first(self) -> None:
        """A hint wakes a session that waits, and goes before what is buffered
        for one that does not."""
        seen: list[object] = []
        held: Deferred[None] = Deferred()

        async def session(stream: Stream) -> None:
            seen.append(await stream.next_event())
            await held
            seen.append(await stream.next_event())
            seen.append(await stream.next_event())

        wire = Wire(session)
        wire.stream.post("woken")
        self.assertEqual(seen, ["woken"])
        wire.stream.dataReceived(b"line\r\n")
        wire.stream.post("first")
        held.callback(None)
        self.assertEqual(seen, ["woken", "first", b"line"])

    def test_shut_down(self) -> None:
        """A session that waits learns at once that the server stops."""
        seen: list[object] = []

        async def session(stream: Stream) -> None:
            seen.append(await stream.next_event())

        wire = Wire(session)
        wire.stream.shut_down()
        self.assertEqual(seen, [SHUTTING_DOWN])
        self.assertTrue(wire.transport.disconnecting)

    def test_closed_is_the_last_event_and_stays(self) -> None:
        """What had come before the connection was lost is told first; then it
        is always Closed."""
        seen: list[object] = []
        held: Deferred[None] = Deferred()

        async def session(stream: Stream) -> None:
            await held
            for _ in range(3):
                seen.append(await stream.next_event())

        wire = Wire(session)
        wire.stream.dataReceived(b"line\r\n")
        wire.lose(ConnectionLost())
        self.assertEqual(wire.ended, 0)
        held.callback(None)
        self.assertEqual(seen[0], b"line")
        self.assertIsInstance(seen[1], Closed)
        self.assertIs(seen[1], seen[2])
        self.assertEqual(wire.ended, 1)

    def test_what_comes_after_the_session_is_dropped(self) -> None:
        """A peer that goes on talking after our goodbye fills no buffer."""

        async def session(stream: Stream) -> None:
            await stream.next_event()

        wire = Wire(session)
        wire.stream.dataReceived(b"QUIT\r\n")
        received = wire.engine.received
        wire.stream.dataReceived(b"more\r\n")
        self.assertEqual(wire.engine.received, received)


class EndTests(TestCase):
    def test_end_of_session_closes(self) -> None:
        """What a session wrote is sent, then the connection is closed; its end
        is told once, when both are over."""

        async def session(stream: Stream) -> None:
            stream.write(b"bye\r\n")

        wire = Wire(session)
        self.assertEqual(wire.said(), b"bye\r\n")
        self.assertTrue(wire.transport.disconnecting)
        self.assertEqual(wire.ended, 0)
        wire.lose()
        self.assertEqual(wire.ended, 1)
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_protocol_error_is_answered(self) -> None:
        """The engine's last words are sent, whether the session waited for the
        event or found it; the connection is closed."""
        held: Deferred[None] = Deferred()

        async def late(stream: Stream) -> None:
            await held
            await echo(stream)

        for session in (echo, late):
            wire = Wire(session)
            wire.stream.dataReceived(b"fine\r\n" + b"x" * 2000)
            if not held.called and session is late:
                held.callback(None)
            self.assertEqual(wire.said(), b"fine\r\ntoo long\r\n")
            self.assertTrue(wire.transport.disconnecting)

    def test_bug_is_logged_and_closes(self) -> None:
        """A session that raises ends with its connection, and the log has the
        failure; the peer reads nothing of it."""

        async def session(stream: Stream) -> None:
            await stream.next_event()
            raise ZeroDivisionError("secret")

        wire = Wire(session)
        wire.stream.dataReceived(b"x\r\n")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(wire.transport.disconnecting)
        self.assertEqual(wire.said(), b"")
        wire.lose()
        self.assertEqual(wire.ended, 1)

    def test_h37_peer_that_does_not_read_our_goodbye(self) -> None:
        """A closed connection is cut when the peer does not take the rest
        within a minute."""

        async def session(stream: Stream) -> None:
            stream.limit(1800)

        wire = Wire(session)
        wire.clock.advance(59)
        self.assertFalse(wire.transport.aborted)
        wire.clock.advance(2)
        self.assertTrue(wire.transport.aborted)

    def test_shut_down_does_not_linger(self) -> None:
        """While the server stops, a peer that does not take our goodbye is cut
        off after 3 seconds, whether it was said before or is said now."""

        async def over(stream: Stream) -> None:
            stream.write(b"bye\r\n")

        for session in (over, echo):
            wire = Wire(session)
            wire.stream.shut_down()
            self.assertTrue(wire.transport.disconnecting)
            wire.clock.advance(3)
            self.assertTrue(wire.transport.aborted)

    def test_shut_down_during_a_handshake(self) -> None:
        """Nothing was begun that could be lost: the connection is cut."""
        wire = Wire(echo, tls=object())
        wire.stream.shut_down()
        self.assertTrue(wire.transport.aborted)
        wire.lose()
        self.assertEqual(wire.ended, 1)

    def test_write_after_the_end(self) -> None:
        """A session may write to a connection that is gone."""
        held: Deferred[None] = Deferred()

        async def session(stream: Stream) -> None:
            await held
            stream.write(b"x" * 100_000)
            self.assertFalse(await stream.drain())
            self.assertFalse(await stream.start_tls(object()))

        wire = Wire(session)
        wire.lose()
        held.callback(None)
        self.assertEqual(wire.said(), b"")
        self.assertEqual(wire.ended, 1)


class LimitTests(TestCase):
    def test_silence(self) -> None:
        """After the idle time, once; the session may then say goodbye."""

        async def session(stream: Stream) -> None:
            stream.limit(300)
            await echo(stream)

        wire = Wire(session)
        wire.clock.advance(299)
        wire.stream.dataReceived(b"a\r\n")
        wire.clock.advance(299)
        self.assertEqual(wire.said(), b"a\r\n")
        wire.clock.advance(1)
        self.assertEqual(wire.said(), b"end: TimedOut\r\n")
        self.assertTrue(wire.transport.disconnecting)

    def test_h36_one_octet_at_a_time(self) -> None:
        """A peer that sends an octet every 20 seconds has no more time for its
        line than one that sends none."""
        seen: list[object] = []

        async def session(stream: Stream) -> None:
            stream.limit(60)
            seen.append(await stream.next_event())

        wire = Wire(session)
        for _ in range(3):
            wire.clock.advance(20)
            wire.stream.dataReceived(b"x")
        self.assertEqual(seen, [TIMED_OUT])

    def test_total(self) -> None:
        """However busy, a connection ends after its total time."""

        async def session(stream: Stream) -> None:
            stream.limit(60, 100)
            await echo(stream)

        wire = Wire(session)
        for _ in range(3):
            wire.clock.advance(30)
            wire.stream.dataReceived(b"a\r\n")
        wire.said()
        wire.clock.advance(10)
        self.assertEqual(wire.said(), b"end: TimedOut\r\n")

    def test_new_limit_while_waiting(self) -> None:
        """A limit set from outside counts at once."""
        wire = Wire(echo)
        wire.stream.limit(5)
        wire.clock.advance(5)
        self.assertEqual(wire.said(), b"end: TimedOut\r\n")

    def test_busy_session_is_not_the_peers_fault(self) -> None:
        """Time that the session itself takes does not count."""
        held: Deferred[None] = Deferred()

        async def session(stream: Stream) -> None:
            stream.limit(10)
            await stream.next_event()
            await held
            await echo(stream)

        wire = Wire(session)
        wire.stream.dataReceived(b"a\r\n")
        wire.clock.advance(100)
        held.callback(None)
        wire.stream.dataReceived(b"b\r\n")
        self.assertEqual(wire.said(), b"b\r\n")

    def test_h36_no_handshake(self) -> None:
        """With implicit TLS, a peer that does not shake hands is cut off after
        a minute, before any session begins."""
        begun: list[Stream] = []

        async def session(stream: Stream) -> None:
            begun.append(stream)

        wire = Wire(session, tls=object())
        wire.clock.advance(60)
        self.assertTrue(wire.transport.aborted)
        with capturedLogs() as captured:
            wire.lose()
        self.assertIn("t-1: no TLS:", str(formatEvent(captured[0])))
        self.assertEqual(begun, [])
        self.assertEqual(wire.ended, 1)


class PressureTests(TestCase):
    def test_h37_reading_stops_while_the_session_is_busy(self) -> None:
        """A peer that sends faster than it is served is not read from; nothing
        of what it sent is lost, and reading goes on afterwards."""
        held: Deferred[None] = Deferred()
        count = 0

        async def session(stream: Stream) -> None:
            nonlocal count
            await held
            while isinstance(await stream.next_event(), bytes):
                count += 1

        wire = Wire(session)
        sent = 0
        while wire.transport.producerState == "producing":
            wire.stream.dataReceived(b"a\r\n" * 1000)
            sent += 1000
        self.assertLess(wire.engine.buffered(), 300 * 1024)
        held.callback(None)
        self.assertEqual(count, sent)
        self.assertEqual(wire.transport.producerState, "producing")

    def test_h37_slow_reader(self) -> None:
        """A session that streams waits while the peer does not read, and a peer
        that never reads is cut off."""
        written = 0

        async def session(stream: Stream) -> None:
            nonlocal written
            stream.limit(30)
            stream.write(b"x")
            while await stream.drain():
                stream.write(b"x" * 1000)
                written += 1
                stream.pauseProducing()  # the transport's buffer is full

        wire = Wire(session)
        self.assertEqual(written, 1)
        wire.clock.advance(29)
        wire.stream.resumeProducing()
        self.assertEqual(written, 2)
        wire.clock.advance(29)
        self.assertFalse(wire.transport.aborted)
        wire.clock.advance(1)
        self.assertTrue(wire.transport.aborted)
        wire.lose(ConnectionLost())
        self.assertEqual((written, wire.ended), (2, 1))

    def test_h37_patient_session(self) -> None:
        """A session that may be silent for long is not waited for as long when
        it does not read: 5 minutes, or what the session says. The log tells."""

        def sending(**limits: float) -> Session:
            async def session(stream: Stream) -> None:
                stream.limit(1800, **limits)
                await stream.drain()
                stream.write(b"x" * 1000)
                stream.pauseProducing()
                await stream.drain()
                await echo(stream)

            return session

        for limits, most in (({}, 300), ({"write_s": 60.0}, 60)):
            wire = Wire(sending(**limits))
            wire.clock.advance(most - 1)
            self.assertFalse(wire.transport.aborted)
            with capturedLogs() as captured:
                wire.clock.advance(1)
            self.assertTrue(wire.transport.aborted)
            self.assertEqual(formatEvent(captured[0]), "t-1: cut off: it does not read")
            wire = Wire(sending(**limits))
            wire.stream.resumeProducing()
            wire.clock.advance(1799)
            wire.stream.dataReceived(b"a\r\n")
            self.assertTrue(wire.said().endswith(b"a\r\n"))

    def test_drain_of_a_peer_that_reads(self) -> None:
        """Costs no wait, and the connection can be closed after it."""

        async def session(stream: Stream) -> None:
            stream.write(b"x")
            self.assertTrue(await stream.drain())

        wire = Wire(session)
        self.assertEqual(wire.said(), b"x")
        self.assertIsNone(wire.transport.producer)
        self.assertTrue(wire.transport.disconnecting)


class StartTlsTests(TestCase):
    def test_h04_octets_before_tls_are_dropped(self) -> None:
        """What a peer sends in the clear along with STARTTLS, or after it until
        the handshake, is no command."""

        async def session(stream: Stream) -> None:
            await stream.next_event()
            stream.write(b"go\r\n")
            await stream.start_tls("context")
            stream.write(stream.tls.encode() + b"\r\n")
            await echo(stream)

        wire = Wire(session)
        wire.stream.dataReceived(b"STLS\r\nevil\r\n")
        self.assertEqual(wire.said(), b"go\r\n")
        self.assertEqual(wire.transport.context, "context")
        wire.stream.dataReceived(b"evil\r\nev")
        wire.stream.handshakeCompleted()
        self.assertTrue(wire.stream.secure)
        wire.stream.dataReceived(b"good\r\n")
        self.assertEqual(wire.said(), b"TLSv1.3 CIPHER\r\ngood\r\n")

    def test_h04_flood_before_tls(self) -> None:
        """Octets that had stopped the reading do not keep the handshake from
        coming."""
        held: Deferred[None] = Deferred()

        async def session(stream: Stream) -> None:
            await held
            await stream.start_tls("context")

        wire = Wire(session)
        while wire.transport.producerState == "producing":
            wire.stream.dataReceived(b"a\r\n" * 1000)
        held.callback(None)
        self.assertEqual(wire.transport.producerState, "producing")
        self.assertEqual(wire.engine.buffered(), 0)

    def test_h36_handshake_that_does_not_come(self) -> None:
        """It has the idle time; then the connection is cut and the session told
        so."""
        outcomes: list[bool] = []

        async def session(stream: Stream) -> None:
            stream.limit(20)
            outcomes.append(await stream.start_tls("context"))

        wire = Wire(session)
        wire.clock.advance(20)
        self.assertTrue(wire.transport.aborted)
        wire.lose(ConnectionLost())
        self.assertEqual(outcomes, [False])
