"""What senders are told who asked for it (RFC 3461)."""

import email
from email.message import Message

from tests.delivery.fakes import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DEFERRED,
    DELIVERED,
    FAILED,
    MESSAGE,
    Directory,
    Office,
    TestCase,
    always,
)
from twisted_mta.delivery.record import read_notification, write_notification
from twisted_mta.errors import LedgerUnavailable
from twisted_mta.mail.address import split
from twisted_mta.mail.dsn import USUAL, Notification, Notify, OriginalRecipient
from twisted_mta.mail.envelope import Body, DeliverBy, Handling, Return
from twisted_mta.mail.route import Outcome, Result

TEAM = split("team@example.test")
SALES = split("sales@example.test")

SUCCESS = Notification(Notify.SUCCESS)
FAILURE = Notification(Notify.FAILURE)
DELAY = Notification(Notify.DELAY)
NEVER = Notification(Notify.NEVER)
ALL = Notification(
    Notify.SUCCESS | Notify.FAILURE | Notify.DELAY,
    OriginalRecipient("rfc822", "bob+x@list.test"),
)

RELAYED = Outcome(Result.DELIVERED, "2.0.0", "250 Ok", "mx", True, "relayed")
TAKEN_OVER = Outcome(Result.DELIVERED, "2.0.0", "250 Ok", "mx", True, "")


class NotificationCase(TestCase):
    def setUp(self) -> None:
        self.office = Office(
            Directory(
                [str(ALICE), str(BOB)],
                {str(TEAM): [str(ALICE), str(BOB)], str(SALES): [str(CAROL)]},
            )
        )
        self.queue, self.clock = self.office.queue, self.office.clock

    def told(self) -> list[Message]:
        """The reports that Alice has."""
        inbox = [email.message_from_bytes(each) for each in self.office.store.inbox(1)]
        return [each for each in inbox if each.get_content_type() == "multipart/report"]

    def report(self) -> str:
        """The delivery status of the only one."""
        (report,) = self.told()
        return report.get_payload()[1].as_string()

    def attempt(self, outcome: Outcome) -> None:
        (job,) = self.now(self.queue.claim(9))
        self.now(self.queue.settle(job, always(outcome)(job)))


class LocalTests(NotificationCase):
    def test_delivered(self) -> None:
        """A delivery into a mailbox is told in the transaction that makes it, with
        the sender's own words for message and recipient."""
        handling = Handling(envid="QQ1")
        self.now(self.office.send(ALICE, BOB, asked=ALL, handling=handling))
        self.assertEqual(len(self.office.store.inbox(2)), 1)
        status = self.report()
        self.assertIn("Original-Envelope-Id: QQ1", status)
        self.assertIn("Original-Recipient: rfc822; bob+x@list.test", status)
        self.assertIn(f"Final-Recipient: rfc822; {BOB}", status)
        self.assertIn("Action: delivered", status)
        self.assertIn("Status: 2.0.0", status)
        self.assertNotIn("Diagnostic-Code", status)

    def test_not_asked(self) -> None:
        """Nobody is told of a delivery unasked, nor if there is no sender."""
        for asked in (USUAL, FAILURE, DELAY, NEVER):
            self.now(self.office.send(ALICE, BOB, asked=asked))
        self.now(self.office.send(None, BOB, asked=SUCCESS))
        self.assertEqual(self.told(), [])

    def test_expanded(self) -> None:
        """Who stands for several people is told of once, and by its own name."""
        self.now(self.office.send(ALICE, TEAM, asked=SUCCESS))
        status = self.report()
        self.assertIn("Action: expanded", status)
        self.assertIn(f"Final-Recipient: rfc822; {TEAM}", status)
        self.assertEqual(len(self.office.store.inbox(2)), 1)

    def test_not_accepted(self) -> None:
        """What could not be accepted is not told to have been."""
        self.office.ledger.down = True
        send = self.office.send(ALICE, BOB, asked=SUCCESS)
        self.fails(LedgerUnavailable, send)
        self.office.ledger.down = False
        self.assertEqual(self.office.store.inbox(1), [])
        self.assertEqual(self.office.ledger.open_writers, 0)


