"""C{twisted-mta queue freeze|thaw|rules}: what is ordered for mail that is to come."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from twisted_mta.cli import table
from twisted_mta.cli.queueline import chosen, who
from twisted_mta.cli.server import with_office
from twisted_mta.errors import BadFilter
from twisted_mta.mail.standing import Rule
from twisted_mta.office import Office


def freeze(options: argparse.Namespace) -> int:
    """Make no attempts to next hops until they are thawed."""

    async def work(office: Office) -> None:
        for site in options.sites:
            rows = await office.oversight.freeze(site, who(), options.reason)
            print(f"{site} is frozen; {rows} more row{_s(rows)} for it will wait")

    with_office(options, work)
    return 0


def thaw(options: argparse.Namespace) -> int:
    """Make attempts to next hops again."""

    async def work(office: Office) -> None:
        for site in options.sites:
            rows = await office.oversight.thaw(site)
            waits = "row for it waits" if rows == 1 else "rows for it wait"
            print(f"{site} is not frozen; {rows} {waits} no more")

    with_office(options, work)
    return 0


def rules(options: argparse.Namespace) -> int:
    """List hold rules, add one, or remove some."""
    if bool(options.rules) != (options.action == "remove"):
        raise BadFilter(
            "To remove rules, name their ids; to add one, give a filter such as"
            " --sender"
        )
    return {"list": _list, "add": _add, "remove": _remove}[options.action](options)


def _list(options: argparse.Namespace) -> int:
    if not chosen(options).empty:
        raise BadFilter("To add a rule: twisted-mta queue rules add ...")

    async def work(office: Office) -> Sequence[Rule]:
        return await office.oversight.rules()

    found = with_office(options, work)
    if options.json:
        table.show([_fields(one) for one in found], True, "")
    elif found:
        rows = [
            {
                "rule": one.id,
                "added": table.when(one.added_at),
                "by": one.who,
                "holds": one.filter.said(),
                "reason": one.reason,
            }
            for one in found
        ]
        print("\n".join(table.lines(rows, table.terminal(), ("reason", "holds"))))
    else:
        print("No rules: nothing is held when it is accepted.")
    return 0


def _fields(rule: Rule) -> dict[str, object]:
    given = asdict(rule)
    given["filter"] = {
        name: value
        for name, value in given["filter"].items()
        if value not in (None, ())
    }
    return given


def _add(options: argparse.Namespace) -> int:
    filter = chosen(options)

    async def work(office: Office) -> Rule:
        return await office.oversight.add_rule(filter, who(), options.reason)

    rule = with_office(options, work)
    if options.json:
        table.show([_fields(rule)], True, "")
    else:
        what = "all mail for elsewhere is held"
        if not rule.filter.empty:
            what = f"mail for elsewhere is held if {rule.filter.said()}"
        print(f"rule {rule.id}: {what}")
    return 0


def _remove(options: argparse.Namespace) -> int:
    async def work(office: Office) -> None:
        for id in options.rules:
            await office.oversight.remove_rule(id)
            print(f"rule {id} removed; what it holds stays held")

    with_office(options, work)
    return 0


def _s(count: int) -> str:
    return "" if count == 1 else "s"
