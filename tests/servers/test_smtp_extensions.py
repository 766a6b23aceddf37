"""Extensions of SMTP: what they bring, and how they are switched off."""

from __future__ import annotations

from typing import get_args

from tests.servers.smtpdrive import BOB, HOST, Peer, SmtpCase, mx, submission
from twisted_mta.config.schema import ExtensionName
from twisted_mta.mail import dsn
from twisted_mta.mail.address import split
from twisted_mta.mail.dsn import Notification, Notify
from twisted_mta.mail.envelope import USUAL, Handling, Return
from twisted_mta.mail.networks import Networks
from twisted_mta.mail.route import ToAgent
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.wire.smtp.extension import EXTENSIONS

DAVE = split("dave@elsewhere.test")


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
            if word not in ("STARTTLS", "AUTH"):
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
