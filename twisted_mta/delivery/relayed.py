"""Who exists in domains that we take mail for while their own server is away (backup
MX).

Without knowing that, a backup MX takes mail for nobody and has to return it to senders
who are forged: so each domain has a list, or its server is asked and the answer is
remembered. C{postmaster} is always there (RFC 5321 4.5.1).
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.config import schema
from twisted_mta.delivery import recipientlist
from twisted_mta.delivery.callout import Callout
from twisted_mta.errors import ConfigError, NoSuchAccount
from twisted_mta.interfaces import IRecipients
from twisted_mta.mail.address import Address
from twisted_mta.mail.domain import known_as
from twisted_mta.mail.route import ToAgent


@implementer(IRecipients)
class Relayed:
    """The domains.

    @param lists: as L{read_lists} gave them.
    """

    _log = Logger()

    def __init__(
        self,
        domains: Mapping[str, schema.RelayDomain],
        lists: Mapping[str, frozenset[str]],
        callout: Callout,
    ) -> None:
        self._domains = {known_as(name): each for name, each in domains.items()}
        self._names = {known_as(name): name for name in domains}
        self._callout = callout
        self._lists = lists

    async def check(self, recipient: Address, way: ToAgent) -> None:
        """See L{IRecipients.check}."""
        if recipient.local.casefold() == "postmaster":
            return
        domain = known_as(recipient.domain)
        who = self._domains[domain].recipients
        if who == "callout":
            await self._callout.check(recipient, way)
        elif who != "any":
            name = self._names[domain]
            as_listed = Address(recipient.local, name)
            if not recipientlist.has(self._lists[name], as_listed):
                raise NoSuchAccount()

    def reload(self) -> bool:
        """Read the lists again. If one cannot be used all stay as they were.

        @return: whether there are any, and they were read.
        """
        if not self._lists:
            return False
        try:
            self._lists = read_lists(
                {self._names[name]: each for name, each in self._domains.items()}
            )
        except ConfigError as error:
            for problem in error.problems:
                self._log.error(
                    "{problem}; the lists stay as they were", problem=problem
                )
            return False
        return True


def read_lists(
    domains: Mapping[str, schema.RelayDomain],
) -> dict[str, frozenset[str]]:
    """The lists of all domains that have one.

    @raise ConfigError: all that is wrong.
    """
    lists: dict[str, frozenset[str]] = {}
    problems: list[str] = []
    for name, each in domains.items():
        if isinstance(each.recipients, str):
            continue
        try:
            lists[name] = recipientlist.read(each.recipients, name)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return lists
