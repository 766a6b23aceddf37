"""L{twisted_mta.wire.imap.engine}: framing, literals, limits."""

import unittest
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.imapdrive import Driver, Ended, cuts, events, one
from twisted_mta.mail.placement import FlagChange
from twisted_mta.mail.uidset import UidSet
from twisted_mta.wire.engine import RemoteProtocolError
from twisted_mta.wire.imap import replies
from twisted_mta.wire.imap.commands import COMMANDS
from twisted_mta.wire.imap.engine import ImapServerEngine
from twisted_mta.wire.imap.limits import FRIEND, STRANGER, ImapLimits
from twisted_mta.wire.imap.model import (
    Append,
    Authenticate,
    AuthResponse,
    BadCommand,
    BodySection,
    Command,
    Continue,
    Copy,
    Fetch,
    FetchItem,
    IdleDone,
    LiteralData,
    LiteralEnd,
    Login,
    MailboxCommand,
    Rename,
    Store,
)

_GO = Continue(replies.GO_AHEAD)
_MESSAGE = b"From: a@example.test\r\n\r\nHello {5}\r\na NOOP\r\n"

# A session with everything that changes how octets are read.
_TRANSCRIPT = (
    b"a001 CAPABILITY\r\n"
    b"a002 noop \r\n"
    b'a003 SELECT "a \\"b\\\\"\r\n'
    b"a004 RENAME {5}\r\nfirst {6+}\r\nsecond\r\n"
    b"a005 APPEND Sent (\\Seen) {%d}\r\n%b\r\n"
    b'a006 APPEND {5+}\r\nDraft "01-Feb-1994 10:00:00 +0000" {3+}\r\nabc\r\n'
    b"a007 APPEND Sent {0}\r\n\r\n"
    b"a008 IDLE\r\nDONE\r\n"
    b"a009 FOO {10+}\r\n0123456789 BAR {2+}\r\nxx and the rest\r\n"
    b"a010 APPEND Sent {2+}\r\nxx(\r\n"
    b"a011 UID COPY 4:2,* Sent\n"
    b"a012 LOGOUT\r\n"
) % (len(_MESSAGE), _MESSAGE)

_EVENTS = [
    Command(b"a001", "CAPABILITY"),
    Command(b"a002", "NOOP"),
    MailboxCommand(b"a003", "SELECT", 'a "b\\'),
    _GO,
    Rename(b"a004", "RENAME", "first", "second"),
    Append(b"a005", "APPEND", "Sent", ("\\Seen",), None, len(_MESSAGE), True),
    LiteralData(_MESSAGE),
    LiteralEnd(),
    Append(b"a006", "APPEND", "Draft", (), 760096800.0, 3, False),
    LiteralData(b"abc"),
    LiteralEnd(),
    Append(b"a007", "APPEND", "Sent", (), None, 0, True),
    LiteralEnd(),
    Command(b"a008", "IDLE"),
    IdleDone(),
    BadCommand(b"a009", "Unknown command"),
    Append(b"a010", "APPEND", "Sent", (), None, 2, False),
    LiteralData(b"xx"),
    BadCommand(b"a010", "Unexpected octets after the message"),
    Copy(b"a011", "UID COPY", UidSet.parse(b"2:4,*"), "Sent", True),
    Command(b"a012", "LOGOUT"),
]

_LOGIN = (
    b"a STARTTLS\r\n"
    b"b AUTHENTICATE PLAIN AGEAYg==\r\n*\r\n"
    b"c AUTHENTICATE LOGIN\r\nYWxpY2U=\r\n"
    b"d AUTHENTICATE PLAIN =\r\n!\r\n"
    b"e LOGIN {5}\r\nalice {8+}\r\ns\xc3\xa9cret \r\n"
)
_LOGIN_EVENTS = [
    Command(b"a", "STARTTLS"),
    Authenticate(b"b", "AUTHENTICATE", "PLAIN", b"\0a\0b"),
    AuthResponse(None),
    Authenticate(b"c", "AUTHENTICATE", "LOGIN", None),
    AuthResponse(b"alice"),
    Authenticate(b"d", "AUTHENTICATE", "PLAIN", b""),
    BadCommand(b"d", "Invalid base64"),
    _GO,
    Login(b"e", "LOGIN", "alice", "sécret "),
]


