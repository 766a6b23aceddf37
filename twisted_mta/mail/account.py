"""An account as a value."""

from dataclasses import dataclass

from twisted_mta.mail.address import Address


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who has mailboxes here and may log in.

    @ivar id: stable; every key of the ledger leads with it.
    @ivar address: the address that is also the login's name.
    @ivar save_sent: what it submits is kept in its mailbox for sent mail.
    """

    id: int
    address: Address
    save_sent: bool = False
