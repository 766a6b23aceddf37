"""Extensions of SMTP: what they bring, and how they are switched off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from twisted.logger import capturedLogs, formatEvent

from tests.servers.smtpdrive import (
    ALICE,
    BOB,
    HOST,
    START,
    Authenticator,
    Peer,
    Policy,
    Router,
    SmtpCase,
    mx,
    submission,
)
from twisted_mta.config.schema import ExtensionName
from twisted_mta.errors import LedgerFull, LedgerUnavailable
from twisted_mta.mail import dsn
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.channel import NOT_CERTIFIED, CertifiedNames, Channel
from twisted_mta.mail.dsn import Notification, Notify
from twisted_mta.mail.envelope import USUAL, DeliverBy, Handling, Return
from twisted_mta.mail.networks import Networks
from twisted_mta.mail.route import (
    NO_MAILING,
    RELEASE,
    Mailing,
    Resolved,
    ToAgent,
    ToMailbox,
)
from twisted_mta.servers import channel
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.wire.smtp.extension import EXTENSIONS

DAVE = split("dave@elsewhere.test")


MORE_IS_NEEDED = {
    *("STARTTLS", "AUTH", "ETRN", "VRFY", "EXPN", "XCLIENT", "XFORWARD"),
    *("XVERP", "NO-SOLICITING", "REQUIRETLS", "FUTURERELEASE"),
}


class OfferTests(SmtpCase):
    def test_names(self) -> None:
        """The config can switch off every extension."""
        self.assertEqual(set(get_args(ExtensionName)), set(EXTENSIONS))

    def test_switched_off(self) -> None:
        """What is switched off is not offered, for all or for some networks."""
        for word in EXTENSIONS:
            for settings in (
                SmtpSettings(HOST, without=frozenset({word})),
                SmtpSettings(HOST, without_for=((NEAR, frozenset({word})),)),
            ):
                peer = Peer(settings)
                self.assertNotIn(word, self.offered(peer))
            far = Peer(SmtpSettings(HOST, without_for=((FAR, frozenset({word})),)))
            # The others need more than that nobody switches them off.
            if word not in MORE_IS_NEEDED:
                self.assertIn(word, self.offered(far))

    def offered(self, peer: Peer) -> set[str]:
        peer.heard()
        lines = peer.say("EHLO client.example").splitlines()[1:]
        return {line[4:].partition(" ")[0] for line in lines}

    def test_parameters(self) -> None:
        """Parameters of what is not offered are refused, those of the rest are
        not."""
        for word, parameter in (
            ("SIZE", "SIZE=1"),
            ("8BITMIME", "BODY=8BITMIME"),
            ("SMTPUTF8", "SMTPUTF8"),
            ("DSN", "RET=FULL"),
            ("DSN", "ENVID=x"),
        ):
            peer = mx(without=frozenset({word}))
            refusal = peer.say(f"MAIL FROM:<> {parameter}")
            self.assertTrue(refusal.startswith("555 5.5.4"), parameter)
            self.assertIn("250", mx().say(f"MAIL FROM:<> {parameter}"))
        peer = mx(without=frozenset({"DSN"}))
        peer.say("MAIL FROM:<>")
        self.assertIn("555", peer.say("RCPT TO:<bob@example.test> NOTIFY=NEVER"))
        self.assertIn("250", peer.say("RCPT TO:<bob@example.test>"))

    def test_chunking(self) -> None:
        """Without CHUNKING the octets of BDAT are no commands all the same."""
        peer = mx(without=frozenset({"CHUNKING"}))
        peer.say("MAIL FROM:<>")
        peer.say("RCPT TO:<bob@example.test>")
        heard = peer.send(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
        self.assertEqual([line[:3] for line in heard], ["502", "250"])
        self.assertEqual(peer.intake.accepted, [])

    def test_statuses(self) -> None:
        """Without ENHANCEDSTATUSCODES replies have none (RFC 2034 4), and what
        looks like one elsewhere stays."""
        peer = mx(without=frozenset({"ENHANCEDSTATUSCODES"}))
        self.assertEqual(peer.say("MAIL FROM:<>"), "250 Ok")
        refused = peer.say("RCPT TO:<nobody@example.test>")
        self.assertRegex(refused, r"^550 [A-Z]")
        self.assertEqual(peer.say("RSET"), "250 Ok")

    def test_tls_and_login(self) -> None:
        """STARTTLS and AUTH cannot be used when they are switched off."""
        peer = Peer(SmtpSettings(HOST, without=frozenset({"STARTTLS"})), tls="context")
        peer.say("EHLO x")
        peer.heard()
        self.assertIn("502", peer.say("STARTTLS"))
        peer = submission()
        self.assertIn("503", peer.say("AUTH PLAIN"))  # logged in already
        peer = Peer(
            SmtpSettings(
                HOST,
                submission=True,
                plaintext_login=True,
                without=frozenset({"AUTH"}),
            ),
            authenticator=submission().authenticator,
        )
        peer.say("EHLO x")
        peer.heard()
        self.assertIn("502", peer.say("AUTH PLAIN"))


NEAR = Networks(["192.168.1.0/24"])
FAR = Networks(["10.0.0.0/8"])


class DsnTests(SmtpCase):
    """RFC 3461."""

    def sent(self, peer: Peer, mail: str, rcpt: str) -> None:
        self.assertIn("250", peer.say(f"MAIL FROM:<alice@example.test> {mail}"))
        self.assertIn("250", peer.say(rcpt))
        self.assertIn("354", peer.say("DATA"))
        self.assertIn("250", peer.send(b"Subject: x\r\n\r\n.\r\n")[0])

    def test_elsewhere(self) -> None:
        """What is asked goes with the message."""
        peer = submission()
        self.sent(
            peer,
            "RET=HDRS ENVID=a+2Bb",
            f"RCPT TO:<{DAVE}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;d+40x.test",
        )
        (accepted,) = peer.intake.accepted
        self.assertEqual(accepted.envelope.handling, Handling(Return.HEADERS, "a+b"))
        asked = Notification(
            Notify.SUCCESS | Notify.FAILURE, dsn.OriginalRecipient("rfc822", "d@x.test")
        )
        self.assertEqual(
            accepted.routes, (ToAgent("smtp", DAVE.domain, DAVE, notification=asked),)
        )
        self.assertEqual(accepted.confirmed, ())

    def test_here(self) -> None:
        """A success here is told by us."""
        peer = mx()
        self.sent(peer, "", "RCPT TO:<bob@example.test> NOTIFY=SUCCESS")
        (accepted,) = peer.intake.accepted
        (told,) = accepted.confirmed
        self.assertEqual((told.recipient, told.action), (BOB, "delivered"))

    def test_nothing(self) -> None:
        """Who asks for nothing has what is usual."""
        peer = mx()
        self.sent(peer, "SIZE=10", "RCPT TO:<bob@example.test>")
        (accepted,) = peer.intake.accepted
        self.assertIs(accepted.envelope.handling, USUAL)
        self.assertEqual(accepted.confirmed, ())


class AskingTests(SmtpCase):
    """VRFY, EXPN (RFC 5321 3.5) and ETRN (RFC 1985)."""

    def test_verify(self) -> None:
        """Who may ask is told; what is no address, or elsewhere, cannot be verified."""
        peer = mx(verify_from=NEAR)
        for who, answer in (
            ("bob@example.test", "250 2.1.5 <bob@example.test>"),
            ("<bob@example.test>", "250 2.1.5 <bob@example.test>"),
            ("nobody@example.test", "550 5.1.1"),
            ("dave@elsewhere.test", "252"),
            ("Bob Example", "252"),
        ):
            self.assertTrue(peer.say(f"VRFY {who}").startswith(answer), who)
        for word in ("VRFY", "EXPN"):
            self.assertIn(f"250-{word}", peer.say("EHLO x").splitlines())

    def test_international(self) -> None:
        """RFC 6531 3.7.4.2: answers in UTF-8 are for who says SMTPUTF8."""
        peer = mx(verify_from=NEAR)
        found = "250 2.1.5 <jürgen@example.test>"
        for line, answer in (
            ("VRFY jürgen@example.test SMTPUTF8", found),
            ("VRFY jürgen@example.test", "252 2.6.8"),
            ("VRFY bob@example.test smtputf8", "250 2.1.5 <bob@example.test>"),
            ("EXPN büro@example.test SMTPUTF8", found),
            ("EXPN büro@example.test", "550 5.6.8"),
        ):
            self.assertTrue(peer.say(line).startswith(answer), line)

    def test_expand(self) -> None:
        """An alias is what it leads to."""
        peer = mx(verify_from=NEAR)
        self.assertEqual(peer.say("EXPN alice@example.test"), EXPANDED)
        team = peer.say("EXPN team@example.test").splitlines()
        self.assertEqual(team[0], "250-2.1.5 <bob@example.test>")
        self.assertEqual(team[1], "250 2.1.5 <dave@elsewhere.test>")
        self.assertIn("550 5.1.1", peer.say("EXPN nobody@example.test"))
        self.assertIn("550 5.1.1", peer.say("EXPN team"))

    def test_h39_others(self) -> None:
        """Others are told nothing."""
        peer = mx(verify_from=FAR)
        for who in ("bob@example.test", "nobody@example.test"):
            self.assertTrue(peer.say(f"VRFY {who}").startswith("252 2.0.0"))
            self.assertTrue(peer.say(f"EXPN {who}").startswith("502"))

    def test_etrn(self) -> None:
        """What waits for a domain of the config is tried now."""
        peer = mx(etrn=frozenset({"example.test", "other.test"}))
        self.assertIn("250-ETRN", peer.say("EHLO x").splitlines())
        self.assertTrue(peer.say("ETRN Example.TEST").startswith("253 2.0.0 3"))
        self.assertTrue(peer.say("ETRN @other.test").startswith("251"))
        self.assertTrue(peer.say("ETRN elsewhere.test").startswith("459"))
        self.assertTrue(peer.say("ETRN #queue").startswith("501"))
        wanted = [("example.test", False), ("other.test", True)]
        self.assertEqual(peer.intake.started, wanted)
        self.assertTrue(mx().say("ETRN example.test").startswith("502"))


EXPANDED = "250 2.1.5 <alice@example.test>"


class ForwardedTests(SmtpCase):
    """XCLIENT and XFORWARD."""

    def test_xclient(self) -> None:
        """The session begins anew, as that client's: address, name, login, limits."""
        policy = Policy({})
        settings = SmtpSettings(HOST, xclient_from=NEAR, relay_from=FAR)
        peer = Peer(settings, policy=policy)
        peer.say("EHLO proxy.test")
        self.assertIn("XCLIENT ADDR DESTADDR", peer.say("EHLO proxy.test"))
        said = peer.say(
            "XCLIENT ADDR=10.0.0.7 PORT=99 HELO=spike.test NAME=+5BUNAVAILABLE+5D"
        )
        self.assertTrue(said.startswith("220 "))
        self.assertEqual(policy.asked["connect"].origin.host, "10.0.0.7")
        self.assertIn("503", peer.say("MAIL FROM:<>"))
        peer.say("EHLO spike.test")
        peer.say("MAIL FROM:<a@elsewhere.test>")
        self.assertIn("250", peer.say("RCPT TO:<dave@elsewhere.test>"))  # may relay
        peer.say("DATA")
        peer.send(b".\r\n")
        (accepted,) = peer.intake.accepted
        self.assertEqual(accepted.envelope.origin.host, "10.0.0.7")
        self.assertIn(b"from spike.test ([10.0.0.7])", accepted.prefix)

    def test_h43_no_relay(self) -> None:
        """Who may say for whom he speaks does not lend that one his own rights."""
        peer = mx(xclient_from=NEAR, relay_from=NEAR)
        peer.say("XCLIENT ADDR=IPv6:2001:db8::1")
        peer.say("EHLO x")
        peer.say("MAIL FROM:<a@elsewhere.test>")
        self.assertIn("550", peer.say("RCPT TO:<dave@elsewhere.test>"))
        peer.say("RSET")
        self.assertIn("220", peer.say("XCLIENT ADDR=10.0.0.9"))  # once more

    def test_not_itself(self) -> None:
        """What a proxy has logged in as, the one it speaks for has not."""
        peer = submission(xclient_from=NEAR)
        self.assertIn("220", peer.say("XCLIENT ADDR=10.0.0.9"))
        peer.say("EHLO x")
        self.assertIn("530", peer.say("MAIL FROM:<alice@example.test>"))
        peer.say("AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=")
        assert peer.authenticator is not None
        self.assertEqual(peer.authenticator.tried[-1][2], "10.0.0.9")
        self.assertIn("220", peer.say("XCLIENT PORT=7"))  # more of the same one
        peer.say("EHLO x")
        self.assertIn("250", peer.say("MAIL FROM:<alice@example.test>"))

    def test_login(self) -> None:
        """LOGIN: a proxy has let somebody log in, who may then submit."""
        peer = submission(xclient_from=NEAR)
        self.assertIn("550 5.1.1", peer.say("XCLIENT LOGIN=eve@example.test"))
        self.assertIn("550 5.1.1", peer.say("XCLIENT LOGIN=alice"))
        self.assertIn("220", peer.say("XCLIENT ADDR=10.0.0.9 LOGIN=alice@example.test"))
        peer.say("EHLO x")
        self.assertIn("553", peer.say("MAIL FROM:<eve@example.test>"))
        self.assertIn("250", peer.say("MAIL FROM:<alice@example.test>"))
        peer.say("RCPT TO:<dave@elsewhere.test>")
        peer.say("DATA")
        peer.send(b".\r\n")
        origin = peer.intake.accepted[0].envelope.origin
        self.assertEqual(
            (origin.login, origin.host, origin.protocol),
            ("alice@example.test", "10.0.0.9", "ESMTPA"),
        )
        self.assertIn("220", peer.say("XCLIENT LOGIN=[UNAVAILABLE]"))
        peer.say("EHLO x")
        self.assertIn("530", peer.say("MAIL FROM:<alice@example.test>"))

    def test_certificate(self) -> None:
        """A proxy's certificate is not that of the one it speaks for."""
        names = CertifiedNames(("alice@example.test",))
        self.patch(channel, "certified", lambda handle: names)
        authenticator = Watching()
        settings = SmtpSettings(HOST, submission=True, xclient_from=NEAR)
        peer = Peer(settings, authenticator=authenticator, implicit_tls=True)
        peer.handshake()
        for certified, line in (
            (names, "EHLO x"),
            (NOT_CERTIFIED, "XCLIENT ADDR=10.0.0.9\r\nEHLO x"),
        ):
            for each in line.split("\r\n"):
                peer.say(each)
            self.assertIs(authenticator.asked[-1].certified, certified)
        self.assertEqual(authenticator.asked[-1].host, "10.0.0.9")

    def test_login_elsewhere(self) -> None:
        """Where nobody logs in, LOGIN lets nobody relay."""
        peer = mx(xclient_from=NEAR)
        peer.say("XCLIENT LOGIN=alice@example.test")
        peer.say("EHLO x")
        peer.say("MAIL FROM:<alice@example.test>")
        self.assertIn("550 5.7.1", peer.say("RCPT TO:<dave@elsewhere.test>"))

    def test_refused(self) -> None:
        """Others may not, and what is malformed is refused."""
        self.assertIn("550 5.7.1", mx().say("XCLIENT ADDR=10.0.0.7"))
        self.assertIn("550 5.7.1", mx().say("XFORWARD ADDR=10.0.0.7"))
        for line in (
            "",
            "ADDR",
            "ADDR=x",
            "ADDR=1.2.3.4 ADDR=1.2.3.4",
            "FOO=x",
            "PORT=65536",
            "PORT=x",
            "PORT=1_0",
            "ADDR=fe80::1%x)+20by",
            "HELO=a+0Ab",
            "ADDR=+zz",
        ):
            peer = mx(xclient_from=NEAR)
            self.assertTrue(peer.say(f"XCLIENT {line}").startswith("501"), line)
        peer = mx(xclient_from=NEAR)
        peer.say("MAIL FROM:<>")
        self.assertIn("503", peer.say("XCLIENT ADDR=10.0.0.7"))

    def test_xforward(self) -> None:
        """Where mail came from is logged; nothing else changes."""
        peer = mx(xforward_from=NEAR)
        with capturedLogs() as captured:
            self.assertIn("250", peer.say("XFORWARD ADDR=10.0.0.7 IDENT=Q1 HELO=a.b"))
        log = "".join(str(formatEvent(event)) for event in captured)
        self.assertIn("ADDR=10.0.0.7, IDENT=Q1", log)
        self.assertIn("250", peer.say("MAIL FROM:<>"))