class ExampleTests(unittest.TestCase):
    def test_sample_connection_of_rfc_3501(self) -> None:
        """The client's side of RFC 3501 8 is understood as it says."""
        driver = Driver(authenticated=False)
        driver.feed([b"a001 login mrc secret\r\n"])
        driver.engine.authenticated = True
        driver.feed(
            [
                b"a002 select inbox\r\n",
                b"a003 fetch 12 full\r\n",
                b"a004 fetch 12 body[header]\r\n",
                b"a005 store 12 +flags \\deleted\r\n",
                b"a006 logout\r\n",
            ]
        )
        login, select, full, header, store, logout = driver.events
        self.assertEqual(login, Login(b"a001", "LOGIN", "mrc", "secret"))
        self.assertEqual(select, MailboxCommand(b"a002", "SELECT", "INBOX"))
        twelve = UidSet.of([12])
        assert isinstance(full, Fetch)
        self.assertEqual((full.numbers, len(full.items)), (twelve, 5))
        section = BodySection(text="HEADER")
        self.assertEqual(
            header,
            Fetch(
                b"a004",
                "FETCH",
                twelve,
                (FetchItem("BODY[]", b"BODY[HEADER]", section),),
                False,
            ),
        )
        self.assertEqual(
            store,
            Store(
                b"a005", "STORE", twelve, FlagChange.ADD, False, ("\\Deleted",), False
            ),
        )
        self.assertEqual(logout, Command(b"a006", "LOGOUT"))


class ChunkingTests(unittest.TestCase):
    def test_every_piece_size(self) -> None:
        """However the network cuts it, a transcript means the same."""
        for size in (1, 2, 3, 5, 7, 16, 100, len(_TRANSCRIPT)):
            with self.subTest(size=size):
                driver = Driver()
                self.assertEqual(driver.feed(cuts(_TRANSCRIPT, size)), _EVENTS)
                self.assertEqual(driver.engine.buffered(), 0)
                driver = Driver(authenticated=False)
                self.assertEqual(driver.feed(cuts(_LOGIN, size)), _LOGIN_EVENTS)

    def test_every_cut_in_two(self) -> None:
        """A cut at any one place changes nothing."""
        for at in range(1, len(_TRANSCRIPT)):
            pieces = (_TRANSCRIPT[:at], _TRANSCRIPT[at:])
            self.assertEqual(Driver().feed(pieces), _EVENTS, pieces)
        for at in range(1, len(_LOGIN)):
            pieces = (_LOGIN[:at], _LOGIN[at:])
            self.assertEqual(Driver(False).feed(pieces), _LOGIN_EVENTS, pieces)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.integers(0, len(_TRANSCRIPT)), max_size=12))
    def test_any_cuts(self, places: list[int]) -> None:
        """Any set of cuts changes nothing."""
        ends = sorted({0, len(_TRANSCRIPT), *places})
        pieces = [_TRANSCRIPT[a:b] for a, b in pairwise(ends)]
        self.assertEqual(Driver().feed(pieces), _EVENTS)


_FRAGMENTS = st.sampled_from(
    [
        b"a ",
        b"\r\n",
        b"\n",
        b"{3}\r\n",
        b"{3+}\r\n",
        b"{",
        b"}",
        b'"',
        b"\\",
        b"(",
        b")",
        b" ",
        b"*",
        b"\0",
        b"\xff",
        b"UID ",
        b"FETCH 1 ",
        b"SEARCH ",
        b"OR ",
        b"NOT ",
        b"TEXT ",
        b"BODY[",
        b"]",
        b"<0.1>",
        b"APPEND x ",
        b"LIST ",
        b"STORE 1 FLAGS ",
        b"LOGIN ",
        b"AUTHENTICATE PLAIN",
        b"IDLE\r\n",
        b"ID ",
        b"NIL",
        b"1:*",
    ]
)
_GARBAGE = st.lists(st.one_of(_FRAGMENTS, st.binary(max_size=6)), max_size=40)


