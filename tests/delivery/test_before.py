"""A ledger that the version before the history and the sites has written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.delivery.fakes import ALICE, CAROL, DAVE, DEFERRED, DELIVERED, ERIN, MESSAGE
from tests.delivery.test_ledger import CLOCK, Process, asynchronous
from twisted_mta.delivery.oversight import Oversight
from twisted_mta.delivery.queue import LEASE_S
from twisted_mta.delivery.record import write_envelope
from twisted_mta.interfaces import ITransaction
from twisted_mta.ledger import migrate
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Envelope, Origin
from twisted_mta.mail.filter import Filter
from twisted_mta.mail.history import Kind
from twisted_mta.mail.ids import new_id, to_text

# The last schema before.
_VERSION = 8


class BeforeTests(TestCase):
    """Three messages wait: one, one that a process had that is dead, one held."""

    def setUp(self) -> Deferred[None]:
        self.directory = Path(self.mktemp())
        self.ids: list[int] = []
        return Deferred.fromCoroutine(self.fill())

    async def fill(self) -> None:
        known = migrate.steps().items()
        old = {number: step for number, step in known if number <= _VERSION}
        with mock.patch.object(migrate, "steps", lambda: old):
            ledger = Ledger(CLOCK, self.directory)
            await ledger.open()
        content = ledger.content()
        content.write(MESSAGE)
        await content.finish()

        def unit(transaction: ITransaction) -> None:
            id = content.take(transaction)
            for to, lease, held in ((CAROL, "", 0), (DAVE, "dead", 0), (ERIN, "", 1)):
                self.ids.append(self.put(transaction, id, to, lease, held))

        await ledger.write(unit)
        await ledger.close()
        self.one = Process("one", self.directory)
        await self.one.ledger.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.one.ledger.close()))
        await self.one.populate()
        self.oversight = Oversight(
            CLOCK, self.one.ledger, self.one.queue, self.one.router
        )

    def put(
        self,
        transaction: ITransaction,
        content: int,
        to: Address,
        lease: str,
        held: int,
    ) -> int:
        """A message as it was put there."""
        origin, now = Origin("ESMTPSA", login=str(ALICE)), CLOCK.seconds()
        made = Envelope(new_id(), ALICE, (to,), now - 60, origin)
        hop = new_id()
        transaction.execute(
            "INSERT INTO queued (id, content_id, size, eight_bit, prefix, sender,"
            " envelope, queued_at) VALUES (?, ?, ?, 0, x'', ?, ?, ?)",
            (
                *(made.id, content, len(MESSAGE), str(ALICE)),
                *(write_envelope(made), made.received_at),
            ),
        )
        due = now + LEASE_S if lease else now - 60
        transaction.execute(
            "INSERT INTO hop (id, queued_id, agent, next_hop, held, due, lease,"
            " attempts, warned) VALUES (?, ?, 'smtp', ?, ?, ?, ?, 1, 0)",
            (hop, made.id, to.domain, held, due, lease),
        )
        transaction.execute(
            "INSERT INTO recipient (hop_id, address, status, diagnostic, remote,"
            " replied, notification) VALUES (?, ?, '4.2.0', '450 Later', 'mx', 1, '')",
            (hop, str(to)),
        )
        return made.id

    async def states(self) -> Sequence[tuple[str, str, str]]:
        page = await self.oversight.waiting(Filter())
        return [(row.recipient, row.state, row.account) for row in page.rows]

    async def kinds(self, id: int) -> Sequence[str]:
        story = await self.oversight.story(to_text(id))
        return [event.kind for event in story.events]

    @asynchronous
    async def test_all(self) -> None:
        """All of it is seen, tried, and taken over; it has a history from then on."""
        queue, ledger = self.one.queue, self.one.ledger
        self.assertEqual(
            await self.states(),
            [
                (str(CAROL), "waiting", ""),
                (str(DAVE), "active", ""),
                (str(ERIN), "held", ""),
            ],
        )
        story = await self.oversight.story(to_text(self.ids[0]))
        assert story.passage is not None
        self.assertEqual(story.passage.origin.login, str(ALICE))
        (job,) = await queue.claim(9)
        self.assertEqual(job.recipients, (CAROL,))
        await queue.settle(job, {CAROL: DEFERRED})
        self.assertEqual(await self.kinds(self.ids[0]), [Kind.DEFERRED])
        await ledger.write(lambda t: queue.inherit(t, "dead"))
        self.assertEqual(await self.kinds(self.ids[1]), [Kind.CUT_SHORT])
        (job,) = await queue.claim(9)
        await queue.settle(job, {DAVE: DELIVERED})
        self.assertEqual((await self.states())[0], (str(CAROL), "waiting", str(ALICE)))
        to = self.oversight.requeue(Filter(recipient=str(ERIN)), "smtp", "x.test")
        self.assertEqual((await to).recipients, 1)
        await self.oversight.freeze("x.test")
        await self.oversight.release(Filter(everything=True))
        self.assertEqual((await self.states())[1][1], "frozen")
        await self.oversight.thaw("x.test")
        await self.oversight.bounce(Filter(everything=True))
        self.assertEqual(await self.states(), [])
        self.assertEqual(await self.one.count("queued"), 0)
