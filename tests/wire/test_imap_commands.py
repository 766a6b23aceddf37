"""L{twisted_mta.wire.imap.commands} and the lexer: the grammar of commands."""

import unittest

from tests.wire.imapdrive import one
from twisted_mta.mail.placement import FlagChange
from twisted_mta.mail.uidset import UidSet
from twisted_mta.wire.imap.commands import ANY, COMMANDS, State, Trait
from twisted_mta.wire.imap.model import (
    Append,
    Authenticate,
    BadCommand,
    Copy,
    Create,
    Enable,
    Id,
    List,
    Login,
    Lsub,
    MailboxCommand,
    Rename,
    Status,
    Store,
    UidExpunge,
)


class Cases(unittest.TestCase):
    """Compares lines, given without their tag, with what they mean."""

    def expect(self, cases: dict[bytes, object], authenticated: bool = True) -> None:
        for line, event in cases.items():
            with self.subTest(line=line):
                self.assertEqual(one(b"t " + line, authenticated), event)

    def refuse(self, lines: tuple[bytes, ...], authenticated: bool = True) -> None:
        for line in lines:
            with self.subTest(line=line):
                event = one(b"t " + line, authenticated)
                assert isinstance(event, BadCommand), event
                self.assertEqual((event.tag, event.status), (b"t", b"BAD"))


class LoginTests(Cases):
    def test_login(self) -> None:
        """LOGIN takes atoms, quoted strings and literals, UTF-8 included."""
        self.expect(
            {
                b"LOGIN a b": Login(b"t", "LOGIN", "a", "b"),
                b'login "a@x" "p \\"\\\\q"': Login(b"t", "LOGIN", "a@x", 'p "\\q'),
                b'LOGIN "" ""': Login(b"t", "LOGIN", "", ""),
                b"LOGIN a]b \xc3\xa9": BadCommand(b"t", "Expected a string"),
                b'LOGIN a "\xc3\xa9"': Login(b"t", "LOGIN", "a", "é"),
                b"LOGIN {3+}\r\na\r\n {1+}\r\n ": Login(b"t", "LOGIN", "a\r\n", " "),
            },
            authenticated=False,
        )
        self.refuse(
            (
                b"LOGIN",
                b"LOGIN a",
                b"LOGIN  a b",
                b"LOGIN a b c",
                b'LOGIN "a b',
                b'LOGIN "a"b',
                b'LOGIN a "\\b"',
                b'LOGIN a "\xff"',
                b"LOGIN (a b)",
                b"LOGIN a b\rc",
            ),
            authenticated=False,
        )

    def test_password_is_not_shown(self) -> None:
        """A command that is logged does not show the password."""
        self.assertNotIn("sesame", repr(one(b"t LOGIN a sesame", False)))

    def test_authenticate(self) -> None:
        """AUTHENTICATE with an initial response (RFC 4959), empty ones too."""
        self.expect(
            {
                b"AUTHENTICATE plain": Authenticate(
                    b"t", "AUTHENTICATE", "PLAIN", None
                ),
                b"AUTHENTICATE PLAIN dGVzdAB0ZXN0AHRlc3Q=": Authenticate(
                    b"t", "AUTHENTICATE", "PLAIN", b"test\0test\0test"
                ),
                b"AUTHENTICATE EXTERNAL =": Authenticate(
                    b"t", "AUTHENTICATE", "EXTERNAL", b""
                ),
            },
            authenticated=False,
        )
        self.refuse(
            (
                b"AUTHENTICATE",
                b"AUTHENTICATE PLAIN !",
                b"AUTHENTICATE PLAIN YQ",
                b"AUTHENTICATE PLAIN YQ== YQ==",
                b'AUTHENTICATE "PLAIN"',
            ),
            authenticated=False,
        )


