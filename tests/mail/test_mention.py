"""What may be taken for an address."""

import unittest

from twisted_mta.mail.mention import QUOTED, addresses


class MentionTests(unittest.TestCase):
    def test_addresses(self) -> None:
        """Each that stands outside of quotes and comments, however it is written."""
        for value, wanted in (
            (b"", []),
            (b"Alice <a@x>", [b"a@x"]),
            (b"a@x, Bob <b@y>;c@z", [b"a@x", b"b@y", b"c@z"]),
            (b"b@y <a@x>", [b"b@y", b"a@x"]),
            (b'"b@y" <a@x> (c@z (d@w))', [b"a@x"]),
            (b'"\\"" <a@x>', [b"a@x"]),
            (b'"a b"@x', [QUOTED + b"@x"]),
            (b"[List] <a@x>", [b"a@x"]),
        ):
            found = addresses(value)
            assert found is not None, value
            self.assertEqual([b"@".join(each) for each in found], wanted)

    def test_unclear(self) -> None:
        """What can be read in two ways is not read."""
        for value in (
            b'"a <a@x>',
            b"(a <a@x>",
            b"a) <a@x>",
            b"a\\ <a@x>",
            b"a@b@c",
            b"a @ x",
            b"@x",
            b'"a"b@x',
            b"[a@x] <b@y>",
            b"a@[1.2.3.4]",
            b"a\0@x",
        ):
            self.assertIsNone(addresses(value), value)

    def test_linear(self) -> None:
        """100 KB of anything take no time."""
        for piece in (b"(", b'"', b"\\", b"[", b"a@", b'"\\', b"()"):
            addresses(piece * (100_000 // len(piece)))
