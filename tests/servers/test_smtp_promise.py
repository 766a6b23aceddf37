"""What a client knows of the promise that it was made, and what makes two messages
one."""

from __future__ import annotations

import unittest
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from tests.servers.smtpdrive import Peer, mx, submission
from twisted_mta.errors import LedgerFull
from twisted_mta.mail.address import split
from twisted_mta.mail.dsn import Notification, Notify
from twisted_mta.mail.envelope import Body, DeliverBy, Origin
from twisted_mta.mail.ids import to_text
from twisted_mta.servers.smtp.fingerprint import fingerprint
from twisted_mta.servers.smtp.transaction import Transaction
from twisted_mta.wire.smtp.parameter import NO_PARAMETERS

ENVELOPE = b"MAIL FROM:<eve@elsewhere.test>\r\nRCPT TO:<alice@example.test>\r\n"
DATA = b"DATA\r\n"
MESSAGE = b"Subject: x\r\n\r\nHello\r\n"


def send(peer: Peer, more: bytes = b"", envelope: bytes = ENVELOPE) -> list[str]:
    """Send the message.

    @param more: said at once with its end.
    @return: the last answers.
    """
    peer.send(envelope + DATA)
    return peer.send(MESSAGE + b".\r\n" + more)


def told(peer: Peer) -> list[bool]:
    """Whether what was promised was seen, in order."""
    return [seen for _, _, seen in peer.intake.told]


class PromiseTests(unittest.TestCase):
    def sent(self) -> Peer:
        peer = mx()
        self.assertIn("queued as", send(peer)[-1])
        self.assertEqual(peer.intake.told, [])
        return peer

    def test_goes_on(self) -> None:
        """Who says anything, be it nonsense, has seen the answer."""
        for line in ("QUIT", "RSET", "NOOP", "MAIL FROM:<x@y.test>", "nonsense"):
            peer = self.sent()
            peer.say(line)
            (accepted,) = peer.intake.accepted
            expected = accepted.fingerprint, accepted.envelope.id, True
            self.assertEqual(peer.intake.promises, [expected], line)
            self.assertEqual(peer.intake.told, [expected], line)
            peer.leave()
            self.assertEqual(told(peer), [True], line)

    def test_each(self) -> None:
        """It is so for each message of a connection, also where all came at once."""
        peer = self.sent()
        send(peer)
        send(peer, ENVELOPE)
        self.assertEqual(told(peer), [True, True, True])
        peer.send(DATA)
        peer.send(MESSAGE + b".\r\n")
        peer.leave()
        self.assertEqual(told(peer), [True, True, True, False])
        ids = [one.envelope.id for one in peer.intake.accepted]
        self.assertEqual([id for _, id, _ in peer.intake.told], ids)

    def test_lost(self) -> None:
        """Whose connection breaks without a word may not have seen it."""
        peer = self.sent()
        peer.leave()
        self.assertEqual(told(peer), [False])

    def test_orderly(self) -> None:
        """Who ends the connection in order has read what was sent."""
        peer = self.sent()
        peer.stream.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(told(peer), [True])

    def test_lost_before(self) -> None:
        """Who is gone before the answer was made, however orderly, has not."""
        for why in (ConnectionDone(), ConnectionLost()):
            peer = mx()
            peer.intake.hold = Deferred()
            send(peer)
            peer.stream.connectionLost(Failure(why))
            self.assertEqual(peer.intake.told, [])
            peer.intake.hold.callback(None)
            self.assertEqual(told(peer), [False])

    def test_refused(self) -> None:
        """What was not accepted is no promise."""
        peer = mx()
        peer.intake.refusal = LedgerFull()
        send(peer)
        peer.leave()
        self.assertEqual(peer.intake.told, [])

    def test_silent(self) -> None:
        """Who has the answer, and is silent until we hang up, counts as knowing."""
        peer = self.sent()
        peer.clock.advance(301)
        self.assertTrue(peer.closed)
        self.assertEqual(told(peer), [True])

    def test_before(self) -> None:
        """What was accepted before is answered with the id that it had."""
        peer = self.sent()
        (accepted,) = peer.intake.accepted
        again = mx()
        again.intake.before[accepted.fingerprint] = accepted.envelope.id
        said = send(again)[-1]
        self.assertEqual(
            said, f"250 2.0.0 Ok: queued as {to_text(accepted.envelope.id)}"
        )
        again.say("QUIT")
        ((sign, id, seen),) = again.intake.told
        self.assertEqual((sign, seen), (accepted.fingerprint, True))
        self.assertEqual(id, again.intake.accepted[0].envelope.id)

    def test_off(self) -> None:
        """Where nothing is to be recognised nothing is noted."""
        peer = mx(recognises_resent=False)
        send(peer)
        peer.leave()
        self.assertEqual(peer.intake.accepted[0].fingerprint, b"")
        self.assertEqual(peer.intake.told, [])

    def test_chunks(self) -> None:
        """A message that comes in chunks is the same as one that does not."""
        peer, other = self.sent(), mx()
        other.send(ENVELOPE + b"BDAT %d LAST\r\n" % len(MESSAGE) + MESSAGE)
        signs = {one.intake.accepted[0].fingerprint for one in (peer, other)}
        self.assertEqual(len(signs), 1)
        other.leave()
        self.assertEqual(told(other), [False])

    def test_lmtp(self) -> None:
        """LMTP has an answer for each recipient, and one promise if all have it as
        one; what was taken piece by piece is new when it comes again."""
        both = ENVELOPE + b"RCPT TO:<bob@example.test>\r\n"
        peer = Peer(replace(mx().settings, lmtp=True))
        peer.say("LHLO client.example")
        answers = send(peer, envelope=both)[-2:]
        self.assertEqual(answers[0], answers[1])
        peer.leave()
        self.assertEqual(told(peer), [False])
        peer = Peer(replace(mx().settings, lmtp=True))
        peer.intake.not_for.add(split("bob@example.test"))
        peer.say("LHLO client.example")
        answers = send(peer, envelope=both)[-2:]
        self.assertEqual([answer[:3] for answer in answers], ["250", "552"])
        peer.leave()
        self.assertEqual(peer.intake.told, [])
        self.assertEqual(peer.intake.accepted[0].fingerprint, b"")

    def test_submission(self) -> None:
        """A submitted message is recognised by what came, not by what was added; the
        login is who sends."""
        signs = set()
        for seconds in (0, 5):
            peer = submission()
            peer.clock.advance(seconds)
            send(peer, envelope=ENVELOPE.replace(b"eve@elsewhere", b"alice@example"))
            (accepted,) = peer.intake.accepted
            self.assertIn(b"Message-ID", accepted.prefix)
            signs.add(accepted.fingerprint)
        self.assertEqual(len(signs), 1)


