"""Tests for L{twisted_mta.wire.smtp.server}."""

import re
from collections.abc import Iterable, Iterator
from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Body
from twisted_mta.wire.engine import RemoteProtocolError
from twisted_mta.wire.smtp.events import (
    Auth,
    AuthResponse,
    BadCommand,
    Bdat,
    Data,
    DataCommand,
    EndOfChunk,
    EndOfData,
    Etrn,
    Event,
    Expn,
    Fault,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    XClient,
    XForward,
)
from twisted_mta.wire.smtp.parameter import MailParameters
from twisted_mta.wire.smtp.server import BareLineEnds, SmtpLimits, SmtpServerEngine

DEFAULT = SmtpLimits()


def every_chunking(octets: bytes) -> Iterator[list[bytes]]:
    """The octets whole, one by one, in pieces of each size up to 7, and cut in
    two at every place."""
    for size in (len(octets), 1, 2, 3, 5, 7):
        yield [octets[at : at + size] for at in range(0, len(octets), size)]
    for cut in range(1, len(octets)):
        yield [octets[:cut], octets[cut:]]


def run(
    pieces: Iterable[bytes],
    limits: SmtpLimits = DEFAULT,
    bare: BareLineEnds = BareLineEnds.REFUSE,
    accept: bool = True,
) -> list[Event]:
    """What an engine tells of these pieces, runs of content joined, when the
    session accepts every DATA, BDAT and AUTH; "early" is left out, since it
    depends on the cuts."""
    engine = SmtpServerEngine(limits, bare)
    events: list[Event] = []
    first = True
    for piece in pieces:
        engine.receive_data(piece)
        while (event := engine.next_event()) is not None:
            match event:
                case Hello():
                    event = Hello(event.name, event.extended, lmtp=event.lmtp)
                case Mail():
                    binary = event.parameters.body is Body.BINARY
                    engine.begin(event.parameters.smtputf8, binary)
                case StartTls():
                    event = StartTls()
                case DataCommand():
                    event = DataCommand()
                    if accept:
                        engine.start_data()
                case Bdat() if accept:
                    engine.start_chunk(first)
                    first = event.last
                case Auth():
                    engine.start_auth(b"")
                case Data() if events and isinstance(events[-1], Data):
                    event = Data(events.pop().octets + event.octets)  # type: ignore[union-attr]
            events.append(event)
    return events


HELLO = b"EHLO client.example\r\n"
A, B = Address("a", "x"), Address("b", "y")
MAIL, RCPT = Mail(A, MailParameters()), Rcpt(B)


