"""What a sender who asked for it is told of a message that was accepted (RFC 3461)."""

from dataclasses import dataclass
from typing import Literal

from twisted_mta.mail.address import Address
from twisted_mta.mail.dsn import Notification


@dataclass(frozen=True, slots=True)
class Confirmation:
    """One recipient's mail has come to its end here.

    @ivar recipient: as the sender gave it.
    @ivar notification: what he asked to be told.
    @ivar action: C{"delivered"} into a mailbox, or C{"expanded"}: the recipient
        stands for several (RFC 3461 5.2.7).
    """

    recipient: Address
    notification: Notification
    action: Literal["delivered", "expanded"]
