"""Transcripts of L{twisted_mta.servers.smtp.session} as a mail exchanger."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import verify

from tests.servers.smtpdrive import (
    ALICE,
    BOB,
    HOST,
    START,
    Accepted,
    Peer,
    Policy,
    SmtpCase,
    mx,
)
from twisted_mta.errors import LedgerFull, LedgerUnavailable, OverQuota, Temporary
from twisted_mta.interfaces import IIntake
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Body
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.networks import Networks
from twisted_mta.mail.reply import Reply
from twisted_mta.mail.route import ToAgent, ToMailbox
from twisted_mta.mail.verdict import Verdict
from twisted_mta.servers.smtp.settings import SmtpSettings

MESSAGE = b"Subject: hello\r\n\r\nHello.\r\n"
TO_BOB = """
    C: MAIL FROM:<carol@elsewhere.test>
    S: 250 2.1.0
    C: RCPT TO:<bob@example.test>
    S: 250 2.1.5
"""
SEND = """
    C: DATA
    S: 354
    C: Subject: hello
    C:
    C: Hello.
    C: .
    S: 250 2.0.0 Ok: queued as
"""


class GreetingTests(SmtpCase):
    def test_greeting(self) -> None:
        """The server speaks first, with its name."""
        self.assertEqual(Peer().heard(), [f"220 {HOST} ESMTP"])

    def test_ehlo(self) -> None:
        """EHLO lists what is possible here and now; a mail exchanger without a
        certificate offers neither TLS nor AUTH."""
        peer = Peer()
        peer.heard()
        self.play(
            peer,
            """
            C: EHLO client.example
            S: 250-mx.example.test
            S: 250-PIPELINING
            S: 250-SIZE 52428800
            S: 250-8BITMIME
            S: 250-SMTPUTF8
            S: 250-ENHANCEDSTATUSCODES
            S: 250-CHUNKING
            S: 250-BINARYMIME
            S: 250-DSN
            S: 250-DELIVERBY
            S: 250-MT-PRIORITY
            S: 250-PRDR
            S: 250-LIMITS RCPTMAX=1000
            S: 250 HELP
            C: HELO client.example
            S: 250 mx.example.test
            C: AUTH PLAIN
            S: 502 5.5.1
            C: STARTTLS
            S: 502 5.5.1
            """,
        )

    def test_order(self) -> None:
        """Each command in its place (RFC 5321 4.1.4)."""
        peer = Peer()
        peer.heard()
        self.play(
            peer,
            """
            C: MAIL FROM:<carol@elsewhere.test>
            S: 503 5.5.1
            C: HELO client.example
            S: 250
            C: RCPT TO:<bob@example.test>
            S: 503 5.5.1
            C: DATA
            S: 503 5.5.1
            C: MAIL FROM:<carol@elsewhere.test>
            S: 250
            C: MAIL FROM:<carol@elsewhere.test>
            S: 503 5.5.1
            C: DATA
            S: 554 5.5.1
            C: RSET
            S: 250
            C: RCPT TO:<bob@example.test>
            S: 503 5.5.1
            C: FOO
            S: 500 5.5.2
            C: QUIT
            S: 221 2.0.0
            """,
        )
        self.assertTrue(peer.closed)

    def test_small_commands(self) -> None:
        """NOOP, HELP, VRFY and EXPN, at any time."""
        peer = Peer()
        peer.heard()
        self.play(
            peer,
            """
            C: NOOP
            S: 250 2.0.0
            C: HELP MAIL
            S: 214 2.0.0
            C: VRFY bob
            S: 252 2.0.0
            C: EXPN list
            S: 502 5.5.1
            """,
        )

    def test_h45_after_quit(self) -> None:
        """Nothing is answered after QUIT."""
        peer = mx()
        self.assertEqual(peer.send(b"QUIT\r\nNOOP\r\nMAIL FROM:<>\r\n")[1:], [])
        self.assertTrue(peer.closed)


class TransactionTests(SmtpCase):
    def test_accepted(self) -> None:
        """A message for somebody here is given to the intake as it came, with
        its envelope, and only then the client reads 250 and the queue id."""
        peer = mx()
        peer.intake.hold = Deferred()
        self.play(peer, TO_BOB)
        peer.say("DATA")
        self.assertEqual(peer.send(MESSAGE + b"..\r\n.\r\n"), [])
        self.assertEqual(peer.intake.accepted, [])
        peer.intake.hold.callback(None)
        (accepted,) = peer.intake.accepted
        envelope = accepted.envelope
        self.assertEqual(
            peer.heard(), [f"250 2.0.0 Ok: queued as {to_text(envelope.id)}"]
        )
        self.assertEqual(envelope.sender, Address("carol", "elsewhere.test"))
        self.assertEqual(envelope.recipients, (BOB,))
        self.assertEqual(envelope.received_at, START)
        self.assertEqual(envelope.origin.protocol, "ESMTP")
        self.assertEqual(envelope.origin.helo, "client.example")
        self.assertEqual(envelope.origin.listener, "mx")
        self.assertEqual(accepted.octets, MESSAGE + b".\r\n")
        self.assertEqual(accepted.routes, (ToMailbox(1, BOB),))
        self.assertTrue(peer.intake.contents[0].aborted)
        verify.verifyObject(IIntake, peer.intake)

    def test_received(self) -> None:
        """Received says who, where, how and when (RFC 5321 4.4)."""
        peer = mx()
        self.play(peer, TO_BOB + SEND)
        (accepted,) = peer.intake.accepted
        self.assertEqual(
            accepted.prefix.decode().replace(to_text(accepted.envelope.id), "ID"),
            "Received: from client.example ([192.168.1.1])\r\n"
            "\tby mx.example.test (twisted-mta) with ESMTP\r\n"
            "\tid ID\r\n"
            "\tfor <bob@example.test>;\r\n"
            "\tSun, 9 Sep 2001 01:46:40 +0000\r\n",
        )

    def test_several_recipients_are_not_named(self) -> None:
        """Received does not tell one recipient of another."""
        peer = mx()
        self.play(peer, TO_BOB)
        peer.say("RCPT TO:<alice@example.test>")
        self.play(peer, SEND)
        (accepted,) = peer.intake.accepted
        self.assertEqual(accepted.envelope.recipients, (BOB, ALICE.address))
        self.assertNotIn(b"for <", accepted.prefix)

    def test_pipelining(self) -> None:
        """A whole transaction in two breaths; the replies leave together, and
        the next transaction begins afresh."""
        peer = mx()
        group = (
            b"MAIL FROM:<a@b>\r\nRCPT TO:<nobody@example.test>\r\n"
            b"RCPT TO:<bob@example.test>\r\nDATA\r\n"
        )
        for _ in range(2):
            heard = peer.send(group)
            self.assertEqual([line[:3] for line in heard], ["250", "550", "250", "354"])
            heard = peer.send(MESSAGE + b".\r\nMAIL FROM:<>\r\nRSET\r\n")
            self.assertEqual([line[:3] for line in heard], ["250", "250", "250"])
        self.assertEqual(len(peer.intake.accepted), 2)

    def test_unknown_recipient(self) -> None:
        """Who does not exist here is refused at RCPT."""
        peer = mx()
        self.play(
            peer,
            """
            C: MAIL FROM:<carol@elsewhere.test>
            S: 250
            C: RCPT TO:<nobody@example.test>
            S: 550 5.1.1 No such recipient here
            C: DATA
            S: 554 5.5.1
            """,
        )

    def test_postmaster(self) -> None:
        """The bare postmaster is accepted (RFC 5321 4.5.1)."""
        peer = mx()
        peer.say("MAIL FROM:<>")
        self.assertIn("250 2.1.5", peer.say("RCPT TO:<Postmaster>"))
        self.play(peer, SEND)
        (accepted,) = peer.intake.accepted
        self.assertIsNone(accepted.envelope.sender)
        self.assertEqual(accepted.envelope.recipients, (Address("postmaster", ""),))

    def test_h43_no_relay(self) -> None:
        """Mail for elsewhere is refused, whatever the address is dressed in."""
        peer = mx(hard_errors=100, soft_errors=100)
        peer.say("MAIL FROM:<carol@elsewhere.test>")
        for address in (
            "dave@elsewhere.test",
            "@example.test:dave@elsewhere.test",
            '"bob@example.test"@elsewhere.test',
            "bob%example.test@elsewhere.test",
            "bob@[192.0.2.1]",
        ):
            self.assertIn("550 5.7.1", peer.say(f"RCPT TO:<{address}>"), address)
        for address in ("dave%elsewhere.test@example.test", "elsewhere!d@example.test"):
            self.assertIn("550 5.1.1", peer.say(f"RCPT TO:<{address}>"), address)

    def test_relay_from(self) -> None:
        """A network named in the config may send anywhere; its neighbours may
        not."""
        for network, code in (("192.168.1.0/30", "250"), ("192.168.1.4/30", "550")):
            peer = mx(relay_from=Networks([network, "::1/128"]))
            peer.say("MAIL FROM:<carol@elsewhere.test>")
            self.assertIn(code, peer.say("RCPT TO:<dave@elsewhere.test>"))

    def test_relayed(self) -> None:
        """What goes elsewhere has the route to there."""
        peer = mx(relay_from=Networks(["192.168.1.1"]))
        peer.say("MAIL FROM:<carol@elsewhere.test>")
        peer.say("RCPT TO:<dave@elsewhere.test>")
        self.play(peer, SEND)
        dave = Address("dave", "elsewhere.test")
        self.assertEqual(
            peer.intake.accepted[0].routes, (ToAgent("smtp", "elsewhere.test", dave),)
        )

    def test_parameters(self) -> None:
        """BODY and SMTPUTF8 reach the envelope; the protocol says UTF8SMTP."""
        peer = mx()
        self.play(
            peer,
            """
            C: MAIL FROM:<käthe@elsewhere.test> BODY=8BITMIME SMTPUTF8 SIZE=10
            S: 250
            C: RCPT TO:<bob@example.test>
            S: 250
            """
            + SEND,
        )
        envelope = peer.intake.accepted[0].envelope
        self.assertIs(envelope.body, Body.EIGHT_BIT)
        self.assertTrue(envelope.smtputf8)
        self.assertEqual(envelope.origin.protocol, "UTF8SMTP")

    def test_hello_resets(self) -> None:
        """EHLO ends a transaction."""
        peer = mx()
        self.play(peer, TO_BOB)
        peer.say("EHLO again")
        self.assertIn("503", peer.say("DATA"))

    def test_temporary_failures(self) -> None:
        """What cannot be done now is answered with a 4yz of its own, and the
        session goes on."""
        peer = mx()
        peer.router.fails = Temporary()
        peer.say("MAIL FROM:<>")
        self.assertIn("451 4.3.0", peer.say("RCPT TO:<bob@example.test>"))
        peer.router.fails = None
        for refusal, code in (
            (LedgerUnavailable(), "451 4.3.0"),
            (LedgerFull(), "452 4.3.1"),
            (OverQuota(), "552 5.2.2"),
        ):
            peer.intake.refusal = refusal
            peer.say("RSET")
            self.play(peer, TO_BOB)
            peer.say("DATA")
            (heard,) = peer.send(MESSAGE + b".\r\n")
            self.assertTrue(heard.startswith(code), heard)
        self.assertEqual(peer.intake.accepted, [])
        self.assertTrue(all(content.aborted for content in peer.intake.contents))

    def test_disk_full_within_content(self) -> None:
        """When content cannot be written, the rest of it is read, then
        refused; what follows are commands again."""
        peer = mx()
        peer.intake.write_fails = LedgerFull()
        self.play(peer, TO_BOB)
        peer.say("DATA")
        self.assertEqual(peer.send(MESSAGE), [])
        self.assertTrue(peer.intake.contents[0].aborted)
        heard = peer.send(MESSAGE + b".\r\nNOOP\r\n")
        self.assertEqual([line[:9] for line in heard], ["452 4.3.1", "250 2.0.0"])

    def test_disk_nearly_full(self) -> None:
        """A message for which there is no room is refused as soon as its size is
        known, and any when there is none: at MAIL, at DATA, at the first chunk,
        whose octets are read all the same. Once there is room the same session
        goes on."""
        peer = mx()
        peer.intake.room = 1000
        self.play(
            peer,
            """
            C: MAIL FROM:<carol@elsewhere.test> SIZE=1000
            S: 452 4.3.1 Mail storage is full
            C: RCPT TO:<bob@example.test>
            S: 503 5.5.1 Say MAIL first
            """,
        )
        for said, codes in (
            (b"DATA\r\n", ["452"]),
            (b"BDAT 1\r\nABDAT 1 LAST\r\nB", ["452", "503"]),
        ):
            peer.intake.room = None
            self.play(peer, TO_BOB)
            peer.intake.room = 0
            heard = peer.send(said)
            self.assertEqual([line[:3] for line in heard], codes)
        self.assertEqual(peer.intake.contents, [])
        peer.intake.room = None
        self.play(peer, TO_BOB + SEND)

    def test_bug(self) -> None:
        """A bug is logged, the client reads a temporary failure without any of
        it, and the connection ends."""
        peer = mx()
        peer.router.fails = ZeroDivisionError("internals")
        peer.say("MAIL FROM:<>")
        heard = peer.say("RCPT TO:<bob@example.test>")
        self.assertRegex(heard, "^4[25]1 4.3.0")
        self.assertNotIn("internals", heard)
        self.assertTrue(peer.closed)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_client_leaves_within_content(self) -> None:
        """Without the final dot there is no message."""
        peer = mx()
        self.play(peer, TO_BOB)
        peer.say("DATA")
        peer.send(MESSAGE)
        peer.leave()
        self.assertEqual(peer.intake.accepted, [])
        self.assertTrue(peer.intake.contents[0].aborted)
        self.assertTrue(peer.ended)

    def test_client_leaves_before_the_answer(self) -> None:
        """A message whose commit is under way is finished without the client."""
        peer = mx()
        peer.intake.hold = Deferred()
        self.play(peer, TO_BOB)
        peer.say("DATA")
        peer.send(MESSAGE + b".\r\n")
        peer.leave()
        self.assertFalse(peer.ended)
        peer.intake.hold.callback(None)
        self.assertEqual(len(peer.intake.accepted), 1)
        self.assertTrue(peer.ended)


class ChunkTests(SmtpCase):
    def test_chunks(self) -> None:
        """BDAT stores exactly the octets counted, dots as they are."""
        peer = mx()
        self.play(peer, TO_BOB)
        heard = peer.send(b"BDAT 4\r\nA: b")
        self.assertEqual(heard, ["250 2.0.0 4 octets received"])
        heard = peer.send(b"BDAT 9\r\n\r\n\r\n.\r\nabBDAT 0 LAST\r\n")
        self.assertEqual([line[:9] for line in heard], ["250 2.0.0"] * 2)
        self.assertEqual(peer.intake.accepted[0].octets, b"A: b\r\n\r\n.\r\nab")

    def test_refused_mail(self) -> None:
        """A MAIL that is refused changes nothing of the transaction under way."""
        peer = mx()
        self.play(peer, TO_BOB)
        self.assertIn("503", peer.say("MAIL FROM:<> BODY=BINARYMIME SMTPUTF8"))
        self.assertIn("553", peer.say("RCPT TO:<j\u00fcrgen@example.test>"))
        self.assertIn("554 5.6.0", peer.send(b"BDAT 3 LAST\r\na\nb")[0])

    def test_h03_chunks_in_the_wrong_place(self) -> None:
        """A chunk without a transaction is no command and no message; DATA does
        not follow BDAT."""
        peer = mx()
        heard = peer.send(b"BDAT 6 LAST\r\nRSET\r\nNOOP\r\n")
        self.assertEqual([line[:3] for line in heard], ["503", "250"])
        peer.say("MAIL FROM:<>")
        heard = peer.send(b"BDAT 6 LAST\r\nRSET\r\nRSET\r\n")
        self.assertEqual([line[:3] for line in heard], ["554", "250"])
        self.play(peer, TO_BOB)
        peer.send(b"BDAT 1\r\nA")
        self.play(
            peer,
            """
            C: DATA
            S: 503
            C: RCPT TO:<alice@example.test>
            S: 503
            """,
        )
        self.assertEqual(peer.intake.accepted, [])

    def test_h03_after_a_refused_chunk(self) -> None:
        """After a chunk was refused the others are, too, until RSET (RFC 3030
        4.2); nothing is stored."""
        peer = mx()
        peer.intake.write_fails = LedgerFull()
        self.play(peer, TO_BOB)
        heard = peer.send(b"BDAT 1\r\nABDAT 1\r\nBBDAT 1 LAST\r\nC")
        self.assertEqual([line[:3] for line in heard], ["452", "503", "503"])
        self.assertIn("503 5.5.1 Say MAIL", peer.say("DATA"))
        self.assertEqual(peer.intake.accepted, [])

    def test_h03_malformed_sizes(self) -> None:
        """After a size that is none the connection ends: what follows could be
        anything."""
        for size in ("-1", "99999999999999999999", "x", ""):
            peer = mx()
            self.play(peer, TO_BOB)
            heard = peer.send(f"BDAT {size} LAST\r\nNOOP\r\n".encode())
            self.assertEqual([line[:3] for line in heard], ["501"])
            self.assertTrue(peer.closed)


class PolicyTests(SmtpCase):
    REFUSAL = Verdict(Reply(550, "5.7.1", ("Not today", "nor tomorrow")), "test")

    def peer(self, stage: str, disconnect: bool = False) -> tuple[Peer, Policy]:
        verdict = Verdict(self.REFUSAL.reply, "test", disconnect)
        policy = Policy({stage: verdict})
        return Peer(SmtpSettings(HOST), policy=policy), policy

    def test_connect(self) -> None:
        """Who may not connect reads why, and that is all."""
        peer, policy = self.peer("connect")
        self.assertEqual(
            peer.heard(), ["550-5.7.1 Not today", "550 5.7.1 nor tomorrow (smtp-1)"]
        )
        self.assertTrue(peer.closed)
        self.assertEqual(policy.asked["connect"].origin.host, "192.168.1.1")

    def test_helo(self) -> None:
        """A name that is refused is none."""
        peer, policy = self.peer("helo")
        peer.heard()
        self.assertIn("550", peer.say("EHLO bad"))
        self.assertEqual(policy.asked["helo"].origin.helo, "bad")
        self.assertIn("503", peer.say("MAIL FROM:<>"))

    def test_mail(self) -> None:
        """A sender that is refused begins nothing."""
        peer, policy = self.peer("mail")
        peer.say("EHLO x")
        self.assertIn("550", peer.say("MAIL FROM:<a@b> SIZE=7"))
        self.assertEqual(policy.asked["mail"].sender, Address("a", "b"))
        self.assertEqual(policy.asked["mail"].size, 7)
        self.assertIn("503", peer.say("RCPT TO:<bob@example.test>"))

    def test_rcpt(self) -> None:
        """A recipient that is refused is not taken; the policy is asked only
        about those that exist."""
        peer, policy = self.peer("rcpt")
        peer.say("EHLO x")
        peer.say("MAIL FROM:<a@b>")
        peer.say("RCPT TO:<nobody@example.test>")
        self.assertNotIn("rcpt", policy.asked)
        self.assertIn("550-5.7.1", peer.say("RCPT TO:<bob@example.test>"))
        self.assertEqual(policy.asked["rcpt"].recipients, (BOB,))
        self.assertIn("554", peer.say("DATA"))

    def test_message(self) -> None:
        """A message that is refused is given to no one."""
        peer, policy = self.peer("message", disconnect=True)
        peer.say("EHLO x")
        self.play(peer, TO_BOB)
        peer.say("DATA")
        self.assertIn("550", peer.send(MESSAGE + b".\r\n")[0])
        asked = policy.asked["message"]
        self.assertEqual(asked.header, b"Subject: hello\r\n\r\n")
        self.assertEqual(asked.size, len(MESSAGE))
        self.assertEqual(peer.intake.accepted, [])
        self.assertTrue(peer.closed)

    def marked(self, **verdicts: Verdict) -> Accepted:
        """A message of which policies said this."""
        peer = Peer(SmtpSettings(HOST), policy=Policy(verdicts))
        peer.say("EHLO x")
        self.play(peer, TO_BOB)
        peer.say("DATA")
        self.assertIn("250", peer.send(MESSAGE + b".\r\n")[0])
        (accepted,) = peer.intake.accepted
        return accepted

    def test_tags(self) -> None:
        """Tags of all stages stand before the message, each once, and whatever they
        are they are fields of one line."""
        accepted = self.marked(
            connect=Verdict.tag("X-A", "one"),
            rcpt=Verdict.tag("X-A", "one"),
            message=Verdict.tag("X B:\r\nEvil", "t\u00e4g\r\nEvil: yes" + "x" * 5000),
        )
        first, second, *rest = accepted.prefix.split(b"\r\n")
        self.assertEqual(first, b"X-A: one")
        self.assertTrue(second.startswith(b"X-B---Evil: t\xc3\xa4g  Evil: yesxxx"))
        self.assertLess(len(second), 998)
        self.assertTrue(rest[0].startswith(b"Received: "))
        self.assertFalse(accepted.envelope.quarantined)

    def test_quarantine(self) -> None:
        """One policy at any stage is enough."""
        for stage in ("connect", "helo", "mail", "rcpt", "message"):
            accepted = self.marked(**{stage: Verdict.quarantine("odd")})
            self.assertTrue(accepted.envelope.quarantined, stage)

    def test_exempt(self) -> None:
        """Of a client that was accepted nothing more is asked; of a transaction,
        nothing until the next one."""
        peer, policy = Peer(SmtpSettings(HOST)), None
        for stage, asked in (("connect", {"connect"}), ("mail", {"mail"})):
            policy = Policy({stage: Verdict.accept("a friend")})
            peer = Peer(SmtpSettings(HOST), policy=policy)
            peer.say("EHLO x")
            policy.asked.pop("helo", None)
            for _ in range(2):
                policy.asked = {k: v for k, v in policy.asked.items() if k == "connect"}
                self.play(peer, TO_BOB)
                peer.say("RSET")
            wanted = asked if stage == "connect" else {"connect", "mail"}
            self.assertEqual(set(policy.asked), wanted)

    def test_trusted(self) -> None:
        """Policies are told that a client is one of ours."""
        policy = Policy({})
        near = Networks(["192.168.1.0/24"])
        peer = Peer(SmtpSettings(HOST, relay_from=near), policy=policy)
        self.assertTrue(policy.asked["connect"].trusted)
        peer.say("EHLO x")
        self.play(peer, TO_BOB)
        self.assertTrue(policy.asked["rcpt"].trusted)

    def test_submission(self) -> None:
        """So are those who have to log in, before they have: people at home are on
        lists of such addresses."""
        policy = Policy({})
        peer = Peer(SmtpSettings(HOST, submission=True), policy=policy)
        peer.say("EHLO x")
        for stage in ("connect", "helo"):
            self.assertTrue(policy.asked[stage].trusted, stage)

    def test_each_recipient(self) -> None:
        """What was said of one recipient holds for the message, whatever was said of
        the next one; unless that one was refused."""
        for refused in (False, True):
            policy = Policy({"rcpt": Verdict.quarantine("odd")})
            peer = Peer(SmtpSettings(HOST), policy=policy)
            peer.say("EHLO x")
            peer.say("MAIL FROM:<a@b>")
            if refused:
                policy.verdicts = {"rcpt": Verdict.reject("no")}
            peer.say("RCPT TO:<bob@example.test>")
            policy.verdicts = {}
            peer.say("RCPT TO:<postmaster@example.test>")
            peer.say("DATA")
            self.assertIn("250", peer.send(MESSAGE + b".\r\n")[0])
            (accepted,) = peer.intake.accepted
            self.assertEqual(accepted.envelope.quarantined, not refused)

    def test_another_name(self) -> None:
        """What was said of a name does not hold for the next one."""
        policy = Policy({"helo": Verdict.accept("a friend")})
        peer = Peer(SmtpSettings(HOST), policy=policy)
        peer.say("EHLO friend")
        policy.verdicts = {"helo": Verdict.reject("no")}
        self.assertIn("550", peer.say("EHLO enemy"))

    def test_greeting_pause(self) -> None:
        """Who speaks before the greeting is sent away; who waits is greeted; who may
        relay does not wait."""
        settings = SmtpSettings(HOST, greeting_pause_s=6)
        peer = Peer(settings)
        self.assertEqual(peer.heard(), [])
        peer.clock.advance(6)
        self.assertIn("220", peer.heard()[0])
        peer = Peer(settings)
        peer.send(b"EHLO spam\r\n")
        peer.clock.advance(6)
        self.assertEqual([line[:3] for line in peer.heard()], ["554"])
        self.assertTrue(peer.closed)
        near = Networks(["192.168.1.0/24"])
        peer = Peer(SmtpSettings(HOST, greeting_pause_s=6, relay_from=near))
        self.assertIn("220", peer.heard()[0])

    def test_unasked_pipelining(self) -> None:
        """Who sends the next command before the answer is sent away if PIPELINING was
        not offered, since he said HELO or his network does not get it; those who may
        relay are not."""
        both = b"MAIL FROM:<a@b>\r\nRCPT TO:<bob@example.test>\r\n"
        near = Networks(["192.168.1.0/24"])
        for hello, settings, wanted in (
            ("EHLO x", {}, ["250", "250"]),
            ("HELO x", {}, ["554"]),
            ("EHLO x", {"without": frozenset({"PIPELINING"})}, ["554"]),
            ("HELO x", {"relay_from": near}, ["250", "250"]),
        ):
            peer = Peer(SmtpSettings(HOST, **settings))  # type: ignore[arg-type]
            peer.say(hello)
            heard = peer.send(both)
            self.assertEqual([line[:3] for line in heard], wanted)
            self.assertEqual(peer.closed, wanted == ["554"])

    def test_signed(self) -> None:
        """A refusal names the session, under which the log says more."""
        peer = mx()
        for line in ("FOO", "RCPT TO:<x>", "DATA"):
            self.assertTrue(peer.say(line).endswith(" (smtp-1)"), line)
        self.assertFalse(peer.say("NOOP").endswith(")"))

    def test_last_words_signed(self) -> None:
        """So do those that end the session, each of several."""
        peer = mx(hard_errors=1)
        heard = peer.send(b"FOO\r\n")
        self.assertEqual([line[:3] for line in heard], ["500", "421"])
        for line in heard:
            self.assertTrue(line.endswith(" (smtp-1)"), line)
        peer = mx(idle_s=60)
        peer.clock.advance(60)
        (line,) = peer.heard()
        self.assertTrue(line.startswith("421 4.4.2") and line.endswith(" (smtp-1)"))
