"""What sessions say of mail that is sent on, relayed, or not wanted."""

from dataclasses import dataclass, field, replace

from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.servers.smtpdrive import ALICE, HOST, Peer, Router, SmtpCase, mx, submission
from twisted_mta.errors import NoSuchAccount, Temporary, Unverified
from twisted_mta.interfaces import IRecipients, ISuppression
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.networks import Networks
from twisted_mta.mail.route import (
    NO_MAILING,
    RELEASE,
    Mailing,
    Resolved,
    ToAgent,
    ToMailbox,
)
from twisted_mta.mail.suppressed import Reason, Suppressed
from twisted_mta.net.stream import Stream
from twisted_mta.servers.smtp.session import SmtpSession
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.servers.smtp.unwanted import Unwanted

BOB = split("bob@example.test")
TEXT = b"Subject: hello\r\n\r\nhello\r\n.\r\n"


class Roads(Router):
    """C{srs} is a return address, C{sales} leads elsewhere and C{both} here as well,
    relayed.test is another's."""

    async def route(
        self, recipient: Address, mailing: Mailing = NO_MAILING
    ) -> Resolved:
        away = ToAgent("smtp", "away.test", split("carol@away.test"))
        if recipient.local == "srs":
            return Resolved(True, (away,), returns=True)
        if recipient.domain == "relayed.test":
            way = ToAgent("smtp", "relayed.test", recipient)
            return Resolved(True, (way,), relayed=True)
        away = replace(away, forwarder=recipient)
        if recipient.local == "sales":
            return Resolved(True, (away,))
        if recipient.local == "both":
            return Resolved(True, (ToMailbox(1, BOB), away))
        return await super().route(recipient)


@implementer(IRecipients)
class Recipients:
    def __init__(self) -> None:
        self.asked: list[Address] = []

    async def check(self, recipient: Address, way: ToAgent) -> None:
        self.asked.append(recipient)
        if recipient.local == "nobody":
            raise NoSuchAccount()
        if recipient.local == "unsure":
            raise Unverified()


@implementer(ISuppression)
class Listed:
    """Carol is on the list for all; dave for alice."""

    def __init__(self) -> None:
        self.down = False

    async def find(
        self, address: Address, account: Address | None = None
    ) -> Suppressed | None:
        if self.down:
            raise Temporary()
        if address.local == "carol":
            said = "550 5.1.1 Nobody é (mx.away.test)"
            return Suppressed(str(address), "", "hard_bounce", said, 1_000_000_000.0)
        if address.local == "dave" and account == ALICE.address:
            return Suppressed(str(address), str(account), "complaint", "x", 1e9)
        return None

    async def listed(self) -> list[Suppressed]:
        return []

    async def add(
        self,
        address: Address,
        account: Address | None,
        reason: Reason,
        source: str,
        keep_s: float | None = None,
    ) -> None:
        raise AssertionError("a session puts nobody on the list")

    async def remove(self, address: Address, account: Address | None = None) -> None:
        raise AssertionError("nor takes anybody off")


@dataclass
class Forwarder(Peer):
    """A peer whose server knows relayed domains, and a list."""

    router: Router = field(default_factory=Roads)
    recipients: Recipients = field(default_factory=Recipients)
    suppression: Listed = field(default_factory=Listed)
    forwarded: bool = False

    async def _session(self, stream: Stream) -> None:
        await SmtpSession(
            stream,
            self.settings,
            self.clock,  # type: ignore[arg-type]
            self.router,
            self.intake,
            self.directory,
            self.authenticator,
            recipients=self.recipients,
            unwanted=Unwanted(self.suppression, "pm@example.test", self.forwarded),
        ).run()

    def begin(self, sender: str = "erin@third.test", more: str = "") -> str:
        self.heard()
        self.say("EHLO client.example")
        return self.say(f"MAIL FROM:<{sender}>{more}")


NEAR = Networks(["192.168.1.1"])  # where StringTransport's peer is


class ReturnTests(SmtpCase):
    def test_h43_bounces_only(self) -> None:
        """To a return address go bounces, and nothing else; nobody has to be one of
        us for that."""
        peer = Forwarder()
        peer.begin()
        self.assertIn(
            "550 5.7.1 That is a return", peer.say("RCPT TO:<srs@example.test>")
        )
        peer = Forwarder()
        peer.begin("")
        self.assertIn("250", peer.say("RCPT TO:<srs@example.test>"))

    def test_long(self) -> None:
        """A return address may be longer than a local part has to be."""
        peer = Forwarder()
        peer.begin("")
        local = f"SRS0=abcd=ef=example.net={'b' * 64}"
        self.assertIn("550 5.1.1", peer.say(f"RCPT TO:<{local}@example.test>"))
        self.assertIn("501", peer.say(f"RCPT TO:<{'b' * 65}@example.test>"))
        self.assertIn("501", peer.say(f"RCPT TO:<{local}{'b' * 200}@example.test>"))


