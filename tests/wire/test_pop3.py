"""L{twisted_mta.wire.pop3}: commands, limits, and messages as lines."""

import unittest
from collections.abc import Iterable, Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.wire import pop3
from twisted_mta.wire.engine import RemoteProtocolError
from twisted_mta.wire.pop3 import AuthResponse, BadCommand, Command, Pop3Engine


def events(pieces: Iterable[bytes]) -> list[pop3.Event]:
    """What an engine makes of these pieces."""
    engine = Pop3Engine()
    made = []
    for piece in pieces:
        engine.receive_data(piece)
        while (event := engine.next_event()) is not None:
            made.append(event)
    return made


def one(line: bytes) -> pop3.Event:
    """What an engine makes of one line."""
    (event,) = events([line + b"\r\n"])
    return event


def cut(octets: bytes, size: int) -> Iterator[bytes]:
    """Pieces of a size."""
    return (octets[at : at + size] for at in range(0, len(octets), size))


TRANSCRIPT = (
    b"CAPA\r\nUSER bob@example.test\r\nPASS two words \r\nstat\r\nLIST\r\n"
    b"LIST 3\r\nRETR 0001\r\nTOP 2 10\r\nDELE 4\r\nUIDL\r\nUIDL 4\r\nRSET\r\n"
    b"NOOP\r\nLANG\r\nLANG en\r\nUTF8\r\nSTLS\r\nAUTH\r\nAUTH plain =\r\n"
    b"AUTH LOGIN Ym9i\r\nAPOP bob abc\r\nRETR x\r\nQUIT\r\n"
)
EVENTS: list[pop3.Event] = [
    Command("CAPA"),
    Command("USER", text="bob@example.test"),
    Command("PASS", text="two words "),
    Command("STAT"),
    Command("LIST"),
    Command("LIST", (3,)),
    Command("RETR", (1,)),
    Command("TOP", (2, 10)),
    Command("DELE", (4,)),
    Command("UIDL"),
    Command("UIDL", (4,)),
    Command("RSET"),
    Command("NOOP"),
    Command("LANG"),
    Command("LANG", text="en"),
    Command("UTF8"),
    Command("STLS"),
    Command("AUTH"),
    Command("AUTH", text="PLAIN", initial=b""),
    Command("AUTH", text="LOGIN", initial=b"bob"),
    BadCommand("Unknown command"),
    BadCommand("RETR takes a message number"),
    Command("QUIT"),
]


class CommandTests(unittest.TestCase):
    def test_every_chunking(self) -> None:
        """However a transcript is cut, its commands are the same."""
        for size in range(1, len(TRANSCRIPT) + 1):
            self.assertEqual(events(cut(TRANSCRIPT, size)), EVENTS, size)
        for at in range(1, len(TRANSCRIPT)):
            pieces = [TRANSCRIPT[:at], TRANSCRIPT[at:]]
            self.assertEqual(events(pieces), EVENTS, at)

    def test_bare_lf_ends_a_command(self) -> None:
        """A person with netcat may type commands."""
        self.assertEqual(events([b"STAT\nNOOP\n"]), [Command("STAT"), Command("NOOP")])

    def test_bad_arguments(self) -> None:
        """Arguments that are too many, too few or no numbers are told so."""
        for line in (
            b"STAT 1",
            b"QUIT now",
            b"RETR",
            b"RETR 1 2",
            b"RETR -1",
            b"RETR 1.5",
            b"RETR 9999999999",
            b"RETR \xd9\xa1",
            b"TOP 1",
            b"TOP 1 -1",
            b"LIST a",
            b"USER",
            b"PASS",
            b"LANG en de",
            b"AUTH PLAIN !",
            b"AUTH PLAIN YQ",
            b"",
            b" STAT",
        ):
            with self.subTest(line=line):
                self.assertIsInstance(one(line), BadCommand)

    def test_h41_control_characters_and_what_is_not_utf8(self) -> None:
        """They get into no argument."""
        for line in (b"USER a\0b", b"USER a\rb", b"USER \x1b[2J", b"USER \xff"):
            with self.subTest(line=line):
                self.assertIsInstance(one(line), BadCommand)
        self.assertEqual(one("USER jürgen".encode()), Command("USER", text="jürgen"))

    def test_h08_line_without_end(self) -> None:
        """A line above the limit ends the connection with an error; what was
        buffered until then is bounded."""
        engine = Pop3Engine()
        pushed = 0
        with self.assertRaises(RemoteProtocolError) as caught:
            while True:
                engine.receive_data(b"x" * 100)
                pushed += 100
                engine.next_event()
        self.assertLess(pushed, 2300)
        self.assertEqual(caught.exception.reply, b"-ERR Line too long\r\n")

    def test_discard(self) -> None:
        """What was buffered before TLS, and a challenge, are forgotten."""
        engine = Pop3Engine()
        engine.challenge(b"")
        engine.receive_data(b"NOOP\r\nSTA")
        engine.discard()
        self.assertEqual(engine.buffered(), 0)
        engine.receive_data(b"STAT\r\n")
        self.assertEqual(engine.next_event(), Command("STAT"))