class CommandTests(TestCase):
    def test_every_command(self) -> None:
        """Each verb in any case becomes its event, however it is cut."""
        transcript = (
            b"ehlo c.example\r\nHELO c.example \r\nMAIL FROM:<a@x>\r\n"
            b"rcpt TO:<b@y>\r\nRSET\r\nNOOP what ever\r\nVRFY b\r\nEXPN l\r\n"
            b"LHLO c\r\nETRN @X.test\r\nXCLIENT ADDR=10.0.0.1 NAME=a+2Bb PORT=\r\n"
            b"xforward ident=Q1 helo=c SOURCE=[UNAVAILABLE]\r\n"
            b"HELP me\r\nSTARTTLS\r\nDATA\r\n.\r\nQUIT\r\n"
        )
        for pieces in every_chunking(transcript):
            self.assertEqual(
                run(pieces),
                [
                    Hello("c.example", True),
                    Hello("c.example", False),
                    MAIL,
                    RCPT,
                    Rset(),
                    Noop(),
                    Vrfy("b"),
                    Expn("l"),
                    Hello("c", True, lmtp=True),
                    Etrn("@x.test"),
                    XClient({"ADDR": "10.0.0.1", "NAME": "a+b", "PORT": None}),
                    XForward({"IDENT": "Q1", "HELO": "c", "SOURCE": None}),
                    Help(),
                    StartTls(),
                    DataCommand(),
                    EndOfData(),
                    Quit(),
                ],
            )

    def test_bad_commands(self) -> None:
        """What is no command gets the RFC's code, and the next line is read."""
        for line, code in (
            (b"", 500),
            (b" QUIT", 500),
            (b"FOO", 500),
            (b"MAILFROM:<a@b>", 500),
            (b"MAIL", 501),
            (b"MAIL TO:<a@b>", 501),
            (b"MAIL FROM:<a@b> FOO=1", 555),
            (b"MAIL FROM:<\xc3\xa4@b>", 553),
            (b"MAIL FROM:<\xff@b> SMTPUTF8", 501),
            (b"RCPT TO:<\xc3\xa4@b>", 553),
            (b"DATA x", 501),
            (b"RSET x", 501),
            (b"QUIT x", 501),
            (b"STARTTLS x", 501),
            (b"VRFY", 501),
            (b"EXPN", 501),
            (b"AUTH", 501),
            (b"EHLO", 501),
            (b"NOOP \x00", 501),
            (b"HELO a\rRSET", 501),
        ):
            event, last = run([line + b"\r\nNOOP\r\n"])
            self.assertIsInstance(event, BadCommand, line)
            assert isinstance(event, BadCommand)
            self.assertEqual((event.code, event.close), (code, False), line)
            self.assertEqual(last, Noop())

    def test_bare_line_feed(self) -> None:
        """Only CRLF ends a command: one that LF ended is never obeyed."""
        for pieces in every_chunking(b"RSET\nNOOP\r\n"):
            event, last = run(pieces)
            self.assertIsInstance(event, BadCommand)
            self.assertEqual(last, Noop())

    def test_other_protocols(self) -> None:
        """A browser that was sent here is cut off at its first line."""
        (event,) = run([b"POST / HTTP/1.1\r\n"])
        assert isinstance(event, BadCommand)
        self.assertTrue(event.close)

    def test_smtputf8(self) -> None:
        """A recipient above ASCII passes once MAIL said SMTPUTF8."""
        events = run(
            [
                "MAIL FROM:<ä@x> SMTPUTF8\r\nRCPT TO:<ö@y>\r\n".encode()
                + "MAIL FROM:<>\r\nRCPT TO:<ö@y>\r\n".encode()
            ]
        )
        self.assertEqual(
            events[:3],
            [
                Mail(
                    Address("ä", "x"),
                    MailParameters(smtputf8=True, keywords=frozenset({"SMTPUTF8"})),
                ),
                Rcpt(Address("ö", "y")),
                Mail(None, MailParameters()),
            ],
        )
        self.assertIsInstance(events[3], BadCommand)

    def test_h08_endless_command(self) -> None:
        """A line without end is refused at the limit, wherever it is cut."""
        engine = SmtpServerEngine()
        with self.assertRaises(RemoteProtocolError) as caught:
            for _ in range(100):
                engine.receive_data(b"x" * 100)
                self.assertIsNone(engine.next_event())
                self.assertLess(engine.buffered(), 2200)
        self.assertTrue(caught.exception.reply.startswith(b"500 "))

    def test_h07_early_talk_is_told(self) -> None:
        """Who goes on speaking after EHLO, DATA or STARTTLS is told of."""
        for line in (b"EHLO x", b"HELO x", b"DATA", b"STARTTLS"):
            for rest, early in ((b"", False), (b"R", True)):
                engine = SmtpServerEngine()
                engine.receive_data(line + b"\r\n" + rest)
                event = engine.next_event()
                assert isinstance(event, Hello | DataCommand | StartTls)
                self.assertIs(event.early, early)

    def test_h04_discard(self) -> None:
        """What was pushed before TLS is forgotten."""
        engine = SmtpServerEngine()
        engine.receive_data(b"STARTTLS\r\nMAIL FROM:<evil@x>\r\nRCP")
        self.assertEqual(engine.next_event(), StartTls(True))
        engine.discard()
        self.assertEqual(engine.buffered(), 0)
        engine.receive_data(b"NOOP\r\n")
        self.assertEqual(engine.next_event(), Noop())
        self.assertIsNone(engine.next_event())


