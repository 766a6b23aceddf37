"""What one client knows of its mailbox: sequence numbers, flags, \\Recent.

Changes of the mailbox enter by L{View.apply} at any time; the client learns of
them by L{View.tell}, and only then may numbers move. Between the two, messages
that are gone keep their numbers (RFC 3501 5.5, 7.4.1; RFC 2180 4). It knows
neither a store nor a connection, and trusts that UIDs of new messages grow.

A message costs 16 octets: 4 for the UID, 4 for the size, 8 for a reference to
its flags, which messages share.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter

from twisted_mta.mail.flag import DELETED, RECENT, SEEN, SYSTEM
from twisted_mta.mail.placement import Changes
from twisted_mta.mail.uidset import LARGEST, UidSet
from twisted_mta.wire.imap import replies

_RECENT = frozenset({RECENT})
_UID, _FLAGS, _SIZE = map(attrgetter, ("uid", "flags", "size"))


# Flags that are told at once, a few milliseconds.
_FLAGS_TOLD = 5000


class OutOfRange(ValueError):
    """A sequence number that no message has."""


class View:
    """One client's view of one mailbox.

    Messages are named by position here: the sequence number less one.

    @ivar uids: ascending.
    @ivar sizes: octets of the same messages, as RFC822.SIZE can tell them.
    @ivar flags: of the same messages, \\Recent not among them.
    @ivar modseq: what L{IMailbox.changes} is to be asked next.
    """

    __slots__ = (
        "_gone",
        "_keywords",
        "_new_keywords",
        "_recent",
        "_told",
        "_untold",
        "flags",
        "modseq",
        "sizes",
        "uidnext",
        "uids",
    )

    def __init__(self) -> None:
        self.uids = array("I")
        self.sizes = array("I")
        self.flags: list[frozenset[str]] = []
        self.modseq = 0
        self.uidnext = 1
        self._recent = UidSet()
        self._keywords: frozenset[str] = frozenset()
        self._new_keywords = False
        self._told = 0  # how many messages the client knows of
        self._untold: set[int] = set()  # UIDs whose flags it does not know
        self._gone: set[int] = set()  # UIDs of which it must learn that they went

    def __len__(self) -> int:
        return len(self.uids)

    # --- what happens in the mailbox ---

    def apply(self, changes: Changes) -> bool:
        """Take up what has happened.

        @return: whether messages came.
        """
        self.modseq = changes.modseq
        self.uidnext = changes.uidnext
        rows, uids, all_flags = changes.rows, self.uids, self.flags
        shared: dict[frozenset[str], frozenset[str]] = {}
        share = shared.setdefault
        count = len(uids)
        new = bisect_right(rows, uids[-1], key=_UID) if uids else 0
        at = 0
        for uid, _, flags, _ in rows[:new]:
            at = bisect_left(uids, uid, at, count)  # both ascend
            if at < count and uids[at] == uid and all_flags[at] != flags:
                all_flags[at] = share(flags, flags)
                self._untold.add(uid)
        if new < len(rows):
            # By columns, 0.1 us a message: at SELECT all of a mailbox comes.
            came = rows[new:] if new else rows
            uids.extend(map(_UID, came))
            sizes = list(map(_SIZE, came))
            if max(sizes) > LARGEST:
                sizes = [min(size, LARGEST) for size in sizes]
            self.sizes.extend(sizes)
            came_flags = list(map(_FLAGS, came))
            all_flags += map(share, came_flags, came_flags)
        for uid in changes.vanished:
            if self.position(uid) is not None:
                self._gone.add(uid)
                self._untold.discard(uid)
        self._learn_keywords(shared)
        return new < len(rows)

    def mark_recent(self, lowest: int) -> None:
        """Messages from this UID on are recent to this session."""
        if self.uids:
            recent = UidSet.span(lowest, self.uids[-1])
            self._recent = self._recent.union(recent)

    def expect(
        self,
        positions: Iterable[int],
        change: Callable[[frozenset[str]], frozenset[str]],
    ) -> None:
        """The client knows already what the flags will be (STORE.SILENT); it
        is told only if they become others.

        @param change: what they become. One set for all that had the same.
        """
        all_flags = self.flags
        become: dict[frozenset[str], frozenset[str]] = {}
        for at in positions:
            before = all_flags[at]
            after = become.get(before)
            if after is None:
                after = become[before] = change(before)
            all_flags[at] = after

    def mention(self, positions: Iterable[int]) -> None:
        """The client wants to be told these messages' flags in any case."""
        self._untold.update(self.uids[at] for at in positions)
        self._untold -= self._gone

    def mentioned(self, positions: Sequence[int]) -> None:
        """The client is being told these messages' flags."""
        if self._untold:
            self._untold.difference_update(self.uids_at(positions))

    # --- what the client learns ---

    def opening(self, keywords: bool) -> list[bytes]:
        """What SELECT tells (RFC 3501 6.3.1), UIDVALIDITY aside.

        @param keywords: whether flags can be changed for good.
        """
        self._told = len(self.uids)
        self._new_keywords = False
        lines = [
            replies.flags(self._all_flags()),
            self._permanent(keywords),
            replies.exists(self._told),
            replies.recent(self.recent_count()),
        ]
        unseen = next((at for at, has in enumerate(self.flags) if SEEN not in has), -1)
        if unseen >= 0:
            code = b"UNSEEN %d" % (unseen + 1)
            lines.append(replies.ok(b"*", "First unseen", code))
        lines.append(
            replies.ok(b"*", "Predicted next UID", b"UIDNEXT %d" % self.uidnext)
        )
        return lines

    def tell(self, expunges: bool, with_uid: bool, keywords: bool) -> list[bytes]:
        """What has happened since the client was last told; of very many flags,
        some.

        @param expunges: whether numbers may move now (RFC 3501 7.4.1).
        @param with_uid: whether flags are told along with the UID.
        @param keywords: see L{opening}.
        """
        lines = []
        if len(self.uids) != self._told:
            self._told = len(self.uids)
            lines.append(replies.exists(self._told))
            lines.append(replies.recent(self.recent_count()))
        if expunges and self._gone:
            # From the last on, so that no number moves before its turn.
            gone = self._remove_gone()
            lines += [replies.expunge(at + 1) for at in reversed(gone)]
            self._told = len(self.uids)
        if self._new_keywords:
            self._new_keywords = False
            lines.append(replies.flags(self._all_flags()))
            lines.append(self._permanent(keywords))
        untold = self._untold
        if untold:
            some = sorted([untold.pop() for _ in range(min(len(untold), _FLAGS_TOLD))])
            lines += self._told_flags(some, with_uid)
        return lines

    @property
    def untold(self) -> bool:
        """Whether flags are left for another L{tell}."""
        return bool(self._untold)

    def has_news(self) -> bool:
        """Whether L{tell} would say anything, expunges included."""
        return bool(
            self._gone
            or self._untold
            or self._new_keywords
            or len(self.uids) != self._told
        )

    # --- what is there ---

    def position(self, uid: int) -> int | None:
        """Where a UID is, C{None} if it is not in the view."""
        at = bisect_left(self.uids, uid)
        return at if at < len(self.uids) and self.uids[at] == uid else None

    def positions(self, numbers: UidSet, uid: bool) -> Sequence[int]:
        """The positions of what a client named, ascending.

        @param uid: the numbers are UIDs; those that no message has are passed
            over (RFC 3501 6.4.8).
        @raise OutOfRange: a sequence number that is too large, or C{*} in an
            empty mailbox (RFC 3501 9, seq-number).
        """
        if uid:
            return self._by_uid(numbers)
        count = len(self.uids)
        if numbers.largest > count or (numbers.has_star and not count):
            raise OutOfRange("No such message")
        found = [
            range(first - 1, last) for first, last in numbers.resolve(count).ranges
        ]
        return _joined(found)

    def gone(self, positions: Iterable[int]) -> list[int]:
        """Those of the positions whose messages are known to be gone."""
        if not self._gone:
            return []
        return [at for at in positions if self.uids[at] in self._gone]

    def flags_of(self, at: int) -> frozenset[str]:
        """Flags as the client sees them, \\Recent included."""
        if self.uids[at] in self._recent:
            return self.flags[at] | _RECENT
        return self.flags[at]

    def uids_at(self, positions: Sequence[int]) -> Sequence[int]:
        """UIDs of the messages at some positions."""
        if isinstance(positions, range):
            return self.uids[positions.start : positions.stop]
        uids = self.uids
        return [uids[at] for at in positions]

    def sizes_at(self, positions: Sequence[int]) -> Sequence[int]:
        """Octets of the messages at some positions."""
        if isinstance(positions, range):
            return self.sizes[positions.start : positions.stop]
        sizes = self.sizes
        return [sizes[at] for at in positions]

    def flags_at(self, positions: Sequence[int]) -> Sequence[frozenset[str]]:
        """Flags of the messages at some positions, as the client sees them."""
        told: Sequence[frozenset[str]]
        if isinstance(positions, range):
            told = self.flags[positions.start : positions.stop]
        else:
            all_flags = self.flags
            told = [all_flags[at] for at in positions]
        if not self._recent:
            return told
        # From the first recent one on, nearly always all: few different sets.
        recent = self._recent
        lowest = recent.ranges[0][0]
        both: dict[frozenset[str], frozenset[str]] = {}
        return [
            both.setdefault(flags, flags | _RECENT)
            if uid >= lowest and uid in recent
            else flags
            for uid, flags in zip(self.uids_at(positions), told, strict=True)
        ]

    def is_recent(self, at: int) -> bool:
        """Whether a message is \\Recent."""
        return self.uids[at] in self._recent

    def recent_count(self) -> int:
        """How many messages are \\Recent."""
        return len(self._by_uid(self._recent))

    def deleted(self) -> list[int]:
        """UIDs of the messages that are marked as \\Deleted."""
        return [
            uid
            for uid, flags in zip(self.uids, self.flags, strict=True)
            if DELETED in flags
        ]

    # --- within ---

    def _by_uid(self, numbers: UidSet) -> Sequence[int]:
        uids = self.uids
        ranges = numbers.resolve(uids[-1]).ranges if uids else ()
        if len(ranges) == 1:
            ((first, last),) = ranges
            return range(bisect_left(uids, first), bisect_right(uids, last))
        found: list[int] = []
        start, count = 0, len(uids)
        for first, last in ranges:
            start = bisect_left(uids, first, start)  # both ascend
            if start == count:
                break
            if first != last:
                end = bisect_right(uids, last, start)
                found += range(start, end)
                start = end
            elif uids[start] == first:  # a client names what a search found
                found.append(start)
        return found

    def _remove_gone(self) -> list[int]:
        gone = [at for at, uid in enumerate(self.uids) if uid in self._gone]
        keep = [at for at, uid in enumerate(self.uids) if uid not in self._gone]
        self.uids = array("I", [self.uids[at] for at in keep])
        self.sizes = array("I", [self.sizes[at] for at in keep])
        self.flags = [self.flags[at] for at in keep]
        self._gone.clear()
        return gone

    def _learn_keywords(self, seen: Iterable[frozenset[str]]) -> None:
        known = self._keywords.union(*seen).difference(SYSTEM)
        if len(known) > len(self._keywords):
            self._keywords = known
            self._new_keywords = True

    def _all_flags(self) -> list[str]:
        return [*SYSTEM, *sorted(self._keywords)]

    def _permanent(self, keywords: bool) -> bytes:
        if not keywords:
            return replies.ok(
                b"*", "No permanent flags", replies.permanentflags_code((), False)
            )
        code = replies.permanentflags_code(self._all_flags(), True)
        return replies.ok(b"*", "Flags permitted", code)

    def _told_flags(self, uids: Sequence[int], with_uid: bool) -> list[bytes]:
        positions = [bisect_left(self.uids, uid) for uid in uids]
        numbers = map((1).__add__, positions)
        flags = map(replies.flags_item, self.flags_at(positions))
        if with_uid:
            template = b"* %d FETCH (UID %d %b)\r\n"
            return [template % each for each in zip(numbers, uids, flags, strict=True)]
        return [
            b"* %d FETCH (%b)\r\n" % each for each in zip(numbers, flags, strict=True)
        ]


def _joined(found: Sequence[range]) -> Sequence[int]:
    """Ascending positions; one range stays what it is."""
    return found[0] if len(found) == 1 else list(chain.from_iterable(found))
