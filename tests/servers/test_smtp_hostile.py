"""Rows of HOSTILE.md against a whole SMTP session."""

from __future__ import annotations

import re

from twisted.logger import capturedLogs, formatEvent

from tests.servers.smtpdrive import BOB, HOST, Peer, SmtpCase, mx, submission
from twisted_mta.net.stream import SHUTTING_DOWN
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.wire.smtp.server import SmtpLimits

EVIL = b"MAIL FROM:<evil@x>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nevil\r\n"


def begun(**settings: object) -> Peer:
    """A client that may send content now."""
    peer = mx(**settings)
    peer.say("MAIL FROM:<carol@elsewhere.test>")
    peer.say("RCPT TO:<bob@example.test>")
    assert peer.say("DATA").startswith("354")
    return peer


class SmugglingTests(SmtpCase):
    def test_h01_smuggling(self) -> None:
        """A message with a bare CR or LF is refused as a whole, once, and no
        command within it is obeyed."""
        for end in (
            b"\n.\n",
            b"\n.\r\n",
            b"\r.\r\n",
            b"\r\n.\n",
            b"\n.\r",
            b"\r.\r",
            b"\r\n.\r",
        ):
            peer = begun()
            heard = peer.send(b"a: b\r\n\r\ntext" + end + EVIL + b"\r\n.\r\n")
            self.assertEqual([line[:9] for line in heard], ["554 5.6.0"], end)
            self.assertEqual(peer.intake.accepted, [])
            self.assertIn("250", peer.say("NOOP"))

    def test_h01_nul(self) -> None:
        """CRLF NUL . CRLF is one message."""
        peer = begun()
        heard = peer.send(b"a\r\n\0.\r\n" + EVIL + b".\r\n")
        self.assertEqual(len(heard), 1)
        self.assertEqual(len(peer.intake.accepted), 1)

    def test_h07_data_before_the_354(self) -> None:
        """Content that does not wait for 354 ends the connection: it might be
        meant as commands."""
        peer = mx()
        peer.say("MAIL FROM:<carol@elsewhere.test>")
        peer.say("RCPT TO:<bob@example.test>")
        heard = peer.send(b"DATA\r\ntext\r\n.\r\n" + EVIL + b".\r\n")
        self.assertEqual([line[:9] for line in heard], ["554 5.5.0"])
        self.assertTrue(peer.closed)
        self.assertEqual(peer.intake.accepted, [])

    def test_h07_talk_with_the_greeting(self) -> None:
        """Who pipelines with EHLO has not read what is offered."""
        peer = Peer()
        peer.heard()
        heard = peer.send(b"EHLO x\r\nMAIL FROM:<>\r\n")
        self.assertEqual([line[:3] for line in heard], ["554"])
        self.assertTrue(peer.closed)


class SizeTests(SmtpCase):
    def test_h08_endless_command(self) -> None:
        """Ten megabytes without a line end are cut at the limit."""
        peer = mx()
        with capturedLogs() as captured:
            for _ in range(10_000):
                peer.stream.dataReceived(b"x" * 1000)
                self.assertLess(peer.stream.engine.buffered(), 4000)
        heard = peer.heard()
        self.assertEqual(heard, ["500 5.5.6 Line too long (smtp-1)"])
        self.assertTrue(peer.closed)
        (line,) = map(formatEvent, captured)
        self.assertIn("smtp-1: refused: command line too long, client=192.", line)

    def test_h09_endless_line(self) -> None:
        """A line of the message has no limit but the message's."""
        peer = begun()
        peer.send(b"x" * 100_000)
        self.assertIn("250", peer.send(b"\r\n.\r\n")[0])

    def test_too_large(self) -> None:
        """A message over the limit is read to its end and refused; nothing of
        it is kept, and the next one is welcome."""
        peer = Peer(limits=SmtpLimits(content=1000))
        peer.say("EHLO x")
        for _ in range(2):
            peer.say("MAIL FROM:<>")
            peer.say("RCPT TO:<bob@example.test>")
            peer.say("DATA")
            for _ in range(100):
                peer.send(b"x" * 98 + b"\r\n")
            self.assertLess(peer.intake.contents[-1].size, 1001)
            self.assertIn("552 5.3.4", peer.send(b".\r\n")[0])
        self.assertEqual(peer.intake.accepted, [])

    def test_h10_header(self) -> None:
        """A header over the limit is refused, be it many fields or one."""
        for header in (b"a: b\r\n" * 1000, b"a: " + b"b" * 6000 + b"\r\n"):
            peer = begun(header_size=5000)
            self.assertIn("552 5.3.4", peer.send(header + b"\r\n.\r\n")[0])
            self.assertEqual(peer.intake.accepted, [])

    def test_h45_declared_size(self) -> None:
        """SIZE over the limit is refused at MAIL."""
        peer = mx()
        self.assertIn("552 5.3.4", peer.say("MAIL FROM:<> SIZE=99999999999"))
        self.assertIn("250", peer.say("MAIL FROM:<> SIZE=1000"))

    def test_h45_huge_ehlo(self) -> None:
        """EHLO with 100 kB is no command."""
        peer = Peer()
        peer.heard()
        self.assertIn("500", peer.send(b"EHLO " + b"x" * 100_000)[0])
        self.assertTrue(peer.closed)


