"""Bounces that cannot be delivered: the postmaster is told, once, and nobody else."""

from __future__ import annotations

import email
from email.message import Message

from twisted.logger import capturedLogs, formatEvent

from tests.delivery.fakes import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DEFERRED,
    DELIVERED,
    ERIN,
    FAILED,
    MESSAGE,
    Directory,
    Office,
    TestCase,
    always,
)
from twisted_mta.errors import LedgerUnavailable, OverQuota
from twisted_mta.mail.address import split
from twisted_mta.mail.dsn import Notification, Notify
from twisted_mta.mail.envelope import Handling, Return
from twisted_mta.mail.route import Outcome

GONE = split("gone@example.test")


class DoubleCase(TestCase):
    """Alice is the postmaster."""

    def setUp(self) -> None:
        self.use(Office())

    def use(self, office: Office) -> None:
        self.office = office
        self.queue, self.store = self.office.queue, self.office.store
        self.ledger, self.clock = self.office.ledger, self.office.clock

    def attempt(self, outcome: Outcome) -> None:
        """Try all that is due."""
        for job in self.now(self.queue.claim(9)):
            self.now(self.queue.settle(job, always(outcome)(job)))

    def told(self, account: int = 1) -> list[Message]:
        """What the postmaster, or another, has."""
        return [email.message_from_bytes(each) for each in self.store.inbox(account)]

    def nobody_else(self) -> None:
        """Nothing waits, and nothing is left open."""
        self.assertEqual(self.ledger.count("queued"), 0)
        self.assertEqual(self.told(2), [])
        self.assertEqual(self.ledger.open_writers, 0)

    def check(self, sender: str) -> Message:
        """The postmaster was told once, of a bounce to a sender.

        @return: what was returned to him.
        """
        (message,) = self.told()
        self.assertEqual(message["Subject"], "A notification was not delivered")
        self.assertEqual(message["Return-Path"], "<>")
        _, status, returned = message.get_payload()
        recipient = status.get_payload()[1]
        self.assertEqual(recipient["Final-Recipient"], f"rfc822; {sender}")
        self.assertEqual(recipient["Action"], "failed")
        return returned


class DoubleTests(DoubleCase):
    def test_refused(self) -> None:
        """A bounce that the sender's server refuses comes to the postmaster with all
        that the sender should have read."""
        self.now(self.office.send(ERIN, CAROL))
        self.attempt(FAILED)
        self.assertEqual(self.told(), [])
        self.attempt(FAILED)
        (bounce,) = self.check(str(ERIN)).get_payload()
        self.assertIn("Diagnostic-Code: smtp; 550 5.1.1 Nobody", bounce.as_string())
        self.assertIn("Subject: hello", bounce.as_string())
        self.nobody_else()

    def test_too_late(self) -> None:
        """So does one that could not be delivered in time; he is not told before."""
        self.now(self.office.send(ERIN, CAROL))
        self.attempt(FAILED)
        for _ in range(4):
            self.clock.advance(86400)
            self.attempt(DEFERRED)
        self.assertEqual(self.told(), [])
        self.clock.advance(86400)
        self.attempt(DEFERRED)
        self.check(str(ERIN))
        self.nobody_else()

    def test_delivered(self) -> None:
        """One that the sender has is nobody else's."""
        self.now(self.office.send(ERIN, CAROL))
        self.attempt(FAILED)
        self.attempt(DELIVERED)
        self.assertEqual(self.told(), [])
        self.nobody_else()

    def test_no_such_sender(self) -> None:
        """A sender here that does not exist."""
        self.now(self.office.send(GONE, CAROL))
        self.attempt(FAILED)
        (bounce,) = self.check(str(GONE)).get_payload()
        self.assertIn(str(CAROL), bounce.as_string())
        self.nobody_else()

    def refusing(self, *accounts: int) -> None:
        """Mailboxes are full."""
        deliver = self.store._deliver

        def refuse(transaction: object, account: int, item: object) -> None:
            if account in accounts:
                raise OverQuota()
            deliver(transaction, account, item)  # type: ignore[arg-type]

        self.store._deliver = refuse  # type: ignore[method-assign,assignment]

    def test_full(self) -> None:
        """A sender here whose mailbox takes nothing; the rest of the attempt is
        recorded in the same transaction."""
        self.refusing(2)
        self.now(self.office.send(BOB, CAROL, DAVE))
        (job,) = self.now(self.queue.claim(9))
        self.now(self.queue.settle(job, {CAROL: FAILED, DAVE: DEFERRED}))
        self.check(str(BOB))
        self.clock.advance(300)
        (job,) = self.now(self.queue.claim(9))
        self.assertEqual(job.recipients, (DAVE,))
        self.assertEqual(self.ledger.open_writers, 0)

    def test_full_postmaster(self) -> None:
        """If the postmaster's mailbox takes nothing either, nobody is told, and the
        queue goes on."""
        self.refusing(1, 2)
        self.now(self.office.send(BOB, CAROL))
        self.attempt(FAILED)
        self.assertEqual(self.told(), [])
        self.nobody_else()

    def test_postmaster(self) -> None:
        """The postmaster elsewhere is told there; if that fails, that is the end."""
        aliases = {str(ALICE): [str(ERIN)]}
        self.use(Office(Directory([], aliases)))
        self.now(self.office.send(DAVE, CAROL))
        self.attempt(FAILED)
        self.attempt(FAILED)
        (job,) = self.now(self.queue.claim(9))
        self.assertEqual((job.envelope.sender, job.recipients), (None, (ERIN,)))
        self.now(self.queue.settle(job, always(FAILED)(job)))
        self.nobody_else()

    def test_no_postmaster(self) -> None:
        """Where the config's postmaster is nobody the bounce is dropped, and the log
        says so; it would be tried for ever."""
        self.use(Office(Directory([])))
        self.now(self.office.send(DAVE, CAROL))
        self.attempt(FAILED)
        with capturedLogs() as captured:
            self.attempt(FAILED)
        lines = [formatEvent(event) for event in captured]
        self.assertTrue(any("status=dropped (nor can" in line for line in lines))
        self.nobody_else()

    def test_later(self) -> None:
        """While it cannot be said where the postmaster is, the bounce stays."""
        self.now(self.office.send(ERIN, CAROL))
        self.attempt(FAILED)
        (job,) = self.now(self.queue.claim(9))
        route = self.office.router.route
        away = LedgerUnavailable()

        async def none(recipient: object, mailing: object = None) -> object:
            raise away

        self.office.router.route = none  # type: ignore[method-assign,assignment]
        self.now(self.queue.settle(job, always(FAILED)(job)))
        self.office.router.route = route  # type: ignore[method-assign]
        self.assertEqual(self.told(), [])
        self.assertEqual(self.ledger.count("queued"), 1)
        self.clock.advance(7200)
        self.attempt(FAILED)
        self.check(str(ERIN))
        self.nobody_else()

    def test_large(self) -> None:
        """Of a bounce that is large, since it returns much, the header is enough."""
        header = b"".join(b"X-%d: %s\r\n" % (n, b"x" * 900) for n in range(60))
        self.now(self.office.send(ERIN, CAROL, octets=header + MESSAGE))
        self.attempt(FAILED)
        self.attempt(FAILED)
        returned = self.check(str(ERIN))
        self.assertEqual(returned.get_content_type(), "text/rfc822-headers")
        self.assertIn("Your message was not delivered", str(returned.get_payload()))
        self.nobody_else()


