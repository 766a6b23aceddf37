"""The agent that speaks LMTP (RFC 2033), against servers on the loopback."""

import os
import shutil
import tempfile

from twisted.internet.defer import CancelledError, ensureDeferred

from tests.delivery.peer import DROP, HANG, OFFERS, Peer, turns
from tests.delivery.test_smtp import (
    BOB,
    CAROL,
    DAVE,
    DEFERRED,
    DELIVERED,
    FAILED,
    MESSAGE,
    PREFIX,
    AgentCase,
    job,
)
from twisted_mta.delivery.smtp.exchanger import read_host
from twisted_mta.delivery.smtp.settings import Tls
from twisted_mta.interfaces import IForesight
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Body, DeliverBy, Handling
from twisted_mta.testing.agent_contract import AgentContract

ALL = (BOB, CAROL, DAVE)
OK = "250 2.0.0 Ok"


class LmtpCase(AgentCase):
    """Next hops are hosts."""

    def agent(self, listening=tuple, **settings):
        return super().agent(listening, **{"lmtp": True, **settings})

    async def deliver(self, agent=None, *arguments, **named):
        named.setdefault("next_hop", "[127.0.0.1]")
        return await super().deliver(agent, *arguments, **named)


class TransactionTests(LmtpCase):
    """One message."""

    async def test_hello(self):
        """It says LHLO, looks for no mail exchanger, and its one recipient has the
        one answer."""
        peer = self.peer()
        outcomes = await self.deliver()
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.assertEqual(outcomes[BOB].action, "delivered")
        self.assertEqual(peer.messages, [PREFIX + MESSAGE])
        self.assertEqual(peer.verbs(), ["LHLO", "MAIL", "RCPT", "DATA", "END"])
        self.assertEqual(self.names.asked, [])

    async def test_no_hello_of_smtp(self):
        """A server that knows no LHLO is no LMTP server: nothing else is tried, and
        the mail waits until the operator sees it."""
        peer = self.peer(LHLO="500 5.5.1 What?")
        outcomes = await self.deliver()
        self.says(outcomes, BOB, DEFERRED, "4.5.1")
        self.assertNotIn("EHLO", peer.verbs())
        self.assertNotIn("HELO", peer.verbs())

    async def test_each_its_own(self):
        """After the content each recipient has an answer of his own, in the order of
        RCPT."""
        self.peer(END=f"{OK}\r\n452 4.2.2 Full\r\n550 5.7.1 No")
        outcomes = await self.deliver(None, ALL)
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.says(outcomes, CAROL, DEFERRED, "4.2.2")
        self.says(outcomes, DAVE, FAILED, "5.7.1")

    async def test_only_of_those_accepted(self):
        """Who was refused at RCPT has no second answer."""
        self.peer(RCPT=[OK, "550 5.1.1 Nobody", OK], END=f"{OK}\r\n450 4.2.1 Busy")
        outcomes = await self.deliver(None, ALL)
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.says(outcomes, CAROL, FAILED, "5.1.1")
        self.says(outcomes, DAVE, DEFERRED, "4.2.1")

    async def test_nobody_accepted(self):
        """If all are refused there is no content, and no answer to it."""
        peer = self.peer(RCPT="550 5.1.1 Nobody", DATA="503 5.5.1 No recipients")
        agent = self.agent()
        outcomes = await self.deliver(agent, ALL)
        self.assertEqual({one.status for one in outcomes.values()}, {"5.1.1"})
        peer.replies["RCPT"], peer.replies["DATA"] = OK, "354 Go on"
        self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")
        self.assertEqual(peer.connections, 1)

    async def test_lost_between(self):
        """A connection that is lost between the answers leaves the others deferred,
        and none of them is given to another host at once."""

        def one_answer(server):
            server.transport.write(f"{OK}\r\n".encode())
            server.transport.loseConnection()

        peer = self.peer(END=one_answer)
        outcomes = await self.deliver(None, ALL)
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        for recipient in (CAROL, DAVE):
            text = self.says(outcomes, recipient, DEFERRED, "4.4.2")
            self.assertIn("may arrive twice", text)
            self.assertFalse(outcomes[recipient].unreached)
        self.assertEqual(peer.connections, 1)

    async def test_going_away(self):
        """421 instead of an answer leaves the others deferred."""
        self.peer(END=f"{OK}\r\n421 4.3.2 Stopping")
        outcomes = await self.deliver(None, ALL)
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.says(outcomes, CAROL, DEFERRED, "4.3.2")
        self.says(outcomes, DAVE, DEFERRED, "4.3.2")

    async def test_answers_are_not_mixed_up(self):
        """The next message over the same connection has its own answers."""
        peer = self.peer(
            END=[f"{OK}\r\n550 5.2.2 Full\r\n{OK}", "450 4.2.1 Busy"],
        )
        agent = self.agent()
        outcomes = await self.deliver(agent, ALL)
        self.says(outcomes, CAROL, FAILED, "5.2.2")
        self.says(outcomes, DAVE, DELIVERED, "2.0.0")
        self.says(await self.deliver(agent), BOB, DEFERRED, "4.2.1")
        self.assertEqual(peer.connections, 1)

    async def test_small_goes_by_data(self):
        """Though the server takes chunks, a small message does not go ahead of the
        answers to RCPT: a chunk for nobody would have no answer."""
        peer = self.peer(offers=(*OFFERS, "CHUNKING"))
        await self.deliver()
        self.assertNotIn("BDAT", peer.verbs())

    async def test_chunks(self):
        """Binary content goes in chunks; after the last each has his answer."""
        peer = self.peer(
            offers=(*OFFERS, "CHUNKING", "BINARYMIME"),
            END=f"{OK}\r\n550 5.2.2 Full\r\n{OK}",
        )
        outcomes = await self.deliver(None, ALL, body=Body.BINARY)
        self.assertIn("BDAT", peer.verbs())
        self.assertEqual(peer.messages, [PREFIX + MESSAGE])
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.says(outcomes, CAROL, FAILED, "5.2.2")
        self.says(outcomes, DAVE, DELIVERED, "2.0.0")

    async def test_chunk_refused(self):
        """A chunk that is refused is the answer for all, whatever follows it."""
        peer = self.peer(
            offers=(*OFFERS, "CHUNKING", "BINARYMIME"), BDAT="552 5.3.4 Too large"
        )
        agent = self.agent()
        outcomes = await self.deliver(agent, ALL, body=Body.BINARY)
        self.assertEqual({one.status for one in outcomes.values()}, {"5.3.4"})
        await turns(lambda: not peer.open)

    async def test_notifications(self):
        """A server with DSN tells the sender itself; else his mail is there, and he
        is told so, also if he wanted to know of each step."""
        self.peer(offers=(*OFFERS, "DSN"))
        outcomes = await self.deliver()
        self.assertEqual(outcomes[BOB].action, "")

    async def test_traced(self):
        """DELIVERBY's trace ends where the mail does."""
        self.peer()
        by = Handling(by=DeliverBy(3600, False, True))
        outcomes = await self.deliver(None, handling=by)
        self.assertEqual(outcomes[BOB].action, "delivered")

    async def test_unreached(self):
        """Whoever cannot be spoken to is not reached; who says no has been."""
        for replies in ({"GREETING": "421 4.3.2 Later"}, {"GREETING": DROP}):
            self.peer(**replies)
            outcomes = await self.deliver()
            self.assertTrue(outcomes[BOB].unreached, replies)
            await self.peers[-1].stop()
        self.peer(RCPT="450 4.2.1 Busy")
        self.assertFalse((await self.deliver())[BOB].unreached)


