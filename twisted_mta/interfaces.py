"""The seams: what each part of the server asks of another, and what it promises.

Packages of floor 3 (store, auth, policy, delivery, servers) meet only here.
Values that go through a seam are in L{twisted_mta.mail}. What returns an
awaitable is an C{async def} as a rule. Errors are those of
L{twisted_mta.errors}: L{Temporary <twisted_mta.errors.Temporary>} unless known
to be permanent; anything else that is raised is a bug.
"""

from __future__ import annotations

from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, TypeVar

from zope.interface import Attribute, Interface

from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address
from twisted_mta.mail.channel import Channel
from twisted_mta.mail.confirmation import Confirmation
from twisted_mta.mail.count import Count, Tally
from twisted_mta.mail.criterion import Criterion, Found
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.filter import Filter
from twisted_mta.mail.history import Event, Finished, Story
from twisted_mta.mail.job import Job, Page, Parked, Waiting
from twisted_mta.mail.lookup import Exchange, Located
from twisted_mta.mail.mime import Structure
from twisted_mta.mail.placement import (
    Appended,
    Changes,
    Copied,
    FlagChange,
    MailboxInfo,
    MailboxStatus,
    Message,
    Part,
)
from twisted_mta.mail.route import (
    NO_MAILING,
    Mailing,
    Outcome,
    Resolved,
    Route,
    ToAgent,
)
from twisted_mta.mail.standing import Frozen, Rule
from twisted_mta.mail.submitted import Saved, Submitted
from twisted_mta.mail.summary import Email
from twisted_mta.mail.suppressed import Reason, Suppressed
from twisted_mta.mail.tlsa import Tlsa
from twisted_mta.mail.tlsreport import Failure, Policy
from twisted_mta.mail.verdict import Judgement, Progress, Verdict

T = TypeVar("T")

SqlValue = None | int | float | str | bytes
Cancel = Callable[[], None]


# --- the ledger -------------------------------------------------------------


class ITransaction(Interface):
    """One transaction, in the hands of a unit of work."""

    def execute(sql: str, values: Sequence[SqlValue] = ()) -> Iterator[tuple[Any, ...]]:
        """Run one statement of the portable subset, C{?} for values.

        @return: the rows, to be read before the next statement.
        """

    def executemany(sql: str, rows: Sequence[Sequence[SqlValue]]) -> None:
        """Run one statement for many rows of values."""

    def changed(topic: str) -> None:
        """After the commit, tell whoever L{watches <ILedger.watch>} the topic.
        A unit that is rolled back tells nobody."""


class ILedger(Interface):
    """Durable transactions. What a unit of work raises is raised to the caller,
    and nothing of that unit is kept."""

    name: str = Attribute(
        "of this process at this ledger; no other has it or ever had it"
    )

    def write(unit: Callable[[ITransaction], T], brief: bool = False) -> Awaitable[T]:
        """Run a unit of work and commit it durably: once the caller has
        the result, it survives a power cut.

        The unit runs together with others in one commit, in another thread as a
        rule. It may run more than once (another unit of the group failed), so it
        changes nothing but the transaction.

        @param unit: if it is an object with a method C{together(transaction,
            units)}, units of its class that wait side by side are run by one call
            of it, which returns their results in order: what many of them
            insert becomes one statement. It must come to the same as one after
            the other, and raise if one of them would: then each is run by itself.

        @param brief: it is a few statements by key: 100 us, not milliseconds.
            It may then run in the reactor's thread, which spares both threads
            many changes from one to the other.

        @raise LedgerUnavailable: nothing was committed.
        @raise LedgerFull: nothing was committed.
        """

    def read(query: Callable[[ITransaction], T]) -> Awaitable[T]:
        """Run a query on one consistent snapshot, in another thread."""

    def lookup(query: Callable[[ITransaction], T]) -> Awaitable[T]:
        """Run a query of a few rows by key; one statement as a rule, since each
        sees a state of the ledger of its own. A ledger in this machine's memory
        answers at once, without a thread."""

    def need(octets: int, sparing: bool = False) -> None:
        """Something of this size is about to be stored. Asked before new mail is
        taken, so that the last room on the disk is left to what makes room;
        what this server itself has to write does not ask.

        @param sparing: it takes hardly any room, and may come closer to the end.
        @raise LedgerFull: there is no room for it now.
        """

    def content() -> IContentWriter:
        """A place for new content."""

    def stored(content: int, size: int) -> IContent:
        """Content that a transaction has taken.

        @param content: what L{IContentWriter.take} returned.
        """

    def release(transaction: ITransaction, content: int) -> None:
        """Within a transaction: one row less refers to this content. When no
        mailbox and no queue row does, it is collected."""

    def watch(topic: str, callback: Callable[[], None]) -> Cancel:
        """Call back, in the reactor's thread, after each commit that changed
        the topic. A hint: it says nothing of what changed, several may come as
        one, and after a crash of another process none may come."""

    def inherit(unit: Callable[[ITransaction, str], None]) -> Awaitable[Sequence[str]]:
        """Take over what stands in the names of processes that died: a unit of
        work for each, which is given the name. A name comes once, to one process;
        again only if that fails or dies itself.

        @return: the names.
        @raise LedgerUnavailable: who is there cannot be read.
        """

    def lives(name: str) -> bool:
        """Whether the process of a L{name} has the ledger open. May be asked within
        a unit of work.

        @raise LedgerUnavailable: it cannot be known.
        """


