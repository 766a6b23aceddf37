"""L{twisted_mta.auth.authenticator}: exchanges, on a real ledger and a clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, get_args
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.auth.fakes import DirectoryTestCase
from twisted_mta.auth.authenticator import MECHANISMS, Authenticator
from twisted_mta.auth.throttle import Throttle
from twisted_mta.config import schema
from twisted_mta.errors import (
    AuthenticationCancelled,
    AuthenticationFailed,
    AuthenticationUnavailable,
    LedgerFull,
    Temporary,
    TooMany,
    UnknownMechanism,
)
from twisted_mta.interfaces import IAuthenticator, ITokenVerifier
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import split
from twisted_mta.mail.channel import CertifiedNames, Channel
from twisted_mta.wire import oauth
from twisted_mta.wire.sasl import Credentials, MalformedResponse
from twisted_mta.wire.scram import ScramClient

BOB = "bob@example.test"
HOST = "192.0.2.1"
BOUND = b"this connection"


def bound(name: str) -> bytes | None:
    return BOUND if name == "tls-exporter" else None


PLAIN = Channel(HOST, "imap")
SECURE = Channel(HOST, "imap", binding=bound)


@implementer(ITokenVerifier)
class Tokens:
    """Knows C{good}, which is bob's."""

    def __init__(self) -> None:
        self.fails: Exception | None = None

    async def verify(self, token: str, channel: Channel) -> str | None:
        if self.fails is not None:
            raise self.fails
        return BOB if token == "good" else None


class MechanismCase(DirectoryTestCase):
    offered: Sequence[str] = MECHANISMS
    certificate_name = "email"

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.throttle = Throttle(cast(Any, self.clock))
        self.tokens = Tokens()
        self.authenticator = Authenticator(
            cast(Any, self.clock),
            self.directory,
            self.keyring,
            self.passwords,
            self.throttle,
            self.offered,
            [self.tokens],
            self.certificate_name,
        )
        self.bob = await self.add(BOB, "pass word")
        self.asked: list[bytes] = []

    async def scram(
        self,
        client: ScramClient,
        channel: Channel = SECURE,
        mechanism: str = "",
    ) -> Account:
        """An exchange with our client."""

        async def ask(challenge: bytes) -> bytes:
            return client.next(challenge)

        account = await self.authenticator.exchange(
            mechanism or client.name, client.initial(), channel, ask
        )
        assert client.verified
        return account

    async def say(
        self, mechanism: str, initial: bytes | None, channel: Channel, *answers: bytes
    ) -> Account:
        """An exchange by hand."""
        left = list(answers)

        async def ask(challenge: bytes) -> bytes:
            self.asked.append(challenge)
            if not left:
                raise AuthenticationCancelled()
            return left.pop(0)

        return await self.authenticator.exchange(mechanism, initial, channel, ask)


class OfferTests(MechanismCase):
    def test_interface(self) -> None:
        """It is an L{IAuthenticator}; the config knows all mechanisms, and begins with
        those that no client gets wrong."""
        verifyObject(IAuthenticator, self.authenticator)
        verifyObject(ITokenVerifier, self.tokens)
        self.assertEqual(get_args(schema.MechanismName), MECHANISMS)
        without = tuple(name for name in MECHANISMS if not name.endswith("-PLUS"))
        self.assertEqual(schema.Login().mechanisms, without)

    def test_what_is_possible(self) -> None:
        """-PLUS where there is something to bind to, EXTERNAL where there is a
        certificate; nothing in the clear."""
        certified = Channel(HOST, binding=bound, certified=CertifiedNames((BOB,)))
        self.assertEqual(self.authenticator.mechanisms(certified), MECHANISMS)
        without = [name for name in MECHANISMS if name != "EXTERNAL"]
        self.assertEqual(list(self.authenticator.mechanisms(SECURE)), without)
        without = [name for name in without if not name.endswith("-PLUS")]
        self.assertEqual(list(self.authenticator.mechanisms(PLAIN)), without)
        clear = Channel(
            HOST, private=False, binding=bound, certified=CertifiedNames((BOB,))
        )
        self.assertEqual(self.authenticator.mechanisms(clear), ())

    async def test_unknown(self) -> None:
        """What is not offered cannot be used."""
        for name, channel in (
            ("X-NONE", SECURE),
            ("SCRAM-SHA-256-PLUS", PLAIN),
            ("EXTERNAL", SECURE),
            ("PLAIN", Channel(HOST, private=False)),
        ):
            with self.assertRaises(UnknownMechanism):
                await self.say(name, None, channel)


