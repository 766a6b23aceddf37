"""The relay queue: claims, settlements, and an operator's hands."""

import email

from zope.interface import implementer
from zope.interface.verify import verifyObject

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
    OfficeCase,
    always,
)
from twisted_mta.config import schema
from twisted_mta.delivery.backlog import Backlog
from twisted_mta.delivery.queue import LEASE_S
from twisted_mta.errors import LedgerUnavailable, NoSuchQueueId, OverQuota, Temporary
from twisted_mta.interfaces import IQueue, IRouter, ITransaction
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.envelope import DeliverBy, Envelope, Handling, Origin
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.job import Job, Parked
from twisted_mta.mail.route import (
    NO_MAILING,
    Mailing,
    Outcome,
    Resolved,
    Result,
)

HOUR = 3600.0
DAY = 24 * HOUR


class QueueCase(OfficeCase):
    def claim(self) -> Job:
        """The one row that is due."""
        (job,) = self.now(self.queue.claim(10))
        return job

    def empty(self) -> None:
        """Nothing of any message is left in the queue; its content is free."""
        for table in ("queued", "hop", "recipient"):
            self.assertEqual(self.ledger.count(table), 0)
        self.assertEqual(self.ledger.open_writers, 0)

    def bounces(self) -> list[email.message.Message]:
        """What alice was told."""
        return [email.message_from_bytes(one) for one in self.store.inbox(1)]

    def actions(self) -> list[str]:
        """The Action of each recipient of each notification."""
        return [
            recipient["Action"]
            for bounce in self.bounces()
            for recipient in bounce.get_payload()[1].get_payload()[1:]
        ]


