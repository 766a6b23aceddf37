"""L{twisted_mta.policy.rate}."""

from tests.policy.case import PolicyCase, progress
from twisted_mta.net.tally import Tally
from twisted_mta.policy.rate import _COUNTS, Rate


class RateTests(PolicyCase):
    def setUp(self) -> None:
        super().setUp()
        # So that a window begins now.
        self.clock.advance(60 - self.clock.seconds() % 60)
        self.tally = Tally()

    def policy(self, **limits: int) -> Rate:
        clock = self.clock
        return Rate("rate", clock, self.tally, limits, 60)  # type: ignore[arg-type]

    def mails(self, policy: Rate, count: int) -> list[int]:
        return [self.code(policy.mail(progress())) for _ in range(count)]

    def test_burst_and_trickle(self) -> None:
        """So many at once, and then as the time passes."""
        policy = self.policy(messages=6)
        self.assertEqual(self.mails(policy, 8), [0] * 6 + [451] * 2)
        self.clock.advance(60)
        self.assertEqual(self.mails(policy, 1), [451])
        self.clock.advance(10)
        self.assertEqual(self.mails(policy, 2), [0, 451])
        self.clock.advance(20)
        self.assertEqual(self.mails(policy, 3), [0, 0, 451])
        self.clock.advance(3600)
        self.assertEqual(self.mails(policy, 7), [0] * 6 + [451])

    def test_workers(self) -> None:
        """All workers count together; one that hears of nobody any more keeps no
        count from getting old."""
        one, other = self.policy(messages=6), self.policy(messages=6)
        self.assertEqual(self.mails(one, 4), [0] * 4)
        self.assertEqual(self.mails(other, 4), [0, 0, 451, 451])
        self.assertEqual(self.mails(one, 1), [451])
        self.clock.advance(120)
        self.assertEqual(self.mails(other, 7), [0] * 6 + [451])

    def test_bounded(self) -> None:
        """However many networks come, so many counts are kept; those of times that
        are over are not."""
        policy = self.policy(messages=1)
        for number in range(_COUNTS + 100):
            host = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            self.code(policy.mail(progress(host)))
        self.assertEqual(len(self.tally), _COUNTS)
        self.clock.advance(180)
        for number in range(_COUNTS // 2):
            host = f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            self.code(policy.mail(progress(host)))
        self.assertEqual(len(self.tally), _COUNTS // 2)

    def test_each_by_itself(self) -> None:
        """Networks and kinds do not count together; a /64 is one network."""
        policy = self.policy(recipients=1, connections=1)
        for asked in (progress("192.0.2.1"), progress("192.0.2.2")):
            self.assertEqual(self.code(policy.rcpt(asked)), 0)
            self.assertEqual(self.code(policy.connect(asked)), 0)
            self.assertEqual(self.code(policy.rcpt(asked)), 451)
            self.assertEqual(self.code(policy.mail(asked)), 0)
        self.assertEqual(self.code(policy.rcpt(progress("2001:db8::1"))), 0)
        self.assertEqual(self.code(policy.rcpt(progress("2001:db8::2"))), 451)

    def test_connections(self) -> None:
        """Who connects too often is sent away."""
        policy = self.policy(connections=1)
        self.code(policy.connect(progress()))
        verdict = self.now(policy.connect(progress()))
        assert verdict is not None and verdict.reply is not None
        self.assertEqual(verdict.reply.code, 421)
        self.assertTrue(verdict.disconnect)

    def test_no_opinion(self) -> None:
        """Clients of ours are not counted."""
        policy = self.policy(messages=1)
        for _ in range(3):
            self.assertEqual(self.code(policy.mail(progress(trusted=True))), 0)
            self.assertEqual(self.code(policy.mail(progress("/run/socket"))), 0)
