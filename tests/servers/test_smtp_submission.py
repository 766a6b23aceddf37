"""Transcripts of L{twisted_mta.servers.smtp.session} as a submission server."""

from __future__ import annotations

import base64

from tests.servers.smtpdrive import (
    ALICE,
    HOST,
    Authenticator,
    Peer,
    SmtpCase,
    mx,
    submission,
)
from twisted_mta.mail.address import Address
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.networks import Networks
from twisted_mta.mail.route import Resolved
from twisted_mta.servers.smtp.settings import SmtpSettings

WHOLE = (
    b"From: Alice <alice@example.test>\r\nDate: Sun, 9 Sep 2001 01:46:40 +0000\r\n"
    b"Message-ID: <1@x>\r\n\r\nHello.\r\n"
)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def with_tls(**settings: bool) -> Peer:
    peer = Peer(
        SmtpSettings(HOST, submission=True, **settings),
        authenticator=Authenticator(),
        tls="context",
    )
    peer.heard()
    return peer


class TlsTests(SmtpCase):
    def test_starttls(self) -> None:
        """TLS is offered until it is on, passwords are welcome from then on;
        the client begins again with EHLO."""
        peer = with_tls()
        heard = peer.say("EHLO client.example")
        self.assertIn("250-STARTTLS", heard)
        self.assertNotIn("AUTH", heard)
        self.assertIn("538 5.7.11", peer.say(f"AUTH PLAIN {b64('x')}"))
        self.assertIn("220 2.0.0", peer.say("STARTTLS"))
        self.assertEqual(peer.transport.tls, "context")
        peer.handshake()
        self.assertIn("503", peer.say("AUTH LOGIN"))
        heard = peer.say("EHLO client.example")
        self.assertNotIn("STARTTLS", heard)
        self.assertIn("250-AUTH PLAIN LOGIN", heard)
        self.assertIn("502", peer.say("STARTTLS"))
        peer.say(f"AUTH PLAIN {b64(chr(0) + 'alice@example.test' + chr(0) + 'secret')}")
        peer.say("MAIL FROM:<alice@example.test>")
        peer.say("RCPT TO:<bob@example.test>")
        peer.say("DATA")
        peer.send(WHOLE + b".\r\n")
        (accepted,) = peer.intake.accepted
        self.assertIn(
            b"with ESMTPSA (TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n", accepted.prefix
        )

    def test_h04_injected_commands(self) -> None:
        """Commands that came in the clear with STARTTLS are never obeyed: the
        connection ends. Those that come after it are dropped by the stream."""
        peer = with_tls()
        peer.say("EHLO client.example")
        heard = peer.send(b"STARTTLS\r\nNOOP\r\n")
        self.assertEqual([line[:3] for line in heard], ["554"])
        self.assertTrue(peer.closed)
        peer = with_tls()
        peer.say("EHLO client.example")
        peer.say("STARTTLS")
        self.assertEqual(peer.send(b"EHLO evil\r\nNOOP\r\n"), [])
        peer.handshake()
        self.assertEqual(peer.heard(), [])
        self.assertIn("503", peer.say("AUTH LOGIN"))

    def test_h05_nothing_survives_tls(self) -> None:
        """Neither greeting nor login nor transaction is kept over STARTTLS."""
        peer = with_tls(plaintext_login=True)
        peer.say("EHLO client.example")
        plain = chr(0) + "alice@example.test" + chr(0) + "secret"
        self.assertIn("235", peer.say(f"AUTH PLAIN {b64(plain)}"))
        self.assertIn("250", peer.say("MAIL FROM:<alice@example.test>"))
        peer.say("STARTTLS")
        peer.handshake()
        self.assertIn("503", peer.say("RCPT TO:<bob@example.test>"))
        self.assertIn("503", peer.say("MAIL FROM:<alice@example.test>"))
        peer.say("EHLO client.example")
        self.assertIn("530", peer.say("MAIL FROM:<alice@example.test>"))

    def test_implicit_tls(self) -> None:
        """With TLS from the first octet there is no STARTTLS, passwords are
        welcome, and the envelope says so."""
        peer = Peer(
            SmtpSettings(HOST, submission=True),
            authenticator=Authenticator(),
            tls="context",
            implicit_tls=True,
        )
        self.assertEqual(peer.heard(), [])
        peer.handshake()
        self.assertIn("220", peer.heard()[0])
        heard = peer.say("EHLO client.example")
        self.assertNotIn("STARTTLS", heard)
        self.assertIn("250-AUTH PLAIN LOGIN", heard)
        peer.say(f"AUTH PLAIN {b64(chr(0) + 'alice@example.test' + chr(0) + 'secret')}")
        peer.say("MAIL FROM:<alice@example.test>")
        peer.say("RCPT TO:<bob@example.test>")
        peer.say("DATA")
        peer.send(WHOLE + b".\r\n")
        self.assertEqual(
            peer.intake.accepted[0].envelope.origin.tls,
            "TLSv1.3 TLS_AES_256_GCM_SHA384",
        )

    def test_failed_handshake(self) -> None:
        """A handshake that fails ends the session in silence."""
        peer = with_tls()
        peer.say("EHLO client.example")
        peer.say("STARTTLS")
        peer.leave()
        self.assertTrue(peer.ended)
        self.assertEqual(peer.heard(), [])