class ClaimTests(QueueCase):
    def test_seam(self) -> None:
        """The queue keeps to its interface, as does the router it is vexed with."""
        verifyObject(IQueue, self.queue)
        verifyObject(IRouter, Unsure())

    def test_lease(self) -> None:
        """A row that is claimed is nobody else's until the lease ends; then it
        is anybody's: the crash of a process needs no other remedy."""
        self.now(self.office.send(ALICE, CAROL))
        other = self.office.another("two")
        job = self.claim()
        self.assertEqual(self.now(other.claim(10)), [])
        self.assertEqual(self.now(other.next_due()), self.start + LEASE_S)
        self.clock.advance(LEASE_S - 1)
        self.assertEqual(self.now(other.claim(10)), [])
        self.clock.advance(1)
        self.assertEqual(self.now(other.claim(10)), [job])

    def test_stopped(self) -> None:
        """Who has a row can ask whether it is to be tried as he knows it; one of which
        nobody is left is, too, since it has to go."""
        for to in ((CAROL,), (DAVE,), (CAROL, DAVE), (ERIN,)):
            self.now(self.office.send(ALICE, *to))
        jobs = list(self.now(self.queue.claim(10)))
        self.assertEqual(self.now(self.queue.stopped(jobs)), [])
        first, held, part, last = jobs
        sql = "DELETE FROM recipient WHERE hop_id = ? AND address = ?"
        self.now(self.queue.hold([to_text(held.envelope.id)]))
        for job, who in ((part, CAROL), (last, ERIN)):
            row = job.id, str(who)
            self.now(self.ledger.write(lambda t, row=row: t.execute(sql, row)))  # type: ignore[misc]
        self.assertEqual(self.now(self.queue.stopped(jobs)), [held, part, last])
        empty = self.claim_again(last)
        self.assertEqual(self.now(self.queue.stopped([first, empty])), [])
        self.assertEqual(self.now(self.office.another("two").stopped([first])), [first])

    def claim_again(self, job: Job) -> Job:
        """The same row, as it is now."""
        self.now(self.queue.give_back([job]))
        return self.claim()

    def test_before_logins(self) -> None:
        """What waited before its login was a column is found by it once it was
        tried."""
        origin = Origin("ESMTPSA", login="alice@example.test")
        made = self.office.envelope(ALICE, CAROL)._replace(origin=origin)
        self.now(self.office.accept(made))
        for sql in ("UPDATE queued SET login = ''", "UPDATE hop SET flow = ''"):
            self.now(self.ledger.write(lambda t, sql=sql: t.execute(sql)))  # type: ignore[misc]
        job = self.claim()
        self.now(self.queue.settle(job, always(DEFERRED)(job)))
        (row,) = self.now(self.queue.waiting())
        self.assertEqual(row.account, "alice@example.test")

    def test_renew(self) -> None:
        """A lease can be made longer, by whoever has it."""
        self.now(self.office.send(ALICE, CAROL))
        other, job = self.office.another("two"), self.claim()
        self.clock.advance(LEASE_S - 1)
        self.now(other.renew([job]))
        self.assertEqual(self.now(other.next_due()), self.start + LEASE_S)
        self.now(self.queue.renew([job]))
        self.assertEqual(self.now(other.next_due()), self.start + 2 * LEASE_S - 1)

    def test_give_back(self) -> None:
        """A row that was not tried is due at once, and was not an attempt."""
        self.now(self.office.send(ALICE, CAROL))
        other, job = self.office.another("two"), self.claim()
        self.now(other.give_back([job]))
        self.assertEqual(self.now(other.claim(10)), [])
        self.now(self.queue.give_back([job]))
        self.assertEqual(self.now(other.claim(10)), [job])

    def test_order_and_bound(self) -> None:
        """The oldest due come first, and no more than asked for."""
        ids = []
        for _ in range(5):
            ids.append(self.now(self.office.send(ALICE, CAROL)).id)
            self.clock.advance(1)
        first = self.now(self.queue.claim(2))
        second = self.now(self.queue.claim(9))
        self.assertEqual([job.envelope.id for job in [*first, *second]], ids)
        self.assertEqual(len(first), 2)

    def test_room(self) -> None:
        """Of the oldest those are taken for which their hops have room, and the others
        are left alone."""
        for recipient in (CAROL, CAROL, CAROL, ERIN, ERIN):
            self.now(self.office.send(ALICE, recipient))
            self.clock.advance(1)
        room = {("smtp", "elsewhere.test"): 2, ("lmtp", "third.test"): 0}
        jobs = self.now(self.queue.claim(10, room, 1))
        hops = [job.next_hop for job in jobs]
        self.assertEqual(hops, ["elsewhere.test", "elsewhere.test", "third.test"])
        states = [waiting.state for waiting in self.now(self.queue.waiting())]
        self.assertEqual(states.count("active"), 3)
        self.assertEqual(self.now(self.queue.next_due()), self.start + 2)

    def test_very_busy(self) -> None:
        """There may be thousands of them."""
        self.now(self.office.send(ALICE, CAROL, ERIN))
        busy = [("smtp", f"d{number}.test") for number in range(5_000)]
        busy.append(("smtp", "elsewhere.test"))
        self.assertEqual(self.now(self.queue.next_due(busy)), self.start)
        (job,) = self.now(self.queue.claim(10, dict.fromkeys(busy, 0)))
        self.assertEqual(job.next_hop, "third.test")

    def test_busy(self) -> None:
        """Hops that can take no more are passed over."""
        self.now(self.office.send(ALICE, CAROL))
        self.clock.advance(1)
        self.now(self.office.send(ALICE, ERIN))
        busy = [("smtp", "elsewhere.test"), ("lmtp", "third.test")]
        self.assertEqual(self.now(self.queue.next_due(busy)), self.start + 1)
        (job,) = self.now(self.queue.claim(10, dict.fromkeys(busy, 0)))
        self.assertEqual(job.recipients, (ERIN,))
        self.assertEqual(self.now(self.queue.next_due()), self.start)

    def test_nothing(self) -> None:
        """An empty queue is due never."""
        self.assertIsNone(self.now(self.queue.next_due()))
        self.assertEqual(self.now(self.queue.claim(10)), [])

    def test_odd_recipients(self) -> None:
        """Recipients come back as they were, however they are quoted."""
        odd = [Address(local, "x.test") for local in ('a "b"', "c@d", "e\\f", "zoë")]
        self.now(self.office.send(ALICE, *odd))
        self.assertEqual(set(self.claim().recipients), set(odd))


