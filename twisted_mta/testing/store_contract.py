"""What every mailbox backend must keep to, as tests: the promises of
L{IMailStore}, L{IAccount} and L{IMailbox}, one test each.

Whoever writes a backend derives a test case from this class first and
C{twisted.trial.unittest.TestCase} second, and gives it C{build}::

    class MaildirTests(StoreContract, TestCase):
        async def build(self):
            store = MaildirStore(self.mktemp())
            return store, alice, bob

It knows nothing of the backend but the interfaces. A backend may have lower
limits than another, but it must have some. One whose mailboxes are L{ISearchable}
has L{twisted_mta.testing.search_contract} besides.
"""

from twisted_mta.testing.account_contract import AccountContract
from twisted_mta.testing.mailbox_contract import MailboxContract
from twisted_mta.testing.message_contract import MessageContract
from twisted_mta.testing.store_case import (
    PLAIN,
    appended,
    message,
    read_all,
    uids_of,
)

__all__ = ["PLAIN", "StoreContract", "appended", "message", "read_all", "uids_of"]


class StoreContract(AccountContract, MessageContract, MailboxContract):
    """All of it."""