class FewTests(MechanismCase):
    offered = ("SCRAM-SHA-256",)

    async def test_config(self) -> None:
        """The config can leave mechanisms out."""
        self.assertEqual(self.authenticator.mechanisms(SECURE), ("SCRAM-SHA-256",))
        with self.assertRaises(UnknownMechanism):
            await self.say("PLAIN", b"\0bob@example.test\0pass word", SECURE)

    async def test_h40_no_downgrade(self) -> None:
        """Where -PLUS is left out, a client that could bind and is not offered it is
        not refused for saying so."""
        client = ScramClient(Credentials(BOB, "pass word"), offered_plus=False)
        self.assertEqual(await self.scram(client), self.bob)


class PasswordTests(MechanismCase):
    async def test_plain_and_login(self) -> None:
        """With and without an initial response."""
        plain = b"\0bob@example.test\0pass word"
        self.assertEqual(await self.say("PLAIN", plain, PLAIN), self.bob)
        self.assertEqual(await self.say("PLAIN", None, PLAIN, plain), self.bob)
        name, password = b"bob@example.test", b"pass word"
        found = await self.say("LOGIN", None, PLAIN, name, password)
        self.assertEqual(found, self.bob)
        self.assertEqual(await self.say("LOGIN", name, PLAIN, password), self.bob)
        self.assertEqual(self.asked, [b"", b"Username:", b"Password:", b"Password:"])

    async def test_h40_cancelled(self) -> None:
        """A client that cancels has not failed."""
        with self.assertRaises(AuthenticationCancelled):
            await self.say("PLAIN", None, PLAIN)
        self.assertEqual(self.throttle.delay_s(HOST), 0)


class ScramTests(MechanismCase):
    async def test_each(self) -> None:
        """Bob logs in, in any case of letters, by each of them."""
        credentials = Credentials("Bob@example.test", "pass word")
        for name in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
            self.assertEqual(await self.scram(ScramClient(credentials, name)), self.bob)
            plus = ScramClient(credentials, f"{name}-PLUS", ("tls-exporter", BOUND))
            self.assertEqual(await self.scram(plus), self.bob)

    async def test_h39_same_answer(self) -> None:
        """A wrong password, a name that nobody has and what is no name fail alike,
        after as many steps, and are counted."""
        texts = set()
        for name in (BOB, "nobody@example.test", "bob", "b=ob@@"):
            self.clock.advance(3600)
            with capturedLogs() as captured:
                trying = Deferred.fromCoroutine(
                    self.scram(ScramClient(Credentials(name, "wrong")))
                )
                self.clock.advance(15)
                with self.assertRaises(AuthenticationFailed) as caught:
                    await trying
            texts.add(str(caught.exception))
            log = [formatEvent(event) for event in captured]
            self.assertTrue(any("login failed" in line for line in log), log)
            self.assertGreater(self.throttle.delay_s(HOST), 0)
        self.assertEqual(len(texts), 1)

    async def test_h40_nobodys_salt(self) -> None:
        """A name that nobody has gets the same salt again, also from another
        process."""
        salts = set()
        for _ in range(2):
            with self.assertRaises(AuthenticationCancelled):
                await self.say("SCRAM-SHA-256", b"n,,n=x@y.test,r=abc", PLAIN)
            salts.add(self.asked[-1].split(b",")[1])
            self.keyring._secret = b""
        self.assertEqual(len(salts), 1)

    async def test_h39_salt(self) -> None:
        """The salt of an address is the same before it has an account, while it has
        one, after its password is changed, and when the account is gone."""
        address = split("new@example.test")
        salts = []

        async def look() -> None:
            with self.assertRaises(AuthenticationCancelled):
                await self.say("SCRAM-SHA-256", b"n,,n=New@Example.test,r=abc", PLAIN)
            salts.append(self.asked[-1].split(b",")[1:])

        await look()
        await self.add("new@example.test", "one")
        await look()
        await self.directory.set_password(address, "two")
        await look()
        await self.directory.remove_account(address, lambda *_: None)
        await look()
        self.assertEqual(salts, salts[:1] * 4)

    async def test_h40_downgraded(self) -> None:
        """A client that was talked out of -PLUS is refused, and the log says why."""
        with capturedLogs() as captured, self.assertRaises(AuthenticationFailed):
            await self.say("SCRAM-SHA-256", b"y,,n=bob@example.test,r=abc", SECURE)
        log = "".join(str(formatEvent(event)) for event in captured)
        self.assertIn("channel binding", log)

    async def test_accounts_of_before(self) -> None:
        """An account of before there was SCRAM has it once its password was said;
        a new password is a new one here, too."""
        await self.ledger.write(
            lambda transaction: transaction.execute(
                "UPDATE account SET scram_sha256 = '', scram_sha1 = ''"
            )
        )
        credentials = Credentials(BOB, "pass word")
        with self.assertRaises(AuthenticationFailed):
            await self.scram(ScramClient(credentials))
        self.clock.advance(3600)
        await self.authenticator.authenticate(BOB, "pass word", PLAIN)
        self.assertEqual(await self.scram(ScramClient(credentials)), self.bob)
        await self.directory.set_password(self.bob.address, "another")
        again = Credentials(BOB, "another")
        self.assertEqual(await self.scram(ScramClient(again)), self.bob)
        with self.assertRaises(AuthenticationFailed):
            await self.scram(ScramClient(credentials))

    async def test_changed_meanwhile(self) -> None:
        """A password that is changed while it is being checked does not come back as
        keys, whatever the new one is."""
        _, stored = await self.keyring.credentials(self.bob.address) or (None, "")
        await self.directory.set_password(self.bob.address, "a\tb")
        await self.keyring.keep_scram(self.bob, stored, "pass word")
        with self.assertRaises(AuthenticationFailed):
            await self.scram(ScramClient(Credentials(BOB, "pass word")))

    async def test_nothing_can_be_written(self) -> None:
        """On a full disk people still log in, to make room: an account of before, and
        a program with a password of its own."""
        made = await self.keyring.add_app_password(self.bob.address, "phone", ["imap"])
        await self.ledger.write(
            lambda transaction: transaction.execute(
                "UPDATE account SET scram_sha256 = '', scram_sha1 = ''"
            )
        )

        async def full(unit: object) -> object:
            raise LedgerFull()

        self.patch(self.ledger, "write", full)
        for password in ("pass word", made):
            found = await self.authenticator.authenticate(BOB, password, PLAIN)
            self.assertEqual(found, self.bob)

    async def test_passwords_it_cannot_have(self) -> None:
        """A password with a control character is one, but not here."""
        await self.add("odd@example.test", "a\tb")
        await self.authenticator.authenticate("odd@example.test", "a\tb", PLAIN)
        with self.assertRaises(AuthenticationCancelled):
            await self.say("SCRAM-SHA-1", b"n,,n=odd@example.test,r=abc", PLAIN)