class GarbageTests(unittest.TestCase):
    @settings(max_examples=250, deadline=None)
    @given(_GARBAGE, st.booleans(), st.integers(1, 20))
    def test_garbage(self, pieces: list[bytes], authenticated: bool, size: int) -> None:
        """Whatever the octets: events or the engine's own farewell, and the
        same ones however they are cut."""
        octets = b"".join(pieces)
        whole = Driver(authenticated).feed([octets] if octets else [])
        cut = Driver(authenticated).feed(cuts(octets, size))
        self.assertEqual(list(map(repr, cut)), list(map(repr, whole)))

    @settings(max_examples=150, deadline=None)
    @given(_GARBAGE)
    def test_resynchronised(self, pieces: list[bytes]) -> None:
        """After a line of garbage without a literal the next command is
        found."""
        line = b"".join(pieces).replace(b"\n", b"").replace(b"}", b"")
        found = Driver().feed([b"g " + line + b"\r\nDONE\r\nz NOOP\r\n"])
        self.assertEqual(found[-1], Command(b"z", "NOOP"))


class LineTests(unittest.TestCase):
    def test_every_command_without_arguments(self) -> None:
        """A command in the table is either read or misses an argument; what is
        not in the table is unknown."""
        for name in COMMANDS:
            with self.subTest(name=name):
                event = one(b"t " + name.encode())
                assert isinstance(event, Command | BadCommand)
                self.assertEqual(event.tag, b"t")
                if isinstance(event, Command):
                    self.assertEqual(event, Command(b"t", name))
                else:
                    self.assertNotEqual(event.text, "Unknown command")

    def test_malformed_heads(self) -> None:
        """A line without a tag or a command is answered as far as its tag can
        be known."""
        for line, tag, text in (
            (b"", b"*", "Malformed command"),
            (b"a", b"*", "Malformed command"),
            (b" a NOOP", b"*", "Malformed command"),
            (b"a  NOOP", b"a", "Malformed command"),
            (b"+ NOOP", b"*", "Malformed command"),
            (b"a+b NOOP", b"*", "Malformed command"),
            (b"* NOOP", b"*", "Malformed command"),
            (b"a NO\0OP", b"a", "Malformed command"),
            (b"a XYZZY", b"a", "Unknown command"),
            (b"a UID", b"a", "Unknown command"),
            (b"a UID NOOP", b"a", "Unknown command"),
            (b"a NOOP x", b"a", "Unexpected arguments"),
            (b"t" * 300 + b" NOOP", b"*", "The tag is too long"),
        ):
            with self.subTest(line=line):
                self.assertEqual(one(line), BadCommand(tag, text))

    def test_pipelined(self) -> None:
        """Commands sent together come one by one, in order."""
        self.assertEqual(
            events(b"1 NOOP\r\n2 CHECK\r\n3 CLOSE\r\n"),
            [Command(b"1", "NOOP"), Command(b"2", "CHECK"), Command(b"3", "CLOSE")],
        )

    def test_strangers_are_not_read(self) -> None:
        """Before the login a command that needs one is refused before its
        arguments are looked at, or its literal is asked for."""
        self.assertEqual(
            one(b"a FETCH ((((", authenticated=False), BadCommand(b"a", "Log in first")
        )
        self.assertEqual(
            events(b"a APPEND x {10}\r\nb NOOP\r\n", authenticated=False),
            [BadCommand(b"a", "Log in first"), Command(b"b", "NOOP")],
        )

    def test_h04_discard(self) -> None:
        """Whatever was sent in the clear behind STARTTLS is dropped, the middle
        of a literal included."""
        engine = ImapServerEngine()
        engine.receive_data(b"a STARTTLS\r\nb LOGIN {100}\r\nx")
        self.assertEqual(engine.next_event(), Command(b"a", "STARTTLS"))
        engine.discard()
        self.assertEqual(engine.buffered(), 0)
        engine.receive_data(b"b LOGIN {100}\r\nx")
        engine.next_event()
        engine.discard()
        engine.receive_data(b"c NOOP\r\n")
        self.assertEqual(engine.next_event(), Command(b"c", "NOOP"))

    def test_idle_ends_with_anything(self) -> None:
        """Another line than DONE ends IDLE with a BAD for IDLE's tag."""
        self.assertEqual(
            events(b"a IDLE\r\nb NOOP\r\nc NOOP\r\n")[1:],
            [BadCommand(b"a", "Expected DONE"), Command(b"c", "NOOP")],
        )
        self.assertEqual(events(b"a IDLE\r\ndone\r\n")[1:], [IdleDone()])