class RelayedTests(SmtpCase):
    def test_exists(self) -> None:
        """Of a domain that is relayed, strangers' mail is taken for who exists."""
        verifyObject(IRecipients, Recipients())
        peer = Forwarder()
        peer.begin()
        self.assertIn("250", peer.say("RCPT TO:<bob@relayed.test>"))
        self.assertIn("550 5.1.1", peer.say("RCPT TO:<nobody@relayed.test>"))
        self.assertIn("450 4.1.1", peer.say("RCPT TO:<unsure@relayed.test>"))
        self.assertEqual(len(peer.recipients.asked), 3)

    def test_not_asked(self) -> None:
        """Whoever is one of us may write to anybody, as elsewhere; and who writes from
        there is not asked about."""
        peer = Forwarder(SmtpSettings(HOST, relay_from=NEAR))
        peer.begin()
        self.assertIn("250", peer.say("RCPT TO:<nobody@relayed.test>"))
        peer = Forwarder()
        self.assertIn("250", peer.begin("nobody@relayed.test"))
        self.assertEqual(peer.recipients.asked, [])

    def test_nobody_knows(self) -> None:
        """Where nobody can say who exists, nothing is relayed."""
        peer = Peer(router=Roads())
        peer.heard()
        peer.say("EHLO client.example")
        peer.say("MAIL FROM:<erin@third.test>")
        self.assertIn("550 5.7.1", peer.say("RCPT TO:<bob@relayed.test>"))


class UnwantedTests(SmtpCase):
    def test_refused(self) -> None:
        """Who submits to somebody on the list reads why, since when, and what to
        do."""
        verifyObject(ISuppression, Listed())
        peer = Forwarder(SmtpSettings(HOST, relay_from=NEAR))
        peer.begin()
        said = peer.say("RCPT TO:<carol@away.test>")
        for part in (
            "550-5.7.1 carol@away.test is on the suppression list of this server",
            "since 2001-09-09",
            "550-5.7.1 Its server says that nobody has it: 550 5.1.1 Nobody ? (mx.away",
            "550 5.7.1 To have it taken off, write to pm@example.test",
        ):
            self.assertIn(part, said)
        self.assertTrue(said.isascii())
        self.assertIn("250", peer.say("RCPT TO:<dave@away.test>"))

    def test_account(self) -> None:
        """An entry may be of one account."""
        peer = peer_with_list(submission())
        said = peer.say("RCPT TO:<dave@away.test>")
        self.assertIn("for your account", said)
        self.assertIn("complained", said)

    def test_strangers(self) -> None:
        """Strangers' mail for us is not looked at, unless the config says so."""
        peer = Forwarder()
        peer.begin()
        self.assertIn("250", peer.say("RCPT TO:<sales@example.test>"))

    def test_forwarded(self) -> None:
        """Then an address here is no way to somebody on the list; who else is behind
        it has the mail."""
        peer = Forwarder(forwarded=True)
        peer.begin()
        said = peer.say("RCPT TO:<sales@example.test>")
        self.assertIn("550 5.7.1", said)
        self.assertNotIn("carol", said)
        self.assertIn("250", peer.say("RCPT TO:<both@example.test>"))
        peer.say("DATA")
        peer.send(TEXT)
        self.assertEqual(peer.intake.accepted[0].routes, (ToMailbox(1, BOB),))

    def test_away(self) -> None:
        """If the list cannot be read, the client shall come again."""
        peer = Forwarder(SmtpSettings(HOST, relay_from=NEAR))
        peer.suppression.down = True
        peer.begin()
        self.assertIn("451", peer.say("RCPT TO:<carol@away.test>"))


def peer_with_list(peer: Peer) -> Peer:
    """A peer that is logged in, and has begun; its server has a list."""
    made = Forwarder(peer.settings, authenticator=peer.authenticator)
    made.heard()
    made.say("EHLO client.example")
    made.say("AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=")
    made.say("MAIL FROM:<alice@example.test>")
    return made


