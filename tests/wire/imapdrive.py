"""Drives the IMAP server engine as a session would, for its tests."""

from collections.abc import Iterable, Iterator

from twisted_mta.wire.engine import RemoteProtocolError
from twisted_mta.wire.imap.engine import ImapServerEngine
from twisted_mta.wire.imap.limits import ImapLimits
from twisted_mta.wire.imap.model import (
    Append,
    Authenticate,
    Command,
    Event,
    LiteralData,
)


class Ended(Exception):
    """The engine gave up; C{reply} is what it wants to say."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


class Driver:
    """A session that allows everything up to a size.

    @ivar events: what happened, runs of a literal joined; at the end L{Ended}
        if the engine gave up.
    """

    def __init__(
        self,
        authenticated: bool = True,
        most: int = 1 << 20,
        limits: ImapLimits | None = None,
    ) -> None:
        self.engine = ImapServerEngine(limits)
        self.engine.authenticated = authenticated
        self.events: list[Event | Ended] = []
        self.buffered = 0
        self._most = most

    def feed(self, pieces: Iterable[bytes]) -> list[Event | Ended]:
        """Push each piece and pull what it makes."""
        for piece in pieces:
            if self.events and isinstance(self.events[-1], Ended):
                break
            self.engine.receive_data(piece)
            try:
                self._pull()
            except RemoteProtocolError as error:
                self.events.append(Ended(error.reply))
            self.buffered = max(self.buffered, self.engine.buffered())
        return self.events

    def _pull(self) -> None:
        while (event := self.engine.next_event()) is not None:
            last = self.events[-1] if self.events else None
            if isinstance(event, LiteralData) and isinstance(last, LiteralData):
                self.events[-1] = LiteralData(last.octets + event.octets)
            else:
                self.events.append(event)
            self._react(event)

    def _react(self, event: Event) -> None:
        if isinstance(event, Append):
            if event.size > self._most:
                self.engine.refuse_literal()
            else:
                self.engine.accept_literal()
        elif isinstance(event, Authenticate):
            self.engine.start_auth()
        elif isinstance(event, Command) and event.name == "IDLE":
            self.engine.start_idle()


def events(octets: bytes, authenticated: bool = True) -> list[Event | Ended]:
    """What the octets mean, pushed at once."""
    return Driver(authenticated).feed([octets])


def one(octets: bytes, authenticated: bool = True) -> Event | Ended:
    """The single event of a line given without its end."""
    found = events(octets + b"\r\n", authenticated)
    if len(found) != 1:
        raise AssertionError(found)
    return found[0]


def cuts(octets: bytes, size: int) -> Iterator[bytes]:
    """The octets in pieces of C{size}."""
    for at in range(0, len(octets), size):
        yield octets[at : at + size]
