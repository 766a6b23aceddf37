"""L{twisted_mta.auth.passwords}."""

from typing import Any, cast
from unittest import mock

from argon2 import extract_parameters
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.auth.fakes import CHEAP, ThreadClock
from twisted_mta.auth import passwords
from twisted_mta.auth.passwords import Cost, Passwords
from twisted_mta.errors import AuthenticationUnavailable


class PasswordsTests(TestCase):
    def setUp(self) -> None:
        self.clock = ThreadClock()
        self.passwords = Passwords(cast(Any, self.clock), CHEAP)
        self.addCleanup(self.passwords.close)

    async def test_right_and_wrong(self) -> None:
        """The right password is right, everything else wrong; two hashes of
        one password differ."""
        stored = await self.passwords.hash("wörd")
        self.assertNotEqual(stored, await self.passwords.hash("wörd"))
        self.assertTrue(await self.passwords.check(stored, "wörd"))
        for wrong in ("", "word", "wörd ", stored):
            self.assertFalse(await self.passwords.check(stored, wrong))

    async def test_cost(self) -> None:
        """By default a hash costs what OWASP asks for."""
        strong = Passwords(cast(Any, self.clock))
        self.addCleanup(strong.close)
        parameters = extract_parameters(await strong.hash("x"))
        self.assertEqual(parameters.type.name, "ID")
        self.assertGreaterEqual(parameters.memory_cost, 19 * 1024)
        self.assertGreaterEqual(parameters.time_cost, 2)
        self.assertEqual(Cost().lanes, parameters.parallelism)

    async def test_composed_letters(self) -> None:
        """A letter is the same however a keyboard composed it (RFC 8265)."""
        stored = await self.passwords.hash("w\u00f6rd")
        self.assertTrue(await self.passwords.check(stored, "wo\u0308rd"))

    async def test_h39_unknown_name_takes_as_long(self) -> None:
        """Without a stored hash one of the same cost is computed, and it is
        wrong, whatever the password."""
        costs = []
        verify = self.passwords._hasher.verify

        def counting(stored: str, prepared: bytes) -> bool:
            costs.append(extract_parameters(stored))
            return verify(stored, prepared)

        stored = await self.passwords.hash("word")
        hasher = mock.Mock(wraps=self.passwords._hasher, verify=counting)
        self.passwords._hasher = hasher
        self.assertTrue(await self.passwords.check(stored, "word"))
        self.assertFalse(await self.passwords.check(None, "word"))
        self.assertEqual(costs[0], costs[1])

    async def test_stored_text_that_is_no_hash(self) -> None:
        """Nothing is right for it."""
        for stored in ("", "!", "plain", "$argon2id$v=19$m=8"):
            self.assertFalse(await self.passwords.check(stored, stored))

    async def test_remembered(self) -> None:
        """What was found right is known for a while, for that hash and that
        password alone."""
        stored = await self.passwords.hash("word")
        self.assertFalse(self.passwords.known(stored, "word"))
        await self.passwords.check(stored, "wrong")
        self.assertFalse(self.passwords.known(stored, "wrong"))
        await self.passwords.check(stored, "word")
        self.assertTrue(self.passwords.known(stored, "word"))
        self.assertFalse(self.passwords.known(stored, "wrong"))
        changed = await self.passwords.hash("word")
        self.assertFalse(self.passwords.known(changed, "word"))
        self.clock.advance(301)
        self.assertFalse(self.passwords.known(stored, "word"))

    async def test_memory_is_bounded(self) -> None:
        """The oldest is forgotten; the password itself is nowhere kept."""
        self.patch(passwords, "_REMEMBERED", 2)
        hashes = [await self.passwords.hash(f"word{n}") for n in range(3)]
        for number, stored in enumerate(hashes):
            await self.passwords.check(stored, f"word{number}")
        known = [self.passwords.known(h, f"word{n}") for n, h in enumerate(hashes)]
        self.assertEqual(known, [False, True, True])
        self.assertNotIn(b"word", b"".join(self.passwords._right))

    async def test_h39_too_many_at_once(self) -> None:
        """Beyond a bound callers are told to come back; when the others are
        done there is room again."""
        self.patch(passwords, "_WAITING", 3)
        stored = await self.passwords.hash("word")

        def check() -> Deferred[bool]:
            return Deferred.fromCoroutine(self.passwords.check(stored, "word"))

        waiting = [check() for _ in range(3)]
        self.failureResultOf(check(), AuthenticationUnavailable)
        self.assertEqual(await gatherResults(waiting), [True] * 3)
        self.assertTrue(await check())
