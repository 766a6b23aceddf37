"""The command line of C{twisted-mta queue}: its words, and which messages they mean."""

import argparse
import getpass
import os
from collections.abc import Callable

from twisted_mta.config.units import seconds
from twisted_mta.errors import BadFilter
from twisted_mta.mail.filter import NULL, STATES, Filter

Leaf = Callable[[str, str, str], argparse.ArgumentParser]

_WHICH = "which messages; all that is said has to fit (* is any text)"

# What has no domain: RFC 5321 4.5.1, and the null sender.
_BARE = ("postmaster", NULL)

_COMMANDS = (
    ("hold", "make no attempts until released", "queuechange.hold"),
    ("release", "end a hold", "queuechange.release"),
    ("requeue", "send on another way, now", "queuechange.requeue"),
    ("redirect", "send to somebody else, now", "queuechange.redirect"),
    ("bounce", "return to the senders, now", "queuechange.bounce"),
    ("remove", "remove without telling anyone", "queuechange.remove"),
)


def add(group: Callable[[str, str], Leaf]) -> None:
    """Add the command.

    @param group: makes a command with commands below it, of name and help; what it
        returns adds one of these, of name, help and what runs it.
    """
    leaf = group("queue", "mail that waits for elsewhere, and what became of mail")
    _listings(leaf)
    _changes(leaf)
    _orders(leaf)


def _listings(leaf: Leaf) -> None:
    listing = leaf("list", "list what waits, or what is finished", "queue.list_")
    filters(listing)
    json(listing)
    listing.add_argument(
        "--limit",
        type=positive,
        metavar="N",
        help="so many lines (default: 1000; with --json what waits is listed whole)",
    )
    kind = listing.add_mutually_exclusive_group()
    kind.add_argument(
        "--finished",
        action="store_true",
        help="list messages that have been delivered, returned or removed instead,"
        " newest first",
    )
    kind.add_argument(
        "--frozen", action="store_true", help="list the next hops that are frozen"
    )
    kind.add_argument(
        "--watch",
        action="store_true",
        help="on a terminal: show it anew every 2 seconds until Ctrl-C",
    )
    count = leaf("count", "count what waits", "queue.count")
    filters(count)
    json(count)
    count.add_argument(
        "--by",
        default="",
        metavar="WHAT",
        help="in groups by state, domain, site, sender, account, agent or error",
    )
    show = leaf("show", "all that is known of one message", "queue.show")
    show.add_argument("id", metavar="ID")
    json(show)


def _changes(leaf: Leaf) -> None:
    flush = leaf("flush", "try now: what is named, or all", "queuechange.flush")
    _changing(flush)
    for name, help, run in _COMMANDS:
        command = leaf(name, help, run)
        _changing(command, "--from-agent" if name == "requeue" else "--agent")
        if name in ("hold", "remove"):
            command.add_argument("--reason", default="", help="for the history")
        if name == "requeue":
            command.add_argument(
                "--agent",
                dest="to_agent",
                default="",
                metavar="NAME",
                help="by this agent of the config (default: as it was)",
            )
            command.add_argument(
                "--next-hop",
                default="",
                metavar="SITE",
                help="to this domain, or [HOST]:PORT (default: the recipient's own"
                " domain; with neither: as the config says now)",
            )
        if name == "redirect":
            command.add_argument("--to", required=True, metavar="ADDRESS")
        if name == "bounce":
            command.add_argument(
                "--text", default="", help="what the senders read as the reason"
            )


def _changing(command: argparse.ArgumentParser, agent: str = "--agent") -> None:
    filters(command, agent)
    command.add_argument("--all", action="store_true", help="everything that waits")
    command.add_argument(
        "--dry-run", action="store_true", help="say what it would be, and do nothing"
    )


