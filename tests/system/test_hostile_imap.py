"""Rows of HOSTILE.md that come by IMAP and POP3, against the real server."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from tests.system.daemon import wait_until
from tests.system.hostilecase import BOB, MIB, PASSWORD, HostileCase, Wire

_PIECE = b"x" * 65536


class ReaderTests(HostileCase):
    """Before and after the login."""

    def test_h16_literals_before_the_login(self) -> None:
        """A literal that nobody needs for a password is refused before a go-ahead,
        whatever its size says."""
        for size in ("4294967296", "99999999999999999999", "-1", "9000", "2147483647+"):
            with self.wire("imap") as wire:
                wire.send(b"a LOGIN {%s}\r\n" % size.encode())
                self.assertRegex(wire.line(), rb"^(a|\*) (BAD|NO|BYE)", size)

    def test_h17_two_gigabytes(self) -> None:
        """A literal that does not wait for the go-ahead is dropped and not
        kept, and the connection ends before all of it came."""

        def stranger() -> None:
            with self.wire("imap") as wire:
                wire.send(b"a LOGIN {2147483647+}\r\n")
                wire.flood(_PIECE, 10 << 20)
                self.assertRegex(wire.rest(), rb"^$|\* BYE")

        def friend() -> None:
            with self.reader() as wire:
                wire.send(b"a SEARCH SUBJECT {2147483647+}\r\n")
                wire.flood(_PIECE, 10 << 20)
                self.assertRegex(wire.rest(), rb"^$|\* BYE")

        def large() -> None:
            """Ten megabytes are dropped, and the next command is understood."""
            with self.reader() as wire:
                wire.send(b"a SEARCH SUBJECT {10485760+}\r\n")
                for _ in range(160):
                    wire.send(_PIECE)
                wire.send(b"\r\nb NOOP\r\n")
                self.assertRegex(wire.until(b"a "), rb"^a (BAD|NO)")
                self.assertEqual(wire.until(b"b ")[:4], b"b OK")

        self.attacked(6 * MIB, stranger, friend, large)

    def test_h18_a_thousand_literals(self) -> None:
        """They are taken or refused, and the next command is understood."""
        with self.reader() as wire:
            wire.send(b"a SEARCH" + b" SUBJECT {1+}\r\nx" * 1001 + b"\r\nb NOOP\r\n")
            self.assertRegex(wire.until(b"a "), rb"^a BAD")
            self.assertEqual(wire.until(b"b ")[:4], b"b OK")

    def test_h18_append_too_large(self) -> None:
        """A message over the limit is refused before it comes, or ends the
        connection; there is nothing in the mailbox."""
        with self.reader() as wire:
            self.assertRegex(
                wire.say("a APPEND INBOX {300000000}"), rb"^a NO \[TOOBIG\]"
            )
            self.assertEqual(wire.say("b NOOP", b"b ")[:4], b"b OK")

    def test_h18_append_interrupted(self) -> None:
        """Of a message whose sender hangs up there is nothing."""

        def half() -> None:
            with self.reader() as wire:
                wire.say("a APPEND INBOX {10000000}", b"+")
                wire.send(b"Subject: half\r\n\r\n" + _PIECE * 20)

        self.attacked(6 * MIB, half)

    def test_h19_parentheses(self) -> None:
        """A flood of them is BAD, before the login and after it."""

        def stranger() -> None:
            with self.wire("imap") as wire:
                wire.send(b"a LOGIN " + b"(" * 1_000_000 + b"\r\n")
                self.assertRegex(wire.line(), rb"^(a|\*) (BAD|BYE)")

        def friend() -> None:
            with self.reader() as wire:
                for verb in (b"SEARCH ", b"FETCH 1 "):
                    wire.send(b"a " + verb + b"(" * 60_000 + b"\r\n")
                    self.assertRegex(wire.until(b"a "), rb"^a BAD")

        self.attacked(6 * MIB, stranger, friend)

    def test_h20_sets(self) -> None:
        """Sets that name everything many times are what they mean."""
        with self.reader() as wire:
            wire.send(b"a UID FETCH " + b"1:4294967295," * 4000 + b"1:* (UID)\r\n")
            fetched = 0
            while (line := wire.line()).startswith(b"*"):
                fetched += 1
            self.assertEqual((line[:4], fetched), (b"a OK", len(self.subjects)))
            self.assertRegex(wire.say("a FETCH 0 (UID)", b"a "), rb"^a BAD")

    def test_h21_programs(self) -> None:
        """Searches as long as a line may be, one after the other, keep nobody
        else from theirs."""
        program = b"OR " * 10_000 + b"ALL " * 5_000
        words = b'a SEARCH TEXT "%s"\r\n' % (b"x" * 60_000)

        def search() -> None:
            with self.reader() as wire:
                for command in (b"a SEARCH " + program + b"\r\n", words) * 5:
                    wire.send(command)
                    self.assertRegex(wire.until(b"a "), rb"^a (OK|BAD|NO)")
                charset = wire.say("a SEARCH CHARSET klingon ALL", b"a ")
                self.assertRegex(charset, rb"^a NO \[BADCHARSET")

        self.attacked(16 * MIB, search)

    def test_h22_names(self) -> None:
        """Names that are paths are names or are refused; there is no new file
        anywhere near."""
        before = self.files()
        with self.reader() as wire:
            for number, name in enumerate(
                (
                    *("../../etc", "/abs", "a//b", "&", "&AGE-", "&AGEAYQ", "inbox/"),
                    *("..", ".", "x" * 100_000, "/".join("x" * 1000), "~root", "|ls"),
                    *("a\0b", "a\rb", "\u00e9", "\x1b[2J", "INBOX/../x", "%", "*"),
                )
            ):
                octets = name.encode()
                wire.send(b"c%d CREATE {%d+}\r\n%s\r\n" % (number, len(octets), octets))
                answer = wire.until(b"c%d " % number)
                if answer.split()[1] == b"OK":
                    delete = b"d DELETE {%d+}\r\n%s\r\n" % (len(octets), octets)
                    wire.send(delete)
                    self.assertEqual(wire.until(b"d ")[:4], b"d OK", name)
        self.assertEqual(self.files(), before)

    def files(self) -> set[str]:
        """Of the whole server."""
        found = (path.relative_to(self.home) for path in self.home.rglob("*"))
        return {str(path) for path in found if not path.name.endswith(("-wal", "-shm"))}

    def test_h23_wildcards(self) -> None:
        """Patterns of nothing but wildcards keep nobody from their mail."""
        with self.reader() as wire:
            for number in range(300):
                wire.send(b"a CREATE many/%s%d\r\n" % (b"ab" * 20, number))
            for _ in range(300):
                self.assertEqual(wire.until(b"a ")[:4], b"a OK")

        def list_() -> None:
            with self.reader() as wire:
                for pattern in (b"%*" * 500, b"*a" * 500, b"*b" * 15 + b"z"):
                    wire.send(b'a LIST "" "' + pattern + b'"\r\n')
                    self.assertEqual(wire.until(b"a ")[:4], b"a OK")

        self.attacked(6 * MIB, list_)
        with self.reader() as wire:
            for number in range(300):
                wire.send(b"a DELETE many/%s%d\r\n" % (b"ab" * 20, number))
                self.assertEqual(wire.until(b"a ")[:4], b"a OK")
            wire.say("a DELETE many", b"a ")

    def test_h24_keywords(self) -> None:
        """A mailbox has so many keywords and no more, each of a decent size."""

        def flood() -> None:
            with self.reader() as wire:
                for number in range(200):
                    words = b" ".join(b"k%d" % (number * 50 + n) for n in range(50))
                    wire.send(b"a STORE 1 +FLAGS.SILENT (%s)\r\n" % words)
                    answer = wire.until(b"a ")
                    if b"LIMIT" in answer:
                        break
                self.assertRegex(answer, rb"^a NO \[LIMIT\]")
                long = wire.say(f"b STORE 1 +FLAGS.SILENT ({'k' * 60_000})", b"b ")
                self.assertRegex(long, rb"^b (NO|BAD)")

        self.attacked(8 * MIB, flood)

    def test_h25_bad_commands(self) -> None:
        """Three before the login, or twenty after it, are the end."""
        with self.wire("imap") as wire:
            wire.send(b"a WHAT\r\n" * 1000)
            answers = wire.rest().splitlines()
            self.assertLessEqual(len(answers), 4)
            self.assertEqual(answers[-1][:5], b"* BYE")
        with self.reader() as wire:
            wire.send(b"a WHAT\r\n" * 1000)
            answers = wire.rest().splitlines()
            self.assertLessEqual(len(answers), 22)
            self.assertEqual(answers[-1][:5], b"* BYE")

    def test_h37_fetch_that_nobody_reads(self) -> None:
        """Eight clients that ask for ten megabytes again and again and read
        none of it cost a little each."""
        body = b"x" * 76 + b"\r\n"
        for number in range(5):
            with self.mail() as wire:
                wire.send(
                    b"Subject: large-%d\r\n\r\n" % number + body * 26_000 + b".\r\n"
                )
                self.assertEqual(wire.line()[:3], b"250")
                self.subjects.append(f"large-{number}")
        with contextlib.ExitStack() as stack, self.under_attack(24 * MIB):
            for _ in range(4):
                wire = stack.enter_context(self.reader(buffer=4096))
                sent = wire.flood(b"a UID FETCH 1:* BODY.PEEK[]\r\n" * 100, 10 << 20)
                self.assertLess(sent, 10 << 20)
                self.assertFalse(wire.closed)
                wire = stack.enter_context(self.drop(buffer=4096))
                sent = wire.flood(b"RETR 3\r\n" * 1000, 10 << 20)
                self.assertLess(sent, 10 << 20)
                self.assertFalse(wire.closed)
            self.honest()

    def test_h37_words_that_nobody_reads(self) -> None:
        """Nor do those who ask small questions for ever, before the login or
        after it."""
        with contextlib.ExitStack() as stack, self.under_attack(12 * MIB):
            for wire, command in (
                (self.wire("imap", buffer=4096), b"a CAPABILITY\r\n"),
                (self.wire("pop3", buffer=4096), b"CAPA\r\n"),
                (self.reader(buffer=4096), b"a NOOP\r\n"),
                (self.reader(buffer=4096), b'a LIST "" *\r\n'),
                (self.drop(buffer=4096), b"NOOP\r\n"),
                (self.drop(buffer=4096), b"STAT\r\n"),
            ):
                client = stack.enter_context(wire)
                sent = client.flood(command * 4000, 50 << 20)
                self.assertLess(sent, 50 << 20, command)
                self.assertFalse(client.closed, command)
            self.honest()

    @contextlib.contextmanager
    def drop(self, buffer: int | None = None) -> Iterator[Wire]:
        """Bob's mail by POP3. There is no lock to keep others out."""
        with self.wire("pop3s", buffer=buffer) as wire:
            wire.say(f"USER {BOB}", b"+OK")
            wire.say(f"PASS {PASSWORD}", b"+OK")
            yield wire

    def test_h39_guessing(self) -> None:
        """A wrong password and a name that nobody has are told the same, by
        every protocol; who guesses on waits, and nobody else does."""
        answers: dict[str, set[bytes]] = {"imaps": set(), "pop3s": set()}
        for number, name in enumerate((BOB, "nobody@example.test", "bob@other.test")):
            source = f"127.0.{number}.9"
            with self.wire("imaps", source) as wire:
                wire.send(f'a LOGIN {name} "wrong"\r\n'.encode())
                answers["imaps"].add(wire.line())
            with self.wire("pop3s", f"127.1.{number}.9") as wire:
                wire.say(f"USER {name}", b"+OK")
                answers["pop3s"].add(wire.say("PASS wrong"))
        self.assertEqual([len(told) for told in answers.values()], [1, 1], answers)

        with contextlib.ExitStack() as stack, self.under_attack(48 * MIB):
            # A hash takes 20 MiB for the blink of an eye, two at a time.
            for number in range(20):
                wire = stack.enter_context(self.wire("imaps", "127.0.0.66"))
                wire.send(f'a LOGIN {BOB} "wrong{number}"\r\n'.encode() * 3)
            self.honest()
        self.logged(rf"login failed: name='{BOB}', client=127\.0\.0\.66")

    def test_h41_names_in_the_log(self) -> None:
        """Whatever a user is called, it is a failed login and one line."""
        evil = ("a%s", "a'--", '\\"', "../x", "*)(uid=*", "\u202e\u00e9", "x" * 5000)
        for number, name in enumerate(evil):
            with self.wire("imaps", f"127.0.{number}.10") as wire:
                octets = name.encode()
                wire.send(b"a LOGIN {%d+}\r\n%s x\r\n" % (len(octets), octets))
                self.assertRegex(wire.until(b"a "), rb"^a NO \[AUTH")
        told = re.compile(r"login failed: name=.*, client=127\.0\.\d\.10")

        def failed() -> list[str]:
            return told.findall(self.server.log[self._log_from :])

        wait_until(lambda: len(failed()) >= len(evil), "a line for each", self.server)
        self.assertEqual(len(failed()), len(evil))
        self.assertNotIn("\u202e", "".join(failed()))
