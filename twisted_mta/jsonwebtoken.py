"""A verifier of tokens that are JSON Web Tokens (RFC 7519), by keys in a file.

The library that reads them, joserfc, comes with C{pip install 'twisted-mta[jwt]'}.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.interfaces import ITokenVerifier
from twisted_mta.mail.channel import Channel
from twisted_mta.plugin import Environment, IPlugin

# What a signature may be made with: none that a public key could be taken for the
# secret of (RFC 8725 2.1), and never "none".
_ALGORITHMS = ("RS256", "ES256", "PS256", "EdDSA", "Ed25519")

# Clocks differ.
_LEEWAY_S = 60


@frozen(kw_only=True)
class JwtConfig:
    """Tokens that are JSON Web Tokens."""

    # A file with the public keys of whoever gives them (JWK Set, RFC 7517), as it is
    # published under jwks_uri. Read again when it has changed.
    keys: Path
    # Who gives them: the claim iss.
    issuer: str
    # Whom they are for: the claim aud.
    audience: str
    # The claim with the address of the account. An email that is said to be not
    # verified is none.
    claim: str = "email"

    def __attrs_post_init__(self) -> None:
        _keys(self.keys)


@implementer(ITokenVerifier)
class JwtVerifier:
    """Believes what the keys have signed."""

    log = Logger()

    def __init__(self, config: JwtConfig, clock: Any) -> None:
        self._config = config
        self._clock = clock
        self._read_at, self._keys = _changed_at(config.keys), _keys(config.keys)

    async def verify(self, token: str, channel: Channel) -> str | None:
        """See L{ITokenVerifier.verify}. The check takes less than a millisecond."""
        jwt, errors = _library("jwt"), _library("errors")
        config = self._config
        self._reread()
        try:
            claims = jwt.decode(token, self._keys, list(_ALGORITHMS)).claims
            jwt.JWTClaimsRegistry(
                now=int(self._clock.seconds()),
                leeway=_LEEWAY_S,
                iss={"essential": True, "value": config.issuer},
                aud={"essential": True, "value": config.audience},
                exp={"essential": True},
            ).validate(claims)
        except (errors.JoseError, ValueError, TypeError, KeyError):
            return None
        name = claims.get(config.claim)
        if config.claim == "email" and claims.get("email_verified") is False:
            return None  # anybody could have written it there (OpenID Connect 5.1)
        return name if isinstance(name, str) else None

    def _reread(self) -> None:
        """Whoever gives the tokens changes his keys from time to time; what can no
        longer be read stays in use."""
        changed_at = _changed_at(self._config.keys)
        if changed_at != self._read_at:
            self._read_at = changed_at
            try:
                self._keys = _keys(self._config.keys)
            except ValueError as error:
                self.log.error("keys of tokens not read again: {error}", error=error)


@implementer(IPlugin)
class JwtPlugin:
    """How the config chooses it."""

    kind = "tokens"
    name = "jwt"
    config = JwtConfig

    def build(self, config: JwtConfig, environment: Environment) -> JwtVerifier:
        """Make the verifier."""
        return JwtVerifier(config, environment.reactor)


def _library(name: str) -> Any:
    """@raise ValueError: it is not installed."""
    try:
        return importlib.import_module(f"joserfc.{name}")
    except ImportError:
        raise ValueError(
            "the kind jwt needs joserfc; run pip install 'twisted-mta[jwt]'"
        )


def _changed_at(file: Path) -> int:
    """When it was written last; 0 while it is not there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _keys(file: Path) -> Any:
    """@raise ValueError: they cannot be used."""
    jwk = _library("jwk")
    try:
        return jwk.KeySet.import_key_set(json.loads(file.read_text("utf-8")))
    except OSError as error:
        raise ValueError(f"keys: {file}: cannot be read: {error.strerror}")
    except Exception as error:  # whatever the library says of what is no key set
        raise ValueError(f"keys: {file}: is no JWK Set: {error}")
