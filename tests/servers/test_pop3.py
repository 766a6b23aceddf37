"""L{twisted_mta.servers.pop3}: whole sessions on the memory store."""

import base64
import poplib
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from tests.net.test_stream import Transport
from tests.net.test_tls import made
from twisted_mta.auth.exchange import Exchanges
from twisted_mta.errors import (
    AuthenticationFailed,
    AuthenticationUnavailable,
    LedgerUnavailable,
)
from twisted_mta.interfaces import IAuthenticator, IMailbox, IMailStore
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address
from twisted_mta.mail.channel import Channel
from twisted_mta.net.admission import Admission
from twisted_mta.net.listener import Listener, Spoken
from twisted_mta.net.stream import Stream
from twisted_mta.net.tls import ServerTls
from twisted_mta.servers.maildrop import open_maildrop
from twisted_mta.servers.pop3 import Pop3Session, Pop3Settings
from twisted_mta.store.memory import MemoryStore
from twisted_mta.wire.pop3 import Pop3Engine

BOB = Account(7, Address("bob", "example.test"))
OPEN = Pop3Settings("mx.example.test", plaintext_login=True)
CLOSED = Pop3Settings("mx.example.test")

HELLO = b"From: a@example.test\r\nSubject: hello\r\n\r\nHello.\r\n.dot\r\n"
SECOND = b"Subject: two\r\n\r\nline 1\r\nline 2\r\nline 3\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"." * 76 + b"\r\n" + b"x" * 700_000 + b"\r\n"


class OneUser(Exchanges):
    """Knows bob, whose password is C{"pass word"}."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.error: Exception | None = None

    async def authenticate(self, name: str, password: str, channel: Channel) -> Account:
        self.asked.append((name, password, channel.host))
        if self.error is not None:
            raise self.error
        if (name, password) != ("bob", "pass word"):
            raise AuthenticationFailed()
        return BOB


class Client:
    """A client of one session, in memory; each call is answered at once."""

    def __init__(
        self,
        store: object,
        authenticator: OneUser,
        settings: Pop3Settings = OPEN,
        tls: object | None = None,
    ) -> None:
        self.clock = Clock()
        self.transport = Transport()

        async def session(stream: Stream) -> None:
            users = cast(IAuthenticator, authenticator)
            mail = cast(IMailStore, store)
            await Pop3Session(stream, settings, users, mail, tls).run()

        clock = cast(IReactorTime, self.clock)
        self.stream = Stream(clock, Pop3Engine(), session, "pop3-1")
        self.stream.makeConnection(self.transport)
        self.greeting = self.read()

    def read(self) -> bytes:
        """What the server wrote since the last time."""
        octets: bytes = self.transport.value()
        self.transport.clear()
        return octets

    def say(self, *lines: bytes) -> bytes:
        """Lines in one packet, and all that answers them."""
        self.stream.dataReceived(b"".join(line + b"\r\n" for line in lines))
        return self.read()

    def log_in(self) -> bytes:
        """As bob."""
        return self.say(b"USER bob", b"PASS pass word")

    def lose(self) -> None:
        """The connection ends."""
        self.stream.connectionLost(Failure(ConnectionResetError()))

    @property
    def closed(self) -> bool:
        """The server closed the connection."""
        return self.transport.disconnecting or self.transport.aborted


class Pop3TestCase(TestCase):
    """Bob has two small messages."""

    def setUp(self) -> None:
        self.store = MemoryStore()
        self.users = OneUser()
        verifyObject(IAuthenticator, self.users)
        self.append(HELLO, SECOND)

    def mailbox(self) -> Any:
        """Bob's INBOX."""

        async def opened() -> object:
            account = await self.store.account(BOB)
            return await account.open("INBOX")

        return self.successResultOf(Deferred.fromCoroutine(opened()))

    def append(self, *messages: bytes) -> None:
        """Put messages into bob's INBOX."""

        async def work() -> None:
            account = await self.store.account(BOB)
            for octets in messages:
                content = account.content()
                content.write(octets)
                await content.finish()
                await account.append("INBOX", content, frozenset(), 0.0)

        self.successResultOf(Deferred.fromCoroutine(work()))

    def rows(self) -> Sequence[Any]:
        """What bob's INBOX holds."""
        changes = Deferred.fromCoroutine(self.mailbox().changes(0))
        rows: Sequence[Any] = self.successResultOf(changes).rows
        return rows

    def client(
        self, settings: Pop3Settings = OPEN, tls: object | None = None
    ) -> Client:
        """A client that was greeted."""
        return Client(self.store, self.users, settings, tls)

    def logged_in(self) -> Client:
        """A client in the TRANSACTION state."""
        client = self.client()
        client.log_in()
        return client