class CertificateTests(MechanismCase):
    async def test_certified(self) -> None:
        """Who the certificate says, by the name that is asked for or the first."""
        channel = Channel(HOST, certified=CertifiedNames(("x@example.test", BOB)))
        self.assertEqual(await self.say("EXTERNAL", BOB.encode(), channel), self.bob)
        only = Channel(HOST, certified=CertifiedNames((BOB,)))
        self.assertEqual(await self.say("EXTERNAL", b"", only), self.bob)
        self.assertEqual(await self.say("EXTERNAL", None, only, b""), self.bob)

    async def test_h40_others(self) -> None:
        """Nobody else, and nobody who has no account."""
        await self.add("eve@example.test")
        certified = CertifiedNames(("eve@example.test", "x@example.test"), (BOB,))
        channel = Channel(HOST, certified=certified)
        for name in (BOB.encode(), b"x@example.test", b"\xff", b"bob"):
            self.clock.advance(3600)
            with self.assertRaises(AuthenticationFailed):
                await self.say("EXTERNAL", name, channel)


class CommonNameTests(MechanismCase):
    certificate_name = "common_name"

    async def test_certified(self) -> None:
        """Where the config says so the common name is who it is, and nothing else."""
        channel = Channel(HOST, certified=CertifiedNames(("x@example.test",), (BOB,)))
        self.assertEqual(await self.say("EXTERNAL", b"", channel), self.bob)
        for certified in (
            CertifiedNames((BOB,)),
            CertifiedNames((BOB,), ("Bob Example",)),
        ):
            channel = Channel(HOST, certified=certified)
            self.clock.advance(3600)
            with self.assertRaises((AuthenticationFailed, UnknownMechanism)):
                await self.say("EXTERNAL", BOB.encode(), channel)


