"""What routes ask of a message, and who is asked whether a recipient exists."""

from __future__ import annotations

from zope.interface import implementer

from tests.servers.smtpdrive import (
    ALICE,
    HOST,
    Directory,
    Peer,
    Policy,
    SmtpCase,
    mx,
    submission,
)
from twisted_mta.config import schema
from twisted_mta.delivery.router import Router as RealRouter
from twisted_mta.errors import MailError, NoSuchAccount, Temporary
from twisted_mta.interfaces import ICallout
from twisted_mta.mail.address import split
from twisted_mta.mail.networks import Networks
from twisted_mta.mail.route import Mailing, Resolved
from twisted_mta.servers.smtp.settings import SmtpSettings

NEAR = Networks(["192.168.0.0/16"])


@implementer(ICallout)
class Callout:
    """Fails if it is told to."""

    def __init__(self, error: MailError | None = None) -> None:
        self.error = error
        self.asked: list[Resolved] = []

    async def ask(self, resolved: Resolved) -> None:
        self.asked.append(resolved)
        if self.error is not None:
            raise self.error


class CalloutTests(SmtpCase):
    def test_mailing(self) -> None:
        """The router learns who sends, and who logged in."""
        alice = split("alice@example.test")
        for peer, sender, mailing in (
            (mx(), "x@else.test", Mailing(split("x@else.test"))),
            (mx(), "", Mailing()),
            (submission(), "alice@example.test", Mailing(alice, str(alice))),
        ):
            peer.say(f"MAIL FROM:<{sender}>")
            self.assertIn("250", peer.say("RCPT TO:<bob@example.test>"))
            self.assertEqual(peer.router.mailings[-1], mailing)

    def test_verify(self) -> None:
        """VRFY does not vouch for somebody whom only another server knows."""
        settings = SmtpSettings(HOST, verify_from=NEAR)
        for known_by, code in (("ask", "252"), ("any", "250")):
            domain = schema.Domain(deliver="lmtp", recipients=known_by)
            directory = Directory()
            router = RealRouter(directory, {"b.test": domain}, (), ALICE.address)
            peer = Peer(settings, router=router)  # type: ignore[arg-type]
            peer.say("EHLO client.example")
            self.assertEqual(peer.say("VRFY bob@b.test")[:3], code)

    def peer(self, callout: Callout, policy: Policy | None = None) -> Peer:
        settings = SmtpSettings(HOST, relay_from=NEAR)
        peer = Peer(settings, callout=callout, policy=policy)
        peer.say("EHLO client.example")
        peer.say("MAIL FROM:<x@else.test>")
        return peer

    def test_taken(self) -> None:
        """Who is asked about is taken if nobody objects, with what the router said."""
        callout = Callout()
        self.assertIn("250", self.peer(callout).say("RCPT TO:<bob@example.test>"))
        (resolved,) = callout.asked
        self.assertTrue(resolved.local)

    def test_refused(self) -> None:
        """Else he is not, and the transaction goes on."""
        callout = Callout(NoSuchAccount())
        peer = self.peer(callout)
        self.assertIn("550 5.1.1", peer.say("RCPT TO:<bob@example.test>"))
        callout.error = Temporary("Not now", "4.4.1")
        self.assertIn("451 4.4.1", peer.say("RCPT TO:<bob@example.test>"))
        callout.error = None
        self.assertIn("250", peer.say("RCPT TO:<bob@example.test>"))
        self.assertIn("354", peer.say("DATA"))

    def test_not_for_everybody(self) -> None:
        """Nobody is asked about a recipient who is refused in any case."""
        callout = Callout()
        peer = Peer(SmtpSettings(HOST), callout=callout)
        peer.say("EHLO client.example")
        peer.say("MAIL FROM:<x@else.test>")
        self.assertIn("550", peer.say("RCPT TO:<nobody@example.test>"))
        self.assertIn("550", peer.say("RCPT TO:<x@elsewhere.test>"))
        self.assertEqual(callout.asked, [])