class SessionTests(Cases):
    def test_id(self) -> None:
        """ID (RFC 2971 3.1): NIL, empty, and pairs; at most 30, each short."""
        self.expect(
            {
                b"ID NIL": Id(b"t", "ID", ()),
                b"ID ()": Id(b"t", "ID", ()),
                b'ID ("NAME" "sodr" "version" nil)': Id(
                    b"t", "ID", (("name", "sodr"), ("version", None))
                ),
            }
        )
        pairs = b" ".join([b'"a" "b"'] * 31)
        self.refuse(
            (
                b"ID",
                b'ID "NIL"',
                b'ID ("a")',
                b'ID ("a" "b"',
                b'ID ("a" b)',
                b"ID (" + pairs + b")",
                b'ID ("a" "' + b"x" * 1025 + b'")',
                b'ID ("' + b"x" * 31 + b'" NIL)',
            )
        )

    def test_enable(self) -> None:
        """ENABLE (RFC 5161) names capabilities, known or not."""
        self.expect(
            {
                b"ENABLE condstore X-GOOD": Enable(
                    b"t", "ENABLE", ("CONDSTORE", "X-GOOD")
                )
            }
        )
        self.refuse((b"ENABLE", b"ENABLE (a)"))


class MailboxTests(Cases):
    def test_names(self) -> None:
        """Mailbox names are decoded; INBOX has no case."""
        for octets, name in (
            (b"inbox", "INBOX"),
            (b'"InBox"', "INBOX"),
            (b"{5+}\r\ninbox", "INBOX"),
            (b"inbox/a", "inbox/a"),
            (b"Entw&APw-rfe", "Entwürfe"),
            (b'"a b&-c"', "a b&c"),
            (b"~x]", "~x]"),
            (b'""', ""),
        ):
            with self.subTest(octets=octets):
                self.assertEqual(
                    one(b"t SELECT " + octets), MailboxCommand(b"t", "SELECT", name)
                )

    def test_h22_names_that_are_refused(self) -> None:
        """Broken modified UTF-7, 8-bit octets, wildcards in an atom, control
        characters in any spelling."""
        self.refuse(
            (
                b"SELECT &",
                b"SELECT a&b",
                b"SELECT &AGE-",
                b'SELECT "\xc3\xa9"',
                b"SELECT a%b",
                b"SELECT a*",
                b"SELECT {3+}\r\na\rb",
                b"SELECT {3+}\r\na\nb",
                b'SELECT "a\tb"',
                b"SELECT &AAA-",  # NUL
                b"SELECT &AA0ACg-",  # CR LF
                b"SELECT &AIU-",  # NEL
                b"SELECT",
                b"SELECT a b",
            )
        )

    def test_h22_names_that_are_the_stores_business(self) -> None:
        """Paths, levels and length mean nothing to the grammar: they arrive as
        they are, for the store to judge."""
        for name in ("../../etc", "/abs", "a//b", "a/", "a/" * 1000, "x" * 60_000):
            event = one(b"t CREATE " + name.encode())
            self.assertEqual(event, Create(b"t", "CREATE", name))

    def test_create_and_rename(self) -> None:
        """CREATE with USE (RFC 6154 3), and RENAME."""
        self.expect(
            {
                b"CREATE a/b/": Create(b"t", "CREATE", "a/b/"),
                b"CREATE MySpecial (USE (\\drafts \\Sent))": Create(
                    b"t", "CREATE", "MySpecial", ("\\Drafts", "\\Sent")
                ),
                b"RENAME a inbox": Rename(b"t", "RENAME", "a", "INBOX"),
            }
        )
        self.refuse(
            (
                b"CREATE a (USE \\Sent)",
                b"CREATE a (USE (Sent))",
                b"CREATE a (FOO (\\Sent))",
                b"CREATE a (USE (\\Sent)) x",
                b"CREATE a (USE (\\Sent)",
                b"RENAME a",
            )
        )

    def test_list(self) -> None:
        """LIST as in RFC 3501 and as in RFC 5258."""
        empty: frozenset[str] = frozenset()
        self.expect(
            {
                b'LIST "" ""': List(b"t", "LIST", "", ("",)),
                b"LIST ~/Mail/ %": List(b"t", "LIST", "~/Mail/", ("%",)),
                b'LIST "" *': List(b"t", "LIST", "", ("*",)),
                b'LIST "" "a*%b]"': List(b"t", "LIST", "", ("a*%b]",)),
                b'LIST "" &AOk-*': List(b"t", "LIST", "", ("é*",)),
                b'LIST () "" %': List(b"t", "LIST", "", ("%",), extended=True),
                b'LIST (SUBSCRIBED recursivematch) "" ("*" inbox "*")': List(
                    b"t",
                    "LIST",
                    "",
                    ("*", "INBOX"),
                    frozenset({"SUBSCRIBED", "RECURSIVEMATCH"}),
                    empty,
                    True,
                ),
                b'LIST "" % RETURN (SPECIAL-USE CHILDREN)': List(
                    b"t",
                    "LIST",
                    "",
                    ("%",),
                    empty,
                    frozenset({"SPECIAL-USE", "CHILDREN"}),
                    True,
                ),
                b'LSUB "" "#news.%"': Lsub(b"t", "LSUB", "", "#news.%"),
            }
        )
        self.refuse(
            (
                b"LIST",
                b'LIST ""',
                b'LIST "" "&"',
                b'LIST (BOGUS) "" *',
                b'LIST (RECURSIVEMATCH) "" *',
                b'LIST "" ()',
                b'LIST "" (' + b" ".join([b"*"] * 101) + b")",
                b'LIST "" * RETURN (STATUS (MESSAGES))',
                b'LIST "" * RETURN',
                b'LIST "" * CHILDREN',
                b'LIST "" (*',
                b'LSUB "" (*)',
            )
        )

    def test_status(self) -> None:
        """STATUS with each item once."""
        self.expect(
            {
                b"STATUS blurdybloop (uidnext MESSAGES UIDNEXT)": Status(
                    b"t", "STATUS", "blurdybloop", ("UIDNEXT", "MESSAGES")
                )
            }
        )
        self.refuse(
            (b"STATUS x", b"STATUS x ()", b"STATUS x MESSAGES", b"STATUS x (FOO)")
        )

    def test_append(self) -> None:
        """APPEND of RFC 3501 6.3.11, with and without flags and date."""
        self.expect(
            {
                b"APPEND saved-messages (\\Seen) {310}": Append(
                    b"t", "APPEND", "saved-messages", ("\\Seen",), None, 310, True
                ),
                b'APPEND x () "17-Jul-1996 02:44:25 -0700" {1}': Append(
                    b"t", "APPEND", "x", (), 837596665.0, 1, True
                ),
                b'APPEND x " 1-jan-1970 00:00:60 +0000" {1}': Append(
                    b"t", "APPEND", "x", (), 59.0, 1, True
                ),
            }
        )

    def test_dates_that_do_not_exist(self) -> None:
        """An impossible day, time, zone or year is BAD, never an exception."""
        for octets in (
            b"30-Feb-2000 00:00:00 +0000",
            b"29-Feb-2001 00:00:00 +0000",
            b"00-Jan-2000 00:00:00 +0000",
            b"  -Jan-2000 00:00:00 +0000",
            b" 1-Foo-2000 00:00:00 +0000",
            b" 1-Jan-0000 00:00:00 +0000",
            b" 1-Jan-0001 00:00:00 +2300",
            b" 1-Jan-9999 00:00:00 -2300",
            b" 1-Jan-2000 24:00:00 +0000",
            b" 1-Jan-2000 00:60:00 +0000",
            b" 1-Jan-2000 00:00:61 +0000",
            b" 1-Jan-2000 00:00:00 +2400",
            b" 1-Jan-2000 00:00:00 +0060",
            b" 1-Jan-2000 00:00:00 GMT",
            b"1-Jan-2000 00:00:00 +0000",
        ):
            with self.subTest(octets=octets):
                self.assertIsInstance(
                    one(b't APPEND x "' + octets + b'" {1}'), BadCommand
                )