class IContent(Interface):
    """The octets of a message as it came, without the prefix."""

    size: int = Attribute("octets")

    def read(offset: int, most: int) -> Awaitable[bytes]:
        """Up to C{most} octets from C{offset}; fewer only at the end.

        @raise NoSuchMessage: it was collected.
        """


class IContentWriter(IContent):
    """Content while it arrives. Memory stays flat whatever the size: small
    content is held, large content goes to a file. Readable once finished."""

    eight_bit: bool = Attribute("an octet above 127 was written")

    def write(octets: bytes) -> None:
        """Append octets.

        @raise LedgerFull: no space is left; abort it.
        """

    def finish() -> Awaitable[None]:
        """All is written: make what has a file of its own durable.

        @raise LedgerUnavailable: it could not be; it was aborted.
        """

    def header() -> bytes:
        """Once finished: the header block, its closing empty line included,
        cut after 2 MiB."""

    def structure() -> Structure:
        """Once finished: the MIME structure."""

    def digest() -> bytes:
        """Once finished: SHA-256 of the octets."""

    def take(transaction: ITransaction) -> int:
        """Within a unit of work, once finished: make the content a row of the
        ledger, to be referred to by others. May be called again by a unit
        that runs again.

        @return: the content's id.
        """

    def take_all(
        transaction: ITransaction, contents: Sequence[IContentWriter]
    ) -> Sequence[int]:
        """The same for several at once, of this one's ledger.

        @param contents: those to take, this one only if it is among them.
        @return: their ids, in order.
        """

    def abort() -> None:
        """Forget it, unless a commit took it. May be called at any time, also
        twice: whoever made a writer calls it when done, whatever happened."""


# --- accounts ---------------------------------------------------------------


class IDirectory(Interface):
    """Who exists."""

    def account(address: Address) -> Awaitable[Account | None]:
        """The account of this address, exactly."""

    def aliases(address: Address) -> Awaitable[Sequence[Address]]:
        """Where the alias of this address leads, exactly; empty if it
        is none."""

    def submitted(
        account: Account, now: float, messages: int = 0, recipients: int = 0
    ) -> Awaitable[Submitted]:
        """How much an account has submitted, what is given counted with it and
        remembered.

        @param now: seconds since the epoch.
        """

    def may_send_as(account: Account, address: Address) -> Awaitable[bool]:
        """Whether a login may use this address as sender: its own, one
        with a subaddress, or an alias that leads to it."""


