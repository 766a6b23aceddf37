"""An SMTP session on a transport in memory, with all it stands on as small as
it can be; transcripts are lines of C{C:} and C{S:}."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_mta.auth.exchange import Exchanges
from twisted_mta.errors import (
    AuthenticationFailed,
    LedgerFull,
    MailError,
    NoSuchAccount,
    OverQuota,
)
from twisted_mta.interfaces import (
    IAuthenticator,
    ICallout,
    IContentWriter,
    IDirectory,
    IIntake,
    IPolicy,
    IRouter,
)
from twisted_mta.mail import header
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.channel import Channel
from twisted_mta.mail.confirmation import Confirmation
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.mime import Structure, scan
from twisted_mta.mail.route import (
    NO_MAILING,
    Mailing,
    Resolved,
    Route,
    ToAgent,
    ToMailbox,
)
from twisted_mta.mail.submitted import Saved, Submitted
from twisted_mta.mail.verdict import Progress, Verdict
from twisted_mta.net.stream import Stream
from twisted_mta.policy.chain import Chain
from twisted_mta.servers.smtp.session import SmtpSession
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.wire.smtp.server import BareLineEnds, SmtpLimits, SmtpServerEngine

HOST = "mx.example.test"
ALICE = Account(1, split("alice@example.test"))
BOB = split("bob@example.test")
START = 1_000_000_000.0  # a Sunday in 2001


@implementer(IContentWriter)
class Content:
    """Content in memory."""

    def __init__(self, fails: MailError | None = None) -> None:
        self.octets = b""
        self.aborted = False
        self.finished = False
        self._fails = fails

    @property
    def size(self) -> int:
        return len(self.octets)

    @property
    def eight_bit(self) -> bool:
        return not self.octets.isascii()

    async def read(self, offset: int, most: int) -> bytes:
        return self.octets[offset : offset + most]

    def write(self, octets: bytes) -> None:
        if self._fails is not None:
            raise self._fails
        assert not self.aborted
        self.octets += octets

    async def finish(self) -> None:
        self.finished = True

    def header(self) -> bytes:
        return self.octets[: header.body_start(self.octets)]

    def structure(self) -> Structure:
        return scan(self.octets)

    def digest(self) -> bytes:
        return sha256(self.octets).digest()

    def take(self, transaction: object) -> int:
        raise AssertionError("a session takes nothing")

    def take_all(self, transaction: object, contents: object) -> list[int]:
        raise AssertionError("a session takes nothing")

    def abort(self) -> None:
        self.aborted = True


@dataclass
class Accepted:
    """A message that the intake was given."""

    envelope: Envelope
    routes: Sequence[Route]
    octets: bytes
    prefix: bytes
    confirmed: tuple[Confirmation, ...] = ()
    saved: Saved | None = None
    fingerprint: bytes = b""


@implementer(IIntake)
class Intake:
    """Remembers; waits or refuses when told to. C{before} are the ids of what was
    accepted before; C{promises} is
    what clients were told, C{told} what they have seen of it."""

    def __init__(self) -> None:
        self.before: dict[bytes, int] = {}
        self.told: list[tuple[bytes, int, bool]] = []
        self.promises: list[tuple[bytes, int, bool]] = []
        self.accepted: list[Accepted] = []
        self.contents: list[Content] = []
        self.refusal: Exception | None = None
        self.write_fails: MailError | None = None
        self.hold: Deferred[None] | None = None
        self.room: int | None = None
        self.started: list[tuple[str, bool]] = []
        self.not_for: set[Address] = set()

    def need(self, octets: int) -> None:
        if self.room is not None and octets >= self.room:
            raise LedgerFull()

    def content(self) -> Content:
        self.contents.append(Content(self.write_fails))
        return self.contents[-1]

    async def accept(
        self,
        envelope: Envelope,
        routes: Sequence[Route],
        content: Content,
        prefix: bytes,
        confirmed: Sequence[Confirmation] = (),
        saved: Saved | None = None,
        fingerprint: bytes = b"",
    ) -> int:
        assert content.finished
        if self.hold is not None:
            await self.hold
        if self.refusal is not None:
            raise self.refusal
        if self.not_for & set(envelope.recipients):
            raise OverQuota()
        self.accepted.append(
            Accepted(
                envelope,
                tuple(routes),
                content.octets,
                prefix,
                tuple(confirmed),
                saved,
                fingerprint,
            )
        )
        return self.before.get(fingerprint, envelope.id)

    def promised(self, fingerprint: bytes, id: int, heard: Callable[[], bool]) -> None:
        self.promises.append((fingerprint, id, heard()))

    def seen(self, fingerprint: bytes, id: int) -> None:
        self.told.append((fingerprint, id, True))

    def unseen(self, fingerprint: bytes, id: int) -> None:
        self.told.append((fingerprint, id, False))

    async def start(self, domain: str, below: bool = False) -> int:
        self.started.append((domain, below))
        return 3 if domain == "example.test" else 0

    async def submit(self, envelope: Envelope, octets: bytes) -> None:
        raise AssertionError("a session writes no mail")


@implementer(IRouter)
class Router:
    """example.test is here, with alice and bob; all else is elsewhere."""

    def __init__(self) -> None:
        self.asked: list[Address] = []
        self.mailings: list[Mailing] = []
        self.fails: Exception | None = None

    async def route(
        self, recipient: Address, mailing: Mailing = NO_MAILING
    ) -> Resolved:
        self.asked.append(recipient)
        self.mailings.append(mailing)
        if self.fails is not None:
            raise self.fails
        if recipient.domain not in ("example.test", ""):
            return Resolved(False, (ToAgent("smtp", recipient.domain, recipient),))
        if recipient.local.lower() not in ("alice", "bob", "jürgen", "postmaster"):
            raise NoSuchAccount()
        return Resolved(True, (ToMailbox(1, recipient),))


@implementer(IDirectory)
class Directory:
    """Alice may send as alice and as sales."""

    def __init__(self) -> None:
        self.sent = self.to = 0

    async def account(self, address: Address) -> Account | None:
        return ALICE if address == ALICE.address else None

    async def aliases(self, address: Address) -> Sequence[Address]:
        if address.local not in ("team", "büro"):
            return ()
        if address.local == "büro":
            return (split("jürgen@example.test"),)
        return split("bob@example.test"), split("dave@elsewhere.test")

    async def submitted(
        self, account: Account, now: float, messages: int = 0, recipients: int = 0
    ) -> Submitted:
        self.sent += messages
        self.to += recipients
        return Submitted(self.sent, self.sent, self.to, self.to)

    async def may_send_as(self, account: Account, address: Address) -> bool:
        return address.key in ("alice@example.test", "sales@example.test")


class Authenticator(Exchanges):
    """Alice's password is C{secret}."""

    def __init__(self) -> None:
        self.tried: list[tuple[str, str, str]] = []
        self.account = ALICE

    async def authenticate(self, name: str, password: str, channel: Channel) -> Account:
        self.tried.append((name, password, channel.host))
        if (name, password) == ("alice@example.test", "secret"):
            return self.account
        raise AuthenticationFailed()


