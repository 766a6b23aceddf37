"""Which messages an operator means.

A filter is what a person says on a command line or a page: addresses with C{*} for
any run of characters, a domain, an age. It is looked up in the ledger
(L{twisted_mta.delivery.selection}) or held against a message that is being accepted;
both mean the same by it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields

from twisted_mta.errors import BadFilter, NoSuchQueueId
from twisted_mta.mail.ids import from_text

#: The states of what waits.
STATES = ("waiting", "active", "held", "frozen")

#: How the null sender is written.
NULL = "<>"

# Values of one statement: SQLite takes 32766.
_IDS_MOST = 10_000

# Of any text; an address has at most 254.
_TEXT_MOST = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """All that is said has to fit; what is C{None} or empty fits everything.

    @ivar ids: queue ids as text.
    @ivar states: some of L{STATES}.
    @ivar sender: an address, C{@domain}, or either with C{*}; L{NULL} for the null
        sender.
    @ivar recipient: the same.
    @ivar domain: of the recipient; C{.example.org} for those below it.
    @ivar site: the next hop.
    @ivar account: the address that logged in.
    @ivar agent: the name of a delivery agent.
    @ivar error: a part of what the last attempt said.
    @ivar older_s: accepted at least so long ago, seconds.
    @ivar younger_s: accepted less long ago.
    @ivar everything: whoever says nothing else means all there is. Without it, no
        change is made by a filter that fits everything.
    @raise BadFilter: it makes no sense.
    @raise NoSuchQueueId: one of the ids is none.
    """

    ids: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    sender: str | None = None
    recipient: str | None = None
    domain: str | None = None
    site: str | None = None
    account: str | None = None
    agent: str | None = None
    error: str | None = None
    older_s: float | None = None
    younger_s: float | None = None
    everything: bool = False

    def __post_init__(self) -> None:
        for state in self.states:
            if state not in STATES:
                raise BadFilter(
                    f"There is no state {state!r}; it is one of {', '.join(STATES)}"
                )
        for name in _TEXTS:
            text = getattr(self, name)
            if text is None:
                continue
            if not text or len(text) > _TEXT_MOST or not text.isprintable():
                raise BadFilter(f"{name}: cannot be {text[:50]!r}")
        if self.domain is not None and "@" in self.domain:
            raise BadFilter(
                f"domain: {self.domain!r} is an address; use recipient for it"
            )
        for name in ("older_s", "younger_s"):
            age = getattr(self, name)
            if age is not None and not 0 <= age < float("inf"):
                raise BadFilter(f"{name.removesuffix('_s')}: cannot be {age}")
        if len(self.ids) > _IDS_MOST:
            raise BadFilter(f"More than {_IDS_MOST} ids; name fewer at a time")
        for id in self.ids:
            try:
                from_text(id)
            except ValueError:
                raise NoSuchQueueId(f"No message {id!r} in the queue")

    @property
    def empty(self) -> bool:
        """Everything fits."""
        return not any(
            getattr(self, field.name) is not None
            if field.default is None
            else getattr(self, field.name)
            for field in fields(self)
            if field.name != "everything"
        )

    # Of mail that is being accepted. State, age and error are of what waits: none of
    # them can be said of it.

    def fits_from(self, sender: str, account: str) -> bool:
        """Whether a message is meant by where it comes from.

        @param sender: empty for the null sender.
        """
        return _fits(self.sender, sender or NULL) and _fits(self.account, account)

    def fits_way(self, recipient: str, agent: str, next_hop: str) -> bool:
        """Whether one of its recipients is, by whom it is and how it goes there."""
        return (
            _fits(self.recipient, recipient)
            and (self.domain is None or matches(at_domain(self.domain), recipient))
            and _fits(self.site, next_hop)
            and _fits(self.agent, agent)
        )

    def said(self) -> str:
        """As it is shown: C{sender=@a.test, older=2h}."""
        words = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "everything" or value is None or value == ():
                continue
            if isinstance(value, tuple):
                value = " ".join(value)
            words.append(f"{field.name.removesuffix('_s')}={value}")
        return ", ".join(words) or "everything"

    def written(self) -> str:
        """As JSON."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        usual = Filter()
        return json.dumps(
            {
                name: value
                for name, value in given.items()
                if value != getattr(usual, name)
            }
        )


def read(text: str) -> Filter:
    """The filter that L{Filter.written} wrote."""
    given = json.loads(text)
    for name in ("ids", "states"):
        given[name] = tuple(given.get(name, ()))
    return Filter(**given)


def address(pattern: str) -> str:
    """The pattern of whole addresses that a person means."""
    return f"*{pattern}" if pattern.startswith("@") else pattern


def at_domain(domain: str) -> str:
    """The pattern of addresses in a domain, or below it."""
    return f"*@*{domain}" if domain.startswith(".") else f"*@{domain}"


def like(pattern: str) -> str:
    """A pattern for SQL's LIKE, with C{!} as its escape."""
    return re.sub(r"([!%_])", r"!\1", pattern).replace("*", "%")


_TEXTS = ("sender", "recipient", "domain", "site", "account", "agent", "error")


def _fits(pattern: str | None, text: str) -> bool:
    return pattern is None or matches(address(pattern), text)


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern fits a text, in any case. No expression does it: strangers
    choose the text, and some patterns would take an expression very long."""
    first, *others = pattern.lower().split("*")
    text = text.lower()
    if not others:
        return text == first
    if not text.startswith(first):
        return False
    at, end = len(first), len(text) - len(others[-1])
    for part in others[:-1]:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return at <= end and text.endswith(others[-1])