class AuthorizationTests(Pop3TestCase):
    def test_greeting(self) -> None:
        """It is positive, and has no APOP timestamp."""
        self.assertEqual(self.client().greeting, b"+OK mx.example.test POP3 ready\r\n")

    def test_user_and_pass(self) -> None:
        """The password may hold spaces; the answer tells the maildrop."""
        size = len(HELLO) + len(SECOND)
        answers = self.client().log_in().split(b"\r\n")
        self.assertEqual(answers[1], b"+OK 2 messages (%d octets)" % size)

    def test_wrong_password(self) -> None:
        """It is told by a response code (RFC 3206), the same for a name that
        does not exist."""
        client = self.client()
        wrong = client.say(b"USER bob", b"PASS wrong")
        unknown = client.say(b"USER nobody", b"PASS pass word")
        self.assertEqual(wrong, unknown)
        self.assertTrue(wrong.endswith(b"-ERR [AUTH] Authentication failed\r\n"))

    def test_no_authentication_now(self) -> None:
        """Trouble of ours is told as temporary, and no error of the client."""
        self.users.error = AuthenticationUnavailable()
        client = self.client()
        for _ in range(5):
            self.assertIn(b"-ERR [SYS/TEMP]", client.log_in())
        self.users.error = None
        self.assertIn(b"+OK 2 messages", client.log_in())

    def test_pass_needs_user(self) -> None:
        """PASS counts directly after USER alone."""
        client = self.client()
        self.assertTrue(client.say(b"PASS pass word").startswith(b"-ERR"))
        self.assertEqual(self.users.asked, [])

    def test_commands_of_the_other_state(self) -> None:
        """Each is refused where it does not belong (RFC 1939 section 3)."""
        for line in (b"STAT", b"LIST", b"RETR 1", b"DELE 1", b"NOOP", b"RSET"):
            self.assertTrue(self.client().say(line).startswith(b"-ERR"), line)
        client = self.logged_in()
        for line in (b"USER bob", b"PASS x", b"AUTH PLAIN", b"STLS", b"UTF8"):
            self.assertTrue(client.say(line).startswith(b"-ERR"), line)

    def test_quit_before_login(self) -> None:
        """It ends the connection and changes nothing."""
        client = self.client()
        self.assertEqual(client.say(b"QUIT"), b"+OK Bye\r\n")
        self.assertTrue(client.closed)

    def test_auth_plain(self) -> None:
        """With and without initial response (RFC 5034)."""
        word = base64.b64encode(b"\0bob\0pass word")
        self.assertIn(b"+OK 2 messages", self.client().say(b"AUTH PLAIN " + word))
        client = self.client()
        self.assertEqual(client.say(b"auth plain"), b"+ \r\n")
        self.assertIn(b"+OK 2 messages", client.say(word))

    def test_auth_login(self) -> None:
        """Name, then password."""
        client = self.client()
        self.assertEqual(client.say(b"AUTH LOGIN"), b"+ VXNlcm5hbWU6\r\n")
        self.assertEqual(client.say(b"Ym9i"), b"+ UGFzc3dvcmQ6\r\n")
        self.assertIn(b"+OK 2 messages", client.say(base64.b64encode(b"pass word")))

    def test_auth_list(self) -> None:
        """Without an argument it lists the mechanisms."""
        expected = b"+OK Mechanisms follow\r\nPLAIN\r\nLOGIN\r\n.\r\n"
        self.assertEqual(self.client().say(b"AUTH"), expected)

    def test_h40_auth_that_comes_to_nothing(self) -> None:
        """Cancelled, not base64, malformed, another's identity, unknown: each
        is answered, and USER and PASS work afterwards."""
        for lines in (
            [b"AUTH PLAIN", b"*"],
            [b"AUTH PLAIN", b"!"],
            [b"AUTH PLAIN YQ=="],
            [b"AUTH PLAIN " + base64.b64encode(b"root\0bob\0pass word")],
            [b"AUTH CRAM-MD5"],
        ):
            client = self.client()
            for line in lines:
                answer = client.say(line)
            self.assertTrue(answer.startswith(b"-ERR"), lines)
            self.assertIn(b"+OK 2 messages", client.log_in(), lines)

    def test_h40_cancelled_a_thousand_times(self) -> None:
        """It ends after a few."""
        client = self.client()
        for _ in range(1000):
            if client.closed:
                break
            client.say(b"AUTH PLAIN")
            client.say(b"*")
        self.assertTrue(client.closed)
        self.assertEqual(self.users.asked, [])

    def test_h25_three_errors_before_login(self) -> None:
        """The third ends the connection, whether the command or the password
        is bad."""
        client = self.client()
        client.say(b"XYZ", b"USER bob", b"PASS wrong")
        self.assertFalse(client.closed)
        client.say(b"STAT")
        self.assertTrue(client.closed)

    def test_h41_hostile_names(self) -> None:
        """They reach the authenticator as they are, and fail like any other."""
        for name in ("%s", 'a"b', "../../x", ";--", "*)(uid=*", "jü", "a" * 2000):
            client = self.client()
            answer = client.say(b"USER " + name.encode(), b"PASS x")
            self.assertIn(b"-ERR [AUTH] Authentication failed\r\n", answer)
            self.assertEqual(self.users.asked.pop()[0], name)

    def test_lang(self) -> None:
        """English in all its dialects, and the default (RFC 6856 section 3)."""
        client = self.client()
        self.assertEqual(
            client.say(b"LANG"),
            b"+OK Languages follow\r\nen English\r\n"
            b"i-default Default language\r\n.\r\n",
        )
        self.assertTrue(client.say(b"LANG en-GB").startswith(b"+OK en "))
        self.assertTrue(client.say(b"LANG *").startswith(b"+OK i-default "))
        self.assertEqual(client.say(b"LANG tlh"), b"-ERR No such language\r\n")

    def test_utf8(self) -> None:
        """Before login (RFC 6856 section 2)."""
        self.assertTrue(self.client().say(b"UTF8").startswith(b"+OK"))

    def test_store_that_fails_at_login(self) -> None:
        """The client is told to come back, and is not logged in."""

        class Broken(MemoryStore):
            async def account(self, account: Account) -> Any:
                raise LedgerUnavailable()

        client = Client(Broken(), self.users)
        self.assertIn(b"-ERR [SYS/TEMP]", client.log_in())
        self.assertTrue(client.say(b"STAT").startswith(b"-ERR"))