class SocketTests(LmtpCase):
    """Over a unix socket."""

    def setUp(self):
        super().setUp()
        # Trial's own directories are too long for one.
        self.directory = tempfile.mkdtemp()
        self.path = os.path.join(self.directory, "lmtp")
        self.port = 24

    async def tearDown(self):
        await super().tearDown()
        shutil.rmtree(self.directory)

    async def test_delivered(self):
        """The message goes there; the outcome names the socket. No TLS is asked for
        where nobody else hears."""
        peer = Peer((*OFFERS, "STARTTLS"))
        peer.listen_at(self.path)
        self.peers.append(peer)
        outcomes = await self.deliver(
            self.agent(tls=Tls.ENCRYPT), next_hop=f"unix:{self.path}"
        )
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.assertEqual(outcomes[BOB].remote, f"localhost[{self.path}]")
        self.assertNotIn("STARTTLS", peer.verbs())

    async def test_nobody_there(self):
        """A socket that is not there defers, and nobody was reached."""
        outcomes = await self.deliver(next_hop=f"unix:{self.path}")
        self.says(outcomes, BOB, DEFERRED, "4.4.1")
        self.assertTrue(outcomes[BOB].unreached)


class NextHopTests(LmtpCase):
    """What a next hop may be."""

    def test_read(self):
        """Hosts and sockets, and never port 25 (RFC 2033 5)."""
        self.assertEqual(read_host("unix:/run/lmtp"), "/run/lmtp")
        for text, port in (("host", None), ("[::1]:24", 24), ("host:2003", 2003)):
            hop = read_host(text)
            self.assertEqual((hop.port, hop.exchanged), (port, False))
        for text in (
            "[host]:25",
            "host:25",
            "unix:relative",
            "unix:",
            "unix:/" + "x" * 107,
            "[host]:70000",
        ):
            self.assertRaises(ValueError, read_host, text)

    async def test_wrong(self):
        """What cannot be read is the operator's mistake: mail waits."""
        self.port = 24
        outcomes = await self.deliver(next_hop="[there.test]:25")
        self.assertIn("port 25", self.says(outcomes, BOB, DEFERRED, "4.3.5"))

    async def test_loopback(self):
        """It may be on this machine, whose own port that is not."""
        self.peer()
        agent = self.agent(loopback=False)
        self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")


