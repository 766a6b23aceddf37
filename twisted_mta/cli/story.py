"""What became of a message, for people and for programs."""

import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from twisted_mta.cli import table
from twisted_mta.mail.history import Event, Finished, Kind, Passage, Story
from twisted_mta.mail.job import Waiting

# A line of a text that is read elsewhere than on a terminal.
_WIDTH = 100

# Recipients that are named in one line.
_NAMED = 5

_DONE = {
    Kind.HELD: "held",
    Kind.RELEASED: "released",
    Kind.REQUEUED: "requeued",
    Kind.REDIRECTED: "redirected",
    Kind.BOUNCED: "returned to the sender",
    Kind.REMOVED: "removed",
}


def fields(story: Story) -> dict[str, Any]:
    """For programs."""
    return {
        "id": story.id,
        "passage": None if story.passage is None else asdict(story.passage),
        "waiting": [asdict(one) for one in story.waiting],
        "events": [_event_fields(event) for event in story.events],
    }


def _event_fields(event: Event) -> dict[str, Any]:
    given = event._asdict()
    del given["message_id"], given["id"]
    return given


def finished_fields(one: Finished) -> dict[str, Any]:
    """The same for a message that is done with."""
    return {
        **asdict(one.passage),
        "done_at": one.done_at,
        "outcomes": dict(one.outcomes),
        "text": one.text,
    }


def lines(story: Story, width: int | None) -> Iterator[str]:
    """For people: how it came, where it is, and all that happened to it.

    @param width: of the terminal; C{None}: it is none.
    """
    for indent, text in _parts(story):
        yield from textwrap.wrap(
            text,
            width or _WIDTH,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + 4),
            break_on_hyphens=False,
        )


def _parts(story: Story) -> Iterator[tuple[int, str]]:
    passage = story.passage
    if passage is None:
        yield 0, f"{story.id}: how it came is not known any more"
    else:
        yield from _came(passage)
    if story.waiting:
        yield 0, "Waits:"
        for one in story.waiting:
            yield from _waits(one)
    if story.events:
        yield 0, "What happened:"
        for event in story.events:
            yield from _happened(event)


def _came(passage: Passage) -> Iterator[tuple[int, str]]:
    origin = passage.origin
    yield 0, f"{passage.id}  {table.size(passage.size)} from <{passage.sender}>"
    where = "made here"
    if origin.host:
        where = f"from {origin.helo or '-'} [{origin.host}]:{origin.port}"
        where += f" by {origin.protocol} at {origin.listener}"
    elif origin.protocol != "local":
        where = f"by {origin.protocol} at {origin.listener}"
    yield 2, f"received {table.when(passage.received_at)} {where}"
    if origin.host:
        yield 2, f"over {origin.tls}" if origin.tls else "in the clear"
    if origin.login:
        yield 2, f"login {origin.login}"
    yield 2, f"for {_list(passage.recipients)}"
    if passage.mailboxes:
        at = table.when(passage.received_at)
        yield 0, f"In the mailbox of {_list(passage.mailboxes)} since {at}"


def _list(addresses: Any) -> str:
    named = ", ".join(f"<{one}>" for one in addresses[:_NAMED]) or "-"
    more = len(addresses) - _NAMED
    return f"{named} and {more} more" if more > 0 else named


def _waits(one: Waiting) -> Iterator[tuple[int, str]]:
    yield 2, f"<{one.recipient}> by {one.agent} to {one.next_hop or '-'}"
    tries = f"{one.attempts} attempt{'' if one.attempts == 1 else 's'}"
    due = f", next {table.when(one.due)}" if one.state == "waiting" else ""
    yield 4, f"{one.state}, {tries}{due}"
    if one.diagnostic:
        yield 4, f"last: {one.diagnostic}"


def _happened(event: Event) -> Iterator[tuple[int, str]]:
    at = table.when(event.at)
    whom = f"<{event.recipient}>" if "@" in event.recipient else event.recipient
    match event.kind:
        case Kind.DELIVERED | Kind.DEFERRED | Kind.FAILED:
            relay = f" by {event.remote}" if event.remote else ""
            tls = event.tls or "in the clear"
            over = f", {tls}" if event.remote else ""
            yield 2, f"{at}  {event.kind} {event.status} {whom}{relay}{over}"
            if event.text:
                yield 4, event.text
            if event.uncertain:
                yield 4, "The next server may have it all the same."
        case Kind.CUT_SHORT:
            to = event.next_hop or "-"
            began = float(event.text)
            # A process of before this was written down had it.
            which = (
                f"the attempt begun at {table.when(began)}" if began else "an attempt"
            )
            yield (
                2,
                f"{at}  {which} by {event.agent} to {to} was cut short; the next server"
                " may have it already",
            )
        case Kind.NOTIFIED:
            yield 2, f"{at}  the sender was told, by message {event.text}"
        case Kind.RESENT:
            client = f" by {event.text}" if event.text else ""
            yield 2, f"{at}  sent again{client}, and not accepted a second time"
        case Kind.RENEWED:
            yield 2, f"{at}  {whom} went on as message {event.text}"
        case _:
            yield from _operated(event, at, whom)


def _operated(event: Event, at: str, whom: str) -> Iterator[tuple[int, str]]:
    """What an operator did, or an order of theirs."""
    did = _DONE.get(Kind(event.kind), event.kind)
    by = f" by {event.who}" if event.who else ""
    about = f" {whom}" if whom else ""
    to = ""
    if event.kind == Kind.REQUEUED:
        to = f" to go by {event.agent} to {event.next_hop or 'wherever it belongs'}"
    text = f": {event.text}" if event.text else ""
    yield 2, f"{at}  {did}{about}{to}{by}{text}"
