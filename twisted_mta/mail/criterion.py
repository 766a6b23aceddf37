"""What a search asks of messages, and what an index can say to it.

Values only. A text is looked for as L{twisted_mta.mail.text} has it: decoded,
folded, as a substring. An index may answer for some messages and leave others to
be looked at; it never answers wrongly.
"""

from dataclasses import dataclass
from enum import Enum


class Place(Enum):
    """Where a text is looked for."""

    BODY = "body"
    """L{text.pull_texts <twisted_mta.mail.text.pull_texts>}."""

    TEXT = "text"
    """The same and L{text.block_text <twisted_mta.mail.text.block_text>}."""

    FIELD = "field"
    """L{text.header_text <twisted_mta.mail.text.header_text>}; when the text is
    empty, L{text.has_field <twisted_mta.mail.text.has_field>}."""


@dataclass(frozen=True, slots=True)
class TextCriterion:
    """A text in some place.

    @ivar text: folded.
    @ivar field: the field's name where the place is one, else empty.
    """

    place: Place
    text: str
    field: bytes = b""


@dataclass(frozen=True, slots=True)
class DayCriterion:
    """A day between two, both included.

    @ivar sent: that of the Date field, else that of the arrival (UTC).
    @ivar first: C{date.toordinal()}.
    @ivar last: the same; past all days for no end.
    """

    sent: bool
    first: int
    last: int


Criterion = TextCriterion | DayCriterion


@dataclass(frozen=True, slots=True)
class Found:
    """An answer. Messages in neither set do not match.

    @ivar sure: UIDs of messages that match.
    @ivar unsure: UIDs of messages that have to be looked at.
    """

    sure: frozenset[int]
    unsure: frozenset[int]