class AuthTests(SmtpCase):
    def peer(self) -> Peer:
        peer = Peer(
            SmtpSettings(HOST, submission=True, plaintext_login=True),
            authenticator=Authenticator(),
        )
        peer.heard()
        return peer

    def test_login_required(self) -> None:
        """Without a login there is no transaction."""
        self.play(
            self.peer(),
            """
            C: EHLO client.example
            S: 250-mx.example.test
            S: 250-PIPELINING
            S: 250-SIZE
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
            S: 250-XVERP
            S: 250-AUTH PLAIN LOGIN
            S: 250 HELP
            C: MAIL FROM:<alice@example.test>
            S: 530 5.7.0
            """,
        )

    def test_mechanisms(self) -> None:
        """PLAIN with and without an initial response, and LOGIN; afterwards
        AUTH is neither offered nor taken."""
        plain = b64("\0alice@example.test\0secret")
        for said, challenges in (
            ((f"AUTH PLAIN {plain}",), ()),
            (("AUTH PLAIN", plain), ("334 ",)),
            (
                ("AUTH login", b64("alice@example.test"), b64("secret")),
                (f"334 {b64('Username:')}", f"334 {b64('Password:')}"),
            ),
        ):
            peer = self.peer()
            peer.say("EHLO x")
            *heard, last = map(peer.say, said)
            self.assertEqual(tuple(heard), challenges)
            self.assertIn("235 2.7.0", last)
            assert peer.authenticator is not None
            self.assertEqual(
                peer.authenticator.tried,
                [("alice@example.test", "secret", "192.168.1.1")],
            )
            self.assertIn("503", peer.say(f"AUTH PLAIN {plain}"))
            self.assertNotIn("AUTH", peer.say("EHLO x"))

    def test_h40_refused(self) -> None:
        """Wrong passwords, wrong forms, other identities and cancelling: none
        logs in, and the session goes on."""
        for said, code in (
            ((f"AUTH PLAIN {b64(chr(0) + 'a' + chr(0) + 'b')}",), "535 5.7.8"),
            (
                (f"AUTH PLAIN {b64('bob' + chr(0) + 'alice@example.test')}",),
                "501 5.5.2",
            ),
            (
                (f"AUTH PLAIN {b64('bob' + chr(0) + 'alice' + chr(0) + 'secret')}",),
                "535 5.7.8",
            ),
            (("AUTH PLAIN", "!!!"), "501 5.5.2"),
            (("AUTH PLAIN", "YQ"), "501 5.5.2"),
            (("AUTH PLAIN", "*"), "501 5.7.0"),
            (("AUTH LOGIN", b64("alice"), "*"), "501 5.7.0"),
            (("AUTH LOGIN", b64("a\0b")), "501 5.5.2"),
            (("AUTH PLAIN =",), "501 5.5.2"),
            (("AUTH SCRAM-SHA-1",), "504 5.5.4"),
            (("AUTH",), "501 5.5.4"),
        ):
            peer = self.peer()
            peer.say("EHLO x")
            *_, last = map(peer.say, said)
            self.assertTrue(last.startswith(code), (said, last))
            self.assertIn("530", peer.say("MAIL FROM:<alice@example.test>"))

    def test_h40_too_long(self) -> None:
        """A response of a megabyte is cut off."""
        peer = self.peer()
        peer.say("EHLO x")
        peer.say("AUTH PLAIN")
        heard = peer.send(b"A" * 1_000_000)
        self.assertEqual([line[:3] for line in heard], ["500"])
        self.assertTrue(peer.closed)

    def test_h40_cancelling_for_ever(self) -> None:
        """Cancelling counts as an error, so it ends."""
        peer = self.peer()
        peer.say("EHLO x")
        for _ in range(1000):
            if peer.closed:
                break
            peer.say("AUTH PLAIN")
            last = peer.say("*")
            peer.clock.advance(1)
            last = last or "\n".join(peer.heard())
        self.assertIn("421 4.7.0", last)

    def test_h41_names(self) -> None:
        """Names that would be paths, queries or formats elsewhere are just
        wrong here, or of no form."""
        for name in ("%s%n", "../../etc/passwd", "';--", "*)(uid=*", "ä", "x" * 10000):
            peer = self.peer()
            peer.say("EHLO x")
            peer.say("AUTH LOGIN")
            heard = peer.say(b64(name))
            if heard.startswith("334"):
                heard = peer.say(b64("secret"))
            self.assertRegex(heard, "^(501|535|500)")

    def test_order(self) -> None:
        """AUTH comes after EHLO and not within a transaction."""
        peer = self.peer()
        self.assertIn("503", peer.say("AUTH LOGIN"))
        peer = submission()
        peer.say("MAIL FROM:<alice@example.test>")
        self.assertIn("503", peer.say("AUTH LOGIN"))

    def test_client_leaves_within(self) -> None:
        """Who leaves within an exchange leaves nothing behind."""
        peer = self.peer()
        peer.say("EHLO x")
        peer.say("AUTH LOGIN")
        peer.leave()
        self.assertTrue(peer.ended)


