"""Passwords as argon2id hashes (RFC 9106), made and checked in threads.

A check costs tens of milliseconds of a processor by design, so at most a few
run at once, in threads of their own, and beyond a bound callers are told to
come back later. What was found right is remembered for some minutes, as a keyed
hash of the stored hash and the password together: who changes the password
thereby makes us forget the old one. It knows no accounts.
"""

from __future__ import annotations

import secrets
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar, cast

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from twisted_mta.errors import AuthenticationUnavailable
from twisted_mta.wire.scram import HASHES, Keys, make_keys

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a hash costs. OWASP's Password Storage Cheat Sheet, the first of its
    choices for argon2id that fits two at once into 40 MiB.

    @ivar memory_kib: KiB while it is computed.
    @ivar passes: over that memory.
    @ivar lanes: threads of one hash.
    """

    memory_kib: int = 19 * 1024
    passes: int = 2
    lanes: int = 1


# Hashes at once; the memory of each is above.
_THREADS = 2

# Callers that wait for a thread: a few seconds' worth.
_WAITING = 200

# What was found right. Dovecot: auth_cache_ttl 1 hour; here only as long as a
# client that polls needs.
_REMEMBER_S = 300.0
_REMEMBERED = 10_000


class Passwords:
    """Makes and checks hashes. L{close} it in the end."""

    def __init__(self, reactor: IReactorTime, cost: Cost | None = None) -> None:
        """
        @param reactor: also where threads report to.
        """
        self._reactor = reactor
        cost = cost or Cost()
        self._hasher = PasswordHasher(
            time_cost=cost.passes,
            memory_cost=cost.memory_kib,
            parallelism=cost.lanes,
        )
        self._pool = ThreadPool(0, _THREADS, "passwords")
        self._waiting = 0
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, float] = OrderedDict()
        # Checked for a name that nobody has, so that it takes as long.
        self._nobody = ""

    async def hash(self, password: str) -> str:
        """A new hash to store, in PHC string format.

        @raise AuthenticationUnavailable: too many wait already.
        """
        return await self._in_thread(self._hasher.hash, _prepared(password))

    async def check(self, stored: str | None, password: str) -> bool:
        """Whether the password is right.

        @param stored: what L{hash} made; C{None} takes as long and is wrong.
        @raise AuthenticationUnavailable: too many wait already.
        """
        prepared = _prepared(password)
        if not await self._in_thread(self._verify, stored, prepared):
            return False
        if stored is None:
            return False
        mark = self._mark(stored, prepared)
        self._right[mark] = self._reactor.seconds()
        self._right.move_to_end(mark)
        if len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)
        return True

    async def scram(self, password: str, like: Mapping[str, Keys]) -> tuple[str, str]:
        """What is kept of a password for SCRAM-SHA-256 and SCRAM-SHA-1; empty if it
        cannot be used there.

        @param like: by mechanism, keys with the salt and the iterations to use.
        @raise AuthenticationUnavailable: too many wait already.
        """
        return await self._in_thread(_scram, password, like)

    def known(self, stored: str, password: str) -> bool:
        """Whether this password was found right a short time ago."""
        mark = self._mark(stored, _prepared(password))
        found_at = self._right.get(mark)
        if found_at is None:
            return False
        if self._reactor.seconds() - found_at <= _REMEMBER_S:
            return True
        del self._right[mark]
        return False

    def close(self) -> None:
        """End the threads; a hash that is being made is waited for."""
        if self._pool.started:
            self._pool.stop()

    def _mark(self, stored: str, prepared: bytes) -> bytes:
        # NUL cannot be in a stored hash, so the two cannot run together.
        both = stored.encode() + b"\0" + prepared
        return blake2b(both, key=self._key, digest_size=32).digest()

    def _verify(self, stored: str | None, prepared: bytes) -> bool:
        """In a thread."""
        try:
            return self._hasher.verify(stored or self._dummy(), prepared)
        except (Argon2Error, InvalidHashError):
            return False

    def _dummy(self) -> str:
        if not self._nobody:
            self._nobody = self._hasher.hash(secrets.token_bytes(16))
        return self._nobody

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        if self._waiting >= _WAITING:
            raise AuthenticationUnavailable()
        if not self._pool.started:
            self._pool.start()
        self._waiting += 1
        try:
            reactor = cast(IReactorFromThreads, self._reactor)
            return await deferToThreadPool(reactor, self._pool, work, *arguments)
        finally:
            self._waiting -= 1


def _scram(password: str, like: Mapping[str, Keys]) -> tuple[str, str]:
    """In a thread: 10 ms."""
    try:
        first, second = (make_keys(name, password, like[name]) for name in HASHES)
    except ValueError:
        return "", ""
    return str(first), str(second)


def _prepared(password: str) -> bytes:
    """RFC 8265 section 4.2.2: keyboards differ in how they compose letters."""
    return unicodedata.normalize("NFC", password).encode(errors="surrogatepass")
