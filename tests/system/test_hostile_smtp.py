"""Rows of HOSTILE.md that come by SMTP, against the real server."""

from __future__ import annotations

import base64
import contextlib
import itertools
import re
import socket
import threading

from tests.system.daemon import wait_until
from tests.system.hostilecase import (
    ALICE,
    BOB,
    HOST,
    MIB,
    PASSWORD,
    STRANGER,
    HostileCase,
    Wire,
    queued,
)

_EVIL = (
    b"MAIL FROM:<evil@elsewhere.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"
    b"Subject: evil\r\n\r\nsmuggled\r\n.\r\n"
)
_ENDS = (
    *(b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\n.\r", b"\r.\r"),
    b"\r\n\0.\r\n",
)
_PIECE = b"x" * 65536


class SmtpTests(HostileCase):
    """A server that takes 16 MiB, and is less patient than by default."""

    SETTINGS = "smtp: {message_size: 16M, hard_errors: 12}\n"

    def finish(self, wire: Wire, subject: str) -> bytes:
        """End the content; note an acknowledged message.

        @return: the first reply.
        """
        wire.send(b"\r\n.\r\n")
        answer = wire.line()
        if answer.startswith(b"250"):
            self.subjects.append(subject)
        return answer

    def test_h01_smuggling(self) -> None:
        """Whatever looks like the end of content to somebody, it is one message
        or none; what it smuggles is never a message, and the log tells."""
        for number, end in enumerate(_ENDS):
            with self.mail() as wire:
                name = f"end-{number}"
                wire.send(f"Subject: {name}\r\n\r\ntext".encode() + end + _EVIL)
                answer = wire.line()
                if answer.startswith(b"250"):
                    self.subjects.append(name)
                wire.send(b"QUIT\r\n")
                self.assertEqual(wire.until(b"221")[:3], b"221", end)
        self.logged(r"refused DataCommand: 554")

    def test_h02_submitted(self) -> None:
        """What is mended on submission has only CRLF at the recipient, and is
        one message."""
        for number, end in enumerate(_ENDS[:-1]):
            name = f"mended-{number}"
            with self.wire("submissions") as wire:
                token = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode()
                wire.say("EHLO here.test", b"250 ")
                wire.say(f"AUTH PLAIN {token}", b"235")
                wire.say(f"MAIL FROM:<{ALICE}>", b"250")
                wire.say(f"RCPT TO:<{BOB}>", b"250")
                wire.say("DATA", b"354")
                head = f"From: {ALICE}\r\nSubject: {name}\r\n\r\ntext".encode()
                wire.send(head + end + b"more")
                self.assertTrue(self.finish(wire, name).startswith(b"250"), end)
        with self.imap() as reader:
            reader.select("INBOX")
            _, parts = reader.uid("FETCH", "1:*", "(BODY.PEEK[])")
            for part in parts:
                if isinstance(part, tuple):
                    self.assertIsNone(re.search(rb"\r(?!\n)|(?<!\r)\n", part[1]))

    def test_h08_line_without_end(self) -> None:
        """Ten megabytes without a line end: an error at the limit, a closed
        connection, and next to no memory, by any protocol."""

        def endless(name: str) -> None:
            with self.wire(name) as wire:
                for _ in range(160):
                    if not wire.send(_PIECE):
                        return
                self.assertNotEqual(wire.rest(), b"")

        self.attacked(
            4 * MIB,
            lambda: endless("smtp"),
            lambda: endless("imap"),
            lambda: endless("pop3"),
        )

    def test_h09_one_line(self) -> None:
        """A message that is one line, of the size that is taken, is stored as it
        is, and a larger one is refused; neither is in memory."""

        def one_line() -> None:
            with self.mail() as wire:
                wire.send(b"Subject: one line\r\n\r\n")
                for _ in range(240):
                    wire.send(_PIECE)
                self.assertTrue(self.finish(wire, "one line").startswith(b"250"))
            with self.mail() as wire:
                wire.send(b"Subject: too large\r\n\r\n")
                for _ in range(257):
                    wire.send(_PIECE)
                self.assertTrue(self.finish(wire, "too large").startswith(b"552"))

        self.attacked(6 * MIB, one_line)
        self.logged(r"refused DataCommand: 552 5\.3\.4")

    def test_h10_header_without_end(self) -> None:
        """A header of 15 MB, in fields or in one, is refused."""
        fields = b"".join(b"X-%05d: %s\r\n" % (n, b"x" * 50) for n in range(1000))

        def header(name: bytes, piece: bytes) -> None:
            with self.mail() as wire:
                wire.send(b"Subject: header\r\n" + name)
                for _ in range(15_000_000 // len(piece)):
                    wire.send(piece)
                answer = self.finish(wire, "header")
                self.assertTrue(answer.startswith(b"55"), answer)

        # Up to 2 MiB are kept of each, and copied a few times at its end.
        self.attacked(
            20 * MIB, lambda: header(b"", fields), lambda: header(b"X: ", _PIECE)
        )
        self.logged(r"refused DataCommand: 55\d 5\.3\.4")

    def test_h12_bombs(self) -> None:
        """Messages that are bombs for a parser are kept, and an IMAP client can
        ask for their structure."""
        deep = b"".join(
            b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n)
            for n in range(10_000)
        )
        wide = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + (
            b"--x\r\n\r\n" * 100_000
        )
        nested = b"Content-Type: message/rfc822\r\n\r\n" * 1000
        names = b"; ".join(b"a*%d*=x" % n for n in range(10_000))
        bombs = {
            "h11": b"To: " + b"a:,,b@x.test;" * 60_000 + b"\r\n\r\n",
            "h12": deep,
            "h12b": nested,
            "h13": wide,
            "h13b": b"Content-Type: multipart/mixed; boundary="
            + b"y" * 900_000
            + b"\r\n\r\n",
            "h14": b"Content-Type: text/plain; " + names + b"\r\n\r\n",
            "h15": b"From: " + b"=?utf-8?q?" * 90_000 + b"\r\n\r\n",
        }

        def send() -> None:
            for name, bomb in bombs.items():
                with self.mail() as wire:
                    wire.send(f"Subject: {name}\r\n".encode() + bomb)
                    answer = self.finish(wire, name)
                    self.assertTrue(answer.startswith(b"250"), (name, answer))

        self.attacked(60 * MIB, send)
        with self.reader() as wire:
            wire.send(b"a UID FETCH 1:* (ENVELOPE BODYSTRUCTURE)\r\n")
            fetched = 0
            while not (line := wire.line()).startswith(b"a "):
                self.assertFalse(wire.closed)
                fetched += line.startswith(b"* ")
            self.assertEqual(line[:4], b"a OK")
            self.assertEqual(fetched, len(self.subjects))

    def test_h42_control_characters(self) -> None:
        """CR, NUL and ESC in a name, a sender or a recipient are refused; so is
        a line end within a quoted local part. (That the log has none of them is
        checked after every test.)"""
        for evil in (b"\x1b[2J", b"\0", b"\r", b"\x07", b"\x9b\xff"):
            for command in (
                b"EHLO a%sb",
                b"MAIL FROM:<a%sb@elsewhere.test>",
                b'MAIL FROM:<"a%sb"@elsewhere.test>',
            ):
                with self.wire("smtp") as wire:
                    wire.say("EHLO elsewhere.test", b"250 ")
                    wire.send(command % evil + b"\r\n")
                    self.assertEqual(wire.line()[:1], b"5", (command, evil))
        self.logged("refused BadCommand")

    def test_h43_no_relay(self) -> None:
        """No spelling of a recipient makes us relay."""
        with self.wire("smtp") as wire:
            wire.say("EHLO elsewhere.test", b"250 ")
            wire.say(f"MAIL FROM:<{STRANGER}>", b"250 ")
            for recipient in (
                *("a@elsewhere.test", "a%elsewhere.test@example.test"),
                *("elsewhere.test!a@example.test", "@example.test:a@elsewhere.test"),
                *('"a@elsewhere.test"@example.test', "${run{/bin/true}}@example.test"),
                *("|/bin/true@example.test", "a@[127.0.0.1]"),
            ):
                self.assertEqual(
                    wire.say(f"RCPT TO:<{recipient}>")[:1], b"5", recipient
                )
        self.logged(r"refused Rcpt: 55\d")

    def test_h44_many_recipients(self) -> None:
        """Of ten thousand recipients a thousand are taken, and one who is named
        a thousand times gets one message."""
        answers = {b"250": 0, b"452": 0}

        def many() -> None:
            with self.wire("smtp") as wire:
                wire.say("EHLO elsewhere.test", b"250 ")
                wire.say(f"MAIL FROM:<{STRANGER}>", b"250 ")
                for first in range(0, 10_000, 100):
                    for number in range(first, first + 100):
                        wire.send(b"RCPT TO:<bob+%d@example.test>\r\n" % number)
                    for _ in range(100):
                        answers[wire.line()[:3]] += 1

        self.attacked(6 * MIB, many)
        self.assertEqual(answers[b"452"], 9 * answers[b"250"])
        with self.wire("smtp") as wire:
            wire.say("EHLO elsewhere.test", b"250 ")
            wire.say(f"MAIL FROM:<{STRANGER}>", b"250 ")
            for _ in range(1000):
                wire.say(f"RCPT TO:<{BOB}>", b"250 ")
            wire.say("DATA", b"354")
            wire.send(b"Subject: once\r\n\r\ntext")
            self.finish(wire, "once")

    def test_h44_who_is_there(self) -> None:
        """Who asks for many that nobody is, is sent away."""

        def ask() -> None:
            with self.wire("smtp", "127.0.0.7") as wire:
                wire.say("EHLO elsewhere.test", b"250 ")
                wire.say(f"MAIL FROM:<{STRANGER}>", b"250 ")
                wire.send(
                    b"".join(b"RCPT TO:<n%d@example.test>\r\n" % n for n in range(1000))
                )
                replies = wire.rest().splitlines()
            self.assertLessEqual(len(replies), 13)
            self.assertEqual(replies[-1][:3], b"421")

        self.attacked(4 * MIB, ask)

    def test_h45_junk(self) -> None:
        """Ten thousand commands without effect come to an end at a hundred."""

        def junk() -> None:
            for command in (b"NOOP", b"RSET", b"VRFY bob", b"EHLO x", b"HELP"):
                with self.wire("smtp") as wire:
                    wire.say("EHLO elsewhere.test", b"250 ")
                    # EHLO may not be pipelined; to be told so is the end, too.
                    wire.send((command + b"\r\n") * 10_000)
                    replies = wire.rest().splitlines()
                    self.assertLessEqual(len(replies), 1000)
                    self.assertIn(replies[-1][:3], (b"421", b"554"))

        self.attacked(4 * MIB, junk)

    def test_h46_hops(self) -> None:
        """A message that has been everywhere is refused."""
        with self.mail() as wire:
            for number in range(60):
                wire.send(b"Received: from a.test by b.test; %d\r\n" % number)
            wire.send(b"Subject: loop\r\n\r\ntext")
            self.assertEqual(self.finish(wire, "loop")[:9], b"554 5.4.6")
        self.logged(r"refused DataCommand: 554 5\.4\.6")

    def test_h46_aliases_in_a_circle(self) -> None:
        """Aliases that name each other neither hang the server nor lose mail:
        what is acknowledged is in a mailbox."""
        self.command("alias", "add", "one@example.test", "two@example.test", BOB)
        self.command("alias", "add", "two@example.test", "one@example.test", BOB)
        with self.wire("smtp") as wire:
            wire.say("EHLO elsewhere.test", b"250 ")
            wire.say(f"MAIL FROM:<{STRANGER}>", b"250 ")
            if wire.say("RCPT TO:<one@example.test>").startswith(b"250"):
                wire.say("DATA", b"354")
                wire.send(b"Subject: circle\r\n\r\ntext")
                self.finish(wire, "circle")
        self.honest()

    def test_h46_forged_bounces(self) -> None:
        """A large bounce to nobody is refused before its content, and nothing
        is bounced in turn: the queue stays empty."""
        with self.wire("smtp") as wire:
            wire.say("EHLO elsewhere.test", b"250 ")
            wire.say("MAIL FROM:<> SIZE=10000000", b"250 ")
            self.assertEqual(wire.say("RCPT TO:<nobody@example.test>")[:3], b"550")
            self.assertEqual(wire.say("DATA")[:1], b"5")

    def test_h37_replies_that_nobody_reads(self) -> None:
        """Who sends commands for ever and reads no reply is not read from
        either."""
        command = f"RCPT TO:<{BOB}>\r\n".encode() * 1000
        with contextlib.ExitStack() as stack, self.under_attack(8 * MIB):
            for _ in range(4):
                wire = stack.enter_context(self.wire("smtp", buffer=4096))
                wire.say("EHLO elsewhere.test", b"250 ")
                wire.say(f"MAIL FROM:<{STRANGER}>", b"250 ")
                sent = wire.flood(command, 100 << 20)
                self.assertLess(sent, 100 << 20)
                self.assertFalse(wire.closed)
            self.honest()


class _NextHop:
    """Whoever connects is told one of the evils, in turn, for ever."""

    EVILS = (
        b"220-" + b"x" * 60 + b"\r\n",
        b"x" * 65536,
        b"999 what\r\n",
        b"\r\n",
        b"\0",
    )

    def __init__(self) -> None:
        self._listening = socket.create_server((HOST, 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for evil in itertools.cycle(self.EVILS):
            peer, _ = self._listening.accept()
            threading.Thread(target=self._talk, args=(peer, evil), daemon=True).start()

    @staticmethod
    def _talk(peer: socket.socket, evil: bytes) -> None:
        with peer, contextlib.suppress(OSError):
            while True:
                peer.sendall(evil)


class NextHopTests(HostileCase):
    """A server that relays to whoever listens at a port of ours."""

    @classmethod
    def options(cls) -> list[str]:
        return ["--relay", f"{HOST}:{_NextHop().port}"]

    def test_h51_next_hop_that_talks_for_ever(self) -> None:
        """A next hop that does not stop talking is left, its mail waits, and
        nobody else is kept from theirs."""
        with self.under_attack(6 * MIB):
            for _ in _NextHop.EVILS:
                with self.submission() as client:
                    text = f"From: {ALICE}\r\nSubject: out\r\n\r\ntext\r\n"
                    client.sendmail(ALICE, ["dan@elsewhere.test"], text)
            self.honest()
            wait_until(
                lambda: self.server.log.count("status=deferred") >= len(_NextHop.EVILS),
                "each is deferred",
                self.server,
            )
        rows = queued(self.command("queue", "list", "--json"))
        self.assertEqual(len(rows), len(_NextHop.EVILS))
        for row in rows:
            self.command("queue", "remove", row["id"])
