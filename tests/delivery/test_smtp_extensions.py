"""What the SMTP agent makes of the extensions that a server offers."""

from base64 import b64decode, b64encode
from functools import partial
from pathlib import Path

from tests.delivery.peer import DROP, OFFERS, Content, Long, Peer, Vanishing
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
    TlsCase,
)
from tests.net.authority import authority
from twisted_mta.delivery.smtp.settings import Tls, TokenFile
from twisted_mta.errors import AuthenticationFailed
from twisted_mta.mail.address import Address
from twisted_mta.mail.channel import CertifiedNames
from twisted_mta.mail.envelope import Body, DeliverBy, Handling, Origin
from twisted_mta.net.tls import Pair, ServerTls, certified, channel_binding
from twisted_mta.wire.sasl import Credentials
from twisted_mta.wire.saslclient import Certified
from twisted_mta.wire.scram import ScramServer, make_keys

CHUNKING = (*OFFERS, "CHUNKING")
BINARY = (*CHUNKING, "BINARYMIME")

IMAGE = (
    b"MIME-Version: 1.0\r\nContent-Type: image/png\r\n"
    b"Content-Transfer-Encoding: binary\r\n\r\n\0\r\n.\r\n\n\xff\r"
)


class ChunkingTests(AgentCase):
    """BDAT (RFC 3030)."""

    async def test_small(self):
        """A small message goes out with the commands, as one chunk; its line ends
        and its dots are as with DATA."""
        content = b"a\n.\nMAIL FROM:<x@y>\r.\r\n..\r\n.\r\n\r.\nend\r"
        messages = []
        for offers in (CHUNKING, OFFERS):
            self.port = 0
            peer = self.peer(offers=offers)
            outcomes = await self.deliver(None, content=content)
            self.says(outcomes, BOB, DELIVERED, "2.0.0")
            messages += peer.messages
            self.assertEqual(peer.verbs()[:3], ["EHLO", "MAIL", "RCPT"])
            self.assertEqual("BDAT" in peer.verbs(), offers is CHUNKING)
            self.assertNotIn("RSET", peer.verbs())
        self.assertEqual(messages[0], messages[1])

    async def test_without_waiting(self):
        """All of it goes out before any answer to it has come."""
        held = []
        peer = self.peer(offers=CHUNKING, MAIL=held.append, RCPT=held.append)
        peer.replies["END"] = lambda p: [
            p.say("250 2.0.0 Ok") for _ in (*held, "the end")
        ]
        self.says(await self.deliver(), BOB, DELIVERED, "2.0.0")
        self.assertEqual(len(held), 2)

    async def test_not_used(self):
        """Larger messages go with DATA; so do all where the settings say so, or the
        server wants an answer read before the next command."""
        for offers, content, settings in (
            (CHUNKING, Long(1 << 20), {}),
            (CHUNKING, MESSAGE, {"without": frozenset({"CHUNKING"})}),
            (("CHUNKING",), MESSAGE, {}),
        ):
            self.port = 0
            peer = self.peer(offers=offers)
            outcomes = await self.deliver(self.agent(**settings), content=content)
            self.says(outcomes, BOB, DELIVERED, "2.0.0")
            self.assertIn("DATA", peer.verbs())
            self.assertNotIn("BDAT", peer.verbs())

    async def test_refused(self):
        """Each recipient has its answer; if all are refused, so is the chunk, and
        the connection goes on."""
        peer = self.peer(
            offers=CHUNKING,
            RCPT=["250 Ok", "550 5.1.1 Who?", "550 5.1.1 Who?", "250 Ok"],
            END=["250 2.0.0 Ok", "554 5.5.1 No valid recipients", "452 4.3.1 Full"],
        )
        agent = self.agent()
        outcomes = await self.deliver(agent, (BOB, CAROL))
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.says(outcomes, CAROL, FAILED, "5.1.1")
        self.says(await self.deliver(agent), BOB, FAILED, "5.1.1")
        self.says(await self.deliver(agent), BOB, DEFERRED, "4.3.1")
        self.assertEqual(peer.connections, 1)

    async def test_refused_mail(self):
        """If MAIL is refused nothing of what follows it means anything."""
        peer = self.peer(
            offers=CHUNKING,
            MAIL=["550 5.7.1 Not you", "250 Ok"],
            RCPT=["503 5.5.1 MAIL first", "250 Ok"],
            END=["503 5.5.1 MAIL first", "250 Ok"],
        )
        agent = self.agent()
        self.says(await self.deliver(agent), BOB, FAILED, "5.7.1")
        self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")
        self.assertEqual(peer.connections, 1)

    async def test_for_nobody(self):
        """A server that takes a message for nobody is not spoken to any more."""
        peer = self.peer(offers=CHUNKING, RCPT="450 4.2.0 Later")
        agent = self.agent()
        for connections in (1, 2):
            self.says(await self.deliver(agent), BOB, DEFERRED, "4.2.0")
            self.assertEqual(peer.connections, connections)

    async def test_lost(self):
        """Once all was sent, no other host is tried at once if the answer is lost,
        at whatever command; but a connection that had been idle is replaced."""
        self.names._mx["there.test"].append((20, "mx2.there.test"))
        self.names._addresses["mx2.there.test"] = ["127.0.0.2"]
        for verb in ("MAIL", "RCPT", "END"):
            self.port = 0
            self.peer(offers=CHUNKING, **{verb: DROP})
            second = self.peer("127.0.0.2", offers=CHUNKING)
            self.says(await self.deliver(), BOB, DEFERRED, "4.4.2")
            self.assertEqual(second.connections, 0)
        self.port = 0
        peer = self.peer(offers=CHUNKING, RSET=lambda p: p.transport.abortConnection())
        agent = self.agent()
        for connections in (1, 2):
            self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")
            self.assertEqual(peer.connections, connections)


