"""The smallest engine there is, for the tests of what pumps engines: lines."""

from twisted_mta.wire.engine import ReceiveBuffer, RemoteProtocolError

LIMIT = 1000


class Lines:
    """Each line is an event; a longer one than C{LIMIT} breaks the protocol."""

    def __init__(self) -> None:
        self.received = 0
        self._buffer = ReceiveBuffer()

    def receive_data(self, octets: bytes, /) -> None:
        self.received += len(octets)
        self._buffer.push(octets)

    def next_event(self) -> bytes | None:
        try:
            return self._buffer.line(LIMIT)
        except ValueError:
            raise RemoteProtocolError("line too long", b"too long\r\n")

    def buffered(self) -> int:
        return len(self._buffer)

    def discard(self) -> None:
        self._buffer.clear()
