"""L{twisted_mta.auth.authenticator}, on a real ledger and a clock."""

from typing import Any, cast
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from tests.auth.fakes import DirectoryTestCase
from twisted_mta.auth.authenticator import Authenticator
from twisted_mta.auth.throttle import Throttle
from twisted_mta.errors import (
    AuthenticationFailed,
    AuthenticationUnavailable,
    LedgerUnavailable,
)
from twisted_mta.interfaces import IAuthenticator
from twisted_mta.mail.account import Account
from twisted_mta.mail.channel import Channel

HOST = "192.0.2.1"
OTHER = "198.51.100.1"


class AuthenticatorTests(DirectoryTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.throttle = Throttle(cast(Any, self.clock))
        self.authenticator = self.made()
        self.bob = await self.add("bob@example.test", "pass word")

    def made(self) -> Authenticator:
        """With the passwords of now."""
        return Authenticator(
            cast(Any, self.clock),
            self.directory,
            self.keyring,
            self.passwords,
            self.throttle,
        )

    async def log_in(
        self, name: str = "bob@example.test", password: str = "pass word"
    ) -> Account:
        """An attempt from C{HOST}."""
        return await self.authenticator.authenticate(
            name, password, Channel(HOST, "smtp")
        )

    async def fails(self, name: str, password: str) -> AuthenticationFailed:
        """An attempt that fails; its wait, if any, is let pass."""
        trying = Deferred.fromCoroutine(self.log_in(name, password))
        self.clock.advance(15)
        try:
            await trying
        except AuthenticationFailed as error:
            return error
        raise AssertionError("it did not fail")

    def test_interface(self) -> None:
        """It is an L{IAuthenticator}."""
        verifyObject(IAuthenticator, self.authenticator)

    async def test_right(self) -> None:
        """The account of the address, in any case of letters."""
        self.assertEqual(await self.log_in(), self.bob)
        self.assertEqual(await self.log_in("Bob@Example.TEST"), self.bob)

    async def test_no_domain(self) -> None:
        """A name without a domain is nobody's."""
        await self.fails("bob", "pass word")

    async def test_h39_same_answer(self) -> None:
        """A wrong password, an unknown name and what is no name cannot be told
        apart, and each costs one hash."""
        await self.alias("alias@example.test", "bob@example.test")
        checks = []
        check = self.passwords.check

        async def counting(stored: str | None, password: str) -> bool:
            checks.append(stored is None)
            return await check(stored, password)

        self.passwords = mock.Mock(wraps=self.passwords, check=counting)
        self.authenticator = self.made()
        texts = set()
        for name in (
            "bob@example.test",
            "nobody@example.test",
            "alias@example.test",
            "bob",
            "",
            "@",
            "a@b@c",
        ):
            error = await self.fails(name, "wrong")
            texts.add((error.text, error.status))
        self.assertEqual(len(texts), 1)
        self.assertEqual(checks, [False] + [True] * 6)

    async def test_h39_penalty(self) -> None:
        """After failures the next attempt of that address waits before it is
        looked at, right or wrong; others do not wait."""
        await self.fails("bob@example.test", "wrong")
        trying = Deferred.fromCoroutine(self.log_in())
        self.clock.advance(1.9)
        self.assertNoResult(trying)
        elsewhere = self.authenticator.authenticate(
            "bob@example.test", "pass word", Channel(OTHER, "smtp")
        )
        self.assertEqual(await elsewhere, self.bob)
        self.clock.advance(0.2)
        self.assertEqual(await trying, self.bob)

    async def test_h39_a_thousand_guesses(self) -> None:
        """Each but the first few takes 15 seconds, and success of another
        account between them changes nothing."""
        await self.add("eve@example.test", "her own")
        for _ in range(4):
            await self.fails("bob@example.test", "guess")
        self.assertEqual(self.throttle.delay_s(HOST), 15)
        eve = Deferred.fromCoroutine(self.log_in("eve@example.test", "her own"))
        self.clock.advance(15)
        await eve
        self.assertEqual(self.throttle.delay_s(HOST), 15)

    async def test_h39_many_connections_at_once(self) -> None:
        """Of one network's attempts a few may wait; the others are told to come
        back, and are not looked at. Afterwards there is room again."""
        await self.fails("bob@example.test", "guess")
        tries = [Deferred.fromCoroutine(self.log_in()) for _ in range(50)]
        for refused in tries[5:]:
            self.failureResultOf(refused, AuthenticationUnavailable)
        self.clock.advance(2)
        for waited in tries[:5]:
            self.assertEqual(await waited, self.bob)
        await self.fails("bob@example.test", "guess")

    async def test_known_password_does_not_wait(self) -> None:
        """A client that logged in a moment ago is not slowed by a neighbour who
        guesses."""
        await self.log_in()
        await self.fails("amy@example.test", "guess")
        self.assertEqual(await self.log_in(), self.bob)

    async def test_changed_password(self) -> None:
        """The old one is wrong at once, although it was right a moment ago; a
        removed account cannot log in."""
        await self.log_in()
        await self.directory.set_password(self.bob.address, "new")
        await self.fails("bob@example.test", "pass word")
        await self.directory.remove_account(self.bob.address, lambda *_: None)
        await self.fails("bob@example.test", "new")

    async def test_h41_hostile_names(self) -> None:
        """They fail like any other, and the log has one line of each, escaped
        and short."""
        for name in ("a\r\nb@c", "\x1b[2J", "';--", "*)(uid=*", "x" * 10_000, "\0"):
            with capturedLogs() as captured:
                await self.fails(name, "x")
            (event,) = captured
            line = formatEvent(event)
            self.assertLess(len(line), 200)
            self.assertTrue(line.isprintable(), line)

    async def test_no_ledger(self) -> None:
        """Trouble of the ledger is temporary and nobody's failure."""

        def broken(query: object) -> object:
            raise LedgerUnavailable()

        self.patch(self.ledger, "lookup", broken)
        with self.assertRaises(AuthenticationUnavailable):
            await self.log_in()
        self.assertEqual(self.throttle.delay_s(HOST), 0)
