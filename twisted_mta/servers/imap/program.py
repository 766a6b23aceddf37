"""What a SEARCH asks for, as a test of one message (RFC 3501 6.4.4).

A test says yes, no, or not known yet, from what is known of the message so far:
the view, what an index answered, its row and header, its body. So the cheapest
of these that decides is enough. It trusts the engine to have bounded the tree's
depth and size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from datetime import date as Date
from functools import partial
from typing import Any, TypeAlias

from twisted_mta.mail import date, header, text
from twisted_mta.mail.criterion import (
    Criterion,
    DayCriterion,
    Found,
    Place,
    TextCriterion,
)
from twisted_mta.mail.flag import RECENT
from twisted_mta.mail.placement import Message, Part
from twisted_mta.servers.imap.view import View
from twisted_mta.wire.imap import searchkey


class Known:
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


_Test: TypeAlias = Callable[[Known], bool | None]


class Program:
    """A key tree, made into one test.

    @ivar test: the test.
    @ivar size: how many keys.
    @ivar headers: some need the header.
    @ivar texts: folded, what is looked for in bodies.
    @ivar criteria: what an index may be asked.
    @ivar answers: what it said; the test goes by it from then on.
    @ivar narrow: the view alone leaves few messages, as a rule.
    """

    def __init__(self, key: searchkey.SearchKey, view: View) -> None:
        self._key = key
        self._view = view
        self.size = 0
        self.headers = False
        self.texts: set[str] = set()
        self.criteria: dict[Criterion, None] = {}
        self.answers: dict[Criterion, Found] = {}
        self.test = self._compile(key)
        self.narrow = isinstance(key, searchkey.And) and any(map(_of_view, key.keys))

    @property
    def parts(self) -> frozenset[Part]:
        """What rows must bring along."""
        return frozenset({Part.HEADER}) if self.headers else frozenset()

    def candidates(self) -> Set[int] | None:
        """UIDs of all messages that may match by what the index said; C{None}:
        it excludes none."""
        return self._bound(self._key)

    def _bound(self, key: searchkey.SearchKey) -> Set[int] | None:
        if isinstance(key, (searchkey.And, searchkey.Or)):
            bounds = [self._bound(each) for each in key.keys]
            known = [bound for bound in bounds if bound is not None]
            if isinstance(key, searchkey.And) and known:
                return frozenset.intersection(*map(frozenset, known))
            if isinstance(key, searchkey.Or) and len(known) == len(bounds):
                return frozenset().union(*known)
            return None
        criterion = _CRITERIA.get(type(key), lambda key: None)(key)
        found = None if criterion is None else self.answers.get(criterion)
        if found is None:
            return None
        # A copy of 100,000 takes 5 ms, and nearly always one of them is empty.
        return (found.sure | found.unsure) if found.unsure else found.sure

    def _or_index(self, key: searchkey.SearchKey, test: _Test) -> _Test:
        """A test, or what an index said instead."""
        criterion = _CRITERIA[type(key)](key)
        if criterion is None:
            return test
        self.criteria[criterion] = None
        answers, uids = self.answers, self._view.uids

        def answered(known: Known) -> bool | None:
            found = answers.get(criterion)
            if found is not None:
                uid = uids[known.at]
                if uid in found.sure:
                    return True
                if uid not in found.unsure:
                    return False
            return test(known)

        return answered

    def _compile(self, key: searchkey.SearchKey) -> _Test:
        self.size += 1
        return _COMPILERS[type(key)](self, key)

    def _everything(self, key: searchkey.Everything) -> _Test:
        return lambda known: True

    def _in_set(self, key: searchkey.InSet) -> _Test:
        view = self._view
        if key.uid:
            uids = key.numbers.resolve(view.uids[-1] if view.uids else 0)
            return lambda known: view.uids[known.at] in uids
        numbers = key.numbers.resolve(len(view))
        return lambda known: known.at + 1 in numbers

    def _has_flag(self, key: searchkey.HasFlag) -> _Test:
        view, flag = self._view, key.flag
        if flag == RECENT:
            return lambda known: view.is_recent(known.at)
        return lambda known: flag in view.flags[known.at]

    def _larger(self, key: searchkey.LargerThan) -> _Test:
        view, octets = self._view, key.octets
        return lambda known: view.sizes[known.at] > octets

    def _smaller(self, key: searchkey.SmallerThan) -> _Test:
        view, octets = self._view, key.octets
        return lambda known: view.sizes[known.at] < octets

    def _on_day(self, key: searchkey.OnDay) -> _Test:
        compare, day = _COMPARE[key.relation], key.day
        if key.field == "internal":

            def received(known: Known) -> bool | None:
                if known.row is None:
                    return None
                return compare(date.day_of(known.row.received_at), day)

            return self._or_index(key, received)
        self.headers = True

        def sent(known: Known) -> bool | None:
            if known.row is None:
                return None
            said = date.parse(header.first(known.row.header or b"", b"date") or b"")
            return said is not None and compare(said.day, day)

        return self._or_index(key, sent)

    def _in_header(self, key: searchkey.HeaderContains) -> _Test:
        self.headers = True
        name, wanted = key.field.encode("utf-8"), text.fold(key.text)

        def contains(known: Known) -> bool | None:
            if known.row is None:
                return None
            block = known.row.header or b""
            if not wanted:
                return text.has_field(block, name)
            return wanted in text.header_text(block, name)

        return self._or_index(key, contains)

    def _in_body(self, key: searchkey.BodyContains) -> _Test:
        wanted = text.fold(key.text)
        if not wanted:
            return lambda known: True
        return self._or_index(key, self._look_in_body(wanted))

    def _look_in_body(self, wanted: str) -> _Test:
        self.texts.add(wanted)
        return lambda known: None if known.found is None else wanted in known.found

    def _in_text(self, key: searchkey.TextContains) -> _Test:
        wanted = text.fold(key.text)
        body = self._look_in_body(wanted)
        self.headers = True

        def contains(known: Known) -> bool | None:
            if known.row is None:
                return None
            if wanted in text.block_text(known.row.header or b""):
                return True
            return body(known)

        return self._or_index(key, contains)

    def _and(self, key: searchkey.And) -> _Test:
        return _junction([self._compile(each) for each in key.keys], False)

    def _or(self, key: searchkey.Or) -> _Test:
        return _junction([self._compile(each) for each in key.keys], True)

    def _not(self, key: searchkey.Not) -> _Test:
        test = self._compile(key.key)

        def opposite(known: Known) -> bool | None:
            answer = test(known)
            return None if answer is None else not answer

        return opposite


_COMPILERS: dict[type, Callable[[Program, Any], _Test]] = {
    searchkey.Everything: Program._everything,
    searchkey.InSet: Program._in_set,
    searchkey.HasFlag: Program._has_flag,
    searchkey.HeaderContains: Program._in_header,
    searchkey.BodyContains: Program._in_body,
    searchkey.TextContains: Program._in_text,
    searchkey.OnDay: Program._on_day,
    searchkey.LargerThan: Program._larger,
    searchkey.SmallerThan: Program._smaller,
    searchkey.And: Program._and,
    searchkey.Or: Program._or,
    searchkey.Not: Program._not,
}
_COMPARE: dict[searchkey.DayRelation, Callable[[Date, Date], bool]] = {
    "before": lambda day, than: day < than,
    "on": lambda day, than: day == than,
    "since": lambda day, than: day >= than,
}


_OF_VIEW = (
    searchkey.InSet,
    searchkey.HasFlag,
    searchkey.LargerThan,
    searchkey.SmallerThan,
)


def _junction(tests: Sequence[_Test], decisive: bool) -> _Test:
    """Several tests, of which one that says C{decisive} decides."""

    def joined(known: Known) -> bool | None:
        unknown = False
        for test in tests:
            answer = test(known)
            if answer is decisive:
                return decisive
            unknown = unknown or answer is None
        return None if unknown else not decisive

    return joined


def _of_view(key: searchkey.SearchKey) -> bool:
    """Whether the view decides a key, and leaves some messages out."""
    if isinstance(key, searchkey.Not):
        key = key.key
    return isinstance(key, _OF_VIEW)


def _days(key: searchkey.OnDay) -> Criterion:
    day = key.day.toordinal()
    first, last = {
        "before": (Date.min.toordinal(), day - 1),
        "on": (day, day),
        "since": (day, Date.max.toordinal()),
    }[key.relation]
    return DayCriterion(key.field == "sent", first, last)


def _field(key: searchkey.HeaderContains) -> Criterion:
    return TextCriterion(Place.FIELD, text.fold(key.text), key.field.encode("utf-8"))


def _text(
    place: Place, key: searchkey.BodyContains | searchkey.TextContains
) -> Criterion | None:
    """A text; every message has the empty one."""
    wanted = text.fold(key.text)
    return TextCriterion(place, wanted) if wanted else None


# What an index may be asked instead of a key.
_CRITERIA: dict[type, Callable[[Any], Criterion | None]] = {
    searchkey.HeaderContains: _field,
    searchkey.BodyContains: partial(_text, Place.BODY),
    searchkey.TextContains: partial(_text, Place.TEXT),
    searchkey.OnDay: _days,
}