class IAuthenticator(Interface):
    """Who you are. Each listener has its own, with the mechanisms of its config."""

    def authenticate(name: str, password: str, channel: Channel) -> Awaitable[Account]:
        """Check a password.

        Takes as long for a name that does not exist as for a wrong password,
        and longer the more often the client's host failed.

        @param name: what the client typed; often an address.
        @raise AuthenticationFailed: wrong, without saying what.
        @raise AuthenticationUnavailable: it could not be checked.
        """

    def mechanisms(channel: Channel) -> Sequence[str]:
        """The SASL mechanisms for a connection, the strongest first."""

    def exchange(
        mechanism: str,
        initial: bytes | None,
        channel: Channel,
        ask: Callable[[bytes], Awaitable[bytes]],
    ) -> Awaitable[Account]:
        """Go through a SASL exchange (RFC 4422).

        @param mechanism: in upper case.
        @param initial: the initial response, decoded; C{None} if there was none.
        @param ask: sends a challenge and returns the response; raises if the client
            cancels or is gone.
        @raise UnknownMechanism: it is none of L{mechanisms}.
        @raise MalformedResponse: what the client sends is not of its form.
        @raise AuthenticationFailed: see L{authenticate}.
        @raise AuthenticationUnavailable: see L{authenticate}.
        """


class ITokenVerifier(Interface):
    """Whose a token is (OAUTHBEARER, XOAUTH2)."""

    def verify(token: str, channel: Channel) -> Awaitable[str | None]:
        """Look at a token.

        @return: the address that it is good for; C{None} if it is good for none.
        @raise Temporary: it cannot be said now.
        """


# --- mailboxes --------------------------------------------------------------


class IMailStore(Interface):
    """A mailbox backend."""

    def account(account: Account) -> Awaitable[IAccount]:
        """The mailboxes of an account. An INBOX is made if there is
        none."""


class ITransactionalDelivery(Interface):
    """Add-on of a store that lives in the ledger: mail enters mailboxes within
    the transaction that accepts it."""

    def deliver(
        transaction: ITransaction, deliveries: Sequence[tuple[int, Email]]
    ) -> None:
        """Place emails in the INBOXes of accounts, in order. The content of each
        counts as referred to once more.

        @raise NoSuchAccount: one of them was removed.
        """


class IAccount(Interface):
    """The mailboxes of one account. Names are decoded strings, levels are
    separated by C{/}; INBOX in any case is C{"INBOX"}."""

    def mailboxes() -> Awaitable[Sequence[MailboxInfo]]:
        """All of them, INBOX first, then by name."""

    def create(name: str, special_use: str = "") -> Awaitable[MailboxInfo]:
        """Make a mailbox and the levels above it that are missing.

        @raise MailboxExists:
        @raise BadMailboxName: empty level, control character, too long or deep.
        @raise TooMany:
        """

    def delete(name: str) -> Awaitable[None]:
        """Delete a mailbox and all in it. Subscriptions stay (RFC 3501
        6.3.4).

        @raise NoSuchMailbox:
        @raise MailboxHasChildren: only a leaf can go.
        @raise InboxNeeded:
        """

    def rename(old: str, new: str) -> Awaitable[None]:
        """Rename a mailbox and its inferiors. Renaming INBOX moves its
        messages to a new mailbox and leaves INBOX empty (RFC 3501 6.3.5).

        @raise NoSuchMailbox:
        @raise MailboxExists:
        @raise BadMailboxName:
        """

    def subscribe(name: str) -> Awaitable[None]:
        """Add a name to the subscriptions; it need not exist."""

    def unsubscribe(name: str) -> Awaitable[None]:
        """Take a name out, if it is in."""

    def subscriptions() -> Awaitable[Sequence[str]]:
        """The subscribed names, those of deleted mailboxes included."""

    def status(name: str) -> Awaitable[MailboxStatus]:
        """The counts.

        @raise NoSuchMailbox:
        """

    def open(name: str) -> Awaitable[IMailbox]:
        """A mailbox to work on.

        @raise NoSuchMailbox:
        """

    def need(octets: int) -> None:
        """A message of this size is about to be appended.

        @raise LedgerFull: there is no room for it now.
        """

    def content() -> IContentWriter:
        """A place for the content of an APPEND."""

    def append(
        name: str,
        content: IContentWriter,
        flags: frozenset[str],
        received_at: float,
    ) -> Awaitable[Appended]:
        """Add a message, durably.

        @param content: finished; aborted by the caller afterwards.
        @raise NoSuchMailbox:
        @raise OverQuota:
        """