class CapabilityTests(Pop3TestCase):
    def capabilities(self, client: Client) -> set[bytes]:
        """What CAPA lists."""
        lines = client.say(b"CAPA").split(b"\r\n")
        self.assertTrue(lines[0].startswith(b"+OK"))
        self.assertEqual(lines[-2:], [b".", b""])
        return set(lines[1:-2])

    def test_before_login(self) -> None:
        """All that there is; passwords only where they may be said."""
        both = {
            b"TOP",
            b"UIDL",
            b"RESP-CODES",
            b"AUTH-RESP-CODE",
            b"PIPELINING",
            b"EXPIRE NEVER",
            b"LANG",
            b"UTF8 USER",
            b"IMPLEMENTATION twisted-mta",
        }
        login = {b"USER", b"SASL PLAIN LOGIN"}
        self.assertEqual(self.capabilities(self.client()), both | login)
        tls = object()
        client = self.client(CLOSED, tls)
        self.assertEqual(self.capabilities(client), both | {b"STLS"})

    def test_no_passwords_in_the_clear(self) -> None:
        """Without TLS they are refused before they are looked at."""
        for line in (b"USER bob", b"PASS x", b"AUTH PLAIN AGJvYgB4", b"AUTH"):
            answer = self.client(CLOSED).say(line)
            self.assertTrue(answer.startswith(b"-ERR [AUTH]"), line)
        self.assertEqual(self.users.asked, [])

    def test_h04_and_h05_stls(self) -> None:
        """What was said before TLS, with STLS or earlier, is forgotten; after
        it passwords may come, and STLS may not."""
        client = self.client(OPEN, "context")
        client.say(b"USER bob")
        answer = client.say(b"STLS", b"QUIT")
        self.assertEqual(answer, b"+OK Begin TLS\r\n")
        self.assertEqual(client.transport.context, "context")
        client.stream.dataReceived(b"QUIT\r\n")
        client.stream.handshakeCompleted()
        self.assertEqual(client.read(), b"")
        self.assertEqual(client.say(b"PASS pass word"), b"-ERR USER comes first\r\n")
        self.assertNotIn(b"STLS", self.capabilities(client))
        self.assertTrue(client.say(b"STLS").startswith(b"-ERR"))
        self.assertIn(b"+OK 2 messages", client.log_in())


