"""L{twisted_mta.policy.greylist}, on a ledger in memory."""

from tests.delivery.fakes import Ledger
from tests.policy.case import PolicyCase, progress
from twisted_mta.mail.address import Address
from twisted_mta.mail.verdict import Progress
from twisted_mta.policy.greylist import Greylist

ANN = Address("ann", "a.test")
DAY = 86400


class GreylistTests(PolicyCase):
    def setUp(self) -> None:
        super().setUp()
        self.ledger = Ledger()
        self.policy = self.process()

    def process(self, most: int = 1000) -> Greylist:
        """The policy as another process has it."""
        return Greylist(
            "greylist",
            self.clock,  # type: ignore[arg-type]
            self.ledger,
            delay_s=300,
            window_s=2 * DAY,
            keep_s=35 * DAY,
            trusted_after=3,
            most=most,
        )

    def ask(self, asked: Progress | None = None) -> int:
        return self.code(self.policy.rcpt(asked or progress(sender=ANN)))

    def test_new(self) -> None:
        """Who is new has to wait, and is told how long; then he is known, to all
        processes."""
        verdict = self.now(self.policy.rcpt(progress(sender=ANN)))
        assert verdict is not None and verdict.reply is not None
        self.assertEqual((verdict.reply.code, verdict.reply.status), (451, "4.7.1"))
        self.assertIn("301 seconds", verdict.reply.text)
        self.clock.advance(299)
        self.assertEqual(self.ask(), 451)
        self.policy = self.process()
        self.clock.advance(1)
        self.assertEqual(self.ask(), 0)
        self.assertEqual(self.ask(), 0)

    def test_what_it_is_about(self) -> None:
        """It is the network, the sender and the recipient; a neighbour may come
        again instead."""
        self.ask(progress("192.0.2.1", sender=ANN))
        self.clock.advance(300)
        self.assertEqual(self.ask(progress("192.0.3.1", sender=ANN)), 451)
        self.assertEqual(self.ask(progress("192.0.2.1", sender=None)), 451)
        self.assertEqual(self.ask(progress("192.0.2.200", sender=ANN)), 0)
        self.ask(progress("2001:db8:1:2::3", sender=ANN))
        self.clock.advance(300)
        self.assertEqual(self.ask(progress("2001:db8:1:ffff::1", sender=ANN)), 0)

    def test_too_late(self) -> None:
        """Who comes after days is new again."""
        self.ask()
        self.clock.advance(2 * DAY + 1)
        self.assertEqual(self.ask(), 451)
        self.clock.advance(300)
        self.assertEqual(self.ask(), 0)

    def test_kept(self) -> None:
        """Who writes now and then stays known; who has not for a month does not."""
        self.ask()
        self.clock.advance(300)
        for _ in range(4):
            self.assertEqual(self.ask(), 0)
            self.clock.advance(30 * DAY)
        self.clock.advance(6 * DAY)
        self.assertEqual(self.ask(), 451)

    def test_trusted(self) -> None:
        """A network that has come back three times need not any more, whatever it
        brings."""
        for number in range(3):
            sender = Address(f"s{number}", "a.test")
            self.assertEqual(self.ask(progress(sender=sender)), 451)
            self.clock.advance(300)
            self.assertEqual(self.ask(progress(sender=sender)), 0)
        self.assertEqual(self.ask(progress(sender=Address("new", "b.test"))), 0)
        self.clock.advance(35 * DAY)
        self.assertEqual(self.ask(progress(sender=Address("new", "b.test"))), 451)

    def test_cached(self) -> None:
        """Who is known is looked up once a day, and after it when he came last is
        written down."""
        self.ask()
        self.clock.advance(300)
        self.ask()
        self.ask()
        self.ledger.down = True
        self.clock.advance(DAY - 1)
        self.assertEqual(self.ask(), 0)
        self.clock.advance(2)
        self.assertEqual(self.ask(), 451)

    def test_no_opinion(self) -> None:
        """Clients of ours, and those at a unix socket, do not wait."""
        self.assertEqual(self.ask(progress(trusted=True)), 0)
        self.assertEqual(self.ask(progress("/run/socket")), 0)
        self.assertEqual(self.ledger.count("greylist"), 0)

    def test_forgotten(self) -> None:
        """What nobody needs any more is removed, now and then."""
        self.ask(progress("192.0.2.1", sender=ANN))
        self.ask(progress("192.0.3.1", sender=ANN))
        self.clock.advance(300)
        self.ask(progress("192.0.3.1", sender=ANN))  # came back
        self.clock.advance(2 * DAY + 1)
        self.ask(progress("192.0.4.1", sender=ANN))
        self.assertEqual(self.ledger.count("greylist"), 3)
        self.clock.advance(36 * DAY)
        self.ask(progress("192.0.5.1", sender=ANN))
        self.assertEqual(self.ledger.count("greylist"), 1)

    def test_flood(self) -> None:
        """However many come who are new, not many more are remembered than may be;
        who came back is not forgotten for them, however long ago."""
        self.policy = self.process(most=500)
        self.ask()
        self.clock.advance(300)
        self.ask()
        for number in range(3000):
            sender = Address(f"s{number}", "a.test")
            self.ask(progress("198.51.100.1", sender=sender))
            self.clock.advance(0.01)
        self.assertLessEqual(self.ledger.count("greylist"), 1500)
        self.assertEqual(self.ask(), 0)

    def test_ledger_down(self) -> None:
        """If it cannot be looked up the client shall come again."""
        self.ledger.down = True
        self.assertEqual(self.ask(), 451)
