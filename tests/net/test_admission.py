"""L{twisted_mta.net.admission}: counting connections."""

import resource
import unittest
from unittest import mock

from twisted_mta.net.admission import Admission, descriptors, network
from twisted_mta.net.tally import Tally


class NetworkTests(unittest.TestCase):
    def test_what_one_customer_has(self) -> None:
        """An IPv4 address counts alone, an IPv6 address with its /64, and a
        mapped address as the IPv4 address it is."""
        for host, expected in (
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("", ""),
        ):
            self.assertEqual(network(host), expected)


class AdmissionTests(unittest.TestCase):
    def test_in_all(self) -> None:
        """The limit is refused, and a place that was left is given again."""
        admission = Admission(2)
        self.assertEqual(admission.enter("192.0.2.1"), "")
        self.assertEqual(admission.enter("192.0.2.1"), "")
        self.assertEqual(admission.enter("192.0.2.2"), "too many connections")
        admission.leave("192.0.2.1")
        self.assertEqual(admission.enter("192.0.2.2"), "")
        self.assertEqual(admission.count, 2)

    def test_h36_from_one_network(self) -> None:
        """One network cannot take all places, whichever of its addresses it
        comes from; others still get in."""
        admission = Admission(100, 2)
        self.assertEqual(admission.enter("2001:db8::1"), "")
        self.assertEqual(admission.enter("2001:db8::2"), "")
        self.assertIn("2001:db8::/64", admission.enter("2001:db8::3"))
        self.assertEqual(admission.enter("2001:db8:0:1::1"), "")
        admission.leave("2001:db8::1")
        self.assertEqual(admission.enter("2001:db8::3"), "")

    def test_unix_sockets(self) -> None:
        """They count in all, not as one network."""
        admission = Admission(3, 1)
        answers = [admission.enter("") for _ in range(4)]
        self.assertEqual(answers, ["", "", "", "too many connections"])

    def test_wider(self) -> None:
        """What a wider one refuses counts in neither."""
        wide = Admission(2)
        one, other = Admission(10, within=wide), Admission(10, within=wide)
        self.assertEqual(one.enter("192.0.2.1"), "")
        self.assertEqual(other.enter("192.0.2.1"), "")
        self.assertEqual(other.enter("192.0.2.1"), "too many connections")
        self.assertEqual((one.count, other.count, wide.count), (1, 1, 2))
        one.leave("192.0.2.1")
        self.assertEqual((one.count, other.count, wide.count), (0, 1, 1))

    def test_nothing_is_remembered(self) -> None:
        """Networks that left take no memory."""
        tally = Tally()
        admission = Admission(10, tally=tally)
        for last in range(200):
            admission.enter(f"192.0.2.{last}")
            admission.leave(f"192.0.2.{last}")
        self.assertEqual(len(tally), 0)

    def test_h38_descriptors(self) -> None:
        """Connections leave descriptors for the rest of the server."""
        for limit, expected in (
            (1024, 832),
            (256, 64),
            (resource.RLIM_INFINITY, 1 << 20),
        ):
            with mock.patch.object(resource, "getrlimit", return_value=(limit, limit)):
                self.assertEqual(descriptors(), expected)
