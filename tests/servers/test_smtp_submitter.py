"""What who logged in may do, and what becomes of what he submits."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.servers.smtpdrive import ALICE, BOB, Peer, SmtpCase, mx, submission
from twisted_mta.mail.submitted import Saved, Submitted
from twisted_mta.servers.smtp.allowance import Allowance
from twisted_mta.servers.smtp.headerfilter import HeaderFilter


def sent(peer: Peer, message: bytes, sender: str = "alice@example.test") -> list[str]:
    """Submit a message to bob."""
    peer.say(f"MAIL FROM:<{sender}>")
    peer.say("RCPT TO:<bob@example.test>")
    peer.say("DATA")
    return peer.send(message + b"\r\n.\r\n")


class SenderTests(SmtpCase):
    def test_warned(self) -> None:
        """With warn, who sends as another does, and the log says so."""
        peer = submission(check_sender="warn")
        with capturedLogs() as captured:
            heard = sent(peer, b"From: eve@elsewhere.test\r\n", "eve@elsewhere.test")
        self.assertIn("250", heard[0])
        log = "".join(str(formatEvent(event)) for event in captured)
        self.assertIn("the sender eve@elsewhere.test is not the login's", log)
        self.assertIn("From field names an address that is not yours", log)
        with capturedLogs() as captured:
            sent(peer, b"From: alice@example.test\r\n")
        log = "".join(str(formatEvent(event)) for event in captured)
        self.assertNotIn("login=alice@example.test: ", log)

    def test_strict(self) -> None:
        """With strict he does not."""
        peer = submission()
        self.assertIn("553", peer.say("MAIL FROM:<eve@elsewhere.test>"))
        self.assertIn("550", sent(peer, b"From: eve@elsewhere.test\r\n")[0])


class AllowanceTests(SmtpCase):
    def test_messages(self) -> None:
        """What is too much is refused for now, and says how much would not be."""
        peer = submission(allowance=Allowance(messages_hour=2))
        for _ in range(2):
            self.assertIn("250", sent(peer, b"Subject: x\r\n")[0])
        refused = peer.say("MAIL FROM:<alice@example.test>")
        self.assertIn("451 4.7.1 You may send 2 messages an hour", refused)

    def test_recipients(self) -> None:
        """Of a message with too many recipients some are for later."""
        peer = submission(allowance=Allowance(recipients_day=1))
        peer.say("MAIL FROM:<alice@example.test>")
        self.assertIn("250", peer.say("RCPT TO:<bob@example.test>"))
        refused = peer.say("RCPT TO:<dave@elsewhere.test>")
        self.assertIn("451 4.7.1 You may send 1 recipients a day", refused)
        peer.say("DATA")
        self.assertIn("250", peer.send(b"Subject: x\r\n\r\n.\r\n")[0])
        self.assertIn("250", peer.say("MAIL FROM:<alice@example.test>"))
        self.assertIn("451", peer.say("RCPT TO:<bob@example.test>"))

    def test_two_sessions(self) -> None:
        """Who asks in two sessions at once submits no more than in one."""
        peer = submission(allowance=Allowance(messages_hour=1, recipients_day=9))
        peer.say("MAIL FROM:<alice@example.test>")
        peer.say("RCPT TO:<bob@example.test>")
        peer.say("DATA")
        other = peer.directory
        other.sent, other.to = 1, 8  # meanwhile
        refused = peer.send(b"Subject: x\r\n\r\n.\r\n")[0]
        self.assertIn("451 4.7.1 You may send 1 messages an hour", refused)
        self.assertEqual((other.sent, other.to), (1, 8))
        self.assertEqual(peer.intake.accepted, [])

    def test_words(self) -> None:
        """Each limit by itself."""
        submitted = Submitted(5, 50, 6, 60)
        for number, words in enumerate(
            ("messages an hour", "messages a day", "recipients an hour", "recipients a")
        ):
            limits: list[int | None] = [None] * 4
            limits[number] = int(submitted[number])
            self.assertIn(words, Allowance(*limits).exceeded(submitted, 1, 1))
            limits[number] = int(submitted[number]) + 1
            self.assertEqual(Allowance(*limits).exceeded(submitted, 1, 1), "")
            self.assertEqual(Allowance(*limits).exceeded(submitted), "")
        self.assertFalse(Allowance().limited)

    def test_others(self) -> None:
        """A mail exchanger counts nobody."""
        peer = mx(allowance=Allowance(messages_hour=0))
        self.assertIn("250", peer.say("MAIL FROM:<a@elsewhere.test>"))


class SentTests(SmtpCase):
    def test_saved(self) -> None:
        """A copy is kept of what an account submits that wants it."""
        for save in (False, True):
            peer = submission()
            authenticator = peer.authenticator
            assert authenticator is not None
            authenticator.account = replace(ALICE, save_sent=save)
            peer.stream.connectionLost()
            peer = Peer(peer.settings, authenticator=authenticator)
            peer.say("EHLO client.example")
            peer.say("AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=")
            sent(peer, b"Subject: x\r\n")
            self.assertIn("250", peer.say("MAIL FROM:<alice@example.test> PRDR"))
            peer.intake.not_for.add(BOB)
            peer.say("RCPT TO:<bob@example.test>")
            peer.say("RCPT TO:<dave@elsewhere.test>")
            peer.say("RCPT TO:<eve@elsewhere.test>")
            peer.say("DATA")
            peer.send(b"Subject: y\r\n\r\n.\r\n")
            wanted = Saved(ALICE.id) if save else None
            each = [accepted.saved for accepted in peer.intake.accepted[1:]]
            self.assertEqual(each, [wanted])
            self.assertEqual(peer.intake.accepted[0].saved, wanted)

    def test_blind(self) -> None:
        """The copy says who had one that the others do not see."""
        peer = submission(replace(ALICE, save_sent=True))
        for _ in range(2):  # nothing of one message is in the next
            sent(peer, b"Bcc: a@b,\r\n c@d\r\nSubject: x\r\nbcc:e@f\r\n")
            accepted = peer.intake.accepted[-1]
            wanted = Saved(ALICE.id, b"Bcc: a@b,\r\n c@d\r\nbcc:e@f\r\n")
            self.assertEqual(accepted.saved, wanted)
            self.assertEqual(accepted.octets, b"Subject: x\r\n\r\n")


class RepairTests(SmtpCase):
    def test_replaced(self) -> None:
        """What cannot be read is there anew."""
        peer = submission()
        sent(peer, b"Date: now\r\nMessage-ID: 1\r\nSubject: x\r\n")
        (accepted,) = peer.intake.accepted
        self.assertEqual(accepted.octets, b"Subject: x\r\n\r\n")
        self.assertIn(b"Date: Sun, 9 Sep 2001 01:46:40 +0000\r\n", accepted.prefix)
        self.assertRegex(accepted.prefix, rb"Message-ID: <\S+@mx.example.test>\r\n")


class BlindTests(SmtpCase):
    def test_submitted(self) -> None:
        """Bcc does not go out; the rest is as it was."""
        peer = submission()
        sent(
            peer,
            b"From: alice@example.test\r\nBCC: carol@x.test,\r\n dave@x.test\r\n"
            b"Subject: x\r\nbcc : \r\n\r\nBcc: stays\r\n",
        )
        (accepted,) = peer.intake.accepted
        self.assertEqual(
            accepted.octets,
            b"From: alice@example.test\r\nSubject: x\r\n\r\nBcc: stays\r\n\r\n",
        )

    def test_chunks(self) -> None:
        """However it comes, and also if all of it is header."""
        peer = submission()
        for octets in (
            b"Bcc: a@b\r\nSubject: x\r\n",
            b"Subject: x\r\nBcc: a@b\r\n",
            b"Subject: x\r\nBcc: a@b",
            b"Subject: x\r\nBcc: a@b\r\n c@d",
        ):
            peer.say("MAIL FROM:<alice@example.test>")
            peer.say("RCPT TO:<bob@example.test>")
            for octet in octets:
                peer.send(b"BDAT 1\r\n" + bytes([octet]))
            self.assertIn("250", peer.send(b"BDAT 0 LAST\r\n")[0])
        octets = {accepted.octets for accepted in peer.intake.accepted}
        self.assertEqual(octets, {b"Subject: x\r\n"})

    def test_received(self) -> None:
        """What comes from elsewhere is nobody's to change."""
        peer = mx()
        peer.say("MAIL FROM:<a@elsewhere.test>")
        peer.say("RCPT TO:<bob@example.test>")
        peer.say("DATA")
        peer.send(b"Bcc: x@y.test\r\n\r\n.\r\n")
        self.assertIn(b"Bcc", peer.intake.accepted[0].octets)