class BinaryTests(AgentCase):
    """BINARYMIME (RFC 3030)."""

    async def binary(self, content=IMAGE, **settings):
        return await self.deliver(
            self.agent(**settings), content=content, body=Body.BINARY, eight_bit=True
        )

    async def test_as_it_is(self):
        """A server that takes binary content gets it as it is, in chunks."""
        for offers in (BINARY, ("CHUNKING", "BINARYMIME")):
            self.port = 0
            peer = self.peer(offers=offers)
            self.says(await self.binary(), BOB, DELIVERED, "2.0.0")
            self.assertEqual(peer.messages, [PREFIX + IMAGE])
            self.assertTrue(peer.heard[1].endswith(" BODY=BINARYMIME"))
            self.assertNotIn("DATA", peer.verbs())
            self.assertEqual(peer.heard[-1], "BDAT 0 LAST")

    async def test_large(self):
        """A large one too."""
        content = Content(IMAGE + bytes(300_000))
        peer = self.peer(offers=BINARY)
        self.says(await self.binary(content), BOB, DELIVERED, "2.0.0")
        self.assertEqual(peer.messages, [PREFIX + content.octets])
        self.assertGreater(peer.verbs().count("BDAT"), 4)

    async def test_chunk_refused(self):
        """If a chunk is refused nothing more is sent; the next message goes over
        the same connection."""
        refusals = ["250 Ok", "552 5.3.4 Too large", "503 5.5.1 No"]
        content = Content(IMAGE + bytes(300_000))
        peer = self.peer(offers=BINARY, BDAT=[*refusals, "250 Ok"])
        agent = self.agent()
        outcomes = await self.deliver(agent, content=content, body=Body.BINARY)
        self.says(outcomes, BOB, FAILED, "5.3.4")
        self.assertEqual((peer.messages, peer.verbs().count("BDAT")), ([], 3))
        self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")
        self.assertEqual((peer.connections, peer.verbs().count("RSET")), (1, 1))

    async def test_last_refused(self):
        """So it is at the end."""
        self.peer(offers=BINARY, BDAT=["250 Ok", "452 4.3.1 Full"], END="503 5.5.1 No")
        self.says(await self.binary(), BOB, DEFERRED, "4.3.1")

    async def test_content_gone(self):
        """Content that ends too early is not taken for whole."""
        peer = self.peer(offers=BINARY)
        self.says(await self.binary(Vanishing(1 << 20)), BOB, DEFERRED, "4.3.0")
        self.assertEqual(peer.messages, [])
        self.assertNotIn("QUIT", peer.verbs())

    async def test_encoded(self):
        """For others it is encoded; what is 8-bit text besides stays so where that is
        possible."""
        text = (
            b"Content-Type: multipart/mixed; boundary=b\r\nMIME-Version: 1.0\r\n\r\n"
            b"--b\r\n\r\n\xe4 text of some length, of one line\r\n--b\r\n"
            + IMAGE
            + b"\r\n--b--\r\n"
        )
        for offers, eight_bit in (
            (CHUNKING, True),
            (("BINARYMIME", "8BITMIME"), True),
            ((), False),
        ):
            self.port = 0
            peer = self.peer(offers=offers)
            self.says(await self.binary(text), BOB, DELIVERED, "2.0.0")
            (message,) = peer.messages
            self.assertEqual(b"\xe4 text" in message, eight_bit)
            self.assertIn(b"base64", message)
            self.assertNotIn(b"\0", message)
            self.assertEqual("BODY=8BITMIME" in peer.heard[1], eight_bit)
            self.assertNotIn("SIZE", peer.heard[1])

    async def test_encoded_once(self):
        """How it is encoded is found out once for all transactions."""

        class Counted(Content):
            times = 0

            async def read(self, offset, most):
                self.times += 1
                return await super().read(offset, most)

        times = []
        for recipients in ((BOB,), (BOB, CAROL, DAVE)):
            self.port = 0
            peer = self.peer(offers=())
            content = Counted(IMAGE)
            await self.deliver(
                self.agent(recipients=1), recipients, content=content, body=Body.BINARY
            )
            self.assertEqual(len(set(peer.messages)), 1)
            self.assertEqual(len(peer.messages), len(recipients))
            times.append(content.times)
        sent = 2  # a header and a body
        self.assertEqual(times[1] - times[0], 2 * sent)

    async def test_not_to_be_encoded(self):
        """What must not be changed fails."""
        peer = self.peer(offers=())
        signed = (
            b"MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n"
            b"--b\r\n\r\n\xe4\r\n--b--\r\n"
        )
        text = self.says(await self.binary(signed), BOB, FAILED, "5.6.3")
        self.assertIn("signed", text)
        self.assertNotIn("MAIL", peer.verbs())