class ForesightTests(LmtpCase):
    """Asking of a recipient before there is a message."""

    def setUp(self):
        super().setUp()
        self.hop = "[127.0.0.1]"

    async def foresee(self, agent, recipient=BOB):
        self.assertTrue(IForesight.providedBy(agent))
        return await agent.foresee(self.hop, recipient)

    async def test_taken_or_not(self):
        """The answer to RCPT says it; the sender is the null one, and the connection
        is kept."""
        peer = self.peer(RCPT=[OK, "550 5.1.1 Nobody", "450 4.2.1 Busy"])
        agent = self.agent()
        found = [await self.foresee(agent) for _ in range(3)]
        self.assertEqual(
            [(one.result, one.status) for one in found],
            [(DELIVERED, "2.0.0"), (FAILED, "5.1.1"), (DEFERRED, "4.2.1")],
        )
        self.assertEqual(peer.connections, 1)
        self.assertEqual(
            peer.verbs(),
            ["LHLO", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "RSET", "MAIL", "RCPT"],
        )
        self.assertIn("MAIL FROM:<>", peer.heard)

    async def test_then_a_message(self):
        """A message goes over the connection that was asked by."""
        peer = self.peer()
        agent = self.agent()
        await self.foresee(agent)
        self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")
        self.assertEqual(peer.connections, 1)
        self.assertEqual(peer.messages, [PREFIX + MESSAGE])

    async def test_not_of_the_recipient(self):
        """What is said before RCPT says nothing of him for good."""
        for replies in (
            {"MAIL": "550 5.7.1 No"},
            {"GREETING": "554 5.7.1 No"},
            {"RCPT": DROP},
        ):
            self.peer(**replies)
            outcome = await self.foresee(self.agent())
            self.assertEqual(outcome.result, DEFERRED, replies)
            await self.peers[-1].stop()

    async def test_nobody_there(self):
        """A dead server says nothing."""
        self.peer()
        await self.peers[-1].stop()
        outcome = await self.foresee(self.agent())
        self.assertEqual((outcome.result, outcome.status), (DEFERRED, "4.4.1"))

    async def test_connection_gone(self):
        """A kept connection that was closed meanwhile is not the answer."""
        peer = self.peer(RSET=[DROP, OK])
        agent = self.agent()
        await self.foresee(agent)
        self.assertEqual((await self.foresee(agent)).result, DELIVERED)
        self.assertEqual(peer.connections, 2)

    async def test_utf8(self):
        """An address that needs SMTPUTF8 is not said to a server without; a domain
        has another spelling."""
        peer = self.peer()
        outcome = await self.foresee(self.agent(), Address("x", "bücher.test"))
        self.assertEqual(outcome.result, DELIVERED)
        self.assertIn("RCPT TO:<x@xn--bcher-kva.test>", peer.heard)
        peer.heard.clear()
        outcome = await self.foresee(self.agent(), Address("jürgen", "there.test"))
        self.assertEqual((outcome.result, outcome.status), (FAILED, "5.6.7"))
        self.assertNotIn("RCPT", peer.verbs())

    async def test_cancelled(self):
        """Who waits no longer leaves no connection."""
        peer = self.peer(RCPT=HANG)
        asking = ensureDeferred(self.foresee(self.agent()))
        await turns(lambda: "RCPT" in peer.verbs())
        asking.cancel()
        await self.assertFailure(asking, CancelledError)
        await turns(lambda: not peer.open)