class SettleTests(QueueCase):
    def settle(self, outcome: object) -> None:
        job = self.claim()
        self.now(self.queue.settle(job, always(outcome)(job)))  # type: ignore[arg-type]

    def test_delivered(self) -> None:
        """What is delivered leaves the queue and frees the content."""
        self.now(self.office.send(ALICE, CAROL, DAVE))
        self.settle(DELIVERED)
        self.empty()
        self.assertEqual(self.ledger.count("released"), 1)
        self.assertEqual(self.bounces(), [])

    def test_content_kept(self) -> None:
        """The content stays as long as any row of the message does."""
        self.now(self.office.send(ALICE, CAROL, ERIN))
        one, two = self.now(self.queue.claim(10))
        self.now(self.queue.settle(one, always(DELIVERED)(one)))
        self.assertEqual(self.ledger.count("released"), 0)
        self.now(self.queue.settle(two, always(DELIVERED)(two)))
        self.assertEqual(self.ledger.count("released"), 1)
        self.empty()

    def test_failed(self) -> None:
        """Whoever fails for good leaves the queue in the same transaction in
        which the bounce is in the sender's INBOX."""
        self.now(self.office.send(ALICE, CAROL))
        before = self.ledger.writes
        self.settle(FAILED)
        self.assertEqual(self.ledger.writes, before + 2)  # the claim, and this
        self.empty()
        (bounce,) = self.bounces()
        self.assertEqual(bounce["Return-Path"], "<>")
        self.assertIn("Subject: hello", bounce.get_payload()[2].get_payload())
        self.assertIn("Received: here", bounce.get_payload()[2].get_payload())
        self.assertEqual(self.actions(), ["failed"])

    def test_bounce_elsewhere(self) -> None:
        """A bounce to a sender elsewhere is a row of the queue; when that fails,
        nothing is left of it there."""
        self.now(self.office.send(ERIN, CAROL))
        self.settle(FAILED)
        job = self.claim()
        self.assertIsNone(job.envelope.sender)
        self.assertEqual((job.next_hop, job.recipients), ("third.test", (ERIN,)))
        self.now(self.queue.settle(job, always(FAILED)(job)))
        self.empty()

    def test_h46_no_bounce_to_nobody(self) -> None:
        """The null sender is told nothing, of failure or of delay."""
        self.now(self.office.send(None, CAROL, DAVE))
        self.clock.advance(5 * HOUR)
        job = self.claim()
        self.now(self.queue.settle(job, {CAROL: DEFERRED, DAVE: FAILED}))
        self.assertEqual(self.ledger.count("queued"), 1)
        self.assertEqual(self.ledger.count("email"), 0)
        self.now(self.queue.flush())
        self.settle(FAILED)
        self.empty()
        self.assertEqual(self.ledger.count("email"), 0)

    def test_sender_gone(self) -> None:
        """A sender here that does not exist is told nothing, the postmaster is in his
        stead, and the queue is emptied."""
        self.now(self.office.send(split("gone@example.test"), CAROL))
        self.settle(FAILED)
        self.empty()
        self.assertEqual(self.ledger.count("email"), 1)

    def test_sender_full(self) -> None:
        """A sender whose mailbox does not take the bounce is not told; the
        queue is emptied all the same."""

        def full(transaction: object, deliveries: object) -> None:
            raise OverQuota()

        self.now(self.office.send(ALICE, CAROL, DAVE))
        self.store.deliver = full  # type: ignore[method-assign,assignment]
        job = self.claim()
        self.now(self.queue.settle(job, {CAROL: FAILED, DAVE: DEFERRED}))
        self.assertEqual(self.ledger.count("email"), 0)
        self.clock.advance(300)
        self.assertEqual(self.claim().recipients, (DAVE,))
        self.assertEqual(self.ledger.open_writers, 0)

    def test_each_its_own(self) -> None:
        """Each recipient has its own outcome; whoever the agent forgot is tried
        again."""
        recipients = [Address(local, "elsewhere.test") for local in "abcd"]
        self.now(self.office.send(ALICE, *recipients))
        a, b, c, d = recipients
        job = self.claim()
        self.now(self.queue.settle(job, {a: DELIVERED, b: FAILED, c: DEFERRED}))
        self.assertEqual(self.actions(), ["failed"])
        self.clock.advance(299)
        self.assertEqual(self.now(self.queue.claim(10)), [])
        self.clock.advance(1)
        job = self.claim()
        self.assertEqual((job.recipients, job.attempts), ((c, d), 1))

    def test_five_days(self) -> None:
        """Always deferred: tried by the schedule, the sender warned once after
        4 hours, and told after 5 days; then the queue is empty."""
        self.now(self.office.send(ALICE, CAROL))
        tries, told = [], []
        while (due := self.now(self.queue.next_due())) is not None:
            self.clock.advance(due - self.clock.seconds())
            age = self.clock.seconds() - self.start
            tries.append(age)
            before = len(self.bounces())
            self.settle(DEFERRED)
            if len(self.bounces()) > before:
                told.append(age)
        self.assertEqual(tries[:6], [0, 300, 900, 2100, 4500, 9300])
        self.assertEqual(tries[-1], 5 * DAY)
        self.assertEqual(len(tries), 65)
        self.assertEqual(told, [4 * HOUR, 5 * DAY])
        self.assertEqual(self.actions(), ["delayed", "failed"])
        delayed, failed = [
            bounce.get_payload()[1].get_payload()[1] for bounce in self.bounces()
        ]
        self.assertEqual(delayed["Status"], "4.2.0")
        self.assertEqual(failed["Status"], "4.4.7")
        self.assertEqual(failed["Diagnostic-Code"], "smtp; 450 4.2.0 Later")
        self.assertEqual(delayed["Will-Retry-Until"], "Sun, 19 Nov 2023 22:13:20 +0000")
        self.empty()

    def test_lists_are_not_warned(self) -> None:
        """What a machine sent is bounced, but nobody is warned of delays."""
        octets = b"Precedence: list\r\n" + MESSAGE
        self.now(self.office.send(ALICE, CAROL, octets=octets))
        self.clock.advance(5 * HOUR)
        self.settle(DEFERRED)
        self.assertEqual(self.bounces(), [])
        self.clock.advance(5 * DAY)
        self.settle(DEFERRED)
        self.assertEqual(self.actions(), ["failed"])

    def test_failure_and_delay(self) -> None:
        """One attempt may tell of both, each in its own notification."""
        self.now(self.office.send(ALICE, CAROL, DAVE))
        self.clock.advance(5 * HOUR)
        job = self.claim()
        self.now(self.queue.settle(job, {CAROL: FAILED, DAVE: DEFERRED}))
        self.assertEqual(self.actions(), ["failed", "delayed"])

    def test_ledger_fails(self) -> None:
        """A settlement that is not committed changed nothing, the bounce
        included, and can be repeated."""
        self.now(self.office.send(ALICE, CAROL))
        job = self.claim()
        self.ledger.broken.append(LedgerUnavailable())
        self.fails(LedgerUnavailable, self.queue.settle(job, {CAROL: FAILED}))
        self.assertEqual(self.ledger.count("recipient"), 1)
        self.assertEqual(self.bounces(), [])
        self.assertEqual(self.ledger.open_writers, 0)
        self.now(self.queue.settle(job, {CAROL: FAILED}))
        self.assertEqual(self.actions(), ["failed"])
        self.empty()

    def test_sender_unknown_for_now(self) -> None:
        """When it cannot be said how to tell the sender, the delivered leave
        the queue, and the failed stay until it can be said."""
        self.now(self.office.send(ALICE, CAROL, DAVE))
        job = self.claim()
        router, self.office.own._router = self.office.own._router, Unsure()
        self.now(self.queue.settle(job, {CAROL: DELIVERED, DAVE: FAILED}))
        self.office.own._router = router
        self.clock.advance(300)
        job = self.claim()
        self.assertEqual(job.recipients, (DAVE,))
        self.now(self.queue.settle(job, {DAVE: FAILED}))
        self.assertEqual(self.actions(), ["failed"])
        self.empty()

    def test_warned_once_both(self) -> None:
        """A warning that cannot be sent now is sent with the next attempt."""
        self.now(self.office.send(ALICE, CAROL))
        self.clock.advance(5 * HOUR)
        router, self.office.own._router = self.office.own._router, Unsure()
        self.settle(DEFERRED)
        self.office.own._router = router
        for _ in range(2):
            self.clock.advance(3 * HOUR)
            self.settle(DEFERRED)
        self.assertEqual(self.actions(), ["delayed"])

    def test_lease_lost(self) -> None:
        """Of a row that another process has taken meanwhile, what was delivered
        is recorded; the rest is the other's."""
        self.now(self.office.send(ALICE, CAROL, DAVE))
        job = self.claim()
        self.clock.advance(LEASE_S)
        other = self.office.another("two")
        (theirs,) = self.now(other.claim(10))
        self.now(self.queue.settle(job, {CAROL: DELIVERED, DAVE: FAILED}))
        self.assertEqual(self.ledger.rows("SELECT lease FROM hop"), [("two",)])
        self.assertEqual(self.bounces(), [])
        self.now(other.settle(theirs, {CAROL: DEFERRED, DAVE: DEFERRED}))
        self.clock.advance(300)
        job = self.claim()
        self.assertEqual((job.recipients, job.attempts), ((DAVE,), 1))

    def test_removed_while_tried(self) -> None:
        """A message that was removed meanwhile is settled without a word."""
        envelope = self.now(self.office.send(ALICE, CAROL))
        job = self.claim()
        self.now(self.queue.remove([to_text(envelope.id)]))
        self.now(self.queue.settle(job, {CAROL: FAILED}))
        self.assertEqual(self.bounces(), [])
        self.empty()

    def test_removed_and_collected(self) -> None:
        """The same when its content is gone already."""
        envelope = self.now(self.office.send(ALICE, CAROL))
        job = self.claim()
        self.now(self.queue.remove([to_text(envelope.id)]))
        self.ledger.rows("DELETE FROM content")
        self.now(self.queue.settle(job, {CAROL: FAILED}))
        self.assertEqual(self.bounces(), [])

    def test_held_while_tried(self) -> None:
        """A hold during an attempt holds from its end."""
        envelope = self.now(self.office.send(ALICE, CAROL))
        job = self.claim()
        self.now(self.queue.hold([to_text(envelope.id)]))
        self.now(self.queue.settle(job, {CAROL: DEFERRED}))
        self.assertIsNone(self.now(self.queue.next_due()))
        (waiting,) = self.now(self.queue.waiting())
        self.assertEqual(waiting.state, "held")

    def test_bounce_loop_ends(self) -> None:
        """A bounce to oneself over an alias that leads elsewhere ends with the
        bounce."""
        office = Office(Directory([], {"fwd@example.test": [str(CAROL)]}))
        self.now(office.send(split("fwd@example.test"), CAROL))
        for _ in range(2):
            (job,) = self.now(office.queue.claim(10))
            self.now(office.queue.settle(job, always(FAILED)(job)))
        self.assertEqual(self.now(office.queue.waiting()), [])


