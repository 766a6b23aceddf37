"""L{twisted_mta.wire.proxy}."""

import struct
import unittest
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from twisted_mta.wire.proxy import BadHeader, Proxied, read

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\n"


def version_2(command: int, family: int, body: bytes) -> bytes:
    """A header."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def addresses(source: str, target: str, port: int) -> bytes:
    """Those of a TCP connection."""
    packed = ip_address(source).packed + ip_address(target).packed
    return packed + struct.pack("!HH", port, 25)


V2 = version_2(0x21, 0x11, addresses("192.0.2.1", "198.51.100.1", 56324))


class ReadTests(unittest.TestCase):
    def test_version_1(self) -> None:
        """The examples of section 2.1."""
        six = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 25\r\n"
        for header, host, port in (
            (V1, "192.0.2.1", 56324),
            (six, "2001:db8::1", 1),
            (b"PROXY UNKNOWN\r\n", "", 0),
            (b"PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n", "", 0),
        ):
            self.assertEqual(read(header), Proxied(host, port, len(header)))

    def test_version_2(self) -> None:
        """TCP over IPv4 and IPv6, with what may follow; LOCAL and the like."""
        six = addresses("2001:db8::1", "2001:db8::2", 7)
        four = addresses("192.0.2.1", "198.51.100.1", 9)
        for header, host, port in (
            (V2, "192.0.2.1", 56324),
            (version_2(0x21, 0x21, six), "2001:db8::1", 7),
            (version_2(0x21, 0x11, four + b"\x04\x00\x01x"), "192.0.2.1", 9),
            (version_2(0x20, 0x00, b""), "", 0),
            (version_2(0x20, 0x11, four), "", 0),
            (version_2(0x21, 0x00, b""), "", 0),
            (version_2(0x21, 0x31, b"x" * 216), "", 0),
        ):
            self.assertEqual(read(header), Proxied(host, port, len(header)))

    def test_every_chunking(self) -> None:
        """Until it is whole more has to come; what follows is left."""
        for header in (V1, V2):
            for cut in range(len(header)):
                self.assertIsNone(read(header[:cut]), cut)
            found = read(header + b"EHLO x\r\n")
            assert found is not None
            self.assertEqual(found.length, len(header))

    def test_refused(self) -> None:
        """What is none, or has no end."""
        for octets in (
            b"EHLO x\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            b"PROXY TCP4 192.0.2.256 198.51.100.1 1 25\r\n",
            b"PROXY TCP4 2001:db8::1 2001:db8::2 1 25\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 25\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 25\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.1 1 25\r\n",
            b"PROXY " + b"x" * 101,
            version_2(0x31, 0x11, b""),
            version_2(0x22, 0x11, b""),
            version_2(0x21, 0x11, b"x" * 11),
            version_2(0x21, 0x11, b"x" * 2049),
        ):
            self.assertRaises(BadHeader, read, octets)

    @given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", SIGNATURE]))
    def test_any_octets(self, octets: bytes, begin: bytes) -> None:
        """Whatever comes, it is read, refused, or too short to tell; and never longer
        than 2064 octets."""
        try:
            found = read(begin + octets)
        except BadHeader:
            return
        if found is not None:
            self.assertLessEqual(found.length, len(begin + octets))
