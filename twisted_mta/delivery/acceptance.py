"""Taking responsibility for a message, as one unit of work.

An L{Acceptance} holds all that can be known before the transaction, and is
itself the unit that a ledger runs: the content once, a placement per mailbox, a
queue row per next hop. It may run more than once and changes nothing but the
transaction. The intake commits one by itself; the queue lets the bounces that
an attempt causes run in the transaction that settles it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from twisted.logger import Logger

from twisted_mta.delivery.claim import Claim
from twisted_mta.delivery.history import Accepted, resent
from twisted_mta.delivery.text import one_line
from twisted_mta.errors import NoSuchAccount, Permanent
from twisted_mta.interfaces import (
    IContentWriter,
    ILedger,
    IQueue,
    IRouter,
    ITransaction,
    ITransactionalDelivery,
)
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Envelope, Origin
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.route import Route, ToAgent, ToMailbox
from twisted_mta.mail.submitted import Saved
from twisted_mta.mail.summary import Email, Summary, summarize

# Mailboxes and queue rows that take no longer than the reactor can wait: 50 us
# each.
_BRIEF_ROUTES = 8

# Mailboxes for some mail (RFC 6154).
JUNK, SENT = "\\Junk", "\\Sent"

# Recipients that the log's line of a message names, so that one line stays one.
_NAMED = 20


class Acceptance:
    """A message that is ready to be accepted.

    @param content: finished.
    @param prefix: header fields before the content, without Return-Path.
    @param saved: a copy for an account's mailbox for sent mail.
    @param claim: it may have been accepted before. Run as a unit of work, it says by
        which id, and then does nothing else.
    """

    __slots__ = (
        "_boxes",
        "_claim",
        "_content",
        "_envelope",
        "_hops",
        "_kept",
        "_own_prefix",
        "_prefix",
        "_queue",
        "_saved",
        "_store",
        "_summary",
    )

    def __init__(
        self,
        store: ITransactionalDelivery,
        queue: IQueue,
        envelope: Envelope,
        routes: Sequence[Route],
        content: IContentWriter,
        prefix: bytes,
        saved: Saved | None = None,
        claim: Claim | None = None,
    ) -> None:
        self._claim = claim
        self._store = store
        self._queue = queue
        self._envelope = envelope
        self._content = content
        self._prefix = prefix
        self._saved = saved
        # An account that the message reaches twice has it once.
        self._boxes: dict[int, Address] = {}
        hops: dict[ToAgent, None] = {}
        for route in routes:
            if isinstance(route, ToMailbox):
                self._boxes.setdefault(route.account, route.recipient)
            else:
                hops[route] = None
        if not routes:  # the content would be nobody's
            raise NoSuchAccount()
        self._hops = tuple(hops)
        self._own_prefix = return_path(envelope.sender) + prefix
        self._summary: Summary | None = None
        self._kept: Summary | None = None
        if self._boxes:
            self._summary = self._summarize()
        if saved is not None:
            self._kept = self._summarize(saved.blind)

    def _summarize(self, blind: bytes = b"") -> Summary:
        return summarize(
            self._own_prefix + blind,
            self._content.header(),
            self._content.structure(),
        )

    def __call__(self, transaction: ITransaction) -> int | None:
        """The unit of work."""
        return self.together(transaction, (self,))[0]

    def together(
        self, transaction: ITransaction, units: Sequence[Acceptance]
    ) -> Sequence[int | None]:
        """Several of them in as few statements as one, see L{ILedger.write}. All
        are for the same store and queue."""
        claims = [unit._claim for unit in units if unit._claim is not None]
        if not claims:
            self._take(transaction, units)
            return [None] * len(units)
        screened = iter(claims[0].screen(transaction, claims))
        before = [None if unit._claim is None else next(screened) for unit in units]
        new = [unit for unit, id in zip(units, before, strict=True) if id is None]
        if new:
            self._take(transaction, new)
        again = [
            resent(id, unit._envelope)
            for unit, id in zip(units, before, strict=True)
            if id is not None
        ]
        self._queue.history.happened(transaction, again)
        return before

    def _take(self, transaction: ITransaction, units: Sequence[Acceptance]) -> None:
        """Take responsibility for some of them."""
        contents = [unit._content for unit in units]
        taken = self._content.take_all(transaction, contents)
        deliveries: list[tuple[int, Email]] = []
        for content, unit in zip(taken, units, strict=True):
            deliveries += unit._deliveries(content)
        if deliveries:
            self._store.deliver(transaction, deliveries)
        self._queue.history.accepted(transaction, [unit._accepted() for unit in units])
        for content, unit in zip(taken, units, strict=True):
            if unit._hops:
                self._queue.enqueue(
                    transaction,
                    unit._envelope,
                    content,
                    len(unit._prefix) + unit._content.size,
                    unit._content.eight_bit,
                    unit._prefix,
                    unit._hops,
                )

    def _accepted(self) -> Accepted:
        """What the history says of it."""
        size = len(self._prefix) + self._content.size
        queued = [hop.recipient for hop in self._hops]
        return self._envelope, size, self._boxes.values(), queued

    def _deliveries(self, content: int) -> Sequence[tuple[int, Email]]:
        """What it places in mailboxes.

        @param content: the id of its content.
        """
        deliveries: list[tuple[int, Email]] = []
        if self._summary is not None:
            email = self._email(content, self._summary)
            if self._envelope.quarantined:
                email = email._replace(special_use=JUNK)
            deliveries += ((account, email) for account in self._boxes)
        if self._saved is not None and self._kept is not None:
            email = self._email(content, self._kept, self._saved.blind)
            email = email._replace(
                special_use=SENT, seen=True, received_at=self._envelope.received_at
            )
            deliveries.append((self._saved.account, email))
        return deliveries

    def _email(self, content: int, summary: Summary, blind: bytes = b"") -> Email:
        prefix = self._own_prefix + blind
        return Email(
            content=content,
            prefix=prefix,
            size=len(prefix) + self._content.size,
            received_at=self._envelope.released_at,
            summary=summary,
        )

    @property
    def envelope(self) -> Envelope:
        """The message's."""
        return self._envelope

    async def octets(self) -> bytes:
        """The message without what was put before it; of what this server wrote."""
        return await self._content.read(0, self._content.size)

    @property
    def id(self) -> str:
        """The message's id, as people read it."""
        return to_text(self._envelope.id)

    @property
    def brief(self) -> bool:
        """It takes but a few statements."""
        return len(self._boxes) + len(self._hops) <= _BRIEF_ROUTES

    def close(self) -> None:
        """Forget the content, unless a commit took it. For whoever made the
        content, or was given this along with it."""
        self._content.abort()

    def log_again(self, log: Logger, before: int) -> None:
        """Say that it came again, and is not accepted anew.

        @param before: the id by which it was accepted.
        """
        log.info(
            "{id}: from=<{sender}>, via={via}, size={size}, status=already accepted",
            id=to_text(before),
            sender=_shown(self._envelope.sender),
            via=_via(self._envelope.origin),
            size=len(self._prefix) + self._content.size,
        )

    def log(self, log: Logger) -> None:
        """Say that it was accepted: where from, and where to.

        The line is made here, and the event carries it whole beside the facts:
        Twisted takes 50 us to put six fields into a format, and this line is
        written for every message.
        """
        envelope = self._envelope
        line = (
            f"{self.id}: from=<{_shown(envelope.sender)}>,"
            f" via={_via(envelope.origin)},"
            f" size={len(self._prefix) + self._content.size},"
            f" mailboxes={_list(self._boxes.values())},"
            f" queued={_list(hop.recipient for hop in self._hops)}, status=accepted"
        )
        log.info("{line}", line=line, id=self.id, envelope=envelope)


