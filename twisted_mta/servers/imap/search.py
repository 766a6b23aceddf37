"""SEARCH (RFC 3501 6.4.4): the key tree against what is known of each message.

A test of a message says yes, no, or not known yet (L{program
<twisted_mta.servers.imap.program>}). Messages are tried on the view and on what
the mailbox's index says, if it has one, which decides most searches; those left
are tried again with their rows and headers, and what is then left with the text of
their bodies, one part in memory at a time. So content is read only where nothing
cheaper decides.

Deviation: a sequence number that no message has matches nothing, where RFC 3501
9 wants BAD, as Dovecot does; clients search C{1:*} in empty mailboxes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from twisted_mta import errors
from twisted_mta.interfaces import ISearchable
from twisted_mta.mail import text
from twisted_mta.mail.placement import Message, Part
from twisted_mta.mail.structure import Structure
from twisted_mta.servers.imap.client import Answer, Client, Selected
from twisted_mta.servers.imap.fetch import groups
from twisted_mta.servers.imap.program import Known, Program
from twisted_mta.servers.imap.section import Source
from twisted_mta.servers.imap.view import View
from twisted_mta.wire.imap import model, replies

# Tests between two turns of the others: a few milliseconds.
_TESTS = 5000

# Octets of a group whose headers, or whose bodies, are looked at.
_GROUP_HEADERS = 8 * 1024 * 1024
_GROUP_OCTETS = 512 * 1024

# So few messages are looked at (80 us each) sooner than an index is asked.
_FEW = 20

# Looking a UID up costs so many times what going past a message does, 0.05 us.
_SPARSE = 10

# Criteria that an index is asked at once, and UIDs that its answers may have in
# all, 70 octets each: what is asked beyond that is looked for.
_CRITERIA = 16
_ANSWERED_UIDS = 1_000_000


async def do_search(client: Client, command: model.Search) -> Answer:
    selected = client.opened()
    view = selected.view
    program = Program(command.key, view)
    matching: list[int] = []
    left: Sequence[int] = range(len(view))
    index = ISearchable(selected.mailbox, None) if program.criteria else None
    if program.narrow or index is None:
        matching, left = await _try_view(client, program, left)
    if index is not None:
        if len(left) > _FEW:
            await _ask(client, index, program)
        decided, left = await _try_view(client, program, _possible(program, view, left))
        matching += decided
    if left:
        matching += await _try_rows(client, selected, program, left)
    matching.sort()
    if command.uid:
        numbers = [view.uids[at] for at in matching]
    else:
        numbers = [at + 1 for at in matching]
    for place, piece in enumerate(replies.search(numbers)):
        if place:
            client.sending = True  # a line is under way
            await client.breathe()
        client.write(piece)
    client.sending = False
    return Answer("Search completed")


async def _ask(client: Client, index: ISearchable, program: Program) -> None:
    """Have the mailbox's index answer what it can."""
    criteria = list(program.criteria)
    room = _ANSWERED_UIDS
    for at in range(0, len(criteria), _CRITERIA):
        some = criteria[at : at + _CRITERIA]
        for criterion, found in zip(some, await index.find(some), strict=True):
            if found is not None:
                room -= len(found.sure) + len(found.unsure)
                program.answers[criterion] = found
        if room < 0:
            break
        await client.breathe()


def _possible(program: Program, view: View, left: Sequence[int]) -> Sequence[int]:
    """Those of the positions whose messages may match."""
    candidates = program.candidates()
    if candidates is None:
        return left
    if isinstance(left, range) and len(candidates) < len(left) // _SPARSE:
        return [
            at for uid in sorted(candidates) if (at := view.position(uid)) is not None
        ]
    uids = view.uids
    return [at for at in left if uids[at] in candidates]


async def _try_view(
    client: Client, program: Program, positions: Iterable[int]
) -> tuple[list[int], list[int]]:
    """Decide what the view and the index decide.

    @return: the positions that match, and those not decided.
    """
    matching: list[int] = []
    left: list[int] = []
    turn = max(1, _TESTS // program.size)
    for count, at in enumerate(positions, 1):
        answer = program.test(Known(at))
        if answer:
            matching.append(at)
        elif answer is None:
            left.append(at)
        if count % turn == 0:
            await client.breathe()
    return matching, left


async def _try_rows(
    client: Client, selected: Selected, program: Program, positions: Sequence[int]
) -> list[int]:
    """Decide with rows and headers, and where that is not enough, with bodies.
    Messages that are gone match nothing."""
    view = selected.view
    matching = []
    for number, group in enumerate(groups(view, positions, _GROUP_HEADERS)):
        if number:
            await client.breathe()
        left = []
        uids = [view.uids[at] for at in group]
        fetched = await selected.mailbox.fetch(uids, program.parts)
        rows = {row.uid: row for row in fetched}
        for at in group:
            known = Known(at)
            known.row = rows.get(view.uids[at])
            answer = known.row is not None and program.test(known)
            if answer is None:
                left.append(known)
            elif answer:
                matching.append(at)
        matching += await _try_bodies(client, selected, program, left)
    return matching


async def _try_bodies(
    client: Client, selected: Selected, program: Program, left: Sequence[Known]
) -> list[int]:
    view = selected.view
    by_position = {known.at: known for known in left}
    matching = []
    parts = frozenset({Part.SECTIONS, Part.OCTETS})
    for group in groups(view, list(by_position), _GROUP_OCTETS):
        uids = [view.uids[at] for at in group]
        for message in await selected.mailbox.fetch(uids, parts):
            at = view.position(message.uid)
            if at is None:
                continue
            known = by_position[at]
            source = Source(selected.mailbox, message)
            try:
                known.found = await _texts_found(client, source, message, program.texts)
            except errors.NoSuchMessage:
                continue
            if program.test(known):
                matching.append(at)
    return matching


async def _texts_found(
    client: Client, source: Source, message: Message, wanted: set[str]
) -> set[str]:
    """Which of some texts are in a message's body; a part in memory at a time.

    @raise NoSuchMessage: it is gone.
    """
    found: set[str] = set()
    texts = text.pull_texts(Structure.unpack(message.sections or b""))
    prefix = message.prefix
    step = next(texts, None)
    while step is not None and len(found) < len(wanted):
        if isinstance(step, str):
            found |= {each for each in wanted - found if each in step}
            await client.breathe()
            step = next(texts, None)
            continue
        octets = await source.read(step[0] + prefix, step[1] + prefix)
        try:
            step = texts.send(octets)
        except StopIteration:
            break
    return found


COMMANDS: dict[str, Callable[..., Awaitable[Answer | None]]] = {
    "SEARCH": do_search,
    "UID SEARCH": do_search,
}
