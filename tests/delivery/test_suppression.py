"""Whom nothing is sent to any more."""

from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from tests.delivery.fakes import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DEFERRED,
    DELIVERED,
    FAILED,
    Office,
    TestCase,
    always,
)
from twisted_mta.config import schema
from twisted_mta.config.units import Seconds
from twisted_mta.delivery.suppression import Suppression
from twisted_mta.errors import LedgerUnavailable, NoSuchAccount
from twisted_mta.interfaces import ISuppression
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.route import Outcome, Result

DAY = 86400.0


def refused(status: str, replied: bool = True) -> Outcome:
    said = f"550 {status} No"
    return Outcome(Result.FAILED, status, said, "mx.elsewhere.test", replied)


class SuppressionCase(TestCase):
    settings = schema.Suppression(hard_bounces=1, keep=Seconds(90 * DAY))

    def setUp(self) -> None:
        self.office = Office(suppressing=self.settings)
        self.clock, self.queue = self.office.clock, self.office.queue
        self.list = self.office.suppression

    def attempt(
        self, outcome: Outcome, *to: Address, sender: Address | None = ALICE
    ) -> None:
        """Send a message, and try it once."""
        self.now(self.office.send(sender, *(to or (CAROL,))))
        (job,) = self.now(self.queue.claim(1))
        self.now(self.queue.settle(job, always(outcome)(job)))

    def found(self, address: Address = CAROL, account: Address | None = None) -> bool:
        return self.now(self.list.find(address, account)) is not None


class ListTests(SuppressionCase):
    def test_seam(self) -> None:
        """The list keeps to its interface."""
        verifyObject(ISuppression, self.list)

    def test_all(self) -> None:
        """An entry without an account is for everybody, whatever the spelling."""
        self.now(self.list.add(CAROL, None, "manual", "she asked"))
        self.assertTrue(self.found(split("Carol@elsewhere.test"), ALICE))
        self.assertTrue(self.found())
        self.assertFalse(self.found(DAVE))
        bücher = Address("bob", "bücher.test")
        self.now(self.list.add(bücher, None, "manual", ""))
        self.assertTrue(self.found(split("BOB@xn--bcher-kva.test")))

    def test_account(self) -> None:
        """One with an account is for that one alone."""
        self.now(self.list.add(CAROL, ALICE, "manual", "she asked"))
        self.assertTrue(self.found(CAROL, ALICE))
        self.assertFalse(self.found(CAROL, BOB))
        self.assertFalse(self.found(CAROL))

    def test_until(self) -> None:
        """An entry may end by itself."""
        self.now(self.list.add(CAROL, None, "manual", "", keep_s=DAY))
        self.assertTrue(self.found())
        (entry,) = self.now(self.list.listed())
        self.assertEqual(entry.until, entry.added_at + DAY)
        self.clock.advance(DAY)
        self.assertFalse(self.found())
        self.assertEqual(self.now(self.list.listed()), [])

    def test_remove(self) -> None:
        """It can be taken off, once, and from the right list."""
        self.now(self.list.add(CAROL, None, "manual", ""))
        self.fails(NoSuchAccount, self.list.remove(CAROL, ALICE))
        self.now(self.list.remove(CAROL))
        self.assertFalse(self.found())
        self.fails(NoSuchAccount, self.list.remove(CAROL))

    def test_complaint(self) -> None:
        """A complaint does not make shorter what somebody put there for ever; an
        operator changes what there is."""
        self.now(self.list.add(CAROL, None, "manual", "she asked"))
        self.now(self.list.add(CAROL, None, "complaint", "x", keep_s=DAY))
        self.assertEqual(self.now(self.list.listed())[0].reason, "manual")
        self.now(self.list.add(CAROL, None, "manual", "for a while", keep_s=DAY))
        self.clock.advance(DAY)
        self.assertFalse(self.found())

    def test_account_removed(self) -> None:
        """With an account its entries go, and no others."""
        self.now(self.list.add(CAROL, ALICE, "manual", ""))
        self.now(self.list.add(DAVE, None, "manual", ""))
        self.now(self.office.ledger.write(lambda t: self.list.forget(t, ALICE)))
        (entry,) = self.now(self.list.listed())
        self.assertEqual(entry.address, str(DAVE))

    def test_others(self) -> None:
        """What another process puts there is known here."""
        self.assertFalse(self.found())
        other = Suppression(self.clock, self.office.ledger, self.settings)
        self.now(other.add(CAROL, None, "manual", "x\r\ny"))
        self.assertTrue(self.found())
        self.assertEqual(self.now(self.list.listed())[0].source, "x y")

    def test_away(self) -> None:
        """Without the ledger it cannot be said."""
        self.now(self.list.add(CAROL, None, "manual", ""))
        self.office.ledger.down = True
        self.fails(LedgerUnavailable, self.list.find(CAROL))


