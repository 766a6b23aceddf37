"""Tests for L{twisted_mta.wire.smtp.client} and the client's side of content."""

import base64
import re
from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.test_smtp_server import every_chunking
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Body
from twisted_mta.mail.reply import Reply
from twisted_mta.wire.engine import RemoteProtocolError
from twisted_mta.wire.smtp import client
from twisted_mta.wire.smtp.capabilities import (
    Capabilities,
    Limits,
    capabilities,
)
from twisted_mta.wire.smtp.client import SmtpClientEngine
from twisted_mta.wire.smtp.content import DotStuffing, Folding
from twisted_mta.wire.smtp.events import (
    Auth,
    AuthResponse,
    Data,
    DataCommand,
    EndOfData,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Rset,
    StartTls,
)
from twisted_mta.wire.smtp.parameter import MailParameters
from twisted_mta.wire.smtp.server import SmtpServerEngine


def replies(pieces: list[bytes]) -> list[Reply]:
    engine = SmtpClientEngine()
    told = []
    for piece in pieces:
        engine.receive_data(piece)
        while (reply := engine.next_event()) is not None:
            told.append(reply)
    return told


def offers(*lines: bytes) -> Capabilities:
    said = b"".join(b"250-%b\r\n" % line for line in (b"mx", *lines))
    (reply,) = replies([said + b"250 X\r\n"])
    return capabilities(reply)


class ReplyTests(TestCase):
    def test_replies(self) -> None:
        """Replies of one and of many lines, with and without enhanced status,
        several in one breath, however they are cut."""
        transcript = (
            b"220 mx.example ESMTP\r\n250-mx.example\r\n250-SIZE 10\r\n250 HELP\r\n"
            b"250 2.1.0 Ok\r\n550-5.1.1 No such\r\n550 5.1.1 user\r\n250\r\n"
            b"354 go\n451 2.0.0 odd\r\n571 5.7.1\r\n"
        )
        for pieces in every_chunking(transcript):
            self.assertEqual(
                replies(pieces),
                [
                    Reply(220, "", ("mx.example ESMTP",)),
                    Reply(250, "", ("mx.example", "SIZE 10", "HELP")),
                    Reply(250, "2.1.0", ("Ok",)),
                    Reply(550, "5.1.1", ("No such", "user")),
                    Reply(250, "", ("",)),
                    Reply(354, "", ("go",)),
                    Reply(451, "", ("2.0.0 odd",)),
                    Reply(571, "5.7.1", ("",)),
                ],
            )

    def test_h51_no_replies(self) -> None:
        """Codes that do not exist, changing codes, endless replies and lines end
        the connection."""
        for octets in (
            b"000 x\r\n",
            b"999 x\r\n",
            b"100 x\r\n",
            b"25\r\n",
            b"250x\r\n",
            b"\r\n",
            b"250-a\r\n251 b\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"250-x\r\n" * 1000,
            b"220 " + b"x" * 3000,
        ):
            with self.assertRaises(RemoteProtocolError, msg=octets[:20]):
                replies([octets])

    def test_control_characters(self) -> None:
        """A reply holds no control characters: it goes into logs and DSNs."""
        (reply,) = replies([b"550 a\rb\x1b[2J\0c\r\n"])
        self.assertEqual(reply.lines, ("a?b?[2J?c",))

    def test_capabilities(self) -> None:
        """EHLO's lines become keywords with values."""
        (reply,) = replies(
            [
                b"250-mx.example hello\r\n250-size 1000\r\n250-PIPELINING\r\n"
                b"250-AUTH PLAIN\r\n250-AUTH=LOGIN PLAIN\r\n250-\r\n250 8BITMIME\r\n"
            ]
        )
        offered = capabilities(reply)
        self.assertEqual(offered.size, 1000)
        self.assertEqual(offered.auth, {"PLAIN", "LOGIN"})
        self.assertIn("PIPELINING", offered)
        self.assertIn("8BITMIME", offered)
        self.assertNotIn("STARTTLS", offered)
        for text in (b"SIZE", b"SIZE 0", b"SIZE x", b"HELP", b"SIZE " + b"9" * 30):
            (reply,) = replies([b"250-mx\r\n250 " + text + b"\r\n"])
            self.assertIsNone(capabilities(reply).size, text)

    def test_limits(self) -> None:
        """Limits (RFC 9422) and the shortest time (RFC 2852) are numbers, or were
        not said."""
        offered = offers(
            b"LIMITS RCPTMAX=20 mailmax=5 X=3 RCPTDOMAINMAX=1", b"DELIVERBY 240"
        )
        self.assertEqual(offered.limits, Limits(20, 5, 1))
        self.assertEqual(offered.soonest_s, 240)
        for line in (b"LIMITS RCPTMAX=0 MAILMAX=x RCPTDOMAINMAX", b"LIMITS", b"HELP"):
            self.assertEqual(offers(line).limits, Limits())
        for line in (b"DELIVERBY", b"DELIVERBY x", b"DELIVERBY " + b"9" * 20):
            self.assertEqual(offers(line).soonest_s, 0)

    def test_without(self) -> None:
        """What is not to be used counts as not offered."""
        offered = offers(b"PIPELINING", b"CHUNKING").without({"CHUNKING"})
        self.assertNotIn("CHUNKING", offered)
        self.assertIn("PIPELINING", offered)

    def test_discard(self) -> None:
        """What came before TLS is forgotten, half a reply too."""
        engine = SmtpClientEngine()
        engine.receive_data(b"250-x\r\n250-y\r\n25")
        self.assertIsNone(engine.next_event())
        engine.discard()
        engine.receive_data(b"220 z\r\n")
        self.assertEqual(engine.next_event(), Reply(220, "", ("z",)))

    @given(st.lists(st.one_of(st.binary(), st.sampled_from([b"250-a\r\n", b"250 "]))))
    @settings(max_examples=200, deadline=None)
    def test_any_octets(self, pieces: list[bytes]) -> None:
        """Any octets are replies or a RemoteProtocolError."""
        engine = SmtpClientEngine()
        try:
            for piece in filter(None, pieces):
                engine.receive_data(piece)
                while (reply := engine.next_event()) is not None:
                    self.assertTrue(200 <= reply.code <= 599)
                self.assertLess(engine.buffered(), 2100)
        except RemoteProtocolError:
            pass


