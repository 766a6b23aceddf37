"""C{twisted-mta suppression}: addresses to which nothing is sent any more."""

import argparse
from collections.abc import Sequence

from twisted_mta.cli import table
from twisted_mta.cli.server import with_office
from twisted_mta.config.units import seconds
from twisted_mta.errors import MailError, NoSuchAccount
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.suppressed import Suppressed
from twisted_mta.office import Office


def list_(options: argparse.Namespace) -> int:
    """One line per entry."""

    async def work(office: Office) -> Sequence[Suppressed]:
        return await office.suppression.listed()

    found = with_office(options, work)
    if options.json:
        table.show([one._asdict() for one in found], True, "")
        return 0
    rows = [
        {
            "address": one.address,
            "for": one.scope or "all",
            "reason": one.reason,
            "since": _day(one.added_at),
            "until": "-" if one.until is None else _day(one.until),
            "source": one.source,
        }
        for one in found
    ]
    if rows:
        flexible = ("source", "address", "for")
        print("\n".join(table.lines(rows, table.terminal(), flexible)))
    else:
        print("Nobody is on the list.")
    return 0


def _day(seconds: float) -> str:
    return table.when(seconds).partition(" ")[0]


def add(options: argparse.Namespace) -> int:
    """Put an address on the list, or change its entry."""
    address, account = _address(options.address), _account(options)
    try:
        keep_s = None if options.period is None else seconds(options.period)
    except ValueError as error:
        raise MailError(f"--for {options.period}: {error}")
    source = options.source or "an operator"

    async def work(office: Office) -> None:
        if account is not None and await office.directory.account(account) is None:
            raise NoSuchAccount(f"There is no account {account}")
        await office.suppression.add(address, account, "manual", source, keep_s)

    with_office(options, work)
    print(f"{address} is on the list")
    return 0


def remove(options: argparse.Namespace) -> int:
    """Take an entry off the list."""
    address, account = _address(options.address), _account(options)

    async def work(office: Office) -> None:
        await office.suppression.remove(address, account)

    with_office(options, work)
    print(f"{address} is off the list")
    return 0


def check(options: argparse.Namespace) -> int:
    """Say whether mail to an address is taken; the exit status is 1 if not."""
    address, account = _address(options.address), _account(options)

    async def work(office: Office) -> Suppressed | None:
        return await office.suppression.find(address, account)

    found = with_office(options, work)
    if found is None:
        print(f"{address} is not on the list")
        return 0
    until = "" if found.until is None else f" until {table.when(found.until)}"
    print(
        f"{address} is on the list for {found.scope or 'all'}"
        f" since {table.when(found.added_at)}{until}: {found.reason}, {found.source}"
    )
    return 1


def _account(options: argparse.Namespace) -> Address | None:
    return None if options.account is None else _address(options.account)


def _address(text: str) -> Address:
    """@raise MailError: it is none."""
    try:
        return split(text)
    except ValueError as error:
        raise MailError(str(error))
