"""SASL exchanges as SMTP, IMAP and POP3 carry them: the same mechanisms, however the
octets are cut, and what comes of a client that breaks off, lies or goes on for ever."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.servers.smtpdrive import Directory, Intake, Router
from twisted_mta.auth.authenticator import MECHANISMS, Authenticator
from twisted_mta.auth.keyring import ScramKeys
from twisted_mta.auth.throttle import Throttle
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address, split
from twisted_mta.net.stream import Stream
from twisted_mta.servers.imap.session import ImapSession, ImapSettings
from twisted_mta.servers.pop3 import Pop3Session, Pop3Settings
from twisted_mta.servers.smtp.session import SmtpSession
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.store.memory import MemoryStore
from twisted_mta.testing.transcript import Conversation
from twisted_mta.wire import scram
from twisted_mta.wire.imap.engine import ImapServerEngine
from twisted_mta.wire.pop3 import Pop3Engine
from twisted_mta.wire.sasl import MAX_LINE, Credentials
from twisted_mta.wire.scram import ScramClient
from twisted_mta.wire.smtp.server import SmtpServerEngine

ALICE = Account(1, split("alice@example.test"))
HOST = "mx.example.test"
BOUND = b"this connection"
with mock.patch.object(scram, "ITERATIONS", 1):  # many logins, soon
    KEYS = {name: scram.make_keys(name, "secret") for name in scram.HASHES}


class Accounts:
    """Alice, by SCRAM."""

    async def scram_keys(
        self, address: Address, mechanism: str, protocol: str
    ) -> ScramKeys | None:
        if address != ALICE.address:
            return None
        return ScramKeys(ALICE, [KEYS[mechanism]], [""])

    async def no_keys(self, name: str, mechanism: str) -> scram.Keys:
        return scram.no_keys(mechanism, b"secret", name)


class Handle:
    """A TLS connection, as pyOpenSSL has it."""

    def __init__(self, bound: bool) -> None:
        """
        @param bound: a login can be bound to it.
        """
        self._version = "TLSv1.3" if bound else "TLSv1.2"

    def get_protocol_version_name(self) -> str:
        return self._version

    def get_peer_certificate(self) -> None:
        return None

    def get_certificate(self) -> None:
        return None

    def export_keying_material(self, *_: object) -> bytes:
        return BOUND


@dataclass(frozen=True)
class Protocol:
    """How a protocol says it.

    @ivar engine: makes its engine.
    @ivar session: makes its session.
    @ivar hello: what a client says before.
    @ivar begin: the command.
    @ivar challenge: what comes before a challenge.
    @ivar good: how the answer to a login begins.
    @ivar bad: how that to a failed one does.
    @ivar cancelled: how that to one that was broken off does.
    @ivar again: how that to a second login does.
    """

    engine: Callable[[], Any]
    session: Callable[[Clock, Stream, Authenticator], Any]
    hello: bytes
    begin: bytes
    challenge: bytes
    good: bytes
    bad: bytes
    cancelled: bytes
    again: bytes


def smtp(clock: Clock, stream: Stream, users: Authenticator) -> Any:
    settings = SmtpSettings(HOST, submission=True)
    parts: tuple[Any, ...] = (Router(), Intake(), Directory(), users)
    return SmtpSession(stream, settings, cast(Any, clock), *parts)


def imap(clock: Clock, stream: Stream, users: Authenticator) -> Any:
    settings = ImapSettings(HOST)
    store: Any = MemoryStore()
    return ImapSession(cast(Any, clock), stream, settings, users, store)


def pop3(clock: Clock, stream: Stream, users: Authenticator) -> Any:
    store: Any = MemoryStore()
    return Pop3Session(stream, Pop3Settings(HOST), users, store)


PROTOCOLS = {
    "smtp": Protocol(
        *(SmtpServerEngine, smtp, b"EHLO me\r\n", b"AUTH ", b"334 "),
        *(b"235 2.7.0", b"535 5.7.8", b"501 5.7.0", b"503 "),
    ),
    "imap": Protocol(
        *(ImapServerEngine, imap, b"", b"a AUTHENTICATE ", b"+ "),
        *(b"a OK", b"a NO [AUTHENTICATIONFAILED]", b"a BAD", b"a BAD"),
    ),
    "pop3": Protocol(
        *(Pop3Engine, pop3, b"", b"AUTH ", b"+ "),
        *(b"+OK 0 messages", b"-ERR [AUTH]", b"-ERR Cancelled", b"-ERR "),
    ),
}


class Talk:
    """A client's connection, private, and bound if it is said.

    @ivar answer: the last line that came.
    """

    def __init__(
        self,
        protocol: Protocol,
        offered: Sequence[str] = MECHANISMS,
        bound: bool = False,
        cut: int = 0,
    ) -> None:
        """
        @param cut: after how many octets each line is cut in two; 0: it is not.
        """
        self.protocol = protocol
        self._cut = cut
        self.throttle = Throttle(cast(Any, Clock()))

        def make(clock: Clock) -> Stream:
            self.throttle = Throttle(cast(Any, clock))
            directory: Any = None  # nor an account by its address alone
            accounts: Any = Accounts()
            passwords: Any = None  # SCRAM needs none
            users = Authenticator(
                cast(Any, clock), directory, accounts, passwords, self.throttle, offered
            )

            async def session(stream: Stream) -> None:
                stream.secure = True
                cast(Any, stream).handle = lambda: Handle(bound)
                await protocol.session(clock, stream, users).run()

            return Stream(cast(Any, clock), protocol.engine(), session, "x-1")

        self.conversation = Conversation(make)
        self.capabilities = self.conversation.received()
        self.conversation.send(protocol.hello)
        self.capabilities += self.conversation.received()
        self.answer = b""

    def say(self, line: bytes) -> bytes:
        """A line, in pieces; what comes to it."""
        octets = line + b"\r\n"
        for piece in (octets[: self._cut], octets[self._cut :]):
            if piece:
                self.conversation.send(piece)
        self.answer = self.conversation.received().rstrip(b"\r\n").split(b"\r\n")[-1]
        return self.answer

    def begin(self, mechanism: str, first: bytes, with_command: bool) -> bytes:
        """The command and the first message; the challenge that comes."""
        command = self.protocol.begin + mechanism.encode()
        if with_command:
            return self._challenge(self.say(command + b" " + base64.b64encode(first)))
        self.say(command)
        return self.respond(first)

    def respond(self, octets: bytes) -> bytes:
        """An answer to a challenge; the challenge that comes."""
        return self._challenge(self.say(base64.b64encode(octets)))

    def _challenge(self, line: bytes) -> bytes:
        if not line.startswith(self.protocol.challenge):
            return b""
        return base64.b64decode(line.removeprefix(self.protocol.challenge))

    def log_in(self, client: ScramClient, with_command: bool = True) -> bytes:
        """By SCRAM, to the end; the last answer."""
        challenge = self.begin(client.name, client.initial() or b"", with_command)
        while self.answer.startswith(self.protocol.challenge):
            challenge = self.respond(client.next(challenge))
        return self.answer


def alice(mechanism: str = "SCRAM-SHA-256", password: str = "secret") -> ScramClient:
    binding = ("tls-exporter", BOUND) if mechanism.endswith("-PLUS") else None
    return ScramClient(
        Credentials(str(ALICE.address), password), mechanism, binding, True
    )


class LoginCase(SynchronousTestCase):
    def begins(self, octets: bytes, beginning: bytes, what: object) -> None:
        self.assertTrue(octets.startswith(beginning), (what, octets))


class ExchangeTests(LoginCase):
    def test_every_cut(self) -> None:
        """A login succeeds wherever its lines are cut, with and without an initial
        response, and both sides have shown that they know the password."""
        for name, protocol in PROTOCOLS.items():
            for with_command in (True, False):
                for cut in range(1, 130):
                    client = alice()
                    talk = Talk(protocol, cut=cut)
                    answer = talk.log_in(client, with_command)
                    self.begins(answer, protocol.good, (name, cut))
                    self.assertTrue(client.verified)

    def test_each(self) -> None:
        """Every mechanism of SCRAM, strongest first in the list."""
        names = [name for name in MECHANISMS if name.startswith("SCRAM")]
        for name, protocol in PROTOCOLS.items():
            for mechanism in names:
                talk = Talk(protocol, names, bound=True)
                answer = talk.log_in(alice(mechanism))
                self.begins(answer, protocol.good, (name, mechanism))

    def test_pipelined(self) -> None:
        """What a client sends with its last line waits until the login is done."""
        after = {"smtp": b"NOOP", "imap": b"b NOOP", "pop3": b"NOOP"}
        for name, protocol in PROTOCOLS.items():
            client = alice()
            talk = Talk(protocol)
            first = talk.begin(client.name, client.initial() or b"", True)
            last = talk.respond(client.next(first))
            client.next(last)
            talk.conversation.send(b"\r\n" + after[name] + b"\r\n")
            lines = talk.conversation.received().split(b"\r\n")
            self.begins(lines[0], protocol.good, name)
            self.assertGreater(len(lines), 2)


class OfferTests(LoginCase):
    def test_h40_downgraded(self) -> None:
        """A client that was told of no -PLUS although there is one was lied to; where
        there is none it may say that it could."""
        credentials = Credentials(str(ALICE.address), "secret")
        for name, protocol in PROTOCOLS.items():
            lied = ScramClient(credentials, offered_plus=False)
            talk = Talk(protocol, bound=True)
            self.begins(talk.log_in(lied), protocol.bad, name)
            for offered, bound in ((("SCRAM-SHA-256",), True), (MECHANISMS, False)):
                right = ScramClient(credentials, offered_plus=False)
                talk = Talk(protocol, offered, bound)
                self.begins(talk.log_in(right), protocol.good, (name, offered))

    def test_no_passwords(self) -> None:
        """Where no mechanism says a password, the protocols' own commands do not, and
        do not say that they would."""
        only = ("SCRAM-SHA-256",)
        talk = Talk(PROTOCOLS["imap"], only)
        self.assertIn(b"LOGINDISABLED", talk.capabilities)
        self.assertIn(b"AUTH=SCRAM-SHA-256", talk.capabilities)
        self.begins(talk.say(b"a LOGIN alice@example.test secret"), b"a NO", "imap")
        self.begins(talk.log_in(alice()), b"a OK", "imap")
        talk = Talk(PROTOCOLS["pop3"], only)
        talk.conversation.send(b"CAPA\r\n")
        lines = talk.conversation.received().split(b"\r\n")
        self.assertNotIn(b"USER", lines)
        self.assertIn(b"SASL SCRAM-SHA-256", lines)
        self.begins(talk.say(b"USER alice@example.test"), b"-ERR [AUTH]", "pop3")
        self.begins(talk.say(b"PASS secret"), b"-ERR [AUTH]", "pop3")
        self.begins(talk.log_in(alice()), b"+OK", "pop3")
        talk = Talk(PROTOCOLS["smtp"], only)
        self.assertIn(b"250-AUTH SCRAM-SHA-256\r\n", talk.capabilities)
        self.begins(talk.say(b"AUTH PLAIN"), b"504 5.5.4", "smtp")


class HostileTests(LoginCase):
    def test_h40_cancelled(self) -> None:
        """A star ends the exchange at every step, also after the right password was
        shown: nobody is logged in, it is nobody's failure, and the next try works."""
        for name, protocol in PROTOCOLS.items():
            for steps in range(3):
                client = alice()
                talk = Talk(protocol)
                if steps == 0:
                    talk.say(protocol.begin + client.name.encode())
                else:
                    challenge = talk.begin(client.name, client.initial() or b"", True)
                    for _ in range(steps - 1):
                        challenge = talk.respond(client.next(challenge))
                self.begins(talk.answer, protocol.challenge.rstrip(), (name, steps))
                self.begins(talk.say(b"*"), protocol.cancelled, (name, steps))
                self.assertEqual(talk.throttle.delay_s("192.0.2.7"), 0)
                self.begins(talk.log_in(alice()), protocol.good, (name, steps))

    def test_h40_other_nonce(self) -> None:
        """The last message of another exchange, which was right there, fails."""
        for name, protocol in PROTOCOLS.items():
            client = alice()
            talk = Talk(protocol)
            first = talk.begin(client.name, client.initial() or b"", True)
            recorded = client.next(first)
            talk = Talk(protocol)
            talk.begin(client.name, client.initial() or b"", True)
            talk.respond(recorded)
            self.begins(talk.answer, protocol.bad, name)
            self.assertGreater(talk.throttle.delay_s("192.0.2.7"), 0)

    def test_h40_wrong(self) -> None:
        """A wrong password and an account that is none are answered alike."""
        for name, protocol in PROTOCOLS.items():
            answers = set()
            nobody = ScramClient(Credentials("nobody@example.test", "secret"))
            for client in (alice(password="wrong"), nobody):
                talk = Talk(protocol)
                answers.add(talk.log_in(client).replace(b"x-1", b""))
            (answer,) = answers
            self.begins(answer, protocol.bad, name)

    def test_h40_oversized(self) -> None:
        """A response past the longest line of SASL ends the connection."""
        for name, protocol in PROTOCOLS.items():
            talk = Talk(protocol)
            talk.say(protocol.begin + b"SCRAM-SHA-256")
            talk.conversation.send(b"A" * (MAX_LINE + 100))
            talk.conversation.settle()
            self.assertTrue(talk.conversation.closed, name)

    def test_h40_malformed(self) -> None:
        """What is not base64, or no message of the mechanism, at each step: refused;
        nobody is logged in, and the next try works."""
        for name, protocol in PROTOCOLS.items():
            for junk in (b"!", b"YQ", b"YQ==\x00", b"", b"YWJj"):
                for step in (1, 2):
                    client = alice()
                    talk = Talk(protocol)
                    if step == 1:
                        talk.say(protocol.begin + b"SCRAM-SHA-256")
                    else:
                        talk.begin(client.name, client.initial() or b"", True)
                    refused = talk.say(junk)
                    self.assertFalse(
                        refused.startswith((protocol.good, protocol.challenge)),
                        (name, junk, refused),
                    )
                    self.begins(talk.log_in(alice()), protocol.good, (name, junk))

    def test_h40_wrong_state(self) -> None:
        """Who is logged in cannot log in again; and a command in an exchange is a
        response, not a command."""
        for name, protocol in PROTOCOLS.items():
            talk = Talk(protocol)
            talk.log_in(alice())
            again = talk.say(protocol.begin + b"SCRAM-SHA-256")
            self.begins(again, protocol.again, name)
        for name, command in (
            ("smtp", b"MAIL FROM:<alice@example.test>"),
            ("imap", b"b LOGOUT"),
            ("pop3", b"QUIT"),
        ):
            talk = Talk(PROTOCOLS[name])
            talk.say(PROTOCOLS[name].begin + b"SCRAM-SHA-256")
            self.assertFalse(talk.say(command).startswith((b"2", b"b OK", b"+OK")))
            self.assertFalse(talk.conversation.closed, name)
