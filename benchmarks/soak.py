"""Ten minutes of everything, with kill -9 now and then; then every message is
looked for.

Mail arrives, is submitted, read, moved and searched by all protocols. In the first
half workers and the supervisor are killed at random, and the supervisor is started
again, as systemd would. Afterwards memory and file descriptors must stay: they are
looked at when nobody is connected, after two thirds and at the end. At last every
message that was acknowledged must be in its mailboxes exactly once, and every
message for elsewhere must have arrived (after a kill it may arrive twice: RFC
1047). The status says whether all of that held.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks import measure, processes, relay, servers
from benchmarks.accept import worker_series
from benchmarks.traffic import Elsewhere, Traffic, found

_USERS = 40

# The end against two thirds: SQLite's and the server's caches may still fill, a
# thread may have been started. A leak of one descriptor or of 10 KB for each of
# the thousands of sessions between them is far more.
_MEMORY_MOST = 1.15
_MEMORY_MORE = 16 << 20
_DESCRIPTORS_MORE = 10

# What a killed process was just delivering waits until its lease ends.
_QUEUE_S = 300.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    measure.arguments(parser, runs=1)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kill-every", type=float, default=10, help="s, on average")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", default="", help="how many")


def run(options: argparse.Namespace) -> None:
    """Soak, and judge.

    @raise SystemExit: something was lost, came twice or grew.
    """
    report = measure.Report("soak", options)
    seconds = 60.0 if options.quick else options.minutes * 60
    chance = random.Random(options.seed)
    more = servers.CONNECTIONS + "queue: {first_retry: 2s}\n"
    with (
        Elsewhere() as elsewhere,
        servers.installation(
            more,
            f"127.0.0.1:{elsewhere.port}",
            plaintext=True,
            users=_USERS,
            workers=worker_series(options.workers)[-1],
        ) as made,
        _running(made) as victim,
    ):
        server = made.server(victim.pid)
        report.servers([server])
        traffic = Traffic(server, options.seed)
        try:
            traffic.resume()
            ends = time.monotonic() + seconds / 2
            while (left := ends - time.monotonic()) > 0:
                time.sleep(min(left, chance.expovariate(1 / options.kill_every)))
                victim.kill(chance)
            time.sleep(seconds / 6)
            middle = _look(traffic, made.server(victim.pid), report, "after 2/3")
            traffic.resume()
            time.sleep(seconds / 3)
            end = _look(traffic, made.server(victim.pid), report, "at the end")
        finally:
            traffic.end()
        problems = _grown(middle, end)
        problems += _lost(made.server(victim.pid), traffic, elsewhere, report)
    report.note("killed", workers=victim.workers, supervisors=victim.supervisors)
    report.note("done", **traffic.done)
    report.note("broken off", **traffic.broken)
    problems += [
        f"{kind} broke off more often than it was done"
        for kind, times in traffic.broken.items()
        if times > traffic.done[kind]
    ]
    report.note("wrong", problems=len(problems))
    report.write()
    if problems:
        print("\n".join(problems[:20]), file=sys.stderr)
        raise SystemExit(1)


class Victim:
    """A server that is killed and started again.

    @ivar workers: how many were killed.
    @ivar supervisors: the same.
    """

    def __init__(self, made: servers.Installation) -> None:
        self._made = made
        self._process = made.start()
        self.workers = 0
        self.supervisors = 0

    @property
    def pid(self) -> int:
        """Of the parent of all."""
        return self._process.pid

    def kill(self, chance: random.Random) -> None:
        """Kill a worker, or, one time in three or when there are none, the
        supervisor, which is started again when all that was its has ended."""
        _, *children = processes.family(self.pid)
        if children and chance.random() < 2 / 3:
            os.kill(chance.choice(children), signal.SIGKILL)
            self.workers += 1
            return
        self._process.kill()
        self._process.wait()
        self.supervisors += 1
        deadline = time.monotonic() + 60
        while any(os.path.exists(f"/proc/{pid}") for pid in children):
            if time.monotonic() > deadline:
                raise RuntimeError("workers outlived their supervisor by a minute")
            time.sleep(0.05)
        self._process = self._made.start()

    def stop(self) -> None:
        """End it properly."""
        servers.stop(self._process)


@contextmanager
def _running(made: servers.Installation) -> Iterator[Victim]:
    victim = Victim(made)
    try:
        yield victim
    finally:
        children = list(processes.family(victim.pid))[1:]
        try:
            victim.stop()
        finally:
            for pid in children:  # none, unless something is very wrong
                subprocess.run(["kill", "-9", str(pid)], capture_output=True)


@dataclass(frozen=True)
class Look:
    """What the processes had when nobody was connected."""

    memory: int
    descriptors: int


def _look(
    traffic: Traffic, server: servers.Server, report: measure.Report, when: str
) -> Look:
    traffic.pause()
    # Idle connections to elsewhere are kept for two seconds.
    time.sleep(5)
    look = Look(server.proportional(), server.descriptors())
    report.note(when, MiB=look.memory >> 20, descriptors=look.descriptors)
    return look


def _grown(middle: Look, end: Look) -> list[str]:
    problems = []
    if end.memory > middle.memory * _MEMORY_MOST + _MEMORY_MORE:
        problems.append(f"memory grew from {middle.memory:,} to {end.memory:,}")
    if end.descriptors > middle.descriptors + _DESCRIPTORS_MORE:
        problems.append(
            f"descriptors grew from {middle.descriptors} to {end.descriptors}"
        )
    return problems


def _lost(
    server: servers.Server,
    traffic: Traffic,
    elsewhere: Elsewhere,
    report: measure.Report,
) -> list[str]:
    """Look for every message that was acknowledged."""
    deadline = time.monotonic() + _QUEUE_S
    while relay.queued(server) and time.monotonic() < deadline:
        time.sleep(0.5)
    problems = ["the queue did not run empty"] if relay.queued(server) else []
    there = found(server)
    wanted = 0
    for number, recipients in traffic.local.items():
        for recipient in recipients:
            wanted += 1
            if not there[recipient][number]:
                problems.append(f"message {number} for {recipient} is lost")
    problems += [
        f"message {number} for {account} is there {count} times"
        for account, counted in there.items()
        for number, count in counted.items()
        if count > 1
    ]
    problems += [
        f"message {number} for elsewhere is lost"
        for number in traffic.outside
        if not elsewhere.received[number]
    ]
    twice = sum(count > 1 for count in elsewhere.received.values())
    report.note(
        "acknowledged",
        messages=len(traffic.local),
        into_mailboxes=wanted,
        for_elsewhere=len(traffic.outside),
        twice_elsewhere=twice,
    )
    return problems