class CommandTests(TestCase):
    def test_against_the_server(self) -> None:
        """What a client writes is what the server's engine reads."""
        sender = Address('o"dd \\one', "x.example")
        engine = SmtpServerEngine()
        engine.receive_data(
            client.helo("c")
            + client.mail(sender, size=9, body=Body.EIGHT_BIT, smtputf8=True)
            + client.rcpt(Address("ö", "y"))
            + client.mail(None)
            + client.rcpt(Address("b", "y"))
            + client.auth("PLAIN", b"")
            + client.auth("PLAIN", b"\0u\0p")
            + client.auth("LOGIN")
            + client.RSET
            + client.STARTTLS
            + client.QUIT
        )
        events = []
        while (event := engine.next_event()) is not None:
            events.append(event)
            if isinstance(event, Mail):
                engine.begin(event.parameters.smtputf8, binary=False)
        self.assertEqual(
            events,
            [
                Hello("c", False, True),
                Mail(
                    sender,
                    MailParameters(
                        9,
                        Body.EIGHT_BIT,
                        True,
                        keywords=frozenset({"SIZE", "BODY", "SMTPUTF8"}),
                    ),
                ),
                Rcpt(Address("ö", "y")),
                Mail(None, MailParameters()),
                Rcpt(Address("b", "y")),
                Auth("PLAIN", b"="),
                Auth("PLAIN", base64.b64encode(b"\0u\0p")),
                Auth("LOGIN", None),
                Rset(),
                StartTls(True),
                Quit(),
            ],
        )

    def test_sasl(self) -> None:
        """Lines of an exchange."""
        engine = SmtpServerEngine()
        engine.start_auth(b"")
        engine.receive_data(client.auth_response(b"user"))
        self.assertEqual(engine.next_event(), AuthResponse(b"dXNlcg=="))

    def test_no_line_end_gets_in(self) -> None:
        """Whatever is in an address, a command stays one line."""
        for bad in ("a\r\nRCPT TO:<x@y>", "a\nb", "a\0b"):
            with self.assertRaises(ValueError):
                client.mail(Address(bad, "x"))
            with self.assertRaises(ValueError):
                client.rcpt(Address("x", bad))
            with self.assertRaises(ValueError):
                client.ehlo(bad)


