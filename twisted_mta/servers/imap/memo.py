"""What was rendered for clients lately, to be sent again without a look at rows.

A mail client that opens a folder asks for the same items of the same messages
each time. What they say never changes (ENVELOPE, BODYSTRUCTURE, header fields...),
and UIDs are never given again, so a piece that is remembered is right as long as
the message is there; whether it is, and that this session may see it, the session
knows. The memo knows neither messages nor sessions, and holds a bounded number of
octets for all of them: what was not asked for the longest goes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: Octets in all: the envelopes of 30,000 messages. Dovecot keeps the same on
#: disk, in each mailbox's dovecot.index.cache.
MOST_OCTETS = 16 << 20

# Pieces are kept in blocks of so many UIDs, since clients ask for ranges.
_BITS = 8
_UIDS = 1 << _BITS
_NONE: Sequence[bytes | None] = (None,) * _UIDS

# Of a piece, beside its octets; of a block, beside its pieces.
_PIECE_OCTETS = 48
_BLOCK_OCTETS = 2_500


class _Block:
    __slots__ = ("octets", "pieces")

    def __init__(self) -> None:
        self.pieces: list[bytes | None] = [None] * _UIDS
        self.octets = _BLOCK_OCTETS


class Memo:
    """Pieces by mailbox, by what they are of the message, and by UID."""

    def __init__(self, most_octets: int = MOST_OCTETS) -> None:
        self._most = most_octets
        self._blocks: dict[tuple[int, bytes, int], _Block] = {}
        self.octets = 0

    def recall(
        self, mailbox: int, what: bytes, uids: Sequence[int]
    ) -> list[bytes | None]:
        """The pieces of these messages, C{None} where there is none.

        @param mailbox: its id.
        @param what: which part of a message they are.
        @param uids: ascending.
        """
        if not uids:
            return []
        first, last = uids[0], uids[-1]
        found: list[bytes | None] = []
        if last - first == len(uids) - 1:
            for number in range(first >> _BITS, (last >> _BITS) + 1):
                found += self._pieces(mailbox, what, number)
            skipped = first % _UIDS
            return found[skipped : skipped + len(uids)]
        number, pieces = -1, _NONE
        for uid in uids:
            if uid >> _BITS != number:
                number = uid >> _BITS
                pieces = self._pieces(mailbox, what, number)
            found.append(pieces[uid % _UIDS])
        return found

    def remember(
        self, mailbox: int, what: bytes, pieces: Iterable[tuple[int, bytes]]
    ) -> None:
        """Keep pieces, with their UIDs."""
        blocks = self._blocks
        for uid, piece in pieces:
            key = mailbox, what, uid >> _BITS
            block = blocks.get(key)
            if block is None:
                block = blocks[key] = _Block()
                self.octets += _BLOCK_OCTETS
            if block.pieces[uid % _UIDS] is None:
                block.pieces[uid % _UIDS] = piece
                octets = len(piece) + _PIECE_OCTETS
                block.octets += octets
                self.octets += octets
        while self.octets > self._most:
            self.octets -= blocks.pop(next(iter(blocks))).octets

    def _pieces(self, mailbox: int, what: bytes, number: int) -> Sequence[bytes | None]:
        key = mailbox, what, number
        block = self._blocks.pop(key, None)
        if block is None:
            return _NONE
        self._blocks[key] = block  # the last to go
        return block.pieces