class MessageTests(Cases):
    def test_store(self) -> None:
        """STORE in its six forms, with flags in parentheses or bare."""
        two_four = UidSet.parse(b"2:4")
        for word, change, silent in (
            (b"FLAGS", FlagChange.REPLACE, False),
            (b"+FLAGS", FlagChange.ADD, False),
            (b"-flags", FlagChange.REMOVE, False),
            (b"FLAGS.SILENT", FlagChange.REPLACE, True),
            (b"+FLAGS.SILENT", FlagChange.ADD, True),
            (b"-Flags.Silent", FlagChange.REMOVE, True),
        ):
            for flags in (b"(\\Deleted $junk)", b"\\deleted $Junk \\DELETED"):
                for name in ("STORE", "UID STORE"):
                    self.assertEqual(
                        one(b"t %b 4:2 %b %b" % (name.encode(), word, flags)),
                        Store(
                            b"t",
                            name,
                            two_four,
                            change,
                            silent,
                            ("\\Deleted", "$Junk"),
                            name == "UID STORE",
                        ),
                    )
        self.expect(
            {
                b"STORE 1 FLAGS ()": Store(
                    b"t", "STORE", UidSet.of([1]), FlagChange.REPLACE, False, (), False
                )
            }
        )
        self.refuse(
            (
                b"STORE 1 FLAGS",
                b"STORE 1 FLAGS (\\Recent)",
                b"STORE 1 FLAGS (\\*)",
                b"STORE 1 FLAGS (\\Foo)",
                b"STORE 1 FLAGS (a",
                b'STORE 1 FLAGS ("a")',
                b"STORE 1 FOO (a)",
                b"STORE 1 (FLAGS) (a)",
                b"STORE 0 FLAGS (a)",
                b"STORE FLAGS (a)",
            )
        )

    def test_h24_keywords(self) -> None:
        """A keyword of 60,000 octets is NO [LIMIT], not BAD; ten thousand
        keywords in one command are read in one go."""
        self.assertEqual(
            one(b"t STORE 1 +FLAGS (" + b"k" * 60_000 + b")"),
            BadCommand(b"t", "Keyword is too long", b"NO", b"LIMIT"),
        )
        names = [b"k%d" % number for number in range(9000)]
        event = one(b"t STORE 1 +FLAGS (" + b" ".join(names) + b")")
        assert isinstance(event, Store)
        self.assertEqual(len(event.flags), 9000)

    def test_copy_and_move(self) -> None:
        """COPY and MOVE (RFC 6851), with numbers and UIDs."""
        for name in ("COPY", "UID COPY", "MOVE", "UID MOVE"):
            self.assertEqual(
                one(b"t %b 2:4,* inbox" % name.encode().lower()),
                Copy(b"t", name, UidSet.parse(b"2:4,*"), "INBOX", name[:3] == "UID"),
            )
        self.refuse((b"COPY 1", b"COPY x y", b"MOVE 1 a b", b"UID MOVE 1:x a"))

    def test_uid_expunge(self) -> None:
        """UID EXPUNGE (RFC 4315 2.1) needs a set, EXPUNGE takes none."""
        self.expect(
            {
                b"UID EXPUNGE 3000:3002": UidExpunge(
                    b"t", "UID EXPUNGE", UidSet.span(3000, 3002)
                )
            }
        )
        self.refuse((b"UID EXPUNGE", b"EXPUNGE 1"))

    def test_h20_sets(self) -> None:
        """Zero and what exceeds 32 bits are BAD; repetition is one range."""
        self.refuse(
            (
                b"UID COPY 0 x",
                b"UID COPY 0:* x",
                b"UID COPY 4294967296 x",
                b"UID COPY 1,,2 x",
                b"UID COPY , x",
            )
        )
        event = one(b"t UID COPY " + b",".join([b"1:4294967295"] * 4000) + b" x")
        assert isinstance(event, Copy)
        self.assertEqual(len(event.numbers.ranges), 1)


