"""Requirements of L{twisted_mta.mail.transfer}."""

import base64
import quopri
import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.mail import transfer


class TransferTests(unittest.TestCase):
    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=200))
    def test_round_trip(self, octets: bytes) -> None:
        """What the standard library encodes is decoded."""
        encoded = base64.encodebytes(octets).replace(b"\n", b"\r\n")
        self.assertEqual(transfer.decode(encoded, b"base64"), octets)
        encoded = quopri.encodestring(octets.replace(b"\r", b"").replace(b"\n", b""))
        self.assertEqual(
            transfer.decode(encoded, b"quoted-printable"),
            octets.replace(b"\r", b"").replace(b"\n", b""),
        )

    def test_broken(self) -> None:
        """Base64 that is cut or dirty decodes as far as it goes."""
        self.assertEqual(transfer.base64(b"aGVs bG8"), b"hello")
        self.assertEqual(transfer.base64(b"aGVs-\xffbG8=!"), b"hello")
        self.assertEqual(transfer.base64(b"aGVsb"), b"hel")
        self.assertEqual(transfer.base64(b"===="), b"")

    @settings(max_examples=100, deadline=None)
    @given(
        st.binary(max_size=60),
        st.sampled_from([b"base64", b"quoted-printable", b"7bit", b"x-uuencode", b""]),
    )
    def test_any(self, octets: bytes, encoding: bytes) -> None:
        """Nothing raises, and nothing grows."""
        self.assertLessEqual(len(transfer.decode(octets, encoding)), len(octets))