@lru_cache(maxsize=256)
def _via(origin: Origin) -> str:
    """How a client's messages came, for the log."""
    via = origin.protocol
    if origin.host:
        via += f"[{origin.host}], helo={one_line(origin.helo)}"
    return f"{via}, login={one_line(origin.login)}" if origin.login else via


def return_path(sender: Address | None) -> bytes:
    """The trace field of the last server (RFC 5321 4.4)."""
    return b"Return-Path: <%b>\r\n" % _shown(sender).encode()


def _shown(address: Address | None) -> str:
    if address is None:
        return ""
    text = str(address)
    # Nearly every address: 0.1 us.
    return text if text.isascii() and text.isprintable() else one_line(text)


def _list(addresses: Iterable[Address]) -> str:
    """C{<a@x>,<b@x>}, cut when long; C{-} for none."""
    named = [f"<{_shown(address)}>" for address in addresses]
    more = [f"and {len(named) - _NAMED} more"] if len(named) > _NAMED else []
    return ",".join(named[:_NAMED] + more) or "-"


class OwnMail:
    """What this server itself writes: bounces, warnings, reports.

    Its recipients are routed like any others, but those that do not exist are
    dropped: nobody could be told.
    """

    _log = Logger()

    def __init__(
        self, ledger: ILedger, store: ITransactionalDelivery, router: IRouter
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._router = router

    async def prepare(
        self, queue: IQueue, envelope: Envelope, octets: bytes
    ) -> Acceptance | None:
        """Make a message ready to be accepted.

        @return: C{None} if no recipient exists. Whoever has it closes it.
        @raise Temporary: where it goes cannot be said now.
        """
        routes: list[Route] = []
        for recipient in envelope.recipients:
            try:
                resolved = await self._router.route(recipient, envelope.mailing)
                if resolved.returns and envelope.sender is not None:
                    raise NoSuchAccount("Only bounces go to a return address")
                routes += resolved.routes
            except Permanent as error:
                self._log.warn(
                    "{id}: to=<{to}>, status=dropped ({why})",
                    id=to_text(envelope.id),
                    to=_shown(recipient),
                    why=error.text,
                )
        if not routes:
            return None
        content = self._ledger.content()
        try:
            content.write(octets)
            await content.finish()
            return Acceptance(self._store, queue, envelope, routes, content, b"")
        except BaseException:
            content.abort()
            raise