class BounceTests(SuppressionCase):
    def test_hard(self) -> None:
        """Who is refused for good since nobody has the address is on the list, with
        what was said; in the transaction that records it."""
        writes = self.office.ledger.writes
        self.attempt(FAILED)
        # Accepted, claimed, settled.
        self.assertEqual(self.office.ledger.writes - writes, 3)
        entry = self.now(self.list.find(CAROL))
        assert entry is not None
        self.assertEqual((entry.reason, entry.scope), ("hard_bounce", ""))
        self.assertIn("550 5.1.1 Nobody", entry.source)
        self.assertEqual(entry.until, entry.added_at + 90 * DAY)
        self.assertEqual(self.office.ledger.count("hard_bounce"), 0)

    def test_log(self) -> None:
        """The log says who is on the list, and by which message; once it has."""
        lines: list[str] = []

        def keep(event: LogEvent) -> None:
            lines.append(formatEvent(event))

        globalLogPublisher.addObserver(keep)
        self.addCleanup(globalLogPublisher.removeObserver, keep)
        self.attempt(FAILED)
        told = [line for line in lines if "suppressed" in line]
        self.assertEqual(len(told), 1)
        self.assertIn("suppressed carol@elsewhere.test: 550 5.1.1 Nobody (mx", told[0])
        self.attempt(DEFERRED, DAVE)
        self.assertEqual(len([line for line in lines if "suppressed" in line]), 1)

    def test_statuses(self) -> None:
        """Only what says that nobody has it counts, and only from its server."""
        for status, replied, counts in (
            ("5.1.2", True, True),
            ("5.1.3", True, True),
            ("5.1.10", True, True),
            ("5.2.1", True, True),
            ("5.7.1", True, False),
            ("5.7.26", True, False),
            ("5.2.2", True, False),
            ("5.0.0", True, False),
            ("5.4.7", True, False),
            ("5.1.1", False, False),
            ("5.1.2", False, False),
        ):
            to = split(f"x{status}.{replied}@elsewhere.test")
            self.attempt(refused(status, replied), to)
            self.assertEqual(self.found(to), counts, (status, replied))

    def test_other_outcomes(self) -> None:
        """What is delivered or may be says nothing."""
        self.attempt(DELIVERED)
        self.attempt(DEFERRED)
        self.assertFalse(self.found())

    def test_of_nobody(self) -> None:
        """A bounce that cannot be delivered went to whoever was forged."""
        self.attempt(FAILED, sender=None)
        self.assertFalse(self.found())

    def test_lost_lease(self) -> None:
        """Whoever lost the lease counts nothing, nor does who settles in vain."""
        self.now(self.office.send(ALICE, CAROL))
        (job,) = self.now(self.queue.claim(1))
        self.clock.advance(1_000)
        self.now(self.office.another("two").claim(1))
        self.now(self.queue.settle(job, always(FAILED)(job)))
        self.assertFalse(self.found())

    def test_each(self) -> None:
        """Of several recipients those are on it that were refused."""
        self.now(self.office.send(ALICE, CAROL, DAVE))
        (job,) = self.now(self.queue.claim(1))
        self.now(self.queue.settle(job, {CAROL: FAILED, DAVE: DELIVERED}))
        self.assertTrue(self.found(CAROL))
        self.assertFalse(self.found(DAVE))

    def test_stays_longer(self) -> None:
        """An entry that somebody made by hand is not made shorter."""
        self.now(self.list.add(CAROL, None, "manual", "she asked"))
        self.attempt(FAILED)
        (entry,) = self.now(self.list.listed())
        self.assertEqual((entry.reason, entry.until), ("manual", None))


class CountTests(SuppressionCase):
    settings = schema.Suppression(hard_bounces=3, within=Seconds(30 * DAY))

    def test_count(self) -> None:
        """So many messages have to be refused."""
        for _ in range(2):
            self.attempt(FAILED)
            self.assertFalse(self.found())
        self.attempt(FAILED)
        self.assertTrue(self.found())

    def test_within(self) -> None:
        """What is long ago does not count, and is forgotten."""
        self.attempt(FAILED)
        self.attempt(FAILED)
        self.clock.advance(31 * DAY)
        self.attempt(FAILED)
        self.assertFalse(self.found())
        self.assertEqual(self.office.ledger.count("hard_bounce"), 1)

    def test_taken_off(self) -> None:
        """Who is taken off the list begins anew."""
        for _ in range(3):
            self.attempt(FAILED)
        self.now(self.list.remove(CAROL))
        self.attempt(FAILED)
        self.assertFalse(self.found())


class NeverTests(SuppressionCase):
    settings = schema.Suppression()

    def test_never(self) -> None:
        """Unless the config says so nobody is put on it."""
        for _ in range(5):
            self.attempt(FAILED)
        self.assertFalse(self.found())
        self.assertEqual(self.office.ledger.count("hard_bounce"), 0)
