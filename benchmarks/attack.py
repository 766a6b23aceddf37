"""What clients do that mean no good, each for some seconds.

They come from many addresses of loopback, as attackers do, so that the limits on one
address do not end the attack before it begins. Each runs in a process of its own
and gives up for nothing but the time.
"""

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping

#: Half-open sessions that :func:`slowloris` tries to have.
SESSIONS = 5000

#: Sessions from one address; no more than a server lets one have.
_FROM_ONE = 50

#: Clients of a flood.
_CLIENTS = 8

#: Recipients of one message.
RECIPIENTS = 10_000

#: Commands sent in one breath.
_COMMANDS = 10_000

#: How often a slow client sends an octet, s.
_DRIP_S = 5.0


def slowloris(port: int, seconds: float) -> None:
    """Sessions that say EHLO an octet at a time and never come to its end; who is
    sent away comes again."""
    end = time.monotonic() + seconds
    held: dict[int, socket.socket] = {}
    selector = selectors.DefaultSelector()
    drip = time.monotonic() + _DRIP_S
    while time.monotonic() < end:
        for number in range(SESSIONS):
            if number not in held and (client := _connect(port, number)):
                held[number] = client
                selector.register(client, selectors.EVENT_READ, number)
            if number % 100 == 0:
                _reap(selector, held)
        _reap(selector, held)
        if time.monotonic() > drip:
            drip = time.monotonic() + _DRIP_S
            for client in held.values():
                _send(client, b"E")
        time.sleep(0.1)


def commands(port: int, seconds: float) -> None:
    """NOOP, ten thousand at a time, and no answer is read; again and again."""
    _flood(port, seconds, lambda: iter([b"EHLO flood.example\r\n", _NOOPS]))


def recipients(port: int, seconds: float) -> None:
    """Messages to ten thousand recipients, of whom none exists but the first."""
    _flood(port, seconds, lambda: iter([b"EHLO flood.example\r\n", _RECIPIENTS]))


_NOOPS = b"NOOP\r\n" * _COMMANDS
_RECIPIENTS = (
    b"MAIL FROM:<a@source.example>\r\n"
    + b"".join(
        b"RCPT TO:<user%d@example.test>\r\n" % number for number in range(RECIPIENTS)
    )
    + b"QUIT\r\n"
)

#: An attack upon a port of loopback, for so many seconds.
Attack = Callable[[int, float], None]

ATTACKS: Mapping[str, Attack] = {
    f"{SESSIONS:,} half-open sessions": slowloris,
    "a flood of commands": commands,
    f"messages to {RECIPIENTS:,} recipients": recipients,
}


def _flood(port: int, seconds: float, script: Callable[[], Iterator[bytes]]) -> None:
    """Several clients side by side, each from its beginning again when it is sent
    away or done. Replies are read, so that the server has something to do."""
    end = time.monotonic() + seconds
    selector = selectors.DefaultSelector()
    for number in range(_CLIENTS):
        _begin(selector, port, number, script)
    while time.monotonic() < end:
        for key, events in selector.select(0.1):
            client = key.data
            if client.go_on(key.fileobj, events):
                selector.modify(key.fileobj, client.events, client)
                continue
            selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]
            _begin(selector, port, client.number, script)


class _Flooder:
    """One client of a flood: what it has still to say."""

    def __init__(self, number: int, script: Iterator[bytes]) -> None:
        self.number = number
        self._script = script
        self._waiting = b""

    @property
    def events(self) -> int:
        """What it waits for."""
        writes = selectors.EVENT_WRITE if self._waiting else 0
        return selectors.EVENT_READ | writes

    def go_on(self, connection: object, events: int) -> bool:
        """Read what came, write what fits; whether it is still there."""
        assert isinstance(connection, socket.socket)
        try:
            if events & selectors.EVENT_READ:
                if not connection.recv(1 << 16):
                    return False
                if not self._waiting:
                    self._waiting = next(self._script, b"")
            if events & selectors.EVENT_WRITE and self._waiting:
                self._waiting = self._waiting[connection.send(self._waiting) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


def _begin(
    selector: selectors.BaseSelector,
    port: int,
    number: int,
    script: Callable[[], Iterator[bytes]],
) -> None:
    while (client := _connect(port, number * _FROM_ONE)) is None:
        time.sleep(0.01)
    flooder = _Flooder(number, script())
    selector.register(client, flooder.events, flooder)


def _connect(port: int, number: int) -> socket.socket | None:
    """A connection from one of many addresses; C{None} if there is none to be had."""
    client = socket.socket()
    where = number // _FROM_ONE
    client.setblocking(False)
    try:
        client.bind((f"127.{1 + where // 250}.{where % 250}.1", 0))
        client.connect_ex(("127.0.0.1", port))
    except OSError:
        client.close()
        return None
    return client


def _reap(selector: selectors.BaseSelector, held: dict[int, socket.socket]) -> None:
    """Forget who was sent away."""
    for key, _ in selector.select(0):
        client = held[key.data]
        try:
            gone = not client.recv(1 << 12)
        except BlockingIOError:
            continue
        except OSError:
            gone = True
        if gone:
            selector.unregister(client)
            client.close()
            del held[key.data]


def _send(client: socket.socket, octets: bytes) -> None:
    with contextlib.suppress(OSError):
        client.send(octets)
