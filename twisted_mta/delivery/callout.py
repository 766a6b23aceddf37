"""Asking the server that has a domain whether an address exists, and remembering.

It is asked of relayed domains, and of those of ours that another server delivers for.
Times and rules are those of Postfix's ADDRESS_VERIFICATION_README. It is asked as if a
bounce came (MAIL FROM:<>, RCPT), and there is never any message. Only a plain "no such
address" is believed to be one: whoever refuses us for another reason, or does not
answer, has said nothing. What a stranger can have asked is bounded: one question for
each address at a time, and so many to each server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.delivery.text import one_line
from twisted_mta.errors import (
    MailError,
    NoSuchAccount,
    Permanent,
    Temporary,
    Unverified,
)
from twisted_mta.interfaces import (
    ICallout,
    IDeliveryAgent,
    IForesight,
    ILedger,
    ITransaction,
)
from twisted_mta.mail.address import Address
from twisted_mta.mail.route import Outcome, Resolved, Result, ToAgent

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# Postfix: address_verify_positive_expire_time 31d, positive_refresh_time 7d,
# negative_expire_time 3d, negative_refresh_time 3h.
_GOOD_S = 31 * 86400.0
_GOOD_FRESH_S = 7 * 86400.0
_BAD_S = 3 * 86400.0
_BAD_FRESH_S = 3 * 3600.0
# In a domain of ours: nobody who has just made an account there waits for hours, and
# mail for an account that is gone is not taken, and returned, for days.
_OWN_BAD_FRESH_S = 300.0
_OWN_GOOD_FRESH_S = 3600.0

# How long a client waits for the answer. Postfix: address_verify_poll_count 3 times
# poll_delay 3 s; RFC 5321 4.5.3.2.3 gives RCPT 5 minutes.
_WAIT_S = 15.0

# Questions to one next hop at the same time. Postfix:
# default_destination_concurrency_limit 20.
_AT_ONCE = 20

# Addresses that are remembered: whoever asks for invented ones shall not fill the disk.
_REMEMBERED = 200_000
_CLEAR_AFTER = 1_000
_CLEARED = 2_000

# Nobody has it (RFC 3463 3.2, 3.3): bad mailbox, domain or syntax, moved, disabled.
_NOBODY = frozenset({"5.1.0", "5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
# The same without an enhanced status, of which none is made 5.0.0; RFC 5321 4.2.3.
_PLAIN = "5.0.0"
_PLAIN_CODES = ("550", "551", "553")


_Hop = tuple[str, str]


class _Known(NamedTuple):
    good: bool
    asked_at: float
    said: str


class _Answer(NamedTuple):
    """What came of a question; C{None}: nothing."""

    known: _Known | None = None
    outcome: Outcome | None = None


_NOTHING = _Answer()


@implementer(ICallout)
class Callout:
    """Asks, by agents that can.

    @param agents: by the names that routes give them; those that provide
        L{IForesight} are asked.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        ledger: ILedger,
        agents: Mapping[str, IDeliveryAgent],
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._agents = {
            name: cast(IForesight, agent)
            for name, agent in agents.items()
            if IForesight.providedBy(agent)
        }
        self._asking: dict[str, list[Deferred[_Answer]]] = {}
        self._at_hop: Counter[_Hop] = Counter()
        self._written = 0

    async def ask(self, resolved: Resolved) -> None:
        """See L{ICallout.ask}. An agent that cannot say it takes everybody."""
        route = resolved.routes[0]
        if len(resolved.routes) != 1 or not isinstance(route, ToAgent):
            return
        agent = self._agents.get(route.agent)
        if agent is None:
            return
        if agent.cheap:
            outcome = await agent.foresee(route.next_hop, route.recipient)
            if outcome.result is not Result.DELIVERED:
                raise _error(outcome)
        elif resolved.ask:
            await self.check(route.recipient, route, ours=True)

    async def check(self, recipient: Address, way: ToAgent, ours: bool = False) -> None:
        """Whether somebody has an address.

        @param way: where its mail goes.
        @param ours: the domain is ours, so what its server says of a recipient is the
            last word.
        @raise NoSuchAccount: nobody.
        @raise Permanent: his mail is not taken.
        @raise Temporary: it cannot be said now.
        """
        now = self._clock.seconds()
        known = await self._ledger.lookup(lambda t: _read(t, recipient.key))
        if known is not None and _fresh(known, now, ours):
            _judge(known, ours)
            return
        if known is not None and known.good and now - known.asked_at < _GOOD_S:
            # It need not wait for what is only made fresh.
            self._ask(recipient, way)
            return
        found, outcome = await self._answer(recipient, way)
        if found is not None:
            _judge(found, ours)
        elif ours and outcome is not None and outcome.result is Result.FAILED:
            raise _error(outcome)
        else:
            raise Unverified()

    async def _answer(self, recipient: Address, way: ToAgent) -> _Answer:
        waiting: Deferred[_Answer] = Deferred()
        if not self._ask(recipient, way, waiting):
            return _NOTHING
        waiting.addTimeout(_WAIT_S, self._clock, lambda *_: _NOTHING)
        return await waiting

    def _ask(
        self,
        recipient: Address,
        way: ToAgent,
        waiting: Deferred[_Answer] | None = None,
    ) -> bool:
        """Ask, unless it is being asked.

        @param waiting: who wants to know.
        @return: whether there will be an answer.
        """
        asking = self._asking.get(recipient.key)
        if asking is not None:
            if waiting is not None:
                asking.append(waiting)
            return True
        agent = self._agents.get(way.agent)
        if agent is None:
            self._log.error(
                "callout: agent {agent} cannot ask of {domain}; name its recipients"
                " in files",
                agent=way.agent,
                domain=one_line(recipient.domain),
            )
            return False
        hop = way.agent, way.next_hop
        if self._at_hop[hop] >= _AT_ONCE:
            return False
        self._at_hop[hop] += 1
        self._asking[recipient.key] = [] if waiting is None else [waiting]
        Deferred.fromCoroutine(self._probe(agent, recipient, hop))
        return True

    async def _probe(self, agent: IForesight, recipient: Address, hop: _Hop) -> None:
        """The top of a task: ask, remember, tell."""
        answer = _NOTHING
        try:
            outcome = await agent.foresee(hop[1], recipient)
            found = _understood(outcome, self._clock.seconds())
            answer = _Answer(found, outcome)
            self._log.info(
                "callout: to=<{to}>, relay={relay}, status={status} ({said})",
                to=one_line(str(recipient)),
                relay=one_line(outcome.remote) or "none",
                status="unknown" if found is None else "good" if found.good else "bad",
                said=one_line(outcome.diagnostic),
            )
            if found is not None:
                await self._remember(recipient.key, found)
        except CancelledError:
            raise
        except MailError as error:
            self._log.warn("callout: not remembered: {why}", why=error.text)
        except Exception:
            self._log.failure("callout: agent {agent} is broken", agent=hop[0])
        finally:
            self._at_hop[hop] -= 1
            if not self._at_hop[hop]:
                del self._at_hop[hop]
            for waiting in self._asking.pop(recipient.key):
                if not waiting.called:
                    waiting.callback(answer)

    async def _remember(self, key: str, found: _Known) -> None:
        self._written += 1
        clears = self._written % _CLEAR_AFTER == 1
        now = self._clock.seconds()

        def unit(transaction: ITransaction) -> None:
            transaction.execute(
                "INSERT INTO callout (address_key, good, asked_at, said)"
                " VALUES (?, ?, ?, ?) ON CONFLICT (address_key) DO UPDATE SET"
                " good = excluded.good, asked_at = excluded.asked_at,"
                " said = excluded.said",
                (key, int(found.good), found.asked_at, found.said),
            )
            if clears:
                _clear(transaction, now)

        await self._ledger.write(unit, brief=not clears)


