"""How long a peer may take.

One delayed call per connection serves all its limits: a new wait only moves a
number, and the call, when it comes too early, is made again. That is also when it is
looked at how much came meanwhile, so that a least rate costs an addition for each
piece that comes (30 ns).
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
    """The limits of one connection, and the one that counts now.

    @ivar octets: how many came; whoever receives them adds them.
    """

    __slots__ = (
        "_call",
        "_call_at",
        "_end_at",
        "_ended",
        "_idle_s",
        "_least",
        "_linger_s",
        "_paced_octets",
        "_paced_s",
        "_reactor",
        "_until",
        "_write_s",
        "octets",
    )

    def __init__(self, reactor: IReactorTime, ended: Callable[[bool], None]) -> None:
        """
        @param ended: called when a wait took too long; with C{True} if all that was
            too little is what came (L{pace}).
        """
        self.octets = 0
        self._least = 0.0
        self._paced_s = 0.0
        self._paced_octets = 0
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

    def pace(self, least: float) -> None:
        """Set how fast the peer has to send, on average over the time of one wait for
        it (C{idle_s}) or more: that is the pause that it may make. Who is too slow has
        twice that time at most. Postfix: smtpd_min_data_rate, which fills an account
        of at most smtpd_timeout; Apache, mod_reqtimeout: MinRate.

        @param least: octets a second; 0: any. If there was a rate before, the time
            goes on.
        """
        if least and not self._least:
            self._paced_s = self._reactor.seconds()
            self._paced_octets = self.octets
        self._least = least

    @property
    def paced(self) -> bool:
        """There is such a rate now."""
        return self._least > 0

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
        now = self._reactor.seconds()
        if now >= self._until:
            self._ended(False)
        elif self._least and self._too_slow(now):
            self._ended(True)
        else:
            self._call_for(self._until)

    def _too_slow(self, now: float) -> bool:
        elapsed_s = now - self._paced_s
        if elapsed_s < self._idle_s:
            return False
        came = self.octets - self._paced_octets
        self._paced_s, self._paced_octets = now, self.octets
        return came < self._least * elapsed_s