class IMailbox(Interface):
    """One mailbox, by UID and modseq. Sequence numbers and what a client has
    been told belong to the session. UIDs that do not exist (any more) are passed
    over in silence, whatever the method. Once the mailbox was deleted, methods
    raise L{NoSuchMailbox <twisted_mta.errors.NoSuchMailbox>}."""

    id: int = Attribute("see MailboxInfo.id")
    name: str = Attribute("the name it was opened by")
    uidvalidity: int = Attribute("RFC 3501 2.3.1.1")

    def changes(since: int = 0) -> Awaitable[Changes]:
        """What is new, changed and gone since a modseq; everything
        that is there since 0."""

    def claim_recent() -> Awaitable[int]:
        """The lowest UID that no session was told of as \\Recent; from
        now on all there are count as told."""

    def recent() -> Awaitable[int]:
        """The same without claiming (EXAMINE)."""

    def fetch(
        uids: Sequence[int], parts: frozenset[Part]
    ) -> Awaitable[Sequence[Message]]:
        """Messages by ascending UID with the parts asked for. The
        caller keeps the number of messages small (hundreds), and with
        C{Part.OCTETS} the sum of their sizes."""

    def content(uid: int) -> Awaitable[tuple[bytes, IContent]]:
        """A message to be streamed: its prefix, then its content.

        @raise NoSuchMessage: it is gone.
        """

    def store(
        uids: Sequence[int], change: FlagChange, flags: frozenset[str]
    ) -> Awaitable[None]:
        """Change flags; L{changes} then tells what has become of them.
        A message whose flags stay as they were keeps its modseq.

        @raise TooMany: too many different keywords.
        """

    def copy(uids: Sequence[int], target: str) -> Awaitable[Copied]:
        """Copy, all or nothing, flags and INTERNALDATE kept.

        @raise NoSuchMailbox: the target.
        @raise LedgerFull: there is no room for it now.
        """

    def move(uids: Sequence[int], target: str) -> Awaitable[Copied]:
        """Copy and expunge as one (RFC 6851).

        @raise NoSuchMailbox: the target.
        """

    def expunge(uids: Sequence[int], marked: bool = False) -> Awaitable[Sequence[int]]:
        """Remove messages for good.

        @param marked: only those that are \\Deleted at that moment; otherwise
            whatever their flags.
        @return: those that this call removed, ascending.
        """

    def watch(callback: Callable[[], None]) -> Cancel:
        """Call back, in the reactor's thread, when L{changes} may have news. A
        hint that may come late, in vain, or once for many changes."""


class ISearchable(Interface):
    """Add-on of a mailbox that has an index of what its messages say."""

    def find(criteria: Sequence[Criterion]) -> Awaitable[Sequence[Found | None]]:
        """Which messages match, each of some criteria by itself. The index may
        lag, and may not know: then it says which messages have to be looked at.
        It never leaves out one that matches, nor calls sure what does not.

        @param criteria: the caller keeps them few (tens).
        @return: for each of them, of the messages that are there now; C{None}:
            all have to be looked at.
        """


# --- transport --------------------------------------------------------------


class IPolicy(Interface):
    """An opinion on a transaction at each of its stages. C{None}: none. Raising
    means that the policy is broken: the client reads a temporary failure."""

    name: str = Attribute("for the log")

    def connect(progress: Progress) -> Awaitable[Verdict | None]:
        """A client connected."""

    def helo(progress: Progress) -> Awaitable[Verdict | None]:
        """It said HELO or EHLO."""

    def mail(progress: Progress) -> Awaitable[Verdict | None]:
        """It named a sender."""

    def rcpt(progress: Progress) -> Awaitable[Verdict | None]:
        """It named a recipient that exists."""

    def message(progress: Progress) -> Awaitable[Verdict | None]:
        """The message came whole; nothing was promised yet."""


class IPolicyChain(Interface):
    """All policies of a listener."""

    def ask(stage: str, progress: Progress) -> Awaitable[Judgement]:
        """What they come to.

        @param stage: the name of a method of L{IPolicy}.
        """


class IRouter(Interface):
    """Where mail goes."""

    def route(recipient: Address, mailing: Mailing = NO_MAILING) -> Awaitable[Resolved]:
        """Where this recipient's mail goes, aliases, subaddresses and
        catch-all followed.

        @param mailing: what else is known of the message.
        @raise NoSuchAccount: the domain is ours and nobody has the address, be it a
            return address that was not made here.
        @raise Temporary: it cannot be said now.
        """