class ContentTests(TestCase):
    @given(
        st.lists(
            st.one_of(
                st.sampled_from([b"\r\n.", b"\r\n", b".", b"\r", b"\n", b"a"]),
                st.binary(max_size=20),
            ),
            max_size=30,
        )
    )
    @settings(max_examples=300, deadline=None)
    def test_h02_round_trip(self, pieces: list[bytes]) -> None:
        """Whatever is sent arrives with every line end made CRLF, as one
        message, and nothing of it can be read as a command."""
        stuffing = DotStuffing()
        wire = b"".join(map(stuffing.encode, pieces)) + stuffing.end()
        self.assertNotRegex(wire, rb"\r(?!\n)|(?<!\r)\n")
        expected = re.sub(rb"\r\n|\r|\n", b"\r\n", b"".join(pieces))
        if expected and not expected.endswith(b"\r\n"):
            expected += b"\r\n"
        engine = SmtpServerEngine()
        engine.receive_data(client.DATA)
        self.assertEqual(engine.next_event(), DataCommand())
        engine.start_data()
        engine.receive_data(wire + client.QUIT)
        got = b""
        while isinstance(event := engine.next_event(), Data):
            got += event.octets
        self.assertEqual(event, EndOfData())
        self.assertEqual(got, expected)
        self.assertEqual(engine.next_event(), Quit())

    def test_h09_folded(self) -> None:
        """Lines of a body that are too long go on in the next, however the content is
        cut; the header, and what is short enough, stay as they are."""
        header = b"X: " + b"a" * 2000 + b"\r\n\r\n"
        for content, folded in (
            (b"a" * 998 + b"\r\nb\r\n", None),
            (b"a" * 999 + b"\r\nb", b"a" * 998 + b"\r\n a\r\nb"),
            (b"a" * 2000, b"a" * 998 + b"\r\n " + b"a" * 997 + b"\r\n aaaaa"),
            ("ä".encode() * 500, "ä".encode() * 499 + b"\r\n " + "ä".encode()),
            (b"x" + "ä".encode() * 498, None),
        ):
            wanted = content if folded is None else folded
            self.assertEqual(Folding().encode(header + content), header + wanted)
            self.assertEqual(Folding().encode(b"\r\n" + content), b"\r\n" + wanted)
            for size in (1, 2, 3, 500, 999, 1000):
                folding, whole = Folding(), header + content
                runs = [whole[at : at + size] for at in range(0, len(whole), size)]
                out = b"".join(map(folding.encode, runs))
                self.assertEqual(out[: len(header)], header)
                lines = out[len(header) :].split(b"\r\n")
                self.assertLessEqual(max(map(len, lines)), 998)
                joined = b"\r\n".join(lines).replace(b"\r\n ", b"")
                self.assertEqual(joined, content)

    def test_plain_recipient(self) -> None:
        """RCPT in the plain case, octet by octet."""
        self.assertEqual(client.rcpt(Address("b", "y")), b"RCPT TO:<b@y>\r\n")
        self.assertEqual(client.mail(None, size=3), b"MAIL FROM:<> SIZE=3\r\n")
        engine = SmtpServerEngine()
        engine.receive_data(client.rcpt(Address("b", "y")))
        self.assertEqual(engine.next_event(), Rcpt(Address("b", "y")))
