"""C{twisted-mta queue list|count|show}: mail that waits for elsewhere, and what became
of mail."""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from twisted_mta.cli import queuewatch, story, table
from twisted_mta.cli.queueline import chosen
from twisted_mta.cli.server import with_office
from twisted_mta.errors import BadFilter
from twisted_mta.mail.count import Count
from twisted_mta.mail.history import Finished, Story
from twisted_mta.mail.job import Waiting
from twisted_mta.mail.standing import Frozen
from twisted_mta.office import Office

# Lines of a table, unless more are asked for. A person reads no more, and a queue may
# have a million.
_LIMIT = 1000

# Below this a line has no room for a reply, which gets one of its own.
_WIDE = 120


def list_(options: argparse.Namespace) -> int:
    """What waits, a line per recipient; or what is finished, or frozen."""
    if options.frozen:
        return _list_frozen(options)
    if options.finished:
        return _list_finished(options)
    if options.watch and table.terminal() is not None and not options.json:
        return queuewatch.watch(options)
    filter = chosen(options)
    most = options.limit or (None if options.json else _LIMIT)

    async def work(office: Office) -> tuple[int, bool]:
        shown, page = 0, ""
        while True:
            at_once = _LIMIT if most is None else min(_LIMIT, most - shown)
            found = await office.oversight.waiting(filter, at_once, page)
            _print_page(found.rows, options.json, shown == 0)
            shown, page = shown + len(found.rows), found.more
            if not page or (most is not None and shown >= most):
                return shown, bool(page)

    shown, more = with_office(options, work)
    if options.json:
        print("]" if shown else "[]")
    elif not shown:
        print(_nothing(filter.empty, "The queue is empty.", "Nothing like that waits."))
    elif more:
        print(f"... and more; to see them: --limit {10 * shown}, or a filter")
    return 0


def _nothing(all: bool, empty: str, none: str) -> str:
    return empty if all else none


def _print_page(rows: Sequence[Waiting], as_json: bool, first: bool) -> None:
    """A part of a listing: of JSON's one array, or of a table."""
    if not rows:
        return
    if as_json:
        for row in rows:
            print("[" if first else ",", json.dumps(asdict(row), ensure_ascii=False))
            first = False
        return
    lines = waiting_lines(rows, time.time(), table.terminal())
    print("\n".join(lines if first else lines[1:]))


def waiting_lines(rows: Sequence[Waiting], now: float, width: int | None) -> list[str]:
    """What waits as a table; in a narrow terminal with two lines for each recipient.

    @param rows: at least one.
    @param width: of the terminal; C{None}: it is none.
    """
    if width is None or width >= _WIDE:
        wide = [
            {
                "id": row.id,
                "age": table.age(now - row.queued_at),
                "size": table.size(row.size),
                "state": row.state,
                "tries": row.attempts,
                "sender": f"<{row.sender}>",
                "recipient": f"<{row.recipient}>",
                "last reply": row.diagnostic,
            }
            for row in rows
        ]
        return table.lines(wide, width, ("last reply", "sender", "recipient"))
    narrow = [
        {
            "id": row.id,
            "age": table.age(now - row.queued_at),
            "state": row.state,
            "sender": f"<{row.sender}>",
            "recipient": f"<{row.recipient}>",
        }
        for row in rows
    ]
    head, *lines = table.lines(narrow, width, ("sender", "recipient"))
    result = [head]
    for line, row in zip(lines, rows, strict=True):
        result.append(line)
        if row.attempts or row.diagnostic:
            said = f"    {tries(row.attempts)}{_due(row, now)}: {row.diagnostic}"
            result.append(table.cut(said, width))
    return result


def tries(attempts: int) -> str:
    """How often something was tried."""
    return f"{attempts} attempt{'' if attempts == 1 else 's'}"


def _due(row: Waiting, now: float) -> str:
    if row.state != "waiting":
        return ""
    return f", next in {table.age(row.due - now)}" if row.due > now else ", next now"


# --- finished, frozen ---


def _list_finished(options: argparse.Namespace) -> int:
    filter = chosen(options)

    async def work(office: Office) -> Sequence[Finished]:
        return await office.oversight.finished(filter, options.limit or _LIMIT)

    found = with_office(options, work)
    if options.json:
        table.show([story.finished_fields(one) for one in found], True, "")
    elif found:
        print("\n".join(finished_lines(found, table.terminal())))
    else:
        none = "Nothing like that is in the history."
        print(_nothing(filter.empty, "The history is empty.", none))
    return 0


def finished_lines(found: Sequence[Finished], width: int | None) -> list[str]:
    """What is finished as a table.

    @param found: at least one.
    """
    rows = []
    for one in found:
        first, *others = one.passage.recipients or ("-",)
        more = f" +{len(others)}" if others else ""
        row: dict[str, Any] = {
            "id": one.passage.id,
            "received": table.when(one.passage.received_at),
            "sender": f"<{one.passage.sender}>",
            "recipient": f"<{first}>{more}",
            "outcome": ", ".join(_ends(*end) for end in one.outcomes) or "-",
        }
        if width is None or width >= _WIDE:
            row["last reply"] = one.text
        rows.append(row)
    flexible = ("last reply", "sender", "recipient", "outcome")
    return table.lines(rows, width, [name for name in flexible if name in rows[0]])


def _ends(outcome: str, count: int) -> str:
    return outcome if count == 1 else f"{count} {outcome}"


def _list_frozen(options: argparse.Namespace) -> int:
    if not chosen(options).empty:
        raise BadFilter("--frozen lists next hops; what waits for them: --state frozen")

    async def work(office: Office) -> Sequence[Frozen]:
        return await office.oversight.frozen()

    found = with_office(options, work)
    if options.json:
        table.show([asdict(one) for one in found], True, "")
    elif found:
        rows = [
            {
                "next hop": one.site,
                "since": table.when(one.since) if one.since else "-",
                "by": one.who,
                "rows": one.rows,
                "reason": one.reason,
            }
            for one in found
        ]
        lines = table.lines(rows, table.terminal(), ("reason", "next hop"))
        print("\n".join(lines))
    else:
        print("No next hop is frozen.")
    return 0


# --- count, show ---


def count(options: argparse.Namespace) -> int:
    """How much waits."""
    filter = chosen(options)

    async def work(office: Office) -> Count:
        return await office.oversight.count(filter, options.by)

    counted = with_office(options, work)
    if options.json:
        print(json.dumps(asdict(counted), ensure_ascii=False))
        return 0
    if counted.groups:
        now = time.time()
        rows = [
            {
                "recipients": group.recipients,
                "messages": group.messages,
                "oldest": table.age(now - group.oldest),
                options.by: group.name or "-",
            }
            for group in counted.groups
        ]
        print("\n".join(table.lines(rows, table.terminal(), (options.by,))))
        if counted.more:
            print(f"... and {counted.more} smaller ones")
    print(in_words(counted))
    return 0


def in_words(counted: Count) -> str:
    """How much waits, in one line."""
    messages, recipients = counted.messages, counted.recipients
    return (
        f"{messages} message{'' if messages == 1 else 's'},"
        f" {recipients} recipient{'' if recipients == 1 else 's'},"
        f" {table.size(counted.octets)}"
    )


def show(options: argparse.Namespace) -> int:
    """All about one message."""

    async def work(office: Office) -> Story:
        return await office.oversight.story(options.id)

    found = with_office(options, work)
    if options.json:
        print(json.dumps(story.fields(found), ensure_ascii=False))
    else:
        print("\n".join(story.lines(found, table.terminal())))
    return 0
