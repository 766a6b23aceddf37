"""C{twisted-mta COMMAND ...}: reads the command line and runs one command.

Each command is a function of the parsed options that returns an exit status. It
is imported when it runs, since to import is most of what a command costs.
What goes wrong is told on standard error in one line that says what to do:
status 1 for what went wrong, 2 for a command line that makes no sense.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from twisted_mta.cli import queueline
from twisted_mta.errors import ConfigError, MailError

Command = Callable[[argparse.Namespace], int]


def find(name: str) -> Command:
    """Import a command.

    @param name: module and function, such as C{account.add}.
    """
    module, _, function = name.partition(".")
    found: Command = getattr(import_module(f"twisted_mta.cli.{module}"), function)
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="twisted-mta", description="A modular mail server."
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _try(commands)
    where = _where()
    _check(commands, where)
    _backup(commands, where)
    _accounts(commands, where)
    _aliases(commands, where)
    queueline.add(partial(_group, commands, where))
    _suppression(commands, where)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    @return: the exit status.
    """
    options = parser().parse_args(arguments)
    try:
        return find(options.run)(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
    except MailError as error:
        print(f"twisted-mta: {error.text}", file=sys.stderr)
    except KeyboardInterrupt:
        print("", file=sys.stderr)
    except BrokenPipeError:  # the reader of a listing has seen enough
        sys.stderr.close()
    return 1


_Subparsers = argparse._SubParsersAction


def _try(commands: "_Subparsers[argparse.ArgumentParser]") -> None:
    trial = commands.add_parser(
        "try",
        help="start a complete local server, with two accounts, right now",
        description="Starts a complete mail server for this machine alone, with"
        " the accounts alice@example.test and bob@example.test. It needs no root"
        " and no config.",
    )
    trial.add_argument(
        "--directory",
        type=Path,
        default=_default_directory(),
        help="where accounts and mail are kept (default: %(default)s)",
    )
    trial.add_argument(
        "--port-base",
        type=int,
        default=1000,
        metavar="N",
        help="SMTP is at N+25, IMAP at N+143, ... (default: %(default)s)",
    )
    trial.add_argument(
        "--relay",
        metavar="HOST:PORT",
        help="where mail for elsewhere goes (default: it stays in the queue)",
    )
    trial.add_argument(
        "--json", action="store_true", help="print the facts as one line of JSON"
    )
    trial.add_argument(
        "--print-config",
        action="store_true",
        help="print the config that it uses, and do not start",
    )
    trial.set_defaults(run="trying.try_")


def _check(
    commands: "_Subparsers[argparse.ArgumentParser]", where: argparse.ArgumentParser
) -> None:
    check = commands.add_parser(
        "check",
        help="say what is wrong with a config, or with the mail itself",
        description="Says everything that is wrong with a config (FILE, or the"
        " server's own); with --data, with the mail on disk, while the server runs"
        " or not. The exit status is then 0 if all is well, 1 if problems are left,"
        " 2 if it could not be looked at.",
        parents=[where],
    )
    check.add_argument(
        "file", type=Path, metavar="FILE", nargs="?", help="the config to check"
    )
    check.add_argument(
        "--data",
        action="store_true",
        help="look through accounts, mail and queue; --directory may name any"
        " directory with a ledger, such as a backup",
    )
    check.add_argument(
        "--repair", action="store_true", help="with --data: put right what can be"
    )
    check.add_argument(
        "--json", action="store_true", help="with --data: a line of JSON each"
    )
    check.set_defaults(run="checking.check")


def _backup(
    commands: "_Subparsers[argparse.ArgumentParser]", where: argparse.ArgumentParser
) -> None:
    backup = commands.add_parser(
        "backup",
        help="copy all accounts, mail and the queue, while the server runs",
        description="Makes a directory that holds all accounts, mail and the queue as"
        " they are at one moment, and on which a server can be started. The server"
        " may run meanwhile.",
        parents=[where],
    )
    backup.add_argument(
        "target",
        type=Path,
        metavar="TARGET",
        help="the directory to make; it must not be there, or be empty",
    )
    backup.add_argument(
        "--verify",
        action="store_true",
        help="read all of it once more, and compare it with its hashes",
    )
    backup.add_argument(
        "--copy",
        action="store_true",
        help="copy large messages, also where a second name of the same file would do",
    )
    backup.set_defaults(run="backup.backup")


def _default_directory() -> Path:
    """A folder of the user's state directory (XDG base directories)."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "twisted-mta" / "try"


def _where() -> argparse.ArgumentParser:
    """Which server a command is about."""
    where = argparse.ArgumentParser(add_help=False)
    which = where.add_mutually_exclusive_group()
    which.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the server's config (default: $TWISTED_MTA_CONFIG, then"
        " /etc/twisted-mta/mta.yaml)",
    )
    which.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="the directory of a server started by 'twisted-mta try'",
    )
    return where


def _group(
    commands: "_Subparsers[argparse.ArgumentParser]",
    where: argparse.ArgumentParser,
    name: str,
    help: str,
) -> Callable[[str, str, str], argparse.ArgumentParser]:
    """A command with commands below it."""
    group = commands.add_parser(name, help=help)
    below = group.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, help: str, run: str) -> argparse.ArgumentParser:
        leaf = below.add_parser(name, help=help, parents=[where])
        leaf.set_defaults(run=run)
        return leaf

    return add


def _json(leaf: argparse.ArgumentParser) -> None:
    leaf.add_argument("--json", action="store_true", help="print JSON")


def _accounts(
    commands: "_Subparsers[argparse.ArgumentParser]", where: argparse.ArgumentParser
) -> None:
    add = _group(commands, where, "account", "who has mailboxes here")
    for name, help, run in (
        ("add", "add an account; the password is asked for", "account.add"),
        ("password", "change a password; it is asked for", "account.password"),
        ("remove", "remove an account and all its mail", "account.remove"),
    ):
        add(name, help, run).add_argument("address", metavar="ADDRESS")
    leaf = add(
        "save-sent", "keep what it submits in its mailbox Sent", "account.save_sent"
    )
    leaf.add_argument("address", metavar="ADDRESS")
    leaf.add_argument("switch", choices=("on", "off"))
    _json(add("list", "list the accounts", "account.list_"))
    add = _group(
        commands, where, "app-password", "passwords of programs, one for each of them"
    )
    leaf = add("add", "make one; it is shown once", "account.app_add")
    leaf.add_argument("address", metavar="ADDRESS")
    leaf.add_argument("name", metavar="NAME", help="what you call the program")
    leaf.add_argument(
        "--protocols",
        default="smtp,imap,pop3",
        help="what it may be used for (default: %(default)s)",
    )
    leaf = add("remove", "take one back", "account.app_remove")
    leaf.add_argument("address", metavar="ADDRESS")
    leaf.add_argument("name", metavar="NAME")
    leaf = add("list", "list those of an account", "account.app_list")
    leaf.add_argument("address", metavar="ADDRESS")
    _json(leaf)


def _aliases(
    commands: "_Subparsers[argparse.ArgumentParser]", where: argparse.ArgumentParser
) -> None:
    add = _group(commands, where, "alias", "addresses that lead to others")
    leaf = add("add", "add targets to an alias", "account.alias_add")
    leaf.add_argument("address", metavar="ADDRESS")
    leaf.add_argument("targets", metavar="TARGET", nargs="+")
    leaf = add("remove", "remove an alias, or targets of it", "account.alias_remove")
    leaf.add_argument("address", metavar="ADDRESS")
    leaf.add_argument("targets", metavar="TARGET", nargs="*")
    _json(add("list", "list the aliases", "account.alias_list"))


def _suppression(
    commands: "_Subparsers[argparse.ArgumentParser]", where: argparse.ArgumentParser
) -> None:
    add = _group(
        commands, where, "suppression", "addresses to which nothing is sent any more"
    )
    _json(add("list", "list them", "suppression.list_"))
    one = add("add", "put an address on the list", "suppression.add")
    one.add_argument("--for", dest="period", metavar="TIME", help="such as 30d")
    one.add_argument("--source", metavar="TEXT", help="why, for who is refused")
    for leaf in (
        one,
        add("remove", "take an address off the list", "suppression.remove"),
        add("check", "say whether mail to an address is taken", "suppression.check"),
    ):
        leaf.add_argument("address", metavar="ADDRESS")
        leaf.add_argument(
            "--account",
            metavar="ADDRESS",
            help="only what this account sends (default: what anybody sends)",
        )


if __name__ == "__main__":
    sys.exit(main())