class LimitsTests(SmtpCase):
    def test_limits(self) -> None:
        """RFC 9422: how many recipients are taken is said before."""
        peer = Peer(SmtpSettings(HOST, recipients=7))
        peer.heard()
        self.assertIn("250-LIMITS RCPTMAX=7", peer.say("EHLO x").splitlines())


class Watching(Authenticator):
    """Remembers the connections that it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Channel] = []

    def mechanisms(self, channel: Channel) -> Sequence[str]:
        self.asked.append(channel)
        return super().mechanisms(channel)


class Anybody(Router):
    """Whoever is asked for is here."""

    async def route(
        self, recipient: Address, mailing: Mailing = NO_MAILING
    ) -> Resolved:
        return Resolved(True, (ToMailbox(1, recipient),))


class EachTests(SmtpCase):
    """An answer for each recipient: LMTP (RFC 2033) and PRDR."""

    def lmtp(self) -> Peer:
        peer = Peer(SmtpSettings(HOST, lmtp=True))
        self.assertIn("LMTP", peer.heard()[0])
        self.assertIn("250-PIPELINING", peer.say("LHLO mx.test").splitlines())
        return peer

    def begun(self, peer: Peer, mail: str = "MAIL FROM:<a@b.test>") -> None:
        peer.say(mail)
        for who in ("bob", "alice"):
            self.assertIn("250", peer.say(f"RCPT TO:<{who}@example.test>"))

    def test_greetings(self) -> None:
        """LHLO greets LMTP, and EHLO SMTP; not the other way."""
        for settings, word in (
            (SmtpSettings(HOST, lmtp=True), "EHLO"),
            (SmtpSettings(HOST, lmtp=True), "HELO"),
            (SmtpSettings(HOST), "LHLO"),
        ):
            peer = Peer(settings)
            peer.heard()
            self.assertIn("500 5.5.1", peer.say(f"{word} x"))
            self.assertIn("503", peer.say("MAIL FROM:<>"))

    def test_lmtp(self) -> None:
        """One answer for each, in one transaction; Received says LMTP."""
        peer = self.lmtp()
        self.begun(peer)
        self.assertIn("550", peer.say("RCPT TO:<nobody@example.test>"))
        peer.say("DATA")
        heard = peer.send(b"Subject: x\r\n\r\n.\r\n")
        self.assertEqual([line[:9] for line in heard], ["250 2.0.0"] * 2)
        (accepted,) = peer.intake.accepted
        self.assertEqual(accepted.envelope.origin.protocol, "LMTP")
        self.assertIn("250", peer.say("NOOP"))

    def test_chunks(self) -> None:
        """The same with BDAT: one for each chunk, and one for each at the last."""
        peer = self.lmtp()
        self.begun(peer)
        self.assertEqual(len(peer.send(b"BDAT 3\r\nabc")), 1)
        self.assertEqual(len(peer.send(b"BDAT 0 LAST\r\n")), 2)

    def test_for_nobody(self) -> None:
        """Without a recipient DATA is out of order, and a last chunk has as many
        answers as there are recipients (RFC 2033 4.2 and 4.3)."""
        peer = self.lmtp()
        peer.say("MAIL FROM:<a@b.test>")
        self.assertIn("503 5.5.1", peer.say("DATA"))
        self.assertIn("503", peer.send(b"BDAT 1\r\na")[0])
        self.assertEqual(peer.send(b"BDAT 1 LAST\r\na"), [])
        self.assertIn("503", peer.say("RCPT TO:<bob@example.test>"))

    def test_one_cannot_have_it(self) -> None:
        """One who cannot have it does not keep it from the others."""
        peer = self.lmtp()
        self.begun(peer)
        peer.intake.not_for.add(BOB)
        peer.say("DATA")
        heard = peer.send(b"Subject: x\r\n\r\n.\r\n")
        self.assertEqual([line[:9] for line in heard], ["552 5.2.2", "250 2.0.0"])
        self.assertEqual([line.endswith("(smtp-1)") for line in heard], [True, False])
        (accepted,) = peer.intake.accepted
        self.assertEqual(
            [str(r) for r in accepted.envelope.recipients], ["alice@example.test"]
        )
        self.assertEqual(accepted.octets, b"Subject: x\r\n\r\n")
        self.assertTrue(all(c.aborted for c in peer.intake.contents))

    def test_given_twice(self) -> None:
        """Who is given twice has the message once, and two answers."""
        peer = self.lmtp()
        peer.say("MAIL FROM:<a@b.test>")
        for who in ("bob", "alice", "BOB"):
            self.assertIn("250", peer.say(f"RCPT TO:<{who}@example.test>"))
        peer.intake.not_for.add(ALICE.address)
        peer.say("DATA")
        heard = peer.send(b"Subject: x\r\n\r\n.\r\n")
        self.assertEqual([line[:3] for line in heard], ["250", "552", "250"])
        self.assertEqual(len(peer.intake.accepted), 1)
        peer = Peer(SmtpSettings(HOST, lmtp=True, recipients=2))
        peer.say("LHLO mx.test")
        peer.say("MAIL FROM:<a@b.test>")
        self.assertIn("250", peer.say("RCPT TO:<bob@example.test>"))
        self.assertIn("250", peer.say("RCPT TO:<bob@example.test>"))
        self.assertIn("452", peer.say("RCPT TO:<bob@example.test>"))

    def test_few_of_many(self) -> None:
        """The others have it in few transactions, and the log says who has not."""
        many = [split(f"bob+{number}@example.test") for number in range(64)]
        router = Anybody()
        peer = Peer(SmtpSettings(HOST, lmtp=True), router=router)
        peer.say("LHLO mx.test")
        peer.say("MAIL FROM:<a@b.test>")
        for recipient in many:
            self.assertIn("250", peer.say(f"RCPT TO:<{recipient}>"))
        peer.intake.not_for = {many[0], many[40]}
        peer.say("DATA")
        with capturedLogs() as captured:
            heard = peer.send(b"Subject: x\r\n\r\n.\r\n")
        refused = [place for place, line in enumerate(heard) if line[0] == "5"]
        self.assertEqual(refused, [0, 40])
        had = [r for one in peer.intake.accepted for r in one.envelope.recipients]
        self.assertEqual(set(had), set(many) - peer.intake.not_for)
        self.assertEqual(len(had), len(many) - 2)
        self.assertLess(len(peer.intake.accepted), 14)
        for one in peer.intake.accepted:
            reached = [route.recipient for route in one.routes]
            self.assertEqual(reached, list(one.envelope.recipients))
        log = [str(formatEvent(event)) for event in captured]
        lines = [line for line in log if "refused" in line]
        self.assertEqual(len(lines), 2)
        self.assertIn("smtp-1: refused bob+0@example.test: 552 5.2.2", lines[0])

    def test_no_use(self) -> None:
        """What is no recipient's fault is not tried with each."""
        peer = self.lmtp()
        self.begun(peer)
        peer.intake.refusal = LedgerFull()
        peer.say("DATA")
        heard = peer.send(b"Subject: x\r\n\r\n.\r\n")
        self.assertEqual([line[:9] for line in heard], ["452 4.3.1"] * 2)
        self.assertEqual(len(peer.intake.contents), 1)

    def test_last_chunk_refused(self) -> None:
        """The last chunk has its answers also when one was refused before."""
        peer = self.lmtp()
        self.begun(peer)
        peer.intake.room = 0
        self.assertEqual([line[:3] for line in peer.send(b"BDAT 3\r\nabc")], ["452"])
        heard = peer.send(b"BDAT 0 LAST\r\n")
        self.assertEqual([line[:3] for line in heard], ["503", "503"])
        self.assertTrue(peer.send(b"BDAT 0 LAST\r\n")[0].startswith("503"))
        peer.intake.room = None
        self.begun(peer)
        peer.intake.room = 0
        heard = peer.send(b"BDAT 3 LAST\r\nabc")
        self.assertEqual([line[:3] for line in heard], ["452", "452"])
        self.assertTrue(all(line.endswith("(smtp-1)") for line in heard))

    def test_nobody_can(self) -> None:
        """What nobody can have is refused for each."""
        peer = self.lmtp()
        self.begun(peer)
        peer.say("DATA")
        heard = peer.send(b"Subject: x\n\r\n\r\n.\r\n")
        self.assertEqual([line[:9] for line in heard], ["554 5.6.0"] * 2)
        self.assertTrue(all(line.endswith("(smtp-1)") for line in heard))
        self.begun(peer)
        peer.intake.refusal = LedgerUnavailable()
        peer.say("DATA")
        heard = peer.send(b"Subject: x\r\n\r\n.\r\n")
        self.assertEqual([line[:9] for line in heard], ["451 4.3.0"] * 2)
        self.assertEqual(peer.intake.accepted, [])

    def test_prdr(self) -> None:
        """PRDR has a word before and one after."""
        peer = mx()
        self.assertIn("250-PRDR", peer.say("EHLO x").splitlines())
        for not_for, codes in (
            (set(), ["353", "250", "250", "250"]),
            ({BOB}, ["353", "552", "250", "250"]),
            ({BOB, ALICE.address}, ["353", "552", "552", "550"]),
        ):
            peer.intake.not_for = not_for
            self.begun(peer, "MAIL FROM:<a@b.test> PRDR")
            peer.say("DATA")
            heard = peer.send(b"Subject: x\r\n\r\n.\r\n")
            self.assertEqual([line[:3] for line in heard], codes)
        self.assertEqual(len(peer.intake.accepted), 2)
        self.begun(peer, "MAIL FROM:<a@b.test> PRDR")
        peer.intake.refusal = LedgerUnavailable()
        peer.say("DATA")
        heard = peer.send(b"Subject: x\r\n\r\n.\r\n")
        # With 5yz the client would give up on all.
        self.assertEqual([line[:3] for line in heard], ["353", "451", "451", "450"])


