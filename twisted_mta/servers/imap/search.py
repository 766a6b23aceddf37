"""SEARCH (RFC 3501 6.4.4): the key tree against what is known of each message.

A test of a message says yes, no, or not known yet. All messages are tried on the
view first, which decides most searches; those left are tried again with their
rows and headers, and what is then left with the text of their bodies, one part
in memory at a time. So content is read only where nothing cheaper decides. It
trusts the engine to have bounded the tree's depth and size.

Deviation: a sequence number that no message has matches nothing, where RFC 3501
9 wants BAD, as Dovecot does; clients search C{1:*} in empty mailboxes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import date as Date
from typing import Any, TypeAlias

from twisted_mta import errors
from twisted_mta.mail import date, header, text
from twisted_mta.mail.flag import RECENT
from twisted_mta.mail.placement import Message, Part
from twisted_mta.mail.structure import Structure
from twisted_mta.servers.imap.client import Answer, Client, Selected
from twisted_mta.servers.imap.fetch import groups
from twisted_mta.servers.imap.section import Source
from twisted_mta.servers.imap.view import View
from twisted_mta.wire.imap import model, replies

# Tests between two turns of the others: a few milliseconds.
_TESTS = 5000

# Octets of a group whose headers, or whose bodies, are looked at.
_GROUP_HEADERS = 8 * 1024 * 1024
_GROUP_OCTETS = 512 * 1024


class _Known:
    """What is known of the message that is being tried.

    @ivar at: its position in the view.
    @ivar row: its row, once fetched, with the header if the search needs it.
    @ivar found: of the texts searched for in bodies, those that are in its.
    """

    __slots__ = ("at", "found", "row")

    def __init__(self, at: int) -> None:
        self.at = at
        self.row: Message | None = None
        self.found: set[str] | None = None


_Test: TypeAlias = Callable[[_Known], bool | None]


class _Program:
    """A key tree, made into one test.

    @ivar test: the test.
    @ivar size: how many keys.
    @ivar headers: some need the header.
    @ivar texts: folded, what is looked for in bodies.
    """

    def __init__(self, key: model.SearchKey, view: View) -> None:
        self._view = view
        self.size = 0
        self.headers = False
        self.texts: set[str] = set()
        self.test = self._compile(key)

    @property
    def parts(self) -> frozenset[Part]:
        """What rows must bring along."""
        return frozenset({Part.HEADER}) if self.headers else frozenset()

    def _compile(self, key: model.SearchKey) -> _Test:
        self.size += 1
        return _COMPILERS[type(key)](self, key)

    def _everything(self, key: model.Everything) -> _Test:
        return lambda known: True

    def _in_set(self, key: model.InSet) -> _Test:
        view = self._view
        if key.uid:
            uids = key.numbers.resolve(view.uids[-1] if view.uids else 0)
            return lambda known: view.uids[known.at] in uids
        numbers = key.numbers.resolve(len(view))
        return lambda known: known.at + 1 in numbers

    def _has_flag(self, key: model.HasFlag) -> _Test:
        view, flag = self._view, key.flag
        if flag == RECENT:
            return lambda known: view.is_recent(known.at)
        return lambda known: flag in view.flags[known.at]

    def _larger(self, key: model.LargerThan) -> _Test:
        view, octets = self._view, key.octets
        return lambda known: view.sizes[known.at] > octets

    def _smaller(self, key: model.SmallerThan) -> _Test:
        view, octets = self._view, key.octets
        return lambda known: view.sizes[known.at] < octets

    def _on_day(self, key: model.OnDay) -> _Test:
        compare, day = _COMPARE[key.relation], key.day
        if key.field == "internal":

            def received(known: _Known) -> bool | None:
                if known.row is None:
                    return None
                return compare(_received_day(known.row), day)

            return received
        self.headers = True

        def sent(known: _Known) -> bool | None:
            if known.row is None:
                return None
            said = date.parse(header.first(known.row.header or b"", b"date") or b"")
            return said is not None and compare(said.day, day)

        return sent

    def _in_header(self, key: model.HeaderContains) -> _Test:
        self.headers = True
        name, wanted = key.field.encode("utf-8"), text.fold(key.text)

        def contains(known: _Known) -> bool | None:
            if known.row is None:
                return None
            block = known.row.header or b""
            if not wanted:
                return text.has_field(block, name)
            return wanted in text.header_text(block, name)

        return contains

    def _in_body(self, key: model.BodyContains) -> _Test:
        wanted = text.fold(key.text)
        if not wanted:
            return lambda known: True
        self.texts.add(wanted)
        return lambda known: None if known.found is None else wanted in known.found

    def _in_text(self, key: model.TextContains) -> _Test:
        body = self._in_body(model.BodyContains(key.text))
        wanted = text.fold(key.text)
        self.headers = True

        def contains(known: _Known) -> bool | None:
            if known.row is None:
                return None
            if wanted in text.block_text(known.row.header or b""):
                return True
            return body(known)

        return contains

    def _and(self, key: model.And) -> _Test:
        return _junction([self._compile(each) for each in key.keys], False)

    def _or(self, key: model.Or) -> _Test:
        return _junction([self._compile(each) for each in key.keys], True)

    def _not(self, key: model.Not) -> _Test:
        test = self._compile(key.key)

        def opposite(known: _Known) -> bool | None:
            answer = test(known)
            return None if answer is None else not answer

        return opposite


_COMPILERS: dict[type, Callable[[_Program, Any], _Test]] = {
    model.Everything: _Program._everything,
    model.InSet: _Program._in_set,
    model.HasFlag: _Program._has_flag,
    model.HeaderContains: _Program._in_header,
    model.BodyContains: _Program._in_body,
    model.TextContains: _Program._in_text,
    model.OnDay: _Program._on_day,
    model.LargerThan: _Program._larger,
    model.SmallerThan: _Program._smaller,
    model.And: _Program._and,
    model.Or: _Program._or,
    model.Not: _Program._not,
}
_COMPARE: dict[model.DayRelation, Callable[[Date, Date], bool]] = {
    "before": lambda day, than: day < than,
    "on": lambda day, than: day == than,
    "since": lambda day, than: day >= than,
}


def _junction(tests: Sequence[_Test], decisive: bool) -> _Test:
    """Several tests, of which one that says C{decisive} decides."""

    def joined(known: _Known) -> bool | None:
        unknown = False
        for test in tests:
            answer = test(known)
            if answer is decisive:
                return decisive
            unknown = unknown or answer is None
        return None if unknown else not decisive

    return joined


def _received_day(row: Message) -> Date:
    """The day of INTERNALDATE, in UTC as it is shown."""
    moment = time.gmtime(row.received_at)
    return Date(moment.tm_year, moment.tm_mon, moment.tm_mday)


async def do_search(client: Client, command: model.Search) -> Answer:
    selected = client.opened()
    view = selected.view
    program = _Program(command.key, view)
    matching, left = await _try_view(client, view, program)
    if left:
        matching += await _try_rows(client, selected, program, left)
        matching.sort()
    if command.uid:
        numbers = [view.uids[at] for at in matching]
    else:
        numbers = [at + 1 for at in matching]
    client.write(replies.search(numbers))
    return Answer("Search completed")


async def _try_view(
    client: Client, view: View, program: _Program
) -> tuple[list[int], list[int]]:
    """Decide what the view decides.

    @return: the positions that match, and those not decided.
    """
    matching: list[int] = []
    left: list[int] = []
    turn = max(1, _TESTS // program.size)
    for at in range(len(view)):
        answer = program.test(_Known(at))
        if answer:
            matching.append(at)
        elif answer is None:
            left.append(at)
        if at % turn == turn - 1:
            await client.breathe()
    return matching, left


async def _try_rows(
    client: Client, selected: Selected, program: _Program, positions: Sequence[int]
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
            known = _Known(at)
            known.row = rows.get(view.uids[at])
            answer = known.row is not None and program.test(known)
            if answer is None:
                left.append(known)
            elif answer:
                matching.append(at)
        matching += await _try_bodies(client, selected, program, left)
    return matching


async def _try_bodies(
    client: Client, selected: Selected, program: _Program, left: Sequence[_Known]
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
