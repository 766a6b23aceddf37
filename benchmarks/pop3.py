"""POP3: login, LIST and RETR of a whole mailbox, one by one and pipelined.

The peer is a Dovecot with its processes reused, its mailboxes in sdbox or
Maildir. All run at the same time and take turns.
"""

import argparse
import time
from collections.abc import Sequence

from benchmarks import measure, reading
from benchmarks.measure import Report
from benchmarks.reader import Reader, converse
from benchmarks.servers import Server

# RETRs under way at once.
_PIPELINED = 50


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    measure.arguments(parser)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--logins", type=int, default=500, help="per turn")
    parser.add_argument("--formats", default="sdbox,maildir", help="of Dovecot")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    if options.quick:
        options.runs, options.messages, options.logins = 2, 200, 100
    report = Report("pop3", options)
    with reading.servers(report, 1, options.formats) as servers:
        for server in servers:
            reading.load(server, 0, options.messages)
        _all(servers, report, options)
    report.write()


def _all(
    servers: Sequence[Server], report: Report, options: argparse.Namespace
) -> None:
    messages, runs = options.messages, options.runs

    def login(server: Server) -> tuple[float, float]:
        name, password = server.accounts[0]
        words = f"USER {name}\r\n", f"PASS {password}\r\n", "LIST\r\n", "QUIT\r\n"
        scripts = [[word.encode() for word in words]] * options.logins
        return options.logins, converse(server.ports["pop3"], scripts, 1, _answered)

    report.turns("login + LIST + QUIT", "/s", servers, login, runs)

    def one_by_one(server: Server) -> tuple[float, float]:
        return _read(server, messages, 1)

    def pipelined(server: Server) -> tuple[float, float]:
        return _read(server, messages, _PIPELINED)

    report.turns("RETR, one by one", "messages/s", servers, one_by_one, runs)
    report.turns(f"RETR, {_PIPELINED} at once", "messages/s", servers, pipelined, runs)


def _answered(tail: bytes, step: int) -> bool:
    """For L{converse}: LIST has an answer of many lines."""
    return _ended(tail) if step == 3 else tail.endswith(b"\r\n")


def _ended(tail: bytes) -> bool:
    return tail.endswith(b"\r\n.\r\n")


def _read(server: Server, messages: int, at_once: int) -> tuple[float, float]:
    """Log in, LIST, and RETR everything."""
    started = time.monotonic()
    client = Reader(server.ports["pop3"])
    client.until(lambda tail: tail.endswith(b"\r\n"))
    name, password = server.accounts[0]
    for command in (f"USER {name}\r\n", f"PASS {password}\r\n"):
        client.socket.sendall(command.encode())
        client.until(lambda tail: tail.endswith(b"\r\n"))
    client.socket.sendall(b"LIST\r\n")
    client.until(_ended)
    if at_once == 1:
        for number in range(1, messages + 1):
            client.socket.sendall(b"RETR %d\r\n" % number)
            client.until(_ended)
    else:
        # The end of a batch is known by a command with another answer.
        for first in range(1, messages + 1, at_once):
            last = min(first + at_once, messages + 1)
            retrs = [b"RETR %d\r\n" % number for number in range(first, last)]
            client.socket.sendall(b"".join(retrs) + b"NOOP\r\n")
            client.until(_noop)
    client.socket.sendall(b"QUIT\r\n")
    client.until(lambda tail: tail.endswith(b"\r\n"))
    client.close()
    return messages, time.monotonic() - started


def _noop(tail: bytes) -> bool:
    """A message's end, then one line."""
    at = tail.rfind(b"\r\n.\r\n+OK")
    return at >= 0 and tail.endswith(b"\r\n") and tail.count(b"\r\n", at + 5) == 1
