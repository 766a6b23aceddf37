"""What a message may hold and how it must travel: BINARYMIME and REQUIRETLS."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes

from tests.servers.smtpdrive import ALICE, BOB, HOST, Peer, SmtpCase, mx, submission
from twisted_mta.mail.envelope import USUAL, Body, Handling
from twisted_mta.mail.networks import Networks
from twisted_mta.servers.smtp.settings import SmtpSettings

IMAGE = b"\0\r\n.\r\n\n\xff\r"
BINARY = (
    b"MIME-Version: 1.0\r\nContent-Type: image/png\r\n"
    b"Content-Transfer-Encoding: binary\r\n\r\n" + IMAGE
)
ANYWHERE = Networks(["192.168.0.0/16"])


class BinaryTests(SmtpCase):
    """RFC 3030 3."""

    def sent(self, content: bytes, *recipients: str) -> Peer:
        peer = mx(relay_from=ANYWHERE)
        peer.heard()
        peer.say("MAIL FROM:<> BODY=BINARYMIME")
        for recipient in recipients:
            self.assertIn("250", peer.say(f"RCPT TO:<{recipient}>"))
        self.heard = peer.send(b"BDAT %d LAST\r\n" % len(content) + content)
        return peer

    def test_elsewhere(self) -> None:
        """Binary content goes on as it is."""
        peer = self.sent(BINARY, "dave@elsewhere.test")
        (accepted,) = peer.intake.accepted
        self.assertEqual(accepted.octets, BINARY)
        self.assertIs(accepted.envelope.body, Body.BINARY)

    def test_here(self) -> None:
        """Into a mailbox it goes as POP3 and IMAP can carry it; nothing of what came
        is left behind."""
        peer = self.sent(BINARY, "dave@elsewhere.test", str(BOB))
        (accepted,) = peer.intake.accepted
        message = message_from_bytes(accepted.octets)
        self.assertEqual(message["Content-Transfer-Encoding"], "base64")
        self.assertEqual(message.get_payload(decode=True), IMAGE)
        self.assertIs(accepted.envelope.body, Body.EIGHT_BIT)
        came, made = peer.intake.contents
        self.assertTrue(came.aborted)
        self.assertTrue(made.finished)

    def test_saved(self) -> None:
        """So it goes if only the sender keeps a copy here."""
        peer = submission(replace(ALICE, save_sent=True))
        peer.say("MAIL FROM:<alice@example.test> BODY=BINARYMIME")
        peer.say("RCPT TO:<dave@elsewhere.test>")
        peer.send(b"BDAT %d LAST\r\n" % len(BINARY) + BINARY)
        self.assertNotIn(b"\0", peer.intake.accepted[0].octets)

    def test_held(self) -> None:
        """So it goes if it is held: who knows where it will go."""
        peer = submission(future_release_s=60)
        peer.say("MAIL FROM:<alice@example.test> BODY=BINARYMIME HOLDFOR=9")
        peer.say("RCPT TO:<dave@elsewhere.test>")
        peer.send(b"BDAT %d LAST\r\n" % len(BINARY) + BINARY)
        self.assertNotIn(b"\0", peer.intake.accepted[0].octets)

    def test_not_convertible(self) -> None:
        """What cannot be made so is refused."""
        signed = (
            b"MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n"
            b"--b\r\n" + BINARY + b"\r\n--b--\r\n"
        )
        peer = self.sent(signed, str(BOB))
        self.assertIn("554 5.6.0", self.heard[0])
        self.assertIn("signed", self.heard[0])
        self.assertEqual(peer.intake.accepted, [])
        self.assertTrue(all(content.aborted for content in peer.intake.contents))

    def test_only_in_chunks(self) -> None:
        """It does not come with DATA; the transaction goes on."""
        peer = mx()
        peer.say("MAIL FROM:<> BODY=BINARYMIME")
        peer.say(f"RCPT TO:<{BOB}>")
        self.assertIn("503", peer.say("DATA"))
        self.assertIn("250", peer.send(b"BDAT 6 LAST\r\na: b\r\n")[0])
        self.assertEqual(peer.intake.accepted[0].octets, b"a: b\r\n")

    def test_not_offered(self) -> None:
        """It is not offered without what it needs, nor taken then."""
        for word in ("CHUNKING", "BINARYMIME", "8BITMIME"):
            peer = mx(without=frozenset({word}))
            self.assertNotIn("BINARYMIME", peer.say("EHLO again.example"))
            self.assertIn("555", peer.say("MAIL FROM:<> BODY=BINARYMIME"))
            self.assertIn("250", peer.say("MAIL FROM:<>"))
        self.assertIn("BINARYMIME", mx().say("EHLO again.example"))


class RequireTlsTests(SmtpCase):
    """RFC 8689."""

    def secured(self, **settings: object) -> Peer:
        made = SmtpSettings(HOST, **settings)  # type: ignore[arg-type]
        peer = Peer(made, tls="context", implicit_tls=True)
        peer.handshake()
        return peer

    def test_carried(self) -> None:
        """Under TLS it is offered, and goes with the message."""
        for asked, handling in (
            (" REQUIRETLS", Handling(require_tls=True)),
            ("", USUAL),
        ):
            peer = self.secured()
            self.assertIn("REQUIRETLS", peer.say("EHLO client.example"))
            peer.say(f"MAIL FROM:<>{asked}")
            peer.say(f"RCPT TO:<{BOB}>")
            peer.say("DATA")
            peer.send(b"a: b\r\n.\r\n")
            (accepted,) = peer.intake.accepted
            self.assertEqual(accepted.envelope.handling, handling)

    def test_in_the_clear(self) -> None:
        """Without TLS it is neither offered nor taken."""
        peer = mx()
        self.assertNotIn("REQUIRETLS", peer.say("EHLO again.example"))
        self.assertIn("530 5.7.10", peer.say("MAIL FROM:<> REQUIRETLS"))
        self.assertIn("250", peer.say("MAIL FROM:<>"))

    def test_switched_off(self) -> None:
        """Nor where it is switched off."""
        peer = self.secured(without=frozenset({"REQUIRETLS"}))
        self.assertNotIn("REQUIRETLS", peer.say("EHLO client.example"))
        self.assertIn("555", peer.say("MAIL FROM:<> REQUIRETLS"))