class NobodyTests(DoubleCase):
    """What is nobody's."""

    def test_h46_from_outside(self) -> None:
        """What came with the null sender from outside, here or elsewhere."""
        self.now(self.office.send(None, CAROL))
        self.attempt(FAILED)
        self.assertEqual(self.told(), [])
        self.nobody_else()

    def test_other_notifications(self) -> None:
        """A warning or a confirmation that cannot be delivered."""
        asked = Notification(Notify.SUCCESS | Notify.DELAY)
        self.now(self.office.send(ERIN, CAROL, asked=asked))
        self.clock.advance(5 * 3600)
        self.attempt(DEFERRED)
        self.assertEqual(self.ledger.count("queued"), 2)
        (warning,) = self.now(self.queue.claim(9))
        self.assertEqual(warning.recipients, (ERIN,))
        self.now(self.queue.settle(warning, always(FAILED)(warning)))
        self.clock.advance(7200)
        self.attempt(DELIVERED)
        self.attempt(FAILED)
        self.assertEqual(self.told(), [])
        self.nobody_else()

    def test_quarantined(self) -> None:
        """What a policy keeps apart is spam as a rule: its sender, who is false as a
        rule, is told nothing, be it released."""
        spam = self.office.envelope(ERIN, CAROL)._replace(quarantined=True)
        self.now(self.office.accept(spam))
        (waiting,) = self.now(self.queue.waiting())
        self.now(self.queue.release([waiting.id]))
        self.attempt(FAILED)
        self.assertEqual(self.told(), [])
        self.nobody_else()

    def test_quarantined_here(self) -> None:
        """Nor that it is in a mailbox for junk, whatever he asked."""
        spam = self.office.envelope(ALICE, BOB)._replace(quarantined=True)
        self.now(self.office.accept(spam, asked=Notification(Notify.SUCCESS)))
        self.assertEqual(self.told(), [])
        self.assertEqual(len(self.told(2)), 1)

    def test_not_asked(self) -> None:
        """What the sender did not want to hear."""
        self.now(self.office.send(ERIN, CAROL, asked=Notification(Notify.NEVER)))
        self.attempt(FAILED)
        self.assertEqual(self.told(), [])
        self.nobody_else()

    def test_private(self) -> None:
        """What was to travel under TLS alone does so to the postmaster (RFC 8689)."""
        strict = Handling(Return.FULL, require_tls=True)
        self.use(Office(Directory([], {str(ALICE): [str(ERIN)]})))
        self.now(self.office.send(DAVE, CAROL, handling=strict))
        self.attempt(FAILED)
        self.attempt(FAILED)
        (job,) = self.now(self.queue.claim(9))
        self.assertEqual(job.recipients, (ERIN,))
        self.assertTrue(job.envelope.handling.require_tls)
