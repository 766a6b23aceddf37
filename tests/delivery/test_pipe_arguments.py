"""What a program is called with, and what its end means."""

import signal
import unittest
from typing import Any

from tests.delivery.test_smtp import (
    BOB,
    DEFERRED,
    DELIVERED,
    FAILED,
    MESSAGE,
    PREFIX,
    job,
)
from twisted_mta.delivery.pipe.arguments import Arguments, Spelling, Unfit
from twisted_mta.delivery.pipe.ending import Ended, outcome
from twisted_mta.mail.address import Address, split


class ArgumentsTests(unittest.TestCase):
    """How arguments are made."""

    def put(self, text: str, who: Address = BOB, **changes: Any) -> list[str]:
        made, _ = job([who], **changes)
        return Arguments(["/p", text]).put(made, [who], Spelling())[1:]

    def test_wrong(self) -> None:
        """What cannot be meant is told when the config is read."""
        for argv in (
            [],
            ["cat"],
            ["/{recipient}"],
            ["/p", "{nothing}"],
            ["/p", "{"],
            ["/p", "a}b"],
            ["/p", "{recipient"],
            ["/p", "\0"],
        ):
            self.assertRaises(ValueError, Arguments, argv)

    def test_every_name(self) -> None:
        """Each placeholder has its value."""
        text = "{recipient} {local} {detail} {domain} {sender} {next_hop} {size}"
        (made,) = self.put(text, split("bob+x@there.test"), next_hop="hop")
        size = len(PREFIX + MESSAGE)
        self.assertEqual(
            made, f"bob+x@there.test bob x there.test alice@here.test hop {size}"
        )
        self.assertEqual(len(self.put("{id}")[0]), 13)
        self.assertEqual(self.put("[{client}{login}]"), ["[]"])
        self.assertEqual(self.put("{sender}", sender=None), ["MAILER-DAEMON"])
        self.assertEqual(self.put("{local}", Address("+x", "a.test")), ["+x"])

    def test_sender_on_this_way(self) -> None:
        """The sender is the one that mail has on this way: a return address (SRS), or
        with the recipient's name in it (VERP)."""
        back = split("alice+bob=there.test@here.test")
        self.assertEqual(self.put("{sender}", rewritten=back), [str(back)])
        with self.assertRaises(Unfit):
            self.put("{sender}", rewritten=Address("-x", "here.test"))

    def test_h43_options(self) -> None:
        """No address begins an argument that a program takes for an option."""
        bad = Address("-Ooption", "there.test")
        for text in ("{recipient}", "{local}", "{detail}{recipient}"):
            with self.assertRaises(Unfit) as caught:
                self.put(text, bad)
            self.assertEqual(caught.exception.status, "5.1.3")
        with self.assertRaises(Unfit) as caught:
            self.put("{sender}", sender=bad)
        self.assertEqual(caught.exception.status, "5.1.7")
        self.assertEqual(self.put("-f{sender}", sender=bad), ["-f-Ooption@there.test"])
        with self.assertRaises(Unfit):
            self.put("{detail}", Address("bob+-x", "there.test"))

    def test_h43_control_characters(self) -> None:
        """Nor any that would end a line, or an argument."""
        for odd in ("a\nb", "a\0b", "a\x7fb", "a\ud800b"):
            with self.assertRaises(Unfit):
                self.put("x{recipient}", Address(odd, "there.test"))


class EndingTests(unittest.TestCase):
    """What an end means."""

    def test_exits(self) -> None:
        """Every status of sysexits.h, and others."""
        final = {65: "5.6.0", 67: "5.1.1", 68: "5.1.2", 69: "5.3.0", 76: "5.5.0"}
        final[77] = "5.7.0"
        for code in range(256):
            found = outcome(Ended(code, b""))
            if code == 0:
                self.assertEqual(found.result, DELIVERED)
            elif code in final:
                self.assertEqual((found.result, found.status), (FAILED, final[code]))
            else:
                self.assertEqual(found.result, DEFERRED, code)
                self.assertEqual(found.status[0], "4")

    def test_said(self) -> None:
        """A status at the beginning of what it says counts, but a failure is none
        that says it succeeded, and the other way round."""
        for code, said, result, status, words in (
            (75, b"5.2.2 Mailbox full", FAILED, "5.2.2", "Mailbox full"),
            (1, b"4.2.2 Later\nmore", DEFERRED, "4.2.2", "Later more"),
            (67, b"4.1.1 Later", DEFERRED, "4.1.1", "Later"),
            (1, b"2.0.0 Fine", DEFERRED, "4.3.0", "Fine"),
            (0, b"5.0.0 Odd", DELIVERED, "2.0.0", "Odd"),
            (0, b"2.1.5 Fine", DELIVERED, "2.1.5", "Fine"),
            (1, b"5.2.2x no status", DEFERRED, "4.3.0", "5.2.2x no status"),
        ):
            found = outcome(Ended(code, said))
            self.assertEqual((found.result, found.status), (result, status), said)
            self.assertTrue(found.diagnostic.endswith(words), found)

    def test_signal(self) -> None:
        """One that was ended by a signal may do better."""
        found = outcome(Ended(-signal.SIGSEGV, b"5.0.0 No"))
        self.assertEqual((found.result, found.status), (DEFERRED, "4.3.0"))
        self.assertIn("Segmentation fault", found.diagnostic)

    def test_hostile_output(self) -> None:
        """What it says is one line of text, whatever it is."""
        found = outcome(Ended(69, b"a\r\nb\x1b[2J\xff" + b"x" * 2000))
        self.assertTrue(found.diagnostic.isprintable())
        self.assertLess(len(found.diagnostic), 1100)