class HeaderFilterTests(SynchronousTestCase):
    def through(self, pieces: list[bytes], most: int = 1000) -> bytes:
        found = HeaderFilter(most)
        return b"".join([*map(found.pass_on, pieces), found.end()])

    @given(st.binary(max_size=80), st.integers(1, 20))
    def test_every_chunking(self, octets: bytes, size: int) -> None:
        """However it is cut, the same is left."""
        message = b"A: b\r\nBcc: c\r\n d\r\nE: f\r\n" + octets
        pieces = [message[at : at + size] for at in range(0, len(message), size)]
        self.assertEqual(self.through(pieces), self.through([message]))
        self.assertTrue(self.through(pieces).startswith(b"A: b\r\nE: f\r\n"))

    def test_bounded(self) -> None:
        """A header without end is not held for ever."""
        found = HeaderFilter(1000)
        passed = b"".join(found.pass_on(b"a: b\r\n") for _ in range(1000))
        self.assertGreater(len(passed), 4900)
        self.assertEqual(len(passed + found.end()), 6000)

    def test_unreadable(self) -> None:
        """Dates and names of messages that nobody can read are taken out (RFC 6409 8.2
        and 8.3), to be made anew; those that somebody can are not."""
        for field, stays in (
            (b"Date: Mon, 1 Jan 2001 10:00:00 +0000", True),
            (b"DATE :\r\n 1 Jan 01 10:00 (whenever)", True),
            (b"Date: Thu Nov  5 10:11:12 1998", True),
            (b"Date:", False),
            (b"Date: yesterday", False),
            (b"date: 31 Feb 2001 10:00:00 +0000", False),
            (b"Message-ID: <a@b>", True),
            (b"Message-ID:\r\n <a@b> (c)", True),
            (b"Message-ID: a@b", False),
            (b"message-id: <>", False),
        ):
            whole = b"A: b\r\n" + field + b"\r\nE: f\r\n"
            wanted = whole if stays else b"A: b\r\nE: f\r\n"
            self.assertEqual(self.through([whole, b"\r\nx"]), wanted + b"\r\nx", field)
        in_body = b"A: b\r\n\r\nDate: \r\n"
        self.assertEqual(self.through([in_body]), in_body)

    def test_bare_line_feeds(self) -> None:
        """The header ends where readers think it ends."""
        message = b"A: b\nBcc: c\n\nBcc: text\n\r\n\r\n"
        self.assertEqual(self.through([message]), b"A: b\n\nBcc: text\n\r\n\r\n")
        found = HeaderFilter(9)
        found.pass_on(b"bcc: a\n b")
        found.end()
        self.assertEqual(found.blind, b"bcc: a\r\n b\r\n")
        self.assertEqual(self.through([b"\nBcc: text\n"]), b"\nBcc: text\n")

    def test_many(self) -> None:
        """A header that is full of them is still read in no time to speak of, in
        pieces as small as can be."""
        found = HeaderFilter(1 << 20)
        header = b"Bcc:\n" * 100_000
        for octet in header:
            self.assertEqual(found.pass_on(bytes([octet])), b"")
        self.assertEqual(found.pass_on(b"\r\n"), b"\r\n")
        self.assertEqual(len(found.blind), 600_000)

    def test_no_header(self) -> None:
        """A message that begins with its body has no Bcc."""
        message = b"\r\nBcc: text\r\n\r\n"
        self.assertEqual(self.through([message]), message)
        self.assertEqual(self.through([]), b"")