class ICallout(Interface):
    """Asks those who will have a message whether they take its recipient."""

    def ask(resolved: Resolved) -> Awaitable[None]:
        """Ask, if the router says that it is to be asked, or if the agent knows
        without asking anybody that it will not.

        @raise NoSuchAccount: there is no such recipient.
        @raise MailError: he is not taken, or it cannot be said now.
        """


class IIntake(Interface):
    """Takes responsibility for messages."""

    def need(octets: int) -> None:
        """A message of this size is about to come; 0 if the size is unknown.

        @raise LedgerFull: there is no room for it now.
        """

    def content() -> IContentWriter:
        """A place for the content of a message."""

    def accept(
        envelope: Envelope,
        routes: Sequence[Route],
        content: IContentWriter,
        prefix: bytes,
        confirmed: Sequence[Confirmation] = (),
        saved: Saved | None = None,
        fingerprint: bytes = b"",
    ) -> Awaitable[int]:
        """Take responsibility: when this returns, the message is
        durably in every mailbox and queue row that the routes name, in one
        transaction. When it raises, it is in none.

        @param routes: of all recipients, as the router gave them.
        @param content: finished; aborted by the caller afterwards.
        @param prefix: header fields to go before the content: Received and
            what submission adds. Return-Path for mailboxes is added here.
        @param confirmed: what the sender is told in the same transaction.
        @param saved: the copy that whoever submitted it keeps.
        @param fingerprint: of client, envelope and content, so that it is recognised
            if it was accepted before and the client does not know; the caller then
            says L{promised}, and in the end L{seen} or L{unseen}. Empty: it is new.
        @return: the id that the client is told: the envelope's, or that by which it
            was accepted before.
        @raise Temporary: the client shall try again.
        @raise Permanent: it need not.
        """

    def promised(fingerprint: bytes, id: int, heard: Callable[[], bool]) -> None:
        """A client is told that its message was accepted.

        @param id: the envelope's.
        @param heard: whether its system can be reached: it has the answer, or may
            have it.
        """

    def seen(fingerprint: bytes, id: int) -> None:
        """A client knows that its message was accepted: what it sends from now on is
        new, however alike.

        @param id: the envelope's.
        """

    def unseen(fingerprint: bytes, id: int) -> None:
        """A client is gone, and does not know."""

    def start(domain: str, below: bool = False) -> Awaitable[int]:
        """Try what waits for a domain at once (ETRN).

        @param below: for the domains below it, too.
        @return: how many messages.
        """

    def submit(envelope: Envelope, octets: bytes) -> Awaitable[None]:
        """Send a message that this server itself wrote (a bounce, a
        report). Recipients that do not exist are dropped."""


class IHistory(Interface):
    """What became of messages, for a while after they are done with."""

    def accepted(
        transaction: ITransaction,
        messages: Sequence[
            tuple[Envelope, int, Collection[Address], Collection[Address]]
        ],
    ) -> None:
        """Within the transaction that accepts them: messages have come.

        @param messages: for each the envelope, its octets with what is put before
            them, who has it in a mailbox, and whom it waits for in the queue.
        """

    def happened(transaction: ITransaction, events: Sequence[Event]) -> None:
        """Within the transaction that makes it so: something happened to messages."""