class LiteralTests(unittest.TestCase):
    def test_session_decides_on_append(self) -> None:
        """A message is not asked for before the session allows it; refused, a
        client that waits just goes on."""
        engine = ImapServerEngine()
        engine.authenticated = True
        engine.receive_data(b"a APPEND x {99999999}\r\n")
        event = engine.next_event()
        assert isinstance(event, Append)
        self.assertTrue(event.waits)
        self.assertRaises(RuntimeError, engine.next_event)
        engine.refuse_literal()
        engine.receive_data(b"b APPEND x {2}\r\n")
        self.assertIsInstance(engine.next_event(), Append)
        self.assertEqual(engine.accept_literal(), b"+ OK\r\n")
        engine.receive_data(b"ab\r\n")
        self.assertEqual(engine.next_event(), LiteralData(b"ab"))
        self.assertEqual(engine.next_event(), LiteralEnd())

    def test_refused_message_that_is_sent_all_the_same(self) -> None:
        """A non-synchronising message over the limit is forgotten, and the
        next command found."""
        found = Driver(most=10).feed(
            [b"a APPEND x {11+}\r\nb NOOP\r\n123\r\nc NOOP\r\n"]
        )
        self.assertIsInstance(found[0], Append)
        self.assertEqual(found[1:], [Command(b"c", "NOOP")])

    def test_broken_append_is_not_asked_for(self) -> None:
        """An APPEND with a bad flag, date or name is refused and its message
        not asked for."""
        for arguments in (
            b"x (\\Recent) ",
            b"x (\\Seen ",
            b'x "32-Jan-2000 00:00:00 +0000" ',
            b"x() ",
            b"&broken ",
            b"x y ",
            b"x",
        ):
            with self.subTest(arguments=arguments):
                found = events(b"a APPEND " + arguments + b"{5}\r\nb NOOP\r\n")
                assert isinstance(found[0], BadCommand)
                self.assertEqual(found[1:], [Command(b"b", "NOOP")])

    def test_append_needs_a_literal(self) -> None:
        """Neither a quoted string nor a mailbox's name is a message."""
        self.assertIsInstance(one(b"a APPEND {1+}\r\nx"), BadCommand)
        self.assertIsInstance(one(b'a APPEND x "abc"'), BadCommand)

    def test_second_message_is_refused(self) -> None:
        """MULTIAPPEND is not offered: a second literal is BAD, not stored, and
        forgotten where it is sent unasked."""
        for announced, rest in ((b"{3}", b""), (b"{3+}", b"def\r\n")):
            found = events(
                b"a APPEND x {3+}\r\nabc " + announced + b"\r\n" + rest + b"b NOOP\r\n"
            )
            self.assertNotIn(LiteralEnd(), found)
            self.assertIsInstance(found[2], BadCommand)
            self.assertEqual(found[3:], [Command(b"b", "NOOP")])

    def test_message_arrives_in_runs(self) -> None:
        """A message of any size passes through without being gathered."""
        engine = ImapServerEngine()
        engine.authenticated = True
        engine.receive_data(b"a APPEND x {1000000000}\r\n")
        engine.next_event()
        engine.accept_literal()
        piece = bytes(65536)
        for _ in range(200):
            engine.receive_data(piece)
            self.assertEqual(engine.next_event(), LiteralData(piece))
            self.assertIsNone(engine.next_event())
            self.assertEqual(engine.buffered(), 0)

    def test_h22_nul_in_strings(self) -> None:
        """NUL is taken neither quoted (CVE-2019-11500) nor in a literal."""
        self.assertIsInstance(one(b'a SELECT "a\0b"'), BadCommand)
        self.assertIsInstance(one(b'a SELECT "a\\\0b"'), BadCommand)
        self.assertIsInstance(one(b"a SELECT a\0b"), BadCommand)
        self.assertIsInstance(one(b"a SELECT {3+}\r\na\0b"), BadCommand)


