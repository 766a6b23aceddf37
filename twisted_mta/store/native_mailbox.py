"""One mailbox of the native store.

What it answers comes from rows alone; the octets of a message are only touched
when they are asked for. It knows nothing of sequence numbers and sessions. It
trusts L{twisted_mta.store.native_rows} to keep counts and modseqs right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

from zope.interface import implementer

from twisted_mta.errors import BadMailboxName, NoSuchMailbox, NoSuchMessage
from twisted_mta.interfaces import Cancel, IContent, ILedger, IMailbox, ITransaction
from twisted_mta.mail import header
from twisted_mta.mail.placement import (
    Changes,
    Copied,
    FlagChange,
    Message,
    Part,
    Row,
)
from twisted_mta.mail.structure import Structure
from twisted_mta.store import name as names
from twisted_mta.store import native_rows as rows
from twisted_mta.store.native_rows import Box, Placed, packed, unpacked

# Up to here a FETCH is a lookup in the reactor's thread: a client that reads
# one message after the other. Each row is 10 to 30 us, a thread 100.
_FEW = 4

# Up to here changes are a lookup, too: 0.5 us each. Most sessions that are told
# of a new message hear of that one alone.
_FEW_NEWS = 200
_ALL = 1 << 62

# Up to here messages are changed in the reactor's thread: 30 us each.
_BRIEF = 8

_ROWS = (
    "SELECT uid, modseq, flags, keywords, size FROM placement"
    " WHERE account_id = ? AND mailbox_id = ?"
)
_VANISHED = "SELECT uid FROM vanished WHERE account_id = ? AND mailbox_id = ?"


@implementer(IMailbox)
class NativeMailbox:
    """See L{IMailbox}."""

    def __init__(self, ledger: ILedger, account: int, box: Box) -> None:
        self._ledger = ledger
        self._account = account
        self.id = box.id
        self.name = box.name
        self.uidvalidity = box.uidvalidity

    # --- reading ---

    async def changes(self, since: int = 0) -> Changes:
        """See L{IMailbox.changes}."""
        found = await self._ledger.lookup(
            lambda transaction: self._few_news(transaction, since)
        )
        if found is not None:
            return found
        return await self._ledger.read(
            lambda transaction: self._news(transaction, since, _ALL)
        )

    def _few_news(self, transaction: ITransaction, since: int) -> Changes | None:
        """L{changes} if they are few: a mailbox that is small, or a session that
        was told all but the last."""
        box = self._box(transaction)
        if since and box.modseq <= since:
            return Changes((), (), box.modseq, box.uidnext)
        if not since and box.messages > _FEW_NEWS:
            return None
        news = self._news(transaction, since, _FEW_NEWS + 1)
        few = max(len(news.rows), len(news.vanished)) <= _FEW_NEWS
        return news if few else None

    def _news(self, transaction: ITransaction, since: int, most: int) -> Changes:
        """L{changes}; of each kind no more than so many, and those of a higher
        modseq are missing."""
        # Its modseq first: what a lookup sees of a later one is seen again.
        box = self._box(transaction)
        owner = self._account, self.id
        by_modseq = " AND modseq > ? ORDER BY modseq LIMIT ?"
        gone: list[int] = []
        if since:
            asked = *owner, since, most
            found = list(transaction.execute(_ROWS + by_modseq, asked))
            vanished = transaction.execute(_VANISHED + by_modseq, asked)
            gone = sorted([uid for (uid,) in vanished])
            found.sort()
        else:
            in_order = _ROWS + " ORDER BY uid LIMIT ?"
            found = list(transaction.execute(in_order, (*owner, most)))
        make = Row._make
        news = [
            make((uid, modseq, unpacked(bits, keywords), size))
            for uid, modseq, bits, keywords, size in found
        ]
        last = news[-1].uid if news else 0
        return Changes(news, gone, box.modseq, max(box.uidnext, last + 1))

    async def recent(self) -> int:
        """See L{IMailbox.recent}."""
        return (await self._ledger.lookup(self._box)).recent_uid

    async def claim_recent(self) -> int:
        """See L{IMailbox.claim_recent}."""
        box = await self._ledger.lookup(self._box)
        if box.recent_uid == box.uidnext:
            return box.recent_uid
        return await self._ledger.write(self._claim, brief=True)

    def _claim(self, transaction: ITransaction) -> int:
        box = self._box(transaction)
        transaction.execute(
            "UPDATE mailbox SET recent_uid = uidnext WHERE account_id = ? AND id = ?",
            (self._account, self.id),
        )
        return box.recent_uid

    async def fetch(
        self, uids: Sequence[int], parts: frozenset[Part]
    ) -> Sequence[Message]:
        """See L{IMailbox.fetch}."""

        sql, arrange = _selection(parts)

        def query(transaction: ITransaction) -> tuple[list[Message], _InFiles]:
            self._box(transaction)
            found: list[tuple[Any, ...]] = []
            for first, last in rows.spans(sorted(set(uids)), gap=1):
                found += transaction.execute(sql, (self._account, self.id, first, last))
            return arrange(found)

        ask = self._ledger.lookup if len(uids) <= _FEW else self._ledger.read
        messages, in_files = await ask(query)
        for at, content in in_files:
            messages[at] = await self._with_header(messages[at], content)
        return messages

    async def _with_header(self, message: Message, content: int) -> Message:
        """Read the header of a message that is kept in a file."""
        stored = self._ledger.stored(content, message.size - message.prefix)
        octets = await header_of(stored, message.sections or b"")
        return message._replace(header=(message.header or b"") + octets)

    async def content(self, uid: int) -> tuple[bytes, IContent]:
        """See L{IMailbox.content}."""

        def query(transaction: ITransaction) -> tuple[bytes, int, int]:
            self._box(transaction)
            for prefix, content, size in transaction.execute(
                "SELECT e.prefix, e.content_id, e.size FROM placement p JOIN email e"
                " ON e.account_id = p.account_id AND e.id = p.email_id"
                " WHERE p.account_id = ? AND p.mailbox_id = ? AND p.uid = ?",
                (self._account, self.id, uid),
            ):
                return bytes(prefix), content, size
            raise NoSuchMessage()

        prefix, content, size = await self._ledger.lookup(query)
        return prefix, self._ledger.stored(content, size - len(prefix))

    # --- changing ---

    async def store(
        self, uids: Sequence[int], change: FlagChange, flags: frozenset[str]
    ) -> None:
        """See L{IMailbox.store}."""
        await self._ledger.write(
            lambda transaction: self._store(transaction, uids, change, flags),
            # Keywords that are new may take a look at all messages.
            brief=len(uids) <= _BRIEF and not packed(flags)[1],
        )

    def _store(
        self,
        transaction: ITransaction,
        uids: Sequence[int],
        change: FlagChange,
        flags: frozenset[str],
    ) -> None:
        self._box(transaction)
        # Messages with the same flags have the same ones afterwards, and lie side
        # by side more often than not: one statement for many.
        become: dict[tuple[int, str], tuple[int, str]] = {}
        changed: dict[tuple[int, str], list[int]] = {}
        unseen = 0
        for row in rows.placed(transaction, self._account, self.id, uids):
            before = row.bits, row.keywords
            after = become.get(before)
            if after is None:
                after = packed(_CHANGE[change](unpacked(*before), flags))
                become[before] = after
            if after != before:
                changed.setdefault(after, []).append(row.uid)
                unseen += (row.bits & rows.SEEN_BIT) - (after[0] & rows.SEEN_BIT)
        if not changed:
            return
        modseq = rows.bump(transaction, self._account)
        transaction.executemany(
            "UPDATE placement SET flags = ?, keywords = ?, modseq = ?"
            " WHERE account_id = ? AND mailbox_id = ? AND uid BETWEEN ? AND ?",
            [
                (*after, modseq, self._account, self.id, first, last)
                for after, same in changed.items()
                for first, last in rows.spans(same, gap=1)
            ],
        )
        rows.touch(transaction, self._account, self.id, modseq, unseen=unseen)
        if change is not FlagChange.REMOVE:
            rows.learn(transaction, self._account, self.id, packed(flags)[1].split())

    async def copy(self, uids: Sequence[int], target: str) -> Copied:
        """See L{IMailbox.copy}."""
        name = _target(target)
        # Some 200 octets each: the content is shared. And where a client knows
        # no MOVE, to delete is to copy to the Trash first.
        self._ledger.need(0, sparing=True)
        return await self._ledger.write(
            lambda transaction: self._transfer(transaction, uids, name, keep=True),
            brief=await self._without_keywords(uids),
        )

    async def move(self, uids: Sequence[int], target: str) -> Copied:
        """See L{IMailbox.move}."""
        name = _target(target)
        return await self._ledger.write(
            lambda transaction: self._transfer(transaction, uids, name, keep=False),
            brief=await self._without_keywords(uids),
        )

    async def _without_keywords(self, uids: Sequence[int]) -> bool:
        """Whether messages are few and have none."""
        if len(uids) > _BRIEF:
            return False
        found = await self._ledger.lookup(
            lambda transaction: rows.placed(transaction, self._account, self.id, uids)
        )
        return not any(row.keywords for row in found)

    def _transfer(
        self, transaction: ITransaction, uids: Sequence[int], target: str, keep: bool
    ) -> Copied:
        self._box(transaction)
        there = rows.named(transaction, self._account, target)
        found = rows.placed(transaction, self._account, self.id, uids)
        if not found:
            return Copied(there.uidvalidity, ())
        modseq = rows.bump(transaction, self._account)
        new = transfer(transaction, self._account, self.id, there, found, modseq, keep)
        pairs = [(row.uid, uid) for row, uid in zip(found, new, strict=True)]
        return Copied(there.uidvalidity, pairs)

    async def expunge(self, uids: Sequence[int], marked: bool = False) -> Sequence[int]:
        """See L{IMailbox.expunge}."""
        return await self._ledger.write(
            lambda transaction: self._expunge(transaction, uids, marked),
            brief=len(uids) <= _BRIEF,
        )

    def _expunge(
        self, transaction: ITransaction, uids: Sequence[int], marked: bool
    ) -> list[int]:
        self._box(transaction)
        found = rows.placed(transaction, self._account, self.id, uids)
        if marked:
            found = [row for row in found if row.bits & rows.DELETED_BIT]
        if found:
            modseq = rows.bump(transaction, self._account)
            rows.unplace(transaction, self._account, self.id, found, modseq)
            emails = dict.fromkeys(row.email for row in found)
            rows.forget(self._ledger, transaction, self._account, emails)
        return [row.uid for row in found]

    def watch(self, callback: Callable[[], None]) -> Cancel:
        """See L{IMailbox.watch}."""
        return self._ledger.watch(rows.topic(self.id), callback)

    def _box(self, transaction: ITransaction) -> Box:
        return rows.opened(transaction, self._account, self.id)


def transfer(
    transaction: ITransaction,
    account: int,
    mailbox: int,
    target: Box,
    found: Sequence[Placed],
    modseq: int,
    keep: bool,
) -> list[int]:
    """Copy or move messages between mailboxes.

    @raise TooMany: too many keywords there.
    @return: the UIDs there.
    """
    if not keep:
        rows.unplace(transaction, account, mailbox, found, modseq)
    return rows.place(transaction, account, target, found, modseq)


async def header_of(content: IContent, sections: bytes) -> bytes:
    """The header block of content in a file, as much of it as is understood."""
    end = Structure.unpack(sections).root.body_start
    return await content.read(0, min(end, header.BLOCK_MAX))


def _target(name: str) -> str:
    try:
        return names.canonical(name)
    except BadMailboxName:
        raise NoSuchMailbox()


_CHANGE: dict[
    FlagChange, Callable[[frozenset[str], frozenset[str]], frozenset[str]]
] = {
    FlagChange.REPLACE: lambda before, given: given,
    FlagChange.ADD: lambda before, given: before | given,
    FlagChange.REMOVE: lambda before, given: before - given,
}

# The columns that each part needs; what is not asked for is NULL.
_COLUMNS = (
    (Part.ENVELOPE, "e.envelope"),
    (Part.STRUCTURE, "e.bodystructure"),
    (Part.STRUCTURE, "e.body"),
)
_IN_CONTENT = frozenset({Part.HEADER, Part.OCTETS})

# Messages whose header is still to be read from a file: where they are in the
# list, and the ids of their contents.
_InFiles = list[tuple[int, int]]
_Rows = list[tuple[Any, ...]]


@lru_cache(maxsize=64)
def _selection(
    parts: frozenset[Part],
) -> tuple[str, Callable[[_Rows], tuple[list[Message], _InFiles]]]:
    """The statement that brings these parts of messages, and what makes its
    rows messages. Of the 2 to 5 us of a message most is SQLite's."""
    columns = ["p.uid", "p.modseq", "p.flags", "p.keywords", "p.size"]
    columns += ["e.received_at", "e.id", "e.thread_id"]
    columns += [column if part in parts else "NULL" for part, column in _COLUMNS]
    # Where the header ends in a file is known by the sections.
    sectioned = Part.SECTIONS in parts or Part.HEADER in parts
    columns.append("e.sections" if sectioned else "NULL")
    joined = ""
    if parts & _IN_CONTENT:
        columns += ["e.prefix", "e.content_id", "c.octets"]
        joined = " JOIN content c ON c.id = e.content_id"
    elif Part.SECTIONS in parts:
        columns.append("LENGTH(e.prefix)")
    else:
        columns.append("0")
    sql = (
        f"SELECT {', '.join(columns)} FROM placement p JOIN email e"
        f" ON e.account_id = p.account_id AND e.id = p.email_id{joined}"
        " WHERE p.account_id = ? AND p.mailbox_id = ? AND p.uid BETWEEN ? AND ?"
        " ORDER BY p.uid"
    )
    if not parts & _IN_CONTENT:
        return sql, _without_content
    return sql, partial(_with_content, Part.HEADER in parts, Part.OCTETS in parts)


def _without_content(found: _Rows) -> tuple[list[Message], _InFiles]:
    make = Message._make
    messages = [
        make((uid, modseq, unpacked(bits, keywords), *rest, None, None))
        for uid, modseq, bits, keywords, *rest in found
    ]
    return messages, []


def _with_content(
    with_header: bool, with_octets: bool, found: _Rows
) -> tuple[list[Message], _InFiles]:
    make = Message._make
    messages: list[Message] = []
    in_files: _InFiles = []
    for uid, modseq, bits, keywords, *rest, prefix, content, octets in found:
        start: bytes | None = None
        if with_header:
            start = prefix
            if octets is None:
                # The prefix alone, for the time being.
                in_files.append((len(messages), content))
            else:
                end = min(header.body_start(octets), header.BLOCK_MAX)
                start = prefix + octets[:end]
        whole = prefix + octets if with_octets and octets is not None else None
        flags = unpacked(bits, keywords)
        messages.append(make((uid, modseq, flags, *rest, len(prefix), start, whole)))
    return messages, in_files
