"""Texts as sets of words, so that an index of words finds substrings.

A word is a run of letters, digits and underscores. A text contains a string
without separators exactly if one of its words does; a string with separators is
cut into pieces, of which each must be in a word, at its start or end where the
string goes on behind a separator. So a set of words answers the first kind, and
for the second gives candidates. The functions work on text that is folded
(L{twisted_mta.mail.text.fold}), and what they say holds for one version of
Unicode (C{unicodedata.unidata_version}).
"""

import re
from typing import NamedTuple

LONGEST = 64
"""Characters of a word. A longer run (text without spaces, encoded data) is cut
into words that overlap, so that what is looked for lies within one of them."""

_STRIDE = LONGEST // 2

PIECE_MAX = LONGEST - _STRIDE + 1
"""Characters that lie within one word wherever they are in a run."""

_RUN = re.compile(r"\w+")


class Piece(NamedTuple):
    """Something that must be in a word.

    @ivar starts: the word starts with it.
    @ivar ends: the word ends with it.
    """

    text: str
    starts: bool
    ends: bool


def words(text: str) -> set[str]:
    """The words of a text."""
    found = set(_RUN.findall(text))
    long = [run for run in found if len(run) > LONGEST]
    for run in long:
        found.remove(run)
        last = len(run) - LONGEST + _STRIDE
        found.update(run[at : at + LONGEST] for at in range(0, last, _STRIDE))
    return found


def pieces(wanted: str) -> tuple[list[Piece], bool]:
    """What must be in the words of each text that contains a string.

    @return: the pieces, and whether the first, being the only one, is the whole
        string: then a text whose words contain it contains the string.
    """
    found = []
    for run in _RUN.finditer(wanted):
        text = run[0]
        starts, ends = run.start() > 0, run.end() < len(wanted)
        if len(text) > PIECE_MAX:
            # The words of so long a run begin and end with it, but none may
            # hold all of it.
            if ends and not starts:
                text, ends = text[-PIECE_MAX:], True
            else:
                text, ends = text[:PIECE_MAX], False
        found.append(Piece(text, starts, ends))
    return found, len(found) == 1 and found[0].text == wanted
