"""C{twisted-mta queue flush|hold|release|requeue|redirect|bounce|remove}: what an
operator does with mail that waits."""

import argparse
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted_mta.cli import table
from twisted_mta.cli.progress import Progress
from twisted_mta.cli.queue import waiting_lines
from twisted_mta.cli.queueline import chosen, who
from twisted_mta.cli.server import with_office
from twisted_mta.errors import BadFilter, MailError
from twisted_mta.mail.address import split
from twisted_mta.mail.count import Tally
from twisted_mta.mail.filter import Filter
from twisted_mta.mail.job import Waiting
from twisted_mta.mail.route import RELEASE
from twisted_mta.office import Office

# The agent and state of what its sender has held until a time (FUTURERELEASE).
_FOR_LATER = (RELEASE, "waiting")

# Messages of which it is said one by one what became of them.
_NAMED = 20

# Recipients that a dry run shows.
_SHOWN = 10

_Change = Callable[..., Awaitable[Tally]]

# The rows of each message that was named.
_Rows = Mapping[str, Sequence[Waiting]]


def _change(
    options: argparse.Namespace,
    change: Callable[[Office], _Change],
    done: str,
    filter: Filter | None = None,
) -> tuple[_Rows, _Rows]:
    """Do something to what is meant, and say to how much.

    @param change: what does it, given a filter and who is told of its progress.
    @return: what those that were named were like before, and are now.
    """
    meant = filter or chosen(options)
    if meant.empty and not meant.everything:
        raise BadFilter(
            "Which messages? Name ids, give a filter such as --domain, or --all"
        )
    if options.dry_run:
        _dry_run(options, meant, done, change)
        return {}, {}

    async def work(office: Office) -> tuple[Tally, _Rows, _Rows]:
        before = await _rows(office, meant)
        with Progress(sys.stderr) as progress:

            def told(tally: Tally) -> None:
                progress.look(f"recipients {done}", tally.recipients)

            tally = await change(office)(meant, told=told)
        return tally, before, await _rows(office, meant)

    tally, before, after = with_office(options, work)
    print(f"{_much(tally.messages, tally.recipients)} {done}")
    if tally.busy:
        print(
            f"{_recipients(tally.busy)} left alone, being tried or in other hands now;"
            " look again in a while"
        )
    return before, after


def _much(messages: int, recipients: int) -> str:
    many = f"{messages} message{'' if messages == 1 else 's'}"
    return many if messages == recipients else f"{many} ({_recipients(recipients)})"


def _recipients(count: int) -> str:
    return f"{count} recipient{'' if count == 1 else 's'}"


def _dry_run(
    options: argparse.Namespace,
    meant: Filter,
    done: str,
    change: Callable[[Office], _Change],
) -> None:
    """Say what would be meant, and what of the command cannot be."""

    async def work(office: Office) -> Any:
        change(office)
        page = await office.oversight.waiting(meant, _SHOWN)
        return await office.oversight.count(meant), page.rows

    count, rows = with_office(options, work)
    if rows:
        print("\n".join(waiting_lines(rows, time.time(), table.terminal())))
    if count.recipients > len(rows):
        print("...")
    much = _much(count.messages, count.recipients)
    print(f"{much} would be meant ({done}); nothing was done")


async def _rows(office: Office, meant: Filter) -> _Rows:
    """Of those that are named what is there; whatever is done to the others says that
    they are not."""
    if len(meant.ids) > _NAMED:
        return {}
    found: dict[str, list[Waiting]] = {}
    for id in meant.ids:
        page = await office.oversight.waiting(Filter(ids=(id,)))
        if page.rows:
            found[id] = list(page.rows)
    return found


def flush(options: argparse.Namespace) -> int:
    """Try now, also those that are named and wait for a time that their sender chose.
    What an operator holds stays where it is."""
    meant = chosen(options)
    if meant.empty:
        meant = Filter(everything=True)
    _, after = _change(
        options, lambda office: office.oversight.flush, "will be tried now", meant
    )
    for id, rows in after.items():
        held = sum(one.state == "held" for one in rows)
        if held:
            print(
                f"{id}: {held} of {len(rows)} recipients held;"
                f" to let them go: twisted-mta queue release {id}"
            )
        for site in sorted({one.next_hop for one in rows if one.state == "frozen"}):
            print(
                f"{id}: {site} is frozen; to let it go: twisted-mta queue thaw {site}"
            )
    return 0


def hold(options: argparse.Namespace) -> int:
    """Make no attempts until released."""
    _change(
        options,
        lambda office: partial(office.oversight.hold, who=who(), reason=options.reason),
        "held",
    )
    return 0


def release(options: argparse.Namespace) -> int:
    """End a hold; what its sender has held waits for its time again."""
    before, after = _change(
        options, lambda office: partial(office.oversight.release, who=who()), "released"
    )
    for id, rows in after.items():
        times = [
            row.due
            for row in rows
            if (row.agent, row.state) == _FOR_LATER and row.due > time.time()
        ]
        if times:
            print(
                f"{id} waits until {table.when(max(times))}, as its sender asked;"
                f" to send it now: twisted-mta queue flush {id}"
            )
        elif not any(row.state == "held" for row in before[id]):
            print(f"{id} was not held")
    return 0


def requeue(options: argparse.Namespace) -> int:
    """Send on another way, now."""

    def change(office: Office) -> _Change:
        office.check_way(options.to_agent, options.next_hop)
        return partial(
            office.oversight.requeue,
            agent=options.to_agent,
            next_hop=options.next_hop,
            who=who(),
        )

    _change(options, change, "requeued")
    return 0


def redirect(options: argparse.Namespace) -> int:
    """Send to somebody else, now."""
    try:
        to = split(options.to)
    except ValueError:
        raise BadFilter(f"--to: {options.to[:80]!r} is no address")
    _change(
        options,
        lambda office: partial(_redirect, office, to, options.to),
        f"redirected to <{to}>",
    )
    return 0


async def _redirect(
    office: Office, to: Any, given: str, meant: Filter, told: Any
) -> Tally:
    try:
        return await office.oversight.redirect(meant, to, who=who(), told=told)
    except MailError as error:
        if error.status == "5.1.1":
            raise BadFilter(f"--to: nobody here has the address {given!r}")
        raise


def bounce(options: argparse.Namespace) -> int:
    """Return to the senders, now."""
    _change(
        options,
        lambda office: partial(office.oversight.bounce, text=options.text, who=who()),
        "returned",
    )
    return 0


def remove(options: argparse.Namespace) -> int:
    """Remove without telling anyone."""
    _change(
        options,
        lambda office: partial(
            office.oversight.remove, who=who(), reason=options.reason
        ),
        "removed",
    )
    return 0
