"""What domains say of themselves by MTA-STS (RFC 8461), found out and remembered.

A policy that was fetched once holds until it ends, whatever becomes of the DNS and the
Web meanwhile: that is what it is good for. It is in the ledger, so that all processes
have it and a restart takes it from none; in memory for some minutes, since every
message asks. It is fetched anew when the domain says that it has changed, and in good
time before it ends (L{StsRenewal}, in one process). It trusts no domain: one that does
not answer costs the mail for it, and nobody else's, a bounded time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twisted_mta.delivery.smtp.security import Announced
from twisted_mta.delivery.text import one_line
from twisted_mta.errors import ResolverUnavailable, Temporary
from twisted_mta.interfaces import ILedger, IResolver, ITransaction
from twisted_mta.mail.stspolicy import OCTETS_MOST, StsPolicy, announced, read
from twisted_mta.net.https import Https, Unanswered, Untrusted

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

_PATH = "/.well-known/mta-sts.txt"

# RFC 8461 3.3: a minute for all of the fetching, and
_FETCH_S = 60.0
# five between two tries in vain. As long is what is known not asked for again.
_FRESH_S = 300.0

# Domains whose policy, or that they have none, is in memory.
_REMEMBERED = 10_000

_DAY_S = 86400.0

# Whose policy nobody has asked for so long is not fetched anew (mox: 30 days).
_UNUSED_S = 30 * _DAY_S

# Policies that are fetched anew at one look; and how often it is looked.
_RENEWED = 50
_LOOK_S = 600.0

# RFC 8460 4.3.2.
_NO_ANSWER = "sts-policy-fetch-error"
_UNTRUSTED = "sts-webpki-invalid"
_INVALID = "sts-policy-invalid"

# Characters of a reason in the log, of which a Web server may choose some.
_WHY = 200


@dataclass(frozen=True, slots=True)
class Held:
    """A policy that is in the ledger, and has not ended."""

    id: str
    policy: StsPolicy
    used_at: float


class _NotFetched(Exception):
    """Its text is why, as RFC 8460 calls it."""


class StsPolicies:
    """Knows policies.

    @param web: how they are fetched.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, resolver: IResolver, ledger: ILedger, web: Https
    ) -> None:
        self._clock = clock
        self._resolver = resolver
        self._ledger = ledger
        self._web = web
        self._known: OrderedDict[str, tuple[float, Announced]] = OrderedDict()
        self._asking: dict[str, list[Deferred[Announced]]] = {}

    async def of(self, domain: str) -> Announced:
        """What a domain says of itself.

        @param domain: as A-labels, lower case.
        @raise Temporary: what is known of it cannot be read now.
        """
        until, known = self._known.get(domain, (0.0, Announced()))
        if until > self._clock.seconds():
            return known
        waiting: Deferred[Announced] = Deferred()
        if domain in self._asking:
            self._asking[domain].append(waiting)
        else:
            # Nobody's own: who stops waiting takes it from no one else.
            self._asking[domain] = [waiting]
            Deferred.fromCoroutine(self._find_out(domain))
        return await waiting

    async def renew(self, domain: str) -> None:
        """Fetch a policy anew, whatever its id is."""
        try:
            id = announced(await self._resolver.txt(f"_mta-sts.{domain}"))
            if id is not None:
                await self._fetch(domain, id)
                return
            why = "the domain says no more that it has one"
        except (ResolverUnavailable, _NotFetched) as error:
            why = str(error)
        self._log.info("mta-sts: {domain}: not renewed: {why}", domain=domain, why=why)
        # It holds until it ends, and is looked at again in a while.
        await self._write(
            "UPDATE sts_policy SET renew_at = ? WHERE domain = ?",
            (self._clock.seconds() + _DAY_S / 4, domain),
        )

    async def _find_out(self, domain: str) -> None:
        """The top of a task. A policy that is there must not be passed over because
        it cannot be read."""
        try:
            found = await self._look(domain)
        except Temporary as error:
            self._tell(domain, error)
        except Exception:
            self._log.failure("a bug in MTA-STS")
            self._tell(domain, Temporary())
        else:
            self._known[domain] = self._clock.seconds() + _FRESH_S, found
            self._known.move_to_end(domain)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
            self._tell(domain, found)

    def _tell(self, domain: str, found: Announced | Temporary) -> None:
        for waiting in self._asking.pop(domain):
            if isinstance(found, Announced):
                waiting.callback(found)
            else:
                waiting.errback(found)

    async def _look(self, domain: str) -> Announced:
        held = await self._held(domain)
        try:
            id = announced(await self._resolver.txt(f"_mta-sts.{domain}"))
        except ResolverUnavailable:
            id = None
        result = ""
        if id is not None and (held is None or held.id != id):
            try:
                return Announced(await self._fetch(domain, id))
            except _NotFetched as error:
                result = str(error)
        if held is None:
            return Announced(None, result)
        await self._use(domain, held)
        return Announced(held.policy)

    async def _held(self, domain: str) -> Held | None:
        now = self._clock.seconds()
        rows = await self._ledger.lookup(
            lambda transaction: list(
                transaction.execute(
                    "SELECT id, policy, used_at FROM sts_policy"
                    " WHERE domain = ? AND expires_at > ?",
                    (domain, now),
                )
            )
        )
        for id, octets, used_at in rows:
            return Held(id, read(bytes(octets)), used_at)
        return None

    async def _use(self, domain: str, held: Held) -> None:
        """Remember that it is wanted: once a day is enough."""
        now = self._clock.seconds()
        if now - held.used_at > _DAY_S:
            sql = "UPDATE sts_policy SET used_at = ? WHERE domain = ?"
            await self._write(sql, (now, domain))

    async def _fetch(self, domain: str, id: str) -> StsPolicy:
        """Fetch a policy and keep it.

        @raise _NotFetched: it could not be.
        """
        octets, policy = await self._ask(domain)
        now = self._clock.seconds()
        # A day later, or halfway: RFC 8461 10.2 wants it well before the end.
        renew_at = now + min(_DAY_S, policy.age_s / 2)
        await self._write(
            "INSERT INTO sts_policy (domain, id, policy, renew_at, expires_at, used_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (domain) DO UPDATE SET"
            " id = excluded.id, policy = excluded.policy,"
            " renew_at = excluded.renew_at, expires_at = excluded.expires_at",
            (domain, id, octets, renew_at, now + policy.age_s, now),
        )
        self._log.info(
            "mta-sts: {domain}: mode={mode}, mx={hosts}, max_age={age} s",
            domain=domain,
            mode=policy.mode.value,
            hosts=",".join(policy.hosts[:20]),
            age=policy.age_s,
        )
        return policy

    async def _ask(self, domain: str) -> tuple[bytes, StsPolicy]:
        host = f"mta-sts.{domain}"
        try:
            answer = await self._web.get(host, _PATH, OCTETS_MOST, _FETCH_S)
        except Untrusted as error:
            raise self._in_vain(domain, _UNTRUSTED, str(error))
        except Unanswered as error:
            raise self._in_vain(domain, _NO_ANSWER, str(error))
        if answer.status != 200:
            raise self._in_vain(domain, _NO_ANSWER, f"{host} said {answer.status}")
        if answer.type != "text/plain":
            why = f"it is {answer.type or 'of no type'}, not text/plain"
            raise self._in_vain(domain, _INVALID, why)
        try:
            return answer.body, read(answer.body)
        except ValueError as error:
            raise self._in_vain(domain, _INVALID, str(error))

    def _in_vain(self, domain: str, result: str, why: str) -> _NotFetched:
        self._log.info(
            "mta-sts: {domain}: no policy: {result}: {why}",
            domain=domain,
            result=result,
            why=one_line(why, _WHY),
        )
        return _NotFetched(result)

    async def _write(self, sql: str, values: Sequence[Any]) -> None:
        """What cannot be written is known to this process alone, for a while."""

        def unit(transaction: ITransaction) -> None:
            transaction.execute(sql, values)

        try:
            await self._ledger.write(unit, brief=True)
        except Temporary as error:
            self._log.warn("mta-sts: not remembered: {why}", why=error.text)