class IQueue(Interface):
    """Messages that wait for a delivery agent, a row per next hop."""

    history: IHistory = Attribute("of all that it takes and gives")

    def enqueue(
        transaction: ITransaction,
        envelope: Envelope,
        content: int,
        size: int,
        eight_bit: bool,
        prefix: bytes,
        routes: Sequence[ToAgent],
    ) -> None:
        """Within the transaction that accepts a message: a row per agent and
        next hop, due at once."""

    def claim(
        most: int,
        room: Mapping[tuple[str, str], int] = {},
        per_hop: int | None = None,
        flows: Collection[str] = (),
    ) -> Awaitable[Sequence[Job]]:
        """Rows that are due, leased to this process: no other gets them until the
        lease ends. Of the first C{most}, oldest due first, those that can be taken;
        if very many are due, half of them the oldest, half from each sender in turn.

        @param room: how many more are taken of an agent and next hop; rows of those
            that have no room are passed over, and do not count as first.
        @param per_hop: how many are taken of each other; C{None}: any number.
        @param flows: of these (L{flow <twisted_mta.delivery.flow.flow>}) none is taken.
        """

    def renew(jobs: Collection[Job]) -> Awaitable[None]:
        """Make the leases of these jobs as long again as at first."""

    def stopped(jobs: Collection[Job]) -> Awaitable[Sequence[Job]]:
        """Those of some jobs that are not to be tried as they are: an operator has
        held or frozen them, or has removed them or some of their recipients, or the
        lease is another's."""

    def give_back(
        jobs: Collection[Job], begun: Collection[Job] = ()
    ) -> Awaitable[None]:
        """End the leases of jobs that were not tried to the end; they are due
        at once, for anybody.

        @param begun: those of them whose attempt was cut short: the next server may
            have the message.
        """

    def seize(rows: Sequence[int]) -> Awaitable[Sequence[Job]]:
        """Rows that an operator chose, leased to this process, whether they are due
        or not. Those that are being tried are left out."""

    def settle(
        job: Job,
        outcomes: Mapping[Address, Outcome],
        who: str = "",
        so_far: bool = False,
    ) -> Awaitable[None]:
        """Record an attempt, in one transaction with the bounces and
        warnings that it causes: delivered and failed recipients leave the
        queue, deferred ones wait for their next time or expire.

        @param who: it was none: this operator returns the message.
        @param so_far: the attempt goes on. The job has those of its recipients who have
            the message; they leave the queue, and the lease stays.
        """

    def park(parked: Sequence[Parked]) -> Awaitable[None]:
        """Put rows off that were claimed and not tried, and end their leases. It is
        no attempt, but a recipient whose time is over is returned, and the sender
        of one who is late is told."""

    def await_site(
        ids: Sequence[int], site: str, due: float | None = None
    ) -> Awaitable[None]:
        """Rows that were settled and are still there wait for a site, too.

        @param ids: the jobs'.
        @param due: until when at most; C{None}: as their settlements say.
        """

    def wake(agent: str, site: str, most: int) -> Awaitable[int]:
        """Make rows due that wait for a site.

        @return: how many there were, at most C{most}.
        """

    def next_due(
        busy: Collection[tuple[str, str]] = (),
        flows: Collection[str] = (),
    ) -> Awaitable[float | None]:
        """When the next row becomes due that L{claim} would then give, seconds
        since the epoch; C{None} if none waits."""

    def waiting(id: str | None = None) -> Awaitable[Sequence[Waiting]]:
        """What waits, oldest first; of one message if C{id} is given."""

    def flush(ids: Sequence[str] | None = None) -> Awaitable[int]:
        """Make rows due now; all that are not held if C{None}. What its sender has
        held until a time (RFC 4865) is released only if it is named.

        @return: how many messages have a row that is tried now; what L{hold} holds
            is none.
        @raise NoSuchQueueId:
        """

    def start(domain: str, below: bool = False) -> Awaitable[int]:
        """See L{IIntake.start}."""

    def hold(ids: Sequence[str], reason: str = "") -> Awaitable[int]:
        """Stop attempts until released."""

    def release(ids: Sequence[str]) -> Awaitable[int]:
        """End a hold; the rows are due now, or when their sender wanted.

        @return: how many messages were held.
        """

    def remove(ids: Sequence[str]) -> Awaitable[int]:
        """Take messages out of the queue without telling anyone."""


