"""How long a peer may take.

One delayed call per connection serves all its limits: a new wait only moves a
number, and the call, when it comes too early, is made again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

# How long a peer may take until the session says otherwise: what a handshake
# of implicit TLS has. Dovecot: 60 s before the login.
_FIRST_IDLE_S = 60.0

# How long a peer may take to read what a session waits for: little more than
# 64 KiB, so the slowest that is served reads some 250 octets a second.
# Dovecot's CLIENT_OUTPUT_TIMEOUT_MSECS: 5 minutes; nginx's send_timeout: 60 s.
WRITE_S = 300.0

# How long a connection that we closed may take to read the rest.
_LINGER_S = 60.0

# The same while the server stops: a client that sleeps within TLS does not
# answer our goodbye, and must not keep us.
_LINGER_STOPPING_S = 3.0


class Patience:
    """The limits of one connection, and the one that counts now."""

    __slots__ = (
        "_call",
        "_call_at",
        "_end_at",
        "_ended",
        "_idle_s",
        "_linger_s",
        "_reactor",
        "_until",
        "_write_s",
    )

    def __init__(self, reactor: IReactorTime, ended: Callable[[], None]) -> None:
        """
        @param ended: called when a wait took too long.
        """
        self._reactor = reactor
        self._ended = ended
        self._idle_s = _FIRST_IDLE_S
        self._write_s = WRITE_S
        self._linger_s = _LINGER_S
        self._end_at: float | None = None
        self._until = 0.0
        self._call: IDelayedCall | None = None
        self._call_at = 0.0

    def limit(self, idle_s: float, total_s: float | None, write_s: float) -> None:
        """Set the limits of waits that begin from now on.

        @param idle_s: of each wait.
        @param total_s: of the rest of the connection; C{None}: as before.
        @param write_s: of a wait for the peer to read, if less than C{idle_s}.
        """
        self._idle_s = idle_s
        self._write_s = write_s
        if total_s is not None:
            self._end_at = self._reactor.seconds() + total_s

    def hurry(self) -> None:
        """The server stops: nobody lingers."""
        self._linger_s = _LINGER_STOPPING_S

    def wait(self, writing: bool = False) -> None:
        """A wait begins.

        @param writing: for the peer to read.
        """
        most_s = min(self._idle_s, self._write_s) if writing else self._idle_s
        until = self._reactor.seconds() + most_s
        if self._end_at is not None and self._end_at < until:
            until = self._end_at
        self._until = until
        if self._call is None or self._call_at > until:
            self._call_for(until)

    def linger(self) -> None:
        """We closed; the peer may still read the rest."""
        linger_s = min(self._idle_s, self._linger_s)
        self._until = self._reactor.seconds() + linger_s
        self._call_for(self._until)

    def stop(self) -> None:
        """Nothing is waited for any more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _call_for(self, until: float) -> None:
        self.stop()
        self._call_at = until
        self._call = self._reactor.callLater(
            max(0.0, until - self._reactor.seconds()), self._called
        )

    def _called(self) -> None:
        self._call = None
        if self._reactor.seconds() < self._until:
            self._call_for(self._until)
        else:
            self._ended()
