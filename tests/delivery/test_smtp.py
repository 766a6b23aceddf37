"""The SMTP agent against servers of every kind on the loopback."""

import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from tests.delivery.peer import (
    DROP,
    HANG,
    OFFERS,
    Content,
    Handset,
    Long,
    Names,
    Peer,
    Vanishing,
    all_hung_up,
    turns,
)
from twisted_mta.delivery.smtp.agent import SmtpAgent
from twisted_mta.delivery.smtp.settings import Settings, Tls
from twisted_mta.interfaces import IDeliveryAgent, IResolver
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.dsn import Notification, Notify, OriginalRecipient
from twisted_mta.mail.envelope import (
    LOCAL,
    USUAL,
    Body,
    DeliverBy,
    Envelope,
    Handling,
    Return,
)
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Result
from twisted_mta.net.selfsigned import self_signed
from twisted_mta.net.tls import Pair, ServerTls
from twisted_mta.wire.sasl import Credentials

ALICE = split("alice@here.test")
BOB = split("bob@there.test")
CAROL = split("carol@there.test")
DAVE = split("dave@there.test")

PREFIX = b"Received: from a by b; now\r\n"
MESSAGE = b"Subject: hello\r\n\r\n.dot\r\nline\r\n"

DELIVERED, DEFERRED, FAILED = Result.DELIVERED, Result.DEFERRED, Result.FAILED


def job(recipients=(BOB,), *, next_hop="there.test", content=MESSAGE, **changes):
    """A job, and its content."""
    if isinstance(content, bytes):
        content = Content(content)
    envelope = Envelope(
        1,
        changes.pop("sender", ALICE),
        tuple(recipients),
        0.0,
        origin=changes.pop("origin", LOCAL),
        body=changes.pop("body", Body.SEVEN_BIT),
        smtputf8=changes.pop("smtputf8", False),
        handling=changes.pop("handling", USUAL),
    )
    made = Job(
        id=1,
        envelope=envelope,
        content=1,
        prefix=PREFIX,
        size=len(PREFIX) + content.size,
        eight_bit=False,
        agent="smtp",
        next_hop=next_hop,
        recipients=tuple(recipients),
        attempts=0,
        warned=False,
    )
    return replace(made, **changes), content


class AgentCase(TestCase):
    """An agent whose world is the loopback.

    C{there.test} has one mail exchanger, C{mx.there.test} on 127.0.0.1, where
    C{self.peer} listens.
    """

    def setUp(self):
        self.clock = Handset()
        self.names = Names(
            {"there.test": [(10, "mx.there.test")]}, {"mx.there.test": ["127.0.0.1"]}
        )
        self.agents = []
        self.peers = []
        self.port = 0

    async def tearDown(self):
        for agent in self.agents:
            await agent.close()
        for peer in self.peers:
            await peer.stop()
        await all_hung_up()

    def peer(self, interface="127.0.0.1", offers=OFFERS, tls=None, **replies):
        """A server; all of a test listen on the same port."""
        peer = Peer(offers, tls, **replies)
        self.port = peer.listen(self.port, interface)
        self.peers.append(peer)
        return peer

    def agent(self, listening=tuple, **settings):
        """An agent for the servers there are."""
        values = {"hostname": "here.test", "port": self.port, "loopback": True}
        made = SmtpAgent(
            self.clock, self.names, Settings(**{**values, **settings}), listening
        )
        self.agents.append(made)
        return made

    async def deliver(self, agent=None, *arguments, **named):
        return await (agent or self.agent()).deliver(*job(*arguments, **named))

    def says(self, outcomes, recipient, result, status):
        outcome = outcomes[recipient]
        self.assertEqual((outcome.result, outcome.status), (result, status), outcome)
        return outcome.diagnostic