class TransactionTests(Pop3TestCase):
    def test_stat_and_list(self) -> None:
        """Counts and sizes leave out what is marked as deleted."""
        client = self.logged_in()
        one, two = len(HELLO), len(SECOND)
        self.assertEqual(client.say(b"STAT"), b"+OK 2 %d\r\n" % (one + two))
        listing = b"+OK 2 messages\r\n1 %d\r\n2 %d\r\n.\r\n" % (one, two)
        self.assertEqual(client.say(b"LIST"), listing)
        self.assertEqual(client.say(b"LIST 2"), b"+OK 2 %d\r\n" % two)
        client.say(b"DELE 1")
        self.assertEqual(client.say(b"STAT"), b"+OK 1 %d\r\n" % two)
        self.assertEqual(client.say(b"LIST"), b"+OK 1 messages\r\n2 %d\r\n.\r\n" % two)
        self.assertEqual(client.say(b"LIST 1"), b"-ERR No message 1\r\n")

    def test_uidl(self) -> None:
        """Unique ids are the same in the next session, 70 printable characters
        at most, and never used again."""
        listing = self.logged_in().say(b"UIDL")
        client = self.logged_in()
        self.assertEqual(client.say(b"UIDL"), listing)
        first, second = (line.split() for line in listing.split(b"\r\n")[1:3])
        for number, unique in (first, second):
            self.assertRegex(unique.decode(), r"\A[\x21-\x7e]{1,70}\Z")
            self.assertEqual(
                client.say(b"UIDL " + number), b"+OK %b %b\r\n" % (number, unique)
            )
        client.say(b"DELE 2", b"QUIT")
        self.append(HELLO)
        again = self.logged_in().say(b"UIDL")
        self.assertIn(first[1], again)
        self.assertNotIn(second[1], again)

    def test_retr(self) -> None:
        """The message, its dots stuffed (RFC 1939 section 3)."""
        client = self.logged_in()
        expected = b"+OK %d octets\r\n" % len(HELLO)
        expected += HELLO.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        self.assertEqual(client.say(b"RETR 1"), expected)
        self.assertEqual(client.say(b"RETR 1"), expected)

    def test_top(self) -> None:
        """The header, the empty line and some lines."""
        client = self.logged_in()
        answer = client.say(b"TOP 2 2")
        self.assertTrue(
            answer.endswith(b"\r\nSubject: two\r\n\r\nline 1\r\nline 2\r\n.\r\n")
        )
        self.assertTrue(client.say(b"TOP 2 0").endswith(b"Subject: two\r\n\r\n.\r\n"))

    def test_large_message(self) -> None:
        """One that the store streams comes whole; TOP reads no more of it than
        it needs."""
        self.append(LARGE)
        client = self.logged_in()
        answer = client.say(b"RETR 3")
        head = b"+OK %d octets\r\n" % len(LARGE)
        stuffed = LARGE.replace(b"\r\n.", b"\r\n..")
        self.assertEqual(answer, head + stuffed + b".\r\n")
        self.assertEqual(
            client.say(b"TOP 3 1"),
            head + b"Subject: large\r\n\r\n." + b"." * 76 + b"\r\n.\r\n",
        )
        self.assertEqual(client.say(b"NOOP"), b"+OK\r\n")

    def test_numbers_that_are_none(self) -> None:
        """0, too large ones, and those marked as deleted."""
        client = self.logged_in()
        client.say(b"DELE 2")
        for number in (b"0", b"2", b"3", b"999999999"):
            for form in (b"RETR %b", b"DELE %b", b"TOP %b 1", b"LIST %b", b"UIDL %b"):
                answer = client.say(form % number)
                self.assertTrue(answer.startswith(b"-ERR No message"), answer)

    def test_rset(self) -> None:
        """Takes the marks away."""
        client = self.logged_in()
        client.say(b"DELE 1", b"DELE 2", b"RSET", b"QUIT")
        self.assertEqual(len(self.rows()), 2)

    def test_snapshot(self) -> None:
        """Mail that comes during the session is not seen by it."""
        client = self.logged_in()
        self.append(HELLO)
        self.assertTrue(client.say(b"STAT").startswith(b"+OK 2 "))
        self.assertTrue(client.say(b"RETR 3").startswith(b"-ERR"))

    def test_message_removed_by_another_session(self) -> None:
        """It is told to be gone; the numbers of the others stay."""
        client = self.logged_in()
        uid = self.rows()[0].uid
        self.successResultOf(Deferred.fromCoroutine(self.mailbox().expunge([uid])))
        self.assertTrue(client.say(b"RETR 1").startswith(b"-ERR"))
        self.assertIn(b"Subject: two", client.say(b"RETR 2"))
        self.assertEqual(client.say(b"QUIT"), b"+OK Bye\r\n")

    def test_pipelined(self) -> None:
        """A burst is answered in order (RFC 2449 section 6.6)."""
        client = self.client()
        answer = client.say(
            b"USER bob", b"PASS pass word", b"STAT", b"DELE 1", b"LIST", b"QUIT"
        )
        statuses = [line[:3] for line in answer.split(b"\r\n") if line[:1] in b"+-"]
        self.assertEqual(statuses, [b"+OK"] * 6 + [b""])

    def test_h25_twenty_bad_commands(self) -> None:
        """They end the connection; nothing is deleted."""
        client = self.logged_in()
        client.say(b"DELE 1")
        client.say(*[b"XYZ"] * 19)
        self.assertFalse(client.closed)
        client.say(b"XYZ", b"NOOP", b"QUIT")
        self.assertTrue(client.closed)
        self.assertEqual(len(self.rows()), 2)

    def test_many_messages(self) -> None:
        """Listings of thousands come whole."""
        self.append(*[SECOND] * 4500)
        client = self.logged_in()
        lines = client.say(b"UIDL").split(b"\r\n")
        self.assertEqual(len(lines), 4502 + 3)
        self.assertEqual(lines[-3].split()[0], b"4502")