class QueueTests(NotificationCase):
    def send(self, asked: Notification, **more: object) -> None:
        self.now(self.office.send(ALICE, CAROL, asked=asked, **more))  # type: ignore[arg-type]

    def test_carried(self) -> None:
        """A job has what was asked of its recipients, and the message's handling;
        what is usual costs nothing."""
        handling = Handling(
            Return.FULL,
            "id",
            True,
            DeliverBy(5, True, True),
            3,
            1_700_000_000.0,
            ("net.example:adv",),
        )
        self.send(ALL, handling=handling)
        (job,) = self.now(self.queue.claim(9))
        self.assertEqual(job.notification(CAROL), ALL)
        self.assertEqual(job.envelope.handling, handling)
        self.send(USUAL)
        (job,) = self.now(self.queue.claim(9))
        self.assertEqual(job.notifications, {})
        self.assertEqual(write_notification(USUAL), "")
        self.assertEqual(read_notification(write_notification(NEVER)), NEVER)

    def test_alias(self) -> None:
        """Where an alias leads elsewhere, the next server is told whom the sender
        wrote to."""
        self.now(self.office.send(ALICE, SALES, asked=SUCCESS))
        (job,) = self.now(self.queue.claim(9))
        wanted = Notification(Notify.SUCCESS, OriginalRecipient("rfc822", str(SALES)))
        self.assertEqual(job.notifications, {CAROL: wanted})
        self.assertEqual(self.told(), [])

    def test_relayed(self) -> None:
        """The sender is told that the next server has the mail, if that server
        will not tell."""
        self.send(SUCCESS)
        self.attempt(RELAYED)
        status = self.report()
        self.assertIn("Action: relayed", status)
        self.assertIn("Remote-MTA: dns; mx", status)

    def test_traced(self) -> None:
        """Where the sender wants to hear of each step, or nobody promises his time any
        more, he is told so unless he wants to hear of nothing (RFC 2852)."""
        traced = Outcome(Result.DELIVERED, "2.0.0", "250 Ok", "mx", True, "traced")
        for asked, told in ((USUAL, 1), (FAILURE, 1), (NEVER, 0)):
            before = len(self.told())
            self.send(asked)
            self.attempt(traced)
            self.assertEqual(len(self.told()) - before, told, asked)
        self.assertIn("Action: relayed", self.told()[0].get_payload()[1].as_string())

    def test_taken_over(self) -> None:
        """If it will, we do not."""
        self.send(SUCCESS)
        self.attempt(TAKEN_OVER)
        self.assertEqual(self.told(), [])

    def test_delivered_by_an_agent(self) -> None:
        """An agent that delivers to the end says so."""
        self.send(SUCCESS)
        self.attempt(DELIVERED)
        self.assertIn("Action: delivered", self.report())

    def test_failure(self) -> None:
        """A failure is told unless the sender did not ask for it; the message
        leaves the queue in any case."""
        for asked, told in ((USUAL, 1), (FAILURE, 1), (SUCCESS, 0), (NEVER, 0)):
            before = len(self.told())
            self.send(asked)
            self.attempt(FAILED)
            self.assertEqual(len(self.told()) - before, told, asked)
        self.assertEqual(self.office.ledger.count("queued"), 0)

    def test_delay(self) -> None:
        """So is a delay."""
        for asked, told in ((USUAL, 1), (DELAY, 1), (FAILURE, 0), (NEVER, 0)):
            before = len(self.told())
            self.send(asked)
            self.clock.advance(5 * 3600)
            self.attempt(DEFERRED)
            self.assertEqual(len(self.told()) - before, told, asked)
            self.attempt_all(DELIVERED)

    def test_delay_of_a_list(self) -> None:
        """A list that asks for it is told of a delay; others are not."""
        octets = b"Precedence: list\r\n" + MESSAGE
        in_time = Handling(by=DeliverBy(60, False))
        for asked, handling, told in (
            (USUAL, Handling(), 0),
            (DELAY, Handling(), 1),
            (USUAL, in_time, 1),
        ):
            before = len(self.told())
            self.send(asked, octets=octets, handling=handling)
            self.clock.advance(5 * 3600)
            self.attempt(DEFERRED)
            self.assertEqual(len(self.told()) - before, told, asked)
            self.attempt_all(DELIVERED)

    def test_deadline(self) -> None:
        """A report says by when it was to be delivered (RFC 2852 5)."""
        self.send(USUAL, handling=Handling(by=DeliverBy(600, True)))
        self.attempt(FAILED)
        self.assertIn("Deliver-By-Date: Tue, 14 Nov 2023 22:23:20 +0000", self.report())

    def attempt_all(self, outcome: Outcome) -> None:
        self.clock.advance(86400)
        for job in self.now(self.queue.claim(9)):
            self.now(self.queue.settle(job, always(outcome)(job)))

    def test_each_by_itself(self) -> None:
        """Recipients of one message are told of as each was asked."""
        envelope = self.office.envelope(ALICE, CAROL, DAVE)
        self.assertEqual(len(envelope.recipients), 2)
        self.now(self.office.send(ALICE, CAROL, asked=NEVER))
        self.now(self.office.send(ALICE, DAVE, asked=FAILURE))
        self.attempt_all(FAILED)
        status = self.report()
        self.assertIn(str(DAVE), status)
        self.assertNotIn(str(CAROL), status)

    def test_not_returned_whole(self) -> None:
        """It does not return what was to travel under TLS alone, nor what is no
        text."""
        for handling, body in (
            (Handling(Return.FULL, require_tls=True), Body.SEVEN_BIT),
            (Handling(Return.FULL), Body.BINARY),
        ):
            before = len(self.told())
            sent = self.office.envelope(ALICE, CAROL)
            sent = sent._replace(handling=handling, body=body)
            self.now(self.office.accept(sent))
            self.attempt(FAILED)
            returned = self.told()[before].get_payload()[2]
            self.assertEqual(returned.get_content_type(), "text/rfc822-headers")

    def test_returned_whole(self) -> None:
        """RET=FULL returns all of a message that failed, unless it is large."""
        self.send(USUAL, handling=Handling(Return.FULL))
        self.attempt(FAILED)
        (report,) = self.told()
        returned = report.get_payload()[2]
        self.assertEqual(returned.get_content_type(), "message/rfc822")
        whole = returned.as_bytes()
        self.assertIn(MESSAGE.splitlines()[-1], whole)
        self.send(USUAL, handling=Handling(Return.FULL), octets=MESSAGE + b"x" * 50_000)
        self.attempt(FAILED)
        types = [each.get_payload()[2].get_content_type() for each in self.told()]
        self.assertEqual(types, ["message/rfc822", "text/rfc822-headers"])

    def test_headers(self) -> None:
        """RET=HDRS, and no RET, return the header."""
        for ret in (None, Return.HEADERS):
            self.send(USUAL, handling=Handling(ret))
            self.attempt(FAILED)
        types = {each.get_payload()[2].get_content_type() for each in self.told()}
        self.assertEqual(types, {"text/rfc822-headers"})
