"""The history of messages: how they came, and what happened to them."""

from dataclasses import replace

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
    Office,
    always,
)
from tests.delivery.test_queue import HOUR, QueueCase, Unsure
from tests.delivery.test_release import ReleaseCase
from twisted_mta.delivery.history import History
from twisted_mta.delivery.queue import LEASE_S
from twisted_mta.errors import NoSuchQueueId
from twisted_mta.interfaces import IHistory
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.filter import Filter
from twisted_mta.mail.history import Event, Kind
from twisted_mta.mail.ids import to_text

ORIGIN = Origin(
    "ESMTPSA",
    "192.0.2.7",
    4711,
    "mx.a.test",
    "TLSv1.3 TLS_AES_256_GCM_SHA384",
    "alice@example.test",
    "submission",
)


class HistoryCase(QueueCase):
    def events(self, id: str) -> list[Event]:
        """What happened to a message."""
        return list(self.now(self.office.oversight.story(id)).events)

    def kinds(self, id: str) -> list[str]:
        return [event.kind for event in self.events(id)]

    def send(self, *recipients: Address) -> str:
        return to_text(self.now(self.office.send(ALICE, *recipients)).id)


class AcceptedTests(HistoryCase):
    def test_seam(self) -> None:
        """It keeps to its interface."""
        verifyObject(IHistory, History())

    def test_passage(self) -> None:
        """Of a message in a mailbox, how it came and where it is can be seen."""
        made = self.office.envelope(ALICE, BOB, CAROL)._replace(origin=ORIGIN)
        self.now(self.office.accept(made))
        passage = self.now(self.office.oversight.story(to_text(made.id))).passage
        assert passage is not None
        self.assertEqual(passage.origin, ORIGIN)
        self.assertEqual(passage.sender, str(ALICE))
        self.assertEqual(passage.received_at, self.start)
        self.assertEqual(passage.recipients, (str(BOB), str(CAROL)))
        self.assertEqual(passage.mailboxes, (str(BOB),))
        self.assertEqual(passage.queued, (str(CAROL),))

    def test_one_statement(self) -> None:
        """Messages that are accepted together are one statement of the history."""
        asked: list[int] = []

        class Counted(History):
            def accepted(self, transaction, messages):  # type: ignore[no-untyped-def]
                asked.append(len(messages))
                super().accepted(transaction, messages)

        self.queue.history = Counted()
        self.send(BOB)
        self.assertEqual(set(asked), {1})
        self.assertEqual(self.ledger.count("history"), 1)

    def test_none(self) -> None:
        """Where none is kept none is written; what waits is shown all the same."""
        self.queue.history = History(keep=False)
        id = self.send(CAROL)
        (job,) = self.now(self.queue.claim(9))
        self.now(self.queue.settle(job, always(DEFERRED)(job)))
        self.assertEqual(self.ledger.count("history"), 0)
        self.assertEqual(self.ledger.count("event"), 0)
        story = self.now(self.office.oversight.story(id))
        assert story.passage is not None
        self.assertEqual(story.passage.recipients, (str(CAROL),))
        self.assertEqual(len(story.waiting), 1)

    def test_strangers(self) -> None:
        """Line ends in addresses and names come to nothing."""
        origin = replace(ORIGIN, helo="x\r\ny\x1b[2J", login="")
        odd = Address("a\nb", "elsewhere.test")
        made = self.office.envelope(odd, odd, CAROL)._replace(origin=origin)
        self.now(self.office.accept(made))
        passage = self.now(self.office.oversight.story(to_text(made.id))).passage
        assert passage is not None
        self.assertEqual(len(passage.recipients), 2)
        shown = passage.sender + passage.origin.helo + "".join(passage.recipients)
        self.assertTrue(shown.isprintable())

    def test_many(self) -> None:
        """Of very many recipients the first thousand are remembered."""
        many = [Address(f"x{number}", "elsewhere.test") for number in range(1200)]
        passage = self.now(self.office.oversight.story(self.send(*many))).passage
        assert passage is not None
        self.assertEqual(len(passage.recipients), 1000)

    def test_unknown(self) -> None:
        """What there is nothing of is said."""
        for id in ("nonsense", "0000000000001"):
            self.fails(NoSuchQueueId, self.office.oversight.story(id))


