"""L{twisted_mta.net.place}: several processes that serve together."""

import unittest

from twisted_mta.net.place import Place
from twisted_mta.net.tally import Tally


class PlaceTests(unittest.TestCase):
    """What one of several workers has of a limit."""

    def test_share(self) -> None:
        """The shares of all are the whole, and differ by one at most."""
        for whole in (1, 2, 5, 20, 100):
            for of in (1, 2, 3, 8):
                places = [
                    Place(number, of, Tally(), Tally(), lambda host: None)
                    for number in range(1, of + 1)
                ]
                shares = [place.share(whole) for place in places]
                self.assertEqual(sum(shares), whole)
                self.assertLessEqual(max(shares) - min(shares), 1)
