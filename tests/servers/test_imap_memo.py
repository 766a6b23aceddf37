"""Pieces that were rendered before: found again, apart from others, bounded."""

from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from twisted_mta.servers.imap.memo import Memo

UIDS = st.lists(st.integers(1, 1500), unique=True, max_size=60).map(sorted)


class MemoTests(TestCase):
    @given(UIDS, UIDS)
    def test_what_was_kept(self, kept: list[int], asked: list[int]) -> None:
        """Each message's own piece comes back, and nothing for the others."""
        memo = Memo()
        memo.remember(7, b"X", [(uid, b"%d" % uid) for uid in kept])
        expected = [b"%d" % uid if uid in kept else None for uid in asked]
        self.assertEqual(memo.recall(7, b"X", asked), expected)

    def test_a_range_over_blocks(self) -> None:
        """A run of UIDs is found from its first to its last, wherever blocks
        begin."""
        memo = Memo()
        memo.remember(7, b"X", [(uid, b"%d" % uid) for uid in range(200, 900)])
        for first, last in ((200, 899), (255, 257), (256, 511), (300, 300)):
            uids = range(first, last + 1)
            found = memo.recall(7, b"X", uids)
            self.assertEqual(found, [b"%d" % uid for uid in uids])
        self.assertEqual(memo.recall(7, b"X", range(898, 902))[2:], [None, None])

    def test_apart(self) -> None:
        """Nobody gets another mailbox's piece, or another one of the message."""
        memo = Memo()
        memo.remember(7, b"X", [(1, b"x")])
        self.assertEqual(memo.recall(8, b"X", [1]), [None])
        self.assertEqual(memo.recall(7, b"Y", [1]), [None])

    def test_bounded(self) -> None:
        """It holds no more than it may; what was not asked for goes first."""
        memo = Memo(most_octets=100_000)
        memo.remember(1, b"X", [(1, b"first")])
        memo.remember(2, b"X", [(1, b"second")])
        for mailbox in range(3, 500):
            self.assertEqual(memo.recall(1, b"X", [1]), [b"first"])
            memo.remember(mailbox, b"X", [(uid, b"x" * 100) for uid in range(100)])
            self.assertLessEqual(memo.octets, 100_000)
        self.assertEqual(memo.recall(2, b"X", [1]), [None])

    def test_one_that_is_too_large(self) -> None:
        """A piece that is larger than all may be is not kept."""
        memo = Memo(most_octets=10_000)
        memo.remember(1, b"X", [(1, b"x" * 20_000)])
        self.assertEqual(memo.recall(1, b"X", [1]), [None])
        self.assertEqual(memo.octets, 0)
