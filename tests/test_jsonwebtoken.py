"""L{twisted_mta.jsonwebtoken}."""

import json
import os
from pathlib import Path
from typing import Any

from joserfc import jwk, jwt
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from twisted_mta.interfaces import ITokenVerifier
from twisted_mta.jsonwebtoken import JwtConfig, JwtPlugin, JwtVerifier
from twisted_mta.mail.channel import Channel
from twisted_mta.plugin import IPlugin

NOW = 1_700_000_000
RIGHT = {
    "iss": "https://id.example.test",
    "aud": "mail",
    "exp": NOW + 60,
    "email": "bob@example.test",
}


class JwtTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.key = jwk.ECKey.generate_key("P-256", {"kid": "1"})
        self.other = jwk.ECKey.generate_key("P-256", {"kid": "1"})
        self.keys = Path(self.mktemp())
        public = {"keys": [self.key.as_dict(private=False)]}
        self.keys.write_text(json.dumps(public))
        self.clock = Clock()
        self.clock.advance(NOW)
        config = JwtConfig(keys=self.keys, issuer=RIGHT["iss"], audience="mail")
        self.verifier = JwtVerifier(config, self.clock)

    def says(self, token: str) -> str | None:
        said = self.verifier.verify(token, Channel("192.0.2.1"))
        found: str | None = self.successResultOf(Deferred.fromCoroutine(said))
        return found

    def token(self, key: Any = None, **claims: object) -> str:
        header = {"alg": "ES256", "kid": "1"}
        return str(jwt.encode(header, {**RIGHT, **claims}, key or self.key))

    def test_interfaces(self) -> None:
        """Verifier and plugin are what they say."""
        verifyObject(ITokenVerifier, self.verifier)
        verifyObject(IPlugin, JwtPlugin())

    def test_right(self) -> None:
        """What the key signed, for us, and in time."""
        self.assertEqual(self.says(self.token()), "bob@example.test")
        self.assertEqual(self.says(self.token(aud=["mail", "x"])), "bob@example.test")

    def test_h40_wrong(self) -> None:
        """Anything else is nobody's: another key, issuer, audience, time; no
        signature, none of ours; no address; no token."""
        signed = self.token()
        head, body, signature = signed.split(".")
        unsigned = "eyJhbGciOiJub25lIn0"  # {"alg":"none"}
        for token in (
            self.token(self.other),
            self.token(iss="https://evil.example"),
            self.token(aud="other"),
            self.token(exp=NOW - 61),
            self.token(exp="soon"),
            self.token(email=None),
            self.token(email=["bob@example.test"]),
            f"{unsigned}.{body}.",
            f"{head}.{body}.",
            f"{head}.{body}.{signature[:-4]}AAAA",
            "",
            "a.b.c",
            "x" * 5000,
        ):
            self.assertIsNone(self.says(token), token[:40])

    def test_email_not_verified(self) -> None:
        """An address that nobody looked at could be anybody's; of another claim that
        says nothing."""
        self.assertEqual(self.says(self.token(email_verified=True)), RIGHT["email"])
        self.assertIsNone(self.says(self.token(email_verified=False)))
        config = JwtConfig(
            keys=self.keys, issuer=RIGHT["iss"], audience="mail", claim="upn"
        )
        self.verifier = JwtVerifier(config, self.clock)
        token = self.token(upn="x@example.test", email_verified=False)
        self.assertEqual(self.says(token), "x@example.test")

    def test_new_keys(self) -> None:
        """Keys that change are read again; while they cannot be read, the old ones
        stay."""
        with capturedLogs() as captured:
            self.keys.write_text("{")
            os.utime(self.keys, (1, 1))
            self.assertEqual(self.says(self.token()), RIGHT["email"])
            self.assertEqual(self.says(self.token()), RIGHT["email"])
        self.assertEqual(len(captured), 1)
        public = {"keys": [self.other.as_dict(private=False)]}
        self.keys.write_text(json.dumps(public))
        os.utime(self.keys, (2, 2))
        self.assertIsNone(self.says(self.token()))
        self.assertEqual(self.says(self.token(self.other)), RIGHT["email"])

    def test_keys(self) -> None:
        """A file that is none is told when the config is read."""
        self.keys.write_text("{}")
        for keys in (self.keys, Path("/nowhere/keys.json")):
            with self.assertRaisesRegex(ValueError, "keys: "):
                JwtConfig(keys=keys, issuer="x", audience="y")
