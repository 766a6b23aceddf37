"""L{twisted_mta.auth.directory}, on a real ledger."""

from zope.interface.verify import verifyObject

from tests.auth.fakes import DirectoryTestCase, nothing
from twisted_mta.errors import AccountExists, NoSuchAccount
from twisted_mta.interfaces import IDirectory, ITransaction
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address, split


class AccountTests(DirectoryTestCase):
    def test_interface(self) -> None:
        """It is an L{IDirectory}."""
        verifyObject(IDirectory, self.directory)

    async def test_found_whatever_the_case(self) -> None:
        """An account is found by its address, which is shown as it was made."""
        bob = await self.add("Bob@example.test")
        self.assertEqual(bob.address, Address("Bob", "example.test"))
        found = await self.directory.account(Address("bOB", "example.test"))
        self.assertEqual(found, bob)
        self.assertIsNone(await self.directory.account(split("bo@example.test")))
        self.assertIsNone(await self.directory.account(split("bob@example.org")))

    async def test_h41_hostile_addresses(self) -> None:
        """They find nobody and change nothing."""
        await self.add("bob@example.test")
        for local in ("' OR 1=1 --", "%", "_ob", "b*b", "bob\0", "../bob"):
            found = await self.directory.account(Address(local, "example.test"))
            self.assertIsNone(found, local)
        self.assertEqual(len(await self.directory.accounts()), 1)

    async def test_taken(self) -> None:
        """An address is one account's or an alias, in any case of letters; the
        second is refused and nothing of it is kept."""
        await self.add("bob@example.test", "first")
        await self.alias("info@example.test", "bob@example.test")
        calls: list[int] = []
        for taken in ("BOB@example.test", "Info@example.test"):
            with self.assertRaises(AccountExists):
                await self.directory.add_account(
                    split(taken), "second", lambda _, account: calls.append(account)
                )
        self.assertEqual(calls, [])
        self.assertEqual(len(await self.directory.accounts()), 1)

    async def test_provision_in_the_same_transaction(self) -> None:
        """When the mailboxes cannot be made, there is no account."""

        def failing(transaction: ITransaction, account: int) -> None:
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            await self.directory.add_account(split("bob@example.test"), "word", failing)
        self.assertEqual(await self.directory.accounts(), [])

    async def test_remove(self) -> None:
        """Account, mailboxes and the aliases that lead to it go together."""
        bob = await self.add("bob@example.test")
        await self.add("amy@example.test")
        await self.alias("all@example.test", "amy@example.test", "bob@example.test")
        discarded: list[int] = []
        await self.directory.remove_account(
            split("BOB@example.test"), lambda _, account: discarded.append(account)
        )
        self.assertEqual(discarded, [bob.id])
        self.assertIsNone(await self.directory.account(bob.address))
        targets = await self.directory.aliases(split("all@example.test"))
        self.assertEqual(targets, [split("amy@example.test")])
        with self.assertRaises(NoSuchAccount):
            await self.directory.remove_account(bob.address, nothing)

    async def test_remove_that_fails(self) -> None:
        """When the mailboxes cannot be removed, the account stays."""
        bob = await self.add("bob@example.test")

        def failing(transaction: ITransaction, account: int) -> None:
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            await self.directory.remove_account(bob.address, failing)
        self.assertEqual(await self.directory.accounts(), [bob])

    async def test_password(self) -> None:
        """It is stored as a hash, and can be changed."""
        bob = await self.add("bob@example.test", "first")
        before = await self.keyring.credentials(bob.address)
        assert before is not None
        self.assertTrue(before[1].startswith("$argon2id$"))
        await self.directory.set_password(split("Bob@example.test"), "second")
        after = await self.keyring.credentials(bob.address)
        assert after is not None
        self.assertTrue(await self.passwords.check(after[1], "second"))
        self.assertFalse(await self.passwords.check(after[1], "first"))
        with self.assertRaises(NoSuchAccount):
            await self.directory.set_password(split("amy@example.test"), "x")

    async def test_listed_by_address(self) -> None:
        """All of them, in order."""
        for name in ("carl", "Amy", "bob"):
            await self.add(f"{name}@example.test")
        names = [one.address.local for one in await self.directory.accounts()]
        self.assertEqual(names, ["Amy", "bob", "carl"])


class AliasTests(DirectoryTestCase):
    async def listed(self) -> list[tuple[str, str]]:
        """All aliases as text."""
        pairs = await self.directory.all_aliases()
        return [(str(address), str(target)) for address, target in pairs]

    async def test_to_many(self) -> None:
        """An alias leads to several, here and elsewhere; one that is added
        again is there once."""
        await self.alias("info@example.test", "bob@example.test", "x@example.org")
        await self.alias("INFO@example.test", "Bob@example.test", "y@example.org")
        targets = await self.directory.aliases(split("Info@example.test"))
        self.assertEqual(
            [*map(str, targets)],
            ["bob@example.test", "x@example.org", "y@example.org"],
        )
        self.assertEqual(await self.directory.aliases(split("in@example.test")), [])

    async def test_account_in_the_way(self) -> None:
        """An account's address cannot be an alias."""
        await self.add("bob@example.test")
        with self.assertRaises(AccountExists):
            await self.alias("Bob@example.test", "x@example.org")
        self.assertEqual(await self.listed(), [])

    async def test_remove(self) -> None:
        """Some targets, or all; what is not there changes nothing."""
        await self.alias("a@example.test", "x@b.test", "y@b.test", "z@b.test")
        alias = split("A@example.test")
        await self.directory.remove_alias(alias, [split("Y@b.test")])
        self.assertEqual(len(await self.listed()), 2)
        with self.assertRaises(NoSuchAccount):
            wanted = [split("x@b.test"), split("no@b.test")]
            await self.directory.remove_alias(alias, wanted)
        self.assertEqual(len(await self.listed()), 2)
        await self.directory.remove_alias(alias)
        self.assertEqual(await self.listed(), [])
        with self.assertRaises(NoSuchAccount):
            await self.directory.remove_alias(alias)


