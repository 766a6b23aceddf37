"""What every protocol engine is: octets are pushed in, events are pulled out.

An engine owns a receive buffer, the grammar, the protocol state and its
limits. It knows no sockets, no clock and no Twisted. It trusts nothing that
arrives: whatever the octets, C{next_event} returns an event, C{None}, or raises
L{RemoteProtocolError}; its buffer never holds more than a stated bound beyond
the last piece that was pushed.
"""

from typing import Protocol


class RemoteProtocolError(Exception):
    """The peer broke the protocol so that nothing more can be read from it.

    @ivar reply: octets to send before closing, C{b""} for none.
    """

    def __init__(self, reason: str, reply: bytes = b"") -> None:
        super().__init__(reason)
        self.reply = reply


class IEngine(Protocol):
    """The three methods by which L{twisted_mta.net.stream.Stream} drives any
    engine, server or client."""

    def receive_data(self, octets: bytes, /) -> None:
        """Take what has arrived; any piece, cut anywhere, never empty."""

    def next_event(self) -> object | None:
        """The next event, or C{None} until more octets arrive.

        @raise RemoteProtocolError: the peer cannot be understood any more.
        """

    def buffered(self) -> int:
        """How many received octets wait, not yet part of an event."""

    def discard(self) -> None:
        """Forget what is buffered, and what was learned before TLS: called
        when STARTTLS has been answered (RFC 3207 4.2, RFC 3501 6.2.1)."""


class ReceiveBuffer:
    """Octets that have arrived and were not yet taken.

    Most pieces hold exactly one line or one message, so the piece itself is
    kept and an offset moves through it; pieces are joined only when a line is
    cut between two.
    """

    __slots__ = ("_at", "_octets", "_searched")

    def __init__(self) -> None:
        self._octets = b""
        self._at = 0
        self._searched = 0  # no line end before here: a slow line stays linear

    def __len__(self) -> int:
        return len(self._octets) - self._at

    def push(self, octets: bytes) -> None:
        """Append what arrived."""
        if self._at == len(self._octets):
            self._octets = octets
            self._searched = 0
        else:
            self._octets = self._octets[self._at :] + octets
            self._searched = max(0, self._searched - self._at)
        self._at = 0

    def line(self, limit: int) -> bytes | None:
        """Take a line without its end, or C{None} while it is not whole.

        A line ends with LF; one CR before it belongs to the end. Whoever must
        refuse a bare LF looks with L{peek} first.

        @param limit: the longest line in octets, its end not counted.
        @raise ValueError: the line is longer; nothing is taken.
        """
        octets, at = self._octets, self._at
        end = octets.find(b"\n", max(at, self._searched))
        if end < 0:
            self._searched = len(octets)
            if len(octets) - at > limit + 1:
                raise ValueError("line too long")
            return None
        stop = end - 1 if end > at and octets[end - 1] == 13 else end
        if stop - at > limit:
            raise ValueError("line too long")
        self._at = self._searched = end + 1
        return octets[at:stop]

    def take(self, most: int) -> bytes:
        """Take up to C{most} octets; all that there are, if fewer."""
        at = self._at
        if at == 0 and most >= len(self._octets):
            taken = self._octets
            self._at = self._searched = len(taken)
            return taken
        taken = self._octets[at : at + most]
        self._at += len(taken)
        self._searched = max(self._searched, self._at)
        return taken

    def peek(self) -> tuple[bytes, int]:
        """The octets and the offset where the ones not yet taken begin, for
        an engine that searches by itself; L{skip} then takes them."""
        return self._octets, self._at

    def skip(self, count: int) -> None:
        """Take C{count} octets without looking at them again."""
        self._at = min(len(self._octets), self._at + count)
        self._searched = max(self._searched, self._at)

    def clear(self) -> None:
        """Drop everything."""
        self._octets = b""
        self._at = self._searched = 0