class TransactionTests(AgentCase):
    """One message to one server."""

    def test_interfaces(self):
        """The agent is an IDeliveryAgent; what stands in for others is right."""
        self.assertTrue(verifyObject(IDeliveryAgent, self.agent()))
        self.assertTrue(verifyObject(IResolver, self.names))

    async def test_delivered(self):
        """A message arrives as it is, its prefix first; the outcome says by
        whom and how."""
        peer = self.peer()
        outcomes = await self.deliver()
        self.assertEqual(
            self.says(outcomes, BOB, DELIVERED, "2.0.0"), "250 2.0.0 Ok: taken"
        )
        self.assertEqual(outcomes[BOB].remote, f"mx.there.test[127.0.0.1]:{self.port}")
        self.assertTrue(outcomes[BOB].replied)
        self.assertEqual(peer.messages, [PREFIX + MESSAGE])
        size = len(PREFIX + MESSAGE)
        self.assertEqual(
            peer.heard,
            [
                "EHLO here.test",
                f"MAIL FROM:<alice@here.test> SIZE={size}",
                "RCPT TO:<bob@there.test>",
                "DATA",
                "END",
            ],
        )

    async def test_null_sender_and_eight_bit(self):
        """A bounce has the null sender; 8-bit content is announced."""
        peer = self.peer()
        await self.deliver(None, sender=None, eight_bit=True)
        self.assertRegex(peer.heard[1], r"^MAIL FROM:<> SIZE=\d+ BODY=8BITMIME$")

    async def test_seven_bit(self):
        """For a server without 8BITMIME 8-bit content is encoded."""
        peer = self.peer(offers=())
        content = b"Subject: 8\r\n\r\n\xff and more, so that people can read it\r\n"
        outcomes = await self.deliver(None, content=content, eight_bit=True)
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.assertEqual(peer.heard[1], "MAIL FROM:<alice@here.test>")
        (message,) = peer.messages
        self.assertTrue(message.startswith(PREFIX + b"Subject: 8\r\nMIME-Version"))
        self.assertTrue(message.endswith(b"\r\n\r\n=FF" + content[15:]))

    async def test_notifications(self):
        """What the sender asks to be told is told to a server that does DSN, which
        then tells him; one that does not is not bothered, and he is told by us."""
        asked = Notification(
            Notify.SUCCESS | Notify.DELAY, OriginalRecipient("rfc822", "b+x@list.test")
        )
        handling = Handling(Return.FULL, "a+b=c")
        for offers, action in (((*OFFERS, "DSN"), ""), (OFFERS, "relayed")):
            self.peers and await self.peers.pop().stop()
            peer = self.peer(offers=offers)
            outcomes = await self.deliver(
                None,
                (BOB, CAROL),
                handling=handling,
                notifications={BOB: asked},
            )
            self.assertEqual(outcomes[BOB].action, action)
            _, mail, *rcpt = peer.heard[:4]
            self.assertEqual("RET=FULL ENVID=a+2Bb+3Dc" in mail, not action)
            words = " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bx@list.test"
            told = "" if action else words
            self.assertEqual(
                rcpt,
                [f"RCPT TO:<bob@there.test>{told}", "RCPT TO:<carol@there.test>"],
            )

    async def test_wishes(self):
        """What the sender asks of everyone is asked of a server that does it; what
        must be, and is not offered, fails for good."""
        all_of_it = (*OFFERS, "REQUIRETLS", "DELIVERBY 60", "MT-PRIORITY")
        late = Handling(by=DeliverBy(100, True, True), priority=-3)
        slow = Handling(by=DeliverBy(-5, False), priority=4)
        advert = Handling(solicit=("org.x", "net.example:adv"))
        takes_some = (*OFFERS, "NO-SOLICITING net.example:B2B")
        takes_none = (*OFFERS, "NO-SOLICITING net.example:ADV")
        for offers, handling, said, status in (
            (all_of_it, late, " BY=100;RT MT-PRIORITY=-3", "2.0.0"),
            (all_of_it, slow, " BY=-5;N MT-PRIORITY=4", "2.0.0"),
            (OFFERS, late, "", "5.3.3"),
            (OFFERS, slow, "", "2.0.0"),
            (all_of_it, Handling(by=DeliverBy(0, True)), "", "5.4.7"),
            (takes_some, advert, " SOLICIT=org.x,net.example:adv", "2.0.0"),
            (takes_none, advert, "", "5.7.1"),
            (OFFERS, advert, "", "2.0.0"),
        ):
            self.peers and await self.peers.pop().stop()
            peer = self.peer(offers=offers)
            outcomes = await self.deliver(None, handling=handling)
            self.assertEqual(outcomes[BOB].status, status)
            # The sender is told where it leaves those who keep to his time, and at
            # each step if he wants to.
            traced = handling is late or (handling is slow and offers is OFFERS)
            told = outcomes[BOB].action == "traced"
            self.assertEqual(told, traced and status == "2.0.0")
            if status == "2.0.0":
                self.assertTrue(peer.heard[1].endswith(said), peer.heard[1])
            else:
                self.assertNotIn("MAIL", peer.verbs())

    async def test_require_tls(self):
        """REQUIRETLS goes to a host that is named, verified, and does it, too; the
        exchangers of a domain are not known for certain."""
        strict = Handling(require_tls=True)
        peer = self.peer(offers=(*OFFERS, "REQUIRETLS"))
        outcomes = await self.deliver(None, handling=strict)
        self.says(outcomes, BOB, FAILED, "5.7.30")
        self.assertEqual(peer.connections, 0)
        named = f"[mx.there.test]:{self.port}"
        outcomes = await self.deliver(None, next_hop=named, handling=strict)
        self.says(outcomes, BOB, FAILED, "5.7.30")  # no STARTTLS
        self.assertNotIn("MAIL", peer.verbs())
        for offers, result, status in (
            ((*OFFERS, "REQUIRETLS", "STARTTLS"), DELIVERED, "2.0.0"),
            ((*OFFERS, "STARTTLS"), FAILED, "5.7.30"),
        ):
            self.peers and await self.peers.pop().stop()
            directory = Path(tempfile.mkdtemp())
            self.addCleanup(shutil.rmtree, directory)
            pair = Pair(directory / "certificate.pem", directory / "key.pem")
            self_signed(pair, ["mx.there.test"])
            peer = self.peer(offers=offers, tls=ServerTls([pair]))
            agent = self.agent(trust=pair.certificate)
            outcomes = await self.deliver(agent, next_hop=named, handling=strict)
            self.says(outcomes, BOB, result, status)
        self.assertNotIn("MAIL", peer.verbs())

    async def test_helo(self):
        """A server that does not know EHLO is greeted with HELO."""
        peer = self.peer(EHLO="502 5.5.1 What?")
        self.says(await self.deliver(), BOB, DELIVERED, "2.0.0")
        self.assertEqual(peer.verbs()[:3], ["EHLO", "HELO", "MAIL"])

    async def test_lockstep(self):
        """Without PIPELINING each command waits for its answer; refused
        recipients do not keep the others from theirs."""
        peer = self.peer(offers=(), RCPT=["550 5.1.1 Who?", "250 Ok"])
        outcomes = await self.deliver(None, (BOB, CAROL))
        self.says(outcomes, BOB, FAILED, "5.1.1")
        self.says(outcomes, CAROL, DELIVERED, "2.0.0")
        self.assertEqual(len(peer.messages), 1)

    async def test_lockstep_ends_early(self):
        """Without PIPELINING nothing follows a refused MAIL, or only refused
        RCPTs."""
        peer = self.peer(offers=(), MAIL=["550 No", "250 Ok"], RCPT="550 5.1.1 No")
        agent = self.agent()
        self.says(await self.deliver(agent), BOB, FAILED, "5.0.0")
        self.says(await self.deliver(agent), BOB, FAILED, "5.1.1")
        self.assertEqual(peer.verbs(), ["EHLO", "MAIL", "RSET", "MAIL", "RCPT"])

    async def test_mixed_recipients(self):
        """Each recipient has the answer that was given for it."""
        for offers in ((), OFFERS):
            self.peers and await self.peers.pop().stop()
            self.peer(
                offers=offers, RCPT=["250 Ok", "550 5.1.1 Who?", "450 4.2.1 Later"]
            )
            outcomes = await self.deliver(None, (BOB, CAROL, DAVE))
            self.says(outcomes, BOB, DELIVERED, "2.0.0")
            self.says(outcomes, CAROL, FAILED, "5.1.1")
            self.says(outcomes, DAVE, DEFERRED, "4.2.1")

    async def test_stages(self):
        """A 4yz defers and a 5yz fails at each stage, with the status that was
        given, else a general one. What is said before MAIL is not final."""
        cases = [
            ("GREETING", "450 Busy", DEFERRED, "4.0.0"),
            ("GREETING", "554 5.7.1 You are listed", DEFERRED, "4.7.1"),
            ("GREETING", "521 5.3.2 No mail here", FAILED, "5.3.2"),
            ("EHLO", "451 4.3.0 Later", DEFERRED, "4.3.0"),
            ("HELO", "550 5.7.1 Go away", FAILED, "5.7.1"),
            ("MAIL", "451 4.3.0 Later", DEFERRED, "4.3.0"),
            ("MAIL", "550 5.7.1 Not you", FAILED, "5.7.1"),
            ("MAIL", "354 What?", DEFERRED, "4.5.0"),
            ("RCPT", "450 4.2.0 Greylisted", DEFERRED, "4.2.0"),
            ("RCPT", "550 Who?", FAILED, "5.0.0"),
            ("RCPT", "552 5.5.3 Too many", DEFERRED, "4.5.3"),
            ("DATA", "451 Later", DEFERRED, "4.0.0"),
            ("DATA", "554 5.5.1 No", FAILED, "5.5.1"),
            ("DATA", "250 What?", DEFERRED, "4.5.0"),
            ("END", "452 4.3.1 Full", DEFERRED, "4.3.1"),
            ("END", "554 5.7.1 Spam", FAILED, "5.7.1"),
            ("END", "354 What?", DEFERRED, "4.5.0"),
            ("END", "421 4.3.2 Going down", DEFERRED, "4.3.2"),
        ]
        for verb, reply, result, status in cases:
            self.port = 0
            replies = {verb: reply}
            if verb == "HELO":
                replies["EHLO"] = "502 What?"
            self.peer(**replies)
            outcomes = await self.deliver()
            self.assertEqual(self.says(outcomes, BOB, result, status), reply)
            self.assertTrue(outcomes[BOB].replied)

    async def test_too_many_recipients(self):
        """A server that has enough recipients gets the others in further
        transactions."""
        peer = self.peer(RCPT=["250 Ok", "452 4.5.3 Enough", "250 Ok"])
        outcomes = await self.deliver(None, (BOB, CAROL))
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.says(outcomes, CAROL, DELIVERED, "2.0.0")
        self.assertEqual(len(peer.messages), 2)

    async def test_batches(self):
        """There are at most so many recipients in one transaction."""
        peer = self.peer()
        people = [Address(f"p{number}", "there.test") for number in range(7)]
        noted: list[int] = []

        async def note(outcomes) -> None:
            noted.append(len(outcomes))

        outcomes = await self.deliver(self.agent(recipients=3), people, note=note)
        self.assertEqual({outcome.result for outcome in outcomes.values()}, {DELIVERED})
        # Who has it is recorded before the next are tried.
        self.assertEqual(noted, [3, 6])
        self.assertEqual(peer.verbs().count("RCPT"), 7)
        self.assertEqual(len(peer.messages), 3)

    async def test_data_for_nobody(self):
        """A server that wants content although it refused all recipients does
        not get any."""
        peer = self.peer(RCPT="550 5.1.1 Who?")
        self.says(await self.deliver(), BOB, FAILED, "5.1.1")
        self.assertEqual(peer.messages, [])

    async def test_size(self):
        """A message larger than the server takes fails without being sent."""
        peer = self.peer(offers=("SIZE 10",))
        self.says(await self.deliver(), BOB, FAILED, "5.3.4")
        self.assertNotIn("MAIL", peer.verbs())

    async def test_dots_and_line_ends(self):
        """Whatever the content holds, the server reads one message with dots
        and nothing but CRLF (rows 1 and 2)."""
        peer = self.peer()
        content = b"a\n.\nMAIL FROM:<x@y>\r.\r\n..\r\n.\r\n\r.\nend\r"
        await self.deliver(None, content=content)
        expected = b"a\r\n.\r\nMAIL FROM:<x@y>\r\n.\r\n..\r\n.\r\n\r\n.\r\nend\r\n"
        self.assertEqual(peer.messages, [PREFIX + expected])
        self.assertEqual(peer.verbs().count("MAIL"), 1)

    test_h02_outbound = test_dots_and_line_ends

    async def test_content_gone(self):
        """Content that cannot be read defers, and no half of it is taken."""
        peer = self.peer()
        outcomes = await self.deliver(None, content=Vanishing(1 << 20))
        self.says(outcomes, BOB, DEFERRED, "4.3.0")
        self.assertEqual(peer.messages, [])

    async def test_backpressure(self):
        """Content is read no faster than the server takes it."""

        def pause(protocol):
            protocol.transport.pauseProducing()
            reactor.callLater(0, protocol.say, "354 Go on")
            protocol.content = b""
            paused.append(protocol)

        paused = []
        peer = self.peer(DATA=pause)
        peer.keep = False
        content = Long(64 << 20)
        delivery = ensureDeferred(self.deliver(None, content=content))
        await turns(lambda: paused and content.read_to)
        for _ in range(200):
            before = content.read_to
            await turns(iter((False, False, True)).__next__)
        self.assertEqual(content.read_to, before)
        self.assertLess(content.read_to, 16 << 20)
        paused[0].transport.resumeProducing()
        self.says(await delivery, BOB, DELIVERED, "2.0.0")
        self.assertGreater(peer.octets, 64 << 20)