class LimitTests(unittest.TestCase):
    def test_h08_endless_line(self) -> None:
        """10 MB without a line end: the connection ends at the limit, 8 KiB
        before and 64 KiB after the login, and no more than that was kept."""
        for authenticated, bounds in ((False, STRANGER), (True, FRIEND)):
            driver = Driver(authenticated)
            found = driver.feed(b"x" * 1000 for _ in range(10_000))
            assert isinstance(found[-1], Ended)
            self.assertEqual(found[-1].reply, b"* BYE The line is too long\r\n")
            self.assertEqual(len(found), 1)
            self.assertLessEqual(driver.buffered, bounds.line + 2000)

    def test_h08_endless_line_elsewhere(self) -> None:
        """The same in IDLE, in an authentication, after a literal and after a
        message."""
        for before, authenticated in (
            (b"a IDLE\r\n", True),
            (b"a AUTHENTICATE PLAIN\r\n", False),
            (b"a LOGIN {1}\r\nx", False),
            (b"a FOO {1+}\r\nx", False),
            (b"a APPEND x {1}\r\nx", True),
        ):
            driver = Driver(authenticated)
            found = driver.feed([before, *[b"x" * 1000] * 100])
            self.assertIsInstance(found[-1], Ended, before)

    def test_h16_literal_sizes_before_login(self) -> None:
        """Sizes beyond 8 KiB, beyond 32 bits or beyond any number, negative or
        without one, are BAD, and never asked for."""
        for announced in (
            b"{8193}",
            b"{4294967296}",
            b"{99999999999999999999}",
            b"{" + b"9" * 5000 + b"}",
            b"{-1}",
            b"{}",
            b"{+}",
            b"{1",
            b"{1 }",
            b"{0x10}",
        ):
            with self.subTest(announced=announced):
                found = events(b"a LOGIN " + announced + b"\r\nb NOOP\r\n", False)
                assert isinstance(found[0], BadCommand)
                self.assertEqual(found[0].tag, b"a")
                self.assertEqual(found[1:], [Command(b"b", "NOOP")])
        self.assertEqual(events(b"a LOGIN {8192}\r\n", False), [_GO])
        self.assertEqual(
            events(b"a LOGIN {1+}\r\nu {1+}\r\np\r\n", False),
            [Login(b"a", "LOGIN", "u", "p")],
        )

    def test_h16_sizes_of_messages(self) -> None:
        """An APPEND of more than 32 bits is BAD; of 2 GB, the session's."""
        for size in (4294967296, 10**30):
            self.assertIsInstance(one(b"a APPEND x {%d}" % size), BadCommand)
        self.assertIsInstance(one(b"a APPEND x {2147483648}"), Append)

    def test_h17_unasked_literal_of_2_gb(self) -> None:
        """Two gigabytes that come unasked are answered, then the connection
        ends; nothing of them is kept."""
        for authenticated in (False, True):
            for line in (b"a LOGIN {2147483648+}\r\n", b"a APPEND x {2147483648+}\r\n"):
                driver = Driver(authenticated)
                found = driver.feed([line, *[b"x" * 50_000] * 100])
                self.assertIsInstance(found[0], BadCommand | Append)
                assert isinstance(found[1], Ended)
                self.assertTrue(found[1].reply.startswith(b"* BYE "))
                self.assertLessEqual(driver.buffered, 50_000)

    def test_h17_unasked_literal_is_forgotten(self) -> None:
        """Up to a bound, an unasked literal too large to keep is read in
        constant memory, and the next command found."""
        for authenticated, size in ((False, 65_536), (True, 10_000_000)):
            driver = Driver(authenticated, most=1000)
            pieces = cuts(b"x" * size, 40_000)
            driver.feed([b"a LOGIN {%d+}\r\n" % size, *pieces, b" y\r\nb NOOP\r\n"])
            assert isinstance(driver.events[0], BadCommand)
            self.assertEqual(driver.events[1:], [Command(b"b", "NOOP")])
            self.assertLessEqual(driver.buffered, 40_000)

    def test_h18_many_literals(self) -> None:
        """A thousand literals are taken, one more is not; all of them count
        towards the bound of the command. The next command is found."""
        start, more = b"a SEARCH", b" TEXT {1+}\r\nx"
        for count, kind in ((1000, Command), (1001, BadCommand)):
            found = events(start + more * count + b"\r\nb NOOP\r\n")
            self.assertIsInstance(found[0], kind)
            self.assertEqual(found[1:], [Command(b"b", "NOOP")])
        big = b" TEXT {100000+}\r\n" + b"x" * 100_000
        for count, kind in ((10, Command), (11, BadCommand)):
            found = events(start + big * count + b"\r\nb NOOP\r\n")
            self.assertIsInstance(found[0], kind)
            self.assertEqual(found[1:], [Command(b"b", "NOOP")])

    def test_h18_empty_literals_between_long_lines(self) -> None:
        """Lines between literals count too."""
        limits = ImapLimits(before=FRIEND)
        driver = Driver(False, limits=limits)
        line = b"(" * 60_000 + b"{0+}\r\n"
        driver.feed([b"a LOGIN ", *[line] * 50, b"\r\nb NOOP\r\n"])
        assert isinstance(driver.events[0], BadCommand)
        self.assertEqual(driver.events[1:], [Command(b"b", "NOOP")])

    def test_h25_bad_commands_in_a_row(self) -> None:
        """Three bad commands before the login end the connection, twenty after
        it; each is answered first."""
        for authenticated, most in ((False, 3), (True, 20)):
            found = events(b"a FOO\r\n" * 100, authenticated)
            self.assertEqual(found[:-1], [BadCommand(b"a", "Unknown command")] * most)
            assert isinstance(found[-1], Ended)
            self.assertEqual(found[-1].reply, b"* BYE Too many bad commands\r\n")

    def test_h25_good_ones_between(self) -> None:
        """A good command starts the count again."""
        found = events(b"a FOO\r\nb FOO\r\nc NOOP\r\n" * 50, False)
        self.assertEqual(len(found), 150)

    def test_h25_session_counts_too(self) -> None:
        """Well-formed commands that the session refuses count as well."""
        engine = ImapServerEngine()
        for _ in range(3):
            engine.receive_data(b"a NOOP\r\n")
            self.assertEqual(engine.next_event(), Command(b"a", "NOOP"))
            engine.note_bad()
        self.assertRaises(RemoteProtocolError, engine.next_event)

    def test_h40_endless_response(self) -> None:
        """1 MB in place of a response ends the connection; a cancelled
        authentication does not."""
        driver = Driver(False)
        found = driver.feed([b"a AUTHENTICATE PLAIN\r\n", *[b"A" * 1000] * 1000])
        self.assertIsInstance(found[-1], Ended)
        found = events(b"a AUTHENTICATE PLAIN\r\n*\r\n" * 1000, False)
        self.assertEqual(len(found), 2000)
