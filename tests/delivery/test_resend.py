"""L{twisted_mta.delivery.resend}: what is sent again is accepted once."""

from __future__ import annotations

from collections.abc import Sequence

from tests.delivery.fakes import (
    ALICE,
    BOB,
    CAROL,
    MESSAGE,
    OfficeCase,
    Transaction,
)
from twisted_mta.delivery.claim import Claim
from twisted_mta.delivery.resend import Resends
from twisted_mta.errors import LedgerUnavailable, NoSuchQueueId
from twisted_mta.mail.confirmation import Confirmation
from twisted_mta.mail.dsn import Notification, Notify
from twisted_mta.mail.history import Kind
from twisted_mta.mail.ids import to_text

SIGN = b"0123456789abcdef"
OTHER = b"another of sixtn"


class ResendCase(OfficeCase):
    def setUp(self) -> None:
        super().setUp()
        self.resends = self.office.resends

    async def sending(
        self, sign: bytes = SIGN, confirmed: Sequence[Confirmation] = ()
    ) -> tuple[int, int]:
        """Accept a message for Bob and Carol.

        @return: its envelope's id, and that which its client is told.
        """
        office = self.office
        envelope = office.envelope(ALICE, BOB, CAROL)
        bob, carol = await office.router.route(BOB), await office.router.route(CAROL)
        routes = (*bob.routes, *carol.routes)
        content = office.intake.content()
        content.write(MESSAGE)
        await content.finish()
        try:
            told = await office.intake.accept(
                envelope, routes, content, b"", confirmed, fingerprint=sign
            )
        finally:
            content.abort()
        return envelope.id, told

    def send(
        self, sign: bytes = SIGN, confirmed: Sequence[Confirmation] = ()
    ) -> tuple[int, int]:
        """The same, at once."""
        return self.now(self.sending(sign, confirmed))

    def copies(self) -> tuple[int, int, int]:
        """How many are in Bob's mailbox, in the queue, and kept at all."""
        count = self.ledger.count
        return len(self.store.inbox(2)), count("queued"), count("content")

    def notes(self) -> int:
        return self.ledger.count("accepted")


class ResendTests(ResendCase):
    def test_unseen(self) -> None:
        """A message whose client is gone without having seen the answer is accepted
        once when it comes again, and the client is told the first id; and so on, as
        often as he does not see it."""
        first, told = self.send()
        self.assertEqual(told, first)
        for _ in range(3):
            self.resends.unseen(SIGN, first)
            again, told_again = self.send()
            self.assertNotEqual(again, first)
            self.assertEqual(told_again, told)
            self.assertEqual(self.copies(), (1, 1, 1))
            self.assertEqual(self.ledger.open_writers, 0)
            first = again

    def test_story(self) -> None:
        """The history of the message says that it came again, and has one message."""
        first, _ = self.send()
        self.resends.unseen(SIGN, first)
        again, _ = self.send()
        (event,) = self.now(self.office.oversight.story(to_text(first))).events
        self.assertEqual(event.kind, Kind.RESENT)
        self.fails(NoSuchQueueId, self.office.oversight.story(to_text(again)))

    def test_seen(self) -> None:
        """Once the client has gone on, the same is a new message: after the first,
        and after one that was accepted before."""
        first, _ = self.send()
        self.resends.seen(SIGN, first)
        second, told = self.send()
        self.assertEqual(second, told)
        self.resends.unseen(SIGN, second)
        third, told = self.send()
        self.assertEqual(told, second)
        self.resends.seen(SIGN, third)
        fourth, told = self.send()
        self.assertEqual(fourth, told)
        self.assertEqual(self.copies(), (3, 3, 3))

    def test_at_the_same_time(self) -> None:
        """Who sends the same several times at once means it."""
        for count in (1, 2, 3):
            id, told = self.send()
            self.assertEqual(id, told)
            self.assertEqual(self.copies(), (count, count, count))

    def test_one_for_one(self) -> None:
        """Of two that were not seen, each is recognised once, the older first; a
        third is new."""
        first, second = self.send()[0], self.send()[0]
        self.resends.unseen(SIGN, second)
        self.resends.unseen(SIGN, first)
        self.assertEqual(self.send()[1], first)
        self.assertEqual(self.send()[1], second)
        id, told = self.send()
        self.assertEqual(id, told)
        self.assertEqual(self.copies(), (3, 3, 3))

    def test_others(self) -> None:
        """Nobody is told of what another sent."""
        first, _ = self.send()
        self.resends.unseen(SIGN, first)
        other, told = self.send(OTHER)
        self.assertEqual(other, told)
        self.assertEqual(self.send()[1], first)

    def test_unnoted(self) -> None:
        """Without a fingerprint all is new, and nothing is noted."""
        self.send(b"")
        self.send(b"")
        self.assertEqual(self.copies(), (2, 2, 2))
        self.assertEqual(self.notes(), 0)

    def test_together(self) -> None:
        """Messages of one group are as if one came after the other: a note is good
        for one of them, and what it takes back for none."""
        lost, seen = self.send()[0], self.send(OTHER)[0]
        self.resends.unseen(SIGN, lost)
        self.resends.seen(OTHER, seen)
        signs = (SIGN, OTHER, SIGN, OTHER)
        claims = [self.resends.claim(sign, id) for id, sign in enumerate(signs, 1)]

        async def screened(claims: Sequence[Claim]) -> Sequence[int | None]:
            return await self.ledger.write(lambda t: claims[0].screen(t, claims))

        self.assertEqual(self.now(screened(claims)), [lost, None, None, None])
        self.assertEqual(self.notes(), 4)

    def test_confirmed(self) -> None:
        """Who asked to be told of the delivery is told of it once."""
        asked = (Confirmation(BOB, Notification(Notify.SUCCESS), "delivered"),)
        first, _ = self.send(confirmed=asked)
        self.resends.unseen(SIGN, first)
        _, told = self.send(confirmed=asked)
        self.assertEqual(told, first)
        self.assertEqual(len(self.store.inbox(1)), 1)
        self.assertEqual(self.copies(), (1, 1, 2))
        self.assertEqual(self.ledger.open_writers, 0)

    def test_not_accepted(self) -> None:
        """What could not be accepted is not noted, and is new when it comes again; what
        was to be taken back with it is later."""
        first, _ = self.send()
        self.resends.seen(SIGN, first)
        self.ledger.broken.append(LedgerUnavailable())
        self.fails(LedgerUnavailable, self.sending(OTHER))
        self.assertEqual(self.notes(), 1)
        id, told = self.send(OTHER)
        self.assertEqual(id, told)
        self.assertEqual(self.notes(), 1)