class LimitsTests(AgentCase):
    """LIMITS (RFC 9422)."""

    people = tuple(Address(f"p{number}", "there.test") for number in range(7))

    async def all_delivered(self, recipients, offers, agent=None):
        outcomes = await self.deliver(agent, recipients)
        self.assertEqual({o.result for o in outcomes.values()}, {DELIVERED})
        self.assertEqual(set(outcomes), set(recipients))

    async def test_recipients(self):
        """No transaction has more recipients than the server takes."""
        peer = self.peer(offers=(*OFFERS, "LIMITS RCPTMAX=3"))
        await self.all_delivered(self.people, peer)
        self.assertEqual((peer.connections, len(peer.messages)), (1, 3))

    async def test_transactions(self):
        """No connection has more transactions; it takes as many connections as it
        takes, and each message thereafter counts too."""
        peer = self.peer(offers=(*OFFERS, "LIMITS MAILMAX=2 RCPTMAX=2"))
        agent = self.agent()
        await self.all_delivered(self.people[:3], peer, agent)
        self.assertEqual((peer.connections, len(peer.messages)), (1, 2))
        await self.all_delivered(self.people[:5], peer, agent)
        self.assertEqual((peer.connections, len(peer.messages)), (3, 5))

    async def test_domains(self):
        """No connection has recipients of more domains."""
        peer = self.peer(offers=(*OFFERS, "LIMITS RCPTDOMAINMAX=1"))
        agent = self.agent()
        others = [Address(f"p{number}", "other.test") for number in range(2)]
        people = [BOB, others[0], CAROL, others[1], DAVE]
        await self.all_delivered(people, peer, agent)
        self.assertEqual((peer.connections, len(peer.messages)), (2, 2))
        await self.all_delivered(people[:1], peer, agent)
        self.assertEqual(peer.connections, 3)

    async def test_h51_too_little(self):
        """A server that takes next to nothing over a connection is left when the
        message has taken its time; nobody gets it twice."""

        def slow(protocol):
            self.clock.advance(599)
            protocol.say("250 2.0.0 Ok")

        people = [Address(f"p{number}", "there.test") for number in range(40)]
        peer = self.peer(offers=(*OFFERS, "LIMITS MAILMAX=1 RCPTMAX=1"), END=slow)
        outcomes = await self.deliver(None, people)
        results = [outcomes[who].result for who in people]
        done = results.count(DELIVERED)
        self.assertEqual(results, [DELIVERED] * done + [DEFERRED] * (40 - done))
        self.assertEqual((peer.connections, done), (13, 13))
        self.assertEqual(outcomes[people[-1]].status, "4.5.3")

    async def test_dead_on_the_way(self):
        """If the next connection cannot be had, those that wait are deferred, and
        the others have what they have."""
        peer = self.peer(
            offers=(*OFFERS, "LIMITS MAILMAX=1 RCPTMAX=1"),
            GREETING=["220 Hi", "421 4.3.2 Busy"],
        )
        outcomes = await self.deliver(None, (BOB, CAROL))
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.says(outcomes, CAROL, DEFERRED, "4.3.2")
        self.assertEqual(len(peer.messages), 1)


