"""What stands on the ledger: accounts, mailboxes, routes and the queue.

The server has one, and so has an operator's command, which works on the same
ledger whether the server runs or not.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from attrs import frozen

from twisted_mta.auth.directory import LedgerDirectory
from twisted_mta.auth.keyring import Keyring
from twisted_mta.auth.passwords import Passwords
from twisted_mta.config.schema import Config
from twisted_mta.delivery.acceptance import OwnMail
from twisted_mta.delivery.history import History
from twisted_mta.delivery.oversight import Oversight
from twisted_mta.delivery.queue import Queue
from twisted_mta.delivery.retry import Schedule
from twisted_mta.delivery.router import Router
from twisted_mta.delivery.smtp.exchanger import UNIX, check, read, read_host
from twisted_mta.delivery.srs import Returns
from twisted_mta.delivery.standing import Standing
from twisted_mta.delivery.suppression import Suppression
from twisted_mta.errors import BadFilter
from twisted_mta.interfaces import ITransaction
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address, split
from twisted_mta.store.native import NativeStore
from twisted_mta.store.search_index import SearchIndex


@frozen
class Office:
    """What stands on the ledger; for a command that runs beside the server as
    for the server itself."""

    config: Config
    ledger: Ledger
    directory: LedgerDirectory
    keyring: Keyring
    passwords: Passwords
    store: NativeStore
    index: SearchIndex
    router: Router
    own: OwnMail
    queue: Queue
    returns: Returns
    suppression: Suppression
    standing: Standing
    oversight: Oversight

    async def add_account(self, address: Address, password: str) -> Account:
        """Make an account with its mailboxes, in one transaction.

        @raise AccountExists: somebody has the address.
        """
        provision = self.store.provision
        return await self.directory.add_account(address, password, provision)

    async def remove_account(self, address: Address) -> None:
        """Remove an account with its mailboxes, in one transaction.

        @raise NoSuchAccount: nobody has the address.
        """

        def discard(transaction: ITransaction, id: int) -> None:
            self.store.discard(transaction, id)
            self.suppression.forget(transaction, address)

        await self.directory.remove_account(address, discard)

    def check_way(self, agent: str, next_hop: str) -> None:
        """Whether mail can be sent that way.

        @param agent: empty: whichever has it now.
        @param next_hop: empty: the recipient's domain.
        @raise BadFilter: the config has no such agent, or it cannot go there.
        """
        kinds = {"smtp": "smtp"}
        kinds |= {name: one.get("kind", "") for name, one in self.config.agents.items()}
        if agent and agent not in kinds:
            known = ", ".join(sorted(kinds))
            raise BadFilter(
                f"There is no agent {agent!r} in the config; it has {known}"
            )
        # Others have next hops of their own kind.
        speaking = {kinds[agent]} if agent else set(kinds.values())
        try:
            if next_hop and "lmtp" in speaking and next_hop.startswith(UNIX):
                read_host(next_hop)
            elif next_hop and speaking & {"smtp", "lmtp"}:
                check(read(next_hop))
        except ValueError:
            raise BadFilter(
                f"{next_hop!r} is no next hop; give a domain, or [HOST]:PORT"
            )

    async def close(self) -> None:
        """Close the ledger."""
        self.passwords.close()
        await self.standing.close()
        await self.index.close()
        await self.ledger.close()


def search_directory(directory: Path) -> Path:
    """Where the search index of a ledger is. All in it is made from the ledger."""
    return directory / "search"


async def open_office(reactor: Any, config: Config) -> Office:
    """Open the ledger and what stands on it.

    @raise MailError: the ledger cannot be opened.
    """
    ledger = Ledger(reactor, config.directory, config.storage.reserve)
    await ledger.open()
    passwords = Passwords(reactor)
    separators = {name: domain.subaddress for name, domain in config.domains.items()}
    keyring = Keyring(ledger, passwords)
    directory = LedgerDirectory(ledger, keyring, separators)
    index = SearchIndex(reactor, search_directory(config.directory))
    store = NativeStore(ledger, index)
    postmaster = split(config.postmaster)
    returns = Returns(reactor, ledger)
    suppression = Suppression(reactor, ledger, config.suppression)
    router = Router(
        directory,
        config.domains,
        config.routes,
        postmaster,
        returns,
        config.relay_domains,
        [split(address) for address in config.suppression.complaints],
    )
    own = OwnMail(ledger, store, router)
    standing = Standing(reactor, ledger)
    queue = Queue(
        reactor,
        ledger,
        ledger.name,
        Schedule(config.queue, random.random),
        own,
        config.hostname,
        suppression,
        History(keep=config.queue.history > 0),
        standing,
    )
    oversight = Oversight(reactor, ledger, queue, router)
    office = Office(
        config=config,
        ledger=ledger,
        directory=directory,
        keyring=keyring,
        passwords=passwords,
        store=store,
        index=index,
        router=router,
        own=own,
        queue=queue,
        returns=returns,
        suppression=suppression,
        standing=standing,
        oversight=oversight,
    )
    try:
        await standing.open()
    except BaseException:
        await office.close()
        raise
    return office
