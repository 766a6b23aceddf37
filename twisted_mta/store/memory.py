"""Mailboxes in this process's memory: the reference that a backend is measured
by, the shortest that passes L{twisted_mta.testing.store_contract}.

Everything is gone when the process ends, so it serves tests and trials. What an
operation changes it changes without awaiting anything in between, so operations
are atomic; watchers are called last, when all is consistent. It trusts its
callers in types only: names, flags' number and sizes are checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from zope.interface import implementer

from twisted_mta import errors
from twisted_mta.interfaces import (
    Cancel,
    IAccount,
    IContent,
    IContentWriter,
    IMailbox,
    IMailStore,
)
from twisted_mta.mail.account import Account
from twisted_mta.mail.flag import DELETED, SEEN
from twisted_mta.mail.ids import new_id
from twisted_mta.mail.placement import (
    Appended,
    Changes,
    Copied,
    FlagChange,
    MailboxInfo,
    MailboxStatus,
    Message,
    Part,
    Row,
)
from twisted_mta.mail.summary import summarize
from twisted_mta.store import name as names
from twisted_mta.store.memory_box import Box, StoredEmail, message
from twisted_mta.store.memory_content import MemoryContent, MemoryWriter

#: Mailboxes of an account (Cyrus: mailbox_maxmailboxes is a setting; ours).
MAX_MAILBOXES = 10_000

FIRST_UIDVALIDITY = 1_000


@implementer(IMailStore)
class MemoryStore:
    """Accounts, made when they are first asked for.

    @param quota_octets: what an account may hold; C{None}: anything.
    """

    def __init__(self, quota_octets: int | None = None) -> None:
        self._quota_octets = quota_octets
        self._accounts: dict[int, MemoryAccount] = {}

    async def account(self, account: Account) -> MemoryAccount:
        found = self._accounts.get(account.id)
        if found is None:
            found = self._accounts[account.id] = MemoryAccount(self._quota_octets)
        return found


@implementer(IAccount)
class MemoryAccount:
    """The mailboxes of one account."""

    def __init__(self, quota_octets: int | None = None) -> None:
        self._quota_octets = quota_octets
        self._modseq = 1
        self._uidvalidity = FIRST_UIDVALIDITY
        self._subscribed: set[str] = set()
        self._boxes: dict[str, Box] = {}
        self._make(names.INBOX, "")

    # --- what mailboxes use, too ---

    def next_modseq(self) -> int:
        """Bumped once per operation that changes something."""
        self._modseq += 1
        return self._modseq

    def find(self, name: str) -> Box:
        """@raise NoSuchMailbox:"""
        try:
            return self._boxes[names.canonical(name)]
        except (KeyError, errors.BadMailboxName):
            raise errors.NoSuchMailbox()

    # --- IAccount ---

    async def mailboxes(self) -> Sequence[MailboxInfo]:
        ordered = sorted(self._boxes, key=names.listing_key)
        return [self._info(self._boxes[name]) for name in ordered]

    async def create(self, name: str, special_use: str = "") -> MailboxInfo:
        name = names.canonical(name)
        if name in self._boxes:
            raise errors.MailboxExists()
        if len(self._boxes) >= MAX_MAILBOXES:
            raise errors.TooMany("There are too many mailboxes")
        self._make_levels_above(name)
        return self._info(self._make(name, special_use))

    async def delete(self, name: str) -> None:
        box = self.find(name)
        if box.name == names.INBOX:
            raise errors.InboxNeeded()
        if any(names.is_inferior(other, box.name) for other in self._boxes):
            raise errors.MailboxHasChildren()
        del self._boxes[box.name]
        box.gone = True
        box.notify()

    async def rename(self, old: str, new: str) -> None:
        box = self.find(old)
        new = names.canonical(new)
        if new in self._boxes:
            raise errors.MailboxExists()
        if names.is_inferior(new, box.name) and box.name != names.INBOX:
            raise errors.BadMailboxName("A mailbox cannot move into itself")
        self._make_levels_above(new)
        if box.name == names.INBOX:
            self._empty_into(box, self._make(new, ""))
            return
        for name in [box.name, *self._boxes]:
            if name == box.name or names.is_inferior(name, box.name):
                moved = self._boxes.pop(name, None)
                if moved is not None:
                    self._boxes[new + name[len(old) :]] = moved
        for name, moved in self._boxes.items():
            moved.name = name

    async def subscribe(self, name: str) -> None:
        if len(self._subscribed) >= MAX_MAILBOXES:
            raise errors.TooMany("There are too many subscriptions")
        self._subscribed.add(names.canonical(name))

    async def unsubscribe(self, name: str) -> None:
        self._subscribed.discard(names.canonical(name))

    async def subscriptions(self) -> Sequence[str]:
        return sorted(self._subscribed, key=names.listing_key)

    async def status(self, name: str) -> MailboxStatus:
        box = self.find(name)
        placements = box.placements.values()
        return MailboxStatus(
            messages=len(box.placements),
            recent=sum(uid >= box.recent_uid for uid in box.placements),
            unseen=sum(SEEN not in placement.flags for placement in placements),
            uidnext=box.uidnext,
            uidvalidity=box.uidvalidity,
            highest_modseq=box.modseq,
            size=box.octets,
        )

    async def open(self, name: str) -> MemoryMailbox:
        return MemoryMailbox(self, self.find(name))

    def need(self, octets: int) -> None:
        """Memory has no reserve."""

    def content(self) -> MemoryWriter:
        return MemoryWriter()

    async def append(
        self,
        name: str,
        content: IContentWriter,
        flags: frozenset[str],
        received_at: float,
        prefix: bytes = b"",
    ) -> Appended:
        """@param prefix: header fields to be kept before the content."""
        box = self.find(name)
        octets = await content.read(0, content.size)
        box.room_for(flags)
        used = sum(each.octets for each in self._boxes.values())
        if self._quota_octets is not None and used + len(octets) > self._quota_octets:
            raise errors.OverQuota()
        summary = summarize(prefix, content.header(), content.structure())
        made = new_id()
        email = StoredEmail(made, made, prefix, octets, received_at, summary)
        box.modseq = self.next_modseq()
        uid = box.add(email, flags)
        box.notify()
        return Appended(box.uidvalidity, uid)

    # --- within ---

    def _info(self, box: Box) -> MailboxInfo:
        subscribed = box.name in self._subscribed
        return MailboxInfo(box.id, box.name, box.special_use, subscribed)

    def _make(self, name: str, special_use: str) -> Box:
        self._uidvalidity += 1
        box = Box(new_id(), name, special_use, self._uidvalidity, self.next_modseq())
        self._boxes[name] = box
        return box

    def _make_levels_above(self, name: str) -> None:
        for level in names.levels_above(name):
            if level not in self._boxes:
                self._make(level, "")

    def _empty_into(self, inbox: Box, target: Box) -> None:
        """RFC 3501 6.3.5: INBOX stays, its messages go."""
        inbox.modseq = target.modseq = self.next_modseq()
        for uid in sorted(inbox.placements):
            placement = inbox.placements[uid]
            inbox.remove(uid)
            target.add(placement.email, placement.flags)
        inbox.notify()


@implementer(IMailbox)
class MemoryMailbox:
    """A mailbox, opened. Many may be of the same one."""

    def __init__(self, account: MemoryAccount, box: Box) -> None:
        self._account = account
        self._opened = box
        self.id = box.id
        self.name = box.name
        self.uidvalidity = box.uidvalidity

    @property
    def _box(self) -> Box:
        if self._opened.gone:
            raise errors.NoSuchMailbox()
        return self._opened

    async def changes(self, since: int = 0) -> Changes:
        box = self._box
        rows = [
            Row(uid, placement.modseq, placement.flags, placement.email.size)
            for uid, placement in sorted(box.placements.items())
            if placement.modseq > since
        ]
        gone = [uid for uid, at in box.vanished.items() if at > since] if since else []
        return Changes(rows, sorted(gone), box.modseq, box.uidnext)

    async def claim_recent(self) -> int:
        box = self._box
        claimed = box.recent_uid
        box.recent_uid = box.uidnext
        return claimed

    async def recent(self) -> int:
        return self._box.recent_uid

    async def fetch(
        self, uids: Sequence[int], parts: frozenset[Part]
    ) -> Sequence[Message]:
        box = self._box
        return [message(uid, box.placements[uid], parts) for uid in box.existing(uids)]

    async def content(self, uid: int) -> tuple[bytes, IContent]:
        placement = self._box.placements.get(uid)
        if placement is None:
            raise errors.NoSuchMessage()
        return placement.email.prefix, MemoryContent(placement.email.octets)

    async def store(
        self, uids: Sequence[int], change: FlagChange, flags: frozenset[str]
    ) -> None:
        box = self._box
        if change is not FlagChange.REMOVE:
            box.room_for(flags)
        changed = {}
        for uid in box.existing(uids):
            placement = box.placements[uid]
            after = _CHANGE[change](placement.flags, flags)
            if after != placement.flags:
                changed[uid] = replace(placement, flags=after)
        if changed:
            box.modseq = self._account.next_modseq()
            for uid, placement in changed.items():
                box.placements[uid] = replace(placement, modseq=box.modseq)
            box.notify()

    async def copy(self, uids: Sequence[int], target: str) -> Copied:
        return self._transfer(uids, target, keep=True)

    async def move(self, uids: Sequence[int], target: str) -> Copied:
        return self._transfer(uids, target, keep=False)

    async def expunge(self, uids: Sequence[int], marked: bool = False) -> Sequence[int]:
        box = self._box
        gone = box.existing(uids)
        if marked:
            gone = [uid for uid in gone if DELETED in box.placements[uid].flags]
        if gone:
            box.modseq = self._account.next_modseq()
            for uid in gone:
                box.remove(uid)
            box.notify()
        return gone

    def watch(self, callback: Callable[[], None]) -> Cancel:
        watchers = self._box.watchers
        entry = lambda: callback()  # noqa: E731 - one of its own for each watch
        watchers.append(entry)

        def cancel() -> None:
            if entry in watchers:
                watchers.remove(entry)

        return cancel

    def _transfer(self, uids: Sequence[int], target: str, keep: bool) -> Copied:
        box, there = self._box, self._account.find(target)
        uids = box.existing(uids)
        if not uids:
            return Copied(there.uidvalidity, ())
        there.modseq = self._account.next_modseq()
        if not keep:
            box.modseq = there.modseq
        pairs = []
        for uid in uids:
            placement = box.placements[uid]
            if not keep:
                box.remove(uid)
            pairs.append((uid, there.add(placement.email, placement.flags)))
        for changed in {id(each): each for each in (box, there)}.values():
            changed.notify()
        return Copied(there.uidvalidity, pairs)


_CHANGE: dict[
    FlagChange, Callable[[frozenset[str], frozenset[str]], frozenset[str]]
] = {
    FlagChange.REPLACE: lambda before, given: given,
    FlagChange.ADD: lambda before, given: before | given,
    FlagChange.REMOVE: lambda before, given: before - given,
}