class SenderTests(SmtpCase):
    def send(self, peer: Peer, octets: bytes) -> str:
        peer.say("MAIL FROM:<alice@example.test>")
        peer.say("RCPT TO:<dave@elsewhere.test>")
        peer.say("DATA")
        (heard,) = peer.send(octets + b".\r\n")
        return heard

    def test_sender(self) -> None:
        """MAIL takes the login's addresses, and the null one for receipts."""
        peer = submission()
        self.assertIn("553 5.7.1", peer.say("MAIL FROM:<bob@example.test>"))
        for sender in ("alice@example.test", "sales@example.test", ""):
            self.assertIn("250", peer.say(f"MAIL FROM:<{sender}>"))
            peer.say("RSET")
        free = submission(check_sender="none")
        self.assertIn("250", free.say("MAIL FROM:<bob@example.test>"))

    def test_unqualified(self) -> None:
        """Domains that mean something else elsewhere are refused (RFC 6409
        4.2), unless they are ours; only on submission."""

        async def route(recipient: Address, mailing: object) -> Resolved:
            return Resolved(recipient.domain == "office", ())

        peer = submission(check_sender="none")
        self.patch(peer.router, "route", route)
        for sender, code in (
            ("alice@example.test", "250"),
            ("alice@[192.0.2.1]", "250"),
            ("", "250"),
            ("root@localhost", "554 5.1.8"),
        ):
            heard = peer.say(f"MAIL FROM:<{sender}>")
            self.assertEqual(heard[: len(code)], code, sender)
            peer.say("RSET")
        peer.say("MAIL FROM:<alice@example.test>")
        for recipient, code in (
            ("bob@office", "250"),
            ("carol@elsewhere.test", "250"),
            ("carol@[IPv6:2001:db8::1]", "250"),
            ("carol@elsewhere", "554 5.1.2"),
        ):
            heard = peer.say(f"RCPT TO:<{recipient}>")
            self.assertEqual(heard[: len(code)], code, recipient)
        relay = mx(relay_from=Networks(["0.0.0.0/0"]))
        self.assertIn("250", relay.say("MAIL FROM:<root@localhost>"))
        self.assertIn("250", relay.say("RCPT TO:<carol@elsewhere>"))

    def test_whole_message(self) -> None:
        """A message that has all it needs gets Received and nothing else, and
        goes anywhere."""
        peer = submission()
        self.assertIn("250", self.send(peer, WHOLE))
        (accepted,) = peer.intake.accepted
        self.assertEqual(accepted.octets, WHOLE)
        self.assertEqual(accepted.prefix.count(b"\r\n"), 5)
        self.assertIn(b"with ESMTPA\r\n", accepted.prefix)
        self.assertEqual(accepted.envelope.origin.login, str(ALICE.address))

    def test_missing_fields(self) -> None:
        """From, Date and Message-ID are added when they are missing."""
        peer = submission()
        self.send(peer, b"Subject: hello\r\n\r\nHello.\r\n")
        (accepted,) = peer.intake.accepted
        id = to_text(accepted.envelope.id)
        self.assertTrue(
            accepted.prefix.endswith(
                b"From: <alice@example.test>\r\n"
                b"Date: Sun, 9 Sep 2001 01:46:40 +0000\r\n"
                + f"Message-ID: <{id}@{HOST}>\r\n".encode()
            )
        )

    def test_from(self) -> None:
        """Every address in From must be the login's."""
        for value, code in (
            (b"alice@example.test", "250"),
            (b"Bob <ALICE@Example.Test>, sales@example.test", "250"),
            (b"bob@example.test", "550 5.7.1"),
            (b"alice@example.test, bob@example.test", "550 5.7.1"),
            (b'"alice@example.test" <bob@example.test>', "550 5.7.1"),
            (b"a:,,,;", "550 5.7.1"),
            (b"", "550 5.7.1"),
            (b"\xff@example.test", "550 5.7.1"),
            (b"<alice@example.test> bob@example.test", "550 5.7.1"),
            (b"bob@example.test <alice@example.test>", "550 5.7.1"),
            (b"alice@example.test <alice@example.test>", "250"),
            (b"bob@example.test: alice@example.test;", "550 5.7.1"),
            (b"[<bob@example.test>] <alice@example.test>", "550 5.7.1"),
            (b"[, bob@example.test ,] <alice@example.test>", "550 5.7.1"),
            (b"[List] Alice <alice@example.test>", "250"),
            (b"bob@example.test\x0b<alice@example.test>", "550 5.7.1"),
            (b'<""@evil.test:alice@example.test>', "550 5.7.1"),
            (b"al ice@example.test", "550 5.7.1"),
            (b"<alice@exam ple.test>", "550 5.7.1"),
            (b'"x\\" <bob@example.test>, " <alice@example.test>', "250"),
            (b'"x <bob@example.test>, <alice@example.test>', "550 5.7.1"),
            (b"(x\\) bob@example.test, ) alice@example.test", "250"),
            (b"(x) ) alice@example.test", "550 5.7.1"),
            (b"Alice (a (b@c) d) <alice@example.test> (e@f)", "250"),
            (b"=?utf-8?q?A=40B?= <alice@example.test>", "250"),
            (b"Team: alice@example.test, sales@example.test;", "250"),
            (b"alice@example.test (bob@example.test)", "250"),
            (b"alice@example.test\r\nFrom\0: bob@example.test", "554 5.6.0"),
            (b"alice@example.test\r\nFrom\xa0: bob@example.test", "554 5.6.0"),
            (b'"bob@example.test" <alice@example.test>', "250"),
            (b"a <alice@example.test>," * 1000 + b"bob@example.test", "550 5.7.1"),
            (b"alice@example.test" + b"(x)" * 40_000 + b",bob@example.test", "554"),
            (b"a@b, " * 2000 + b"alice@example.test", "550 5.7.1"),
            (b"alice@example.test\r\nFrom: bob@example.test", "554 5.6.0"),
            (b"bob@example.test\r\nfrom : alice@example.test", "554 5.6.0"),
        ):
            peer = submission()
            heard = self.send(peer, b"From: " + value + b"\r\n\r\n")
            self.assertTrue(heard.startswith(code), (value[:60], heard))
            self.assertEqual(len(peer.intake.accepted), code == "250")
        heard = self.send(submission(), b"a:\r\n" * 10000 + b"From: bob@x\r\n\r\n")
        self.assertTrue(heard.startswith("554 5.6.0"), heard)
        for octets, code in (
            (b"Hello.\r\n", "250"),
            (b"Hello.\r\nFrom: alice@example.test\r\n\r\n", "554 5.6.0"),
            (b"From\0: bob@example.test\r\n\r\n", "554 5.6.0"),
            (b"X: y\r\n", "250"),
            (b"\r\nFrom: bob@example.test\r\n", "250"),
        ):
            heard = self.send(submission(), octets)
            self.assertTrue(heard.startswith(code), (octets, heard))
        free = submission(check_sender="none")
        self.assertIn("250", self.send(free, b"From: bob@example.test\r\n\r\n"))

    def test_continued(self) -> None:
        """Nothing goes on in a field that is ours, and no line of the header ends where
        another server may see the next."""
        heard = self.send(submission(), b" , Bob <bob@example.test>\r\n\r\n")
        self.assertIn("554 5.6.0", heard)
        peer = submission()
        peer.say("MAIL FROM:<alice@example.test> BODY=BINARYMIME")
        peer.say("RCPT TO:<dave@elsewhere.test>")
        octets = b"X: y\rFrom: bob@example.test\r\nFrom: alice@example.test\r\n\r\n"
        heard = peer.send(b"BDAT %d LAST\r\n%b" % (len(octets), octets))[0]
        self.assertIn("554 5.6.0", heard)
        self.assertEqual(peer.intake.accepted, [])

    def test_h02_bare_line_ends_are_mended(self) -> None:
        """What a user's old program sends is stored with CRLF alone, as one
        message."""
        peer = submission()
        octets = b"a: b\n\n.\nMAIL FROM:<x@y>\r.\r\nz\r\n"
        self.assertIn("250", self.send(peer, octets))
        (accepted,) = peer.intake.accepted
        self.assertEqual(
            accepted.octets,
            b"a: b\r\n\r\n.\r\nMAIL FROM:<x@y>\r\n.\r\nz\r\n",
        )
