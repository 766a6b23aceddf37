"""Messages of 2 KB over 20 connections, each durable before its 250.

Ours puts them into a local mailbox, in one process. The peer, a Postfix with its
defaults, only queues them: all on hold. Both keep their mail on the same disk
and sync it before they answer (SQLite with synchronous=FULL; Postfix syncs the
queue file). The load is postfix's smtp-source, in the same run, in turns, first
a warm-up, with a connection per message and with reused connections. Without
Postfix, or without root, ours is measured alone.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks import servers

MODES = {"a connection per message": [], "reused connections": ["-d"]}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    parser.add_argument("--messages", type=int, default=4000, help="per run")
    parser.add_argument("--size", type=int, default=2048, help="octets")
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", help="a file to write the figures to")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    if shutil.which("smtp-source") is None:
        raise SystemExit("smtp-source is missing: apt install postfix")
    figures = []
    with ExitStack() as stack:
        ours = stack.enter_context(servers.ours())
        others = []
        if os.geteuid() == 0:
            others.append(stack.enter_context(servers.postfix()))
        for mode, flags in MODES.items():
            figures.append(_mode(mode, flags, [ours, *others], options))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=1)


def _mode(
    mode: str,
    flags: Sequence[str],
    under_test: Sequence[servers.Server],
    options: argparse.Namespace,
) -> dict[str, object]:
    rates: dict[str, list[float]] = {server.name: [] for server in under_test}
    cpu: dict[str, list[float]] = {server.name: [] for server in under_test}
    for number in range(options.runs + 1):
        for server in under_test:
            before = server.cpu_s()
            rate = _send(server, flags, options)
            if number:  # the first is the warm-up
                rates[server.name].append(rate)
                used = server.cpu_s() - before
                cpu[server.name].append(used / options.messages * 1000)
    print(f"{mode}, {options.size} octets, {options.connections} at a time:")
    for name, measured in rates.items():
        print(
            f"  {name:12} {statistics.median(measured):8.0f}/s"
            f"  ({min(measured):.0f} to {max(measured):.0f})"
            f"  {statistics.median(cpu[name]):.2f} s of CPU per 1,000"
        )
    first = under_test[0].name
    for other in under_test[1:]:
        pairs = zip(rates[first], rates[other.name], strict=True)
        ratios = sorted(ours / theirs for ours, theirs in pairs)
        print(
            f"  {first} / {other.name}: {statistics.median(ratios):.2f}"
            f"  ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    return {"mode": mode, "messages_per_s": rates, "cpu_s_per_1000": cpu}


def _send(
    server: servers.Server, flags: Sequence[str], options: argparse.Namespace
) -> float:
    recipient = "alice@example.test"
    started = time.monotonic()
    subprocess.run(
        [
            *("smtp-source", *flags, "-s", str(options.connections)),
            *("-m", str(options.messages), "-l", str(options.size)),
            *("-f", "sender@source.example", "-t", recipient),
            f"127.0.0.1:{server.ports['smtp']}",
        ],
        check=True,
    )
    return float(options.messages / (time.monotonic() - started))