class SaslTests(TestCase):
    def test_exchange(self) -> None:
        """After start_auth one line is a response, then commands again."""
        for pieces in every_chunking(b"AUTH LOGIN\r\nUSER\r\nRSET\r\n"):
            self.assertEqual(
                run(pieces), [Auth("LOGIN", None), AuthResponse(b"USER"), Rset()]
            )

    def test_challenge(self) -> None:
        """The challenge goes out with 334."""
        engine = SmtpServerEngine()
        self.assertEqual(engine.start_auth(b"VXNlcjo="), b"334 VXNlcjo=\r\n")

    def test_h40_endless_response(self) -> None:
        """A response of a megabyte is refused at RFC 4954's 12288 octets."""
        engine = SmtpServerEngine()
        engine.start_auth(b"")
        engine.receive_data(b"A" * 12288)
        self.assertIsNone(engine.next_event())
        engine.receive_data(b"A" * 3)
        with self.assertRaises(RemoteProtocolError):
            engine.next_event()


class ContentTests(TestCase):
    def content(
        self,
        octets: bytes,
        limits: SmtpLimits = DEFAULT,
        bare: BareLineEnds = BareLineEnds.REFUSE,
    ) -> list[Event]:
        """What DATA, these octets and NOOP are told as, the same however cut."""
        results = [
            run(pieces, limits, bare)[1:]
            for pieces in every_chunking(b"DATA\r\n" + octets + b"NOOP\r\n")
        ]
        faulty = isinstance(results[0][-2], EndOfData) and results[0][-2].fault
        for result in results:
            if faulty:  # found sooner or later, more or less was told before
                result = [event for event in result if not isinstance(event, Data)]
            self.assertEqual(result, results[0])
        return results[0]

    def test_dots(self) -> None:
        """A line's first dot is taken out; CRLF.CRLF ends content."""
        for octets, content in (
            (b".\r\n", b""),
            (b"\r\n.\r\n", b"\r\n"),
            (b"a\r\n.\r\n", b"a\r\n"),
            (b"..\r\n.\r\n", b".\r\n"),
            (b".a\r\n..b\r\n...\r\n.\r\n", b"a\r\n.b\r\n..\r\n"),
            (b"a.\r\nb\r\n\r\n..\r\n\r\n.\r\n", b"a.\r\nb\r\n\r\n.\r\n\r\n"),
            (b"\0\xff\r\n.\r\n", b"\0\xff\r\n"),
        ):
            told: list[Event] = [Data(content)] if content else []
            self.assertEqual(self.content(octets), [*told, EndOfData(), Noop()])

    def test_h01_smuggling(self) -> None:
        """No other sequence than CRLF.CRLF ends content; what has a bare CR or
        LF is refused as one message, and nothing within is a command."""
        smuggled = b"MAIL FROM:<evil@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n"
        for end in (
            b"\n.\n",
            b"\n.\r\n",
            b"\r.\r\n",
            b"\r\n.\n",
            b"\n.\r",
            b"\r.\r",
            b"\r\n.\r",
            b"\r\r\n.\n",
        ):
            octets = b"text" + end + smuggled + b"\r\n.\r\n"
            events = self.content(octets)
            ends = [event for event in events if not isinstance(event, Data)]
            self.assertEqual(ends, [EndOfData(Fault.BARE_LINE_END), Noop()], end)
            normal = self.content(octets, bare=BareLineEnds.NORMALISE)
            data, *rest = normal
            self.assertEqual(rest, [EndOfData(), Noop()], end)
            assert isinstance(data, Data)
            self.assertNotRegex(data.octets, rb"\r(?!\n)|(?<!\r)\n")
            self.assertIn(b"MAIL FROM:<evil@x>", data.octets)

    def test_h01_nul_before_the_dot(self) -> None:
        """CRLF NUL . CRLF is content."""
        self.assertEqual(
            self.content(b"a\r\n\0.\r\nb\r\n.\r\n"),
            [Data(b"a\r\n\0.\r\nb\r\n"), EndOfData(), Noop()],
        )

    def test_refused_data(self) -> None:
        """When the session does not start content, commands follow."""
        self.assertEqual(
            run([b"DATA\r\nNOOP\r\n"], accept=False), [DataCommand(), Noop()]
        )

    def test_size(self) -> None:
        """Content over the limit is read to its end and told of; the next
        message has the whole limit again."""
        limits = SmtpLimits(content=10)
        events = self.content(b"12345678\r\n.\r\nDATA\r\n1234\r\n.\r\n", limits)
        self.assertEqual(events[1], EndOfData())
        self.assertEqual(events[4], EndOfData())
        over = self.content(b"123456789\r\n.\r\n", limits)
        self.assertEqual(over[-2:], [EndOfData(Fault.TOO_LARGE), Noop()])

    def test_h09_endless_line(self) -> None:
        """A line of 100 MB passes through three octets of buffer."""
        engine = SmtpServerEngine(SmtpLimits(content=1 << 30))
        engine.start_data()
        piece = b"x" * 1_000_000
        for _ in range(100):
            engine.receive_data(piece)
            self.assertEqual(engine.next_event(), Data(piece))
            self.assertIsNone(engine.next_event())
            self.assertEqual(engine.buffered(), 0)

    def test_text_line(self) -> None:
        """With a limit on lines, a longer one is a fault, wherever it is cut."""
        limits = SmtpLimits(text_line=10)
        good = b"0123456789\r\n012\r\n\r\n0123456789\r\n0123456789\r\n"
        self.assertEqual(
            self.content(good + b".\r\n", limits), [Data(good), EndOfData(), Noop()]
        )
        for bad in (b"0123456789a\r\n", good + b"0123456789a\r\n", b"x" * 50 + b"\r\n"):
            events = self.content(bad + b"0\r\n.\r\n", limits)
            self.assertEqual(events[-2:], [EndOfData(Fault.LINE_TOO_LONG), Noop()])

    @given(
        st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\0"])),
        st.lists(st.integers(1, 5), min_size=1, max_size=8),
    )
    @settings(max_examples=200, deadline=None)
    def test_h01_against_the_rfc(self, words: list[bytes], cuts: list[int]) -> None:
        """Any content, however it is cut, ends where a reading by the letter of
        RFC 5321 4.5.2 says, and is what that says."""
        octets = b"".join(words) + b"\r\n.\r\n"
        wire = b"\r\n" + octets
        end = wire.index(b"\r\n.\r\n")
        expected = re.sub(rb"\r\n\.", b"\r\n", wire[: end + 2])[2:]
        stripped = expected.replace(b"\r\n", b"")
        pieces, at = [b"DATA\r\n"], 0
        while at < len(octets):
            pieces.append(octets[at : at + cuts[len(pieces) % len(cuts)]])
            at += len(pieces[-1])
        _, *events = run(pieces)
        if b"\r" in stripped or b"\n" in stripped:
            events = [event for event in events if not isinstance(event, Data)]
            self.assertEqual(events[0], EndOfData(Fault.BARE_LINE_END))
        elif expected:
            self.assertEqual(events[:2], [Data(expected), EndOfData()])
        else:
            self.assertEqual(events[0], EndOfData())