class AskedTests(AgentCase):
    """What a sender asks of everybody on the way."""

    async def mail(self, offers, handling):
        self.port = 0
        peer = self.peer(offers=offers)
        outcomes = await self.deliver(handling=handling)
        said = peer.heard[1].split()[2:] if peer.messages else None
        return outcomes, said

    async def test_priority(self):
        """MT-PRIORITY (RFC 6710) is passed on to a server that has it."""
        for priority in (-3, 9):
            asked = Handling(priority=priority)
            _, said = await self.mail(("MT-PRIORITY",), asked)
            self.assertEqual(said, [f"MT-PRIORITY={priority}"])
            self.assertEqual((await self.mail((), asked))[1], [])

    async def test_future_release(self):
        """What was held back here until its time is not held back again."""
        asked = Handling(release_at=1.0)
        offers = ("FUTURERELEASE 9999 2030-01-01T00:00:00Z",)
        self.assertEqual((await self.mail(offers, asked))[1], [])

    async def test_deliver_by(self):
        """DELIVERBY (RFC 2852) is passed on with the time that is left."""
        self.clock.advance(100.5)
        for by, said in (
            (DeliverBy(160, True), "BY=60;R"),
            (DeliverBy(160, False, True), "BY=60;NT"),
            (DeliverBy(40, False), "BY=-60;N"),
        ):
            for offers in (("DELIVERBY",), ("DELIVERBY 30",)):
                outcomes, heard = await self.mail(offers, Handling(by=by))
                self.assertEqual(heard, [said])
                action = "traced" if by.trace else "relayed"
                self.assertEqual(outcomes[BOB].action, action)

    async def test_deliver_by_refused(self):
        """What shall be returned when it is late does not go where nobody promises
        the time; what shall only be told of goes on."""
        self.clock.advance(100)
        for offers, by, status in (
            ((), DeliverBy(160, True), "5.3.3"),
            (("DELIVERBY 120",), DeliverBy(160, True), "5.4.7"),
            (("DELIVERBY",), DeliverBy(100, True), "5.4.7"),
        ):
            outcomes, heard = await self.mail(offers, Handling(by=by))
            self.says(outcomes, BOB, FAILED, status)
            self.assertIsNone(heard)
        outcomes, heard = await self.mail((), Handling(by=DeliverBy(160, False)))
        self.assertEqual((heard, outcomes[BOB].action), ([], "traced"))

    async def test_origin(self):
        """A server that offers XFORWARD is told where mail came from, as much as it
        wants to know, if the settings say so; its refusal changes nothing."""
        origin = Origin("ESMTP", "2001:db8::1", 4711, "a+b")
        offers = (*OFFERS, "XFORWARD ADDR PORT HELO PROTO NAME SOURCE")
        for reply in ("250 Ok", "550 5.7.1 No"):
            for settings, said in (
                ({}, []),
                (
                    {"xforward": True},
                    [
                        "XFORWARD ADDR=IPV6:2001:db8::1 PORT=4711 HELO=a+2Bb"
                        " PROTO=ESMTP SOURCE=REMOTE"
                    ],
                ),
            ):
                self.port = 0
                peer = self.peer(offers=offers, XFORWARD=reply)
                outcomes = await self.deliver(self.agent(**settings), origin=origin)
                self.says(outcomes, BOB, DELIVERED, "2.0.0")
                self.assertEqual(
                    [line for line in peer.heard if line.startswith("X")], said
                )
        await self.deliver(self.agent(xforward=True))
        self.assertEqual(
            peer.heard[-5],
            "XFORWARD ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] HELO=[UNAVAILABLE]"
            " PROTO=[UNAVAILABLE] SOURCE=LOCAL",
        )