class ChallengeTests(unittest.TestCase):
    def setUp(self) -> None:
        self.engine = Pop3Engine()

    def answer(self, line: bytes) -> pop3.Event | None:
        """What the engine makes of the answer to a challenge."""
        self.engine.challenge(b"")
        self.engine.receive_data(line + b"\r\n")
        return self.engine.next_event()

    def test_written(self) -> None:
        """A challenge is base64 after a plus; an empty one keeps the space
        (RFC 5034 section 4)."""
        self.assertEqual(self.engine.challenge(b""), b"+ \r\n")
        self.assertEqual(self.engine.challenge(b"Username:"), b"+ VXNlcm5hbWU6\r\n")

    def test_answers(self) -> None:
        """The next line is the answer, and the one after it a command."""
        self.assertEqual(self.answer(b"Ym9i"), AuthResponse(b"bob"))
        self.assertEqual(self.answer(b""), AuthResponse(b""))
        self.assertEqual(self.answer(b"*"), AuthResponse(None))
        self.engine.receive_data(b"NOOP\r\n")
        self.assertEqual(self.engine.next_event(), Command("NOOP"))

    def test_h40_invalid_base64(self) -> None:
        """It is told so."""
        for line in (b"!", b"=", b"YQ", b"STAT"[:3]):
            self.assertIsInstance(self.answer(line), BadCommand)

    def test_h40_megabyte(self) -> None:
        """A line of a megabyte ends the connection."""
        self.assertIsInstance(self.answer(b"A" * 12288), AuthResponse)
        with self.assertRaises(RemoteProtocolError):
            self.answer(b"A" * 1_000_000)


class GarbageTests(unittest.TestCase):
    @given(
        st.lists(
            st.one_of(
                st.binary(min_size=1, max_size=60),
                st.sampled_from(
                    [b"\r\n", b"\n", b"AUTH PLAIN\r\n", b"TOP 1", b"*", b" ="]
                ),
            )
        ),
        st.booleans(),
    )
    @settings(max_examples=150)
    def test_any_octets(self, pieces: list[bytes], challenged: bool) -> None:
        """Whatever comes, there are events or a protocol error, and the buffer
        holds less than a line."""
        engine = Pop3Engine()
        if challenged:
            engine.challenge(b"")
        for piece in pieces:
            engine.receive_data(piece)
            try:
                while (event := engine.next_event()) is not None:
                    self.assertIsInstance(event, (Command, BadCommand, AuthResponse))
            except RemoteProtocolError:
                return
            self.assertLess(engine.buffered(), 12288)


class AnswerTests(unittest.TestCase):
    def test_status_lines(self) -> None:
        """RFC 1939 section 3; response codes as RFC 2449 section 8 has them."""
        self.assertEqual(pop3.ok(), b"+OK\r\n")
        self.assertEqual(pop3.ok("2 320"), b"+OK 2 320\r\n")
        self.assertEqual(pop3.err("no"), b"-ERR no\r\n")
        self.assertEqual(pop3.err("no", "SYS/TEMP"), b"-ERR [SYS/TEMP] no\r\n")


def as_lines(pieces: Iterable[bytes]) -> bytes:
    """A message as a session writes it."""
    text = pop3.MessageText()
    return b"".join([*map(text.feed, pieces), text.finish()])


