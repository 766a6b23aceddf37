"""SEARCH: every key, charsets, what is read, and hostile programs."""

from twisted.trial.unittest import TestCase

from tests.servers.imapdrive import RECEIVED_AT, Server
from twisted_mta import errors
from twisted_mta.mail.placement import Part
from twisted_mta.servers.imap import search
from twisted_mta.store import memory, memory_box
from twisted_mta.wire.imap import replies

DAY = 86_400


def mail(subject="", body="", more="") -> bytes:
    text = f"From: Ann <ann@example.test>\r\nSubject: {subject}\r\n{more}\r\n{body}\r\n"
    return text.encode()


ENCODED = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <j@example.test>\r\n"
    b"To: alice@example.test, Carol <carol@example.test>\r\n"
    b"Cc: dave@example.test\r\n"
    b"Bcc: eve@example.test\r\n"
    b"Subject: =?iso-8859-1?q?Gr=FC=DFe?=\r\n"
    b"Date: Fri, 1 Mar 2002 23:30:00 -0800\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n"
    b"\r\n"
    b"--b\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: base64\r\n"
    b"\r\n"
    b"R3LDvMOfZSBhdXMgS8O2bG4=\r\n"
    b"--b\r\n"
    b"Content-Type: application/octet-stream\r\n"
    b"\r\n"
    b"binary needle\r\n"
    b"--b--\r\n"
)


