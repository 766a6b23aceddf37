"""How much somebody has submitted."""

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
