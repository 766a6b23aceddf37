"""SASL exchanges on top of a check of passwords: PLAIN and LOGIN.

It is what every protocol's AUTH calls; how challenges and responses travel is theirs.
Whoever can check more than a password derives from it and adds mechanisms.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from zope.interface import implementer

from twisted_mta.errors import UnknownMechanism
from twisted_mta.interfaces import IAuthenticator
from twisted_mta.mail.account import Account
from twisted_mta.mail.channel import Channel
from twisted_mta.wire import sasl

#: Sends a challenge and returns the response, both decoded.
Ask = Callable[[bytes], Awaitable[bytes]]

Exchange = Callable[[bytes | None, Channel, Ask], Awaitable[Account]]


@implementer(IAuthenticator)
class Exchanges:
    """The mechanisms, in the order of their strength."""

    async def authenticate(self, name: str, password: str, channel: Channel) -> Account:
        """See L{IAuthenticator.authenticate}."""
        raise NotImplementedError

    def exchanges(self, channel: Channel) -> Mapping[str, Exchange]:
        """What can be had over this connection, by name."""
        return {"PLAIN": self._plain, "LOGIN": self._login} if channel.private else {}

    def mechanisms(self, channel: Channel) -> Sequence[str]:
        """See L{IAuthenticator.mechanisms}."""
        return tuple(self.exchanges(channel))

    async def exchange(
        self, mechanism: str, initial: bytes | None, channel: Channel, ask: Ask
    ) -> Account:
        """See L{IAuthenticator.exchange}."""
        exchange = self.exchanges(channel).get(mechanism)
        if exchange is None:
            raise UnknownMechanism()
        return await exchange(initial, channel, ask)

    async def _plain(
        self, initial: bytes | None, channel: Channel, ask: Ask
    ) -> Account:
        return await self._password(sasl.Plain(), initial, channel, ask)

    async def _login(
        self, initial: bytes | None, channel: Channel, ask: Ask
    ) -> Account:
        return await self._password(sasl.Login(), initial, channel, ask)

    async def _password(
        self,
        mechanism: sasl.ServerMechanism,
        response: bytes | None,
        channel: Channel,
        ask: Ask,
    ) -> Account:
        while True:
            step = mechanism.next(response)
            if isinstance(step, sasl.Credentials):
                return await self.authenticate(step.name, step.password, channel)
            response = await ask(step)