@implementer(IPolicy)
class Policy:
    """Objects where it was told to, and remembers what it was asked."""

    name = "test"

    def __init__(self, verdicts: Mapping[str, Verdict | Exception]) -> None:
        self.verdicts = verdicts
        self.asked: dict[str, Progress] = {}

    async def _say(self, stage: str, progress: Progress) -> Verdict | None:
        self.asked[stage] = progress
        verdict = self.verdicts.get(stage)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    async def connect(self, progress: Progress) -> Verdict | None:
        return await self._say("connect", progress)

    async def helo(self, progress: Progress) -> Verdict | None:
        return await self._say("helo", progress)

    async def mail(self, progress: Progress) -> Verdict | None:
        return await self._say("mail", progress)

    async def rcpt(self, progress: Progress) -> Verdict | None:
        return await self._say("rcpt", progress)

    async def message(self, progress: Progress) -> Verdict | None:
        return await self._say("message", progress)


class TlsHandle:
    """What pyOpenSSL says of a connection."""

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"

    def get_peer_certificate(self) -> None:
        return None


class Transport(StringTransport):
    """A transport whose TLS is a word."""

    tls: object = None

    def startTLS(self, context: object) -> None:
        self.tls = context

    def getHandle(self) -> TlsHandle:
        return TlsHandle()

    def abortConnection(self) -> None:
        self.loseConnection()