class TableTests(unittest.TestCase):
    def test_states(self) -> None:
        """The states of RFC 3501 6: what a stranger may say, and what needs a
        mailbox."""
        stranger = {
            n for n, s in COMMANDS.items() if State.NOT_AUTHENTICATED in s.states
        }
        self.assertEqual(
            stranger,
            {
                "CAPABILITY",
                "NOOP",
                "LOGOUT",
                "ID",
                "STARTTLS",
                "AUTHENTICATE",
                "LOGIN",
            },
        )
        for name in stranger - {"STARTTLS", "AUTHENTICATE", "LOGIN"}:
            self.assertEqual(COMMANDS[name].states, ANY)
        selected = {n for n, s in COMMANDS.items() if s.states == State.SELECTED}
        self.assertLessEqual({"FETCH", "UID MOVE", "CLOSE", "UNSELECT"}, selected)
        self.assertNotIn("APPEND", selected)

    def test_expunge_is_not_told_beside_sequence_numbers(self) -> None:
        """FETCH, STORE and SEARCH may not tell EXPUNGE (RFC 3501 7.4.1); their
        UID forms and everything else that works on messages may."""
        silent = {
            name
            for name, spec in COMMANDS.items()
            if Trait.USES_SEQS in spec.traits and Trait.BREAKS_SEQS not in spec.traits
        }
        self.assertEqual(silent, {"FETCH", "STORE", "SEARCH"})