class SenderTests(DirectoryTestCase):
    async def may(self, account: Account, *addresses: str) -> list[bool]:
        """For each address, whether the account may send as it."""
        return [
            await self.directory.may_send_as(account, split(address))
            for address in addresses
        ]

    async def test_own_and_subaddresses(self) -> None:
        """Its address in any case, and with details where the domain has them,
        by its separator; nobody else's."""
        bob = await self.add("bob@example.test")
        self.assertEqual(
            await self.may(
                bob,
                "bob@example.test",
                "Bob+lists@Example.test",
                "bob-lists@example.test",
                "bobby@example.test",
                "amy@example.test",
                "bob@example.org",
            ),
            [True, True, False, False, False, False],
        )
        plain = await self.add("bob@plain.test")
        self.assertEqual(await self.may(plain, "bob+x@plain.test"), [False])
        dash = await self.add("bob@dash.test")
        found = await self.may(dash, "bob-x@dash.test", "bob+x@dash.test")
        self.assertEqual(found, [True, False])

    async def test_aliases(self) -> None:
        """An alias that leads to the account, over others too, and with a
        detail; not one that leads elsewhere."""
        bob = await self.add("bob@example.test")
        await self.add("amy@example.test")
        await self.alias("info@example.test", "team@example.test", "x@example.org")
        await self.alias("team@example.test", "amy@example.test", "bob@example.test")
        await self.alias("sales@example.test", "amy@example.test")
        found = await self.may(
            bob,
            "info@example.test",
            "team+x@example.test",
            "sales@example.test",
            "x@example.org",
        )
        self.assertEqual(found, [True, True, False, False])

    async def test_circles(self) -> None:
        """Aliases in circles, in long chains and to thousands come to an end."""
        bob = await self.add("bob@example.test")
        await self.alias("a@example.test", "b@example.test")
        await self.alias("b@example.test", "a@example.test")
        for number in range(30):
            await self.alias(f"c{number}@example.test", f"c{number + 1}@example.test")
        await self.alias("c30@example.test", "bob@example.test")
        await self.alias(
            "many@example.test", *[f"x{n}@example.org" for n in range(1500)]
        )
        found = await self.may(
            bob,
            "a@example.test",
            "c0@example.test",
            "c25@example.test",
            "many@example.test",
        )
        self.assertEqual(found, [False, False, True, False])

    async def test_no_local_part_before_the_separator(self) -> None:
        """C{+x@} is nobody's subaddress."""
        bob = await self.add("bob@example.test")
        address = Address("+x", "example.test")
        self.assertFalse(await self.directory.may_send_as(bob, address))


class KnownTests(DirectoryTestCase):
    async def test_removed_is_forgotten(self) -> None:
        """An account that was just looked up is gone once it is removed, and
        somebody new at its address is somebody else."""
        bob = await self.add("bob@example.test")
        self.assertEqual(await self.directory.account(bob.address), bob)
        await self.directory.remove_account(bob.address, nothing)
        self.assertIsNone(await self.directory.account(bob.address))
        another = await self.add("bob@example.test")
        self.assertEqual(await self.directory.account(bob.address), another)
        self.assertNotEqual(another.id, bob.id)


class SubmittedTests(DirectoryTestCase):
    """How much an account has submitted, and where it is kept."""

    async def test_counted(self) -> None:
        """By the hour and the day; what is long ago counts no more, at the edge by
        its share."""
        bob = await self.add("bob@example.test")
        eve = await self.add("eve@example.test")
        at = 1_000_000 * 3600.0
        count = self.directory.submitted
        self.assertEqual(await count(bob, at, 1, 5), (1, 1, 5, 5))
        self.assertEqual(await count(bob, at + 60, 1, 1), (2, 2, 6, 6))
        self.assertEqual(await count(bob, at + 60), (2, 2, 6, 6))
        self.assertEqual(await count(eve, at), (0, 0, 0, 0))
        self.assertEqual(await count(bob, at + 1.75 * 3600), (0.5, 2, 1.5, 6))
        self.assertEqual(await count(bob, at + 2 * 3600), (0, 2, 0, 6))
        self.assertEqual(await count(bob, at + 24.5 * 3600), (0, 1, 0, 3))
        self.assertEqual(await count(bob, at + 25 * 3600, 1, 0), (1, 1, 0, 0))
        rows = await self.ledger.read(
            lambda t: list(t.execute("SELECT COUNT(*) FROM submitted"))
        )
        self.assertEqual(rows, [(1,)])

    async def test_save_sent(self) -> None:
        """It is told with the account, wherever that is asked for."""
        bob = await self.add("bob@example.test")
        self.assertFalse(bob.save_sent)
        for save in (True, False):
            await self.directory.set_save_sent(bob.address, save)
            found = await self.directory.account(bob.address)
            assert found is not None
            self.assertEqual(found.save_sent, save)
            keys = await self.keyring.scram_keys(bob.address, "SCRAM-SHA-256", "imap")
            assert keys is not None
            self.assertEqual(keys.account.save_sent, save)
        with self.assertRaises(NoSuchAccount):
            await self.directory.set_save_sent(split("x@example.test"), True)