class TokenTests(MechanismCase):
    async def test_good(self) -> None:
        """A good token logs in whose it is, if he does not say that he is another."""
        for name in (BOB, ""):
            said = oauth.bearer(name, "good")
            self.assertEqual(await self.say("OAUTHBEARER", said, PLAIN), self.bob)
            said = oauth.xoauth2(name, "good")
            self.assertEqual(await self.say("XOAUTH2", said, PLAIN), self.bob)
        self.assertEqual(
            await self.say("XOAUTH2", None, PLAIN, oauth.xoauth2(BOB, "good")), self.bob
        )

    async def test_h40_bad(self) -> None:
        """A bad one is told so before it fails, and is counted."""
        await self.add("eve@example.test")
        for said in (
            oauth.bearer(BOB, "bad"),
            oauth.bearer("eve@example.test", "good"),
        ):
            self.clock.advance(3600)
            with self.assertRaises(AuthenticationFailed):
                await self.say("OAUTHBEARER", said, PLAIN, b"\x01")
            self.assertIn(b"invalid_token", self.asked[-1])
            self.assertGreater(self.throttle.delay_s(HOST), 0)
        with self.assertRaises(MalformedResponse):
            await self.say("OAUTHBEARER", b"good", PLAIN)

    async def test_cannot_be_said(self) -> None:
        """If the verifier cannot be asked the client shall come again."""
        self.tokens.fails = Temporary()
        with self.assertRaises(AuthenticationUnavailable):
            await self.say("XOAUTH2", oauth.xoauth2(BOB, "good"), PLAIN)
        self.assertEqual(self.throttle.delay_s(HOST), 0)


class AppPasswordTests(MechanismCase):
    async def test_life(self) -> None:
        """One is made, used, listed with when, and taken back."""
        address = self.bob.address
        made = await self.keyring.add_app_password(address, "phone", ["imap", "smtp"])
        self.assertRegex(made, r"\A([a-z2-9]{4}-){5}[a-z2-9]{4}\Z")
        (listed,) = await self.keyring.app_passwords(address)
        self.assertEqual((listed.name, listed.protocols), ("phone", "imap smtp"))
        self.assertEqual(listed.used_at, 0)
        for typed in (made, made.replace("-", " ").upper(), made.replace("-", "")):
            found = await self.authenticator.authenticate(BOB, typed, PLAIN)
            self.assertEqual(found, self.bob)
        (listed,) = await self.keyring.app_passwords(address)
        self.assertGreater(listed.used_at, listed.created_at)
        await self.keyring.remove_app_password(address, "phone")
        with self.assertRaises(AuthenticationFailed):
            await self.authenticator.authenticate(BOB, made, PLAIN)

    async def test_limited(self) -> None:
        """It is good for its protocols and its account only."""
        eve = await self.add("eve@example.test")
        made = await self.keyring.add_app_password(self.bob.address, "phone", ["imap"])
        for name, channel in (
            (BOB, Channel(HOST, "smtp")),
            (BOB, Channel(HOST, "pop3")),
            (str(eve.address), PLAIN),
        ):
            self.clock.advance(3600)
            with self.assertRaises(AuthenticationFailed):
                await self.authenticator.authenticate(name, made, channel)

    async def test_scram(self) -> None:
        """One logs in by SCRAM as the account's own password does, also when that is
        changed, and is limited, noted and taken back there, too."""
        address = self.bob.address
        made = await self.keyring.add_app_password(address, "phone", ["imap"])
        again = await self.keyring.add_app_password(address, "tablet", ["imap"])
        for new in ("", "another"):
            if new:
                await self.directory.set_password(address, new)
            for password in (made, again, new or "pass word"):
                for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
                    client = ScramClient(Credentials(BOB, password), mechanism)
                    self.assertEqual(await self.scram(client), self.bob)
        noted = {
            one.name: one.used_at > 0
            for one in await self.keyring.app_passwords(address)
        }
        self.assertEqual(noted, {"phone": True, "tablet": True})
        client = ScramClient(Credentials(BOB, made))
        with self.assertRaises(AuthenticationFailed):
            await self.scram(client, Channel(HOST, "smtp", binding=bound))
        await self.keyring.remove_app_password(address, "phone")
        self.clock.advance(3600)
        with self.assertRaises(AuthenticationFailed):
            await self.scram(ScramClient(Credentials(BOB, made)))
        self.clock.advance(3600)
        client = ScramClient(Credentials(BOB, again))
        self.assertEqual(await self.scram(client), self.bob)

    async def test_scram_of_before(self) -> None:
        """Of an account that has no keys of its own yet; they come with its password,
        and the program's are good as before."""
        await self.ledger.write(
            lambda transaction: transaction.execute(
                "UPDATE account SET scram_sha256 = '', scram_sha1 = ''"
            )
        )
        made = await self.keyring.add_app_password(self.bob.address, "phone", ["imap"])
        program = Credentials(BOB, made)
        self.assertEqual(await self.scram(ScramClient(program)), self.bob)
        await self.authenticator.authenticate(BOB, "pass word", PLAIN)
        self.assertEqual(await self.scram(ScramClient(program)), self.bob)
        own = Credentials(BOB, "pass word")
        self.assertEqual(await self.scram(ScramClient(own)), self.bob)

    async def test_not_too_many(self) -> None:
        """A hundred."""
        with mock.patch("twisted_mta.auth.keyring._PROGRAMS", 2):
            for name in ("one", "two"):
                await self.keyring.add_app_password(self.bob.address, name, ["imap"])
            with self.assertRaises(TooMany):
                await self.keyring.add_app_password(self.bob.address, "3", ["imap"])

    async def test_waits_for_nobody(self) -> None:
        """A neighbour who guesses does not slow down a program that logs in."""
        made = await self.keyring.add_app_password(self.bob.address, "phone", ["imap"])
        for _ in range(5):
            self.throttle.failed(HOST, BOB)
        found = await self.authenticator.authenticate(BOB, made, PLAIN)
        self.assertEqual(found, self.bob)

    async def test_gone_with_the_account(self) -> None:
        """Another account of the same address does not have it."""
        made = await self.keyring.add_app_password(self.bob.address, "phone", ["imap"])
        await self.directory.remove_account(self.bob.address, lambda t, i: None)
        await self.add(BOB, "other")
        with self.assertRaises(AuthenticationFailed):
            await self.authenticator.authenticate(BOB, made, PLAIN)