class Utf8Tests(AgentCase):
    """Addresses and headers beyond ASCII."""

    UTF8 = (*OFFERS, "SMTPUTF8")
    jose = Address("josé", "there.test")
    bucher = Address("bob", "bücher.test")

    async def test_offered(self):
        """A server with SMTPUTF8 is told of it when it is needed."""
        peer = self.peer(offers=self.UTF8)
        outcomes = await self.deliver(None, (self.jose, self.bucher))
        self.says(outcomes, self.jose, DELIVERED, "2.0.0")
        self.assertTrue(peer.heard[1].endswith(" SMTPUTF8"))
        self.assertEqual(peer.heard[3], "RCPT TO:<bob@bücher.test>")

    async def test_not_needed(self):
        """It is not told of it when the domain can be written in ASCII."""
        for offers in (OFFERS, self.UTF8):
            self.port = 0
            peer = self.peer(offers=offers)
            await self.deliver(None, (self.bucher,), smtputf8=True)
            self.assertNotIn("UTF8", peer.heard[1])
            self.assertEqual(peer.heard[2], "RCPT TO:<bob@xn--bcher-kva.test>")

    async def test_missing(self):
        """Without it such a recipient fails, and only such; a sender or header
        fails for all."""
        peer = self.peer()
        outcomes = await self.deliver(None, (self.jose, BOB))
        self.says(outcomes, self.jose, FAILED, "5.6.7")
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        outcomes = await self.deliver(None, sender=Address("josé", "here.test"))
        self.says(outcomes, BOB, FAILED, "5.6.7")
        content = "Subject: é\r\n\r\n".encode()
        outcomes = await self.deliver(None, smtputf8=True, content=content)
        self.says(outcomes, BOB, FAILED, "5.6.7")
        self.assertEqual(len(peer.messages), 1)

    async def test_body_alone(self):
        """A body beyond ASCII needs only 8BITMIME."""
        self.peer()
        content = "Subject: e\r\n\r\né\r\n".encode()
        outcomes = await self.deliver(None, smtputf8=True, content=content)
        self.says(outcomes, BOB, DELIVERED, "2.0.0")


