"""Hints between the processes that have a ledger open: what a commit changed.

Each process has a datagram socket beside its file of L{presence
<twisted_mta.ledger.presence>}. After a commit its topics go to all other sockets,
as one datagram. Nothing waits for it and nothing fails for it: a datagram that
does not fit into a socket's buffer is lost, and that the ledger changed is noticed
all the same, L{some seconds later <twisted_mta.ledger.losthints>}. The module
trusts whoever can enter the directory, which is the ledger's owner alone.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mta.ledger.presence import Presence

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime

    class IReactor(IReactorFDSet, IReactorTime):
        """What hints need of the reactor."""


# A group of 256 units names some 5 KB of topics. More becomes "anything", which
# is the empty datagram; Linux takes 200 KB.
_MOST_OCTETS = 32 << 10

# How long after a datagram the next may leave; what changes meanwhile leaves
# together. A process that commits 500 times a second would wake all others as
# often. An event that comes alone is told at once.
_REST_S = 0.02

# Datagrams that are read at once; each holds the topics of a commit.
_READ_MOST = 100

# A directory that changed so short a time ago may change again within the same tick
# of its clock (10 ms; a second or two on some file systems).
_SETTLED_NS = 3 * 10**9

# Of a socket's path, less what Linux's 108 leave for its end.
_PATH_MOST = 100


@implementer(IReadDescriptor)
class Hints:
    """This process's socket, and the way to the others.

    @param heard: called in the reactor's thread with what another process
        changed; C{None}: perhaps anything.
    """

    def __init__(
        self,
        reactor: IReactor,
        presence: Presence,
        heard: Callable[[Iterable[str] | None], None],
    ) -> None:
        """@raise OSError: there can be no socket here."""
        self._reactor = reactor
        self._presence = presence
        self._heard = heard
        self._peers: list[str] = []
        self._peers_of = -1
        self._gathered: set[str] = set()
        self._soon: IDelayedCall | None = None
        self._sent = float("-inf")
        self._path = presence.socket(presence.name)
        self._directory = os.open(presence.directory, os.O_RDONLY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(self._address(self._path))
            os.chmod(self._path, 0o600)
        except OSError:
            self._close()
            raise
        reactor.addReader(self)

    def send(self, topics: Iterable[str]) -> None:
        """Tell the other processes what was changed. Never waits or raises."""
        self._gathered.update(topics)
        if not self._gathered or self._soon is not None:
            return
        rest_s = self._sent + _REST_S - self._reactor.seconds()
        if rest_s > 0:
            self._soon = self._reactor.callLater(rest_s, self._send)
        else:
            self._send()

    def _send(self) -> None:
        self._soon = None
        self._sent = self._reactor.seconds()
        octets = "\n".join(self._gathered).encode()
        self._gathered.clear()
        if len(octets) > _MOST_OCTETS:
            octets = b""
        for peer in self._others():
            with suppress(OSError):  # its buffer is full, or it is gone
                self._socket.sendto(octets, peer)

    def close(self) -> None:
        """Hear nothing more, and say nothing after what was gathered."""
        if self._soon is not None:
            self._soon.cancel()
            self._send()
        self._reactor.removeReader(self)
        with suppress(OSError):
            os.unlink(self._path)
        self._close()

    # --- what the reactor calls ---

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "hints"

    def doRead(self) -> None:
        """Read what there is, and tell it as one."""
        topics: set[str] = set()
        anything = False
        with suppress(OSError):
            for _ in range(_READ_MOST):
                octets = self._socket.recv(1 << 16)
                anything = anything or not octets
                topics.update(octets.decode().split("\n"))
        if anything or topics:
            self._heard(None if anything else topics)

    def connectionLost(self, reason: Failure) -> None:
        """Never: a datagram socket has no end."""

    # --- within ---

    def _others(self) -> list[str]:
        """Where the others hear. The directory is read when it has changed, and
        for some seconds after that."""
        with suppress(OSError):
            changed = os.stat(self._directory).st_mtime_ns
            if changed != self._peers_of:
                self._peers = [self._address(each) for each in self._presence.sockets()]
                settled = abs(time.time_ns() - changed) > _SETTLED_NS
                self._peers_of = changed if settled else -1
        return self._peers

    def _address(self, path: Path) -> str:
        """A path that is short enough for a socket."""
        if len(os.fsencode(path)) <= _PATH_MOST:
            return str(path)
        return f"/proc/self/fd/{self._directory}/{path.name}"

    def _close(self) -> None:
        self._socket.close()
        os.close(self._directory)
