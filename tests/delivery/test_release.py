"""Mail that is held until a time, and released then (RFC 4865)."""

import email
from collections.abc import Mapping

from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.delivery.fakes import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DEFERRED,
    MESSAGE,
    Directory,
    Office,
    OfficeCase,
    always,
)
from twisted_mta.config import schema
from twisted_mta.delivery.release import Release
from twisted_mta.delivery.ways import Ways
from twisted_mta.errors import LedgerUnavailable, OverQuota, Temporary
from twisted_mta.interfaces import IDeliveryAgent, IRouter
from twisted_mta.mail.address import Address
from twisted_mta.mail.dsn import USUAL, Notification, Notify
from twisted_mta.mail.envelope import DeliverBy, Envelope, Handling
from twisted_mta.mail.filter import Filter
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import (
    NO_MAILING,
    RELEASE,
    Mailing,
    Outcome,
    Resolved,
    Result,
    ToAgent,
)
from twisted_mta.mail.submitted import Saved

HOUR = 3600.0
DAY = 24 * HOUR


class ReleaseCase(OfficeCase):
    def setUp(self) -> None:
        super().setUp()
        self.begin(self.office)

    def begin(self, office: Office) -> None:
        """Work with an office from now on."""
        self.office, self.clock, self.ledger = office, office.clock, office.ledger
        self.store, self.queue = office.store, office.queue
        self.start = self.clock.seconds()
        self.agent = Release(self.clock, office.router, office.intake)

    def hold(
        self,
        *recipients: Address,
        asked: Notification = USUAL,
        by: DeliverBy | None = None,
        saved: Saved | None = None,
    ) -> Envelope:
        """Accept a message of alice's that is held for an hour."""
        handling = Handling(by=by, release_at=self.start + HOUR)
        made = self.office.envelope(ALICE, *recipients)._replace(handling=handling)
        content = self.office.intake.content()
        content.write(MESSAGE)
        self.now(content.finish())
        routes = [ToAgent(RELEASE, "", to, notification=asked) for to in recipients]
        prefix = b"Received: x\r\n"
        accept = self.office.intake.accept
        self.now(accept(made, routes, content, prefix, (), saved))
        content.abort()
        return made

    def outcomes(self, job: Job) -> Mapping[Address, Outcome]:
        content = self.ledger.stored(job.content, job.size - len(job.prefix))
        return self.now(self.agent.deliver(job, content))

    def due(self) -> list[Job]:
        return list(self.now(self.queue.claim(10)))

    def release(self) -> None:
        """An attempt, an hour later."""
        self.clock.advance(HOUR)
        (job,) = self.due()
        self.now(self.queue.settle(job, self.outcomes(job)))

    def told(self) -> list[str]:
        """Of each notification to alice, who it is about and what became of him."""
        reports = [email.message_from_bytes(one) for one in self.store.inbox(1)]
        return [
            f"{about['Final-Recipient'].split()[1]} {about['Action']}"
            for report in reports
            if report.is_multipart()
            for about in report.get_payload()[1].get_payload()[1:]
        ]