class AttemptTests(HistoryCase):
    def test_attempts(self) -> None:
        """Each attempt is remembered for each recipient, with all that was said, also
        when the message has left."""
        id = self.send(CAROL, DAVE)
        job = self.claim()
        tls = replace(DEFERRED, tls="TLSv1.3 X")
        self.now(self.queue.settle(job, {CAROL: DELIVERED, DAVE: tls}))
        self.clock.advance(300)
        job = self.claim()
        self.now(self.queue.settle(job, {DAVE: DELIVERED}))
        self.empty()
        self.assertEqual(
            [(e.at - self.start, e.kind, e.recipient) for e in self.events(id)],
            [
                (0, Kind.DEFERRED, str(DAVE)),
                (0, Kind.DELIVERED, str(CAROL)),
                (300, Kind.DELIVERED, str(DAVE)),
            ],
        )
        late = self.events(id)[0]
        self.assertEqual(
            (late.remote, late.tls, late.status, late.text, late.agent, late.next_hop),
            (
                "mx.elsewhere.test[192.0.2.1]:25",
                "TLSv1.3 X",
                "4.2.0",
                "450 4.2.0 Later",
                "smtp",
                "elsewhere.test",
            ),
        )

    def test_notice(self) -> None:
        """Of a bounce it is said which message it is."""
        id = self.send(CAROL)
        job = self.claim()
        self.now(self.queue.settle(job, always(FAILED)(job)))
        failed, notified = self.events(id)
        self.assertEqual((failed.kind, notified.kind), (Kind.FAILED, Kind.NOTIFIED))
        notice = self.now(self.office.oversight.story(notified.text)).passage
        assert notice is not None
        self.assertEqual(notice.mailboxes, (str(ALICE),))
        self.assertEqual(notice.origin.protocol, "local")

    def test_not_told(self) -> None:
        """Who stays since the sender cannot be told now has not failed."""
        id = self.send(CAROL)
        job = self.claim()
        self.office.own._router = Unsure()
        self.now(self.queue.settle(job, always(FAILED)(job)))
        self.assertEqual(self.kinds(id), [Kind.DEFERRED])

    def test_lease_lost(self) -> None:
        """An attempt whose row is another's by now is remembered, and no notice of it
        is; the other's lease that had ended was an attempt cut short."""
        id = self.send(CAROL)
        job = self.claim()
        self.clock.advance(LEASE_S)
        other = self.office.another("two")
        self.assertEqual(len(self.now(other.claim(9))), 1)
        self.now(self.queue.settle(job, always(FAILED)(job)))
        cut, failed = self.events(id)
        self.assertEqual(cut.kind, Kind.CUT_SHORT)
        self.assertEqual(float(cut.text), self.start)
        self.assertTrue(cut.uncertain)
        self.assertEqual(failed.kind, Kind.FAILED)

    def test_own_lease(self) -> None:
        """Who claims a row anew whose lease ended while it was busy lost nothing."""
        id = self.send(CAROL)
        self.claim()
        self.clock.advance(LEASE_S)
        self.claim()
        self.assertEqual(self.events(id), [])

    def test_died(self) -> None:
        """A process that died may have delivered what it had."""
        id = self.send(CAROL)
        self.now(self.office.another("dead").claim(9))
        self.clock.advance(5)
        self.now(self.ledger.write(lambda t: self.queue.inherit(t, "dead")))
        (cut,) = self.events(id)
        self.assertEqual((cut.kind, cut.at), (Kind.CUT_SHORT, self.start + 5))
        self.assertEqual(float(cut.text), self.start)
        self.assertEqual(len(self.now(self.queue.claim(9))), 1)

    def test_given_back(self) -> None:
        """What was begun when the server stopped may be there, what was not is not."""
        begun, not_begun = self.send(CAROL), self.send(ERIN)
        first, second = self.now(self.queue.claim(9))
        self.now(self.queue.give_back([first, second], [first]))
        self.assertEqual(self.kinds(begun), [Kind.CUT_SHORT])
        self.assertEqual(self.kinds(not_begun), [])

    def test_uncertain(self) -> None:
        """A connection that broke before the last answer leaves it open."""
        id = self.send(CAROL)
        job = self.claim()
        unsure = replace(DEFERRED, uncertain=True)
        self.now(self.queue.settle(job, {CAROL: unsure}))
        (event,) = self.events(id)
        self.assertIs(event.uncertain, True)