@dataclass
class Peer:
    """The other end of a session; a client's hands and eyes."""

    settings: SmtpSettings = field(default_factory=lambda: SmtpSettings(HOST))
    intake: Intake = field(default_factory=Intake)
    router: Router = field(default_factory=Router)
    directory: Directory = field(default_factory=lambda: Directory())
    authenticator: Authenticator | None = None
    policy: Policy | None = None
    callout: ICallout | None = None
    tls: object | None = None
    implicit_tls: bool = False
    limits: SmtpLimits = field(default_factory=SmtpLimits)
    bare: BareLineEnds = BareLineEnds.REFUSE

    def __post_init__(self) -> None:
        for interface, provider in (
            (IIntake, self.intake),
            (IRouter, self.router),
            (IDirectory, self.directory),
            (IContentWriter, Content()),
            (IAuthenticator, self.authenticator),
            (IPolicy, self.policy),
            (ICallout, self.callout),
        ):
            if provider is not None:
                verifyObject(interface, provider)
        self.clock = Clock()
        self.clock.advance(START)
        self.transport = Transport()
        self.ended = False
        self.stream = Stream(
            self.clock,  # type: ignore[arg-type]
            SmtpServerEngine(self.limits, self.bare),
            self._session,
            "smtp-1",
            tls="context" if self.implicit_tls else None,
            on_end=self._ended,
        )
        self.stream.makeConnection(self.transport)

    async def _session(self, stream: Stream) -> None:
        await SmtpSession(
            stream,
            self.settings,
            self.clock,  # type: ignore[arg-type]
            self.router,
            self.intake,
            self.directory,
            self.authenticator,
            Chain(self.clock, [self.policy]) if self.policy else None,  # type: ignore[arg-type]
            self.tls,
            callout=self.callout,
        ).run()

    def _ended(self, stream: Stream) -> None:
        self.ended = True

    def heard(self) -> list[str]:
        """The lines that came since it was asked last."""
        octets = self.transport.value()
        self.transport.clear()
        return octets.decode().splitlines()

    def send(self, octets: bytes) -> list[str]:
        """Say octets.

        @return: the lines of the answer.
        """
        self.stream.dataReceived(octets)
        return self.heard()

    def say(self, line: str) -> str:
        """Say a line.

        @return: the answer, lines joined by a line feed.
        """
        return "\n".join(self.send(line.encode() + b"\r\n"))

    def handshake(self) -> None:
        """Finish the TLS handshake."""
        self.stream.handshakeCompleted()

    def leave(self) -> None:
        """Cut the connection."""
        self.stream.connectionLost(Failure(ConnectionLost()))

    @property
    def closed(self) -> bool:
        return bool(self.transport.disconnecting)


def mx(**settings: Any) -> Peer:
    """A client of a mail exchanger that has read the greeting and said EHLO."""
    peer = Peer(replace(SmtpSettings(HOST, listener="mx"), **settings))
    peer.say("EHLO client.example")
    peer.heard()
    return peer


def submission(account: Account = ALICE, **settings: Any) -> Peer:
    """A client of a submission server, logged in as alice."""
    authenticator = Authenticator()
    authenticator.account = account
    peer = Peer(
        replace(SmtpSettings(HOST, submission=True, plaintext_login=True), **settings),
        authenticator=authenticator,
        bare=BareLineEnds.NORMALISE,
    )
    peer.say("EHLO client.example")
    assert peer.say("AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=").startswith(
        "235"
    ), "login"
    return peer


class SmtpCase(SynchronousTestCase):
    """Tests with transcripts."""

    def play(self, peer: Peer, transcript: str) -> None:
        """Say the lines of C{C:}, and compare what is heard with those of
        C{S:}, of which each is the beginning of a line."""
        said: list[str] = []
        wanted: list[str] = []

        def compare() -> None:
            if said:
                heard = peer.send("".join(f"{line}\r\n" for line in said).encode())
                self.compare(heard, wanted, said)
                said.clear()
                wanted.clear()

        for row in filter(str.strip, transcript.splitlines()):
            who, _, line = row.strip().partition(":")
            line = line[1:]
            if who == "C":
                if wanted:
                    compare()
                said.append(line)
            else:
                wanted.append(line)
        compare()

    def compare(self, heard: list[str], wanted: list[str], said: list[str]) -> None:
        cut = [h[: len(w)] for h, w in zip(heard, wanted, strict=False)]
        if cut != wanted or len(heard) != len(wanted):
            self.fail(f"said {said}, heard {heard}, wanted {wanted}")
