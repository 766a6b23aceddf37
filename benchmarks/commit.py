"""Units of work a second: 2 KB messages into mailboxes, each durably.

As many callers as asked for accept one message after the other, as sessions do:
content, email, placement, the counts of mailbox and account, one commit. No
protocol, so this is the most that a server on this ledger can do."""

import argparse
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults

from benchmarks import measure
from twisted_mta.interfaces import ITransaction
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.mail.summary import Email, summarize
from twisted_mta.store.native import NativeStore

PREFIX = b"Return-Path: <a@example.test>\r\nReceived: from a by b; now\r\n" * 2
MESSAGE = (
    b"From: Ann <a@example.test>\r\nTo: Bob <b@example.test>\r\n"
    b"Subject: a message of two kilobytes\r\nMessage-ID: <1@example.test>\r\n"
    b"Date: Sat, 21 Nov 2026 01:34:43 +0000\r\n\r\n" + b"0123456789abcde\r\n" * 110
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    measure.arguments(parser)
    parser.add_argument("--callers", type=int, default=20)
    parser.add_argument("--accounts", type=int, default=100)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--directory", help="on the disk to be measured")
    parser.add_argument("--switch-interval", type=float, help="of the interpreter, s")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    if options.switch_interval:
        sys.setswitchinterval(options.switch_interval)
    report = measure.Report("commit", options)
    try:
        task.react(lambda reactor: ensureDeferred(_turns(reactor, options, report)), ())
    except SystemExit as ended:
        if ended.code:
            raise
    report.write()


async def _turns(
    reactor: Any, options: argparse.Namespace, report: measure.Report
) -> None:
    figure = measure.Figure()
    for number in range(options.runs + 1):
        with tempfile.TemporaryDirectory(
            prefix="twisted-mta-bench-", dir=options.directory
        ) as directory:
            rate, cpu_s = await _run(reactor, Path(directory), options)
        if number:
            figure.rates.append(rate)
            figure.server_s.append(cpu_s)
    what = f"{options.callers} callers, {options.accounts} accounts"
    report.figures(what, "/s", {"the ledger alone, one process": figure})


def _add_account(transaction: ITransaction, store: NativeStore, id: int) -> None:
    transaction.execute(
        "INSERT INTO account (id, address, address_key, password, created_at, modseq)"
        " VALUES (?, ?, ?, '', 0, 0)",
        (id, f"{id}@example.test", f"{id}@example.test"),
    )
    store.provision(transaction, id)


async def _accept(ledger: Ledger, store: NativeStore, account: int) -> float:
    began = time.perf_counter()
    content = ledger.content()
    content.write(MESSAGE)
    await content.finish()
    summary = summarize(PREFIX, content.header(), content.structure())
    size = len(PREFIX) + content.size

    def unit(transaction: ITransaction) -> None:
        taken = content.take(transaction)
        email = Email(taken, PREFIX, size, began, summary)
        store.deliver(transaction, [(account, email)])

    await ledger.write(unit)
    content.abort()
    return time.perf_counter() - began


async def _run(
    reactor: Any, directory: Path, options: argparse.Namespace
) -> tuple[float, float]:
    """@return: messages a second, processor seconds for 1,000."""
    ledger = Ledger(reactor, directory)
    await ledger.open()
    store = NativeStore(ledger)
    for id in range(1, options.accounts + 1):
        await ledger.write(partial(_add_account, store=store, id=id))
    waits: list[float] = []
    left = iter(range(options.messages))

    async def caller() -> None:
        for number in left:
            waits.append(await _accept(ledger, store, number % options.accounts + 1))

    began, cpu = time.perf_counter(), time.process_time()
    await gatherResults(
        [Deferred.fromCoroutine(caller()) for _ in range(options.callers)]
    )
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    waits.sort()
    print(
        f"wait {statistics.median(waits) * 1e3:.1f} ms, 99%"
        f" {waits[len(waits) * 99 // 100] * 1e3:.1f} ms, worst {waits[-1] * 1e3:.0f} ms"
    )
    await ledger.close()
    return options.messages / took, cpu / options.messages * 1000