class ReuseTests(AgentCase):
    """Several messages over one connection."""

    async def test_reused(self):
        """The next message to the same next hop goes over the connection that
        is there, after RSET."""
        peer = self.peer()
        agent = self.agent()
        await self.deliver(agent)
        self.says(await self.deliver(agent, (CAROL,)), CAROL, DELIVERED, "2.0.0")
        self.assertEqual(peer.connections, 1)
        self.assertEqual(peer.verbs()[5:], ["RSET", "MAIL", "RCPT", "DATA", "END"])

    async def test_expires(self):
        """After a moment the connection is ended with QUIT."""
        peer = self.peer()
        await self.deliver()
        self.clock.advance(2)
        await all_hung_up()
        self.assertEqual(peer.verbs()[-1], "QUIT")

    async def test_closed(self):
        """So is it when the agent closes, and none is kept from then on."""
        peer = self.peer()
        agent = self.agent()
        await self.deliver(agent)
        await agent.close()
        await turns(lambda: not peer.open)
        self.assertEqual(peer.verbs()[-1], "QUIT")
        await self.deliver(agent)
        await turns(lambda: not peer.open)
        self.assertEqual(peer.verbs()[-1], "QUIT")

    async def test_most(self):
        """At most so many are kept, and each for so many messages."""
        peer = self.peer()
        await self.deliver(self.agent(idle_connections=0))
        await turns(lambda: not peer.open)
        agent = self.agent(messages=2)
        for _ in range(3):
            await self.deliver(agent)
        self.assertEqual(peer.connections, 3)

    async def test_gone_stale(self):
        """A kept connection that the server has closed, or closes when it is
        used, costs nothing: another is made."""
        for reply in (DROP, "421 4.4.2 Too late"):
            self.port = 0
            peer = self.peer(RSET=reply)
            agent = self.agent()
            await self.deliver(agent)
            self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")
            self.assertEqual(peer.connections, 2)
            for protocol in list(peer.open):
                protocol.transport.loseConnection()
            await turns(lambda peer=peer: not peer.open)
            self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")
            self.assertEqual(peer.connections, 3)

    async def test_side_by_side(self):
        """Attempts at the same time have connections of their own."""
        peer = self.peer()
        agent = self.agent()
        await gatherResults([ensureDeferred(self.deliver(agent)) for _ in range(4)])
        self.assertEqual(peer.connections, 4)
        self.assertEqual(len(peer.messages), 4)