class IOversight(Interface):
    """The queue and its history in the hands of an operator, for commands and pages.

    What is meant is said by a L{Filter}. Changes are made in pieces; C{told} is called
    after each with the sum so far. Where only some recipients of a row are meant, the
    others stay as they are; recipients that are being tried are left alone, and
    counted as busy. A filter that means everything must say so; one that names an id
    which is not there raises L{NoSuchQueueId}, and nothing is done.

    @note: C{who} is the operator's name, for the history.
    """

    def waiting(filter: Filter, most: int = 1000, page: str = "") -> Awaitable[Page]:
        """What waits, oldest first.

        @param page: C{more} of the page before.
        """

    def count(filter: Filter, by: str = "") -> Awaitable[Count]:
        """How much waits.

        @param by: C{state}, C{domain}, C{site}, C{sender}, C{account}, C{agent} or
            C{error}: in groups, too.
        @raise BadFilter: it is none of these.
        """

    def story(id: str) -> Awaitable[Story]:
        """All that is known of one message, waiting or done with.

        @raise NoSuchQueueId: nothing.
        """

    def finished(
        filter: Filter, most: int = 1000, before: str = ""
    ) -> Awaitable[Sequence[Finished]]:
        """Messages that are done with, newest first.

        @param before: only those older than this id.
        @raise BadFilter: what is finished has no state.
        """

    def hold(
        filter: Filter,
        who: str = "",
        reason: str = "",
        told: Callable[[Tally], None] | None = None,
    ) -> Awaitable[Tally]:
        """Stop attempts until released."""

    def release(
        filter: Filter, who: str = "", told: Callable[[Tally], None] | None = None
    ) -> Awaitable[Tally]:
        """End a hold; the rows are due now, or when their sender wanted."""

    def flush(
        filter: Filter, told: Callable[[Tally], None] | None = None
    ) -> Awaitable[Tally]:
        """Try now what is not held. What its sender has held until a time (RFC 4865) is
        released only if it is named by its id."""

    def remove(
        filter: Filter,
        who: str = "",
        reason: str = "",
        told: Callable[[Tally], None] | None = None,
    ) -> Awaitable[Tally]:
        """Take recipients out of the queue without telling anyone. An attempt that is
        running goes on, and may deliver."""

    def requeue(
        filter: Filter,
        agent: str = "",
        next_hop: str = "",
        who: str = "",
        told: Callable[[Tally], None] | None = None,
    ) -> Awaitable[Tally]:
        """Send on another way, now. What its sender has held until a time has no way
        yet, and is meant only if it is named by its id.

        @param agent: empty: as it was.
        @param next_hop: empty: the recipient's domain; with no agent either: all by
            the config as it is now, aliases and accounts included.
        """

    def redirect(
        filter: Filter,
        to: Address,
        who: str = "",
        told: Callable[[Tally], None] | None = None,
    ) -> Awaitable[Tally]:
        """Send to somebody else, now; what its sender has held until a time goes then,
        unless it is named by its id.

        @raise NoSuchAccount: nobody here has the address.
        """

    def bounce(
        filter: Filter,
        text: str = "",
        who: str = "",
        told: Callable[[Tally], None] | None = None,
    ) -> Awaitable[Tally]:
        """Return to the senders, now. Who cannot be told now counts as busy.

        @param text: what they read.
        """

    def freeze(site: str, who: str = "", reason: str = "") -> Awaitable[int]:
        """Make no attempts to a next hop until it is thawed.

        @return: how many rows wait for it from now on.
        @raise BadFilter: it is none.
        """

    def thaw(site: str) -> Awaitable[int]:
        """End that; also if it was not frozen, or thawed in part.

        @return: how many rows wait no more.
        """

    def frozen() -> Awaitable[Sequence[Frozen]]:
        """The next hops that are frozen, by name."""

    def add_rule(filter: Filter, who: str = "", reason: str = "") -> Awaitable[Rule]:
        """Hold what fits when it is accepted, from now on: of mail for elsewhere; what
        is for mailboxes here is in them at once.

        @raise BadFilter: it asks for what mail has only later.
        """

    def remove_rule(id: str) -> Awaitable[None]:
        """What it holds stays held.

        @raise NoSuchRule:
        """

    def rules() -> Awaitable[Sequence[Rule]]:
        """All of them, the oldest first."""


class IDeliveryAgent(Interface):
    """A way out for mail."""

    def deliver(job: Job, content: IContent) -> Awaitable[Mapping[Address, Outcome]]:
        """Try each of the job's recipients once. Never raises for
        reasons of mail: what goes wrong is an outcome, temporary unless known
        to be permanent. A recipient without an outcome counts as deferred.
        One that is cancelled says who has the message already, if anybody has.

        @param content: to be sent after the job's prefix.
        """

    def close() -> Awaitable[None]:
        """The server stops: end idle connections."""


