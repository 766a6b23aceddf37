"""Whether the other end of a connection has what was sent to it last.

TCP knows more of it than who wrote does. Octets that the other system has not
acknowledged have not been read; and a program that ends, or closes, before it has
read what its system has for it makes that reset the connection (RFC 1122 4.2.2.13),
while one that has read all ends it in order. So the end of a connection tells
whether the last answer was read, as long as nothing between the two ends them for
each other, as a proxy does: what such a one says is of itself. And where the end does
not come, since the other is out of reach, our system repeats what is not acknowledged.

BUGS: who closes only his sending half and reads on, and whose system acknowledged
the answer, counts as having read it.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios

# Linux only; elsewhere it is asked how the connection ended.
_INFO = getattr(socket, "TCP_INFO", None)
# include/net/tcp_states.h: the connection was reset, or given up.
_CLOSED = 7
# Places in struct tcp_info (include/uapi/linux/tcp.h), of which this is the beginning.
_STATE, _REPEATED = 0, 2
_OCTETS = 8

# Repetitions in vain: after 1.5 s or more, as far as the other is (RFC 6298).
_OUT_OF_REACH = 3


def heard(skt: socket.socket) -> bool:
    """Whether all that was written to a socket has reached the other system, and it
    has not thrown it away. To be asked before the socket is shut down. 2 us.

    @raise OSError: it cannot be known.
    """
    info = _info(skt)
    if info and info[_STATE] == _CLOSED:
        return False
    waiting = fcntl.ioctl(skt.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    return struct.unpack("i", waiting) == (0,)


def out_of_reach(skt: socket.socket) -> bool:
    """Whether the other system seems to be gone, though the connection has no end: it
    acknowledges nothing, however often it is repeated.

    @raise OSError: it cannot be known.
    """
    info = _info(skt)
    return bool(info) and info[_REPEATED] >= _OUT_OF_REACH


def _info(skt: socket.socket) -> bytes:
    """What TCP says of a connection, if it is one and says anything."""
    if _INFO is None or skt.family == socket.AF_UNIX:
        return b""
    return skt.getsockopt(socket.IPPROTO_TCP, _INFO, _OCTETS)