class StsRenewal:
    """Fetches policies anew before they end; a chore for one process.

    @ivar every_s: how often.
    """

    every_s = _LOOK_S

    def __init__(
        self, clock: IReactorTime, ledger: ILedger, policies: StsPolicies
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._policies = policies

    async def work(self) -> None:
        """Do it once.

        @raise Temporary: the ledger is away.
        """
        now = self._clock.seconds()
        if not await self._ledger.read(lambda t: _any_due(t, now)):
            return
        due: Sequence[str] = await self._ledger.write(lambda t: _due(t, now))
        for domain in due:
            await self._policies.renew(domain)


def _any_due(transaction: ITransaction, now: float) -> bool:
    sql = "SELECT 1 FROM sts_policy WHERE renew_at <= ? LIMIT 1"
    return bool(list(transaction.execute(sql, (now,))))


def _due(transaction: ITransaction, now: float) -> list[str]:
    """Which are due; what has ended, or nobody wants, is forgotten on the way."""
    transaction.execute(
        "DELETE FROM sts_policy WHERE domain IN (SELECT domain FROM sts_policy"
        " WHERE renew_at <= ? AND (expires_at <= ? OR used_at <= ?) LIMIT 1000)",
        (now, now, now - _UNUSED_S),
    )
    rows = transaction.execute(
        "SELECT domain FROM sts_policy WHERE renew_at <= ? AND expires_at > ?"
        " AND used_at > ? ORDER BY renew_at LIMIT ?",
        (now, now, now - _UNUSED_S, _RENEWED),
    )
    return [domain for (domain,) in rows]