class WishTests(SmtpCase):
    """What a sender asks of everyone who has his message."""

    def handled(self, peer: Peer, parameters: str) -> Handling:
        """The handling of a message with these parameters."""
        self.assertIn("250", peer.say(f"MAIL FROM:<alice@example.test> {parameters}"))
        peer.say(f"RCPT TO:<{DAVE if peer.authenticator else BOB}>")
        peer.say("DATA")
        peer.send(b"Subject: x\r\n\r\n.\r\n")
        return peer.intake.accepted[-1].envelope.handling

    def test_deliver_by(self) -> None:
        """RFC 2852: in time, or returned, or told."""
        found = self.handled(submission(), "BY=120;R")
        self.assertEqual(found.by, DeliverBy(120, True))
        self.assertIn("501", mx().say("MAIL FROM:<> BY=0;R"))

    def test_future_release(self) -> None:
        """RFC 4865: our users can have mail held, up to a limit, which is told; it goes
        nowhere before its time, and its sender is told nothing of it."""
        peer = submission(future_release_s=86400)
        offered = peer.say("EHLO x").splitlines()
        self.assertIn("250-FUTURERELEASE 86400 2001-09-10T01:46:40Z", offered)
        for parameters, release_at in (
            ("HOLDFOR=86400", START + 86400),
            ("HOLDUNTIL=2001-09-10T03:46:40+02:00", START + 86400),
            ("HOLDUNTIL=2001-09-09T01:46:40Z BY=1;R", START),
            ("HOLDFOR=60 BY=61;R", START + 60),
            ("HOLDFOR=60 BY=1;N", START + 60),
        ):
            self.assertEqual(self.handled(peer, parameters).release_at, release_at)
        for parameters in (
            "HOLDFOR=86401",
            "HOLDUNTIL=2001-09-10T01:46:41Z",
            "HOLDUNTIL=2001-09-09T01:46:39Z",
            "HOLDFOR=60 BY=60;R",
            "HOLDFOR=0",
        ):
            heard = peer.say(f"MAIL FROM:<alice@example.test> {parameters}")
            self.assertIn("501 5.5.4", heard)
        self.assertIn("250", peer.say("MAIL FROM:<alice@example.test> HOLDFOR=9"))
        peer.say("RCPT TO:<bob@example.test> NOTIFY=SUCCESS")
        peer.say(f"RCPT TO:<{DAVE}>")
        peer.say("DATA")
        peer.send(b"Subject: x\r\n\r\n.\r\n")
        accepted = peer.intake.accepted[-1]
        asked = Notification(Notify.SUCCESS)
        waiting = (
            ToAgent(RELEASE, "", BOB, notification=asked),
            ToAgent(RELEASE, "", DAVE),
        )
        self.assertEqual(accepted.routes, waiting)
        self.assertEqual(accepted.confirmed, ())

    def test_no_future_release(self) -> None:
        """Others cannot, nor anybody where it is off."""
        for peer in (mx(), submission()):
            self.assertNotIn("FUTURERELEASE", peer.say("EHLO x"))
            heard = peer.say("MAIL FROM:<alice@example.test> HOLDFOR=9")
            self.assertIn("555", heard)

    def test_priority(self) -> None:
        """RFC 6710: our own users may go first, others may not."""
        for peer, asked, has, said in (
            (submission(), 3, 3, "250 2.1.0"),
            (submission(highest_priority=2), 3, 2, "250 2.3.6 2 "),
            (mx(), 3, 0, "250 2.3.6 0 "),
            (mx(), -3, -3, "250 2.1.0"),
        ):
            sender = "alice@example.test"
            heard = peer.say(f"MAIL FROM:<{sender}> MT-PRIORITY={asked}")
            self.assertIn(said, heard)
            peer.say("RSET")
            self.assertEqual(self.handled(peer, f"MT-PRIORITY={asked}").priority, has)
            clause = f"\r\n\tPRIORITY {has};".encode()
            self.assertEqual(clause in peer.intake.accepted[-1].prefix, has != 0)

    def test_require_tls(self) -> None:
        """RFC 8689: only where there is TLS, and it goes with the message."""
        peer = mx()
        self.assertNotIn("250-REQUIRETLS", peer.say("EHLO x").splitlines())
        self.assertIn("530 5.7.10", peer.say("MAIL FROM:<> REQUIRETLS"))
        peer = Peer(SmtpSettings(HOST), implicit_tls=True)
        peer.handshake()
        peer.heard()
        self.assertIn("250-REQUIRETLS", peer.say("EHLO x").splitlines())
        self.assertTrue(self.handled(peer, "REQUIRETLS").require_tls)

    def test_soliciting(self) -> None:
        """RFC 3865: what is not wanted is refused at MAIL, or by its header."""
        refused = ("net.example:adv",)
        peer = mx(no_soliciting=refused)
        offered = peer.say("EHLO x").splitlines()
        self.assertIn("250-NO-SOLICITING net.example:adv", offered)
        self.assertIn("550", peer.say("MAIL FROM:<> SOLICIT=net.example:ADV"))
        self.assertIn("250", peer.say("MAIL FROM:<> SOLICIT=org.example"))
        peer.say("RCPT TO:<bob@example.test>")
        peer.say("DATA")
        heard = peer.send(b"Solicitation: a:b, net.example:ADV\r\n\r\n.\r\n")
        self.assertIn("550 5.7.1", heard[0])
        peer.say("MAIL FROM:<>")
        peer.say("RCPT TO:<bob@example.test>")
        peer.say("DATA")
        heard = peer.send(b"SOLICITATION: net.example:ADV\r\n\r\n.\r\n")
        self.assertIn("550 5.7.1", heard[0])
        self.assertEqual(peer.intake.accepted, [])
        found = self.handled(peer, "SOLICIT=org.example,net.X:y")
        self.assertEqual(found.solicit, ("org.example", "net.x:y"))
        self.assertIn("555", mx().say("MAIL FROM:<> SOLICIT=org.example"))
