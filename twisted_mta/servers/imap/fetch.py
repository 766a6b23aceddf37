"""FETCH (RFC 3501 6.4.5): ready octets are joined, content is cut or streamed.

What is asked is made a plan (L{plan <twisted_mta.servers.imap.plan>}), and the
messages are fetched in groups bounded by count and by octets. Between groups
others have their turn, the client has read, and what happened in the mailbox
meanwhile is brought into the view. Content that the store keeps in files passes
through in runs. So memory stays flat whatever is asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from twisted_mta import errors
from twisted_mta.mail.flag import SEEN
from twisted_mta.mail.placement import FlagChange, Message
from twisted_mta.servers.imap.client import Answer, Client, Selected
from twisted_mta.servers.imap.plan import Plan, planned, sendable
from twisted_mta.servers.imap.section import RUN_OCTETS, Source, Span
from twisted_mta.servers.imap.view import View
from twisted_mta.wire.imap import replies

if TYPE_CHECKING:
    from twisted_mta.wire.imap.model import Fetch, FetchItem

# Messages of a group: a millisecond or two of work, if the view knows what is
# asked, if rows do, and at most if content is wanted.
_GROUP_VIEW = 2000
_GROUP_ROWS = 500

# Octets of a group when content is wanted, whatever its last message has.
_GROUP_OCTETS = 512 * 1024

_SEEN = frozenset({SEEN})


def groups(
    view: View, positions: Sequence[int], most_octets: int
) -> Iterator[Sequence[int]]:
    """Positions in groups bounded by count, and by octets unless one message
    alone has more."""
    start = octets = 0
    for place, size in enumerate(view.sizes_at(positions)):
        octets += size
        if place > start and (octets > most_octets or place - start == _GROUP_ROWS):
            yield positions[start:place]
            start, octets = place, size
    if start < len(positions):
        yield positions[start:]


def _planned_groups(
    view: View, positions: Sequence[int], plan: Plan
) -> Iterator[Sequence[int]]:
    if plan.octets:
        yield from groups(view, positions, _GROUP_OCTETS)
        return
    most = _GROUP_VIEW if plan.parts is None else _GROUP_ROWS
    for start in range(0, len(positions), most):
        yield positions[start : start + most]


async def do_fetch(client: Client, command: Fetch) -> Answer:
    selected = client.opened()
    positions = client.positions(command.numbers, command.uid)
    plan = planned(command.items)
    missing = False
    for number, group in enumerate(_planned_groups(selected.view, positions, plan)):
        if number:
            await client.breathe()
            await client.look()
        seen: Collection[int] = ()
        if plan.sees:
            seen = await _set_seen(selected, group)
            if plan.tells_flags:
                seen = ()  # they are told in any case
        if plan.parts is None:
            _write(client, plan, group, (), seen)
        elif not await _group(client, selected, plan, group, seen):
            missing = True
    if missing and not command.uid:
        return Answer("Some of the messages no longer exist", b"EXPUNGEISSUED", b"NO")
    return Answer("Fetch completed")


async def _set_seen(selected: Selected, positions: Sequence[int]) -> frozenset[int]:
    """Set \\Seen where it is not set, if it can be kept: on a disk that is full
    mail is read all the same.

    @return: the positions that it is new to.
    """
    view = selected.view
    unseen = [at for at in positions if SEEN not in view.flags[at]]
    if selected.read_only or not unseen:
        return frozenset()
    uids = [view.uids[at] for at in unseen]
    try:
        await selected.mailbox.store(uids, FlagChange.ADD, _SEEN)
        await selected.refresh()
    except errors.Temporary:
        return frozenset()
    return frozenset(at for at in unseen if SEEN in view.flags[at])


async def _group(
    client: Client,
    selected: Selected,
    plan: Plan,
    positions: Sequence[int],
    seen: Collection[int],
) -> bool:
    """Answer with a group of messages.

    @return: whether all of them were still there.
    """
    view, mailbox, what = selected.view, selected.mailbox, plan.what
    uids = view.uids_at(positions)
    pieces: Sequence[bytes | None] = (None,) * len(uids)
    if what:
        pieces = client.memo.recall(mailbox.id, what, uids)
    gone = {view.uids[at] for at in view.gone(positions)}
    rows: dict[int, Message] = {}
    lacking = [uid for uid, piece in zip(uids, pieces, strict=True) if piece is None]
    if lacking and plan.parts is not None:
        rows = {row.uid: row for row in await mailbox.fetch(lacking, plan.parts)}
    whole = True
    rendered: list[tuple[int, bytes]] = []
    passed: list[int] = []
    ready: list[bytes] = []
    for at, uid, piece in zip(positions, uids, pieces, strict=True):
        if piece is None and uid in rows:
            piece = plan.render(rows[uid])
            if piece is None:
                _write(client, plan, passed, ready, seen)
                passed, ready = [], []
                if not await _stream(client, selected, plan, at, rows[uid], seen):
                    whole = False
                continue
            rendered.append((uid, piece))
        if piece is None or uid in gone:
            whole = False
        else:
            passed.append(at)
            ready.append(piece)
    if what:
        client.memo.remember(mailbox.id, what, rendered)
    # All of them: perhaps a range, which the view is faster with.
    told = positions if len(ready) == len(positions) else passed
    _write(client, plan, told, ready, seen)
    return whole


def _write(
    client: Client,
    plan: Plan,
    positions: Sequence[int],
    pieces: Sequence[bytes],
    seen: Collection[int],
) -> None:
    """Answer with messages that are ready."""
    view = client.opened().view
    if positions:
        client.write(b"".join(plan.responses(view, positions, pieces, seen)))
    if plan.tells_flags:
        view.mentioned(positions)
    elif seen:
        view.mentioned([at for at in positions if at in seen])


async def _stream(
    client: Client,
    selected: Selected,
    plan: Plan,
    at: int,
    row: Message,
    seen: Collection[int],
) -> bool:
    """Answer with a message whose octets are not in memory. If that fails in
    between, the session cuts the connection.

    @return: whether the message was still there.
    """
    view = selected.view
    source = Source(selected.mailbox, row)
    items: list[bytes | tuple[bytes, Span]] = []
    try:
        for item, octets in plan.items_of(view, at, row):
            items.append(await _section(source, item) if octets is None else octets)
        await source.prepare()
    except errors.NoSuchMessage:
        return False
    if at in seen and not plan.tells_flags:
        items.append(replies.flags_item(view.flags_of(at)))
    if at in seen or plan.tells_flags:
        view.mentioned([at])
    client.sending = True
    client.write(replies.fetch_start(at + 1))
    for place, ready in enumerate(items):
        if place:
            client.write(b" ")
        if isinstance(ready, bytes):
            client.write(ready)
            continue
        label, (start, end) = ready
        client.write(replies.literal_start(label, end - start))
        while start < end:
            octets = await source.read(start, min(end, start + RUN_OCTETS))
            client.write(sendable(octets))
            start += len(octets)
            await client.breathe()
    client.write(replies.FETCH_END)
    client.sending = False
    return True


async def _section(source: Source, item: FetchItem) -> bytes | tuple[bytes, Span]:
    """A section ready for the wire, or its label and where its many octets are."""
    if item.section is None:
        return replies.item(item.label, None)
    found = await source.find(item.section)
    if isinstance(found, Span):
        if found.end - found.start > RUN_OCTETS:
            return item.label, found
        found = await source.read(*found)
    return replies.item(item.label, None if found is None else sendable(found))


COMMANDS: dict[str, Callable[..., Awaitable[Answer | None]]] = {
    "FETCH": do_fetch,
    "UID FETCH": do_fetch,
}