def _fresh(known: _Known, now: float, ours: bool) -> bool:
    good_s, bad_s = (
        (_OWN_GOOD_FRESH_S, _OWN_BAD_FRESH_S) if ours else (_GOOD_FRESH_S, _BAD_FRESH_S)
    )
    return now - known.asked_at < (good_s if known.good else bad_s)


def _judge(known: _Known, ours: bool) -> None:
    """@raise NoSuchAccount: nobody has the address. Of a server that is ours to answer
    for, its own words are left out."""
    if known.good:
        return
    if ours:
        raise NoSuchAccount()
    said = f": {known.said}" if known.said else ""
    raise NoSuchAccount(f"The server of that domain does not know the address{said}")


def _error(outcome: Outcome) -> MailError:
    """What the client is told: the words of an agent that asked nobody, or what those
    of another server mean."""
    asked = outcome.replied or outcome.remote
    own = "" if asked else one_line(outcome.diagnostic)
    if outcome.result is Result.DEFERRED:
        text = "Whether the recipient exists cannot be said now"
        return Temporary(own or text, outcome.status)
    text = "The server of this recipient does not take mail for him"
    return Permanent(own or text, outcome.status)


def _understood(outcome: Outcome, now: float) -> _Known | None:
    """What an answer says of the address, C{None} for nothing."""
    if outcome.result is Result.DELIVERED:
        return _Known(True, now, "")
    if outcome.result is not Result.FAILED or not outcome.replied:
        return None
    plain = outcome.status == _PLAIN and outcome.diagnostic[:3] in _PLAIN_CODES
    if not plain and outcome.status not in _NOBODY:
        return None
    said = one_line(outcome.diagnostic, 200).encode("ascii", "replace").decode()
    return _Known(False, now, said)


def _read(transaction: ITransaction, key: str) -> _Known | None:
    rows = transaction.execute(
        "SELECT good, asked_at, said FROM callout WHERE address_key = ?", (key,)
    )
    return next((_Known(bool(good), at, said) for good, at, said in rows), None)


def _clear(transaction: ITransaction, now: float) -> None:
    """Forget what is over; and if that is not enough, who does not exist, oldest
    first."""
    for good, kept_s in ((1, _GOOD_S), (0, _BAD_S)):
        transaction.execute(
            "DELETE FROM callout WHERE address_key IN (SELECT address_key FROM callout"
            " WHERE good = ? AND asked_at < ? ORDER BY asked_at LIMIT ?)",
            (good, now - kept_s, _CLEARED),
        )
    ((count,),) = transaction.execute("SELECT COUNT(*) FROM callout")
    if count > _REMEMBERED:
        transaction.execute(
            "DELETE FROM callout WHERE address_key IN (SELECT address_key FROM callout"
            " ORDER BY good, asked_at LIMIT ?)",
            (min(count - _REMEMBERED, _CLEARED),),
        )
