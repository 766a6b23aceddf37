"""Searches in one large mailbox: what an index costs, and what it gives.

Messages of 4 KB, whose words are as frequent as those of a language, go into one
mailbox. They are searched over a real IMAP connection, without an index and with
one, for what few, some and all of them have. The answers have to be the same."""

import argparse
import random
import socket
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.internet.defer import ensureDeferred
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from twisted_mta.interfaces import IAuthenticator, ITransaction
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address
from twisted_mta.mail.summary import Email, summarize
from twisted_mta.net.stream import Stream
from twisted_mta.servers.imap.client import ImapSettings
from twisted_mta.servers.imap.session import ImapSession
from twisted_mta.store.native import NativeStore
from twisted_mta.store.search_index import SearchIndex
from twisted_mta.store.search_indexer import Indexer
from twisted_mta.wire.imap.engine import ImapServerEngine

ALICE = Account(1, Address("alice", "example.test"))
PREFIX = b"Return-Path: <a@example.test>\r\nReceived: from a by b; now\r\n"
WORDS = 50_000
AT_ONCE = 200

# In how many of 100,000 messages a needle is put.
NEEDLES = {"hapax": 10, "seldom": 1000, "everywhere": 100_000}

SEARCHES = (
    *(f"{key} {word}" for key in ("TEXT", "BODY", "SUBJECT") for word in NEEDLES),
    "TEXT apa",
    'TEXT "hapax legomenon"',
    "FROM sender77@",
    "TO alice",
    "HEADER Message-ID <77@example.test>",
    "SINCE 1-Jan-2024 BEFORE 2-Jan-2024",
    "SENTSINCE 1-Jan-2024 SENTBEFORE 2-Jan-2024",
    "SINCE 1-Jan-2023",
    "UNSEEN",
    "LARGER 5000",
    "UID 500:600 TEXT hapax",
    "NOT TEXT everywhere",
    "OR SUBJECT hapax BODY hapax",
    "TEXT xq",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--scan", action="store_true", help="without the index, too")
    parser.add_argument("--directory", help="on the disk to be measured")
    parser.add_argument("--keep", help="where mailbox and index are made, once")


def run(options: argparse.Namespace) -> None:
    """Measure, and print a line for each search."""
    if options.keep:
        _react(Path(options.keep), options)
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        _react(Path(directory), options)


def _react(directory: Path, options: argparse.Namespace) -> None:
    try:
        task.react(
            lambda reactor: ensureDeferred(_run(reactor, directory, options)), ()
        )
    except SystemExit as ended:
        if ended.code:
            raise


def letters(count: int) -> Iterator[bytes]:
    """The same messages each time."""
    chance = random.Random(1)
    consonants, vowels = "bcdfghklmnprstvw", "aeiou"
    syllables = [a + b + c for a in consonants for b in vowels for c in ("", *"nrstl")]
    words = [
        "".join(chance.choices(syllables, k=chance.choice((1, 2, 2, 3, 3, 4))))
        for _ in range(WORDS)
    ]
    # Zipf and Mandelbrot: the word of rank n is 1 / (n + 2.7) times as frequent.
    weights = list(accumulate(1 / (rank + 2.7) for rank in range(WORDS)))
    for number in range(count):
        body = chance.choices(words, cum_weights=weights, k=600)
        subject = chance.choices(words, cum_weights=weights, k=5)
        for at, (needle, often) in enumerate(NEEDLES.items()):
            if number % (100_000 // often) == 0:
                body[77 + at] = needle + " legomenon"
                subject[at] = needle
        lines = [" ".join(body[at : at + 12]) for at in range(0, 600, 12)]
        day = number * 3 % 28 + 1
        yield (
            f"From: Sender {number % 500} <sender{number % 500}@example.test>\r\n"
            f"To: alice@example.test\r\nSubject: {' '.join(subject)}\r\n"
            f"Date: Mon, {day} Jan 2024 12:00:00 +0000\r\n"
            f"Message-ID: <{number}@example.test>\r\n"
            f"X-Trace: {chance.getrandbits(64):x} {chance.getrandbits(64):x}\r\n\r\n"
            + "\r\n".join(lines)
        ).encode()


def _add_account(transaction: ITransaction, store: NativeStore) -> None:
    transaction.execute(
        "INSERT INTO account (id, address, address_key, password, created_at, modseq)"
        " VALUES (1, 'alice@example.test', 'alice@example.test', '', 0, 0)"
    )
    store.provision(transaction, 1)


async def _fill(ledger: Ledger, store: NativeStore, count: int) -> None:
    await ledger.write(partial(_add_account, store=store))
    source = letters(count)
    number = 0
    while some := list(islice(source, AT_ONCE)):
        contents = []
        for octets in some:
            content = ledger.content()
            content.write(octets)
            await content.finish()
            contents.append(content)

        def unit(
            transaction: ITransaction, contents: Any = contents, number: int = number
        ) -> None:
            emails = []
            for at, content in enumerate(contents, number):
                summary = summarize(PREFIX, content.header(), content.structure())
                received_at = 1_704_067_200 + at * 3 % 28 * 86_400
                size = len(PREFIX) + content.size
                taken = content.take(transaction)
                email = Email(taken, PREFIX, size, received_at, summary)
                emails.append((ALICE.id, email))
            store.deliver(transaction, emails)

        await ledger.write(unit)
        for content in contents:
            content.abort()
        number += len(some)


@implementer(IAuthenticator)
class _Anybody:
    async def authenticate(self, name: str, password: str, host: str) -> Account:
        return ALICE


def _client(port: int, searches: tuple[str, ...]) -> list[tuple[float, float, bytes]]:
    """In a thread: each search twice.

    @return: seconds of both, and the answer.
    """
    results = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        lines = connection.makefile("rwb")
        lines.readline()

        def ask(command: str) -> tuple[float, bytes]:
            began = time.perf_counter()
            lines.write(b"a %b\r\n" % command.encode())
            lines.flush()
            answer = b""
            while not (line := lines.readline()).startswith(b"a "):
                answer = line if line.startswith(b"* SEARCH") else answer
            if not line.startswith(b"a OK"):
                raise RuntimeError(f"{command}: {line!r}")
            return time.perf_counter() - began, answer

        ask("LOGIN alice secret")
        ask("EXAMINE INBOX")
        for search in searches:
            first, answer = ask(f"SEARCH {search}")
            again, same = ask(f"SEARCH {search}")
            if answer != same:
                raise RuntimeError(f"{search}: the second answer differs")
            results.append((first, again, answer))
    return results


async def _searched(reactor: Any, store: NativeStore) -> list[Any]:
    def session(stream: Stream) -> Any:
        settings = ImapSettings("mx.example.test", True)
        return ImapSession(reactor, stream, settings, _Anybody(), store, None).run()

    factory = Factory.forProtocol(
        lambda: Stream(reactor, ImapServerEngine(), session, "imap")
    )
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    results = await deferToThread(_client, port.getHost().port, SEARCHES)
    await port.stopListening()
    return list(results)


async def _run(reactor: Any, directory: Path, options: argparse.Namespace) -> None:
    filled = (directory / "ledger.sqlite3").exists()
    ledger = Ledger(reactor, directory)
    await ledger.open()
    if not filled:
        await _fill(ledger, NativeStore(ledger), options.messages)
    scanned = await _searched(reactor, NativeStore(ledger)) if options.scan else []
    indexer = Indexer(reactor, ledger, directory / "search", rest=0)
    indexer.begin()
    began, cpu = time.perf_counter(), time.process_time()
    await indexer.round()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    (size,) = [each.stat().st_size for each in (directory / "search").glob("*3")]
    print(
        f"indexed: {took / options.messages * 1e6:.0f} us a message"
        f" ({cpu / options.messages * 1e6:.0f} of CPU), {size / options.messages:.0f}"
        " octets"
    )
    index = SearchIndex(reactor, directory / "search")
    indexed = await _searched(reactor, NativeStore(ledger, index))
    for at, search in enumerate(SEARCHES):
        first, again, answer = indexed[at]
        line = f"{search:45} {len(answer.split()) - 2:6} {first * 1e3:9.1f} ms"
        line += f" {again * 1e3:8.1f} ms"
        if options.scan:
            before, _, same = scanned[at]
            line += f"   scanning {before * 1e3:9.1f} ms"
            line += "" if same == answer else "   ANOTHER ANSWER"
        print(line)
    await index.close()
    await indexer.stop()
    await ledger.close()
