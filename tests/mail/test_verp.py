"""Senders with the recipient's name in them."""

import unittest

from twisted_mta.mail.address import Address, split
from twisted_mta.mail.route import RELEASE, ToAgent, ToMailbox
from twisted_mta.mail.verp import delimiters, read, sender, written

OWNER, BOB = split("owner@lists.test"), split("bob@example.net")


class VerpTests(unittest.TestCase):
    def test_form(self) -> None:
        """It is as Postfix writes it."""
        self.assertEqual(
            str(sender(OWNER, BOB, "+=")), "owner+bob=example.net@lists.test"
        )
        self.assertEqual(
            str(sender(OWNER, BOB, "-+")), "owner-bob+example.net@lists.test"
        )

    def test_read(self) -> None:
        """It can be read again; what has not the form cannot."""
        for delims in ("+=", "-+", "=-"):
            self.assertEqual(read(sender(OWNER, BOB, delims), delims), (OWNER, BOB))
        dotted = Address("a=b+c", "x.test")
        self.assertEqual(read(sender(OWNER, dotted, "+="), "+="), (OWNER, dotted))
        for odd in ("owner", "owner+", "owner+bob", "+bob=x.test", "owner+=x.test"):
            self.assertIsNone(read(Address(odd, "lists.test"), "+="), odd)

    def test_domain(self) -> None:
        """A domain goes in as the DNS has it, so that no SMTPUTF8 is needed."""
        made = sender(OWNER, Address("bob", "bücher.test"), "+=")
        self.assertTrue(made.ascii)

    def test_too_long(self) -> None:
        """Where it would be longer than an address may be, the owner stays."""
        long = Address("b" * 64, ".".join(["d" * 50] * 4))
        self.assertEqual(sender(OWNER, long, "+="), OWNER)

    def test_delimiters(self) -> None:
        """They are two, of three that are possible."""
        self.assertEqual(delimiters("-="), "-=")
        for wrong in ("", "+", "+=+", "a=", "+@"):
            with self.assertRaises(ValueError):
                delimiters(wrong)

    def test_routes(self) -> None:
        """Ways out carry it; mailboxes, and what is held for later, do not."""
        out, box = ToAgent("smtp", "example.net", BOB), ToMailbox(1, BOB)
        later = ToAgent(RELEASE, "", BOB)
        made = written(OWNER, "+=", BOB, [out, box, later])
        self.assertEqual(made[0].sender, sender(OWNER, BOB, "+="))  # type: ignore[union-attr]
        self.assertEqual(made[1:], (box, later))
        self.assertEqual(written(None, "+=", BOB, [out]), (out,))
        self.assertEqual(written(OWNER, "", BOB, [out]), (out,))
