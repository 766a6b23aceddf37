"""What somebody has submitted: how much, and the copy that is kept of it."""

from typing import NamedTuple


class Submitted(NamedTuple):
    """Of one account.

    @ivar messages_hour: in this hour of the clock and the one before, by the share
        of that one that is less than an hour ago.
    @ivar messages_day: in the last 24 hours.
    """

    messages_hour: float = 0.0
    messages_day: float = 0.0
    recipients_hour: float = 0.0
    recipients_day: float = 0.0


class Saved(NamedTuple):
    """A copy for whoever submitted a message.

    @ivar account: the id of his account.
    @ivar blind: header fields that only he sees (Bcc), with their line ends.
    """

    account: int
    blind: bytes = b""
