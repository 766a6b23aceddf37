"""Names and passwords against the ledger's accounts.

A name is an address. The answer is the same, and takes as long, for a name that
nobody has as for a wrong password; attempts of a network that failed before wait
first. A password that was found right a moment ago waits for nothing, so that a
client which logs in again and again is not slowed by a neighbour who guesses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.auth.directory import LedgerDirectory
from twisted_mta.auth.passwords import Passwords
from twisted_mta.auth.throttle import Throttle
from twisted_mta.errors import (
    AuthenticationFailed,
    AuthenticationUnavailable,
    Temporary,
)
from twisted_mta.interfaces import IAuthenticator
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address, split

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# Of a name that failed, for the log.
_NAME_SHOWN = 80


@implementer(IAuthenticator)
class PasswordAuthenticator:
    """Checks passwords."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        directory: LedgerDirectory,
        passwords: Passwords,
        throttle: Throttle,
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._passwords = passwords
        self._throttle = throttle

    async def authenticate(self, name: str, password: str, host: str) -> Account:
        try:
            account = await self._check(name, password, host)
        except Temporary as error:
            self.log.warn(
                "login not checked: name={name!r}, client={host}: {why}",
                name=name[:_NAME_SHOWN],
                host=host,
                why=str(error),
            )
            raise AuthenticationUnavailable()
        if account is None:
            self._throttle.failed(host)
            self.log.warn(
                "login failed: name={name!r}, client={host}",
                name=name[:_NAME_SHOWN],
                host=host,
            )
            raise AuthenticationFailed()
        return account

    async def _check(self, name: str, password: str, host: str) -> Account | None:
        address = self._address(name)
        found = None
        if address is not None:
            found = await self._directory.credentials(address)
        account, stored = found or (None, None)
        if stored is not None and self._passwords.known(stored, password):
            return account
        await self._wait(host)
        right = await self._passwords.check(stored, password)
        return account if right else None

    async def _wait(self, host: str) -> None:
        delay_s = self._throttle.delay_s(host)
        if not delay_s:
            return
        if not self._throttle.enter(host):
            raise AuthenticationUnavailable()
        try:
            await deferLater(self._clock, delay_s, _nothing)
        finally:
            self._throttle.leave(host)

    def _address(self, name: str) -> Address | None:
        """The address that a name means; C{None} if nobody can have it."""
        try:
            return split(name)
        except ValueError:
            return None


def _nothing() -> None:
    """What happens after the wait."""