class UpdateTests(Pop3TestCase):
    def flags(self) -> list[frozenset[str]]:
        """Those of bob's messages."""
        return [row.flags for row in self.rows()]

    def test_quit_removes(self) -> None:
        """What is marked goes at QUIT, and nothing else."""
        client = self.logged_in()
        client.say(b"DELE 1")
        self.assertEqual(len(self.rows()), 2)
        self.assertEqual(client.say(b"QUIT"), b"+OK Bye\r\n")
        self.assertEqual([row.size for row in self.rows()], [len(SECOND)])
        self.assertTrue(client.closed)

    def test_lost_connection_removes_nothing(self) -> None:
        """Nor does anything but QUIT."""
        client = self.logged_in()
        client.say(b"DELE 1")
        client.lose()
        self.assertEqual(len(self.rows()), 2)

    def test_idle_removes_nothing(self) -> None:
        """After 10 minutes of silence the connection ends without a word
        (RFC 1939 section 3)."""
        client = self.logged_in()
        client.say(b"DELE 1")
        client.clock.advance(599)
        self.assertFalse(client.closed)
        client.clock.advance(1)
        self.assertTrue(client.closed)
        self.assertEqual(client.read(), b"")
        self.assertEqual(len(self.rows()), 2)

    def test_shutdown_removes_nothing(self) -> None:
        """The client is told; it will come back."""
        client = self.logged_in()
        client.say(b"DELE 1")
        client.stream.shut_down()
        self.assertTrue(client.read().startswith(b"-ERR [SYS/TEMP]"))
        self.assertTrue(client.closed)
        self.assertEqual(len(self.rows()), 2)

    def test_update_that_fails(self) -> None:
        """QUIT says so, and the connection ends (RFC 1939 section 6)."""
        client = self.logged_in()

        async def expunge(uids: object) -> object:
            raise LedgerUnavailable()

        client.say(b"DELE 1")
        self.patch(type(self.mailbox()), "expunge", lambda _, uids: expunge(uids))
        self.assertTrue(client.say(b"QUIT").startswith(b"-ERR [SYS/TEMP]"))
        self.assertTrue(client.closed)

    def test_read_messages_are_seen(self) -> None:
        """IMAP shows what was read here, and TOP does not count as reading."""
        client = self.logged_in()
        client.say(b"RETR 1", b"TOP 2 1", b"QUIT")
        self.assertEqual(self.flags(), [frozenset({"\\Seen"}), frozenset()])


