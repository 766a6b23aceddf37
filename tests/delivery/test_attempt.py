"""What is recorded of an attempt while it goes on."""

from collections.abc import Mapping

from twisted.internet.defer import Deferred

from tests.delivery.fakes import (
    ALICE,
    CAROL,
    DAVE,
    DEFERRED,
    DELIVERED,
    FAILED,
    Agent,
    OfficeCase,
    always,
)
from twisted_mta.delivery.attempt import Attempts
from twisted_mta.interfaces import IContent
from twisted_mta.mail.address import Address
from twisted_mta.mail.dsn import Notification, Notify
from twisted_mta.mail.history import Kind
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome

EVE = Address("eve", "elsewhere.test")


class Stepping(Agent):
    """Says what came of its steps, one after the other, and then waits."""

    def __init__(self, *steps: Mapping[Address, Outcome]) -> None:
        self.steps = steps
        self.end: Deferred[Mapping[Address, Outcome]] = Deferred()

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        assert job.note is not None
        for outcomes in self.steps:
            await job.note(outcomes)
        return await self.end


class NotedTests(OfficeCase):
    def setUp(self) -> None:
        super().setUp()
        asked = Notification(Notify.SUCCESS)
        send = self.office.send(ALICE, CAROL, DAVE, EVE, asked=asked)
        self.id = self.now(send).id
        (self.job,) = self.now(self.queue.claim(9))
        self.steps = {CAROL: DELIVERED, DAVE: DEFERRED}

    def attempt(self, *steps: Mapping[Address, Outcome]) -> Attempts:
        self.agent = Stepping(*steps)
        return Attempts(self.clock, self.ledger, self.queue, {"smtp": self.agent})

    def waits(self) -> list[Address]:
        """Who still does, when the process has died and another takes over."""
        two = self.office.another("two")
        self.now(self.ledger.write(lambda t: two.inherit(t, "one")))
        return [who for job in self.now(two.claim(9)) for who in job.recipients]

    def test_dies(self) -> None:
        """Who has the message when the process dies does not get it again; the
        others, whatever was said of them, do."""
        attempts = self.attempt(self.steps)
        running = Deferred.fromCoroutine(attempts.deliver(self.job))
        self.assertNoResult(running)
        self.assertEqual(self.waits(), [DAVE, EVE])
        running.addErrback(lambda failure: None)

    def test_ends(self) -> None:
        """The rest is settled in the end, and each is remembered and told of once."""
        attempts = self.attempt(self.steps, self.steps)
        running = Deferred.fromCoroutine(attempts.deliver(self.job))
        self.assertEqual(len(self.store.inbox(1)), 1)
        self.agent.end.callback({**self.steps, EVE: FAILED})
        outcomes = self.successResultOf(running)
        self.now(attempts.settle(self.job, outcomes))
        self.assertEqual(len(self.store.inbox(1)), 1)
        story = self.now(self.office.oversight.story(to_text(self.id)))
        ends = [(one.kind, one.recipient) for one in story.events if one.recipient]
        self.assertEqual(
            sorted(ends),
            [
                (Kind.DEFERRED, str(DAVE)),
                (Kind.DELIVERED, str(CAROL)),
                (Kind.FAILED, str(EVE)),
            ],
        )
        self.clock.advance(3600)
        (job,) = self.now(self.queue.claim(9))
        self.assertEqual((job.recipients, job.attempts), ((DAVE,), 1))

    def test_everybody(self) -> None:
        """If all have it by then the message is gone, and its content."""
        everybody = always(DELIVERED)(self.job)
        attempts = self.attempt(everybody)
        running = Deferred.fromCoroutine(attempts.deliver(self.job))
        self.assertEqual(self.ledger.count("queued"), 0)
        self.agent.end.callback(everybody)
        self.now(attempts.settle(self.job, self.successResultOf(running)))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_ledger_away(self) -> None:
        """What cannot be recorded on the way is when it ends."""
        self.ledger.down = True
        attempts = self.attempt(self.steps)
        running = Deferred.fromCoroutine(attempts.deliver(self.job))
        self.ledger.down = False
        self.agent.end.callback({**self.steps, EVE: DELIVERED})
        self.now(attempts.settle(self.job, self.successResultOf(running)))
        self.clock.advance(3600)
        (job,) = self.now(self.queue.claim(9))
        self.assertEqual(job.recipients, (DAVE,))