class HostTests(AgentCase):
    """Several hosts."""

    def two(self, *preferences):
        """Mail exchangers on 127.0.0.1 and 127.0.0.2."""
        hosts = [(p, f"mx{n}.test") for n, p in enumerate(preferences, 1)]
        self.names = Names(
            {"there.test": sorted(hosts)},
            {f"mx{n}.test": [f"127.0.0.{n}"] for n in range(1, 10)},
        )

    async def test_preference(self):
        """The best is tried first; if it takes the message, no other is."""
        self.two(20, 10)
        worse, best = self.peer(), self.peer("127.0.0.2")
        self.says(await self.deliver(), BOB, DELIVERED, "2.0.0")
        self.assertEqual((worse.connections, best.connections), (0, 1))

    async def test_next_host(self):
        """One that is dead, silent about the mail or busy is passed over."""
        for replies in (
            {"GREETING": DROP},
            {"GREETING": "554 No"},
            {"EHLO": DROP},
            {"MAIL": "451 4.3.0 Later"},
            {"RCPT": "421 4.3.0 Later"},
            {"DATA": DROP},
        ):
            self.port = 0
            self.two(10, 20)
            self.peer(**replies)
            second = self.peer("127.0.0.2")
            self.says(await self.deliver(), BOB, DELIVERED, "2.0.0")
            self.assertEqual(len(second.messages), 1)

    async def test_refused_connection(self):
        """A host where nothing listens is passed over; if it is the only one,
        the mail is deferred."""
        self.two(10, 20)
        self.peer("127.0.0.2")
        self.says(await self.deliver(), BOB, DELIVERED, "2.0.0")
        self.two(10)
        text = self.says(await self.deliver(), BOB, DEFERRED, "4.4.1")
        self.assertIn("refused", text)

    async def test_final_is_final(self):
        """A recipient that one host refuses for good is not tried at another;
        those that it defers are."""
        self.two(10, 20)
        self.peer(RCPT=["550 5.1.1 Who?", "450 4.2.0 Later"])
        second = self.peer("127.0.0.2")
        outcomes = await self.deliver(None, (BOB, CAROL))
        self.says(outcomes, BOB, FAILED, "5.1.1")
        self.says(outcomes, CAROL, DELIVERED, "2.0.0")
        self.assertNotIn("RCPT TO:<bob@there.test>", second.heard)

    async def test_most_telling(self):
        """What one host replied is told rather than that another is dead; and
        one that is dead may live again."""
        self.two(10, 20)
        self.peer(RCPT="450 4.2.0 Greylisted")
        self.says(await self.deliver(), BOB, DEFERRED, "4.2.0")
        await self.peers.pop().stop()
        self.peer(GREETING="521 5.3.2 No mail here")
        self.says(await self.deliver(), BOB, DEFERRED, "4.4.1")

    async def test_limits(self):
        """Only so many hosts hear of a message, and only so many addresses are
        tried."""
        self.two(1, 2, 3, 4)
        peers = [
            self.peer(f"127.0.0.{n}", MAIL="450 4.0.0 Later") for n in (1, 2, 3, 4)
        ]
        await self.deliver()
        self.assertEqual([peer.connections for peer in peers], [1, 1, 0, 0])
        await self.deliver(self.agent(addresses=1))
        self.assertEqual([peer.connections for peer in peers], [2, 1, 0, 0])

    async def test_lost_after_the_dot(self):
        """When the answer to the whole message is lost it is not sent to
        another host at once, but deferred."""
        self.two(10, 20)
        self.peer(END=DROP)
        second = self.peer("127.0.0.2")
        text = self.says(await self.deliver(), BOB, DEFERRED, "4.4.2")
        self.assertIn("twice", text)
        self.assertEqual(second.connections, 0)

    async def test_refused_within_content(self):
        """A server that says why and hangs up within the content is heard."""

        def full(protocol):
            protocol.say("354 Go on")
            protocol.say("552 5.3.4 Too long for me")
            protocol.content = b""
            protocol.transport.loseConnection()

        self.peer(DATA=full, offers=())
        outcomes = await self.deliver(None, content=Long(32 << 20))
        self.assertIn(outcomes[BOB].result, (FAILED, DEFERRED))

    async def test_ipv6(self):
        """A host with IPv6 alone is reached."""
        self.names = Names({"there.test": [(1, "mx.test")]}, {"mx.test": ["::1"]})
        self.peer("::1")
        outcomes = await self.deliver()
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.assertEqual(outcomes[BOB].remote, f"mx.test[::1]:{self.port}")

    async def test_both_families(self):
        """If one family does not work the other is tried."""
        self.names = Names(
            {"there.test": [(1, "mx.test")]}, {"mx.test": ["::1", "127.0.0.1"]}
        )
        self.peer()
        self.says(await self.deliver(), BOB, DELIVERED, "2.0.0")

    async def test_smarthost(self):
        """A next hop with a port is a host: no MX is asked for, and it may be
        here."""
        peer = self.peer()
        agent = self.agent(port=25, loopback=False)
        for hop in (f"[127.0.0.1]:{self.port}", f"127.0.0.1:{self.port}"):
            self.says(await self.deliver(agent, next_hop=hop), BOB, DELIVERED, "2.0.0")
        self.assertEqual(self.names.asked, [])
        self.assertEqual(len(peer.messages), 2)

    async def test_source(self):
        """We connect from the address that the settings name."""
        peer = self.peer()
        from_ = []
        peer.replies["GREETING"] = lambda p: (
            from_.append(p.transport.getPeer().host),
            p.say("220 Hi"),
        )
        await self.deliver(self.agent(sources=("::1", "127.0.0.9")))
        self.assertEqual(from_, ["127.0.0.9"])
        outcomes = await self.deliver(self.agent(sources=("192.0.2.1",)))
        self.says(outcomes, BOB, DEFERRED, "4.4.1")


