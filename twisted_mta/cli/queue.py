"""C{twisted-mta queue}: mail that waits for elsewhere."""

import argparse
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

from twisted_mta.cli import table
from twisted_mta.cli.server import with_office
from twisted_mta.errors import NoSuchQueueId
from twisted_mta.mail.job import Waiting
from twisted_mta.mail.route import RELEASE
from twisted_mta.office import Office

# The agent and state of what its sender has held until a time (FUTURERELEASE).
_FOR_LATER = (RELEASE, "waiting")


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

# The rows of each message that was named.
_Named = dict[str, Sequence[Waiting]]


def _change(
    options: argparse.Namespace, change: _Change, done: str
) -> tuple[_Named, _Named]:
    """Do something to the messages named, and say to how many.

    @return: what they were like before, and are now.
    """

    async def work(office: Office) -> tuple[int, _Named, _Named]:
        before = await _named(office, options.ids)
        count = await change(office.queue, options.ids)
        return count, before, await _named(office, options.ids)

    count, before, after = with_office(options, work)
    print(f"{count} message{'' if count == 1 else 's'} {done}")
    return before, after


async def _named(office: Office, ids: Sequence[str]) -> _Named:
    """Those that are there; whatever is done to the others says that they are not."""
    return {id: rows for id in ids if (rows := await office.queue.waiting(id))}


def flush(options: argparse.Namespace) -> int:
    """Try messages now, also those that are named and wait for a time that their
    sender chose. What an operator holds stays where it is."""
    _, after = _change(
        options, lambda queue, ids: queue.flush(ids or None), "will be tried now"
    )
    for id, rows in after.items():
        held = sum(one.state == "held" for one in rows)
        if held:
            print(
                f"{id}: {held} of {len(rows)} recipients held;"
                f" to let them go: twisted-mta queue release {id}"
            )
    return 0


def hold(options: argparse.Namespace) -> int:
    """Make no attempts until released."""
    _change(options, lambda queue, ids: queue.hold(ids), "held")
    return 0


def release(options: argparse.Namespace) -> int:
    """End a hold; what its sender has held waits for its time again."""
    before, after = _change(options, lambda queue, ids: queue.release(ids), "released")
    for id, rows in after.items():
        times = [row.due for row in rows if (row.agent, row.state) == _FOR_LATER]
        if times:
            print(
                f"{id} waits until {table.when(max(times))}, as its sender asked;"
                f" to send it now: twisted-mta queue flush {id}"
            )
        elif not any(row.state == "held" for row in before[id]):
            print(f"{id} was not held")
    return 0


def remove(options: argparse.Namespace) -> int:
    """Remove messages without telling anyone."""
    _change(options, lambda queue, ids: queue.remove(ids), "removed")
    return 0
