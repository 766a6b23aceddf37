"""What a connection that is one too many reads, and what the log says of it.

Refusals come by the thousands when they come. So those for one reason share a name,
and a line of the log, for some seconds: whoever was refused finds the reason under the
name that he was told, and one more costs a look into a dict (what the log would cost:
50 us). It knows no protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Protocol
from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# How long they share it.
_SHARED_S = 10.0

# Reasons, of which most are networks, that have names of their own at a time; the
# others have the last one's.
_REASONS = 100


class Refusal(Protocol):
    """A connection that is one too many."""

    def __init__(self, goodbye: bytes) -> None:
        self._goodbye = goodbye

    def connectionMade(self) -> None:
        transport = cast(ITransport, self.transport)
        transport.write(self._goodbye)
        transport.loseConnection()


class Refusals:
    """The refusals of one listener."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        name: Callable[[], str],
        goodbye: Callable[[str], bytes],
    ) -> None:
        """
        @param name: makes a new name of a connection, for the log.
        @param goodbye: makes the octets that such a connection reads.
        """
        self._reactor = reactor
        self._name = name
        self._goodbye = goodbye
        self._count = 0
        self._since = 0.0
        self._last = b""
        self._by_reason: dict[str, bytes] = {}

    def refuse(self, why: str, host: str) -> bytes:
        """A connection is refused; sometimes the log says so.

        @param host: whose it is; empty for a unix socket.
        @return: the goodbye, with the name under which the log has the reason.
        """
        self._count += 1
        now = self._reactor.seconds()
        if now - self._since >= _SHARED_S:
            self._since = now
            self._by_reason.clear()
        goodbye = self._by_reason.get(why)
        if goodbye is None and len(self._by_reason) < _REASONS:
            goodbye = self._last = self._by_reason[why] = self._tell(why, host)
        return goodbye or self._last

    def _tell(self, why: str, host: str) -> bytes:
        name = self._name()
        count, self._count = self._count, 0
        self._log.warn(
            "{session}: refused connection: {why}, client={client}, count={count}",
            session=name,
            why=why,
            client=host or "-",
            count=count,
        )
        return self._goodbye(name)
