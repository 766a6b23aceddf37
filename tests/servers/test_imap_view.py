"""The view of a mailbox: numbers move only when the client is told."""

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.mail.placement import Changes, Row
from twisted_mta.mail.uidset import LARGEST, UidSet
from twisted_mta.servers.imap.view import OutOfRange, View

NONE: frozenset[str] = frozenset()
SEEN = frozenset({"\\Seen"})


def changes(rows=(), vanished=(), modseq=1, uidnext=100):
    listed = [Row(uid, modseq, flags, 10 * uid) for uid, flags in rows]
    return Changes(listed, vanished, modseq, uidnext)


def view_of(*uids):
    view = View()
    view.apply(changes([(uid, NONE) for uid in uids]))
    view.opening(keywords=True)
    return view


class ViewTests(unittest.TestCase):
    """L{View}."""

    def test_expunge_waits(self) -> None:
        """A message that went keeps its number until EXPUNGE may be told."""
        view = view_of(3, 5, 7)
        view.apply(changes(vanished=[5]))
        self.assertEqual(view.tell(False, False, True), [])
        self.assertTrue(view.has_news())
        self.assertEqual(list(view.positions(UidSet.parse(b"3"), False)), [2])
        self.assertEqual(view.gone([0, 1, 2]), [1])
        self.assertEqual(view.tell(True, False, True), [b"* 2 EXPUNGE\r\n"])
        self.assertEqual(list(view.uids), [3, 7])
        self.assertEqual(list(view.sizes), [30, 70])
        self.assertFalse(view.has_news())

    def test_exists_before_expunge(self) -> None:
        """A message that came and went between two tellings is counted before
        its number is taken back."""
        view = view_of(1)
        view.apply(changes([(2, NONE), (4, NONE)]))
        view.apply(changes(vanished=[1, 2]))
        self.assertEqual(
            view.tell(True, False, True),
            [
                b"* 3 EXISTS\r\n",
                b"* 0 RECENT\r\n",
                b"* 2 EXPUNGE\r\n",
                b"* 1 EXPUNGE\r\n",
            ],
        )

    @given(
        st.sets(st.integers(1, 40)),
        st.lists(st.tuples(st.integers(1, 45), st.integers(1, 45)), min_size=1),
    )
    def test_any_uids(self, uids: set[int], ranges: list[tuple[int, int]]) -> None:
        """Of any set of UIDs those that are there are found, in order."""
        view = view_of(*sorted(uids))
        numbers = ",".join(
            f"{first}:{last}" if first != last else f"{first}" for first, last in ranges
        )
        named = {
            uid
            for first, last in ranges
            for uid in range(min(first, last), max(first, last) + 1)
        }
        found = view.positions(UidSet.parse(numbers.encode()), True)
        self.assertEqual([view.uids[at] for at in found], sorted(uids & named))

    def test_expected_flags_are_shared(self) -> None:
        """Messages that had the same flags have one set afterwards: it costs
        200 octets."""
        view = view_of(1, 2, 3)
        view.expect(range(3), lambda before: frozenset(before | SEEN))
        self.assertEqual(len({id(flags) for flags in view.flags}), 1)
        self.assertEqual(view.flags[2], SEEN)

    def test_large_sizes(self) -> None:
        """RFC822.SIZE is a number of 32 bits (RFC 3501 9)."""
        view = View()
        rows = [Row(1, 1, NONE, 1 << 33), Row(2, 1, NONE, 7)]
        view.apply(Changes(rows, (), 1, 3))
        self.assertEqual(list(view.sizes), [LARGEST, 7])

    def test_flags_are_told_once(self) -> None:
        """Flags that changed are told, those the client knows are not."""
        view = view_of(1, 2)
        view.apply(changes([(2, SEEN)]))
        self.assertEqual(
            view.tell(False, True, True), [b"* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n"]
        )
        view.expect([0], lambda before: SEEN)
        view.apply(changes([(1, SEEN), (2, SEEN)]))
        self.assertEqual(view.tell(False, False, True), [])
        view.mention([1])
        self.assertEqual(
            view.tell(False, False, True), [b"* 2 FETCH (FLAGS (\\Seen))\r\n"]
        )

    def test_new_keywords_are_announced(self) -> None:
        """FLAGS comes before the first use of a keyword."""
        view = view_of(1)
        view.apply(changes([(1, frozenset({"word"}))]))
        lines = view.tell(False, False, True)
        self.assertEqual([line.split()[1] for line in lines], [b"FLAGS", b"OK", b"1"])
        self.assertIn(b"word", lines[0])

    def test_numbers(self) -> None:
        """Sequence numbers must exist, UIDs need not; * is the last."""
        view = view_of(10, 20, 30)
        for numbers, positions in (
            (b"1:3", [0, 1, 2]),
            (b"*", [2]),
            (b"2:*", [1, 2]),
            (b"*:1,2", [0, 1, 2]),
        ):
            found = list(view.positions(UidSet.parse(numbers), False))
            self.assertEqual(found, positions, numbers)
        for numbers, positions in (
            (b"1:4294967295", [0, 1, 2]),
            (b"11:19", []),
            (b"15:25", [1]),
            (b"99:*", [2]),
            (b"*", [2]),
        ):
            found = list(view.positions(UidSet.parse(numbers), True))
            self.assertEqual(found, positions, numbers)
        for numbers in (b"4", b"1:4", b"4:*"):
            with self.assertRaises(OutOfRange):
                view.positions(UidSet.parse(numbers), False)
        empty = view_of()
        self.assertEqual(list(empty.positions(UidSet.parse(b"1:*"), True)), [])
        with self.assertRaises(OutOfRange):
            empty.positions(UidSet.parse(b"*"), False)

    def test_recent(self) -> None:
        """\\Recent is the session's: from a UID on, for what is there."""
        view = view_of(1, 2, 3)
        view.mark_recent(2)
        self.assertEqual(view.recent_count(), 2)
        self.assertEqual(view.flags_of(0), NONE)
        self.assertEqual(view.flags_of(2), {"\\Recent"})
        view.apply(changes([(4, SEEN)]))
        self.assertFalse(view.is_recent(3))

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("new"), st.integers(1, 3)),
                st.tuples(st.just("gone"), st.integers(0, 20)),
                st.tuples(st.just("flags"), st.integers(0, 20)),
                st.tuples(st.just("tell"), st.booleans()),
            ),
            max_size=40,
        )
    )
    def test_a_client_that_believes_every_word_is_right(self, happenings) -> None:
        """Whatever happens in whatever order, a client that applies what it is
        told has the mailbox's messages and flags, once it was told all."""
        view = view_of()
        truth: dict[int, frozenset[str]] = {}
        client: list[frozenset[str] | None] = []
        nextuid = 1

        def told(expunges: bool) -> None:
            for line in view.tell(expunges, False, True):
                words = line.split()
                if words[2] == b"EXISTS":
                    self.assertGreater(int(words[1]), len(client))
                    client.extend([None] * (int(words[1]) - len(client)))
                elif words[2] == b"EXPUNGE":
                    del client[int(words[1]) - 1]
                elif words[2] == b"FETCH":
                    seen = b"\\Seen" in line
                    client[int(words[1]) - 1] = SEEN if seen else NONE

        for what, how in happenings:
            if what == "new":
                fresh = range(nextuid, nextuid + int(how))
                nextuid += int(how)
                truth.update(dict.fromkeys(fresh, NONE))
                view.apply(changes([(uid, NONE) for uid in fresh]))
            elif what == "gone" and how in truth:
                del truth[how]
                view.apply(changes(vanished=[how]))
            elif what == "flags" and how in truth:
                truth[how] = SEEN if truth[how] == NONE else NONE
                view.apply(changes([(how, truth[how])]))
            elif what == "tell":
                told(bool(how))
        told(True)
        # None: a new message, whose flags a client asks for by FETCH.
        asked = [
            view.flags[at] if flags is None else flags
            for at, flags in enumerate(client)
        ]
        self.assertEqual(asked, list(truth.values()))
        self.assertEqual(list(view.uids), list(truth))
