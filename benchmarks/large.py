"""A ledger of two million messages beside one of a hundred thousand.

Two of our servers, whose mailboxes have 1,000 messages each: 2,000 accounts, with
100,000 messages on hold in the queue, and 100 accounts, with none. Accepting mail,
relaying it, and LOGIN, SELECT and the ENVELOPEs of the newest 50; and that again
when the system has forgotten what is in the file ("cold"). Messages are small (500
octets), so the file has 3 GB; it is in the temporary directory, and is removed.
"""

import argparse
import imaplib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks import load, measure, servers
from benchmarks.filling import Filling
from benchmarks.servers import Server

_SMALL = 100
_NEWEST = 50
_MORE = f"""{servers.CONNECTIONS}
smtp: {{relay_from: [127.0.0.0/8]}}
"""
_HELD = '\nroutes: [{domain: "*", hold: true}]\n'


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    measure.arguments(parser)
    parser.add_argument("--accounts", type=int, default=2000)
    parser.add_argument("--each", type=int, default=1000, help="messages of one")
    parser.add_argument("--held", type=int, default=100_000, help="in the queue")
    parser.add_argument("--messages", type=int, default=2000, help="per turn")
    parser.add_argument("--sessions", type=int, default=200, help="of IMAP, per turn")
    parser.add_argument("--workers", type=int, default=1, help="processes")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    if load.missing():
        raise SystemExit(f"not installed: {load.missing()}")
    each = 100 if options.quick else options.each
    report = measure.Report("large", options)
    with ExitStack() as stack:
        both = []
        sinks = {}
        for accounts, held in ((options.accounts, options.held), (_SMALL, 0)):
            sink = stack.enter_context(load.sink())
            server = stack.enter_context(
                _filled(accounts, each, held, f"127.0.0.1:{sink.port}", options.workers)
            )
            sinks[server.name] = sink
            both.append(server)
            size = _database(server).stat().st_size
            report.note(server.name, MB=size // 1_000_000, accounts=accounts, held=held)
        source = stack.enter_context(load.source(2048, 20, True))

        def accept(server: Server) -> tuple[float, float]:
            step = len(server.accounts) // _SMALL
            to = [address for address, _ in server.accounts[::step]]
            port = server.ports["smtp"]
            return options.messages, source.send(port, to, options.messages)

        def pass_on(server: Server) -> tuple[float, float]:
            sink = sinks[server.name]
            seconds = _pass(server, sink, source, options.messages)
            return options.messages, seconds

        def look(server: Server) -> tuple[float, float]:
            started = time.monotonic()
            for number in range(options.sessions):
                _look(server, number * 7 % len(server.accounts))
            return options.sessions, time.monotonic() - started

        def look_cold(server: Server) -> tuple[float, float]:
            _forget(_database(server))
            return look(server)

        for what, turn in (
            ("2 KB into 100 mailboxes, reused connections", accept),
            ("2 KB relayed, reused connections", pass_on),
            (f"LOGIN, SELECT, the newest {_NEWEST}, LOGOUT", look),
            (f"LOGIN, SELECT, the newest {_NEWEST}, LOGOUT, cold", look_cold),
        ):
            report.turns(what, "/s", both, turn, options.runs)
    report.write()


@contextmanager
def _filled(
    accounts: int, each: int, held: int, next_hop: str, workers: int
) -> Iterator[Server]:
    """A server with a ledger that was filled before it started."""
    with servers.installation(_MORE, next_hop, True, 1, workers) as made:
        _seed(made)
        started = time.monotonic()
        filling = Filling(made.directory / "data/ledger.sqlite3")
        try:
            filling.accounts(accounts)
            filling.mail(accounts * each)
            filling.queue(held)
        finally:
            filling.close()
        print(f"filled in {time.monotonic() - started:.0f} s", flush=True)
        process = made.start()
        try:
            name = f"{accounts * each:,} messages"
            yield replace(
                made.server(process.pid),
                name=f"twisted-mta, {name}" if held else name,
                accounts=servers.addresses(accounts),
            )
        finally:
            servers.stop(process)


def _seed(made: servers.Installation) -> None:
    """Let the server take one message for a mailbox and one for its queue."""
    given = made.config.read_text()
    lines = [line for line in given.splitlines() if not line.startswith("routes:")]
    made.config.write_text("\n".join(lines) + _HELD)
    process = made.start()
    try:
        with load.source(500, 1, False) as source:
            port = made.ports["smtp"]
            source.send(port, [made.accounts[0][0]], 1)
            source.send(port, ["someone@elsewhere.example"], 1)
    finally:
        servers.stop(process)
    made.config.write_text(given)


def _database(server: Server) -> Path:
    return server.directory / "data/ledger.sqlite3"


def _forget(path: Path) -> None:
    """Let the system forget what it has in memory of a file."""
    os.sync()
    file = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


def _pass(server: Server, sink: load.Sink, source: load.Source, messages: int) -> float:
    """@return: seconds until the sink has the last message."""
    before = sink.count
    started = time.monotonic()
    source.send(server.ports["smtp"], ["someone@elsewhere.example"], messages)
    sink.wait(before + messages)
    return time.monotonic() - started


def _look(server: Server, user: int) -> None:
    """A session of a client that looks at what is new."""
    name, password = server.accounts[user]
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as client:
        client.login(name, password)
        count = int(client.select()[1][0] or 0)
        first = max(1, count - _NEWEST + 1)
        if count:
            client.fetch(f"{first}:{count}", "(UID FLAGS INTERNALDATE ENVELOPE)")
