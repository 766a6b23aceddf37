"""The contract of mailbox backends: UIDs and modseqs, copying, and several who
work on one mailbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred

from twisted_mta.mail.placement import FlagChange, Part
from twisted_mta.testing.store_case import (
    DELETED,
    MULTIPART,
    NO_FLAGS,
    PLAIN,
    SEEN,
    StoreCase,
    appended,
    message,
    uids_of,
)

T = TypeVar("T")


class MailboxContract(StoreCase):
    """L{IMailbox}, where it is about a mailbox as a whole."""

    # --- UIDs, modseqs, changes ---

    async def test_uids_only_grow(self) -> None:
        """No UID is given twice, not even that of the last message after it is
        expunged or moved away."""
        account = await self.open_account()
        await account.create("Box")
        inbox = await account.open("INBOX")
        given: list[int] = []
        for turn in range(6):
            status = await account.status("INBOX")
            put = await appended(account)
            self.assertGreaterEqual(put.uid, status.uidnext)
            self.assertTrue(all(put.uid > uid for uid in given))
            given.append(put.uid)
            if turn % 3 == 1:
                await inbox.expunge([put.uid])
            if turn % 3 == 2:
                await inbox.move([put.uid], "Box")
            self.assertGreater((await inbox.changes()).uidnext, put.uid)

    async def test_changes_from_zero(self) -> None:
        """changes(0) is all that is there, by UID, and nothing that is gone."""
        account, inbox, uids = await self.filled(3)
        await inbox.store(uids[:1], FlagChange.ADD, SEEN)
        await inbox.expunge(uids[1:2])
        changes = await inbox.changes(0)
        self.assertEqual(uids_of(changes), [uids[0], uids[2]])
        self.assertEqual(list(changes.vanished), [])
        self.assertEqual([row.flags for row in changes.rows], [SEEN, NO_FLAGS])
        self.assertEqual([row.size for row in changes.rows], [len(PLAIN)] * 2)
        self.assertEqual(changes.uidnext, (await account.status("INBOX")).uidnext)

    async def test_changes_since(self) -> None:
        """Since a modseq there is exactly what happened: new, changed, gone."""
        account, inbox, uids = await self.filled(4)
        since = (await inbox.changes()).modseq
        quiet = await inbox.changes(since)
        self.assertEqual((uids_of(quiet), list(quiet.vanished)), ([], []))
        await inbox.store([uids[2]], FlagChange.ADD, SEEN)
        await inbox.expunge([uids[3], uids[0]])
        new = (await appended(account)).uid
        news = await inbox.changes(since)
        self.assertEqual(uids_of(news), [uids[2], new])
        self.assertEqual(list(news.vanished), [uids[0], uids[3]])
        self.assertGreater(news.modseq, since)
        self.assertTrue(all(since < row.modseq <= news.modseq for row in news.rows))
        again = await inbox.changes(news.modseq)
        self.assertEqual((uids_of(again), list(again.vanished)), ([], []))

    async def test_a_message_may_come_and_go_between_two_questions(self) -> None:
        """What was appended and expunged since is not among the rows."""
        account, inbox, _ = await self.filled(1)
        since = (await inbox.changes()).modseq
        put = await appended(account)
        await inbox.expunge([put.uid])
        news = await inbox.changes(since)
        self.assertEqual(uids_of(news), [])
        self.assertLessEqual(set(news.vanished), {put.uid})
        self.assertGreater(news.uidnext, put.uid)

    async def test_modseq_of_messages(self) -> None:
        """A change of flags raises a message's modseq; flags that stay as they
        were do not, and other messages keep theirs."""
        _, inbox, uids = await self.filled(2)
        before = {row.uid: row.modseq for row in (await inbox.changes()).rows}
        await inbox.store(uids[:1], FlagChange.ADD, SEEN)
        after = {row.uid: row.modseq for row in (await inbox.changes()).rows}
        self.assertGreater(after[uids[0]], max(before.values()))
        self.assertEqual(after[uids[1]], before[uids[1]])
        await inbox.store(uids[:1], FlagChange.ADD, SEEN)
        await inbox.store(uids[:1], FlagChange.REPLACE, SEEN)
        await inbox.store(uids[:1], FlagChange.REMOVE, frozenset({"\\Draft"}))
        still = {row.uid: row.modseq for row in (await inbox.changes()).rows}
        self.assertEqual(still, after)
        found = await message(inbox, uids[0])
        self.assertEqual(found.modseq, after[uids[0]])

    async def test_highest_modseq(self) -> None:
        """Every change raises the mailbox's highest modseq, which never falls
        and is at least that of each message."""
        account, inbox, uids = await self.filled(2)
        highest = (await account.status("INBOX")).highest_modseq

        async def rises() -> None:
            nonlocal highest
            now = (await account.status("INBOX")).highest_modseq
            self.assertGreater(now, highest)
            changes = await inbox.changes()
            self.assertTrue(all(row.modseq <= now for row in changes.rows))
            highest = now

        await inbox.store(uids, FlagChange.ADD, SEEN)
        await rises()
        await inbox.expunge(uids[:1])
        await rises()
        await appended(account)
        await rises()
        await inbox.copy(uids[1:], "INBOX")
        await rises()

    # --- \Recent ---

    async def test_claim_recent(self) -> None:
        """Each message is recent to one session: who claims first."""
        account, inbox, uids = await self.filled(2)
        self.assertEqual((await account.status("INBOX")).recent, 2)
        self.assertEqual(await inbox.recent(), uids[0])
        self.assertEqual(await inbox.claim_recent(), uids[0])
        self.assertEqual((await account.status("INBOX")).recent, 0)
        other = await account.open("INBOX")
        self.assertGreater(await other.claim_recent(), uids[1])
        new = (await appended(account)).uid
        self.assertEqual((await account.status("INBOX")).recent, 1)
        lowest = await other.recent()
        self.assertTrue(uids[1] < lowest <= new)
        self.assertEqual(await inbox.claim_recent(), lowest)
        self.assertGreater(await other.claim_recent(), new)

    async def test_copies_are_recent(self) -> None:
        """What COPY puts into a mailbox is recent there (RFC 3501 6.4.7)."""
        account, inbox, uids = await self.filled(2)
        await account.create("Box")
        await inbox.copy(uids, "Box")
        self.assertEqual((await account.status("Box")).recent, 2)

    # --- copying, moving, expunging ---

    async def test_copy(self) -> None:
        """Copies keep flags, date, octets; the originals stay."""
        account, inbox, uids = await self.filled(1)
        flags = frozenset({"\\Seen", "kept"})
        put = await appended(account, "INBOX", MULTIPART, flags, 77.0)
        await account.create("Box")
        copied = await inbox.copy([put.uid, uids[0], 424_242], "Box")
        self.assertEqual([pair[0] for pair in copied.pairs], [uids[0], put.uid])
        there = [pair[1] for pair in copied.pairs]
        self.assertEqual(there, sorted(set(there)))
        box = await account.open("Box")
        self.assertEqual(copied.uidvalidity, box.uidvalidity)
        found = await message(box, there[1], *Part)
        original = await message(inbox, put.uid, *Part)
        self.assertEqual(found.flags, flags)
        self.assertEqual(found.received_at, 77.0)
        self.assertEqual(found.octets, MULTIPART)
        self.assertEqual(found.envelope, original.envelope)
        self.assertEqual((await account.status("INBOX")).messages, 2)

    async def test_copy_into_itself(self) -> None:
        """A mailbox may be the target of its own copies."""
        account, inbox, uids = await self.filled(2)
        copied = await inbox.copy(uids, "INBOX")
        self.assertEqual([pair[0] for pair in copied.pairs], uids)
        self.assertTrue(all(pair[1] > uids[1] for pair in copied.pairs))
        self.assertEqual((await account.status("INBOX")).messages, 4)

    async def test_copies_are_independent(self) -> None:
        """Flags, and expunging, of one do not touch the other."""
        account, inbox, uids = await self.filled(1)
        await account.create("Box")
        copied = await inbox.copy(uids, "Box")
        box, there = await account.open("Box"), copied.pairs[0][1]
        await inbox.store(uids, FlagChange.ADD, SEEN)
        self.assertEqual((await message(box, there)).flags, NO_FLAGS)
        await inbox.expunge(uids)
        self.assertEqual(await self.octets(box, there), PLAIN)

    async def test_copying_nothing(self) -> None:
        """Nothing to copy is no error."""
        account, inbox, uids = await self.filled(1)
        await account.create("Box")
        await inbox.expunge(uids)
        self.assertEqual(list((await inbox.copy(uids, "Box")).pairs), [])
        self.assertEqual(list((await inbox.move([], "Box")).pairs), [])
        self.assertEqual((await account.status("Box")).messages, 0)

    async def test_move(self) -> None:
        """Moving is a copy there and an expunge here, as one."""
        account, inbox, uids = await self.filled(3)
        await inbox.store(uids[:1], FlagChange.ADD, SEEN)
        await account.create("Box")
        since = (await inbox.changes()).modseq
        moved = await inbox.move([uids[2], uids[0]], "Box")
        self.assertEqual([pair[0] for pair in moved.pairs], [uids[0], uids[2]])
        news = await inbox.changes(since)
        self.assertEqual(list(news.vanished), [uids[0], uids[2]])
        self.assertEqual(uids_of(news), [])
        box = await account.open("Box")
        rows = (await box.changes()).rows
        self.assertEqual([row.uid for row in rows], [pair[1] for pair in moved.pairs])
        self.assertEqual([row.flags for row in rows], [SEEN, NO_FLAGS])
        self.assertEqual(await self.octets(box, rows[0].uid), PLAIN)

    async def test_move_into_itself(self) -> None:
        """A message moved to where it is gets a new UID."""
        _, inbox, uids = await self.filled(2)
        moved = await inbox.move(uids[:1], "INBOX")
        new = moved.pairs[0][1]
        self.assertGreater(new, uids[1])
        self.assertEqual(uids_of(await inbox.changes()), [uids[1], new])

    async def test_expunge(self) -> None:
        """Expunging takes what it is told to, whatever the flags, once."""
        account, inbox, uids = await self.filled(3)
        asked = [uids[2], uids[0], 31_337]
        self.assertEqual(list(await inbox.expunge(asked)), [uids[0], uids[2]])
        self.assertEqual(list(await inbox.expunge(asked)), [])
        self.assertEqual(list(await inbox.expunge([])), [])
        self.assertEqual(uids_of(await inbox.changes()), [uids[1]])
        self.assertEqual((await account.status("INBOX")).messages, 1)

    async def test_expunge_marked(self) -> None:
        """Expunging what is marked leaves what is marked no more."""
        _, inbox, uids = await self.filled(3)
        await inbox.store(uids[1:], FlagChange.ADD, DELETED)
        await inbox.store(uids[2:], FlagChange.REMOVE, DELETED)
        self.assertEqual(list(await inbox.expunge(uids, marked=True)), [uids[1]])
        self.assertEqual(uids_of(await inbox.changes()), [uids[0], uids[2]])
        self.assertEqual(list(await inbox.expunge(uids, marked=True)), [])

    async def test_many_uids(self) -> None:
        """Thousands of UIDs at once are no special case."""
        account, inbox, uids = await self.filled(1)
        await account.create("Box")
        asked = range(1, 5_000)
        self.assertEqual(len(await inbox.fetch(asked, frozenset())), 1)
        await inbox.store(asked, FlagChange.ADD, SEEN)
        self.assertEqual([p[0] for p in (await inbox.copy(asked, "Box")).pairs], uids)
        self.assertEqual(list(await inbox.expunge(asked)), uids)

    # --- who watches ---

    async def test_watchers_are_hinted(self) -> None:
        """Whoever watches a mailbox learns of every kind of change another
        makes, and then finds it by changes()."""
        account, inbox, uids = await self.filled(2)
        watching = await account.open("INBOX")
        await account.create("Box")
        box = await account.open("Box")
        other = (await appended(account, "Box")).uid
        changes: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: inbox.store(uids, FlagChange.ADD, SEEN),
            lambda: appended(account),
            lambda: inbox.copy(uids, "INBOX"),
            lambda: box.copy([other], "INBOX"),
            lambda: box.move([other], "INBOX"),
            lambda: inbox.expunge(uids[:1]),
            lambda: inbox.move(uids[1:], "Box"),
            lambda: account.rename("INBOX", "Elsewhere"),
        )
        since = (await watching.changes()).modseq
        for change in changes:
            hinted: Deferred[None] = Deferred()
            cancel = watching.watch(lambda hinted=hinted: _fire(hinted))  # type: ignore[misc]
            await change()
            await hinted
            cancel()
            news = await watching.changes(since)
            self.assertTrue(news.rows or news.vanished)
            since = news.modseq

    async def test_a_cancelled_watch_is_silent(self) -> None:
        """After cancel there is no call; other watches of the same callback
        go on; cancel may be repeated."""
        account, inbox, _ = await self.filled(1)
        called: list[str] = []
        cancel = inbox.watch(lambda: called.append("cancelled"))
        hinted: Deferred[None] = Deferred()
        other = (await account.open("INBOX")).watch(lambda: _fire(hinted))
        cancel()
        cancel()
        await appended(account)
        await hinted
        other()
        self.assertEqual(called, [])

    async def test_sessions_do_not_lose_each_others_changes(self) -> None:
        """Operations that run at the same time all take effect, and their UIDs
        differ."""
        account, inbox, uids = await self.filled(2)
        await account.create("Box")
        pending = [Deferred.fromCoroutine(appended(account)) for _ in range(5)]
        flags = [frozenset({f"word{number}"}) for number in range(5)]
        running = [_running(inbox.store(uids, FlagChange.ADD, each)) for each in flags]
        given = [(await each).uid for each in pending]
        for each in running:
            await each
        self.assertEqual(len(set(given)), 5)
        self.assertEqual(uids_of(await inbox.changes()), sorted([*uids, *given]))
        found = await message(inbox, uids[0])
        self.assertEqual(found.flags, frozenset().union(*flags))

    async def test_a_message_goes_to_one_of_two_movers(self) -> None:
        """Two that move the same messages do not multiply them."""
        account, inbox, uids = await self.filled(3)
        await account.create("A")
        await account.create("B")
        one, two = _running(inbox.move(uids, "A")), _running(inbox.move(uids, "B"))
        pairs = [*(await one).pairs, *(await two).pairs]
        self.assertEqual(sorted(pair[0] for pair in pairs), uids)
        counts = [(await account.status(name)).messages for name in ("INBOX", "A", "B")]
        self.assertEqual((counts[0], sum(counts)), (0, 3))


def _fire(deferred: Deferred[None]) -> None:
    if not deferred.called:
        deferred.callback(None)


def _running(awaited: Awaitable[T]) -> Deferred[T]:
    """Start what was called, coroutine or Deferred, without waiting for it."""
    if isinstance(awaited, Deferred):
        return awaited
    return Deferred.fromCoroutine(cast(Coroutine[Any, Any, T], awaited))
