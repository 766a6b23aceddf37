"""Senders in our own domains, from strangers."""

from __future__ import annotations

from twisted.logger import capturedLogs, formatEvent

from tests.servers.smtpdrive import (
    ALICE,
    HOST,
    Directory,
    Peer,
    SmtpCase,
    mx,
    submission,
)
from twisted_mta.config import schema
from twisted_mta.delivery.router import Router
from twisted_mta.errors import LedgerUnavailable, NoSuchDomain
from twisted_mta.mail.networks import Networks
from twisted_mta.servers.smtp.settings import SmtpSettings

NEAR = Networks(["192.168.0.0/16"])
NOBODY = "MAIL FROM:<nobody@example.test>"


class ClaimTests(SmtpCase):
    def test_nobody(self) -> None:
        """A sender of ours that nobody has is refused, and the log has it."""
        peer = mx()
        with capturedLogs() as captured:
            self.assertIn("550 5.1.0 ", peer.say(NOBODY))
        log = "".join(str(formatEvent(event)) for event in captured)
        self.assertIn("from=<nobody@example.test>", log)
        self.assertIn("503", peer.say("RCPT TO:<bob@example.test>"))

    def test_somebody(self) -> None:
        """Whatever mail here would be taken for is taken as a sender, and so is what
        is elsewhere, or nobody's at all."""
        domains = {
            "example.test": schema.Domain(),
            "all.test": schema.Domain(catch_all="alice@example.test"),
        }
        directory = Directory()
        router = Router(directory, domains, (), ALICE.address)
        for sender, taken in (
            ("alice@example.test", True),
            ("alice+lists@EXAMPLE.test", True),
            ("team@example.test", True),  # an alias that leads elsewhere, too
            ("postmaster@example.test", True),
            ("abuse@all.test", True),
            ("anybody@all.test", True),
            ("x@elsewhere.test", True),
            ("nobody@sub.example.test", True),
            ("", True),
            ("nobody@example.test", False),
            ("alice+@all@example.test", False),
        ):
            peer = Peer(SmtpSettings(HOST), router=router)  # type: ignore[arg-type]
            peer.say("EHLO client.example")
            heard = peer.say(f"MAIL FROM:<{sender}>")
            self.assertEqual(heard[:3] == "250", taken, sender)

    def test_no_domain(self) -> None:
        """What cannot be a domain is not ours: policies judge it."""
        peer = mx()
        peer.router.fails = NoSuchDomain()
        self.assertIn("250", peer.say("MAIL FROM:<x@strange.test>"))

    def test_ours(self) -> None:
        """Who may relay, logs in, or speaks LMTP is not asked."""
        for peer in (mx(relay_from=NEAR), submission(check_sender="none")):
            self.assertIn("250", peer.say(NOBODY))
        lmtp = Peer(SmtpSettings(HOST, lmtp=True))
        lmtp.say("LHLO client.example")
        self.assertIn("250", lmtp.say(NOBODY))
        self.assertEqual(lmtp.router.asked, [])

    def test_not_now(self) -> None:
        """While it cannot be looked up the client is asked to come again."""
        peer = mx()
        peer.router.fails = LedgerUnavailable()
        self.assertIn("451 4.3.0", peer.say(NOBODY))
        peer.router.fails = None
        self.assertIn("250", peer.say("MAIL FROM:<bob@example.test>"))

    def test_warn(self) -> None:
        """With warn it is logged and taken, also while it cannot be looked up."""
        peer = mx(check_local_sender="warn")
        with capturedLogs() as captured:
            self.assertIn("250", peer.say(NOBODY))
        log = "".join(str(formatEvent(event)) for event in captured)
        self.assertIn("smtp-1: nobody here has the sender's address nobody@", log)
        peer.say("RSET")
        peer.router.fails = LedgerUnavailable()
        self.assertIn("250", peer.say(NOBODY))

    def test_none(self) -> None:
        """With none it is not looked up."""
        peer = mx(check_local_sender="none")
        self.assertIn("250", peer.say(NOBODY))
        self.assertEqual(peer.router.asked, [])

    def test_h44_guessing_senders(self) -> None:
        """Guesses are errors like any others: later answers, then the end."""
        peer = mx(soft_errors=2, hard_errors=3)
        for _ in range(2):
            self.assertIn("550", peer.say(NOBODY))
        self.assertEqual(peer.say(NOBODY)[:3], "550")
        self.assertTrue(peer.closed)
