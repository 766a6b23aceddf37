"""The SMTP agent asks whether somebody exists."""

from twisted.internet.defer import Deferred

from tests.delivery.peer import DROP, HANG, OFFERS, turns
from tests.delivery.test_smtp import BOB, AgentCase
from twisted_mta.mail.address import Address
from twisted_mta.mail.route import Outcome, Result


class ProbeTests(AgentCase):
    async def probe(self, recipient: Address = BOB) -> Outcome:
        return await self.agent().probe("there.test", recipient)

    async def test_asked(self):
        """It asks as a bounce would, and sends nothing."""
        peer = self.peer()
        outcome = await self.probe()
        self.assertEqual(outcome.result, Result.DELIVERED)
        await turns(lambda: "QUIT" in peer.heard)
        self.assertEqual(
            peer.heard,
            ["EHLO here.test", "MAIL FROM:<>", "RCPT TO:<bob@there.test>", "QUIT"],
        )

    async def test_refused(self):
        """What the server says is what is told."""
        self.peer(RCPT="550 5.1.1 Nobody")
        outcome = await self.probe()
        self.assertEqual((outcome.result, outcome.status), (Result.FAILED, "5.1.1"))
        self.assertTrue(outcome.replied)

    async def test_unsure(self):
        """What is said before the recipient is named is not of him, and what breaks
        says nothing."""
        for replies in (
            {"GREETING": "554 5.7.1 Go away"},
            {"MAIL": "550 5.7.1 No bounces"},
            {"RCPT": "450 4.2.0 Later"},
            {"RCPT": "421 4.3.2 Closing"},
            {"RCPT": DROP},
        ):
            peer = self.peer(**replies)
            outcome = await self.probe()
            self.assertEqual(outcome.result, Result.DEFERRED, replies)
            await peer.stop()

    async def test_hang(self):
        """A server that says nothing has its time."""
        peer = self.peer(RCPT=HANG)
        asking = Deferred.fromCoroutine(self.probe())
        await turns(lambda: len(peer.heard) == 3)
        self.clock.advance(300)
        self.assertEqual((await asking).result, Result.DEFERRED)

    async def test_nowhere(self):
        """If there is no server it cannot be said; of no domain at all it can, but
        that is our own word."""
        self.assertEqual((await self.probe()).result, Result.DEFERRED)
        outcome = await self.agent().probe("nowhere.test", BOB)
        self.assertFalse(outcome.replied)

    async def test_international(self):
        """Whom the server cannot be asked about is not known."""
        peer = self.peer()
        self.assertEqual(
            (await self.probe(Address("jürgen", "there.test"))).result, Result.DEFERRED
        )
        await self.probe(Address("bob", "bücher.test"))
        self.assertIn("RCPT TO:<bob@xn--bcher-kva.test>", peer.heard)
        await peer.stop()
        peer = self.peer(offers=(*OFFERS, "SMTPUTF8"))
        outcome = await self.probe(Address("jürgen", "there.test"))
        self.assertEqual(outcome.result, Result.DELIVERED)
        self.assertIn("MAIL FROM:<> SMTPUTF8", peer.heard)
