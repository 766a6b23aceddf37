"""L{twisted_mta.policy.rate}."""

from tests.policy.case import PolicyCase, progress
from twisted_mta.policy.rate import Rate


class RateTests(PolicyCase):
    def policy(self, **limits: int) -> Rate:
        return Rate("rate", self.clock, limits, 60)  # type: ignore[arg-type]

    def test_burst_and_trickle(self) -> None:
        """So many at once, and then as many evenly."""
        policy = self.policy(messages=6)
        codes = [self.code(policy.mail(progress())) for _ in range(8)]
        self.assertEqual(codes, [0] * 6 + [451] * 2)
        self.clock.advance(10)
        codes = [self.code(policy.mail(progress())) for _ in range(2)]
        self.assertEqual(codes, [0, 451])
        self.clock.advance(3600)
        codes = [self.code(policy.mail(progress())) for _ in range(7)]
        self.assertEqual(codes, [0] * 6 + [451])

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

    def test_memory(self) -> None:
        """However many networks come, so many are remembered."""
        policy = self.policy(messages=1)
        for number in range(20_100):
            self.code(policy.mail(progress(f"10.{number >> 8}.{number & 255}.1")))
        self.assertEqual(len(policy._buckets), 20_000)
