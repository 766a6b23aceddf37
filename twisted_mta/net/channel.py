"""Words between a supervisor and a worker: JSON over a pair of sockets.

Each word is a table with a C{word} that says what it is. The end of the channel
is the end of whoever has the other side, however it died.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

Word = dict[str, Any]

# A config is the longest word. Who has one of this size generates it, and has
# its tables in files elsewhere.
_MOST_OCTETS = 64 << 20


class Channel(Int32StringReceiver):
    """One side.

    @ivar is_open: until the other side is gone.
    @param heard: called with each word of the other.
    @param ended: called once, when the other is gone.
    """

    MAX_LENGTH = _MOST_OCTETS

    def __init__(self, heard: Callable[[Word], None], ended: Callable[[], None]):
        self._heard = heard
        self._ended = ended
        self.is_open = False

    def say(self, word: str, **more: Any) -> None:
        """Say a word; nobody hears it once the other is gone."""
        if self.is_open:
            octets = json.dumps({"word": word, **more}).encode()
            self.sendString(octets)  # type: ignore[no-untyped-call]

    def hang_up(self) -> None:
        """End it, once what was said is gone."""
        if self.transport is not None:
            self.transport.loseConnection()

    def connectionMade(self) -> None:
        self.is_open = True

    def stringReceived(self, string: bytes) -> None:
        self._heard(json.loads(string))

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.is_open = False
        self._ended()


class _One(Factory):
    """Makes one protocol, which is there already."""

    noisy = False

    def __init__(self, protocol: Channel) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Channel:
        return self._protocol


def attach(reactor: Any, end: socket.socket, channel: Channel) -> None:
    """Speak over one end of a pair of sockets, which is taken."""
    end.setblocking(False)
    reactor.adoptStreamConnection(end.fileno(), socket.AF_UNIX, _One(channel))
    end.close()
