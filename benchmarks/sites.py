"""Mail that is passed on to a thousand destinations: in over 20 connections, out to
1,000 domains, each with a host of its own.

The hosts are addresses of the loopback, where one smtp-sink takes all, so that nothing
but the number of destinations differs from L{benchmarks.relay}. The client is our own
(L{benchmarks.rotation}): smtp-source would be a process for each domain. A Postfix
cannot be told which DNS server to ask, so both have a line for each domain: in
C{routes}, and in a transport map. With C{--dns} ours looks up each domain's MX and
address at a DNS server that runs beside it, and which needs as much of the machine as a
message does.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import load, measure, postfix, servers
from benchmarks.accept import worker_series
from benchmarks.relay import queued
from benchmarks.servers import Server

_DOMAINS = 1000

_MORE = f"""{servers.CONNECTIONS}
smtp: {{relay_from: [127.0.0.0/8]}}
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    measure.arguments(parser)
    parser.add_argument("--each", type=int, default=3, help="messages per domain")
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--workers", default="", help="processes of ours, as 1,2")
    parser.add_argument("--dns", action="store_true", help="ours asks a DNS server")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    if load.missing():
        raise SystemExit(f"not installed: {load.missing()}")
    report = measure.Report("sites", options)
    recipients = [f"someone@{domain}" for domain, _ in _hosts()]
    messages = options.each * _DOMAINS
    with ExitStack() as stack:
        sinks: dict[str, load.Sink] = {}
        under_test = _servers(stack, report, options, sinks)
        source = stack.enter_context(load.source(2048, options.connections, True))

        def turn(server: Server) -> tuple[float, float]:
            sink = sinks[server.name]
            before, started = sink.count, time.monotonic()
            source.rotate(server.ports["smtp"], recipients, messages)
            sink.wait(before + messages)
            seconds = time.monotonic() - started
            ours = server.name.startswith(measure.OURS)
            while queued(server) if ours else postfix.waits(server):
                time.sleep(0.01)
            if sink.count != before + messages:
                raise RuntimeError(f"{server.name} sent a message twice")
            return messages, seconds

        what = f"2 KB to {_DOMAINS:,} domains"
        report.turns(what, "/s", under_test, turn, options.runs)
    report.write()


def _hosts() -> Iterator[tuple[str, str]]:
    """Each domain, and the address of its host."""
    for number in range(_DOMAINS):
        yield f"d{number}.example", f"127.1.{number // 250}.{number % 250 + 1}"


def _named(sink: load.Sink) -> str:
    """A route for each domain."""
    routes = [
        f'  - {{domain: {domain}, next_hop: "[{address}]:{sink.port}"}}\n'
        for domain, address in _hosts()
    ]
    return f"routes:\n{''.join(routes)}"


def _asked(dns: str, sink: load.Sink) -> str:
    """No route, and where to ask."""
    return (
        f"dns: {{servers: ['{dns}']}}\n"
        f"agents: {{smtp: {{kind: smtp, loopback: true, port: {sink.port}}}}}\n"
    )


@contextmanager
def _dns() -> Iterator[str]:
    """A DNS server that knows the domains.

    @return: its address and port.
    """
    with TemporaryDirectory(prefix="twisted-mta-bench-dns-") as directory:
        zone = Path(directory) / "zone"
        lines = [
            f"{domain} MX 10 mx.{domain}\nmx.{domain} A {address}"
            for domain, address in _hosts()
        ]
        zone.write_text("\n".join(lines) + "\n")
        process = subprocess.Popen(
            [sys.executable, "-m", "twisted_mta.testing.dns", str(zone)],
            env=servers.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait()


def _servers(
    stack: ExitStack,
    report: measure.Report,
    options: argparse.Namespace,
    sinks: dict[str, load.Sink],
) -> Sequence[Server]:
    under_test = []
    dns = stack.enter_context(_dns()) if options.dns else ""
    for count in worker_series(options.workers):
        sink = stack.enter_context(load.sink("0.0.0.0"))
        more = f"{_MORE}{_asked(dns, sink) if dns else _named(sink)}"
        ours = servers.configured(more, relay="", workers=count)
        under_test.append(stack.enter_context(ours))
        sinks[under_test[-1].name] = sink
    if why := postfix.available():
        report.skipped("postfix", why)
        return under_test
    for name, tuned in (("postfix", False), ("postfix, tuned", True)):
        sink = stack.enter_context(load.sink("0.0.0.0"))
        directory = stack.enter_context(
            TemporaryDirectory(prefix="twisted-mta-bench-transport-")
        )
        table = Path(directory) / "transport"
        Path(directory).chmod(0o755)
        lines = [f"{d} smtp:[{address}]:{sink.port}" for d, address in _hosts()]
        table.write_text("\n".join(lines) + "\n")
        peer = postfix.postfix(
            name,
            postfix.TUNED if tuned else {},
            {"transport_maps": f"texthash:{table}"},
        )
        under_test.append(stack.enter_context(peer))
        sinks[name] = sink
    return under_test