class TlsCase(AgentCase):
    """A server with a certificate for C{mx.there.test}."""

    OFFERS = (*OFFERS, "STARTTLS", "AUTH PLAIN LOGIN")

    def setUp(self):
        super().setUp()
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        pair = Pair(directory / "cert.pem", directory / "key.pem")
        self_signed(pair, ["mx.there.test"])
        self.pair = pair.certificate, pair.key
        self.tls = ServerTls([pair])
        self.trust = pair.certificate

    def secured(self, offers=OFFERS, **replies):
        return self.peer(offers=offers, tls=self.tls, **replies)


class TlsTests(TlsCase):
    """STARTTLS and AUTH."""

    async def test_may(self):
        """TLS is used where it is offered, whatever the certificate says."""
        peer = self.secured()
        self.says(await self.deliver(), BOB, DELIVERED, "2.0.0")
        self.assertEqual(peer.verbs()[:4], ["EHLO", "STARTTLS", "EHLO", "MAIL"])

    async def test_none(self):
        """TLS is not used when the settings say so."""
        peer = self.secured()
        await self.deliver(self.agent(tls=Tls.NONE))
        self.assertNotIn("STARTTLS", peer.verbs())

    async def test_h51_starttls_broken(self):
        """With C{may}, a server whose TLS fails gets the mail without; with
        C{encrypt} it does not get it."""

        def garbage(protocol):
            protocol.say("220 Ready")
            protocol.dataReceived = lambda _: protocol.say("this is no TLS at all")

        for reply in (garbage, "454 4.7.0 Not now"):
            self.port = 0
            peer = self.secured(STARTTLS=reply)
            self.says(await self.deliver(), BOB, DELIVERED, "2.0.0")
            outcomes = await self.deliver(self.agent(tls=Tls.ENCRYPT))
            self.assertEqual(outcomes[BOB].result, DEFERRED)
            self.assertEqual(len(peer.messages), 1)

    async def test_h51_starttls_stripped(self):
        """With C{encrypt} a server that does not offer TLS gets no mail."""
        peer = self.peer()
        for tls in (Tls.ENCRYPT, Tls.VERIFY):
            outcomes = await self.deliver(self.agent(tls=tls))
            self.says(outcomes, BOB, DEFERRED, "4.7.4")
        self.assertNotIn("MAIL", peer.verbs())

    async def test_h51_injected_before_tls(self):
        """What a server sends between its answer to STARTTLS and TLS is not
        heard as said under TLS."""

        def inject(protocol):
            protocol.transport.write(b"220 Ready\r\n250-x\r\n250 SIZE 1\r\n")
            protocol.transport.startTLS(self.tls)

        peer = self.secured(STARTTLS=inject)
        await self.deliver()
        self.assertEqual(peer.verbs()[:3], ["EHLO", "STARTTLS", "EHLO"])

    async def test_h51_bad_certificate(self):
        """With C{verify} only the right certificate will do."""
        peer = self.secured()
        outcomes = await self.deliver(self.agent(tls=Tls.VERIFY))
        self.says(outcomes, BOB, DEFERRED, "4.7.5")
        self.assertNotIn("MAIL", peer.verbs())
        self.names._mx["there.test"] = [(1, "mx2.there.test")]
        self.names._addresses["mx2.there.test"] = ["127.0.0.1"]
        outcomes = await self.deliver(self.agent(tls=Tls.VERIFY, trust=self.trust))
        self.says(outcomes, BOB, DEFERRED, "4.7.5")
        self.assertNotIn("MAIL", peer.verbs())

    async def test_verified(self):
        """A certificate that is trusted for the host's name will do."""
        self.secured()
        outcomes = await self.deliver(self.agent(tls=Tls.VERIFY, trust=self.trust))
        self.says(outcomes, BOB, DELIVERED, "2.0.0")

    async def test_implicit(self):
        """TLS can begin with the connection."""
        peer = self.peer(
            offers=self.OFFERS,
            GREETING=lambda p: (p.transport.startTLS(self.tls), p.say("220 Hi")),
        )
        outcomes = await self.deliver(self.agent(implicit_tls=True))
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.assertNotIn("STARTTLS", peer.verbs())

    async def test_implicit_fails(self):
        """If it does not, the mail is deferred."""
        self.peer()
        outcomes = await self.deliver(self.agent(implicit_tls=True))
        self.says(outcomes, BOB, DEFERRED, "4.4.1")

    async def test_auth(self):
        """We log in where the settings have a password, after TLS."""
        peer = self.secured()
        agent = self.agent(credentials=Credentials("us", "secret"))
        self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")
        self.assertEqual(peer.heard[3], "AUTH PLAIN AHVzAHNlY3JldA==")

    async def test_auth_login(self):
        """LOGIN is spoken where there is no PLAIN."""
        peer = self.peer(
            offers=("AUTH LOGIN",),
            AUTH="334 VXNlcm5hbWU6",
            **{"dXM=": "334 UGFzc3dvcmQ6", "c2VjcmV0": "235 Ok"},
        )
        peer.replies |= {"DXM=": "334 UGFzc3dvcmQ6", "C2VJCMV0": "235 Ok"}
        agent = self.agent(credentials=Credentials("us", "secret"), tls=Tls.NONE)
        self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")

    async def test_auth_refused(self):
        """A password that is refused defers: the operator can mend it."""
        self.secured(AUTH="535 5.7.8 Wrong")
        agent = self.agent(credentials=Credentials("us", "secret"))
        self.says(await self.deliver(agent), BOB, DEFERRED, "4.7.8")

    async def test_auth_not_in_the_clear(self):
        """A password does not go out in the clear because TLS failed or was
        stripped, but if TLS is switched off."""
        login = Credentials("us", "secret")
        peer = self.peer(offers=("AUTH PLAIN",))
        outcomes = await self.deliver(self.agent(credentials=login))
        self.says(outcomes, BOB, DEFERRED, "4.7.4")
        self.assertNotIn("AUTH", peer.verbs())
        agent = self.agent(credentials=login, tls=Tls.NONE)
        self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")

    async def test_auth_unknown(self):
        """A server with no mechanism that we have defers."""
        self.peer(offers=("AUTH GSSAPI",))
        agent = self.agent(credentials=Credentials("us", "secret"), tls=Tls.NONE)
        self.says(await self.deliver(agent), BOB, DEFERRED, "4.7.0")