class ChunkTests(TestCase):
    def test_chunks(self) -> None:
        """Exactly the octets counted are content, dots and all."""
        mail = b"MAIL FROM:<> BODY=BINARYMIME\r\n"
        transcript = b"BDAT 5\r\n.\r\n.\nBDAT 0\r\nBDAT 3 LAST\r\n\r\r.RSET\r\n"
        for pieces in every_chunking(mail + transcript):
            self.assertEqual(
                run(pieces)[1:],
                [
                    Bdat(5, False),
                    Data(b".\r\n.\n"),
                    EndOfChunk(False),
                    Bdat(0, False),
                    EndOfChunk(False),
                    Bdat(3, True),
                    Data(b"\r\r."),
                    EndOfChunk(True),
                    Rset(),
                ],
            )

    def test_h02_lines(self) -> None:
        """What is not binary has lines as after DATA, wherever chunks end."""
        for transcript, octets, fault in (
            (b"BDAT 3\r\nab\rBDAT 3 LAST\r\n\nc\n", b"", Fault.BARE_LINE_END),
            (b"BDAT 3\r\nab\rBDAT 2 LAST\r\n\nc", b"ab\r\nc", None),
            (b"BDAT 3\r\nab\rBDAT 1 LAST\r\nc", b"", Fault.BARE_LINE_END),
            (b"BDAT 3\r\nab\rBDAT 0 LAST\r\n", b"", Fault.BARE_LINE_END),
            (b"BDAT 4 LAST\r\na\r\nb", b"a\r\nb", None),
            (b"BDAT 12 LAST\r\n1234567890ab", b"", Fault.LINE_TOO_LONG),
            (b"BDAT 6\r\n123456BDAT 5 LAST\r\n78901", b"", Fault.LINE_TOO_LONG),
        ):
            for pieces in every_chunking(transcript + b"RSET\r\n"):
                events = run(pieces, SmtpLimits(text_line=8))
                told = [event.octets for event in events if isinstance(event, Data)]
                if fault is None:
                    self.assertEqual(b"".join(told), octets)
                self.assertEqual(events[-2:], [EndOfChunk(True, fault), Rset()])

    def test_h02_lines_mended(self) -> None:
        """Where that is wanted, line ends are mended."""
        transcript = b"BDAT 3\r\nab\rBDAT 2\r\nc\nBDAT 1\r\n\rBDAT 0 LAST\r\nRSET\r\n"
        for pieces in every_chunking(transcript):
            events = run(pieces, bare=BareLineEnds.NORMALISE)
            told = [event.octets for event in events if isinstance(event, Data)]
            self.assertEqual(b"".join(told), b"ab\r\nc\r\n\r\n")
            self.assertEqual(events[-2:], [EndOfChunk(True), Rset()])

    def test_h03_refused_chunk_is_no_command(self) -> None:
        """A chunk the session does not want is taken in silence."""
        for pieces in every_chunking(b"BDAT 6 LAST\r\nRSET\r\nNOOP\r\n"):
            self.assertEqual(
                run(pieces, accept=False), [Bdat(6, True), EndOfChunk(True), Noop()]
            )

    def test_h03_unreadable_size_closes(self) -> None:
        """After a BDAT that cannot be read nobody knows what is a command."""
        for size in (b"-1", b"99999999999999999999", b"x"):
            event = run([b"BDAT " + size + b" LAST\r\n"])[0]
            assert isinstance(event, BadCommand)
            self.assertEqual((event.code, event.close), (501, True))

    def test_h03_size(self) -> None:
        """The limit counts all chunks of a message; a chunk of an exabyte that
        never comes allocates nothing."""
        limits = SmtpLimits(content=10)
        events = run([b"BDAT 6\r\n123456BDAT 6 LAST\r\n123456NOOP\r\n"], limits)
        self.assertEqual(events[-2:], [EndOfChunk(True, Fault.TOO_LARGE), Noop()])
        engine = SmtpServerEngine()
        engine.receive_data(b"BDAT 999999999999999999 LAST\r\nabc")
        self.assertEqual(engine.next_event(), Bdat(999999999999999999, True))
        self.assertIsNone(engine.next_event())
        self.assertEqual(engine.buffered(), 0)