class PatienceTests(SmtpCase):
    def test_h36_slow_commands(self) -> None:
        """Who says nothing is told and cut off; an octet now and then does not
        make a command."""
        peer = mx(idle_s=300)
        for _ in range(20):
            peer.clock.advance(20)
            peer.stream.dataReceived(b"N")
        self.assertIn("421 4.4.2", "".join(peer.heard()))
        self.assertTrue(peer.closed)

    def test_h36_slow_content(self) -> None:
        """The same within content; nothing is kept."""
        peer = begun(idle_s=300)
        peer.send(b"a: b\r\n")
        peer.clock.advance(301)
        self.assertIn("421 4.4.2", "".join(peer.heard()))
        self.assertTrue(peer.intake.contents[0].aborted)
        self.assertEqual(peer.intake.accepted, [])

    def drip(self, peer: Peer, octets: bytes, every_s: float, most_s: float) -> float:
        """Say the same again and again.

        @return: when the client was sent away; C{most_s} if it was not.
        """
        passed_s = 0.0
        while not peer.closed and passed_s < most_s:
            peer.clock.advance(every_s)
            passed_s += every_s
            if not peer.closed:
                peer.stream.dataReceived(octets)
        return passed_s

    def test_h36_dripping_content(self) -> None:
        """Content that drips ends in twice the idle time at most, with a word of its
        own and a line of the log, and nothing of it is kept."""
        for first in (b"", b"x\r\n" * 1_000_000):
            peer = begun(idle_s=300)
            peer.stream.dataReceived(first)
            with capturedLogs() as captured:
                ended_s = self.drip(peer, b"x", 20, 10_000)
            # What came in one piece counts for the time that it came in, not more.
            self.assertLessEqual(ended_s, 1200 if first else 600)
            self.assertGreaterEqual(ended_s, 300)
            heard = "".join(peer.heard())
            said = "421 4.4.2 The message comes too slowly; closing (smtp-1)"
            self.assertEqual(heard, said)
            self.assertTrue(peer.intake.contents[0].aborted)
            self.assertEqual(peer.intake.accepted, [])
            log = "".join(str(formatEvent(event)) for event in captured)
            self.assertIn("smtp-1: refused: content came slower than 500 oct", log)

    def test_h36_dripping_chunks(self) -> None:
        """Chunks of one message are one content, refused ones are content, too."""
        peer = mx(idle_s=300)
        peer.say("MAIL FROM:<>")
        peer.say("RCPT TO:<bob@example.test>")
        self.assertLessEqual(self.drip(peer, b"BDAT 1\r\nx", 100, 10_000), 600)
        self.assertIn("comes too slowly", peer.heard()[-1])
        peer = mx(idle_s=300)
        peer.send(b"BDAT 100000\r\n")
        self.assertLessEqual(self.drip(peer, b"x", 100, 10_000), 600)
        self.assertIn("comes too slowly", peer.heard()[-1])

    def test_h36_slow_but_honest(self) -> None:
        """A slow line is served, however long it takes: one of 9600 baud, and one
        that stands still for minutes now and then; so is content that is refused."""
        for octets, every_s in ((b"x" * 998 + b"\r\n", 1), (b"x\r\n" * 60_000, 290)):
            peer = begun(idle_s=300)
            peer.stream.dataReceived(b"a: b\r\n\r\n")
            for _ in range(1800 // every_s):
                peer.clock.pump([1] * every_s)
                peer.stream.dataReceived(octets)
            self.assertIn("250", peer.send(b"\r\n.\r\n")[0])
        peer = begun(idle_s=300, total_s=7200)
        peer.stream.dataReceived(b"bare\nline")
        self.drip(peer, b"x" * 10_000, 10, 1800)
        self.assertIn("554", peer.send(b"\r\n.\r\n")[0])
        peer = begun(idle_s=300, total_s=1200)
        peer.stream.dataReceived(b"bare\nline")
        self.assertEqual(self.drip(peer, b"x" * 10_000, 10, 1800), 1200)

    def test_h36_pace_is_contents(self) -> None:
        """Between messages nobody counts, nor where the config says 0."""
        peer = begun(idle_s=300)
        peer.send(b".\r\n")
        self.assertEqual(self.drip(peer, b"NOOP\r\n", 100, 3000), 3000)
        peer = begun(idle_s=300, min_data_rate=0)
        self.assertEqual(self.drip(peer, b"x", 100, 3000), 3000)

    def test_h36_total_time(self) -> None:
        """However busy a client keeps the line, a connection ends some time."""
        peer = mx(idle_s=300, total_s=1000, junk_commands=10_000)
        for _ in range(11):
            peer.say("NOOP")
            peer.clock.advance(100)
        self.assertTrue(peer.closed)

    def test_h44_recipients(self) -> None:
        """Past the limit each recipient is asked to come later; the ones taken
        get their mail."""
        peer = mx(recipients=2)
        peer.say("MAIL FROM:<>")
        peer.say("RCPT TO:<bob@example.test>")
        peer.say("RCPT TO:<alice@example.test>")
        self.assertIn("452 4.5.3", peer.say("RCPT TO:<postmaster>"))
        peer.say("DATA")
        peer.send(b".\r\n")
        self.assertEqual(len(peer.intake.accepted[0].envelope.recipients), 2)

    def test_h44_duplicates(self) -> None:
        """The same recipient a thousand times is one, in any case of letters,
        and is looked up once."""
        peer = mx()
        peer.say("MAIL FROM:<>")
        for at in range(1000):
            name = "bob" if at % 2 else "BOB"
            self.assertIn("250", peer.say(f"RCPT TO:<{name}@EXAMPLE.test>"))
        peer.say("DATA")
        peer.send(b".\r\n")
        (accepted,) = peer.intake.accepted
        self.assertEqual(len(accepted.envelope.recipients), 1)
        self.assertEqual(accepted.envelope.recipients[0].key, BOB.key)
        self.assertEqual(len(peer.router.asked), 1)

    def test_h44_guessing(self) -> None:
        """Who asks for those who do not exist is answered late after ten and
        sent away after twenty; other sessions are not held up."""
        peer, other = mx(), mx()
        peer.say("MAIL FROM:<>")
        late = 0
        for _ in range(20):
            heard = peer.say("RCPT TO:<nobody@example.test>")
            if not heard:
                self.assertIn("250", other.say("NOOP"))
                late += 1
                peer.clock.advance(1)
                heard = "\n".join(peer.heard())
            self.assertIn("550 5.1.1", heard)
        self.assertEqual(late, 9)
        self.assertIn("421 4.7.0", heard)
        self.assertTrue(peer.closed)

    def test_mail_forgives(self) -> None:
        """Errors count only while no mail comes."""
        peer = mx(soft_errors=2, hard_errors=3, junk_commands=3)
        for _ in range(5):
            peer.say("FOO")
            peer.say("NOOP")
            peer.say("MAIL FROM:<>")
            peer.say("RCPT TO:<bob@example.test>")
            peer.say("DATA")
            self.assertIn("250", peer.send(b".\r\n")[0])
        self.assertFalse(peer.closed)

    def test_h45_junk(self) -> None:
        """A hundred commands without effect end the connection; to be told so takes
        a while, in which the client cannot come again."""
        for line in ("NOOP", "RSET", "VRFY bob", "HELP", "EHLO x"):
            peer = mx(hard_errors=1000, soft_errors=1000)
            heard = ""
            for _ in range(101):
                heard = peer.say(line)
            self.assertEqual(heard, "")
            peer.clock.advance(9.9)
            self.assertFalse(peer.closed)
            peer.clock.advance(0.1)
            self.assertIn("421 4.7.0", peer.heard()[0], line)
            self.assertTrue(peer.closed)

    def test_h36_strangers(self) -> None:
        """Who has logged in or brought a message is no stranger; to come as far as
        the content is not enough."""
        peer = begun()
        peer.send(b"text")
        self.assertTrue(peer.stream.stranger)
        peer.send(b"\r\n.\r\n")
        self.assertFalse(peer.stream.stranger)
        self.assertFalse(submission().stream.stranger)

    def test_shut_down(self) -> None:
        """A server that stops says so between commands, and lets a message that
        has begun come to its end."""
        peer = mx()
        peer.stream.post(SHUTTING_DOWN)
        self.assertIn("421 4.3.2", peer.heard()[0])
        self.assertTrue(peer.closed)
        peer = begun()
        peer.stream.post(SHUTTING_DOWN)
        self.assertFalse(peer.closed)
        heard = peer.send(b"text\r\n.\r\n")
        self.assertEqual([line[:3] for line in heard], ["250", "421"])
        self.assertEqual(len(peer.intake.accepted), 1)
        self.assertTrue(peer.closed)


class TraceTests(SmtpCase):
    def test_h42_no_line_ends_get_in(self) -> None:
        """Line ends, escapes and NUL in names and addresses are refused; what
        is accepted makes one Received field of its own lines."""
        peer = Peer(SmtpSettings(HOST, soft_errors=1000, hard_errors=1000))
        peer.heard()
        for line in (
            b"EHLO a\rb",
            b"EHLO a\x1b[2Jb",
            b"EHLO a\0b",
            b"EHLO a) by evil",
            b'MAIL FROM:<"a\rRCPT"@x>',
            b'MAIL FROM:<"a\x1b"@x>',
            b"MAIL FROM:<a\0@x>",
            b'MAIL FROM:<"a\nb"@x>',
        ):
            for answer in peer.send(line + b"\r\n"):
                self.assertRegex(answer, "^50[01] 5")
        peer.say("EHLO client.example")
        peer.say('MAIL FROM:<"a b; x"@x>')
        peer.say('RCPT TO:<"bob"@example.test>')
        peer.say("DATA")
        peer.send(b".\r\n")
        prefix = peer.intake.accepted[0].prefix
        self.assertEqual(len(re.findall(rb"^\S", prefix, re.MULTILINE)), 1)

    def test_h46_hops(self) -> None:
        """A message with too many Received fields is in a loop."""
        hop = b"Received: from a by b;\r\n\tdate\r\n"
        for count, code in ((50, "250"), (51, "554 5.4.6")):
            peer = begun()
            heard = peer.send(hop * count + b"\r\n.\r\n")
            self.assertTrue(heard[0].startswith(code), heard)

    def test_h46_own_hops(self) -> None:
        """A message that was here again and again is in a loop, however few
        the hops in between."""
        peer = begun()
        peer.send(b".\r\n")
        ours = peer.intake.accepted[0].prefix
        self.assertTrue(ours.startswith(b"Received: "))
        for count, code in ((3, "250"), (4, "554 5.4.6")):
            peer = begun()
            heard = peer.send(ours * count + b"\r\n.\r\n")
            self.assertTrue(heard[0].startswith(code), heard)

    def test_words_are_no_hops(self) -> None:
        """The word in other fields or in the text makes no loop."""
        peer = begun(hops=2)
        heard = peer.send(b"Subject: received received received\r\n" * 9 + b".\r\n")
        self.assertIn("250", heard[0])