class _Asking(Peer):
    """A server that logs in by SCRAM or with a client's certificate."""

    def __init__(self, offers, tls, keys):
        super().__init__(offers, tls)
        self.keys = keys
        self.scram = None
        self.names = []

    def reply(self, verb):
        line = self.heard[-1] if self.heard else ""
        words = line.split(" ")
        if words[0] == "AUTH" and words[1].startswith("SCRAM"):
            (server,) = self.open
            binding = partial(channel_binding, server.transport.getHandle())
            self.scram = ScramServer(words[1], binding)
            try:
                wanted = self.scram.first(b64decode(words[2]))
            except AuthenticationFailed:
                self.scram = None
                return "535 5.7.8 No"
            self.names.append((words[1], wanted.name))
            return "334 " + b64encode(self.scram.found(self.keys)).decode()
        if words[0] == "AUTH" and words[1] == "EXTERNAL":
            (server,) = self.open
            self.names.append((words[2], certified(server.transport.getHandle())))
            return "235 2.7.0 Ok"
        if self.scram is not None and " " not in line:
            if not line:
                self.scram = None
                return "235 2.7.0 Ok"
            return "334 " + b64encode(self.scram.final(b64decode(line))).decode()
        return super().reply(verb)


class LoginTests(TlsCase):
    """How we log in."""

    login = Credentials("us", "secret")

    def asking(self, mechanisms, tls=None):
        keys = make_keys("SCRAM-SHA-256", "secret")
        offers = (*OFFERS, "STARTTLS", f"AUTH {mechanisms}")
        peer = _Asking(offers, tls or self.tls, keys)
        self.port = peer.listen(0)
        self.peers.append(peer)
        return peer

    async def test_scram(self):
        """SCRAM is tied to the connection where the server can do that; if somebody
        in between hides that it can, we do not log in."""
        agent = {"credentials": self.login}
        peer = self.asking("PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS")
        self.says(await self.deliver(self.agent(**agent)), BOB, DELIVERED, "2.0.0")
        self.assertEqual(peer.names, [("SCRAM-SHA-256-PLUS", "us")])
        self.asking("PLAIN SCRAM-SHA-256")
        self.says(await self.deliver(self.agent(**agent)), BOB, DEFERRED, "4.7.8")

    async def test_token(self):
        """A token is read for each login; a server that refuses it has its answer."""
        path = Path(self.mktemp())
        for mechanism, answer in (("OAUTHBEARER", "AQ=="), ("XOAUTH2", "")):
            token = TokenFile("us@x", path)
            self.port = 0
            peer = self.secured((*OFFERS, "STARTTLS", f"AUTH {mechanism}"))
            agent = self.agent(credentials=token, idle_connections=0)
            path.unlink(missing_ok=True)
            outcomes = await self.deliver(agent)
            self.assertIn("token", self.says(outcomes, BOB, DEFERRED, "4.7.0"))
            for text in ("abc", "def"):
                path.write_text(f"{text}\n")
                self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")
                said = [line for line in peer.heard if line.startswith("AUTH")][-1]
                _, used, initial = said.split(" ")
                self.assertEqual(used, mechanism)
                self.assertIn(f"Bearer {text}\1".encode(), b64decode(initial))
            peer.replies["AUTH"] = "334 eyJzdGF0dXMiOiI0MDEifQ=="
            peer.replies[answer.upper()] = "535 5.7.8 Token ended"
            self.says(await self.deliver(agent), BOB, DEFERRED, "4.7.8")
            self.assertIn(answer, peer.heard)

    async def test_certificate(self):
        """With a certificate alone we log in where that is offered; where it is not,
        it is shown all the same."""
        path = Path(self.mktemp())
        path.mkdir()
        pair = authority(path, "us", "us@here.test")
        tls = ServerTls([Pair(*self.pair)], authorities=pair.certificate)
        for mechanisms, names in (
            ("EXTERNAL PLAIN", [("=", CertifiedNames(("us@here.test",), ("us",)))]),
            ("PLAIN", []),
        ):
            for settings in ({}, {"tls": Tls.VERIFY, "trust": self.trust}):
                peer = self.asking(mechanisms, tls)
                agent = self.agent(pair=pair, credentials=Certified(), **settings)
                self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")
                self.assertEqual(peer.names, names)


