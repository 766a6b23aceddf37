"""Clients that cost little: they share the machine with the servers.

A L{Reader} sends octets and looks for the end of the answer, in a buffer that is
made once; nothing is parsed. L{converse} has many short conversations at once, by
one poller in one thread.
"""

import select
import socket
import time
from collections.abc import Callable, Sequence

from benchmarks.servers import Server

_BUFFER = 1 << 20
_TAIL = 512

# The last octets that came, and how many things were said: whether that is an
# answer.
Seen = Callable[[bytes, int], bool]


class Reader:
    """One connection.

    @ivar received: octets since the beginning.
    """

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 600)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = 0
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)

    def close(self) -> None:
        """Close, without a word."""
        self.socket.close()

    def until(self, ended: Callable[[bytes], bool]) -> bytes:
        """Read until the last octets that came say that it is the end.

        @return: the last octets.
        """
        tail = b""
        while True:
            count = self.socket.recv_into(self._view)
            if not count:
                raise RuntimeError(f"closed after {tail!r}")
            self.received += count
            if count >= _TAIL:
                tail = bytes(self._view[count - _TAIL : count])
            else:
                tail = (tail + bytes(self._view[:count]))[-_TAIL:]
            if ended(tail):
                return tail


class Imap(Reader):
    """An IMAP client; tags are C{a}."""

    def __init__(self, server: Server, user: int = 0, mailbox: str = "INBOX") -> None:
        super().__init__(server.ports["imap"])
        self.until(_line)
        name, password = server.accounts[user]
        self.do(b'LOGIN "%b" "%b"' % (name.encode(), password.encode()))
        if mailbox:
            self.do(b"SELECT " + mailbox.encode())

    def do(self, command: bytes) -> bytes:
        """A command, to its tagged answer.

        @return: the last octets of the answer.
        @raise RuntimeError: it was not OK.
        """
        self.socket.sendall(b"a " + command + b"\r\n")
        return self.until(tagged)

    def count(self, command: bytes, mark: bytes) -> int:
        """A command; how often something is in its answer. Slow."""
        self.socket.sendall(b"a " + command + b"\r\n")
        octets = b""
        while not tagged(octets[-_TAIL:]):
            octets += self.socket.recv(_BUFFER)
        return octets.count(mark)


def _line(tail: bytes) -> bool:
    return tail.endswith(b"\r\n")


def tagged(tail: bytes) -> bool:
    """Whether the last line is the tagged answer.

    @raise RuntimeError: it is not OK.
    """
    if not tail.endswith(b"\r\n"):
        return False
    last = tail[tail.rfind(b"\r\n", 0, -2) + 2 :] if tail.count(b"\r\n") > 1 else tail
    if not last.startswith(b"a "):
        return False
    if not last.startswith(b"a OK"):
        raise RuntimeError(last.decode())
    return True


def converse(
    port: int, scripts: Sequence[Sequence[bytes]], at_once: int, seen: Seen
) -> float:
    """Have conversations: connect, wait for the greeting, then say each thing
    of a script when the one before was answered; until the server closes.

    @param scripts: what is said in each conversation.
    @param at_once: conversations at the same time.
    @return: seconds, from first to last.
    """
    poller = select.epoll()
    waiting = iter(scripts)
    open_: dict[int, _Conversation] = {}
    started = time.monotonic()

    def begin() -> None:
        script = next(waiting, None)
        if script is not None:
            one = _Conversation(port, script)
            open_[one.socket.fileno()] = one
            poller.register(one.socket, select.EPOLLIN)

    for _ in range(at_once):
        begin()
    while open_:
        for number, _ in poller.poll():
            one = open_[number]
            if one.advance(seen):
                poller.unregister(number)
                del open_[number]
                one.socket.close()
                begin()
    poller.close()
    return time.monotonic() - started


class _Conversation:
    __slots__ = ("_script", "_step", "_tail", "socket")

    def __init__(self, port: int, script: Sequence[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._script = script
        self._step = 0
        self._tail = b""

    def advance(self, seen: Seen) -> bool:
        """Something came.

        @return: whether this was the end.
        """
        octets = self.socket.recv(65536)
        if not octets:
            if self._step < len(self._script):
                raise RuntimeError(f"closed after {self._tail!r}")
            return True
        self._tail = (self._tail + octets)[-_TAIL:]
        if self._step < len(self._script) and seen(self._tail, self._step):
            self._tail = b""
            self.socket.sendall(self._script[self._step])
            self._step += 1
        return False


def imap_answered(tail: bytes, step: int) -> bool:
    """For L{converse}: the greeting, then tagged answers."""
    return _line(tail) if step == 0 else tagged(tail)