class SearchTests(TestCase):
    """RFC 3501 6.4.4."""

    def setUp(self) -> None:
        self.server = server = Server()
        server.put(mail("lunch", "At noon?"), flags=["\\Seen", "\\Answered"])
        server.put(ENCODED, flags=["\\Flagged", "$Junk"], at=RECEIVED_AT + DAY)
        server.put(mail("dinner", "x" * 3000), flags=["\\Deleted", "\\Draft"])
        server.select().lose()
        server.put(mail("late", "NEEDLE in a haystack", "X-Empty:\r\n"))
        self.client = server.select()

    def found(self, program: str, uid: bool = False) -> list[int]:
        command = "UID SEARCH" if uid else "SEARCH"
        self.client.send(f"s {command} {program}\r\n".encode())
        answer = self.client.received().decode()
        lines = answer.split("\r\n")
        self.assertEqual(lines[1], "s OK Search completed", answer)
        self.assertTrue(lines[0].startswith("* SEARCH"))
        return [int(word) for word in lines[0].split()[2:]]

    def test_keys(self) -> None:
        """Every key of RFC 3501 6.4.4."""
        for program, expected in {
            "ALL": [1, 2, 3, 4],
            "2:3": [2, 3],
            "*": [4],
            "4:9": [4],
            "UID 1,4": [1, 4],
            "UID 99": [],
            "SEEN": [1],
            "UNSEEN": [2, 3, 4],
            "ANSWERED": [1],
            "UNANSWERED": [2, 3, 4],
            "FLAGGED": [2],
            "UNFLAGGED": [1, 3, 4],
            "DELETED": [3],
            "UNDELETED": [1, 2, 4],
            "DRAFT": [3],
            "UNDRAFT": [1, 2, 4],
            "KEYWORD $junk": [2],
            "KEYWORD nowhere": [],
            "UNKEYWORD $Junk": [1, 3, 4],
            "RECENT": [4],
            "OLD": [1, 2, 3],
            "NEW": [4],
            "LARGER 2500": [3],
            "SMALLER 2500": [1, 2, 4],
            "SUBJECT LUN": [1],
            "FROM ann": [1, 3, 4],
            "TO carol": [2],
            "CC dave": [2],
            "BCC eve": [2],
            "HEADER subject dinner": [3],
            'HEADER X-Empty ""': [4],
            'HEADER Date ""': [2],
            "BODY needle": [4],
            "BODY noon": [1],
            "BODY ann": [],
            "TEXT ann": [1, 3, 4],
            "TEXT needle": [4],
            'BODY ""': [1, 2, 3, 4],
            "ON 2-Jan-2024": [1, 3, 4],
            "SINCE 3-Jan-2024": [2],
            "BEFORE 3-Jan-2024": [1, 3, 4],
            "SENTON 1-Mar-2002": [2],
            "SENTBEFORE 2-Mar-2002": [2],
            "SENTSINCE 2-Mar-2002": [],
            "SENTSINCE 1-Mar-2002": [2],
            "NOT SEEN": [2, 3, 4],
            "NOT 1:3": [4],
            "OR SEEN DELETED": [1, 3],
            "OR SUBJECT lunch BODY needle": [1, 4],
            "NOT (OR SEEN BODY needle)": [2, 3],
            "(SEEN ANSWERED)": [1],
            "SEEN DELETED": [],
            "UNSEEN NOT BODY needle NOT SUBJECT dinner": [2],
            "NOT SENTON 1-Mar-2002": [1, 3, 4],
        }.items():
            self.assertEqual(self.found(program), expected, program)

    def test_charsets(self) -> None:
        """Text is compared as text: encoded words, base64, other charsets, no
        matter the case."""
        for key in ("SUBJECT", "BODY", "TEXT"):
            for word in ("grüße", "GRÜSSE", "Grüße"):
                octets = word.encode()
                self.client.send(
                    b"s SEARCH CHARSET UTF-8 %b {%d+}\r\n%b\r\n"
                    % (key.encode(), len(octets), octets)
                )
                self.assertEqual(
                    self.client.received(),
                    b"* SEARCH 2\r\ns OK Search completed\r\n",
                    (key, word),
                )
        self.client.send(b"s SEARCH CHARSET ISO-8859-1 FROM {6+}\r\nj\xfcrgen\r\n")
        self.assertIn(b"* SEARCH 2\r\n", self.client.received())

    def test_h21_bad_charset(self) -> None:
        """A charset we do not know is NO [BADCHARSET]."""
        self.client.run("C: s SEARCH CHARSET X-NONE ALL\nS~ s NO \\[BADCHARSET.*")

    def test_many_found(self) -> None:
        """A long answer is one line, and others have their turn within it."""
        self.patch(replies, "_NUMBERS", 2)
        server = Server()
        server.put(*[mail()] * 5)
        busy, other = server.select(), server.select()
        busy.stream.dataReceived(b"a SEARCH ALL\r\n")
        other.stream.dataReceived(b"b NOOP\r\n")
        self.assertIn(b"b OK", other.wire.value())
        self.assertTrue(busy.wire.value().endswith(b"* SEARCH 1 2"))
        busy.settle()
        answer = b"* SEARCH 1 2 3 4 5\r\na OK Search completed\r\n"
        self.assertEqual(busy.received(), answer)

    def test_by_uid(self) -> None:
        """UID SEARCH answers UIDs; numbers in it stay sequence numbers."""
        self.server.select().run(
            "C: a UID STORE 1 +FLAGS.SILENT (\\Deleted)\nS*\nC: b UID EXPUNGE 1\nS*"
        )
        self.client.run("C: n NOOP\nS*")
        self.assertEqual(self.found("1:2", uid=True), [2, 3])
        self.assertEqual(self.found("UID 3", uid=True), [3])
        self.assertEqual(self.found("UID 3"), [2])

    def test_empty_mailbox(self) -> None:
        """In an empty mailbox nothing is found, by 1:* neither."""
        self.client.run("C: a CREATE Empty\nS*\nC: b SELECT Empty\nS*")
        for program in ("ALL", "1:*", "*", "UID 1:*", "BODY x"):
            self.assertEqual(self.found(program), [])

    def test_no_more_is_read_than_needed(self) -> None:
        """The view decides what it can, headers what is left, and bodies are
        read only of messages that nothing else decides."""
        asked: list[tuple[list[int], frozenset[Part]]] = []
        fetch = memory.MemoryMailbox.fetch

        async def counted(mailbox, uids, parts):
            asked.append((list(uids), parts))
            return await fetch(mailbox, uids, parts)

        self.patch(memory.MemoryMailbox, "fetch", counted)
        self.found("SEEN LARGER 10")
        self.assertEqual(asked, [])
        self.found("UNSEEN SUBJECT dinner")
        self.assertEqual(asked, [([2, 3, 4], frozenset({Part.HEADER}))])
        del asked[:]
        self.found("UNSEEN SUBJECT dinner BODY x")
        bodies = frozenset({Part.SECTIONS, Part.OCTETS})
        self.assertEqual(asked[1:], [([3], bodies)])

    def test_large_messages(self) -> None:
        """Text in messages that are kept in files is found as well; what is
        gone meanwhile matches nothing."""
        self.patch(memory_box, "INLINE_OCTETS", 0)
        self.assertEqual(self.found("BODY needle"), [4])
        self.assertEqual(self.found("TEXT carol"), [2])
        self.server.put(mail("pad", "y " * 100_000 + "pin"), prefix=b"X-Pad: 1\r\n")
        self.client.run("C: n NOOP\nS*")
        self.assertEqual(self.found("BODY pin"), [5])

        async def gone(mailbox, uid: int) -> None:
            raise errors.NoSuchMessage()

        self.patch(memory.MemoryMailbox, "content", gone)
        self.assertEqual(self.found("OR SEEN BODY pin"), [1])

    def test_h21_long_programs(self) -> None:
        """A program of thousands of keys is refused or done; others have their
        turn in between."""
        self.client.send(b"s SEARCH " + b"OR ALL " * 8_000 + b"ALL\r\n")
        self.assertRegex(self.client.received(), rb"s (BAD|NO|OK) .*\r\n$")
        self.client.send(b"s SEARCH " + b"NOT " * 15_000 + b"ALL\r\n")
        self.assertRegex(self.client.received(), rb"s (BAD|NO|OK) .*\r\n$")
        self.patch(search, "_TESTS", 10)
        other = self.server.login()
        program = " ".join(["OR SEEN DELETED"] * 500)
        self.client.stream.dataReceived(f"s SEARCH {program}\r\n".encode())
        other.stream.dataReceived(b"n NOOP\r\n")
        self.assertIn(b"n OK", other.wire.value())
        self.assertNotIn(b"s OK", self.client.wire.value())
        self.client.settle()
        self.assertIn(b"s OK", self.client.wire.value())
