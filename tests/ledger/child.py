"""A process that works on a ledger, to be killed, starved and failed.

C{python -m tests.ledger.child DIRECTORY WORK} opens the ledger with one account
and prints a line for each thing that is settled, at once. What it said is what
a client would have been told.
"""

import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults

from twisted_mta.errors import MailError
from twisted_mta.interfaces import ITransaction
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address
from twisted_mta.store.native import NativeStore
from twisted_mta.store.native_account import NativeAccount

ALICE = Account(1, Address("alice", "example.test"))

LARGE = 200_000
"""Octets of a message that has a file of its own."""


def say(*words: object) -> None:
    """One line, in the reader's hands when this returns."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def ensure_account(transaction: ITransaction) -> None:
    """A row as the directory makes it, unless it is there."""
    transaction.execute(
        "INSERT INTO account (id, address, address_key, password, created_at, modseq)"
        " VALUES (?, ?, ?, '', 0, 0) ON CONFLICT DO NOTHING",
        (ALICE.id, str(ALICE.address), ALICE.address.key),
    )


async def append(account: NativeAccount, token: str, size: int = 1_000) -> bool:
    """Put a message with a token into INBOX, and say what became of it.

    @return: whether it is there.
    """
    content = account.content()
    try:
        content.write(f"Subject: {token}\r\n\r\n".encode() + b"x" * size)
        await content.finish()
        put = await account.append("INBOX", content, frozenset(), 0.0)
        say("stored", token, put.uid)
        return True
    except MailError as error:
        say(type(error).__name__, token)
        return False
    finally:
        content.abort()


async def for_ever(account: NativeAccount) -> None:
    """Five callers append, small and large, until the process is killed."""

    async def caller(number: int) -> None:
        turn = 0
        while True:
            turn += 1
            size = LARGE if (turn + number) % 4 == 0 else 1_000
            await append(account, f"{os.getpid()}-{number}-{turn}", size)

    await gatherResults([Deferred.fromCoroutine(caller(n)) for n in range(5)])


async def forty(account: NativeAccount) -> None:
    """Forty messages, one after the other."""
    for turn in range(40):
        await append(account, f"small-{turn}")


async def until_told_no(account: NativeAccount) -> None:
    """Messages until one is refused; then the process is killed at once."""
    turn = 0
    while await append(account, f"small-{turn}"):
        turn += 1
    os.kill(os.getpid(), signal.SIGKILL)


async def twenty_large(account: NativeAccount) -> None:
    """Twenty messages that have files, one after the other."""
    for turn in range(20):
        await append(account, f"large-{turn}", LARGE)


async def twelve(account: NativeAccount) -> None:
    """Twelve messages, every other of which has a file."""
    for turn in range(12):
        await append(account, f"mixed-{turn}", LARGE if turn % 2 else 1_000)


async def huge(account: NativeAccount) -> None:
    """200 MB in and out, and how much memory that took, in KB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    content = account.content()
    content.write(b"Subject: huge\r\n\r\n")
    line = b"0123456789abcde\r\n" * 4096
    while content.size < 200 << 20:
        content.write(line)
    await content.finish()
    put = await account.append("INBOX", content, frozenset(), 0.0)
    content.abort()
    mailbox = await account.open("INBOX")
    _, stored = await mailbox.content(put.uid)
    offset = 0
    while octets := await stored.read(offset, 256 << 10):
        offset += len(octets)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    say("octets", stored.size, offset, "grown", after - before)


WORK: dict[str, Callable[[NativeAccount], Awaitable[None]]] = {
    work.__name__: work
    for work in (for_ever, forty, until_told_no, twenty_large, twelve, huge)
}


async def main(reactor: Any) -> None:
    """Open, work, close."""
    ledger = Ledger(reactor, Path(sys.argv[1]))
    await ledger.open()
    await ledger.write(ensure_account)
    say("open")
    await WORK[sys.argv[2]](await NativeStore(ledger).account(ALICE))
    say("done", *await ledger.problems())
    await ledger.close()


if __name__ == "__main__":
    task.react(lambda reactor: ensureDeferred(main(reactor)))