class LimitTests(Pop3TestCase):
    def test_h36_slow_login(self) -> None:
        """A minute of silence before login, or three minutes of whatever, end
        the connection."""
        client = self.client()
        client.clock.advance(60)
        self.assertTrue(client.closed)
        client = self.client()
        for _ in range(4):
            self.assertFalse(client.closed)
            client.clock.advance(45)
            client.say(b"CAPA")
        self.assertTrue(client.closed)

    def test_login_ends_its_total_time(self) -> None:
        """A session that logged in may last."""
        client = self.logged_in()
        for _ in range(4):
            client.clock.advance(500)
            self.assertEqual(client.say(b"NOOP"), b"+OK\r\n")

    def test_h08_endless_line(self) -> None:
        """It ends the connection with an error."""
        client = self.client()
        client.stream.dataReceived(b"x" * 5000)
        self.assertEqual(client.read(), b"-ERR Line too long\r\n")
        self.assertTrue(client.closed)

    def test_h37_client_that_does_not_read(self) -> None:
        """A large message is read from the store only as the client reads; a
        client that stops is cut off, and nothing is marked as read."""
        self.append(LARGE)
        client = self.logged_in()
        write = client.transport.write

        def filling(octets: bytes) -> None:
            write(octets)
            client.stream.pauseProducing()

        self.patch(client.transport, "write", filling)
        client.say(b"RETR 3")
        client.stream.resumeProducing()
        self.assertLess(len(client.read()), 200_000)
        client.clock.advance(600)
        self.assertTrue(client.transport.aborted)
        client.lose()
        self.assertEqual({row.flags for row in self.rows()}, {frozenset()})

    def test_h37_commands_without_reading(self) -> None:
        """A client that asks for ever and never reads, before its login or
        after it, is heard no further than what is bounded, and is cut off."""
        for words, client in ((b"CAPA", self.client()), (b"STAT", self.logged_in())):
            client.stream.limit(60)
            register = client.transport.registerProducer

            def full(producer: Any, streaming: bool, register: Any = register) -> None:
                register(producer, streaming)
                producer.pauseProducing()

            self.patch(client.transport, "registerProducer", full)
            for _ in range(400):
                client.stream.dataReceived((words + b"\r\n") * 1000)
                if client.transport.producerState == "paused":
                    break
            else:
                self.fail("all was read")
            self.assertLess(len(client.read()), 100_000)
            client.clock.advance(60)
            self.assertTrue(client.transport.aborted)
            client.lose()

    def test_bug(self) -> None:
        """The client reads of a temporary failure and nothing else; the log has
        the failure."""
        self.users.error = ZeroDivisionError("secret")
        client = self.client()
        answer = client.log_in()
        self.assertTrue(answer.endswith(b"-ERR [SYS/TEMP] Internal error\r\n"))
        self.assertTrue(client.closed)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_content_that_fails_midway(self) -> None:
        """A message that cannot be read to its end is never ended: the
        connection is cut."""
        self.append(LARGE)

        class Failing:
            size = len(LARGE)

            async def read(self, offset: int, most: int) -> bytes:
                if offset:
                    raise LedgerUnavailable()
                return LARGE[:most]

        async def content(mailbox: object, uid: int) -> tuple[bytes, Failing]:
            return b"", Failing()

        client = self.logged_in()
        self.patch(type(self.mailbox()), "content", content)
        answer = client.say(b"RETR 3")
        self.assertFalse(answer.endswith(b"\r\n.\r\n"))
        self.assertTrue(client.transport.aborted)