_WORDS = st.sampled_from(
    [
        b"EHLO x\r\n",
        b"MAIL FROM:<a@b>\r\n",
        b"RCPT TO:<",
        b"DATA\r\n",
        b"BDAT 3 LAST\r\n",
        b"BDAT 7\r\n",
        b"AUTH PLAIN\r\n",
        b"\r\n.\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b".",
        b" ",
    ]
)


class GarbageTests(TestCase):
    @given(
        st.lists(st.one_of(_WORDS, st.binary(max_size=60)), max_size=30),
        st.integers(1, 40),
        st.booleans(),
    )
    @settings(max_examples=200, deadline=None)
    def test_any_octets(self, words: list[bytes], size: int, accept: bool) -> None:
        """Any octets, however cut, are events or one RemoteProtocolError, the
        same ones as in one piece, and the buffer stays bounded."""
        octets = b"".join(words)
        limits = SmtpLimits(command=50, sasl=50, content=60)

        def told(pieces: list[bytes]) -> list[Event | str]:
            try:
                return [*run(pieces, limits, accept=accept)]
            except RemoteProtocolError as error:
                return [str(error)]

        whole = told([octets] if octets else [])
        cut = [octets[at : at + size] for at in range(0, len(octets), size)]
        pieces = told(cut)

        # A fault found earlier or later leaves more or less told before it, and
        # content that has not ended is told as far as it came.
        def ends(events: list[Event | str]) -> list[Event | str]:
            return [event for event in events if not isinstance(event, Data)]

        self.assertEqual(ends(pieces), ends(whole))