class ReleaseTests(ReleaseCase):
    def test_seam(self) -> None:
        """It is an agent like others."""
        verifyObject(IDeliveryAgent, self.agent)
        verifyObject(IRouter, Unsure())

    def test_route_by_sender(self) -> None:
        """Whose it is counts for its way when it is released, too."""
        self.hold(CAROL)
        self.office.router._ways = Ways([schema.Route(sender=str(ALICE), agent="own")])
        self.clock.advance(HOUR)
        (job,) = self.due()
        self.now(self.queue.settle(job, self.outcomes(job)))
        (on_its_way,) = self.due()
        self.assertEqual(on_its_way.agent, "own")

    def test_returned_by_halves(self) -> None:
        """An operator who returns it and does not get to the end of that, for whatever
        reason, does not make it go early."""
        self.hold(CAROL)
        other = self.office.another("two")
        rows = [id for (id,) in self.ledger.rows("SELECT id FROM hop")]
        self.now(other.give_back(self.now(other.seize(rows))))
        self.assertEqual(self.due(), [])
        self.now(other.seize(rows))
        self.now(self.ledger.write(lambda t: self.queue.inherit(t, "two")))
        self.assertEqual(self.due(), [])
        self.office.own._router = Unsure()
        self.now(self.office.oversight.bounce(Filter(everything=True)))
        self.clock.advance(HOUR - 1)
        self.assertEqual(self.due(), [])
        self.clock.advance(1)
        self.assertEqual(len(self.due()), 1)

    def test_in_time(self) -> None:
        """Nobody has it before its time; then everybody has it once, in a mailbox or
        on the way, as it came; and nothing is left of what was held."""
        made = self.hold(BOB, CAROL)
        self.clock.advance(HOUR - 1)
        self.assertEqual(self.due(), [])
        self.assertEqual(self.store.inbox(2), [])
        self.clock.advance(1)
        (job,) = self.due()
        self.now(self.queue.settle(job, self.outcomes(job)))
        (mail,) = self.store.inbox(2)
        self.assertTrue(mail.endswith(b"Received: x\r\n" + MESSAGE), mail)
        (on_its_way,) = self.due()
        self.assertEqual(on_its_way.agent, "smtp")
        self.assertEqual(on_its_way.recipients, (CAROL,))
        self.assertEqual(on_its_way.envelope.sender, ALICE)
        self.assertNotEqual(on_its_way.envelope.id, made.id)
        self.assertEqual(self.ledger.count("queued"), 1)
        self.assertEqual(self.ledger.open_writers, 0)
        self.assertEqual(self.told(), [])
        arrived = self.ledger.rows("SELECT received_at FROM email")
        self.assertEqual(arrived, [(self.start + HOUR,)])

    def test_sent(self) -> None:
        """Who keeps what he sends has it at once, and as sent then."""
        self.hold(BOB, saved=Saved(1))
        self.release()
        arrived = self.ledger.rows("SELECT account_id, received_at FROM email")
        self.assertEqual(arrived, [(1, self.start), (2, self.start + HOUR)])

    def test_no_content(self) -> None:
        """What cannot be read is not returned, but tried again."""
        self.hold(BOB)
        self.clock.advance(HOUR)
        (job,) = self.due()
        for sql in ("UPDATE content SET octets = x''", "DELETE FROM content"):
            self.now(self.ledger.write(lambda unit, sql=sql: unit.execute(sql)))  # type: ignore[misc]
            outcome = self.outcomes(job)[BOB]
            self.assertEqual(
                (outcome.result, outcome.status), (Result.DEFERRED, "4.3.0")
            )
        self.now(self.queue.settle(job, self.outcomes(job)))
        self.assertEqual(self.ledger.count("recipient"), 1)

    def test_operator(self) -> None:
        """Hurrying the queue does not release it, nor does holding and releasing by
        an operator, nor ETRN; it can be removed."""
        id = to_text(self.hold(CAROL).id)
        self.assertEqual(self.now(self.queue.flush()), 0)
        self.now(self.queue.start("elsewhere.test"))
        self.assertEqual(self.now(self.queue.release([id])), 0)
        self.now(self.queue.hold([id]))
        self.assertEqual(self.now(self.queue.flush([id])), 0)
        self.assertEqual(self.now(self.queue.release([id])), 1)
        self.assertEqual(self.now(self.queue.next_due()), self.start + HOUR)
        (waiting,) = self.now(self.queue.waiting())
        self.assertEqual((waiting.due, waiting.agent), (self.start + HOUR, RELEASE))
        self.now(self.queue.remove([id]))
        self.assertEqual(self.ledger.count("recipient"), 0)

    def test_early(self) -> None:
        """An operator who names it in a flush has it released, and it is then as if
        that had been its time."""
        asked = Notification(Notify.SUCCESS)
        made = self.hold(BOB, CAROL, asked=asked)
        other = self.hold(BOB)
        self.clock.advance(60)
        self.assertEqual(self.now(self.queue.flush([to_text(made.id)])), 1)
        (job,) = self.due()
        self.assertEqual(job.envelope.id, made.id)
        self.now(self.queue.settle(job, self.outcomes(job)))
        arrived = self.ledger.rows("SELECT received_at FROM email WHERE account_id = 2")
        self.assertEqual(arrived, [(self.start + 60,)])
        (on_its_way,) = self.due()
        self.assertEqual(on_its_way.recipients, (CAROL,))
        self.assertEqual(on_its_way.envelope.released_at, self.start + 60)
        self.assertEqual(self.told(), ["bob@example.test delivered"])
        waiting = self.now(self.queue.waiting(to_text(other.id)))
        self.assertEqual([one.due for one in waiting], [self.start + HOUR])

    def test_early_and_late(self) -> None:
        """What is released early and cannot be yet is tried again soon."""
        made = self.hold(BOB)
        self.now(self.queue.flush([to_text(made.id)]))
        (job,) = self.due()
        self.ledger.broken.append(LedgerUnavailable())
        self.now(self.queue.settle(job, self.outcomes(job)))
        self.clock.advance(300)
        (job,) = self.due()
        self.now(self.queue.settle(job, self.outcomes(job)))
        self.assertEqual(len(self.store.inbox(2)), 1)

    def test_once(self) -> None:
        """A crash between the release and its record releases nothing twice, nor does
        another process that had the row meanwhile."""
        self.hold(BOB)
        self.clock.advance(HOUR)
        (job,) = self.due()
        self.outcomes(job)
        other = self.office.another("two")
        self.clock.advance(HOUR)
        (again,) = self.now(other.claim(10))
        self.assertEqual(again.recipients, ())
        self.outcomes(job)
        self.now(other.settle(again, self.outcomes(again)))
        self.assertEqual(len(self.store.inbox(2)), 1)
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_ledger_away(self) -> None:
        """While the ledger is away nothing is released, and it is tried again."""
        self.hold(BOB)
        self.clock.advance(HOUR)
        (job,) = self.due()
        self.ledger.broken.append(LedgerUnavailable())
        self.now(self.queue.settle(job, self.outcomes(job)))
        self.assertEqual(self.store.inbox(2), [])
        self.release()
        self.assertEqual(len(self.store.inbox(2)), 1)

    def test_each(self) -> None:
        """Who cannot have it does not keep it from the others."""
        self.hold(BOB, CAROL)
        self.clock.advance(HOUR)
        (job,) = self.due()
        # All as one, then bob.
        self.ledger.broken += [OverQuota(), OverQuota()]
        outcomes = self.outcomes(job)
        self.assertEqual(outcomes[BOB].status, OverQuota.status)
        self.now(self.queue.settle(job, outcomes))
        self.assertIn("smtp", [job.agent for job in self.due()])

    def test_all_alike(self) -> None:
        """What is wrong with the ledger is not asked again for each."""
        self.hold(BOB, CAROL)
        self.clock.advance(HOUR)
        (job,) = self.due()
        self.ledger.broken.append(LedgerUnavailable())
        outcomes = self.outcomes(job)
        self.assertEqual({one.status for one in outcomes.values()}, {"4.3.0"})
        self.assertEqual(self.store.inbox(2), [])

    def test_gone(self) -> None:
        """Who does not exist any more by then is told of."""
        self.hold(Address("gone", "example.test"))
        self.release()
        self.assertEqual(self.told(), ["gone@example.test failed"])
        (report,) = self.store.inbox(1)
        self.assertIn(b"Future-Release-Request: until; 2023-11-14T23:13:20Z", report)
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_told_at_release(self) -> None:
        """Who asked for it hears of success when it is released, not before."""
        self.hold(BOB, asked=Notification(Notify.SUCCESS))
        self.assertEqual(self.told(), [])
        self.release()
        self.assertEqual(self.told(), ["bob@example.test delivered"])

    def test_wish_goes_on(self) -> None:
        """What was asked of a recipient elsewhere is asked of the next server."""
        asked = Notification(Notify.SUCCESS)
        self.hold(CAROL, asked=asked)
        self.release()
        (job,) = self.due()
        self.assertEqual(job.notification(CAROL), asked)

    def test_aliases_of_then(self) -> None:
        """It goes where addresses lead when it is released."""
        aliases = {"team@example.test": [str(BOB), str(DAVE)]}
        self.begin(Office(Directory([str(ALICE), str(BOB)], aliases)))
        self.hold(Address("team", "example.test"))
        self.release()
        self.assertEqual(len(self.store.inbox(2)), 1)
        self.assertEqual(self.due()[0].recipients, (DAVE,))

    def test_age(self) -> None:
        """The time for delivery begins when it is released."""
        handling = Handling(release_at=self.start + 30 * DAY)
        self.now(self.office.send(ALICE, CAROL, handling=handling))
        self.clock.advance(30 * DAY)
        (job,) = self.due()
        self.now(self.queue.settle(job, always(DEFERRED)(job)))
        self.assertEqual(self.store.inbox(1), [])
        self.assertEqual(self.ledger.count("queued"), 1)
        self.clock.advance(5 * DAY)
        (job,) = self.due()
        self.now(self.queue.settle(job, always(DEFERRED)(job)))
        self.assertEqual(self.told(), ["carol@elsewhere.test failed"])

    def test_too_late(self) -> None:
        """What was to be returned unless it came in time is not released after it."""
        self.hold(BOB, by=DeliverBy(int(HOUR) + 60, True))
        self.clock.advance(HOUR)
        self.release()
        self.assertEqual(self.told(), ["bob@example.test failed"])
        self.assertEqual(self.store.inbox(2), [])

    def test_unsure(self) -> None:
        """While nobody can say where it goes it stays."""
        self.hold(BOB)
        self.agent = Release(self.clock, Unsure(), self.office.intake)
        self.release()
        self.assertEqual(self.ledger.count("recipient"), 1)
        self.assertEqual(self.told(), [])


@implementer(IRouter)
class Unsure:
    """Cannot say."""

    async def route(
        self, recipient: Address, mailing: Mailing = NO_MAILING
    ) -> Resolved:
        raise Temporary()
