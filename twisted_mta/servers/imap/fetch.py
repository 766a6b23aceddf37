"""FETCH (RFC 3501 6.4.5): ready octets are joined, content is cut or streamed.

UID, FLAGS and RFC822.SIZE come from the view, ENVELOPE and BODYSTRUCTURE from
rows as they were stored, sections from the octets. Messages are fetched in
groups bounded by count and by octets, and between groups others have their
turn and the client has read; content that the store keeps in files passes
through in runs. So memory stays flat whatever is asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from twisted_mta import errors
from twisted_mta.mail.flag import SEEN
from twisted_mta.mail.placement import FlagChange, Message, Part
from twisted_mta.servers.imap.client import Answer, Client, Selected
from twisted_mta.servers.imap.section import RUN_OCTETS, Source, Span, parts_of
from twisted_mta.servers.imap.view import View
from twisted_mta.wire.imap import replies

if TYPE_CHECKING:
    from twisted_mta.wire.imap.model import Fetch, FetchItem

# Messages of a group: a few milliseconds of work.
_GROUP = 200

# Octets of a group when content is wanted, whatever its last message has.
_GROUP_OCTETS = 512 * 1024

# The same when headers are: most of a message is not its header.
_GROUP_HEADERS = 8 * 1024 * 1024

_SEEN = frozenset({SEEN})

_FromView: TypeAlias = Callable[[View, int], bytes]
_FromRow: TypeAlias = Callable[[Message], bytes]

_FROM_VIEW: dict[str, _FromView] = {
    "UID": lambda view, at: replies.uid_item(view.uids[at]),
    "FLAGS": lambda view, at: replies.flags_item(view.flags_of(at)),
    "RFC822.SIZE": lambda view, at: replies.size_item(view.sizes[at]),
}
_FROM_ROW: dict[str, _FromRow] = {
    "INTERNALDATE": lambda row: replies.internaldate_item(row.received_at),
    "ENVELOPE": lambda row: b"ENVELOPE " + (row.envelope or b"NIL"),
    "BODYSTRUCTURE": lambda row: b"BODYSTRUCTURE " + (row.bodystructure or b"NIL"),
    "BODY": lambda row: b"BODY " + (row.body or b"NIL"),
}
_PARTS = {
    "ENVELOPE": Part.ENVELOPE,
    "BODYSTRUCTURE": Part.STRUCTURE,
    "BODY": Part.STRUCTURE,
}


class _Plan:
    """What a FETCH needs, found out once for all its messages.

    @ivar rows: the store must be asked.
    @ivar parts: what for.
    @ivar sees: reading sets \\Seen.
    """

    __slots__ = ("flags", "group_octets", "items", "parts", "rows", "sees")

    def __init__(self, items: Sequence[FetchItem]) -> None:
        self.items = items
        self.rows = any(item.name not in _FROM_VIEW for item in items)
        self.flags = any(item.name == "FLAGS" for item in items)
        self.sees = any(item.section and not item.section.peek for item in items)
        parts: set[Part] = set()
        for item in items:
            if item.name in _PARTS:
                parts.add(_PARTS[item.name])
            elif item.section is not None:
                parts |= parts_of(item.section)
        self.parts = frozenset(parts)
        self.group_octets = _GROUP_OCTETS if Part.OCTETS in parts else _GROUP_HEADERS


def groups(
    view: View, positions: Sequence[int], most_octets: int
) -> Iterator[Sequence[int]]:
    """Positions in groups of at most L{_GROUP}, and of so many octets unless
    one message alone has more."""
    group: list[int] = []
    octets = 0
    for at in positions:
        if group and (len(group) == _GROUP or octets + view.sizes[at] > most_octets):
            yield group
            group, octets = [], 0
        group.append(at)
        octets += view.sizes[at]
    if group:
        yield group


async def do_fetch(client: Client, command: Fetch) -> Answer:
    selected = client.opened()
    view = selected.view
    positions = client.positions(command.numbers, command.uid)
    plan = _Plan(command.items)
    missing = False
    for number, group in enumerate(groups(view, positions, plan.group_octets)):
        if number:
            await client.breathe()
        seen = await _set_seen(selected, group) if plan.sees else frozenset()
        rows: dict[int, Message] = {}
        if plan.rows:
            uids = [view.uids[at] for at in group]
            fetched = await selected.mailbox.fetch(uids, plan.parts)
            rows = {row.uid: row for row in fetched}
        for at in group:
            row = rows.get(view.uids[at])
            if plan.rows and row is None:
                missing = True
                continue
            with_flags = at in seen and not plan.flags
            if not await _answer(client, selected, plan, at, row, with_flags):
                missing = True
    if missing and not command.uid:
        return Answer("Some of the messages no longer exist", b"EXPUNGEISSUED", b"NO")
    return Answer("Fetch completed")


async def _set_seen(selected: Selected, positions: Sequence[int]) -> frozenset[int]:
    """Set \\Seen where it is not set.

    @return: the positions that it is new to.
    """
    view = selected.view
    unseen = [at for at in positions if SEEN not in view.flags[at]]
    if selected.read_only or not unseen:
        return frozenset()
    uids = [view.uids[at] for at in unseen]
    await selected.mailbox.store(uids, FlagChange.ADD, _SEEN)
    await selected.refresh()
    return frozenset(at for at in unseen if SEEN in view.flags[at])


async def _answer(
    client: Client,
    selected: Selected,
    plan: _Plan,
    at: int,
    row: Message | None,
    with_flags: bool,
) -> bool:
    """Send one message's FETCH response.

    @param row: C{None} if the plan needs none.
    @return: whether the message was still there.
    """
    view = selected.view
    source = None if row is None else Source(selected.mailbox, row)
    items: list[bytes | tuple[FetchItem, Span]] = []
    try:
        for item in plan.items:
            items.append(await _item(view, at, row, source, item))
        if source is not None and not all(isinstance(item, bytes) for item in items):
            await source.prepare()
    except errors.NoSuchMessage:
        return False
    if with_flags:
        items.append(_FROM_VIEW["FLAGS"](view, at))
    if with_flags or plan.flags:
        view.mentioned(at)
    ready = [item for item in items if isinstance(item, bytes)]
    if len(ready) == len(items):
        client.write(replies.fetch(at + 1, ready))
    elif source is not None:
        await _stream(client, source, at + 1, items)
    return True


async def _item(
    view: View, at: int, row: Message | None, source: Source | None, item: FetchItem
) -> bytes | tuple[FetchItem, Span]:
    """An item ready for the wire, or where its many octets are."""
    if row is None or source is None or item.name in _FROM_VIEW:
        return _FROM_VIEW[item.name](view, at)
    if item.section is None:
        return _FROM_ROW[item.name](row)
    found = await source.find(item.section)
    if isinstance(found, Span):
        if found.end - found.start > RUN_OCTETS and row.octets is None:
            return item, found
        found = await source.read(*found)
    return replies.item(item.label, None if found is None else _sendable(found))


async def _stream(
    client: Client,
    source: Source,
    number: int,
    items: Sequence[bytes | tuple[FetchItem, Span]],
) -> None:
    """Send a FETCH response whose content is not in memory. If that fails in
    between, the session cuts the connection."""
    client.sending = True
    client.write(replies.fetch_start(number))
    for place, item in enumerate(items):
        if place:
            client.write(b" ")
        if isinstance(item, bytes):
            client.write(item)
            continue
        fetched, (start, end) = item
        client.write(replies.literal_start(fetched.label, end - start))
        while start < end:
            octets = await source.read(start, min(end, start + RUN_OCTETS))
            client.write(_sendable(octets))
            start += len(octets)
            await client.breathe()
    client.write(replies.FETCH_END)
    client.sending = False


def _sendable(octets: bytes) -> bytes:
    """NUL cannot be in a literal (RFC 3501 9, CHAR8): 0x80 as Dovecot has it."""
    return octets.replace(b"\0", b"\x80") if b"\0" in octets else octets


COMMANDS: dict[str, Callable[..., Awaitable[Answer | None]]] = {
    "FETCH": do_fetch,
    "UID FETCH": do_fetch,
}
