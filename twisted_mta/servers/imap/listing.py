"""LIST and LSUB (RFC 3501 6.3.8 and 6.3.9), LIST with the options of RFC 5258
and RFC 6154, and the attributes of CHILDREN (RFC 3348).

All mailboxes of the account are read once and tried on the patterns here. It
trusts the store for names that are sorted, and whose superiors all exist.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from twisted_mta.servers.imap.client import Answer, Client
from twisted_mta.servers.imap.pattern import INBOX, SEPARATOR, Pattern, joined
from twisted_mta.wire.imap import replies

if TYPE_CHECKING:
    from twisted_mta.mail.placement import MailboxInfo
    from twisted_mta.wire.imap.model import List, Lsub

# Names tried between two turns of the others.
_TRIED = 500


class _Names:
    """The account's names, existing and subscribed, and how they nest."""

    def __init__(
        self, mailboxes: Sequence[MailboxInfo], subscribed: Iterable[str]
    ) -> None:
        self.existing = {info.name: info for info in mailboxes}
        self.subscribed = dict.fromkeys(subscribed)
        self._with_children = {
            name.rpartition(SEPARATOR)[0] for name in self.existing if SEPARATOR in name
        }

    def all(self) -> list[str]:
        """Existing names, then those subscribed that do not exist, and above."""
        above = [each for name in self.subscribed for each in _above(name)]
        return list(dict.fromkeys([*self.existing, *above, *self.subscribed]))

    def special_use(self, name: str) -> str:
        """Its special use, empty if it has none."""
        info = self.existing.get(name)
        return "" if info is None else info.special_use

    def attributes(self, name: str, subscription: bool) -> list[str]:
        """What LIST says of a name.

        @param subscription: say whether it is subscribed.
        """
        info = self.existing.get(name)
        children = name in self._with_children
        listed = ["\\HasChildren" if children else "\\HasNoChildren"]
        if info is None:
            listed = ["\\NonExistent"]
        elif info.special_use:
            listed.append(info.special_use)
        if subscription and name in self.subscribed:
            listed.append("\\Subscribed")
        return listed


async def do_list(client: Client, command: List) -> Answer:
    if command.patterns == ("",) and not command.extended:
        # RFC 3501 6.3.8: what the separator is.
        client.write(replies.mailbox_list(b"LIST", ["\\Noselect"], SEPARATOR, ""))
        return Answer("List completed")
    account = client.mailboxes()
    options = command.selection | command.returns
    with_subscriptions = "SUBSCRIBED" in options
    subscribed = await account.subscriptions() if with_subscriptions else ()
    names = _Names(await account.mailboxes(), subscribed)
    chosen = _selected(names, command.selection)
    patterns = [Pattern(joined(command.reference, each)) for each in command.patterns]
    inner: set[str] = set()
    if "RECURSIVEMATCH" in command.selection:
        inner = await _superiors(client, chosen, patterns)
        listed = {*chosen, *inner}
        chosen = [name for name in names.all() if name in listed]
    lines = []
    for name in await _matching(client, chosen, patterns):
        attributes = names.attributes(name, with_subscriptions)
        line = replies.mailbox_list(b"LIST", attributes, SEPARATOR, name)
        if name in inner:
            line = line.removesuffix(replies.CRLF) + _child_info(command.selection)
        lines.append(line)
    await client.write_lines(lines)
    return Answer("List completed")


def _selected(names: _Names, selection: frozenset[str]) -> list[str]:
    """The names that the selection options leave (RFC 5258 3.1, RFC 6154 5.2).
    REMOTE adds nothing: there are no remote mailboxes."""
    chosen = list(names.subscribed if "SUBSCRIBED" in selection else names.existing)
    if "SPECIAL-USE" in selection:
        existing = names.existing
        return [
            name for name in chosen if name in existing and existing[name].special_use
        ]
    return chosen


async def _matching(
    client: Client, names: Sequence[str], patterns: Sequence[Pattern]
) -> list[str]:
    found = []
    for tried, name in enumerate(names):
        if tried % _TRIED == _TRIED - 1:
            await client.breathe()
        if any(pattern.matches(name) for pattern in patterns):
            found.append(name)
    return found


async def _superiors(
    client: Client, names: Sequence[str], patterns: Sequence[Pattern]
) -> set[str]:
    """RFC 5258 3.5: names above those selected that do not match themselves."""
    matching = set(await _matching(client, names, patterns))
    return {above for name in names if name not in matching for above in _above(name)}


def _above(name: str) -> list[str]:
    levels = name.split(SEPARATOR)
    return [SEPARATOR.join(levels[:count]) for count in range(1, len(levels))]


def _child_info(selection: frozenset[str]) -> bytes:
    """RFC 5258 3.5, childinfo-extended-item."""
    why = [f'"{option}"' for option in sorted(selection - {"RECURSIVEMATCH", "REMOTE"})]
    return f' ("CHILDINFO" ({" ".join(why)}))\r\n'.encode("ascii")


async def do_lsub(client: Client, command: Lsub) -> Answer:
    """A name above a subscribed one is told as \\Noselect when only it matches,
    as C{%} makes it (RFC 3501 6.3.9)."""
    account = client.mailboxes()
    pattern = Pattern(joined(command.reference, command.pattern))
    subscribed = await account.subscriptions()
    matching = set(await _matching(client, subscribed, [pattern]))
    above = await _superiors(client, subscribed, [pattern])
    candidates = sorted(above.difference(subscribed))
    implied = set(await _matching(client, candidates, [pattern]))
    for name in sorted([*matching, *implied], key=_listing_order):
        attributes = ["\\Noselect"] if name in implied else []
        client.write(replies.mailbox_list(b"LSUB", attributes, SEPARATOR, name))
    return Answer("Lsub completed")


def _listing_order(name: str) -> tuple[bool, str]:
    return name != INBOX, name


COMMANDS: dict[str, Callable[..., Awaitable[Answer | None]]] = {
    "LIST": do_list,
    "LSUB": do_lsub,
}