@implementer(IRouter)
class Unsure:
    """A router that cannot say."""

    async def route(
        self, recipient: Address, mailing: Mailing = NO_MAILING
    ) -> Resolved:
        raise Temporary()


class WishTests(QueueCase):
    """What the sender asks of the queue."""

    def send(self, **wishes: object) -> Envelope:
        handling = Handling(**wishes)  # type: ignore[arg-type]
        return self.now(self.office.send(ALICE, CAROL, handling=handling))

    def attempt(self) -> None:
        (job,) = self.now(self.queue.claim(9))
        self.now(self.queue.settle(job, always(DEFERRED)(job)))

    def test_priority(self) -> None:
        """Who has a higher priority goes first; nobody waits for it."""
        usual = self.send()
        low, high = self.send(priority=-9), self.send(priority=9)
        found = [job.envelope.id for job in self.now(self.queue.claim(9))]
        self.assertEqual(found[0], high.id)
        self.assertEqual(set(found), {usual.id, low.id, high.id})

    def test_returned_in_time(self) -> None:
        """What is to be returned unless it is delivered by a time is tried at that
        time once more, and returned."""
        self.send(by=DeliverBy(600, True))
        self.attempt()
        for _ in range(3):
            self.clock.advance(300)
            if self.office.ledger.count("queued"):
                self.attempt()
        self.assertEqual(self.office.ledger.count("queued"), 0)
        (bounce,) = self.office.store.inbox(1)
        self.assertIn(b"Status: 5.4.7", bounce)
        self.assertIn(b"Action: failed", bounce)

    def test_parked_in_time(self) -> None:
        """What is worth nothing from a time on, or to be returned by one, waits for a
        site no longer than that."""
        for handling in (
            {"give_up_at": self.start + 600},
            {"by": DeliverBy(600, True)},
        ):
            self.send(**handling)
            (job,) = self.now(self.queue.claim(9))
            parked = Parked(job, self.start + 9000, "x.test", DEFERRED)
            self.now(self.queue.park([parked]))
            due = self.now(self.queue.next_due())
            self.assertLessEqual(due, self.start + 600, handling)
            self.now(self.queue.remove([to_text(job.envelope.id)]))

    def test_told_in_time(self) -> None:
        """Else the sender is told at that time, and it goes on."""
        self.send(by=DeliverBy(600, False))
        self.attempt()
        for _ in range(3):
            self.assertEqual(self.office.store.inbox(1), [])
            self.clock.advance(300)
            if self.now(self.queue.next_due()) <= self.clock.seconds():
                self.attempt()
            if self.office.store.inbox(1):
                break
        (warning,) = self.office.store.inbox(1)
        self.assertIn(b"Action: delayed", warning)
        self.assertEqual(self.clock.seconds(), self.start + 600)
        self.assertEqual(self.office.ledger.count("queued"), 1)

    def test_start(self) -> None:
        """What waits for a domain is tried at once (ETRN), not what waits for one
        that ends alike."""
        self.now(self.office.send(ALICE, CAROL))
        self.now(self.office.send(ALICE, Address("x", "not-elsewhere.test")))
        self.now(self.office.send(ALICE, Address("x", "sub.elsewhere.test")))
        for job in self.now(self.queue.claim(9)):
            self.now(self.queue.settle(job, always(DEFERRED)(job)))
        self.now(self.office.send(ALICE, CAROL))  # for another day
        self.now(self.office.ledger.write(put_off_new))
        self.assertEqual(self.now(self.queue.start("elsewhere.test")), 1)
        for job in self.now(self.queue.claim(9)):
            self.now(self.queue.settle(job, always(DEFERRED)(job)))
        # Nobody has it read through for nothing.
        self.assertEqual(self.now(self.queue.start("elsewhere.test")), 1)
        self.assertEqual(len(self.now(self.queue.claim(9))), 0)
        self.clock.advance(60)
        self.assertEqual(self.now(self.queue.start("elsewhere.test")), 1)
        self.assertEqual(len(self.now(self.queue.claim(9))), 1)
        self.assertEqual(self.now(self.queue.start("elsewhere.test", True)), 1)
        self.assertEqual(self.now(self.queue.start("e%sewhere.test", True)), 0)

    def test_start_parked(self) -> None:
        """So is what was never tried because its site was known to be down: its server
        says that it is there."""
        self.now(self.office.send(ALICE, CAROL))
        (job,) = self.now(self.queue.claim(9))
        due = self.clock.seconds() + 600
        self.now(self.queue.park([Parked(job, due, "mx.elsewhere.test")]))
        self.assertEqual(self.now(self.queue.claim(9)), [])
        self.assertEqual(self.now(self.queue.start("elsewhere.test")), 1)
        self.assertEqual(len(self.now(self.queue.claim(9))), 1)


