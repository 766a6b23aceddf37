"""Sessions as transcripts: what the client says and what it must read.

A script is lines. C{C:} is a line that the client sends; C{S:} is a line that
it must then have received, exactly, and in this order; C{S~} is a regular
expression that the line must match as a whole. After each block of C{C:} lines
everything that came back must be named, unless it ends with C{S*}, which takes
whatever else came. Nothing but the session under test runs: there is no socket
and the time is a L{Clock}. It serves every protocol of lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted_mta.net.stream import Stream

_CLIENT = IPv4Address("TCP", "192.0.2.7", 40_000)
_SERVER = IPv4Address("TCP", "192.0.2.1", 143)


class _Handle:
    """What a TLS transport says of its connection."""

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"

    def get_peer_certificate(self) -> None:
        return None


class Wire(StringTransport):
    """A transport that keeps what is written, and pretends to TLS.

    @ivar tls: the contexts that it was told to start TLS with.
    """

    def __init__(self) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            hostAddress=_SERVER, peerAddress=_CLIENT
        )
        self.tls: list[object] = []

    def startTLS(self, context: object) -> None:
        self.tls.append(context)

    def getHandle(self) -> _Handle:
        return _Handle()

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class Conversation:
    """One client of a session.

    @ivar clock: the session's time.
    @ivar stream: the session's connection.
    @ivar wire: what it is connected to.
    """

    def __init__(
        self, make: Callable[[Clock], Stream], clock: Clock | None = None
    ) -> None:
        """@param make: makes a Stream whose session is to be tested."""
        self.clock = Clock() if clock is None else clock
        self.wire = Wire()
        self.stream = make(self.clock)
        self._lost = False
        self.stream.makeConnection(self.wire)  # type: ignore[no-untyped-call]
        self.settle()

    @property
    def closed(self) -> bool:
        """Whether the session has closed the connection."""
        return bool(self.wire.disconnecting) or self._lost

    def settle(self) -> None:
        """Let everything happen that does not need time to pass."""
        while any(
            call.getTime() <= self.clock.seconds()
            for call in self.clock.getDelayedCalls()
        ):
            self.clock.advance(0)
        if (self.wire.disconnecting or self.wire.disconnected) and not self._lost:
            aborted = getattr(self.wire, "abortConnectionCalled", False)
            self.lose(ConnectionAborted() if aborted else ConnectionDone())

    def send(self, octets: bytes, piece: int | None = None) -> None:
        """Have the client send octets.

        @param piece: cut into pieces of so many.
        """
        step = piece or max(1, len(octets))
        for at in range(0, len(octets), step):
            if self.closed:
                return
            self.stream.dataReceived(octets[at : at + step])
            self.settle()

    def received(self) -> bytes:
        """What the client received since it was last asked."""
        self.settle()
        octets: bytes = self.wire.value()  # type: ignore[no-untyped-call]
        self.wire.clear()  # type: ignore[no-untyped-call]
        return octets

    def lose(self, reason: Exception | None = None) -> None:
        """Have the connection break."""
        if not self._lost:
            self._lost = True
            self.stream.connectionLost(Failure(reason or ConnectionDone()))  # type: ignore[no-untyped-call]
            self.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.settle()

    def start_tls(self) -> None:
        """End the handshake that the session has begun."""
        self.stream.handshakeCompleted()
        self.settle()

    def run(self, script: str, piece: int | None = None) -> None:
        """Play a script.

        @param piece: send the client's octets in pieces of so many.
        @raise AssertionError: the session says something else.
        """
        for said, expected in _exchanges(script):
            self.send(said, piece)
            self._compare(said, expected, self.received())

    def _compare(
        self, said: bytes, expected: list[tuple[str, str]], received: bytes
    ) -> None:
        lines = received.decode("utf-8", "backslashreplace").split("\r\n")
        if lines[-1] == "":
            lines.pop()
        for at, (kind, line) in enumerate(expected):
            if kind == "S*":
                return
            fits = at < len(lines) and (
                lines[at] == line
                if kind == "S:"
                else re.fullmatch(line, lines[at]) is not None
            )
            if not fits:
                _differ(said, expected, lines, at)
        if len(lines) > len(expected):
            _differ(said, expected, lines, len(expected))


def _differ(
    said: bytes, expected: list[tuple[str, str]], lines: list[str], at: int
) -> None:
    wanted = " ".join(expected[at]) if at < len(expected) else "(nothing more)"
    got = lines[at] if at < len(lines) else "(nothing)"
    everything = "\n    ".join(lines)
    raise AssertionError(
        f"after {said!r}, line {at + 1}\n  expected {wanted}\n  received {got}\n"
        f"  in\n    {everything}"
    )


def _exchanges(script: str) -> Iterator[tuple[bytes, list[tuple[str, str]]]]:
    """What the client says, and what it must read thereupon."""
    said = b""
    expected: list[tuple[str, str]] = []
    for line in script.splitlines():
        line = line.lstrip()
        if not line:
            continue
        kind, rest = line[:2], line[2:].removeprefix(" ")
        if kind == "C:":
            if expected:
                yield said, expected
                said, expected = b"", []
            said += rest.encode() + b"\r\n"
        elif kind in ("S:", "S~", "S*"):
            expected.append((kind, rest))
        else:
            raise ValueError(f"not a line of a script: {line!r}")
    yield said, expected
