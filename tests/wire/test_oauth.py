"""L{twisted_mta.wire.oauth}."""

import json
import unittest

from hypothesis import given
from hypothesis import strategies as st

from twisted_mta.wire import oauth
from twisted_mta.wire.oauth import Token
from twisted_mta.wire.sasl import MalformedResponse


class OAuthTests(unittest.TestCase):
    def test_bearer(self) -> None:
        """The example of RFC 7628 4.1, and without a name."""
        message = (
            b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
            b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
        )
        token = oauth.read_bearer(message)
        self.assertEqual(token.name, "user@example.com")
        self.assertEqual(token.token, "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")
        self.assertEqual(oauth.read_bearer(b"n,,\x01auth=bearer x\x01\x01").name, "")

    def test_xoauth2(self) -> None:
        """As Google's documents have it."""
        message = b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2\x01\x01"
        wanted = Token("someuser@example.com", "ya29.vF9dft4qmTc2")
        self.assertEqual(oauth.read_xoauth2(message), wanted)

    def test_both_sides(self) -> None:
        """What our client says our server reads."""
        wanted = Token("a=b,c@example.org", "to.k-en=")
        said = oauth.bearer(wanted.name, wanted.token)
        self.assertEqual(oauth.read_bearer(said), wanted)
        said = oauth.xoauth2(wanted.name, wanted.token)
        self.assertEqual(oauth.read_xoauth2(said), wanted)

    def test_h40_malformed(self) -> None:
        """What is of another form is refused."""
        for message in (
            b"",
            b"n,,\x01\x01",
            b"n,,\x01auth=Basic x\x01\x01",
            b"n,,\x01auth=Bearer \x01\x01",
            b"n,,\x01auth=Bearer a b\x01\x01",
            b"n,,\x01auth=Bearer x\x01",
            b"y,,\x01auth=Bearer x\x01\x01",
            b"n,a=\xff,\x01auth=Bearer x\x01\x01",
            b"n,a=a\n,\x01auth=Bearer x\x01\x01",
            b"n,,\x01auth=Bearer " + b"x" * 9000 + b"\x01\x01",
        ):
            self.assertRaises(MalformedResponse, oauth.read_bearer, message)
        for message in (b"", b"user=a\x01\x01", b"user=a\x01auth=Bearer x\x01"):
            self.assertRaises(MalformedResponse, oauth.read_xoauth2, message)

    @given(st.binary(max_size=60))
    def test_h40_garbage(self, octets: bytes) -> None:
        """Whatever comes is a token or refused."""
        for read in (oauth.read_bearer, oauth.read_xoauth2):
            try:
                read(octets)
            except MalformedResponse:
                continue

    def test_refusal(self) -> None:
        """RFC 7628 3.2.2: JSON with a status."""
        said = json.loads(oauth.refusal())
        self.assertEqual(said["status"], "invalid_token")
