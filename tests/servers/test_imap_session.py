"""IMAP sessions: greeting, login, TLS, states, time, the end."""

import base64
import gc

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from tests.servers.imapdrive import PLAIN, TLS, Passwords, Server
from twisted_mta import errors
from twisted_mta.interfaces import IAuthenticator
from twisted_mta.servers.imap.session import DO, ImapSettings
from twisted_mta.wire.imap.commands import COMMANDS

CLEAR = ImapSettings("mx.example.test")


def plain(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class TableTests(TestCase):
    """What is said once for all commands."""

    def test_every_command_is_done(self) -> None:
        """Each command the engine reads has its do_, and no other has."""
        self.assertEqual(set(DO), set(COMMANDS))

    def test_fakes(self) -> None:
        """The fakes are what they stand for."""
        verifyObject(IAuthenticator, Passwords())


class LoginTests(TestCase):
    """RFC 3501 6.1 and 6.2."""

    def test_greeting(self) -> None:
        """The greeting names the host and what may be used now."""
        Server().connect().run(
            """
            S: * OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE STARTTLS \
AUTH=PLAIN AUTH=LOGIN] mx.example.test IMAP4rev1 ready
            """
        )

    def test_capabilities_by_state(self) -> None:
        """STARTTLS only before TLS, AUTH only where a password may be sent, the
        rest after the login."""
        client = Server(settings=CLEAR).connect()
        client.run(
            """
            S~ .*STARTTLS LOGINDISABLED\\].*
            C: a CAPABILITY
            S: * CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE STARTTLS \
LOGINDISABLED
            S: a OK Capability completed
            """
        )
        client = Server(settings=CLEAR).connect(secure=True)
        client.run(
            """
            S~ .*IDLE AUTH=PLAIN AUTH=LOGIN\\].*
            C: a LOGIN alice secret
            S~ a OK \\[CAPABILITY IMAP4rev1 .* CHILDREN UIDPLUS .*\\] Logged in
            C: b CAPABILITY
            S~ (?!.*AUTH=)(?!.*STARTTLS).* UNSELECT MOVE SPECIAL-USE .*
            S: b OK Capability completed
            """
        )
        Server(settings=CLEAR).connect(tls=None).run(
            "S~ (?!.*STARTTLS).*LOGINDISABLED.*"
        )

    def test_login(self) -> None:
        """LOGIN with the right password, with a wrong one, a second time."""
        server = Server()
        server.connect().run(
            """
            S~ .*
            C: a LOGIN alice wrong
            S: a NO [AUTHENTICATIONFAILED] Authentication failed
            C: b LOGIN nobody secret
            S: b NO [AUTHENTICATIONFAILED] Authentication failed
            C: c LOGIN "alice" {6+}
            C: secret
            S~ c OK .*
            C: d LOGIN alice secret
            S: d BAD Not in this state
            """
        )
        self.assertEqual(server.passwords.asked[0], ("alice", "192.0.2.7"))

    def test_login_by_chunks(self) -> None:
        """The same session comes of every cutting of what the client sends."""
        for piece in (1, 2, 3, 7):
            Server().connect().run(
                """
                S~ .*
                C: a AUTHENTICATE PLAIN
                S: +\x20
                """
                + f"""
                C: {plain(chr(0) + "alice" + chr(0) + "secret")}
                S~ a OK .*
                C: b SELECT INBOX
                C: c LOGOUT
                S*
                """,
                piece,
            )

    def test_authenticate(self) -> None:
        """PLAIN with and without an initial response, LOGIN, and what fails."""
        right = plain("\0alice\0secret")
        for script in (
            f"C: a AUTHENTICATE PLAIN {right}",
            f"C: a AUTHENTICATE PLAIN\nS: + \nC: {right}",
            f"C: a AUTHENTICATE LOGIN\nS: + {plain('Username:')}\nC: {plain('alice')}\n"
            f"S: + {plain('Password:')}\nC: {plain('secret')}",
        ):
            Server().connect().run(f"S~ .*\n{script}\nS~ a OK .*")

    def test_h40_authenticate_refusals(self) -> None:
        """Broken base64, a NUL too many, another identity, a cancelled or an
        unknown exchange: refused, and the next command is understood."""
        another = plain("bob\0alice\0secret")
        Server().connect().run(
            f"""
            S~ .*
            C: a AUTHENTICATE PLAIN
            S: +\x20
            C: *
            S: a BAD Authentication was cancelled
            C: b AUTHENTICATE X-NONE
            S: b NO [CANNOT] Unknown mechanism
            C: c AUTHENTICATE PLAIN {another}
            S: c NO [AUTHENTICATIONFAILED] Authentication failed
            C: d LOGIN alice secret
            S~ d OK .*
            """
        )
        for bad in ("====", "!", plain("a\0b\0c\0d"), plain("no nul")):
            Server().connect().run(
                f"""
                S~ .*
                C: a AUTHENTICATE PLAIN
                S: +\x20
                C: {bad}
                S~ a BAD .*
                C: b LOGIN alice secret
                S~ b OK .*
                """
            )

    def test_h41_odd_user_names(self) -> None:
        """Odd names are failed logins and nothing else."""
        for name in (b"%", b'\\"', b"../../x", b"a;--", b"*)(uid=*", b"x" * 5_000):
            client = Server().connect()
            client.received()
            client.send(b'a LOGIN "' + name + b'" secret\r\n')
            self.assertIn(b"a NO [AUTHENTICATIONFAILED]", client.received())
        client = Server().connect()
        client.received()
        client.send(b"a LOGIN {3+}\r\na\0b secret\r\n")
        self.assertRegex(client.received(), rb"a (NO|BAD) ")

    def test_failures_in_the_log(self) -> None:
        """A name that cannot be is logged here, since no authenticator hears of
        it; what it refuses it logs itself, and nobody a second time."""
        gc.collect()  # sessions that earlier tests left say so when they end
        for name, lines in ((b"x" * 5_000, 1), (b"nobody", 0)):
            client = Server().connect()
            client.received()
            with capturedLogs() as heard:
                client.send(b"a LOGIN " + name + b" secret\r\n")
            self.assertIn(b"a NO [AUTHENTICATIONFAILED]", client.received())
            told = [formatEvent(event) for event in heard]
            self.assertEqual(lines, len(told), told)
            for line in told:
                self.assertRegex(line, "login failed: name='x{80}', client=192.0.2.7$")

    def test_h39_no_names_are_told(self) -> None:
        """A name that does not exist is answered like a wrong password, by
        LOGIN and by AUTHENTICATE."""
        client = Server().connect()
        client.received()
        answers = set()
        for name in ("alice", "nobody"):
            client.send(f"a LOGIN {name} wrong\r\n".encode())
            answers.add(client.received())
        client = Server().connect()
        client.received()
        for name in ("alice", "nobody"):
            said = plain(f"\0{name}\0wrong")
            client.send(f"a AUTHENTICATE PLAIN {said}\r\n".encode())
            answers.add(client.received())
        self.assertEqual(
            answers, {b"a NO [AUTHENTICATIONFAILED] Authentication failed\r\n"}
        )

    def test_h08_endless_line(self) -> None:
        """A line that does not end closes the connection at its limit."""
        for client, most in ((Server().connect(), 10_000), (Server().login(), 70_000)):
            client.received()
            sent = 0
            while not client.closed and sent < 10_000_000:
                client.send(b"x" * 1_000)
                sent += 1_000
            self.assertLess(sent, most)
            self.assertRegex(client.received(), rb"^\* BYE .*\r\n$")

    def test_h16_literals_of_strangers(self) -> None:
        """Large, negative and nonsense literals before the login are never
        invited; nothing is kept of them."""
        for size in (
            b"4294967296",
            b"99999999999999999999",
            b"-1",
            b"8193",
            b"99999999999999999999+",
            b"2147483648+",
        ):
            client = Server().connect()
            client.received()
            client.send(b"a LOGIN {" + size + b"}\r\n")
            answer = client.received()
            self.assertNotIn(b"+ ", answer)
            self.assertRegex(answer, rb"^(a BAD|a NO|\* BYE) ")

    def test_h25_bad_commands(self) -> None:
        """Three bad commands before the login end the connection, twenty after
        it; wrong passwords count."""
        client = Server().connect()
        client.run(
            """
            S~ .*
            C: a LOGIN alice no
            S~ a NO .*
            C: b BOGUS
            S~ b BAD .*
            C: c LOGIN alice nope
            S~ c NO .*
            S~ \\* BYE .*
            """
        )
        self.assertTrue(client.closed)
        client = Server().login()
        for _ in range(19):
            client.run("C: a CLOSE\nS~ a BAD .*")
        client.run("C: a NOPE\nS~ a BAD .*\nS~ \\* BYE .*")
        self.assertTrue(client.closed)

    def test_privacy_required(self) -> None:
        """Without TLS no password is asked for, or taken (RFC 3501 6.2.3)."""
        server = Server(settings=CLEAR)
        server.connect().run(
            """
            S~ .*LOGINDISABLED.*
            C: a LOGIN alice secret
            S: a NO [PRIVACYREQUIRED] Use STARTTLS first
            C: b AUTHENTICATE PLAIN
            S: b NO [PRIVACYREQUIRED] Use STARTTLS first
            """
        )
        self.assertEqual(server.passwords.asked, [])

    def test_starttls(self) -> None:
        """STARTTLS, then a login; capabilities change."""
        client = Server(settings=CLEAR).connect()
        client.run("S~ .*\nC: a STARTTLS\nS: a OK Begin TLS")
        self.assertEqual(client.wire.tls, [TLS])
        client.start_tls()
        client.run(
            """
            C: b CAPABILITY
            S: * CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE AUTH=PLAIN \
AUTH=LOGIN
            S: b OK Capability completed
            C: c LOGIN alice secret
            S~ c OK .*
            """
        )

    def test_h04_commands_injected_before_tls(self) -> None:
        """What comes along with STARTTLS in the clear is never answered."""
        for later in (b"b NOOP\r\n", b"b LOGIN alice secret\r\n", b"b NO"):
            client = Server().connect()
            client.received()
            client.send(b"a STARTTLS\r\n" + later)
            client.send(later)
            self.assertEqual(client.received(), b"a OK Begin TLS\r\n")
            client.start_tls()
            client.send(b"c NOOP\r\n")
            self.assertEqual(client.received(), b"c OK Noop completed\r\n")

    def test_h06_starttls_twice(self) -> None:
        """A second STARTTLS, one without TLS to offer, one after the login are
        BAD; the server never says PREAUTH."""
        Server().connect(secure=True).run(
            "S~ \\* OK .*\nC: a STARTTLS\nS: a BAD TLS is on already"
        )
        Server().connect(tls=None).run(
            "S~ \\* OK .*\nC: a STARTTLS\nS: a BAD TLS is not available"
        )
        Server().login().run("C: a STARTTLS\nS~ a BAD .*")

    def test_states(self) -> None:
        """Commands out of their state are BAD."""
        Server().connect().run("S~ .*\nC: a SELECT INBOX\nS~ a BAD .*")
        Server().login().run(
            """
            C: a FETCH 1 FLAGS
            S: a BAD Not in this state
            C: b SEARCH ALL
            S: b BAD Not in this state
            """
        )


class AnyStateTests(TestCase):
    """ID, ENABLE, NAMESPACE, NOOP, LOGOUT."""

    def test_small_commands(self) -> None:
        """Each answers as its RFC says."""
        Server().login().run(
            """
            C: a NOOP
            S: a OK Noop completed
            C: b ID ("name" "test" "version" NIL)
            S: * ID ("name" "twisted-mta")
            S: b OK ID completed
            C: c ID NIL
            S: * ID ("name" "twisted-mta")
            S: c OK ID completed
            C: d ENABLE CONDSTORE X-GOOD
            S: * ENABLED
            S: d OK Enable completed
            C: e NAMESPACE
            S: * NAMESPACE (("" "/")) NIL NIL
            S: e OK Namespace completed
            """
        )

    def test_logout(self) -> None:
        """BYE, OK, and the connection closes."""
        client = Server().login()
        client.run("C: a LOGOUT\nS: * BYE Logging out\nS: a OK Logout completed")
        self.assertTrue(client.closed)

    def test_pipelined_commands(self) -> None:
        """Commands sent together are answered in order."""
        Server().login().run(
            """
            C: a NOOP
            C: b CREATE One
            C: c STATUS One (MESSAGES)
            C: d LOGOUT
            C: e NOOP
            S: a OK Noop completed
            S: b OK Create completed
            S: * STATUS "One" (MESSAGES 0)
            S: c OK Status completed
            S: * BYE Logging out
            S: d OK Logout completed
            """
        )


class EndTests(TestCase):
    """How sessions end."""

    def test_h36_login_in_time(self) -> None:
        """A stranger has a minute for each line and three for all; octets that
        trickle in do not help."""
        client = Server().connect()
        client.received()
        client.advance(61)
        self.assertEqual(client.received(), b"* BYE Logged out for inactivity\r\n")
        self.assertTrue(client.closed)
        client = Server().connect()
        client.received()
        for _ in range(6):
            client.advance(31)
            client.send(b"a NOOP\r\n")
        client.received()
        self.assertTrue(client.closed)
        client = Server().connect()
        client.received()
        for _ in range(4):
            client.send(b"x")
            client.advance(20)
        self.assertTrue(client.closed)

    def test_idle_half_an_hour(self) -> None:
        """Who logged in may be silent for half an hour (RFC 3501 5.4)."""
        client = Server().login()
        client.advance(1799)
        client.run("C: a NOOP\nS: a OK Noop completed")
        client.advance(1799)
        self.assertFalse(client.closed)
        client.advance(2)
        self.assertEqual(client.received(), b"* BYE Logged out for inactivity\r\n")
        self.assertTrue(client.closed)

    def test_shutdown(self) -> None:
        """A server that stops says BYE, in IDLE too."""
        goodbye = b"* BYE [UNAVAILABLE] The server is shutting down\r\n"
        client = Server().login()
        client.stream.shut_down()
        self.assertEqual(client.received(), goodbye)
        client = Server().select()
        client.run("C: a IDLE\nS: + idling")
        client.stream.shut_down()
        self.assertEqual(client.received(), goodbye)
        self.assertTrue(client.closed)

    def test_h37_commands_without_reading(self) -> None:
        """A client that sends commands and never reads the answers is heard no
        further than what is bounded, and goes on when it reads."""
        server = Server()
        client = server.login()
        register = client.wire.registerProducer

        def stopped(producer, streaming) -> None:
            register(producer, streaming)
            producer.pauseProducing()

        client.wire.registerProducer = stopped
        for _ in range(400):
            client.send(b"a NOOP\r\n" * 500)
            if client.wire.producerState == "paused":
                break
        else:
            self.fail("all was read")
        self.assertLess(len(client.wire.value()), 300_000)
        client.wire.registerProducer = register
        client.wire.producer.resumeProducing()
        client.settle()
        client.send(b"z NOOP\r\n")
        self.assertTrue(client.received().endswith(b"z OK Noop completed\r\n"))

    def test_a_flood_of_commands_lets_others_in(self) -> None:
        """Between commands that come together, other sessions are answered."""
        server = Server()
        busy, other = server.login(), server.login()
        busy.stream.dataReceived(b"a NOOP\r\n" * 5_000)
        other.stream.dataReceived(b"b NOOP\r\n")
        self.assertEqual(other.wire.value(), b"b OK Noop completed\r\n")
        self.assertLess(busy.wire.value().count(b"a OK"), 5_000)
        self.assertEqual(busy.received().count(b"a OK"), 5_000)

    def test_lost_connections_are_let_go(self) -> None:
        """A connection that breaks leaves no watcher behind, whatever it did."""
        server = Server()
        server.put(PLAIN)
        for script in ("", "C: a IDLE\nS: + idling", "C: a APPEND INBOX {5}\nS: + OK"):
            client = server.select()
            client.run(script)
            client.lose()
        box = server.account().find("INBOX")
        self.assertEqual(box.watchers, [])
        self.assertEqual(len(box.placements), 1)

    def test_a_bug_is_logged_and_not_told(self) -> None:
        """An exception nobody expected is answered with a generic NO, logged,
        and the session goes on."""
        server = Server()
        client = server.login()
        account = server.account()

        def broken(name: str) -> None:
            raise ZeroDivisionError("the secret path")

        self.patch(account, "status", broken)
        client.run(
            """
            C: a STATUS INBOX (MESSAGES)
            S: a NO [SERVERBUG] Internal error
            C: b NOOP
            S: b OK Noop completed
            """
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_temporary_failures(self) -> None:
        """A store that cannot now is NO [UNAVAILABLE]; nothing is lost."""
        server = Server()
        client = server.login()
        account = server.account()

        async def unavailable(name: str, special_use: str = "") -> None:
            raise errors.LedgerUnavailable()

        self.patch(account, "create", unavailable)
        client.run("C: a CREATE x\nS~ a NO \\[UNAVAILABLE\\] Mail storage .*")
