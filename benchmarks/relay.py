"""Mail that is only passed on: in over 20 connections, out to a smarthost.

Messages of 2 KB and 100 KB come by SMTP and go to an smtp-sink, from the first
connection until the sink has the last message. Ours with one process and with one
for each core, beside a Postfix with its defaults and a tuned one; each has a sink
of its own. Between turns a queue runs empty. The processor time of the load is
that of smtp-source and the sink.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack

import apsw

from benchmarks import load, measure, postfix, servers
from benchmarks.accept import worker_series
from benchmarks.servers import Server

_RECIPIENT = "someone@elsewhere.example"

_MORE = f"""{servers.CONNECTIONS}
smtp: {{relay_from: [127.0.0.0/8]}}
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    measure.arguments(parser)
    parser.add_argument("--messages", type=int, default=1500, help="of 2 KB, per turn")
    parser.add_argument("--large", type=int, default=250, help="of 100 KB, per turn")
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--workers", default="", help="processes of ours, as 1,2")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    if load.missing():
        raise SystemExit(f"not installed: {load.missing()}")
    report = measure.Report("relay", options)
    sizes = {"2 KB": (2048, options.messages), "100 KB": (102_400, options.large)}
    if options.quick:
        del sizes["100 KB"]
    with ExitStack() as stack:
        sinks: dict[str, load.Sink] = {}
        under_test = _servers(stack, report, options.workers, sinks)
        for size, (octets, messages) in sizes.items():
            for mode, reuse in (("a connection each", False), ("reused", True)):
                source = stack.enter_context(
                    load.source(octets, options.connections, reuse)
                )

                def turn(
                    server: Server,
                    source: load.Source = source,
                    messages: int = messages,
                ) -> tuple[float, float]:
                    return messages, _pass(server, sinks[server.name], source, messages)

                what = f"{size}, in by {mode}"
                report.turns(what, "/s", under_test, turn, options.runs)
    report.write()


def _servers(
    stack: ExitStack,
    report: measure.Report,
    workers: str,
    sinks: dict[str, load.Sink],
) -> Sequence[Server]:
    under_test = []
    for count in worker_series(workers):
        sink = stack.enter_context(load.sink())
        ours = servers.configured(_MORE, f"127.0.0.1:{sink.port}", workers=count)
        under_test.append(stack.enter_context(ours))
        sinks[under_test[-1].name] = sink
    if why := postfix.available():
        report.skipped("postfix", why)
        return under_test
    for name, tuned in (("postfix", False), ("postfix, tuned", True)):
        sink = stack.enter_context(load.sink())
        to_sink = {"relayhost": f"[127.0.0.1]:{sink.port}"}
        if tuned:
            to_sink["smtp_connection_cache_destinations"] = to_sink["relayhost"]
        peer = postfix.postfix(name, postfix.TUNED if tuned else {}, to_sink)
        under_test.append(stack.enter_context(peer))
        sinks[name] = sink
    return under_test


def _pass(server: Server, sink: load.Sink, source: load.Source, messages: int) -> float:
    """@return: seconds until the sink has the last message."""
    before = sink.count
    started = time.monotonic()
    source.send(server.ports["smtp"], [_RECIPIENT], messages)
    sink.wait(before + messages)
    seconds = time.monotonic() - started
    waits = queued if server.name.startswith(measure.OURS) else postfix.waits
    while waits(server):
        time.sleep(0.01)
    if sink.count != before + messages:
        raise RuntimeError(f"{server.name} sent a message twice")
    return seconds


def queued(server: Server) -> bool:
    """Whether any message waits in our queue."""
    path = server.directory / "data/ledger.sqlite3"
    ledger = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    ledger.set_busy_timeout(10_000)
    try:
        return ledger.execute("SELECT 1 FROM queued LIMIT 1").fetchone() is not None
    finally:
        ledger.close()