class IForesight(Interface):
    """An agent that can say of a recipient, before there is a message, whether he is
    taken. What is beside L{IDeliveryAgent}, found by C{providedBy}."""

    cheap = Attribute("nobody else is asked for it, so it may be asked at every RCPT")

    def foresee(next_hop: str, recipient: Address) -> Awaitable[Outcome]:
        """What a delivery would come to: delivered if he is taken. Never raises, as
        L{IDeliveryAgent.deliver}."""


class IRecipients(Interface):
    """Who exists in domains that are another server's."""

    def check(recipient: Address, way: ToAgent) -> Awaitable[None]:
        """Whether mail may be taken for a recipient whose L{Resolved.relayed
        <twisted_mta.mail.route.Resolved>} is set.

        @param way: where it would go.
        @raise NoSuchAccount: nobody has the address.
        @raise Temporary: it cannot be said now.
        """


class ISuppression(Interface):
    """Whom nothing is sent to any more."""

    def find(
        address: Address, account: Address | None = None
    ) -> Awaitable[Suppressed | None]:
        """The entry that forbids sending to an address, if there is one.

        @param account: who wants to send, if he logged in.
        """

    def listed() -> Awaitable[Sequence[Suppressed]]:
        """All entries, by address."""

    def add(
        address: Address,
        account: Address | None,
        reason: Reason,
        source: str,
        keep_s: float | None = None,
    ) -> Awaitable[None]:
        """Put an address on the list. An entry that is there is changed by hand
        (C{reason}), else only if it ends earlier.

        @param account: who may not send there; C{None}: nobody may.
        @param source: who says so, for people.
        @param keep_s: for how long; C{None}: until it is taken off.
        """

    def remove(address: Address, account: Address | None = None) -> Awaitable[None]:
        """Take an entry off the list.

        @raise NoSuchAccount: there is none.
        """


class ISited(Interface):
    """What an agent may provide besides: it knows which of its next hops are one
    site, such as a thousand domains at one provider. Limits, and what is known of a
    site that is down, are of the site."""

    def site(next_hop: str) -> Awaitable[str]:
        """The name of the site of a next hop; the same for all that are one. Never
        raises: what cannot be known now is a site of its own. Cheap to ask again:
        what it takes is remembered for a while."""


class IRated(Interface):
    """What an agent may provide besides: it is not to be given more than so much."""

    rate: tuple[int, float] | None = Attribute(
        "how many messages of all processes together, in how many seconds; None: any"
    )


class IResolver(Interface):
    """The DNS. Names are ASCII (A-labels), without the last dot."""

    def mx(domain: str) -> Awaitable[Sequence[tuple[int, str]]]:
        """Preferences and hosts, by preference; empty if the domain
        exists without any. A null MX (RFC 7505) is C{[(0, "")]}.

        @raise NoSuchDomain: it does not exist (NXDOMAIN).
        @raise ResolverUnavailable: no answer now (SERVFAIL, timeout).
        """

    def addresses(host: str) -> Awaitable[Sequence[str]]:
        """IPv6 and IPv4 addresses; empty if it has none."""

    def txt(name: str) -> Awaitable[Sequence[bytes]]:
        """The TXT records, each with its strings joined."""

    def ptr(host: str) -> Awaitable[Sequence[str]]:
        """The names of an IP address."""

    def exchange(domain: str) -> Awaitable[Exchange]:
        """The same as L{mx}, and whether it is authentic.

        @raise NoSuchDomain: see L{mx}.
        @raise ResolverUnavailable: see L{mx}; what is known to be forged (bogus) is
            no answer.
        """

    def locate(host: str) -> Awaitable[Located]:
        """The same as L{addresses}, and whether it is authentic.

        @raise ResolverUnavailable: no answer now, or a forged one.
        """

    def tlsa(name: str) -> Awaitable[Sequence[Tlsa]]:
        """The TLSA records of a name such as C{_25._tcp.mx.example.org}; none if the
        answer is not authentic.

        @raise ResolverUnavailable: no answer now, or a forged one.
        """


class ITlsResults(Interface):
    """Counts how TLS went, for those who want to know it (RFC 8460)."""

    def count(domain: str, policy: Policy, failure: Failure | None) -> None:
        """A session with a domain's mail exchanger was tried.

        @param domain: who may want to know.
        @param policy: what it was held to.
        @param failure: C{None} if it went well.
        """