class LockTests(MechanismCase):
    async def fail(self, number: int) -> None:
        """Somebody guesses, from an address that did not before."""
        channel = Channel(f"198.51.{number}.1", "imap")
        trying = Deferred.fromCoroutine(
            self.authenticator.authenticate(BOB, "guess", channel)
        )
        self.clock.advance(0)
        try:
            await trying
        except AuthenticationFailed:
            return
        raise AssertionError("let in")

    async def test_h39_from_everywhere(self) -> None:
        """A botnet that guesses at one account is slowed down after ten failures,
        wherever it comes from; the owner is not, where he was before."""
        await self.authenticator.authenticate(BOB, "pass word", PLAIN)
        for number in range(10):
            await self.fail(number)
        self.assertEqual(self.throttle.delay_s("203.0.113.9", BOB), 0)
        await self.fail(11)
        self.assertEqual(self.throttle.delay_s("203.0.113.9", BOB), 2)
        self.assertEqual(self.throttle.delay_s("203.0.113.9", "eve@example.test"), 0)
        self.assertEqual(self.throttle.delay_s(HOST, BOB), 0)
        self.assertEqual(
            await self.authenticator.authenticate(BOB, "pass word", PLAIN), self.bob
        )
        for _ in range(5):
            self.throttle.failed("203.0.113.1", BOB)
        self.assertEqual(self.throttle.delay_s("203.0.113.9", BOB), 15)
        self.clock.advance(15 * 60)
        self.assertEqual(self.throttle.delay_s("203.0.113.9", BOB), 0)

    def test_h39_told(self) -> None:
        """Other processes hear of it."""
        told: list[str] = []
        one = Throttle(cast(Any, self.clock), told.append)
        other = Throttle(cast(Any, self.clock))
        for _ in range(12):
            one.failed("203.0.113.1", BOB)
        for key in told:
            other.heard(key)
        self.assertEqual(other.delay_s("203.0.113.9", BOB), 4)
        self.assertEqual(other.delay_s("203.0.113.1"), 15)

    def test_h39_welcome_everywhere(self) -> None:
        """Where an account logged in is welcome at all processes, which are told of it
        once."""
        told: list[str] = []
        one = Throttle(cast(Any, self.clock), told.append)
        other = Throttle(cast(Any, self.clock))
        for host in ("198.51.100.1", "198.51.100.1", "2001:db8::1"):
            one.succeeded(host, BOB)
        self.assertEqual(len(told), 2)
        for key in told:
            other.heard(key)
        for _ in range(20):
            other.failed("203.0.113.1", BOB)
        for host in ("198.51.100.1", "2001:db8::2"):
            self.assertEqual(other.delay_s(host, BOB), 0)
        self.assertEqual(other.delay_s("198.51.100.1", "eve@example.test"), 0)
        self.assertEqual(other.delay_s("192.0.2.200", BOB), 15)
