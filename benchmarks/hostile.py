"""Clients that mean no good, and how long an honest one waits meanwhile.

5,000 half-open sessions, a flood of commands, and messages to 10,000 recipients,
from many addresses, upon a server as it is delivered. All the time a client of
another address sends one message after the other: how long each took, from its
connection to its 250, and how many were put off; what memory and processor the
server took. Beside it the same upon a Postfix.
"""

import argparse
import multiprocessing
import resource
import smtplib
import time
from contextlib import ExitStack

from benchmarks import attack, load, measure, servers
from benchmarks.postfix import HOLD, TUNED, available, postfix
from benchmarks.servers import Server

MIB = 1 << 20

#: An honest client that waits for longer gives up.
_PATIENCE_S = 20.0

#: How long it waits between messages, and after one that was put off.
_PAUSE_S = 0.1

#: Until an attack is at its height.
_BEGUN_S = 3.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    measure.arguments(parser, runs=1)
    parser.add_argument("--seconds", type=float, default=20, help="of each attack")
    parser.add_argument("--workers", type=int, default=1, help="processes of ours")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report = measure.Report("hostile", options)
    seconds = 5.0 if options.quick else options.seconds
    with ExitStack() as stack:
        ours = servers.configured("", workers=options.workers)
        under_test = [stack.enter_context(ours)]
        if why := available():
            report.skipped("postfix", why)
        else:
            for name, settings in {"": {}, ", tuned": TUNED}.items():
                peer = postfix(f"postfix, on hold{name}", HOLD, settings)
                under_test.append(stack.enter_context(peer))
        report.servers(under_test)
        for what, does in attack.ATTACKS.items():
            for server in under_test:
                _measure(report, what, does, server, seconds)
    report.write()


def _measure(
    report: measure.Report,
    what: str,
    does: attack.Attack,
    server: Server,
    seconds: float,
) -> None:
    """One attack upon one server."""
    port, memory, used_s = server.ports["smtp"], server.proportional(), server.cpu_s()
    _send(port)  # what is made once is made
    attacker = multiprocessing.Process(
        target=does, args=(port, seconds + _BEGUN_S), daemon=True
    )
    attacker.start()
    time.sleep(_BEGUN_S)
    waits, put_off, peak = [], 0, memory
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        if not _send(port):
            put_off += 1
        waits.append(time.monotonic() - begun)
        peak = max(peak, server.proportional())
        time.sleep(_PAUSE_S)
    used_s = server.cpu_s() - used_s
    attacker.terminate()
    attacker.join()
    report.note(
        f"{what}, {server.name}",
        honest_p50_ms=round(measure.median(waits) * 1000),
        honest_most_ms=round(max(waits) * 1000),
        honest_messages=len(waits),
        put_off=put_off,
        more_MiB=round((peak - memory) / MIB),
        cpu_percent=round(100 * used_s / (seconds + _BEGUN_S)),
    )
    _recover(port)


def _send(port: int) -> bool:
    """Send a message; whether it was taken."""
    recipient = "user0@example.test"
    try:
        with smtplib.SMTP("127.0.0.1", port, "honest", _PATIENCE_S) as client:
            client.sendmail("a@source.example", [recipient], load.message(2048))
    except (OSError, smtplib.SMTPException):
        return False
    return True


def _recover(port: int) -> None:
    """Wait until the server is as it was before."""
    for _ in range(60):
        begun = time.monotonic()
        if _send(port) and time.monotonic() - begun < 1:
            return
        time.sleep(1)
    raise RuntimeError("the server does not answer any more")
