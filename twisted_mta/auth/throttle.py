"""Slows down clients that guess passwords.

Each failure of a client's network doubles how long its next attempt waits, and
each minute without one halves it, as Dovecot's auth penalty does with its 2 to
15 seconds. A right password does not excuse the wrong ones: whoever owns one
account could guess at the others between. It waits for nothing itself, and its
memory is bounded: the network that failed longest ago is forgotten first.

Failures at one account count as well, from wherever they come: after ten of them its
attempts wait in the same way, but not those from a network that it has logged in from
before. So a botnet gets no further, and locks nobody out.

Where several processes serve, each tells the others of its failures, and they
count together who waits (L{tally <twisted_mta.net.tally>}).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted_mta.net.admission import network
from twisted_mta.net.tally import ITally, Tally

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# Dovecot: AUTH_PENALTY_INIT_SECS and AUTH_PENALTY_MAX_SECS.
_FIRST_S = 2.0
_LONGEST_S = 15.0

# After this long without a failure, the wait is half of what it was.
_HALVED_S = 60.0

# Failures beyond these make nothing longer: 2, 4, 8, 15 s.
_MOST_FAILURES = 4

# Failures at an account until its attempts wait: people mistype.
_FREE = 10

# Accounts with failures, and networks that accounts have logged in from.
_ACCOUNTS = 20_000

# Attempts of one network that may wait at the same time: who guesses over fifty
# connections at once gains nothing.
_WAITING = 5

# Networks remembered; some 200 octets each.
_NETWORKS = 20_000


@dataclass(frozen=True, slots=True)
class _Failures:
    count: float
    last_at: float


class Throttle:
    """Counts failures by network."""

    def __init__(
        self,
        clock: IReactorTime,
        tell: Callable[[str], None] = lambda host: None,
        tally: ITally | None = None,
    ) -> None:
        """
        @param tell: called for each failure, and when an account logs in from a
            network that is new to it, with what L{heard} is called with in other
            processes.
        @param tally: counts who waits; C{None}: those of this process alone.
        """
        self._clock = clock
        self._tell = tell
        self._tally = Tally() if tally is None else tally
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._accounts: OrderedDict[str, _Failures] = OrderedDict()
        self._welcome: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __len__(self) -> int:
        """How many networks are remembered."""
        return len(self._failures)

    def delay_s(self, host: str, account: str = "") -> float:
        """How long an attempt waits.

        @param account: the key of the address; empty: it is none.
        """
        near = network(host)
        waits_s = _delay_s(self._count(self._failures, near))
        if account and (account, near) not in self._welcome:
            failures = self._count(self._accounts, account) - _FREE
            waits_s = max(waits_s, _delay_s(failures))
        return waits_s

    def succeeded(self, host: str, account: str) -> None:
        """Somebody logged in."""
        key = account, network(host)
        if key in self._welcome:
            self._welcome.move_to_end(key)
            return
        said = f"{_WELCOME}{key[1]} {account}"
        self.heard(said)
        self._tell(said)

    def enter(self, host: str) -> bool:
        """An attempt begins its wait, and ends it with L{leave}.

        @return: whether it may; if not, too many of its network wait already.
        """
        key = _waiting(host)
        if self._tally.add(key, 1) > _WAITING:
            self._tally.add(key, -1)
            return False
        return True

    def leave(self, host: str) -> None:
        """An attempt ended its wait."""
        self._tally.add(_waiting(host), -1)

    def failed(self, host: str, account: str = "") -> None:
        """An attempt from this address failed, at an account if it names one."""
        for key in (host, _ACCOUNT + account) if account else (host,):
            self.heard(key)
            self._tell(key)

    def heard(self, key: str) -> None:
        """An attempt failed or came from a new network, perhaps in another process.

        @param key: as it was told.
        """
        if key.startswith(_WELCOME):
            near, _, account = key.removeprefix(_WELCOME).partition(" ")
            self._welcome[account, near] = None
            if len(self._welcome) > _ACCOUNTS:
                self._welcome.popitem(last=False)
        elif key.startswith(_ACCOUNT):
            account = key.removeprefix(_ACCOUNT)
            self._add(self._accounts, account, _FREE + _MOST_FAILURES, _ACCOUNTS)
        else:
            self._add(self._failures, network(key), _MOST_FAILURES, _NETWORKS)

    def _add(
        self, kept: OrderedDict[str, _Failures], key: str, most: int, size: int
    ) -> None:
        count = min(most, self._count(kept, key) + 1)
        kept[key] = _Failures(count, self._clock.seconds())
        kept.move_to_end(key)
        if len(kept) > size:
            kept.popitem(last=False)

    def _count(self, kept: OrderedDict[str, _Failures], key: str) -> float:
        """Failures, less one for each time that the wait was halved."""
        failures = kept.get(key)
        if failures is None:
            return 0
        quiet_s = self._clock.seconds() - failures.last_at
        left = failures.count - quiet_s // _HALVED_S
        if left <= 0:
            del kept[key]
            return 0
        return left


# How what is told of an account begins; no address of a host does.
_ACCOUNT = "account "
_WELCOME = "welcome "


def _delay_s(failures: float) -> float:
    if failures < 1:
        return 0.0
    return min(_LONGEST_S, _FIRST_S * 2 ** (failures - 1))


def _waiting(host: str) -> str:
    """The key of who waits, apart from those of connections."""
    return f"login {network(host)}"