class VerpTests(SmtpCase):
    def sent(self, peer: Peer, more: str) -> list[str]:
        """The senders of the ways of a message to two people elsewhere."""
        self.assertIn("250", peer.say(f"MAIL FROM:<alice@example.test>{more}"))
        for name in ("carol", "dave"):
            self.assertIn("250", peer.say(f"RCPT TO:<{name}@away.test>"))
        self.assertIn("250", peer.say("RCPT TO:<bob@example.test>"))
        peer.say("DATA")
        self.assertIn("250", peer.send(TEXT)[0])
        routes = peer.intake.accepted[-1].routes
        return [str(route.sender) for route in routes if isinstance(route, ToAgent)]

    def test_asked(self) -> None:
        """Who is one of us may ask for it, with delimiters or without."""
        for peer in (submission(), mx(relay_from=NEAR, check_local_sender="none")):
            self.assertEqual(
                self.sent(peer, " XVERP"),
                [
                    "alice+carol=away.test@example.test",
                    "alice+dave=away.test@example.test",
                ],
            )
            self.assertEqual(
                self.sent(peer, " xverp=-+ BODY=8BITMIME")[0],
                "alice-carol+away.test@example.test",
            )
            self.assertEqual(self.sent(peer, ""), ["None", "None"])
            verps = [one.envelope.handling.verp for one in peer.intake.accepted]
            self.assertEqual(verps, ["+=", "-+", ""])

    def test_not_offered(self) -> None:
        """Others may not; nor anybody where it is switched off."""
        off = frozenset({"XVERP"})
        for peer in (mx(), submission(without=off), mx(relay_from=NEAR, without=off)):
            self.assertIn("555", peer.say("MAIL FROM:<alice@example.test> XVERP"))

    def test_wrong(self) -> None:
        """Nobody has no name to write another into; delimiters are two of three."""
        peer = submission()
        self.assertIn("501 5.5.4", peer.say("MAIL FROM:<> XVERP"))
        for value in ("=", "=+", "=+=+", "=ab", "=+@"):
            said = peer.say(f"MAIL FROM:<alice@example.test> XVERP{value}")
            self.assertTrue(said.startswith(("501", "555")), (value, said))

    def test_config(self) -> None:
        """The config may ask for it, for a sender or for a login."""
        for wanted, senders in (
            (("alice@example.test", "", "+="), True),
            (("", "alice@example.test", "+="), True),
            (("sales@example.test", "", "+="), False),
            (("", "bob@example.test", "+="), False),
        ):
            found = self.sent(submission(verp=(wanted,)), "")
            self.assertEqual("alice+carol=away.test@example.test" in found, senders)
        stranger = mx(
            verp=(("alice@example.test", "", "+="),), check_local_sender="none"
        )
        stranger.say("MAIL FROM:<alice@example.test>")
        stranger.say("RCPT TO:<bob@example.test>")
        stranger.say("DATA")
        stranger.send(TEXT)
        self.assertEqual(stranger.intake.accepted[0].envelope.handling.verp, "")

    def test_held(self) -> None:
        """What is held until a time has it then."""
        peer = submission(future_release_s=1_000)
        senders = self.sent(peer, " XVERP HOLDFOR=60")
        self.assertEqual(senders, ["None"] * 3)
        (accepted,) = peer.intake.accepted
        self.assertEqual(accepted.envelope.handling.verp, "+=")
        self.assertTrue(
            all(
                isinstance(route, ToAgent) and route.agent == RELEASE
                for route in accepted.routes
            )
        )


class ResentTests(SmtpCase):
    def added(self, text: bytes) -> bytes:
        """What submission adds."""
        peer = submission(check_sender="none")
        peer.say("MAIL FROM:<alice@example.test>")
        peer.say("RCPT TO:<bob@example.test>")
        peer.say("DATA")
        self.assertIn("250", peer.send(text + b"\r\nhello\r\n.\r\n")[0])
        prefix = peer.intake.accepted[0].prefix
        return prefix.partition(b"+0000\r\n")[2]

    def test_resent(self) -> None:
        """Of what a person sends on by hand the fields of the sending on are added,
        and not those of its author."""
        added = self.added(b"From: x@y.test\r\nResent-To: bob@example.test\r\n")
        names = [line.partition(b":")[0] for line in added.splitlines()]
        self.assertEqual(names, [b"Resent-From", b"Resent-Date", b"Resent-Message-ID"])
        self.assertIn(b"Resent-From: <alice@example.test>\r\n", added)

    def test_whole(self) -> None:
        """What is there is not added."""
        added = self.added(
            b"Resent-From: alice@example.test\r\nResent-Message-ID: <1@x>\r\n"
        )
        self.assertTrue(added.startswith(b"Resent-Date: "))
        self.assertEqual(added.count(b"\n"), 1)
