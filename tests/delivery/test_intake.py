"""Taking responsibility for messages."""

from zope.interface.verify import verifyObject

from tests.delivery.fakes import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    ERIN,
    MESSAGE,
    Directory,
    Ledger,
    Office,
    Store,
    TestCase,
)
from twisted_mta.errors import LedgerFull, NoSuchAccount, Temporary
from twisted_mta.interfaces import (
    IContentWriter,
    IIntake,
    ILedger,
    ITransactionalDelivery,
)
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.submitted import Saved

TABLES = ("content", "email", "queued", "hop", "recipient")


class IntakeTests(TestCase):
    def setUp(self) -> None:
        self.office = Office(
            Directory(
                [str(ALICE), str(BOB)],
                {"team@example.test": [str(ALICE), str(BOB), str(CAROL)]},
            )
        )
        self.ledger, self.store = self.office.ledger, self.office.store

    def counts(self) -> list[int]:
        return [self.ledger.count(table) for table in TABLES]

    def test_saved(self) -> None:
        """Who wants to has what he sends in his mailbox for sent mail, read, in the
        same transaction, wherever it goes."""
        kept = (1, "\\Sent", True)
        for recipient, wanted in (
            (CAROL, {kept}),
            (BOB, {kept, (2, "", False)}),
            (ALICE, {kept, (1, "", False)}),
        ):
            envelope = self.office.envelope(ALICE, recipient)
            routes = self.now(self.office.router.route(recipient)).routes
            content = self.office.intake.content()
            content.write(MESSAGE)
            self.now(content.finish())
            saved = Saved(1, b"Bcc: eve@elsewhere.test\r\n")
            accepted = self.office.intake.accept(
                envelope, routes, content, b"", saved=saved
            )
            self.now(accepted)
            content.abort()
            self.assertEqual(set(self.store.places), wanted)
            self.store.places.clear()
        # Only the copy shows blind copies, also in IMAP's ENVELOPE.
        kept_rows = self.ledger.rows("SELECT prefix, envelope, size FROM email")
        shown = [b"Bcc: eve" in prefix for prefix, _, _ in kept_rows]
        self.assertEqual(sorted(shown), [False, False, True, True, True])
        for prefix, envelope_, size in kept_rows:
            self.assertEqual(b"Bcc: eve" in prefix, b'"eve"' in envelope_)
            self.assertEqual(size, len(prefix) + len(MESSAGE))

    def test_seams(self) -> None:
        """The intake and the fakes it is tested on keep to the interfaces."""
        verifyObject(IIntake, self.office.intake)
        verifyObject(ILedger, self.ledger)
        verifyObject(IContentWriter, self.ledger.content())
        verifyObject(ITransactionalDelivery, self.store)

    def test_local(self) -> None:
        """A local message is in the mailbox when it is accepted: Return-Path,
        what the session put before it, its octets as they came; and nothing is
        in the queue."""
        self.now(self.office.send(CAROL, BOB))
        expected = (
            b"Return-Path: <carol@elsewhere.test>\r\nReceived: here\r\n" + MESSAGE
        )
        self.assertEqual(self.store.inbox(2), [expected])
        self.assertEqual(self.counts(), [1, 1, 0, 0, 0])
        ((size, at),) = self.ledger.rows("SELECT size, received_at FROM email")
        self.assertEqual((size, at), (len(expected), self.office.clock.seconds()))

    def test_one_transaction(self) -> None:
        """Many recipients here and elsewhere are one transaction, and the
        content is in it once."""
        self.now(self.office.send(ALICE, ALICE, BOB, CAROL, DAVE, ERIN))
        self.assertEqual(self.ledger.writes, 1)
        self.assertEqual(self.counts(), [1, 2, 1, 2, 3])
        self.assertEqual(self.ledger.open_writers, 0)

    def test_elsewhere(self) -> None:
        """For elsewhere there is a row per next hop, with no Return-Path."""
        envelope = self.now(self.office.send(ALICE, CAROL, ERIN, DAVE))
        jobs = self.now(self.office.queue.claim(10))
        self.assertEqual(
            sorted((job.next_hop, job.recipients) for job in jobs),
            [("elsewhere.test", (CAROL, DAVE)), ("third.test", (ERIN,))],
        )
        for job in jobs:
            self.assertEqual(job.envelope, envelope)
            self.assertEqual(job.prefix, b"Received: here\r\n")
            self.assertEqual(job.size, len(job.prefix + MESSAGE))
            self.assertEqual(job.agent, "smtp")

    def test_h44_duplicates(self) -> None:
        """An account or address that is reached twice gets the message once."""
        recipients = [Address("bob+x", "example.test"), BOB, split("team@example.test")]
        self.now(self.office.send(CAROL, *recipients, CAROL))
        self.assertEqual(len(self.store.inbox(2)), 1)
        self.assertEqual(self.counts(), [1, 2, 1, 1, 1])

    def test_null_sender(self) -> None:
        """The null sender is kept as such."""
        self.now(self.office.send(None, BOB, CAROL))
        self.assertTrue(self.store.inbox(2)[0].startswith(b"Return-Path: <>\r\n"))
        (job,) = self.now(self.office.queue.claim(10))
        self.assertIsNone(job.envelope.sender)

    def test_h42_return_path(self) -> None:
        """A sender with line ends in it adds no field to the message."""
        self.now(self.office.send(Address("a\r\nBcc: x", "y.test"), BOB))
        (message,) = self.store.inbox(2)
        self.assertTrue(
            message.startswith(b'Return-Path: <"a Bcc: x"@y.test>\r\nReceived:')
        )

    def test_international_sender(self) -> None:
        """Return-Path of an international sender is UTF-8 (RFC 6532)."""
        self.now(self.office.send(Address("zoë", "y.test"), BOB))
        self.assertIn("<zoë@y.test>".encode(), self.store.inbox(2)[0])

    def test_ledger_fails(self) -> None:
        """What the ledger does not commit is nowhere, and whoever sent it
        knows."""
        self.ledger.broken.append(LedgerFull())
        self.fails(LedgerFull, self.office.send(ALICE, BOB, CAROL))
        self.assertEqual(self.counts(), [0, 0, 0, 0, 0])
        self.assertEqual(self.ledger.open_writers, 0)

    def test_one_mailbox_fails(self) -> None:
        """When one mailbox cannot take it, none has, and the queue neither."""

        class Picky(Store):
            def _deliver(
                self, transaction: object, account: int, email: object
            ) -> None:
                if account == 2:
                    raise NoSuchAccount()
                super()._deliver(transaction, account, email)

        office = Office()
        office.store = Picky(office.ledger)
        office.intake._store = office.store
        self.fails(NoSuchAccount, office.send(CAROL, ALICE, BOB, DAVE))
        self.ledger = office.ledger
        self.assertEqual(self.counts(), [0, 0, 0, 0, 0])

    def test_no_route(self) -> None:
        """What is for nobody is not taken."""
        self.fails(NoSuchAccount, self.office.send(ALICE))
        self.assertEqual(self.counts(), [0, 0, 0, 0, 0])

    def test_hint(self) -> None:
        """The runner hears of a row, once it is committed, and of nothing else."""
        heard: list[int] = []
        self.ledger.watch("queue", lambda: heard.append(self.ledger.count("hop")))
        self.now(self.office.send(ALICE, BOB))
        self.assertEqual(heard, [])
        self.now(self.office.send(ALICE, CAROL))
        self.assertEqual(heard, [1])


