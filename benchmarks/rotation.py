"""A client that sends one message to one recipient after the other, over connections
that it keeps: as C{smtp-source} does for one recipient, of which it takes no more.

C{python -m benchmarks.rotation PORT CONNECTIONS MESSAGES FILE}: the file has a
recipient a line, an empty line, and then the message as it goes over the wire, dot
included. It takes 0.1 ms of a processor for each message.
"""

import selectors
import socket
import sys
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

_HELLO = b"EHLO source.example\r\n"
_MAIL = b"MAIL FROM:<ann@source.example>\r\n"
_DATA = b"DATA\r\n"


def _session(recipients: Iterator[bytes], message: bytes) -> Iterator[bytes]:
    """What is said, one after the other, as long as there are recipients."""
    yield _HELLO
    for recipient in recipients:
        yield _MAIL
        yield b"RCPT TO:<%b>\r\n" % recipient
        yield _DATA
        yield message
    yield b"QUIT\r\n"


def _last_line(reply: bytes) -> bytes:
    """The last line of a reply that is whole, or nothing."""
    if not reply.endswith(b"\r\n"):
        return b""
    line = reply[:-2].rpartition(b"\n")[2]
    return line if line[3:4] != b"-" else b""


def main(port: int, connections: int, messages: int, path: Path) -> None:
    """Send.

    @raise RuntimeError: something was refused.
    """
    names, _, message = path.read_bytes().partition(b"\n\n")
    recipients = islice(cycle(names.split(b"\n")), messages)
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(client, selectors.EVENT_READ, _session(recipients, message))
    heard: dict[int, bytes] = {}
    while selector.get_map():
        for key, _ in selector.select():
            client, lines = key.fileobj, key.data
            assert isinstance(client, socket.socket)
            octets = client.recv(4096)
            reply = heard.pop(key.fd, b"") + octets
            line = _last_line(reply)
            if line and line[:1] not in b"23":
                raise RuntimeError(line.decode())
            if line:
                said = next(lines, None)
                if said is not None:
                    client.sendall(said)
                    continue
            elif octets:
                heard[key.fd] = reply
                continue
            selector.unregister(client)
            client.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), Path(sys.argv[4]))