class ReleasedTests(ReleaseCase):
    def test_renewed(self) -> None:
        """What is released goes on under another id, which the old one leads to."""
        id = to_text(self.hold(CAROL).id)
        self.clock.advance(HOUR)
        (job,) = self.now(self.queue.claim(9))
        self.now(self.queue.settle(job, self.outcomes(job)))
        (event,) = self.now(self.office.oversight.story(id)).events
        self.assertEqual(event.kind, Kind.RENEWED)
        story = self.now(self.office.oversight.story(event.text))
        self.assertEqual([one.recipient for one in story.waiting], [str(CAROL)])


class FinishedTests(HistoryCase):
    def setUp(self) -> None:
        super().setUp()
        self.bob = self.send(BOB)
        self.carol = self.send(CAROL, DAVE)
        job = self.claim()
        self.now(self.queue.settle(job, {CAROL: DELIVERED, DAVE: FAILED}))
        self.waits = self.send(ERIN)

    def found(self, **wanted: object) -> list[str]:
        found = self.now(
            self.office.oversight.finished(Filter(**wanted))  # type: ignore[arg-type]
        )
        return [one.passage.id for one in found]

    def test_finished(self) -> None:
        """Messages that do not wait are listed, the newest first, with what became of
        them."""
        bounce, carol, bob = self.now(self.office.oversight.finished(Filter()))
        self.assertEqual(carol.passage.id, self.carol)
        self.assertEqual(dict(carol.outcomes), {"delivered": 1, "failed": 1})
        self.assertEqual(dict(bob.outcomes), {"mailbox": 1})
        self.assertEqual(bounce.passage.sender, "")
        self.assertEqual(bob.done_at, self.start)

    def test_filters(self) -> None:
        """They are found by whom they were from or for, and by what was said."""
        self.assertEqual(self.found(sender="@example.test"), [self.carol, self.bob])
        self.assertEqual(self.found(recipient=str(BOB)), [self.bob])
        self.assertEqual(self.found(recipient="d*e@*"), [self.carol])
        self.assertEqual(self.found(domain="elsewhere.test"), [self.carol])
        self.assertEqual(self.found(site="elsewhere.test"), [self.carol])
        self.assertEqual(self.found(error="nobody"), [self.carol])
        self.assertEqual(self.found(ids=(self.bob, self.waits)), [self.bob])
        self.assertEqual(self.found(account="x"), [])

    def test_line(self) -> None:
        """No recipient fits by the beginning of one and the end of another."""
        self.assertEqual(self.found(recipient="carol*dave@elsewhere.test"), [])

    def test_pages(self) -> None:
        """It is read page by page."""
        (first,) = self.now(self.office.oversight.finished(Filter(), 1))
        rest = self.now(
            self.office.oversight.finished(Filter(), 9, before=first.passage.id)
        )
        self.assertEqual([one.passage.id for one in rest], [self.carol, self.bob])

    def test_redirected(self) -> None:
        """One that an operator redirected is found by who was to have it, and by who
        has it."""
        oversight = self.office.oversight
        for to in (DAVE, CAROL, DAVE):
            self.now(oversight.redirect(Filter(ids=(self.waits,)), to))
        job = self.claim()
        self.now(self.queue.settle(job, always(DELIVERED)(job)))
        for wanted in (ERIN, CAROL, DAVE):
            self.assertIn(self.waits, self.found(recipient=str(wanted)))
        (one,) = self.now(oversight.finished(Filter(ids=(self.waits,))))
        self.assertEqual(one.passage.queued, (str(ERIN), str(DAVE), str(CAROL)))

    def test_redirected_alias(self) -> None:
        """Behind an alias it is found by the alias, and by who has it."""
        office = Office()
        office.directory._aliases["all@example.test"] = (CAROL,)
        alias = Address("all", "example.test")
        id = to_text(self.now(office.send(ALICE, alias)).id)
        (job,) = self.now(office.queue.claim(9))
        self.now(office.queue.settle(job, always(DELIVERED)(job)))
        for wanted in (str(alias), str(CAROL)):
            (one,) = self.now(office.oversight.finished(Filter(recipient=wanted)))
            self.assertEqual(one.passage.id, id)
