"""Sets of words answer for texts."""

import unittest

from hypothesis import given
from hypothesis import strategies as st

from twisted_mta.mail import text, word

# Few characters, so that what is looked for is often there; some of them fold to
# others, to several, or are no letters.
ALPHABET = "abcAB_ ,-\n\x00ßſıİéÉ中文Ж\u0301\ufffd\ufffe\U0001f600"
TEXTS = st.text(ALPHABET, max_size=40) | st.text(max_size=20)
LONG = st.text("ab", min_size=30, max_size=300)


def may_contain(words: set[str], pieces: list[word.Piece]) -> bool:
    """What an index finds."""

    def has(each: str, piece: word.Piece) -> bool:
        if piece.starts and piece.ends:
            return each == piece.text
        if piece.starts:
            return each.startswith(piece.text)
        return each.endswith(piece.text) if piece.ends else piece.text in each

    return all(any(has(each, piece) for each in words) for piece in pieces)


class WordTests(unittest.TestCase):
    """L{word.words} and L{word.pieces}."""

    def check(self, whole: str, wanted: str) -> None:
        whole, wanted = text.fold(whole), text.fold(wanted)
        pieces, exact = word.pieces(wanted)
        found = may_contain(word.words(whole), pieces)
        if wanted in whole:
            self.assertTrue(found, (whole, wanted))
        elif exact:
            self.assertFalse(found, (whole, wanted))

    @given(TEXTS, TEXTS)
    def test_any_needle(self, whole: str, wanted: str) -> None:
        """What is in the text is found, and a single piece exactly."""
        self.check(whole, wanted)

    @given(TEXTS, TEXTS, TEXTS)
    def test_needles_that_are_there(self, before: str, wanted: str, after: str) -> None:
        """Nothing that is there is missed, whatever is around it."""
        self.check(before + wanted + after, wanted)

    @given(LONG, st.integers(0, 300), st.integers(1, 100), st.sampled_from(" a"))
    def test_long_runs(self, run: str, at: int, length: int, end: str) -> None:
        """Nor in runs that are longer than a word can be."""
        self.check(f"x {run}{end}y", run[at : at + length])
        self.check(f"x {run}{end}y", run[at:] + end)
        self.check(f"x {run}{end}y", " " + run[: len(run) - at % len(run)])

    def test_words_are_bounded(self) -> None:
        """A text without spaces is cut, and twice as long in words at most."""
        run = "".join(chr(0x4E00 + at) for at in range(10_000))
        words = word.words(run)
        self.assertLessEqual(max(map(len, words)), word.LONGEST)
        self.assertLessEqual(sum(map(len, words)), 2 * len(run))
        self.assertEqual(word.words(run[: word.LONGEST]), {run[: word.LONGEST]})

    def test_which_are_exact(self) -> None:
        """A string without separators is; one with any is not."""
        for wanted, exact in {
            "report": True,
            "r": True,
            "two words": False,
            "end.": False,
            "": False,
            "...": False,
            "x" * word.PIECE_MAX: True,
            "x" * (word.PIECE_MAX + 1): False,
        }.items():
            self.assertEqual(word.pieces(wanted)[1], exact, wanted)
