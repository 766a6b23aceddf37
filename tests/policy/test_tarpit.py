"""L{twisted_mta.policy.tarpit}."""

from dataclasses import replace

from tests.policy.case import BOB, PolicyCase, progress
from twisted_mta.mail.verdict import Kind
from twisted_mta.policy.tarpit import Tarpit


class TarpitTests(PolicyCase):
    def test_many(self) -> None:
        """So many recipients are answered at once, and each one after them late; those
        of clients of ours at once."""
        policy = Tarpit("tarpit", 2, 3.0)
        for count, seconds in ((1, 0.0), (2, 0.0), (3, 3.0), (9, 3.0)):
            asked = replace(progress(), recipients=(BOB,) * count)
            verdict = self.now(policy.rcpt(asked))
            self.assertEqual(verdict.seconds if verdict else 0.0, seconds)
            if verdict:
                self.assertIs(verdict.kind, Kind.DELAY)
            ours = replace(asked, trusted=True)
            self.assertIsNone(self.now(policy.rcpt(ours)))
