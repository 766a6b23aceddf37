"""What an outcome of the SMTP agent says of the way the message went."""

from tests.delivery.peer import DROP
from tests.delivery.test_smtp import (
    BOB,
    DEFERRED,
    DELIVERED,
    FAILED,
    AgentCase,
    TlsCase,
)
from tests.delivery.test_smtp_extensions import BINARY, CHUNKING, IMAGE
from twisted_mta.delivery.smtp.settings import Tls
from twisted_mta.mail.envelope import Body
from twisted_mta.wire.sasl import Credentials


class TlsTests(TlsCase):
    """Whether TLS was spoken, and which."""

    async def test_clear(self):
        """Without TLS nothing is said of it."""
        self.peer()
        self.assertEqual((await self.deliver())[BOB].tls, "")

    async def test_may(self):
        """TLS with whomever is not called verified; with the right one it is."""
        self.secured()
        tls = (await self.deliver())[BOB].tls
        self.assertRegex(tls, r"\ATLSv1\.3 TLS_\w+ \(none\)\Z")
        agent = self.agent(tls=Tls.VERIFY, trust=self.trust)
        verified = (await self.deliver(agent))[BOB].tls
        self.assertEqual(verified, tls.replace("(none)", "(pkix)"))

    async def test_refused(self):
        """So it is of a refusal, of the second message over a connection, and of a
        server that ends it."""
        self.secured(RCPT=["550 5.1.1 Who?", "250 Ok"], END=["250 Ok", DROP])
        agent = self.agent()
        for result in (FAILED, DELIVERED, DEFERRED):
            outcome = (await self.deliver(agent))[BOB]
            self.assertEqual(outcome.result, result)
            self.assertTrue(outcome.tls.startswith("TLSv1.3"))

    async def test_login(self):
        """And of a login that was refused."""
        self.secured(AUTH="535 5.7.8 Wrong")
        agent = self.agent(credentials=Credentials("us", "secret"))
        self.assertTrue((await self.deliver(agent))[BOB].tls.startswith("TLSv1.3"))

    async def test_failed(self):
        """Where TLS failed and it went without, it went in the clear."""
        self.secured(STARTTLS="454 4.7.0 Not now")
        self.assertEqual((await self.deliver())[BOB].tls, "")


class UncertainTests(AgentCase):
    """Whether the next server may have the message although it did not say so (RFC
    1047)."""

    async def uncertain(self, content=None, body=Body.SEVEN_BIT, **replies):
        self.port = 0
        offers = replies.pop("offers", ())
        self.peer(offers=offers, **replies)
        given = {} if content is None else {"content": content, "body": body}
        outcome = (await self.deliver(None, **given))[BOB]
        return outcome.uncertain

    async def test_data(self):
        """It may once all was sent, be it lost or nonsense that is heard; not
        before."""
        for said in (DROP, "nonsense"):
            self.assertTrue(await self.uncertain(END=said))
            for stage in ("GREETING", "EHLO", "MAIL", "RCPT", "DATA"):
                self.assertFalse(await self.uncertain(**{stage: said}), stage)

    async def test_answered(self):
        """It does not if it said so."""
        for said in ("250 Ok", "450 4.2.0 Later", "550 5.0.0 Never", "421 4.3.0 Bye"):
            self.assertFalse(await self.uncertain(END=said))

    async def test_chunk(self):
        """What goes out as one with its commands may be there as soon as it went."""
        self.assertTrue(await self.uncertain(offers=CHUNKING, MAIL=DROP))

    async def test_chunks(self):
        """What goes in chunks, when the last of them went; that is before the one
        ahead of it is answered."""
        for sent, said in (
            (True, {"END": DROP}),
            (True, {"BDAT": ["250 Ok", DROP]}),
            (False, {"BDAT": DROP}),
        ):
            found = await self.uncertain(IMAGE, Body.BINARY, offers=BINARY, **said)
            self.assertEqual(found, sent, said)