class MaildropTests(Pop3TestCase):
    def test_reads_ahead_in_order_only(self) -> None:
        """A client that reads one message after the other costs few trips to
        the store; one that picks messages gets no more than it asked for."""
        self.append(*[SECOND] * 248)
        asked: list[int] = []
        fetch = type(self.mailbox()).fetch

        def counting(mailbox: object, uids: Sequence[int], parts: object) -> object:
            asked.append(len(uids))
            return fetch(mailbox, uids, parts)

        self.patch(type(self.mailbox()), "fetch", counting)

        async def work() -> None:
            drop = await open_maildrop(cast(IMailbox, self.mailbox()))
            for number in drop:
                self.assertIsNotNone(await drop.octets(number))
            self.assertEqual(asked, [100, 100, 50])
            asked.clear()
            for number in (5, 50, 20):
                self.assertIsNotNone(await drop.octets(number))
            self.assertEqual(asked, [1, 1, 1])

        self.successResultOf(Deferred.fromCoroutine(work()))


class PoplibTests(Pop3TestCase):
    """Python's client over loopback."""

    async def test_stls_to_quit(self) -> None:
        """STLS, login, listing, retrieval and deletion by a real client."""
        pair = made(Path(self.mktemp()).parent, ["localhost"])
        tls = ServerTls([pair])

        async def session(stream: Stream) -> None:
            users, store = cast(Any, self.users), cast(Any, self.store)
            await Pop3Session(stream, CLOSED, users, store, tls).run()

        listener = Listener(
            cast(IReactorTime, reactor),
            "pop3",
            ["tcp:0:interface=127.0.0.1"],
            Spoken(Pop3Engine, session, lambda name: b"-ERR [SYS/TEMP] later\r\n"),
            Admission(10),
        )
        await listener.start()
        self.append(LARGE)
        trusting = ssl.create_default_context(cafile=pair.certificate)
        trusting.check_hostname = False

        def converse() -> list[bytes]:
            client = poplib.POP3(*listener.where[0], timeout=20)
            client.stls(trusting)
            client.user("bob")
            client.pass_("pass word")
            self.assertEqual(client.stat()[0], 3)
            lines = client.retr(1)[1]
            large = client.retr(3)[1]
            self.assertEqual(b"\r\n".join([*large, b""]), LARGE)
            client.dele(1)
            client.quit()
            return lines

        # poplib takes no line above 2048 octets unless told so.
        self.patch(poplib, "_MAXLINE", 1 << 20)
        lines = await deferToThread(converse)
        await listener.stop()
        self.assertEqual(b"\r\n".join([*lines, b""]), HELLO)
        self.assertEqual(len(self.rows()), 2)