def put_off_new(transaction: ITransaction) -> None:
    """What was never tried is not due."""
    transaction.execute("UPDATE hop SET due = due + 86400 WHERE attempts = 0")


class BacklogTests(QueueCase):
    """The operator works from a process of their own."""

    def setUp(self) -> None:
        super().setUp()
        self.backlog = Backlog(self.clock, self.ledger)
        first = self.now(self.office.send(ALICE, CAROL, ERIN))
        self.clock.advance(10)
        second = self.now(self.office.send(None, DAVE))
        self.first, self.second = to_text(first.id), to_text(second.id)

    def states(self) -> list[tuple[str, str]]:
        return [
            (waiting.recipient, waiting.state)
            for waiting in self.now(self.backlog.waiting())
        ]

    def test_waiting(self) -> None:
        """Each recipient is listed with what an operator wants to know."""
        job, *_ = self.now(self.queue.claim(1))
        self.now(self.queue.settle(job, always(DEFERRED)(job)))
        self.now(self.queue.claim(1))
        self.assertEqual(
            sorted(self.states()),
            [
                (str(CAROL), "waiting"),
                (str(DAVE), "waiting"),
                (str(ERIN), "active"),
            ],
        )
        (dave,) = self.now(self.backlog.waiting(self.second))
        self.assertEqual((dave.sender, dave.attempts, dave.diagnostic), ("", 0, ""))
        self.assertEqual(dave.queued_at, self.start + 10)
        carol, _ = self.now(self.backlog.waiting(self.first))
        self.assertEqual(carol.id, self.first)
        self.assertEqual(carol.sender, str(ALICE))
        self.assertEqual(carol.size, len(b"Received: here\r\n" + MESSAGE))
        self.assertEqual(carol.agent, "smtp")
        self.assertEqual(carol.next_hop, "elsewhere.test")
        self.assertEqual(carol.due, self.start + 310)
        self.assertEqual(carol.attempts, 1)
        self.assertEqual(carol.diagnostic, "450 4.2.0 Later")

    def test_h42_shown(self) -> None:
        """What strangers said cannot write to an operator's terminal."""
        bad = "450 no\r\n\x1b[2J\0gone"
        envelope = self.now(self.office.send(Address(bad, "x.test"), Address(bad, "y")))
        *_, job = self.now(self.queue.claim(9))
        outcome = Outcome(Result.DEFERRED, "4.0.0", bad, bad, True)
        self.now(self.queue.settle(job, always(outcome)(job)))
        (waiting,) = self.now(self.backlog.waiting(to_text(envelope.id)))
        shown = waiting.sender + waiting.recipient + waiting.diagnostic
        self.assertNotRegex(shown, "[\x00-\x1f]")
        self.assertEqual(waiting.diagnostic, "450 no [2J gone")

    def test_lease_that_ended(self) -> None:
        """What a killed process had is shown as waiting once its lease ended."""
        self.now(self.queue.claim(9))
        self.assertEqual({state for _, state in self.states()}, {"active"})
        self.clock.advance(LEASE_S)
        self.assertEqual({state for _, state in self.states()}, {"waiting"})

    def test_hold_and_release(self) -> None:
        """What is held is not tried, nor flushed with the rest, until it is
        released; then at once."""
        self.assertEqual(self.now(self.backlog.hold([self.first])), 1)
        self.assertEqual(self.now(self.backlog.flush()), 1)
        jobs = self.now(self.queue.claim(9))
        self.assertEqual([job.recipients for job in jobs], [(DAVE,)])
        self.assertEqual(
            dict(self.states()),
            {str(CAROL): "held", str(ERIN): "held", str(DAVE): "active"},
        )
        self.assertEqual(self.now(self.backlog.release([self.first])), 1)
        self.assertEqual(len(self.now(self.queue.claim(9))), 2)

    def test_quarantined(self) -> None:
        """What policies want to be kept apart waits for an operator."""
        jobs = self.now(self.queue.claim(9))
        made = self.office.envelope(ALICE, CAROL)._replace(quarantined=True)
        self.now(self.office.accept(made))
        self.assertEqual(self.now(self.queue.claim(9)), [])
        self.now(self.backlog.release([to_text(made.id)]))
        self.assertEqual(len(self.now(self.queue.claim(9))), 1)
        self.assertEqual(len(jobs), 3)

    def test_flush(self) -> None:
        """What waits for its next attempt is tried now; what is being tried is
        left alone."""
        *tried, last = self.now(self.queue.claim(9))
        for job in tried:
            self.now(self.queue.settle(job, always(DEFERRED)(job)))
        self.assertEqual(self.now(self.queue.claim(9)), [])
        self.assertEqual(self.now(self.backlog.flush()), 1)
        self.assertEqual(len(self.now(self.queue.claim(9))), 2)
        self.assertNotIn(last, self.now(self.office.another("two").claim(9)))

    def test_flush_one(self) -> None:
        """One message can be hurried."""
        for job in self.now(self.queue.claim(9)):
            self.now(self.queue.settle(job, always(DEFERRED)(job)))
        self.assertEqual(self.now(self.backlog.flush([self.second])), 1)
        (job,) = self.now(self.queue.claim(9))
        self.assertEqual(job.recipients, (DAVE,))

    def test_remove(self) -> None:
        """What is removed is gone with its content, and nobody is told."""
        self.assertEqual(
            self.now(self.backlog.remove([self.first, self.second, self.first])), 2
        )
        self.empty()
        self.assertEqual(self.ledger.count("released"), 2)
        self.assertEqual(self.ledger.count("email"), 0)

    def test_no_such_message(self) -> None:
        """An id that is none, or of no message, is said by name, and nothing is
        done to the others."""
        for bad in ("nonsense", "", "zzzzzzzzzzzzz", "0000000000001"):
            for act in (
                self.backlog.flush,
                self.backlog.hold,
                self.backlog.release,
                self.backlog.remove,
            ):
                error = self.fails(NoSuchQueueId, act([self.first, bad]))
                self.assertIn(repr(bad), error.text)
        self.assertEqual({state for _, state in self.states()}, {"waiting"})
        self.fails(NoSuchQueueId, self.backlog.waiting("nonsense"))
        self.assertEqual(self.now(self.backlog.waiting("0000000000001")), [])

    def test_route_that_holds(self) -> None:
        """A route may say that its mail is kept until an operator lets it go."""
        office = Office(routes=[schema.Route(domain="*", hold=True)])
        envelope = self.now(office.send(ALICE, CAROL, BOB))
        self.assertEqual(len(office.store.inbox(2)), 1)
        self.assertIsNone(self.now(office.queue.next_due()))
        (waiting,) = self.now(office.queue.waiting())
        self.assertEqual(waiting.state, "held")
        self.now(office.queue.release([to_text(envelope.id)]))
        (job,) = self.now(office.queue.claim(9))
        self.assertEqual((job.agent, job.next_hop), ("smtp", "elsewhere.test"))

    def test_hints(self) -> None:
        """Whatever makes rows due, the runner hears of."""
        heard: list[str] = []
        self.ledger.watch("queue", lambda: heard.append("queue"))
        self.now(self.backlog.flush())
        self.now(self.backlog.hold([self.first]))
        self.now(self.backlog.release([self.first]))
        self.now(self.queue.give_back(self.now(self.queue.claim(9))))
        self.assertEqual(len(heard), 4)