class ProcessTests(ResendCase):
    """Several processes, of which some die."""

    def setUp(self) -> None:
        super().setUp()
        self.ledger.name = "first"

    def test_dead(self) -> None:
        """What a process accepted that died before its client went on is recognised
        by any other."""
        first, _ = self.send()
        self.ledger.name, self.ledger.dead = "second", ["first"]
        _, told = self.send()
        self.assertEqual(told, first)
        self.assertEqual(self.copies(), (1, 1, 1))
        # Now it is the second's, which lives.
        id, told = self.send()
        self.assertEqual(id, told)

    def test_alive(self) -> None:
        """What another process accepted, whose client may go on, is not; nor if it
        cannot be known whether it lives."""
        self.send()
        self.ledger.name = "second"
        id, told = self.send()
        self.assertEqual(id, told)

        def unknown(name: str) -> bool:
            raise LedgerUnavailable()

        self.ledger.name, self.ledger.dead = "third", ["first", "second"]
        self.patch(self.ledger, "lives", unknown)
        id, told = self.send()
        self.assertEqual(id, told)

    def test_said(self) -> None:
        """Another process learns that a client is gone, or that it went on."""
        first, second = self.send()[0], self.send(OTHER)[0]
        self.resends.unseen(SIGN, first)
        self.resends.seen(OTHER, second)
        self.now(self.resends.start())
        self.ledger.name = "second"
        self.assertEqual(self.send()[1], first)
        self.ledger.dead = ["first"]
        id, told = self.send(OTHER)
        self.assertEqual(id, told)
        self.now(self.resends.stop())

    def test_stop(self) -> None:
        """A process that ends says all that it knows."""
        first, second = self.send()[0], self.send(OTHER)[0]
        self.now(self.resends.start())
        self.resends.seen(SIGN, first)
        self.resends.unseen(OTHER, second)
        self.now(self.resends.stop())
        rows = self.ledger.rows("SELECT id, owner FROM accepted")
        self.assertEqual(rows, [(second, "")])


