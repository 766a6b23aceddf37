"""Line ends."""

import re
import unittest
from itertools import product

from twisted_mta.mail import lineend

_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class LineEndTests(unittest.TestCase):
    def test_bare(self) -> None:
        """Of all short octets: those that a CR or LF stands alone in."""
        for size in range(8):
            for each in product(b"\r\nx", repeat=size):
                octets = bytes(each)
                wanted = _BARE.search(octets) is not None
                self.assertEqual(lineend.bare(octets), wanted, octets)

    def test_count(self) -> None:
        """LF between two places, whatever is before them."""
        octets = b"one\ntwo\r\n\n\rthree\n"
        self.assertEqual(lineend.count(octets), 4)
        for start in range(len(octets) + 1):
            self.assertEqual(lineend.count(octets, start), octets.count(b"\n", start))
            for end in range(start, len(octets) + 2):
                wanted = octets.count(b"\n", start, end)
                self.assertEqual(lineend.count(octets, start, end), wanted)
