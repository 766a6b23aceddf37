"""The loopback interface of a network of our own (unshare --net)."""

import fcntl
import os
import socket
import struct

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1  # netdevice(7)

#: What a program is started by that has a network of its own. Root needs no namespace
#: of users for that, which not every machine gives.
APART = ("unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), "--net")


def set_up(up: bool) -> None:
    """Take it up, or down: then nothing arrives."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as skt:
        flags = struct.pack("16sh", b"lo", _IFF_UP if up else 0)
        fcntl.ioctl(skt, _SIOCSIFFLAGS, flags)