class BesideTests(ResendCase):
    """What is done beside."""

    def setUp(self) -> None:
        super().setUp()
        self.now(self.resends.start())
        self.addCleanup(lambda: self.now(self.resends.stop()))

    def test_within_a_second(self) -> None:
        """What clients saw is taken back within a second, all in one; without news
        nothing is written."""
        writes = self.ledger.writes
        self.clock.advance(10)
        self.assertEqual(self.ledger.writes, writes)
        for _ in range(3):
            self.resends.seen(SIGN, self.send()[0])
        self.assertLessEqual(self.notes(), 2)
        writes = self.ledger.writes
        self.clock.advance(1)
        self.assertEqual((self.notes(), self.ledger.writes), (0, writes + 1))

    def test_hangs(self) -> None:
        """Whose system does not acknowledge the answer for some seconds counts as gone,
        to all processes; one who is silent and has it does not, nor one who is not
        looked at yet."""
        first, second = self.send()[0], self.send(OTHER)[0]
        self.resends.promised(SIGN, first, lambda: False)
        self.resends.promised(OTHER, second, lambda: True)
        self.clock.pump([1.0] * 5)
        self.assertEqual(
            self.ledger.rows("SELECT id FROM accepted WHERE owner = ''"), []
        )
        third = self.send(OTHER)[0]
        self.resends.promised(OTHER, third, lambda: False)
        self.clock.pump([1.0] * 2)
        rows = self.ledger.rows("SELECT id FROM accepted WHERE owner = ''")
        self.assertEqual(rows, [(first,)])
        self.assertEqual(self.send()[1], first)
        id, told = self.send(OTHER)
        self.assertEqual(id, told)

    def test_hung_and_went_on(self) -> None:
        """If he goes on nevertheless he has seen it, whether it was written or not that
        he was gone."""
        for pump in (5, 7):
            id, _ = self.send()
            self.resends.promised(SIGN, id, lambda: False)
            self.clock.pump([1.0] * pump)
            self.resends.seen(SIGN, id)
            self.clock.pump([1.0] * 9)
            self.assertEqual(self.notes(), 0)

    def test_over(self) -> None:
        """Who went on or is gone is not looked at any more."""
        for over in (self.resends.seen, self.resends.unseen):
            id, _ = self.send()
            self.resends.promised(SIGN, id, lambda: self.fail("looked at"))
            over(SIGN, id)
            self.clock.pump([1.0] * 9)

    def test_at_once(self) -> None:
        """That a client is gone is written at once, since he may be back at once."""
        self.resends.unseen(SIGN, self.send()[0])
        self.assertEqual(self.ledger.rows("SELECT owner FROM accepted"), [("",)])

    def test_trouble(self) -> None:
        """While the ledger is away it waits, whatever happens, and is not forgotten;
        the same process knows all the same."""
        first, second = self.send()[0], self.send(OTHER)[0]
        self.ledger.broken = [LedgerUnavailable("away"), ValueError("a bug")]
        self.resends.unseen(SIGN, first)
        self.resends.seen(OTHER, second)
        self.assertEqual(len(self.ledger.broken), 1)
        self.clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.notes(), 2)
        self.clock.advance(1)
        rows = self.ledger.rows("SELECT id, owner FROM accepted")
        self.assertEqual(rows, [(first, "")])

    def test_an_hour(self) -> None:
        """After an hour the same is a new message; and then the note is removed."""
        first, _ = self.send()
        self.resends.unseen(SIGN, first)
        self.clock.advance(3599)
        self.assertEqual(self.notes(), 1)
        _, told = self.send()
        self.assertEqual(told, first)
        self.assertEqual(self.notes(), 1)

    def test_more_than_an_hour(self) -> None:
        """The note itself says how old it is, whoever has not removed it yet."""
        resends = Resends(self.clock, self.ledger, 3600)
        self.office.intake._resends = resends
        first, _ = self.send()
        resends.unseen(SIGN, first)
        self.clock.pump([1.0] * 30)
        self.ledger.down = True  # nobody sweeps
        self.clock.pump([60.0] * 60)
        self.ledger.down = False
        self.assertEqual(self.notes(), 1)
        id, told = self.send()
        self.assertEqual(id, told)

    def test_swept(self) -> None:
        """Old notes go in small pieces, whoever's they are; the others stay."""
        now = self.clock.seconds()
        rows = [(b"%16d" % n, n, n, "x" * (n % 2), now) for n in range(1200)]

        def fill(transaction: Transaction) -> None:
            transaction.executemany("INSERT INTO accepted VALUES (?, ?, ?, ?, ?)", rows)

        self.now(self.ledger.write(fill))  # type: ignore[arg-type]
        self.clock.advance(1800)
        self.send()
        self.assertEqual(self.notes(), 1201)
        writes = self.ledger.writes
        self.clock.advance(1801)
        self.assertEqual((self.notes(), self.ledger.writes), (1, writes + 3))


class BoundTests(ResendCase):
    def test_too_many(self) -> None:
        """Of too many notes the oldest go."""
        resends = Resends(self.clock, self.ledger, 3600, most=10)
        self.office.intake._resends = resends
        ids = []
        for _ in range(15):
            self.clock.advance(1)
            ids.append(self.send()[0])
        self.now(resends.start())
        left = [id for (id,) in self.ledger.rows("SELECT id FROM accepted")]
        self.assertEqual(sorted(left), ids[5:])
        self.now(resends.stop())

    def test_along(self) -> None:
        """What one message takes along is bounded; the rest is for the next."""
        self.clock.advance(1)
        for id in range(100):
            self.resends.seen(SIGN, id)
        self.assertEqual(len(self.resends.claim(SIGN, 1).seen), 64)
        self.assertEqual(len(self.resends.claim(SIGN, 2).seen), 36)

    def test_off(self) -> None:
        """With nothing to be remembered, what was noted before is removed."""
        self.send()
        self.clock.advance(1)
        resends = Resends(self.clock, self.ledger, 0)
        self.now(resends.start())
        self.assertEqual(self.notes(), 0)
        self.now(resends.stop())
