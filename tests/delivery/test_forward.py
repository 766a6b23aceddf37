"""Mail that an address here sends on."""

import email

from zope.interface.verify import verifyObject

from tests.delivery.fakes import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DELIVERED,
    ERIN,
    FAILED,
    MESSAGE,
    Directory,
    Office,
    OfficeCase,
    always,
)
from twisted_mta.config import schema
from twisted_mta.delivery.forward import Forwarding, Loop, delivered_to
from twisted_mta.delivery.release import Release
from twisted_mta.delivery.srs import Returns
from twisted_mta.errors import MailLoop, NoSuchAccount
from twisted_mta.interfaces import IDeliveryAgent
from twisted_mta.mail import srs
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.envelope import Handling
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import LOOP, RELEASE, Result, ToAgent

SALES = split("sales@example.test")
DAY = 86400.0


class ForwardCase(OfficeCase):
    def setUp(self) -> None:
        super().setUp()
        aliases = {
            "sales@example.test": ["carol@elsewhere.test", "bob@example.test"],
            "both@example.test": ["carol@elsewhere.test", "dave@elsewhere.test"],
            "out@example.test": ["carol@elsewhere.test"],
        }
        self.use(Office(directory=Directory([str(ALICE), str(BOB)], aliases)))

    def use(self, office: Office) -> None:
        self.office = office
        self.clock, self.ledger = office.clock, office.ledger
        self.store, self.queue = office.store, office.queue
        self.start = self.clock.seconds()

    def jobs(self) -> list[Job]:
        return list(self.now(self.queue.claim(50)))

    def job(self) -> Job:
        (job,) = self.jobs()
        return job