def _orders(leaf: Leaf) -> None:
    freeze = leaf(
        "freeze", "make no attempts to a next hop until thawed", "queueorder.freeze"
    )
    freeze.add_argument(
        "sites", metavar="SITE", nargs="+", help="domain or [HOST]:PORT"
    )
    freeze.add_argument("--reason", default="")
    thaw = leaf("thaw", "make attempts to a next hop again", "queueorder.thaw")
    thaw.add_argument("sites", metavar="SITE", nargs="+")
    rules = leaf("rules", "what is held when it is accepted", "queueorder.rules")
    rules.add_argument(
        "action",
        choices=("list", "add", "remove"),
        nargs="?",
        default="list",
        help="list them (the default), add one from a filter, remove some",
    )
    rules.add_argument("rules", metavar="RULE", nargs="*", help="ids, to remove")
    coming(rules.add_argument_group("filter", _WHICH))
    rules.add_argument("--all", action="store_true", help="all mail for elsewhere")
    rules.add_argument("--reason", default="", help="for those who look later")
    json(rules)


def json(leaf: argparse.ArgumentParser) -> None:
    """C{--json}."""
    leaf.add_argument("--json", action="store_true", help="print JSON")


def coming(group: argparse._ArgumentGroup, agent: str = "--agent") -> None:
    """What can be said of mail that is accepted.

    @param agent: what the option for the agent is called.
    """
    for name, help in (
        ("sender", "an address, @DOMAIN, or <> for the null sender"),
        ("recipient", "an address or @DOMAIN"),
        ("domain", "of the recipient; .DOMAIN for all below it"),
        ("site", "the next hop"),
        ("account", "the address that logged in"),
    ):
        group.add_argument(f"--{name}", metavar=name.upper(), help=help)
    group.add_argument(agent, dest="agent", metavar="AGENT", help="the delivery agent")


def filters(leaf: argparse.ArgumentParser, agent: str = "--agent") -> None:
    """What can be said of mail that waits; see L{coming}."""
    group = leaf.add_argument_group("filter", _WHICH)
    group.add_argument("ids", metavar="ID", nargs="*", help="queue ids")
    group.add_argument(
        "--state", action="append", metavar="STATE", help=", ".join(STATES)
    )
    coming(group, agent)
    group.add_argument("--error", metavar="TEXT", help="part of the last reply")
    for name, help in (
        ("older", "accepted at least so long ago: 90s, 5m, 4h, 5d"),
        ("younger", "accepted less long ago"),
    ):
        group.add_argument(f"--{name}", metavar="AGE", help=help)


def chosen(options: argparse.Namespace) -> Filter:
    """The messages that a command line means.

    @raise BadFilter: it makes no sense.
    """
    for name in ("sender", "recipient", "account"):
        text = getattr(options, name) or "*"
        # Whoever mistypes one for a rule believes that it holds something.
        if not set(text) & {"@", "*"} and text.lower() not in _BARE:
            raise BadFilter(
                f"--{name}: {text!r} fits nothing; give an address, or @DOMAIN"
            )
    return Filter(
        ids=tuple(dict.fromkeys(getattr(options, "ids", ()))),
        states=tuple(getattr(options, "state", None) or ()),
        sender=options.sender,
        recipient=options.recipient,
        domain=options.domain,
        site=options.site,
        account=options.account,
        agent=options.agent,
        error=getattr(options, "error", None),
        older_s=_age(options, "older"),
        younger_s=_age(options, "younger"),
        everything=getattr(options, "all", False),
    )


def _age(options: argparse.Namespace, name: str) -> float | None:
    text = getattr(options, name, None)
    if text is None:
        return None
    try:
        return seconds(text)
    except ValueError as error:
        raise BadFilter(f"--{name}: {text!r} {error}")


def who() -> str:
    """Who runs the command, for the history."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return f"uid {os.getuid()}"


def positive(text: str) -> int:
    """A number above 0."""
    number = int(text)
    if number <= 0:
        raise ValueError
    return number