class RelayTests(AgentCase):
    """The same question by SMTP, of a server behind a relay."""

    async def test_foresee(self):
        """It is asked for the domain's own server."""
        peer = self.peer(RCPT="550 5.1.1 Nobody")
        outcome = await self.agent().foresee("there.test", BOB)
        self.assertEqual((outcome.result, outcome.status), (FAILED, "5.1.1"))
        self.assertEqual(peer.verbs()[0], "EHLO")

    async def test_no_such_domain(self):
        """A domain that does not exist; a next hop that does not is the operator's
        mistake, for which nobody is refused."""
        bob = Address("bob", "nowhere.test")
        outcome = await self.agent().foresee("nowhere.test", bob)
        self.assertEqual((outcome.result, outcome.status), (FAILED, "5.1.2"))
        outcome = await self.agent().foresee("nowhere.test", BOB)
        self.assertEqual((outcome.result, outcome.status), (DEFERRED, "4.3.5"))

    async def test_said_of_the_mail_counts_more(self):
        """A host that deferred the recipient and one that is not reached: he was
        spoken of."""
        self.names._mx["there.test"] = [(10, "a.test"), (20, "b.test")]
        self.names._addresses |= {"a.test": ["127.0.0.1"], "b.test": ["127.0.0.2"]}
        self.peer(RCPT="450 4.2.1 Busy")
        self.peer("127.0.0.2", GREETING="421 4.3.2 Later")
        outcomes = await self.agent().deliver(*job())
        self.says(outcomes, BOB, DEFERRED, "4.2.1")
        self.assertFalse(outcomes[BOB].unreached)


class LmtpContractTests(AgentContract, LmtpCase):
    """The promises of every agent, by LMTP."""

    next_hop = "[127.0.0.1]"

    async def build(self):
        self.server = self.peer(END=f"{OK}\r\n{OK}")
        return self.agent()

    async def arrived(self):
        return self.server.messages


class SmtpContractTests(AgentContract, AgentCase):
    """The same by SMTP."""

    next_hop = "there.test"

    async def build(self):
        self.server = self.peer()
        return self.agent()

    async def arrived(self):
        return self.server.messages