class FingerprintTests(unittest.TestCase):
    ORIGIN = Origin("ESMTP", "192.0.2.1", 25, "me")

    def sign(
        self,
        origin: Origin = ORIGIN,
        sender: str = "eve@elsewhere.test",
        to: tuple[str, ...] = ("a@example.test", "b@example.test"),
        digest: bytes = b"x" * 32,
        notification: Notification | None = None,
        **parameters: object,
    ) -> bytes:
        keywords = frozenset(name.upper() for name in parameters)
        transaction = Transaction(
            split(sender) if sender else None,
            replace(NO_PARAMETERS, keywords=keywords, **parameters),  # type: ignore[arg-type]
        )
        for one in to:
            if notification is None:
                transaction.add(split(one), ())
            else:
                transaction.add(split(one), (), notification)
        return fingerprint(origin, transaction, digest)

    def test_the_same(self) -> None:
        """Another connection, name or order, another estimate of the size and less
        time left are no difference."""
        first = self.sign()
        self.assertEqual(len(first), 16)
        for same in (
            self.sign(replace(self.ORIGIN, port=26, helo="other", tls="TLSv1.3")),
            self.sign(to=("b@example.test", "a@EXAMPLE.test")),
            self.sign(size=5),
            self.sign(by=DeliverBy(5, True)),
        ):
            self.assertEqual(same, first)
        ann = replace(self.ORIGIN, login="ann@example.test")
        elsewhere = replace(ann, host="198.51.100.7")
        self.assertEqual(self.sign(ann), self.sign(elsewhere))

    def test_others(self) -> None:
        """Everything else is one."""
        ann = replace(self.ORIGIN, login="ann@example.test")
        never = Notification(Notify.NEVER)
        signs = [
            self.sign(),
            self.sign(replace(self.ORIGIN, host="192.0.2.2")),
            self.sign(ann),
            self.sign(sender=""),
            self.sign(sender="Eve@elsewhere.test"),
            self.sign(to=("a@example.test",)),
            self.sign(digest=b"y" * 32),
            self.sign(notification=never),
            self.sign(body=Body.EIGHT_BIT),
            self.sign(envid="x"),
            self.sign(hold_for=60),
            self.sign(hold_for=61),
            self.sign(priority=1),
            self.sign(verp="+="),
            self.sign(verp="-="),
        ]
        self.assertEqual(len(set(signs)), len(signs))
