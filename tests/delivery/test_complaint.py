"""Complaints that providers report."""

from zope.interface.verify import verifyObject

from tests.delivery.fakes import ALICE, CAROL, HOST, Office, TestCase
from tests.mail.test_feedback import RECEIVED, report
from twisted_mta.config import schema
from twisted_mta.delivery.complaint import Complaints
from twisted_mta.interfaces import IDeliveryAgent
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.ids import made_at, new_id, to_text
from twisted_mta.mail.route import COMPLAINT, Result
from twisted_mta.mail.suppressed import Suppressed

FBL = "fbl@example.test"


class ComplaintTests(TestCase):
    def setUp(self) -> None:
        settings = schema.Suppression(
            complaints=(FBL,), complaints_from=("192.0.2.0/24",)
        )
        self.office = Office(suppressing=settings)
        self.id = new_id()
        self.office.clock.advance(made_at(self.id) + 1 - self.office.clock.seconds())
        self.agent = Complaints(
            self.office.clock,
            self.office.suppression,
            self.office.directory,
            settings,
            HOST,
        )
        verifyObject(IDeliveryAgent, self.agent)

    def report(self, *change: bytes, id: int | None = None) -> bytes:
        """A report about a message of ours.

        @param change: what of it is changed, and into what.
        """
        old = RECEIVED.partition(b"id ")[2][:13]
        text = report().replace(b"mx.example.test", HOST.encode())
        text = text.replace(old, to_text(self.id if id is None else id).encode())
        return text.replace(*change) if change else text

    def tell(self, octets: bytes, host: str = "192.0.2.7") -> Result:
        """Somebody sends it; it is read."""
        made = self.office.envelope(split("fbl@provider.test"), split(FBL))
        made = made._replace(origin=Origin("ESMTP", host))
        self.now(self.office.accept(made, octets))
        (job,) = self.now(self.office.queue.claim(1))
        self.assertEqual(job.agent, COMPLAINT)
        content = self.office.ledger.stored(job.content, len(octets))
        outcomes = self.now(self.agent.deliver(job, content))
        self.now(self.office.queue.settle(job, outcomes))
        return outcomes[split(FBL)].result

    def listed(self) -> list[Suppressed]:
        return list(self.now(self.office.suppression.listed()))

    def test_listed(self) -> None:
        """Who complained of an account's mail gets none of that account any more."""
        self.assertEqual(self.tell(self.report()), Result.DELIVERED)
        (entry,) = self.listed()
        self.assertEqual(entry.address, str(CAROL))
        self.assertEqual((entry.reason, entry.scope), ("complaint", str(ALICE)))
        self.assertIn(to_text(self.id), entry.source)
        self.assertEqual(self.office.ledger.count("queued"), 0)

    def test_varied_sender(self) -> None:
        """A sender with the recipient in it is his who sent."""
        change = b"<alice@", b"<alice+carol=elsewhere.test@"
        self.tell(self.report(*change))
        self.assertEqual(self.listed()[0].scope, str(ALICE))

    def test_named_by_sender(self) -> None:
        """Where the report does not say who complained, that sender does; wherever the
        report has him from."""
        varied = b"<alice+dora=there.test@example.test>"
        said = self.report(b"<alice@example.test>", varied)
        without = said.replace(b"Original-Rcpt-To", b"X-To")
        returned = without.replace(b"Original-Mail-From", b"X-From").replace(
            b"Received: from x", b"Return-Path: " + varied + b"\r\nReceived: from x"
        )
        for octets in (without, returned):
            self.tell(octets)
            (entry,) = self.listed()
            self.assertEqual(
                (entry.address, entry.scope), ("dora@there.test", str(ALICE))
            )
            self.now(self.office.suppression.remove(split("dora@there.test"), ALICE))
        self.tell(without.replace(b"alice+dora", b"eve+dora"))
        self.assertEqual(self.listed(), [])

    def test_nobodys(self) -> None:
        """If it was none of our accounts nobody sends there any more."""
        self.tell(self.report(b"alice@example.test", b"other@example.test"))
        self.assertEqual(self.listed()[0].scope, "")

    def test_not_believed(self) -> None:
        """From elsewhere, or about what we did not send lately, it is a line of the
        log."""
        for octets, host in (
            (self.report(), "198.51.100.1"),
            (self.report(), ""),
            (self.report(HOST.encode(), b"mx.other.test"), "192.0.2.7"),
            (self.report(id=self.id - (61 * 86400 * 1_000_000 << 12)), "192.0.2.7"),
            (self.report(id=self.id + (86400 * 1_000_000 << 12)), "192.0.2.7"),
            (self.report(b"Original-Rcpt-To", b"X-To"), "192.0.2.7"),
            (self.report(b"Feedback-Type: abuse", b"Feedback-Type: x"), "192.0.2.7"),
            (self.report() + b"x" * (1 << 20), "192.0.2.7"),
            (b"Subject: hello\r\n\r\nhello\r\n", "192.0.2.7"),
        ):
            self.assertEqual(self.tell(octets, host), Result.DELIVERED)
            self.assertEqual(self.listed(), [])

    def test_later(self) -> None:
        """If the ledger is away it is read again."""
        made = self.office.envelope(None, split(FBL))
        made = made._replace(origin=Origin("ESMTP", "192.0.2.7"))
        self.now(self.office.accept(made, self.report()))
        (job,) = self.now(self.office.queue.claim(1))
        content = self.office.ledger.stored(job.content, len(self.report()))
        self.office.ledger.down = True
        outcomes = self.now(self.agent.deliver(job, content))
        self.assertEqual(outcomes[split(FBL)].result, Result.DEFERRED)

    def test_beside(self) -> None:
        """Who has the address reads the report, too."""
        self.office.directory._accounts[Address("fbl", "example.test").key] = self.now(
            self.office.directory.account(ALICE)
        )  # type: ignore[assignment]
        resolved = self.now(self.office.router.route(split(FBL)))
        self.assertEqual(len(resolved.routes), 2)
