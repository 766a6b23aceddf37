"""The last promise that a client was made: whether it knows of it.

Who says anything after the 250 has read it, and so has who ends the connection in
order when his system has all that we said. Of a client that is gone otherwise it is
not known; if it sends the message again it shall not have it twice. What was pipelined
before it could read the answer counts as said after it: then too little is
recognised, and never too much.
"""

from __future__ import annotations

from twisted_mta.interfaces import IIntake
from twisted_mta.net.stream import Stream


class Promise:
    """A session's.

    @ivar open: a promise was made, and the client has said nothing since.
    """

    __slots__ = ("_intake", "_made", "_stream", "open")

    def __init__(self, stream: Stream, intake: IIntake) -> None:
        self._stream = stream
        self._intake = intake
        self._made = b"", 0
        self.open = False

    def make(self, fingerprint: bytes, id: int) -> None:
        """The client is told that its message was accepted.

        @param fingerprint: empty: it does not matter whether it knows.
        @param id: the envelope's.
        """
        if fingerprint:
            self._made = fingerprint, id
            self.open = True
            self._intake.promised(fingerprint, id, self._stream.heard)

    def go_on(self) -> None:
        """The client says something, if there is an L{open} promise."""
        self.open = False
        self._intake.seen(*self._made)

    def end(self) -> None:
        """The client says nothing any more."""
        if self.open:
            self.open = False
            known = self._stream.heard()
            (self._intake.seen if known else self._intake.unseen)(*self._made)
