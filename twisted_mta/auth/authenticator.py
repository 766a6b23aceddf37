"""Who somebody is, by password, SCRAM, token or certificate.

A name is an address. The answer is the same, and takes as long, for a name that
nobody has as for a wrong password; attempts of a network that failed before wait
first, and so do those for an account at which many failed, unless they come from
where its owner has logged in: nobody can lock him out from everywhere. A password
that was found right a moment ago waits for nothing, nor does one of a program, so that
a client which logs in again and again is not slowed by a neighbour who guesses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_mta.auth.directory import LedgerDirectory
from twisted_mta.auth.exchange import Ask, Exchange, Exchanges
from twisted_mta.auth.keyring import Keyring, ScramKeys
from twisted_mta.auth.passwords import Passwords
from twisted_mta.auth.throttle import Throttle
from twisted_mta.errors import (
    AuthenticationFailed,
    AuthenticationUnavailable,
    Temporary,
)
from twisted_mta.interfaces import ITokenVerifier
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.channel import CertifiedNames, Channel, unbound
from twisted_mta.wire import oauth, scram

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# Of a name that failed, for the log.
_NAME_SHOWN = 80

_CERTIFICATE_NAMES: Mapping[str, Callable[[CertifiedNames], Sequence[str]]] = {
    "email": lambda certified: certified.addresses,
    "common_name": lambda certified: certified.common_names,
}

#: All mechanisms, as they are offered.
MECHANISMS = (
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "EXTERNAL",
    "OAUTHBEARER",
    "XOAUTH2",
    "PLAIN",
    "LOGIN",
)


class Authenticator(Exchanges):
    """Checks who somebody is.

    @param offered: the mechanisms that may be used.
    @param verifiers: say whose a token is; without any no token is good.
    @param certificate_name: what of a certificate names an account: C{"email"} or
        C{"common_name"}.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        directory: LedgerDirectory,
        keyring: Keyring,
        passwords: Passwords,
        throttle: Throttle,
        offered: Collection[str] = MECHANISMS,
        verifiers: Sequence[ITokenVerifier] = (),
        certificate_name: str = "email",
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._keyring = keyring
        self._passwords = passwords
        self._throttle = throttle
        self._offered = frozenset(offered)
        self._verifiers = tuple(verifiers)
        self._names = _CERTIFICATE_NAMES[certificate_name]

    def exchanges(self, channel: Channel) -> Mapping[str, Exchange]:
        """See L{Exchanges.exchanges}."""
        if not channel.private:
            return {}
        bound = any(channel.binding(name) is not None for name in scram.BINDINGS)
        possible: dict[str, Exchange] = {}
        for mechanism in MECHANISMS:
            plus = mechanism.endswith("-PLUS")
            if mechanism.startswith("SCRAM") and (bound or not plus):
                possible[mechanism] = partial(self._scram, mechanism)
        if self._names(channel.certified):
            possible["EXTERNAL"] = self._external
        if self._verifiers:
            possible["OAUTHBEARER"] = partial(self._token, oauth.read_bearer)
            possible["XOAUTH2"] = partial(self._token, oauth.read_xoauth2)
        possible |= super().exchanges(channel)
        return {name: one for name, one in possible.items() if name in self._offered}

    # --- passwords ---

    async def authenticate(self, name: str, password: str, channel: Channel) -> Account:
        """See L{IAuthenticator.authenticate}."""
        return await self._judge(name, channel, self._check(name, password, channel))

    async def _check(
        self, name: str, password: str, channel: Channel
    ) -> Account | None:
        # A second factor would be asked for wherever this, or _scram, finds that an
        # account's own password is right (docs/design.rst, Where a second factor goes).
        address = _address(name)
        found = None
        if address is not None:
            found = await self._keyring.credentials(address)
        account, stored = found or (None, None)
        if stored is not None and self._passwords.known(stored, password):
            return account
        # Nobody guesses one of these, so its client waits for no neighbour who tries.
        if account is not None and await self._keyring.check_app_password(
            account, password, channel.protocol
        ):
            return account
        await self._wait(name, channel.host)
        if not await self._passwords.check(stored, password) or account is None:
            return None
        await self._keyring.keep_scram(account, stored or "", password)
        return account

    # --- SCRAM ---

    async def _scram(
        self, mechanism: str, initial: bytes | None, channel: Channel, ask: Ask
    ) -> Account:
        # A client that could bind is right to say so where -PLUS is not offered.
        plus = f"{mechanism.removesuffix('-PLUS')}-PLUS" in self._offered
        binding = channel.binding if plus else unbound
        exchange = scram.ScramServer(mechanism, binding)
        response = initial if initial is not None else await ask(b"")
        try:
            name = exchange.first(response).name
        except AuthenticationFailed:
            raise self._failed(f"{mechanism}: channel binding", channel)
        found = await self._keys(name, exchange.mechanism, channel.protocol)
        if found is None:
            nobody = await self._nobody(name, exchange.mechanism)
            response = await ask(exchange.found(nobody))
        else:
            response = await ask(exchange.found(*found.keys))
        said: list[bytes] = []

        async def verify() -> Account | None:
            await self._wait(name, channel.host)
            try:
                said.append(exchange.final(response))
            except AuthenticationFailed:
                return None
            return None if found is None else found.account

        verified = await self._judge(name, channel, verify())
        program = found.programs[exchange.shown] if found is not None else ""
        if program:
            await self._keyring.used(verified, program)
        await ask(said[0])
        return verified

    async def _keys(self, name: str, mechanism: str, protocol: str) -> ScramKeys | None:
        address = _address(name)
        if address is None:
            return None
        try:
            return await self._keyring.scram_keys(address, mechanism, protocol)
        except Temporary:
            raise AuthenticationUnavailable()

    async def _nobody(self, name: str, mechanism: str) -> scram.Keys:
        """Keys that nobody has."""
        address = _address(name)
        key = address.key if address is not None else name.casefold()
        try:
            return await self._keyring.no_keys(key, mechanism)
        except Temporary:
            raise AuthenticationUnavailable()

    # --- certificates and tokens ---

    async def _external(
        self, initial: bytes | None, channel: Channel, ask: Ask
    ) -> Account:
        """RFC 4422 A: who the certificate says, or one of those if it says several."""
        wanted = initial if initial is not None else await ask(b"")
        name = wanted.decode(errors="replace") or self._names(channel.certified)[0]
        return await self._judge(name, channel, self._certified(name, channel))

    async def _certified(self, name: str, channel: Channel) -> Account | None:
        await self._wait(name, channel.host)
        address = _address(name)
        certified = [_address(each) for each in self._names(channel.certified)]
        if address is None or address.key not in {a.key for a in certified if a}:
            return None
        return await self._directory.account(address)

    async def _token(
        self,
        read: Callable[[bytes], oauth.Token],
        initial: bytes | None,
        channel: Channel,
        ask: Ask,
    ) -> Account:
        token = read(initial if initial is not None else await ask(b""))
        shown = token.name or "a token"
        try:
            return await self._judge(shown, channel, self._bearer(token, channel))
        except AuthenticationFailed:
            await ask(oauth.refusal())  # RFC 7628 3.2.3: then it fails
            raise

    async def _bearer(self, token: oauth.Token, channel: Channel) -> Account | None:
        await self._wait(token.name, channel.host)
        for verifier in self._verifiers:
            name = await verifier.verify(token.token, channel)
            address = _address(name) if name else None
            if address is None:
                continue
            wanted = _address(token.name) if token.name else address
            if wanted is None or wanted.key != address.key:
                return None
            return await self._directory.account(address)
        return None

    # --- what is the same for all ---

    async def _judge(
        self, name: str, channel: Channel, check: Awaitable[Account | None]
    ) -> Account:
        """The account that a check came to; a failure is counted and told."""
        try:
            account = await check
        except Temporary as error:
            self.log.warn(
                "login not checked: name={name!r}, client={host}: {why}",
                name=name[:_NAME_SHOWN],
                host=channel.host,
                why=str(error),
            )
            raise AuthenticationUnavailable()
        if account is None:
            raise self._failed(name, channel)
        self._throttle.succeeded(channel.host, account.address.key)
        return account

    def _failed(self, name: str, channel: Channel) -> AuthenticationFailed:
        address = _address(name)
        self._throttle.failed(channel.host, address.key if address else "")
        self.log.warn(
            "login failed: name={name!r}, client={host}",
            name=name[:_NAME_SHOWN],
            host=channel.host,
        )
        return AuthenticationFailed()

    async def _wait(self, name: str, host: str) -> None:
        address = _address(name)
        delay_s = self._throttle.delay_s(host, address.key if address else "")
        if not delay_s:
            return
        if not self._throttle.enter(host):
            raise AuthenticationUnavailable()
        try:
            await deferLater(self._clock, delay_s, _nothing)
        finally:
            self._throttle.leave(host)


def _address(name: str) -> Address | None:
    """The address that a name means; C{None} if nobody can have it."""
    try:
        return split(name)
    except ValueError:
        return None


def _nothing() -> None:
    """What happens after the wait."""
