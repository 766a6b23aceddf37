"""A ledger of two million messages beside an empty one.

Two of our servers: one whose 200 mailboxes have 10,000 messages each, and whose
queue has 100,000 on hold, and one that is new. Accepting mail, relaying it, and
LOGIN, SELECT and the ENVELOPEs of the newest 50; and the last again when the
system has forgotten what is in the file ("cold"). Messages are small (500 octets),
so the file has 3 GB; it is in the temporary directory, and is removed.
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

_USERS = 200
_NEWEST = 50
_MORE = f"""{servers.CONNECTIONS}
smtp: {{relay_from: [127.0.0.0/8]}}
"""
_HELD = '\nroutes: [{domain: "*", hold: true}]\n'


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    measure.arguments(parser)
    parser.add_argument("--filled", type=int, default=2_000_000, help="messages")
    parser.add_argument("--held", type=int, default=100_000, help="in the queue")
    parser.add_argument("--messages", type=int, default=2000, help="per turn")
    parser.add_argument("--sessions", type=int, default=200, help="of IMAP, per turn")
    parser.add_argument("--workers", type=int, default=1, help="processes")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    if load.missing():
        raise SystemExit(f"not installed: {load.missing()}")
    filled = 20_000 if options.quick else options.filled
    held = 1000 if options.quick else options.held
    report = measure.Report("large", options)
    with ExitStack() as stack:
        sinks = [stack.enter_context(load.sink()) for _ in range(2)]
        ports = [f"127.0.0.1:{sink.port}" for sink in sinks]
        large = stack.enter_context(_filled(filled, held, ports[0], options.workers))
        new = stack.enter_context(
            servers.configured(
                _MORE, ports[1], True, users=_USERS, workers=options.workers
            )
        )
        new = replace(new, name="a new ledger")
        path = _database(large)
        report.note(
            f"{filled:,} messages, {held:,} held in the queue",
            MB=path.stat().st_size // 1_000_000,
        )
        source = stack.enter_context(load.source(2048, 20, True))
        by_name = {large.name: sinks[0], new.name: sinks[1]}
        recipients = [address for address, _ in servers.addresses(100)]

        def accept(server: Server) -> tuple[float, float]:
            count = options.messages
            return count, source.send(server.ports["smtp"], recipients, count)

        def pass_on(server: Server) -> tuple[float, float]:
            sink = by_name[server.name]
            seconds = _pass(server, sink, source, options.messages)
            return options.messages, seconds

        def look(server: Server) -> tuple[float, float]:
            started = time.monotonic()
            for number in range(options.sessions):
                _look(server, number % _USERS)
            return options.sessions, time.monotonic() - started

        def look_cold(server: Server) -> tuple[float, float]:
            _forget(_database(server))
            return look(server)

        both = [large, new]
        for what, turn in (
            ("2 KB into 100 mailboxes, reused connections", accept),
            ("2 KB relayed, reused connections", pass_on),
            (f"LOGIN, SELECT, the newest {_NEWEST}, LOGOUT", look),
            (f"LOGIN, SELECT, the newest {_NEWEST}, LOGOUT, cold", look_cold),
        ):
            report.turns(what, "/s", both, turn, options.runs)
    report.write()


@contextmanager
def _filled(count: int, held: int, next_hop: str, workers: int) -> Iterator[Server]:
    """A server with a large ledger."""
    with servers.installation(_MORE, next_hop, True, _USERS, workers) as made:
        _seed(made)
        started = time.monotonic()
        filling = Filling(made.directory / "data/ledger.sqlite3")
        try:
            filling.mail(count)
            filling.queue(held)
        finally:
            filling.close()
        print(f"filled in {time.monotonic() - started:.0f} s", flush=True)
        process = made.start()
        try:
            server = made.server(process.pid)
            yield replace(server, name=f"twisted-mta, {count:,} messages")
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