class ForwardTests(ForwardCase):
    def test_return_address(self) -> None:
        """Of what an alias sends on, the next server hears our return address, which
        leads back; in mailboxes here stands who sent it."""
        self.now(self.office.send(ERIN, SALES))
        job = self.job()
        self.assertEqual(job.envelope.sender, ERIN)
        assert job.sender is not None
        self.assertTrue(srs.is_return(job.sender.local))
        self.assertEqual(job.sender.domain, "example.test")
        self.assertEqual(self.now(self.office.returns.original(job.sender)), ERIN)
        (mine,) = self.store.inbox(2)
        self.assertTrue(mine.startswith(b"Return-Path: <erin@third.test>\r\n"))

    def test_delivered_to(self) -> None:
        """It has Delivered-To on its way out, and only there."""
        self.now(self.office.send(ERIN, SALES))
        job = self.job()
        self.assertTrue(job.prefix.startswith(b"Delivered-To: sales@example.test\r\n"))
        self.assertEqual(job.size, len(job.prefix) + len(MESSAGE))
        self.assertNotIn(b"Delivered-To", self.store.inbox(2)[0])

    def test_as_it_is(self) -> None:
        """What is not sent on by us, or of one of us, or of nobody, keeps its
        sender."""
        self.now(self.office.send(ERIN, CAROL))
        job = self.job()
        self.assertEqual((job.sender, job.prefix), (ERIN, b"Received: here\r\n"))
        for sender in (ALICE, None):
            self.now(self.office.send(sender, SALES))
            self.assertEqual(self.jobs()[-1].sender, sender)

    def test_one_row(self) -> None:
        """Whom one alias leads to, behind one next hop, shares a row; who wrote to
        two aliases tells nobody of the other."""
        self.now(self.office.send(ERIN, split("both@example.test")))
        job = self.job()
        self.assertEqual(set(job.recipients), {CAROL, DAVE})
        self.now(self.queue.settle(job, always(DELIVERED)(job)))
        dave = "both@example.test", "dave@elsewhere.test"
        self.use(
            Office(
                directory=Directory(
                    [str(ALICE)], {"one@example.test": [str(CAROL)], dave[0]: [dave[1]]}
                )
            )
        )
        self.now(self.office.send(ERIN, split("one@example.test"), split(dave[0])))
        first, second = self.jobs()
        self.assertNotIn(b"both@", first.prefix)
        self.assertNotIn(b"one@", second.prefix)

    def test_twice(self) -> None:
        """Who is reached twice has it once, and without a detour."""
        self.now(self.office.send(ERIN, split("out@example.test"), CAROL))
        job = self.job()
        self.assertEqual((job.recipients, job.sender), ((CAROL,), ERIN))
        self.assertEqual(self.ledger.count("hop"), 1)
        self.assertEqual(self.ledger.count("recipient"), 1)

    def test_off(self) -> None:
        """Without SRS the sender stays, and the mark against loops is there."""
        office = self.office
        office.intake._forwarding = Forwarding(None, None, office.router.ours)
        self.now(office.send(ERIN, split("out@example.test")))
        job = self.job()
        self.assertEqual(job.sender, ERIN)
        self.assertIn(b"Delivered-To: out@example.test\r\n", job.prefix)

    def test_domain(self) -> None:
        """The config may name the domain of return addresses."""
        office = self.office
        office.intake._forwarding = Forwarding(
            office.returns, "example.test", office.router.ours
        )
        self.now(office.send(ERIN, split("out@example.test")))
        self.assertEqual(getattr(self.job().sender, "domain", ""), "example.test")

    def test_catch_all(self) -> None:
        """A catch-all sends on, too; who was written to is named."""
        domain = schema.Domain(catch_all=str(CAROL))
        self.use(Office(domain=domain))
        self.now(self.office.send(ERIN, split("anybody@example.test")))
        job = self.job()
        self.assertIn(b"Delivered-To: anybody@example.test", job.prefix)
        self.assertNotEqual(job.sender, ERIN)

    def test_too_long(self) -> None:
        """Whose return address would be too long is sent on as himself."""
        sender = Address("e" * 64, ".".join(["d" * 50] * 4))
        self.now(self.office.send(sender, split("out@example.test")))
        self.assertEqual(self.job().sender, sender)

    def test_bare_postmaster(self) -> None:
        """Who has no domain cannot give one to a return address."""
        self.office.router._postmaster = CAROL
        self.now(self.office.send(ERIN, Address("postmaster", "")))
        job = self.job()
        self.assertEqual(job.sender, ERIN)
        self.assertIn(b"Delivered-To: postmaster\r\n", job.prefix)

    def test_bounce(self) -> None:
        """Whoever wrote to the alias reads our own bounce, without a detour."""
        self.now(self.office.send(ERIN, split("out@example.test")))
        job = self.job()
        self.now(self.queue.settle(job, always(FAILED)(job)))
        bounce = self.job()
        self.assertEqual((bounce.sender, bounce.recipients), (None, (ERIN,)))

    def test_h46_no_backscatter(self) -> None:
        """Nobody is told of a bounce that cannot be sent on."""
        self.now(self.office.send(None, split("out@example.test")))
        job = self.job()
        self.now(self.queue.settle(job, always(FAILED)(job)))
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_released(self) -> None:
        """What was held for its sender until a time is sent on like any other then,
        with the recipient in its sender if he asked for that."""
        to, office = split("out@example.test"), self.office
        for sender, verp in ((ERIN, ""), (ALICE, "+=")):
            handling = Handling(release_at=self.clock.seconds() + 60, verp=verp)
            envelope = office.envelope(sender, to)._replace(handling=handling)
            content = office.intake.content()
            content.write(MESSAGE)
            self.now(content.finish())
            waiting = ToAgent(RELEASE, "", to)
            self.now(office.intake.accept(envelope, [waiting], content, b""))
            content.abort()
            self.clock.advance(60)
            held = self.job()
            release = Release(self.clock, office.router, office.intake)
            stored = self.ledger.stored(held.content, held.size)
            outcomes = self.now(release.deliver(held, stored))
            self.now(self.queue.settle(held, outcomes))
            job = self.job()
            self.assertIn(b"Delivered-To: out@example.test\r\n", job.prefix)
            assert job.sender is not None
            if verp:
                made = "alice+out=example.test@example.test"
                self.assertEqual(str(job.sender), made)
            else:
                self.assertTrue(srs.is_return(job.sender.local))