class RequireTlsTests(TlsCase):
    """REQUIRETLS and TLS-Required (RFC 8689)."""

    strict = Handling(require_tls=True)
    optional = b"TLS-Required: no\r\n" + MESSAGE

    async def test_passed_on(self):
        """It goes to a server with a right certificate that promises the same; never
        over a connection that was not made for such."""
        peer = self.secured((*self.OFFERS, "REQUIRETLS"))
        agent = self.agent(tls=Tls.VERIFY, trust=self.trust)
        await self.deliver(agent)
        outcomes = await self.deliver(agent, handling=self.strict)
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.assertEqual(peer.connections, 2)
        self.assertTrue(peer.heard[-4].endswith(" REQUIRETLS"))
        await self.deliver(agent, handling=self.strict)
        self.assertEqual(peer.connections, 2)

    async def test_no_promise(self):
        """It fails if no host promises it; if one might, without TLS now, it waits."""
        self.names._mx["there.test"].append((20, "mx2.there.test"))
        self.names._addresses["mx2.there.test"] = ["127.0.0.2"]
        peer = self.secured()
        agent = self.agent(tls=Tls.VERIFY, trust=self.trust, addresses=1)
        outcomes = await self.deliver(agent, handling=self.strict)
        self.says(outcomes, BOB, FAILED, "5.7.30")
        self.assertNotIn("MAIL", peer.verbs())
        agent = self.agent(tls=Tls.VERIFY, trust=self.trust)
        for offers, result, status in (
            ((*OFFERS, "REQUIRETLS"), FAILED, "5.7.30"),
            (self.OFFERS, DEFERRED, "4.7.4"),
        ):
            second = self.peer("127.0.0.2", offers=offers, STARTTLS="454 4.7.0 Not now")
            outcomes = await self.deliver(agent, handling=self.strict)
            self.says(outcomes, BOB, result, status)
            await second.stop()

    async def test_no_tls(self):
        """A server without TLS, or with a certificate that nobody can check, does
        not get it."""
        for offers, tls in (((*OFFERS, "REQUIRETLS"), None), (self.OFFERS, self.tls)):
            self.port = 0
            peer = self.peer(offers=offers, tls=tls)
            agent = self.agent(tls=Tls.VERIFY)
            outcomes = await self.deliver(agent, handling=self.strict)
            self.assertNotEqual(outcomes[BOB].result, DELIVERED)
            self.assertNotIn("MAIL", peer.verbs())

    async def test_optional(self):
        """A message may do without the TLS that the settings ask for, if it says so
        once; not one that requires TLS, nor where our password goes with it."""
        for content, handling, settings, delivered in (
            (self.optional, None, {}, True),
            (MESSAGE, None, {}, False),
            (self.optional.replace(b" no", b" yes"), None, {}, False),
            (b"TLS-Required: No\r\n" + self.optional, None, {}, False),
            (self.optional, self.strict, {}, False),
            (self.optional, None, {"credentials": Credentials("a", "b")}, False),
        ):
            self.port = 0
            peer = self.peer(offers=(*OFFERS, "AUTH PLAIN", "REQUIRETLS"))
            changes = {} if handling is None else {"handling": handling}
            outcomes = await self.deliver(
                self.agent(tls=Tls.ENCRYPT, **settings), content=content, **changes
            )
            self.assertEqual(outcomes[BOB].result is DELIVERED, delivered, content)
            self.assertEqual("MAIL" in peer.verbs(), delivered)

    async def test_optional_but_there(self):
        """TLS is used all the same if it is there, with anybody."""
        peer = self.secured()
        agent = self.agent(tls=Tls.VERIFY)
        outcomes = await self.deliver(agent, content=self.optional)
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        once = ["EHLO", "STARTTLS"]
        self.assertEqual(peer.verbs()[:6], [*once, *once, "EHLO", "MAIL"])