class HostileTests(AgentCase):
    """Row 51: next hops that mean ill. Each attempt ends, in bounded memory
    and time, deferred."""

    async def silent(self, stage, seconds, **replies):
        """A server that is silent at a stage is left after its time."""
        self.port = 0
        peer = self.peer(offers=(), **replies)
        delivery = ensureDeferred(self.deliver())
        await turns(lambda: peer.open and stage in ("GREETING", *peer.verbs()))
        await turns(iter((False, False, False, True)).__next__)
        self.clock.advance(seconds - 1)
        await turns(iter((False, False, True)).__next__)
        self.assertNoResult(delivery)
        self.clock.advance(1)
        status = "4.4.1" if stage == "GREETING" else "4.4.2"
        self.says(await delivery, BOB, DEFERRED, status)

    async def test_h51_hang(self):
        """A server that says nothing is waited for as long as RFC 5321 4.5.3.2
        says, at each stage."""
        for stage, seconds in (
            ("GREETING", 300),
            ("EHLO", 300),
            ("MAIL", 300),
            ("RCPT", 300),
            ("DATA", 120),
            ("END", 600),
        ):
            await self.silent(stage, seconds, **{stage: HANG})

    async def test_h51_dripping(self):
        """One octet at a time buys no more time than none."""
        peer = self.peer(GREETING=HANG)
        delivery = ensureDeferred(self.deliver())
        await turns(lambda: peer.open)
        (protocol,) = peer.open
        for _ in range(9):
            protocol.transport.write(b"2")
            await turns(iter((False, False, False, True)).__next__)
            self.clock.advance(30)
        self.assertNoResult(delivery)
        self.clock.advance(30)
        self.says(await delivery, BOB, DEFERRED, "4.4.1")

    async def test_h51_message_in_all(self):
        """A server that answers each command at the last moment is left when
        the message has taken its time."""
        peer = self.peer(RCPT=HANG, offers=())
        people = [Address(f"p{number}", "there.test") for number in range(40)]
        delivery = ensureDeferred(self.deliver(None, people))
        for number in range(1, 25):
            await turns(lambda n=number: peer.verbs().count("RCPT") == n)
            self.assertNoResult(delivery)
            self.clock.advance(299)
            for protocol in peer.open:
                protocol.say("250 Ok")
        await turns(lambda: peer.verbs().count("RCPT") == 25)
        self.clock.advance(30)
        outcomes = await delivery
        self.assertEqual({o.status for o in outcomes.values()}, {"4.4.2"})

    async def test_h51_endless_banner(self):
        """A greeting without end is cut off after some kilobytes."""
        sent = []

        def flood(protocol):
            if not protocol.peer.open:
                return
            sent.append(protocol.transport.write(b"x" * 65536))
            reactor.callLater(0, flood, protocol)

        for begin in (b"220-", b"220-\r\n" * 200):
            del sent[:]
            self.port = 0
            self.peer(GREETING=lambda p, b=begin: (p.transport.write(b), flood(p)))
            self.says(await self.deliver(), BOB, DEFERRED, "4.5.0")
            self.assertLess(len(sent), 100)

    async def test_h51_endless_reply(self):
        """So is a reply of lines without end."""

        def flood(protocol):
            if protocol.peer.open:
                protocol.transport.write(b"250-more\r\n" * 1000)
                reactor.callLater(0, flood, protocol)

        self.peer(EHLO=flood)
        self.says(await self.deliver(), BOB, DEFERRED, "4.5.0")

    async def test_h51_reply_codes(self):
        """What is no reply code is no reply."""
        for reply in ("000 Ok", "999 Ok", "25 Ok", "Ok", "250Ok", "2500 Ok", "150 x"):
            for verb in ("GREETING", "MAIL", "END"):
                self.port = 0
                self.peer(**{verb: reply})
                self.says(await self.deliver(), BOB, DEFERRED, "4.5.0")

    async def test_h51_out_of_step(self):
        """A connection whose server answers what it was not asked is not used
        again: its next command might be read as content."""
        for replies in (
            {"END": "250 Ok\r\n250 Ok"},
            {"RCPT": ["250 Ok\r\n250 Ok", "250 Ok"]},
            {"DATA": ["250 Ok", "354 Go on"]},
        ):
            self.port = 0
            peer = self.peer(**replies)
            agent = self.agent()
            await self.deliver(agent)
            self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")
            self.assertEqual(peer.connections, 2)
            self.assertEqual(peer.messages[-1], PREFIX + MESSAGE)
            self.assertNotIn("RSET", peer.verbs())

    async def test_h51_garbage(self):
        """Whatever a server says, the attempt ends with an outcome; delivered
        only if the whole message was answered by 2yz."""
        chance = random.Random(51)
        texts = ["250", "354 ", "5", "\r\n", "-", " ", "\xff", "\0", "220-x", "4.2.0"]
        for _ in range(150):
            self.port = 0
            verb = chance.choice(("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "END"))
            text = "".join(chance.choices(texts, k=chance.randint(0, 12)))

            def say(protocol, text=text):
                protocol.transport.write(text.encode("latin-1") + b"\r\n")
                protocol.transport.loseConnection()

            peer = self.peer(**{verb: say})
            outcome = (await self.deliver())[BOB]
            if outcome.result is DELIVERED:
                self.assertEqual(verb, "END")
                self.assertRegex(text, r"^2[0-5][0-9]")
            await peer.stop()

    async def test_h51_self_loop(self):
        """Mail is not sent to ourselves, be it by name, by address or by the
        loopback, nor to mail exchangers that are no better."""
        cases = [
            ({}, [(1, "here.test")], False),
            ({"own_names": frozenset({"nat.test"})}, [(1, "nat.test")], False),
            ({}, [(1, "me.test")], True),
            ({"loopback": False}, [(1, "me.test")], False),
            ({}, [(1, "here.test"), (2, "other.test")], False),
            ({}, [(1, "me.test"), (1, "other.test"), (2, "other.test")], True),
        ]
        for settings, records, listening in cases:
            self.port = 0
            peer, other = self.peer(), self.peer("127.0.0.2")
            self.names = Names(
                {"there.test": records},
                {"me.test": ["127.0.0.1"], "other.test": ["127.0.0.2"]},
            )
            agent = self.agent(
                (lambda: [("127.0.0.1", self.port)]) if listening else tuple, **settings
            )
            self.says(await self.deliver(agent), BOB, FAILED, "5.4.6")
            self.assertEqual(peer.connections + other.connections, 0)

    async def test_mistaken(self):
        """Where an operator sends mail to a domain that is not there, it waits until he
        mends that; mail for such a domain is returned."""
        self.names = Names({"null.test": [(0, "")]}, {})
        for next_hop, status in (("nowhere.test", "5.1.2"), ("null.test", "5.1.10")):
            named = await self.deliver(next_hop=next_hop)
            self.says(named, BOB, DEFERRED, "4.3.5")
            own = Address("bob", next_hop.upper())
            returned = await self.deliver(None, (own,), next_hop=next_hop)
            self.says(returned, own, FAILED, status)

    async def test_h51_better_than_self(self):
        """Mail exchangers that are better than ourselves are spoken to."""
        self.names = Names(
            {"there.test": [(1, "other.test"), (5, "me.test")]},
            {"me.test": ["127.0.0.1"], "other.test": ["127.0.0.2"]},
        )
        self.peer("127.0.0.2")
        agent = self.agent(lambda: [("0.0.0.0", self.port)])
        # Listening everywhere, 127.0.0.2 is ours too, as all of 127/8.
        self.says(await self.deliver(agent), BOB, FAILED, "5.4.6")
        agent = self.agent(lambda: [("127.0.0.1", self.port)])
        self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")

    async def test_cancelled(self):
        """An attempt that is cancelled hangs up; half a message is not taken
        for whole."""
        peer = self.peer(DATA=HANG)
        delivery = ensureDeferred(self.deliver())
        await turns(lambda: "DATA" in peer.verbs())
        delivery.cancel()
        self.failureResultOf(delivery)
        await turns(lambda: not peer.open)
        self.assertEqual(peer.messages, [])

    async def test_cancelled_after_some(self):
        """Who has the message when it is cancelled is not to get it again."""
        peer = self.peer(END=["250 2.0.0 Ok", HANG])
        agent = self.agent(recipients=1)
        delivery = ensureDeferred(self.deliver(agent, (BOB, CAROL)))
        await turns(lambda: peer.verbs().count("END") == 2)
        delivery.cancel()
        outcomes = self.successResultOf(delivery)
        self.assertEqual(set(outcomes), {BOB})
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        await turns(lambda: not peer.open)