class ReturnTests(ForwardCase):
    """Bounces to return addresses."""

    def made(self) -> Address:
        self.now(self.office.send(ERIN, split("out@example.test")))
        job = self.job()
        assert job.sender is not None
        return job.sender

    def test_way_back(self) -> None:
        """It goes to who wrote at first, and for nobody but the null sender."""
        for address in (
            self.made(),
            Address(self.made().local.lower(), "example.test"),
        ):
            resolved = self.now(self.office.router.route(address))
            self.assertTrue(resolved.local)
            self.assertTrue(resolved.returns)
            self.assertEqual(resolved.routes, (ToAgent("smtp", "third.test", ERIN),))

    def test_guarded(self) -> None:
        """What another forwarder sent goes back to that one alone."""
        sender = split("SRS0=abcd=ef=orig.test=joe@third.test")
        self.now(self.office.send(sender, split("out@example.test")))
        address = self.job().sender
        assert address is not None
        self.assertTrue(address.local.startswith("SRS1="))
        (route,) = self.now(self.office.router.route(address)).routes
        self.assertEqual(route, ToAgent("smtp", "third.test", sender))

    def test_h43_forged(self) -> None:
        """A forged or an old one is refused, whatever catch-all there is."""
        self.use(Office(domain=schema.Domain(catch_all=str(CAROL))))
        forged = Address("SRS0=aaaa=bb=victim.test=joe", "example.test")
        error = self.fails(NoSuchAccount, self.office.router.route(forged))
        self.assertIn("not made here", error.text)
        self.now(self.office.send(ERIN, split("x@example.test")))
        made = self.job().sender
        assert made is not None
        self.clock.advance((srs.DAYS + 2) * DAY)
        error = self.fails(NoSuchAccount, self.office.router.route(made))
        self.assertIn("21 days", error.text)

    def test_of_ours(self) -> None:
        """If he was one of us once and is no more, there is nobody."""
        address = self.now(
            self.office.returns.forward(split("gone@example.test"), "example.test")
        )
        self.fails(NoSuchAccount, self.office.router.route(address))

    def test_own_mail(self) -> None:
        """Our own mail that is no bounce does not go there either."""
        made = self.made()
        envelope = self.office.envelope(ALICE, made)
        self.now(self.office.intake.submit(envelope, MESSAGE))
        self.assertEqual(self.ledger.count("queued"), 1)


class SecretTests(ForwardCase):
    def test_shared(self) -> None:
        """What one process made another understands, and there is one secret."""
        other = Returns(self.clock, self.ledger)
        made = self.now(other.forward(ERIN, "example.test"))
        self.assertEqual(self.now(self.office.returns.original(made)), ERIN)
        again = self.now(self.office.returns.forward(ERIN, "example.test"))
        self.assertEqual(made, again)
        self.assertEqual(self.ledger.count("secret"), 1)

    def test_rotation(self) -> None:
        """A new one is made after months; the old is good as long as its addresses
        are, and then forgotten."""
        returns, other = self.office.returns, Returns(self.clock, self.ledger)
        first = self.now(returns.forward(ERIN, "example.test"))
        self.clock.advance(89 * DAY)
        first = self.now(returns.forward(ERIN, "example.test"))
        self.clock.advance(2 * DAY)
        second = self.now(returns.forward(ERIN, "example.test"))
        self.assertEqual(self.ledger.count("secret"), 2)
        for made in (first, second):
            self.assertEqual(self.now(other.original(made)), ERIN)
        self.clock.advance(91 * DAY)
        self.now(returns.forward(ERIN, "example.test"))
        self.assertEqual(self.ledger.count("secret"), 2)

    def test_unseen(self) -> None:
        """One that another process made since is found."""
        returns, other = self.office.returns, Returns(self.clock, self.ledger)
        self.now(returns.forward(ERIN, "example.test"))
        self.clock.advance(91 * DAY)
        made = self.now(other.forward(ERIN, "example.test"))
        self.assertEqual(self.now(returns.original(made)), ERIN)