class SubmitTests(TestCase):
    def setUp(self) -> None:
        self.office = Office()
        self.ledger: Ledger = self.office.ledger

    def test_submit(self) -> None:
        """What the server writes itself goes here and elsewhere like any mail."""
        envelope = self.office.envelope(None, ALICE, CAROL)
        self.now(self.office.intake.submit(envelope, MESSAGE))
        self.assertEqual(self.office.store.inbox(1), [b"Return-Path: <>\r\n" + MESSAGE])
        (job,) = self.now(self.office.queue.claim(10))
        self.assertEqual((job.prefix, job.recipients), (b"", (CAROL,)))
        self.assertEqual(self.ledger.open_writers, 0)

    def test_nobody(self) -> None:
        """Recipients that do not exist are dropped, the others get it."""
        gone = split("gone@example.test")
        self.now(self.office.intake.submit(self.office.envelope(None, gone), MESSAGE))
        self.assertEqual(self.ledger.writes, 0)
        both = self.office.envelope(None, gone, BOB)
        self.now(self.office.intake.submit(both, MESSAGE))
        self.assertEqual(len(self.office.store.inbox(2)), 1)

    def test_trouble(self) -> None:
        """When it cannot be said where it goes, or not be kept, whoever submits
        knows."""
        office = Office(Directory([]))
        envelope = office.envelope(None, split("abuse@example.test"))
        self.fails(Temporary, office.intake.submit(envelope, MESSAGE))
        self.ledger.down = True
        envelope = self.office.envelope(None, BOB)
        self.fails(Temporary, self.office.intake.submit(envelope, MESSAGE))
        self.assertEqual(self.ledger.open_writers, 0)
