"""C{twisted-mta account} and C{twisted-mta alias}."""

import argparse
import getpass
import sys
from collections.abc import Sequence
from datetime import datetime

from twisted_mta.auth.apppassword import PROTOCOLS, AppPassword
from twisted_mta.cli import table
from twisted_mta.cli.server import with_office
from twisted_mta.errors import Permanent
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address, split
from twisted_mta.office import Office


class BadInput(Permanent):
    """What the person typed cannot be used."""


def _address(text: str) -> Address:
    try:
        return split(text)
    except ValueError as error:
        raise BadInput(str(error))


def _local(office: Office, text: str) -> Address:
    """An address in one of the domains of the config."""
    address = _address(text)
    domains = office.config.domains
    if address.domain not in domains:
        known = ", ".join(sorted(domains)) or "none"
        raise BadInput(
            f"{address.domain} is not a domain of the config (known: {known})"
        )
    return address


def _password(address: str) -> str:
    """Ask for a new password, or read the first line of standard input."""
    if sys.stdin.isatty():
        given = getpass.getpass(f"New password for {address}: ")
        if getpass.getpass("The same again: ") != given:
            raise BadInput("The passwords differ; nothing was changed")
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    if not given:
        raise BadInput("An empty password is none; nothing was changed")
    return given


def add(options: argparse.Namespace) -> int:
    """Add an account."""
    given = _password(options.address)

    async def work(office: Office) -> Account:
        address = _local(office, options.address)
        return await office.add_account(address, given)

    made = with_office(options, work)
    print(f"{made.address} has an account now")
    return 0


def password(options: argparse.Namespace) -> int:
    """Change a password."""
    given = _password(options.address)

    async def work(office: Office) -> None:
        await office.directory.set_password(_address(options.address), given)

    with_office(options, work)
    print(f"{options.address} has a new password")
    return 0


def save_sent(options: argparse.Namespace) -> int:
    """Whether what an account submits is kept in its mailbox for sent mail."""
    save = options.switch == "on"

    async def work(office: Office) -> None:
        await office.directory.set_save_sent(_address(options.address), save)

    with_office(options, work)
    kept = "is kept" if save else "is not kept"
    print(f"What {options.address} submits {kept} in its mailbox for sent mail")
    return 0


def remove(options: argparse.Namespace) -> int:
    """Remove an account and its mail."""

    async def work(office: Office) -> None:
        await office.remove_account(_address(options.address))

    with_office(options, work)
    print(f"{options.address} and all its mail are gone")
    return 0


def list_(options: argparse.Namespace) -> int:
    """All accounts."""

    async def work(office: Office) -> Sequence[Account]:
        return await office.directory.accounts()

    rows = [{"address": str(one.address)} for one in with_office(options, work)]
    table.show(rows, options.json, "There are no accounts.")
    return 0


def app_add(options: argparse.Namespace) -> int:
    """Make a password for a program."""
    protocols = options.protocols.split(",")
    unknown = sorted(set(protocols) - set(PROTOCOLS))
    if unknown:
        known = ", ".join(PROTOCOLS)
        raise BadInput(f"no such protocol: {', '.join(unknown)} (known: {known})")

    async def work(office: Office) -> str:
        address = _address(options.address)
        return await office.keyring.add_app_password(address, options.name, protocols)

    made = with_office(options, work)
    print(f"The password of '{options.name}', which is shown only now:\n\n    {made}\n")
    print(f"It logs {options.address} in to {', '.join(protocols)}.")
    return 0


def app_remove(options: argparse.Namespace) -> int:
    """Take a program's password back."""

    async def work(office: Office) -> None:
        address = _address(options.address)
        await office.keyring.remove_app_password(address, options.name)

    with_office(options, work)
    print(f"'{options.name}' can no longer log in to {options.address}")
    return 0


def app_list(options: argparse.Namespace) -> int:
    """An account's passwords for programs."""

    async def work(office: Office) -> Sequence[AppPassword]:
        return await office.keyring.app_passwords(_address(options.address))

    rows = [
        {
            "name": one.name,
            "protocols": one.protocols,
            "made": _moment(one.created_at),
            "used": _moment(one.used_at),
        }
        for one in with_office(options, work)
    ]
    table.show(rows, options.json, "There are no passwords for programs.")
    return 0


def _moment(at: float) -> str:
    if not at:
        return "never"
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")


def alias_add(options: argparse.Namespace) -> int:
    """Make an address lead to others."""

    async def work(office: Office) -> None:
        address = _local(office, options.address)
        targets = [_address(target) for target in options.targets]
        await office.directory.add_alias(address, targets)

    with_office(options, work)
    print(f"{options.address} leads to {', '.join(options.targets)}")
    return 0


def alias_remove(options: argparse.Namespace) -> int:
    """Remove an alias, or some of its targets."""

    async def work(office: Office) -> None:
        targets = [_address(target) for target in options.targets]
        await office.directory.remove_alias(_address(options.address), targets)

    with_office(options, work)
    what = ", ".join(options.targets) or "anyone"
    print(f"{options.address} no longer leads to {what}")
    return 0


def alias_list(options: argparse.Namespace) -> int:
    """All aliases."""

    async def work(office: Office) -> Sequence[tuple[Address, Address]]:
        return await office.directory.all_aliases()

    rows = [
        {"address": str(address), "target": str(target)}
        for address, target in with_office(options, work)
    ]
    table.show(rows, options.json, "There are no aliases.")
    return 0
