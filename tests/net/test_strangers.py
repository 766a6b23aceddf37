"""L{twisted_mta.net.strangers}."""

from __future__ import annotations

from unittest import TestCase

from twisted_mta.net.strangers import Guest, Strangers


class Connection:
    """One that came."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stranger = True


class StrangersTests(TestCase):
    def setUp(self) -> None:
        self.now_s = 0.0
        self.strangers = Strangers(lambda: self.now_s)
        self.ended: list[str] = []

    def come(self, network: str, count: int = 1) -> list[Connection]:
        """Connections of a network, a second after each other."""
        came = []
        for number in range(count):
            came.append(Connection(f"{network}{number}"))
            self.strangers.add(network, came[-1], self.end)
            self.now_s += 1
        return came

    def end(self, guest: Guest) -> None:
        assert isinstance(guest, Connection)
        self.ended.append(guest.name)

    def test_h36_who_has_most_makes_room(self) -> None:
        """The oldest of the network with the most goes, again and again, until the
        newcomers' has as many."""
        self.come("a", 2)
        self.come("b", 5)
        self.now_s = 5
        for _ in range(2):
            self.assertTrue(self.strangers.displace("c"))
            self.come("c")
        self.assertFalse(self.strangers.displace("c"))
        self.assertEqual(self.ended, ["b0", "b1"])

    def test_h36_does_not_displace_himself(self) -> None:
        """Who has most of the places gets no more by coming again."""
        self.come("a", 5)
        self.come("b", 5)
        self.now_s = 5
        self.assertFalse(self.strangers.displace("a"))
        self.assertEqual(self.ended, [])

    def test_h36_from_everywhere(self) -> None:
        """If each network has one, the oldest goes once it has had its time."""
        for name in "abc":
            self.come(name)
        self.now_s = 9.9
        self.assertFalse(self.strangers.displace("d"))
        self.now_s = 10.0
        self.assertTrue(self.strangers.displace("d"))
        self.assertFalse(self.strangers.displace("e"))
        self.assertEqual(self.ended, ["a0"])

    def test_those_who_are_known_stay(self) -> None:
        """Who has logged in or brought mail is not asked to go, and is counted for
        nobody."""
        known = self.come("a", 3)
        for connection in known:
            connection.stranger = False
        self.come("b", 2)
        self.now_s = 1000
        self.assertTrue(self.strangers.displace("c"))
        self.assertTrue(self.strangers.displace("c"))
        self.assertFalse(self.strangers.displace("c"))
        self.assertEqual(self.ended, ["b0", "b1"])
        self.assertEqual(len(self.strangers), 0)

    def test_those_who_went(self) -> None:
        """Whoever ends by himself is forgotten, also if he was displaced before."""
        first, second = self.come("a", 2)
        self.strangers.remove(second)
        self.now_s = 1000
        self.assertTrue(self.strangers.displace("b"))
        self.strangers.remove(first)
        self.assertFalse(self.strangers.displace("b"))
        self.assertEqual(len(self.strangers), 0)
