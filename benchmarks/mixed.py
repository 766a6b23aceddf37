"""A day of an office of 200 users, squeezed into a minute.

All have a client in IDLE and one that works; mail arrives and is submitted, is
fetched, listed, flagged, moved and searched, and phones look in (the numbers are in
benchmarks/day.py). How long each operation takes, half of them and 99 of 100, and
how long after its 250 a message is told to a client in IDLE. Ours beside a tuned
Postfix with a Dovecot; neither uses TLS, and mail for elsewhere goes to a sink.
Every server has the same day, in turns, after a short one that does not count.
"""

import argparse
import asyncio
import resource
import statistics
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks import load, measure, postfix, servers
from benchmarks.accept import worker_series
from benchmarks.day import NOTICE, OPERATIONS, Event, Player, schedule
from benchmarks.dovecot import available as has_dovecot
from benchmarks.servers import Server

_KEPT = 60  # messages in each mailbox to begin with


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    measure.arguments(parser)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60, help="of a day")
    parser.add_argument("--workers", default="", help="processes of ours, as 1,2")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    if load.missing():
        raise SystemExit(f"not installed: {load.missing()}")
    users = 20 if options.quick else options.users
    seconds = 10 if options.quick else options.seconds
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report = measure.Report("mixed", options)
    day = schedule(users, seconds)
    with ExitStack() as stack:
        under_test = _servers(stack, report, options.workers, users)
        report.servers(under_test)
        operations = [*OPERATIONS, NOTICE]
        halves = {name: _figures(under_test) for name in operations}
        nearly_all = {name: _figures(under_test) for name in operations}
        costs = _figures(under_test)
        print(f"{len(day)} operations of {users} users in {seconds:g} s")
        for server in under_test:
            asyncio.run(_play(server, schedule(users, seconds / 6, 2), _KEPT))
        for _ in range(options.runs):
            for server in under_test:
                before, own = server.cpu_s(), measure.own_cpu_s(under_test)
                took = asyncio.run(_play(server, day, 0))
                cost = costs[server.name]
                cost.rates.append(server.cpu_s() - before)
                own_s = measure.own_cpu_s(under_test) - own
                cost.client_s.append(own_s / len(day) * 1000)
                for name, times in took.items():
                    cuts = statistics.quantiles(times, n=100)
                    halves[name][server.name].rates.append(cuts[49] * 1000)
                    nearly_all[name][server.name].rates.append(cuts[98] * 1000)
        for name in operations:
            report.figures(f"{name}, half of them within", "ms", halves[name])
            report.figures(f"{name}, 99 % within", "ms", nearly_all[name])
        report.figures("processor time of the day", "s", costs)
    report.write()


def _figures(under_test: Sequence[Server]) -> dict[str, measure.Figure]:
    return {server.name: measure.Figure() for server in under_test}


async def _play(
    server: Server, day: Sequence[Event], kept: int
) -> dict[str, list[float]]:
    player = Player(server, day)
    try:
        await player.prepare(kept)
        await player.play()
    finally:
        await player.close()
    return player.seconds


def _servers(
    stack: ExitStack, report: measure.Report, workers: str, users: int
) -> Sequence[Server]:
    sink = stack.enter_context(load.sink())
    relay = f"127.0.0.1:{sink.port}"
    under_test = [
        stack.enter_context(
            servers.configured(
                servers.CONNECTIONS, relay, plaintext=True, users=users, workers=count
            )
        )
        for count in worker_series(workers)[-1:]
    ]
    if why := postfix.available():
        report.skipped("postfix", why)
    elif not has_dovecot():
        report.skipped("dovecot", "not installed (apt install dovecot-imapd)")
    else:
        to_sink = {"relayhost": f"[127.0.0.1]:{sink.port}"}
        under_test.append(stack.enter_context(postfix.with_dovecot(users, to_sink)))
    return under_test
