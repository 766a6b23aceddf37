"""C{twisted-mta queue}: mail that waits for elsewhere."""

import argparse
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

from twisted_mta.cli import table
from twisted_mta.cli.server import with_office
from twisted_mta.errors import NoSuchQueueId
from twisted_mta.mail.job import Waiting
from twisted_mta.office import Office


def list_(options: argparse.Namespace) -> int:
    """One line per waiting recipient."""

    async def work(office: Office) -> Sequence[Waiting]:
        return await office.queue.waiting()

    found = with_office(options, work)
    if options.json:
        table.show([asdict(one) for one in found], True, "")
    else:
        table.show([_brief(one) for one in found], False, "The queue is empty.")
    return 0


def show(options: argparse.Namespace) -> int:
    """All about one message."""

    async def work(office: Office) -> Sequence[Waiting]:
        return await office.queue.waiting(options.id)

    found = with_office(options, work)
    if not found:
        raise NoSuchQueueId(f"No message {options.id} is in the queue")
    if options.json:
        table.show([asdict(one) for one in found], True, "")
        return 0
    first = found[0]
    print(f"{first.id}  {table.size(first.size)} from <{first.sender}>")
    print(f"  queued {table.when(first.queued_at)}")
    for one in found:
        print(f"  to <{one.recipient}> by {one.agent} to {one.next_hop or '-'}")
        print(f"    {one.state}, {one.attempts} attempts{_next(one)}")
        if one.diagnostic:
            print(f"    last: {one.diagnostic}")
    return 0


def _brief(one: Waiting) -> dict[str, Any]:
    return {
        "id": one.id,
        "queued": table.when(one.queued_at),
        "size": table.size(one.size),
        "state": one.state,
        "tries": one.attempts,
        "sender": f"<{one.sender}>",
        "recipient": f"<{one.recipient}>",
        "last reply": one.diagnostic,
    }


def _next(one: Waiting) -> str:
    return f", next {table.when(one.due)}" if one.state == "waiting" else ""


_Change = Callable[[Any, Sequence[str]], Awaitable[int]]


def _change(options: argparse.Namespace, change: _Change, done: str) -> int:
    async def work(office: Office) -> int:
        return await change(office.queue, options.ids)

    count = with_office(options, work)
    print(f"{count} message{'' if count == 1 else 's'} {done}")
    return 0


def flush(options: argparse.Namespace) -> int:
    """Try messages now."""
    return _change(
        options, lambda queue, ids: queue.flush(ids or None), "will be tried now"
    )


def hold(options: argparse.Namespace) -> int:
    """Make no attempts until released."""
    return _change(options, lambda queue, ids: queue.hold(ids), "held")


def release(options: argparse.Namespace) -> int:
    """End a hold."""
    return _change(options, lambda queue, ids: queue.release(ids), "released")


def remove(options: argparse.Namespace) -> int:
    """Remove messages without telling anyone."""
    return _change(options, lambda queue, ids: queue.remove(ids), "removed")
