"""One client: its connection, who it is, and the mailbox it has selected.

This is what commands work on. It holds the session's state and says when the
mailbox and the view of it are brought together; it knows no command. It trusts
the engine for syntax and the store for truth; a hint from the store that never
comes costs freshness until the next NOOP and nothing else.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.defer import Deferred

from twisted_mta import errors
from twisted_mta.interfaces import IAccount, IAuthenticator, IMailbox, IMailStore
from twisted_mta.mail.account import Account
from twisted_mta.mail.uidset import UidSet
from twisted_mta.net.stream import SHUTTING_DOWN, TIMED_OUT, Closed, Stream
from twisted_mta.servers.imap.errors import Leave, Refused
from twisted_mta.servers.imap.memo import Memo
from twisted_mta.servers.imap.view import OutOfRange, View
from twisted_mta.wire.imap import replies
from twisted_mta.wire.imap.commands import State
from twisted_mta.wire.imap.engine import ImapServerEngine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twisted.internet.interfaces import IReactorTime


# Messages that a view takes up at once, a few milliseconds.
_AT_ONCE = 20_000

# Octets written, and commands done, until the client must have read most of it
# and others have had their turn: a client that sends and never reads (HOSTILE
# 37) holds no more than this and what one step of work writes.
_UNREAD_OCTETS = 64 * 1024
_COMMANDS_IN_A_ROW = 64


@dataclass(frozen=True, slots=True)
class ImapSettings:
    """How a listener speaks IMAP. What a client may send in commands is in
    L{twisted_mta.wire.imap.limits}.

    @ivar hostname: in the greeting.
    @ivar plaintext_login: passwords may come without TLS.
    @ivar append_octets: the largest message that APPEND takes. mox: 100 MB.
    @ivar idle_s: silence of a client that logged in, IDLE included. RFC 3501
        5.4: at least 30 minutes.
    @ivar login_idle_s: the same before. Dovecot: 1 minute.
    @ivar login_total_s: how long a login may take in all. Dovecot: 3 minutes.
    """

    hostname: str
    plaintext_login: bool = False
    append_octets: int = 104_857_600
    idle_s: float = 1800
    login_idle_s: float = 60
    login_total_s: float = 180


class Answer(NamedTuple):
    """How a command ended.

    @ivar code: a response code without brackets, or empty.
    """

    text: str
    code: bytes = b""
    condition: bytes = b"OK"


class Changed:
    """Posted to a client that idles: its mailbox may have news."""

    __slots__ = ()


CHANGED = Changed()


class Selected:
    """The mailbox that is selected.

    @ivar read_only: by EXAMINE.
    @ivar stale: there may be news that the view does not have.
    """

    __slots__ = ("_cancel", "_client", "mailbox", "read_only", "stale", "view")

    def __init__(self, client: Client, mailbox: IMailbox, read_only: bool) -> None:
        self.mailbox = mailbox
        self.read_only = read_only
        self.view = View()
        self.stale = True
        self._client = client
        self._cancel = mailbox.watch(self._hinted)

    def close(self) -> None:
        """It is selected no more."""
        self._cancel()

    async def refresh(self) -> None:
        """Bring what has happened into the view. Nothing is told yet."""
        self.stale = False
        try:
            changes = await self.mailbox.changes(self.view.modseq)
            came = False
            for place, piece in enumerate(changes.pieces(_AT_ONCE)):
                if place:
                    await self._client.breathe()
                came = self.view.apply(piece) or came
            if came:
                await self._claim_recent()
        except BaseException:
            self.stale = True
            raise

    async def _claim_recent(self) -> None:
        mailbox, view = self.mailbox, self.view
        if self.read_only:
            lowest = await mailbox.recent()
        else:
            lowest = await mailbox.claim_recent()
            # What came before the claim is claimed, too: have it in the view.
            view.apply(await mailbox.changes(view.modseq))
        view.mark_recent(lowest)

    def _hinted(self) -> None:
        self.stale = True
        self._client.hinted()


class Client:
    """One client of the server.

    @ivar login: who logged in.
    @ivar account: its mailboxes.
    @ivar selected: the mailbox it works on.
    @ivar leaving: the session ends with this command.
    @ivar idling: it waits in IDLE to be told what is new.
    @ivar sending: a literal or a line is under way; words would be taken for a
        part of it.
    @ivar commands: how many it gave.
    @ivar octets: how many it was sent.
    @ivar memo: what was rendered for all clients lately.
    """

    __slots__ = (
        "_hinted",
        "_in_a_row",
        "_reactor",
        "_unread",
        "account",
        "authenticator",
        "commands",
        "engine",
        "idling",
        "leaving",
        "login",
        "memo",
        "octets",
        "selected",
        "sending",
        "settings",
        "store",
        "stream",
        "tls",
    )

    def __init__(
        self,
        reactor: IReactorTime,
        stream: Stream,
        engine: ImapServerEngine,
        settings: ImapSettings,
        authenticator: IAuthenticator,
        store: IMailStore,
        tls: object | None,
        memo: Memo,
    ) -> None:
        self.stream = stream
        self.engine = engine
        self.settings = settings
        self.authenticator = authenticator
        self.store = store
        self.tls = tls
        self.memo = memo
        self.login: Account | None = None
        self.account: IAccount | None = None
        self.selected: Selected | None = None
        self.leaving = False
        self.idling = False
        self.sending = False
        self.commands = 0
        self.octets = 0
        self._reactor = reactor
        self._hinted = False
        self._unread = 0
        self._in_a_row = 0

    # --- state ---

    @property
    def state(self) -> State:
        """RFC 3501 3."""
        if self.account is None:
            return State.NOT_AUTHENTICATED
        return State.SELECTED if self.selected is not None else State.AUTHENTICATED

    @property
    def may_log_in(self) -> bool:
        """Whether a password may be sent on this connection."""
        return self.stream.secure or self.settings.plaintext_login

    def mailboxes(self) -> IAccount:
        """The account; only for commands of the authenticated state."""
        if self.account is None:
            raise Refused("Log in first", condition=b"BAD")
        return self.account

    def opened(self) -> Selected:
        """The selected mailbox; only for commands of the selected state."""
        if self.selected is None:
            raise Refused("Select a mailbox first", condition=b"BAD")
        return self.selected

    def writable(self) -> Selected:
        """The selected mailbox, to be changed."""
        selected = self.opened()
        if selected.read_only:
            raise Refused("The mailbox is read-only", b"READ-ONLY")
        return selected

    def positions(self, numbers: UidSet, uid: bool) -> Sequence[int]:
        """The messages that a command names (L{View.positions})."""
        try:
            return self.opened().view.positions(numbers, uid)
        except OutOfRange as error:
            raise Refused(str(error), condition=b"BAD")

    def unselect(self) -> None:
        """Leave the mailbox as it is."""
        selected, self.selected = self.selected, None
        if selected is not None:
            selected.close()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._reactor.seconds()

    # --- input and output ---

    def write(self, octets: bytes) -> None:
        """Send."""
        self.octets += len(octets)
        self._unread += len(octets)
        self.stream.write(octets)

    async def write_lines(self, lines: Iterable[bytes]) -> None:
        """Send many lines, no faster than the client reads."""
        for line in lines:
            self.write(line)
            if self._unread > _UNREAD_OCTETS:
                await self.breathe()

    async def next_event(self) -> object:
        """The next event that is the client's, or L{CHANGED} while it idles.

        @raise Leave: the connection, its time or the server has come to an end.
        """
        event = await self.stream.next_event()
        if isinstance(event, Closed):
            raise Leave()
        if event is TIMED_OUT:
            raise Leave(replies.bye("Logged out for inactivity"))
        if event is SHUTTING_DOWN:
            raise Leave(replies.bye("The server is shutting down", b"UNAVAILABLE"))
        if event is CHANGED:
            self._hinted = False
        return event

    async def pace(self) -> None:
        """Between two commands: L{breathe} when it is time to."""
        self._in_a_row += 1
        if self._unread > _UNREAD_OCTETS or self._in_a_row >= _COMMANDS_IN_A_ROW:
            await self.breathe()

    async def breathe(self) -> None:
        """Between two pieces of work: let others have their turn, and wait
        until the client reads.

        @raise Leave: it never will.
        """
        self._unread = self._in_a_row = 0
        if not await self.stream.drain():
            raise Leave()
        turn: Deferred[None] = Deferred()
        self._reactor.callLater(0, turn.callback, None)
        await turn

    # --- the mailbox and the view ---

    def hinted(self) -> None:
        """The selected mailbox may have news. Only who idles must know now."""
        if self.idling and not self._hinted:
            self._hinted = True
            self.stream.post(CHANGED)

    async def look(self) -> None:
        """Between two pieces of work: see what has happened in the selected
        mailbox. Nothing is told yet.

        @raise NoSuchMailbox: it was deleted.
        """
        selected = self.opened()
        if selected.stale:
            with suppress(errors.Temporary):  # still stale then
                await selected.refresh()

    async def sync(self, expunges: bool, with_uid: bool = False) -> None:
        """Tell what is new in the selected mailbox.

        @param expunges: see L{View.tell}.
        @raise Leave: the mailbox was deleted (RFC 2180 3.3).
        """
        selected = self.selected
        if selected is None:
            return
        if selected.stale:
            try:
                await selected.refresh()
            except errors.NoSuchMailbox:
                raise Leave(replies.bye("The selected mailbox was deleted"))
            except errors.MailError:
                pass  # still stale: it is told at the next occasion
        if selected.view.has_news():
            keywords = not selected.read_only
            await self.write_lines(selected.view.tell(expunges, with_uid, keywords))
            while selected.view.untold:
                await self.breathe()
                some = selected.view.tell(expunges, with_uid, keywords)
                await self.write_lines(some)