class LoopTests(ForwardCase):
    ROUND = b"Delivered-To:  Out@Example.test\r\n" + MESSAGE

    def test_h46_round(self) -> None:
        """What comes to an address that had it already is refused."""
        error = self.fails(
            MailLoop,
            self.office.send(ERIN, split("out@example.test"), octets=self.ROUND),
        )
        self.assertEqual(error.status, "5.4.6")
        # Also where it leads to a mailbox besides, which has it already.
        octets = self.ROUND.replace(b"Out@", b"sales@")
        self.fails(MailLoop, self.office.send(ERIN, SALES, octets=octets))
        self.assertEqual(self.ledger.count("queued"), 0)
        self.assertEqual(self.store.inbox(2), [])

    def test_h46_others(self) -> None:
        """If others are to have it they do, and the sender is told of the loop."""
        to = split("out@example.test")
        self.now(self.office.send(ERIN, BOB, DAVE, to, octets=self.ROUND))
        self.assertEqual(len(self.store.inbox(2)), 1)
        jobs = {job.agent: job for job in self.jobs()}
        self.assertEqual(set(jobs), {"smtp", LOOP})
        loop = Loop()
        verifyObject(IDeliveryAgent, loop)
        outcomes = self.now(loop.deliver(jobs[LOOP], None))  # type: ignore[arg-type]
        self.assertEqual(outcomes[to].result, Result.FAILED)
        self.assertEqual(outcomes[to].status, "5.4.6")
        self.now(self.queue.settle(jobs[LOOP], outcomes))
        (bounce,) = self.jobs()
        self.assertEqual(bounce.recipients, (ERIN,))

    def test_mailbox(self) -> None:
        """A mailbox takes what it had before: it does not send it on."""
        octets = b"Delivered-To: bob@example.test\r\n" + MESSAGE
        self.now(self.office.send(ERIN, BOB, octets=octets))
        self.assertEqual(len(self.store.inbox(2)), 1)

    def test_other_alias(self) -> None:
        """Another address of ours may have had it."""
        octets = b"Delivered-To: sales@example.test\r\n" + MESSAGE
        self.now(self.office.send(ERIN, split("out@example.test"), octets=octets))
        self.assertEqual(len(self.jobs()), 1)

    def test_h46_many(self) -> None:
        """However many of the fields there are, so many are looked at."""
        block = b"Delivered-To: a@x.test\r\n" * 5_000 + b"\r\n"
        self.assertEqual(delivered_to(block), {"a@x.test"})
        self.assertEqual(delivered_to(b"Delivered-To: \xff\r\n\r\n"), {"\ufffd"})


class VerpTests(ForwardCase):
    def test_rows(self) -> None:
        """With VERP each recipient has a row, and a bounce of ours goes to the
        address that names him."""
        handling = Handling(verp="+=")
        envelope = self.office.envelope(ALICE, CAROL, DAVE)
        envelope = envelope._replace(handling=handling)
        content = self.office.intake.content()
        content.write(MESSAGE)
        self.now(content.finish())
        routes = [
            ToAgent("smtp", "elsewhere.test", who, sender=split(sender))
            for who, sender in (
                (CAROL, "alice+carol=elsewhere.test@example.test"),
                (DAVE, "alice+dave=elsewhere.test@example.test"),
            )
        ]
        self.now(self.office.intake.accept(envelope, routes, content, b""))
        content.abort()
        jobs = self.jobs()
        self.assertEqual([len(job.recipients) for job in jobs], [1, 1])
        self.assertEqual(
            {str(job.sender) for job in jobs},
            {str(route.sender) for route in routes},
        )
        for job in jobs:
            self.assertEqual(job.envelope.handling, handling)
            self.now(self.queue.settle(job, always(FAILED)(job)))
        told = [email.message_from_bytes(one)["To"] for one in self.store.inbox(1)]
        self.assertEqual(sorted(told), sorted(f"<{route.sender}>" for route in routes))
