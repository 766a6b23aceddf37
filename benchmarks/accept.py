"""Mail over 20 connections into local mailboxes, each durable before its 250.

Messages of 2 KB and 100 KB, a connection for each and reused connections, into 1
mailbox and into 100. Ours has them in the mailbox when it answers, with one
process and with one for each core. The peers: a Postfix that only queues (all is
put on hold), with its defaults and tuned; and a tuned Postfix that hands to a
Dovecot by LMTP, until the last message is in its mailbox. The load is Postfix's
smtp-source. Without Postfix's servers, or without root, ours is measured alone.
"""

import argparse
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks import load, measure, servers
from benchmarks.dovecot import available as has_dovecot
from benchmarks.postfix import (
    HOLD,
    TUNED,
    available,
    discard,
    postfix,
    waits,
    with_dovecot,
)
from benchmarks.servers import Server

# What a server that is two has of the messages of the others.
_SHARE = 4

_MODES = {"a connection each": False, "reused connections": True}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    measure.arguments(parser)
    parser.add_argument("--messages", type=int, default=2000, help="of 2 KB, per turn")
    parser.add_argument("--large", type=int, default=300, help="of 100 KB, per turn")
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--mailboxes", default="1,100", help="how many")
    parser.add_argument("--workers", default="", help="processes of ours, as 1,2")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    if load.missing():
        raise SystemExit(f"not installed: {load.missing()}")
    report = measure.Report("accept", options)
    sizes = {"2 KB": (2048, options.messages), "100 KB": (102_400, options.large)}
    mailboxes = [int(word) for word in options.mailboxes.split(",")]
    if options.quick:
        sizes = {"2 KB": sizes["2 KB"]}
        mailboxes = [1]
    with ExitStack() as stack:
        under_test = _servers(stack, report, options.workers, max(mailboxes))
        for size, (octets, messages) in sizes.items():
            for mode, reuse in _MODES.items():
                source = stack.enter_context(
                    load.source(octets, options.connections, reuse)
                )
                for count in mailboxes:

                    def turn(
                        server: Server,
                        source: load.Source = source,
                        count: int = count,
                        messages: int = messages,
                    ) -> tuple[float, float]:
                        # A server of two takes several times as long. Each
                        # mailbox gets as many as the others.
                        share = messages // (_SHARE if server.beside else 1)
                        sent = max(share // count, 1) * count
                        return sent, _send(server, source, count, sent)

                    plural = "mailbox" if count == 1 else "mailboxes"
                    what = f"{size}, {mode}, {count} {plural}"
                    report.turns(what, "/s", under_test, turn, options.runs)
    report.write()


def worker_series(given: str) -> Sequence[int]:
    """How many processes of ours to measure: by default one, and as many as
    there are cores."""
    if given:
        return [int(word) for word in given.split(",")]
    if not servers.HAS_WORKERS:
        return [1]
    return sorted({1, len(os.sched_getaffinity(0))})


def _servers(
    stack: ExitStack, report: measure.Report, workers: str, users: int
) -> Sequence[Server]:
    under_test = [
        stack.enter_context(servers.configured(users=users, workers=count))
        for count in worker_series(workers)
    ]
    if why := available():
        report.skipped("postfix", why)
        return under_test
    under_test.append(stack.enter_context(postfix("postfix, on hold", HOLD)))
    tuned = postfix("postfix, on hold, tuned", HOLD, TUNED)
    under_test.append(stack.enter_context(tuned))
    if has_dovecot():
        under_test.append(stack.enter_context(with_dovecot(users)))
    else:
        report.skipped("dovecot", "not installed (apt install dovecot-lmtpd)")
    return under_test


def _send(server: Server, source: load.Source, count: int, messages: int) -> float:
    """@return: seconds, until the last is durable; into a mailbox, if the
    server has any."""
    recipients = [address for address, _ in servers.addresses(count)]
    started = time.monotonic()
    source.send(server.ports["smtp"], recipients, messages)
    if server.beside:
        while waits(server):
            time.sleep(0.01)
    seconds = time.monotonic() - started
    if "on hold" in server.name:
        discard(server)
    return seconds
