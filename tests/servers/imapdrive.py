"""What the tests of IMAP sessions share: a store, its people, conversations."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_mta.auth.exchange import Exchanges
from twisted_mta.errors import AuthenticationFailed
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address
from twisted_mta.mail.channel import Channel
from twisted_mta.net.stream import Stream
from twisted_mta.servers.imap.session import ImapSession, ImapSettings
from twisted_mta.store.memory import MemoryStore
from twisted_mta.testing.transcript import Conversation
from twisted_mta.wire.imap.engine import ImapServerEngine
from twisted_mta.wire.imap.limits import ImapLimits

ALICE = Account(1, Address("alice", "example.test"))
BOB = Account(2, Address("bob", "example.test"))
TLS = object()

PLAIN = (
    b"From: Bob <bob@example.test>\r\n"
    b"To: alice@example.test\r\n"
    b"Subject: lunch\r\n"
    b"Date: Mon, 7 Feb 1994 21:52:25 -0800\r\n"
    b"Message-ID: <1@example.test>\r\n"
    b"\r\n"
    b"At noon?\r\n"
)

# 2024-01-02 03:04:05 UTC
RECEIVED_AT = 1_704_164_645.0


class Passwords(Exchanges):
    """Everybody's password is C{secret}, if they are known.

    @ivar asked: names and hosts that were checked.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def authenticate(self, name: str, password: str, channel: Channel) -> Account:
        self.asked.append((name, channel.host))
        for account in (ALICE, BOB):
            if name == account.address.local and password == "secret":
                return account
        raise AuthenticationFailed()


class Server:
    """A store with sessions on it, all on one clock."""

    def __init__(self, store=None, settings=None, limits=None) -> None:
        self.clock = Clock()
        self.clock.advance(RECEIVED_AT)
        self.store = MemoryStore() if store is None else store
        self.settings = settings or ImapSettings("mx.example.test", True)
        self.limits = limits or ImapLimits()
        self.passwords = Passwords()

    def connect(self, tls: object | None = TLS, secure: bool = False) -> Conversation:
        """A client that has connected, its greeting unread."""

        def make(clock: Clock) -> Stream:
            def session(stream: Stream):
                stream.secure = secure
                return ImapSession(
                    clock, stream, self.settings, self.passwords, self.store, tls
                ).run()

            return Stream(clock, ImapServerEngine(self.limits), session, "imap-1")

        return Conversation(make, self.clock)

    def login(self, name: str = "alice") -> Conversation:
        """A client that has logged in."""
        client = self.connect()
        client.received()
        client.send(b"login LOGIN %b secret\r\n" % name.encode())
        if b"login OK" not in client.received():
            raise AssertionError("no login")
        return client

    def select(self, mailbox: str = "INBOX", command: str = "SELECT") -> Conversation:
        """A client that has selected a mailbox."""
        client = self.login()
        client.send(f"select {command} {mailbox}\r\n".encode())
        if b"select OK" not in client.received():
            raise AssertionError("not selected")
        return client

    def account(self, account: Account = ALICE):
        """An account's mailboxes."""
        return now(self.store.account(account))

    def put(self, *messages: bytes, mailbox="INBOX", flags=(), prefix=b"", at=None):
        """Put messages into alice's mailbox."""
        account = self.account()
        for octets in messages:
            content = account.content()
            content.write(octets)
            now(content.finish())
            received_at = RECEIVED_AT if at is None else at
            appended = account.append(
                mailbox, content, frozenset(flags), received_at, prefix
            )
            now(appended)


def now(awaitable):
    """The result of what does not have to wait."""
    results = []
    Deferred.fromCoroutine(awaitable).addBoth(results.append)
    (result,) = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result
