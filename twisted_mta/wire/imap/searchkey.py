"""What a SEARCH looks for (RFC 3501 6.4.4), as a tree of keys.

Derived keys are taken apart by the parser: NEW is And(HasFlag("\\Recent"),
Not(HasFlag("\\Seen"))), FROM is a HeaderContains. What they mean of a message is
not known here.
"""

from dataclasses import dataclass
from datetime import date
from typing import Literal, TypeAlias

from twisted_mta.mail.uidset import UidSet

DayField: TypeAlias = Literal["internal", "sent"]
DayRelation: TypeAlias = Literal["before", "on", "since"]


@dataclass(frozen=True, slots=True)
class Everything:
    """ALL."""


@dataclass(frozen=True, slots=True)
class InSet:
    """A sequence set, of UIDs if C{uid}, else of sequence numbers."""

    numbers: UidSet
    uid: bool


@dataclass(frozen=True, slots=True)
class HasFlag:
    """A flag or keyword is set: C{"\\Seen"}, C{"\\Recent"}, C{"$Junk"}."""

    flag: str


@dataclass(frozen=True, slots=True)
class HeaderContains:
    """A header field contains a substring; an empty one asks for presence.

    @ivar field: the field's name in lower case, without the colon.
    """

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class BodyContains:
    """BODY: the body, without the header, contains a substring."""

    text: str


@dataclass(frozen=True, slots=True)
class TextContains:
    """TEXT: the header or the body contains a substring."""

    text: str


@dataclass(frozen=True, slots=True)
class OnDay:
    """A date, disregarding time and zone: INTERNALDATE (C{"internal"}) or the
    Date header (C{"sent"}) is before, on, or on-or-after C{day}."""

    field: DayField
    relation: DayRelation
    day: date


@dataclass(frozen=True, slots=True)
class LargerThan:
    """RFC822.SIZE is strictly larger than C{octets}."""

    octets: int


@dataclass(frozen=True, slots=True)
class SmallerThan:
    """RFC822.SIZE is strictly smaller than C{octets}."""

    octets: int


@dataclass(frozen=True, slots=True)
class And:
    """All of the keys; at least two."""

    keys: "tuple[SearchKey, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """One of the keys; at least two (nested ORs are flattened)."""

    keys: "tuple[SearchKey, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """Not the key."""

    key: "SearchKey"


SearchKey: TypeAlias = (
    Everything
    | InSet
    | HasFlag
    | HeaderContains
    | BodyContains
    | TextContains
    | OnDay
    | LargerThan
    | SmallerThan
    | And
    | Or
    | Not
)