def understood(answer: bytes, line_end: bytes) -> bytes | None:
    """What a client that ends lines with this makes of an answer; C{None} if it
    sees an end before the end."""
    body = b""
    while answer:
        line, _, answer = answer.partition(line_end)
        line = line.removesuffix(b"\r") if line_end == b"\n" else line
        if line == b".":
            return None if answer else body
        body += line.removeprefix(b".") + b"\r\n"
    return None


MESSAGES = st.lists(
    st.sampled_from([b"\r\n", b"\n", b"\r", b".", b"..", b"a", b"Bc: d"]), max_size=12
).map(b"".join)


class MessageTextTests(unittest.TestCase):
    def test_examples(self) -> None:
        """Dots are doubled at the start of lines only, a last line without end
        gets one, and a LF that stands alone becomes a line end."""
        for message, expected in (
            (b"", b".\r\n"),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b"a", b"a\r\n.\r\n"),
            (b".\r\n", b"..\r\n.\r\n"),
            (b"a\r\n.b.\r\n..\r\n", b"a\r\n..b.\r\n...\r\n.\r\n"),
            (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
            (b"a\r", b"a\r\n.\r\n"),
            (b"a\rb\r\n", b"a\rb\r\n.\r\n"),
        ):
            with self.subTest(message=message):
                self.assertEqual(as_lines([message]), expected)

    @given(MESSAGES)
    @settings(max_examples=100)
    def test_every_chunking(self, message: bytes) -> None:
        """However the runs are cut, what is written is the same."""
        whole = as_lines([message])
        for size in range(1, len(message)):
            self.assertEqual(as_lines(cut(message, size)), whole)

    @given(MESSAGES)
    @settings(max_examples=200)
    def test_every_client_sees_the_same_end(self, message: bytes) -> None:
        """Clients that end lines at LF and at CR LF read the same, all of it."""
        written = as_lines([message])
        strict = understood(written, b"\r\n")
        self.assertIsNotNone(strict)
        self.assertEqual(strict, understood(written, b"\n"))


def top(pieces: Iterable[bytes], lines: int) -> bytes:
    """What TOP leaves of a message."""
    cutter = pop3.Top(lines)
    made = b""
    for piece in pieces:
        if not cutter.done:
            made += cutter.feed(piece)
    return made


class TopTests(unittest.TestCase):
    def test_examples(self) -> None:
        """The header, the empty line, and as many lines as were asked for."""
        message = b"A: b\r\nC: d\r\n\r\none\r\ntwo\r\nthree\r\n"
        self.assertEqual(top([message], 0), b"A: b\r\nC: d\r\n\r\n")
        self.assertEqual(top([message], 2), message[: -len(b"three\r\n")])
        self.assertEqual(top([message], 3), message)
        self.assertEqual(top([message], 999_999_999), message)

    def test_odd_messages(self) -> None:
        """Without a header, without a body, with bare LFs, and empty."""
        for message, expected in (
            (b"\r\none\r\ntwo\r\n", b"\r\none\r\n"),
            (b"\none\ntwo\n", b"\none\n"),
            (b"A: b\n\none\ntwo\n", b"A: b\n\none\n"),
            (b"A: b\r\n", b"A: b\r\n"),
            (b"A: b\r\n\r\n", b"A: b\r\n\r\n"),
            (b"", b""),
        ):
            with self.subTest(message=message):
                self.assertEqual(top([message], 1), expected)

    @given(MESSAGES, st.integers(0, 3))
    @settings(max_examples=100)
    def test_every_chunking(self, message: bytes, lines: int) -> None:
        """However the runs are cut, what is left is the same."""
        whole = top([message], lines)
        self.assertTrue(message.startswith(whole))
        for size in range(1, len(message)):
            self.assertEqual(top(cut(message, size), lines), whole)

    def test_verbs_have_forms(self) -> None:
        """Every verb of RFC 1939 and its extensions is known; APOP is not
        offered."""
        required = "AUTH CAPA DELE LANG LIST NOOP PASS QUIT RETR RSET STAT STLS TOP"
        self.assertEqual(
            sorted(pop3.VERBS), sorted([*required.split(), "UIDL", "USER", "UTF8"])
        )
