"""Tells domains how TLS to them went, a day after the other (RFC 8460).

One process does it, some time after the day ended in UTC, which differs from server to
server and domain to domain, so that not all report at midnight. A report by mail is a
message of the queue like any other, but worth nothing after a day; one by HTTPS is
tried for as long. What is on its way is in the ledger: a restart tells nobody twice by
mail, nor forgets anybody. It trusts no domain: what it says in the DNS is bounded, and
so is the time that its Web server takes.

BUGS: reports by mail are to be signed (DKIM, RFC 8460 3), which this server does not
do: who insists on that does not read them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.logger import Logger

from twisted_mta.delivery.acceptance import OwnMail
from twisted_mta.delivery.text import one_line
from twisted_mta.errors import MailError, ResolverUnavailable
from twisted_mta.interfaces import ILedger, IQueue, IResolver, ITransaction
from twisted_mta.mail.address import split
from twisted_mta.mail.envelope import Envelope, Handling
from twisted_mta.mail.ids import new_id
from twisted_mta.mail.tlsreport import (
    DAY_S,
    Count,
    Submitter,
    compose,
    letter,
    mailbox,
    read_failure,
    read_policy,
    recipients,
)
from twisted_mta.net.https import Https, Unanswered

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: How often it is looked whose time has come.
LOOK_S = 300.0

# What was counted in the day's last minute is written by then.
_SOONEST_S = 300.0
# RFC 8460 4.1: a random delay of up to four hours.
_DELAY_S = 4 * 3600

#: RFC 8460 5.5: retried for 24 hours.
WORTH_S = 86400.0

# How long a Web server may take, and the first wait until it is tried again, which
# doubles.
_POST_S = 60.0
_RETRY_S = 300.0
_RETRY_MOST_S = 4 * 3600.0

# At the same time.
_SIDE_BY_SIDE = 10

# Different counts of a domain that its report is made of, those of most sessions. Its
# servers choose how many there are.
_COUNTS = 5000

T = TypeVar("T")

_Due = tuple[int, str, str, int]


class TlsReports:
    """Reports.

    @param own: makes mail ready, for C{queue}.
    @param by: who reports.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        ledger: ILedger,
        resolver: IResolver,
        web: Https,
        own: OwnMail,
        queue: IQueue,
        by: Submitter,
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._resolver = resolver
        self._web = web
        self._own = own
        self._queue = queue
        self._by = by

    async def work(self) -> None:
        """Do what is due.

        @raise Temporary: the ledger is away.
        """
        now = self._clock.seconds()
        today = int(now // DAY_S)
        days = await self._ledger.read(lambda t: _unplanned(t, today))
        ripe = [(day, domain) for day, domain in days if now >= self._at(day, domain)]
        for batch in _batches(ripe):
            await _each([self._plan(day, domain) for day, domain in batch])
        now = self._clock.seconds()  # what was just planned is due
        for due in _batches(await self._ledger.read(lambda t: _due(t, now))):
            await _each([self._send(*one) for one in due])

    def _at(self, day: int, domain: str) -> float:
        return due_at(day, domain, self._by.hostname)

    async def _plan(self, day: int, domain: str) -> None:
        """Find out who wants it."""
        now = self._clock.seconds()
        try:
            addresses = recipients(await self._resolver.txt(f"_smtp._tls.{domain}"))
        except ResolverUnavailable:
            if now < self._at(day, domain) + WORTH_S:
                return
            addresses = ()
        rows = [(day, domain, address, now) for address in addresses]
        await self._ledger.write(lambda t: _begin(t, day, domain, rows))

    async def _send(self, day: int, domain: str, address: str, attempts: int) -> None:
        """Tell one address."""
        now, end = self._clock.seconds(), self._at(day, domain) + WORTH_S
        if now >= end:
            await self._ledger.write(_finished(day, domain, address))
            self._say(domain, address, "given up")
            return
        counts = await self._ledger.read(lambda t: _counts(t, day, domain))
        report = compose(day, domain, counts, self._by)
        if address.lower().startswith("mailto:"):
            said = await self._mail(day, domain, address, report, end)
        else:
            said = await self._post(address, report)
            if said:
                wait_s = min(_RETRY_S * 2 ** min(attempts, 10), _RETRY_MOST_S)
                due = min(now + wait_s, end)
                await self._ledger.write(lambda t: _again(t, day, domain, address, due))
            else:
                await self._ledger.write(_finished(day, domain, address))
        self._say(domain, address, said or "sent")

    def _say(self, domain: str, address: str, said: str) -> None:
        self._log.info(
            "tls report: {domain} to {address}: {said}",
            domain=domain,
            address=address,
            said=one_line(said),
        )

    async def _mail(
        self, day: int, domain: str, address: str, report: bytes, end: float
    ) -> str:
        """@return: why it was not sent; it is not tried again."""
        now, finished = self._clock.seconds(), _finished(day, domain, address)
        to = mailbox(address)
        try:
            envelope = Envelope(
                new_id(),
                split(self._by.sender),
                (split(to),),
                now,
                handling=Handling(give_up_at=end, tls_waived=True),
            )
        except ValueError as error:
            await self._ledger.write(finished)
            return str(error)
        octets = letter(day, domain, report, to, self._by, now)
        try:
            unit = await self._own.prepare(self._queue, envelope, octets)
        except MailError as error:
            return f"not yet: {error.text}"  # it is still due
        if unit is None:
            await self._ledger.write(finished)
            return "there is no such address"
        mail = unit

        def both(transaction: ITransaction) -> None:
            mail(transaction)
            finished(transaction)

        try:
            await self._ledger.write(both)
        finally:
            mail.close()
        mail.log(self._log)
        return ""

    async def _post(self, address: str, report: bytes) -> str:
        """@return: why it did not arrive."""
        parts = urlsplit(address)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        type = "application/tlsrpt+gzip"
        try:
            answer = await self._web.post(
                parts.hostname or "", path, type, report, _POST_S
            )
        except Unanswered as error:
            return str(error)
        if 200 <= answer.status < 300:
            return ""
        return f"{parts.hostname} said {answer.status}"


def due_at(day: int, domain: str, hostname: str) -> float:
    """When a report is made, the same whoever asks."""
    words = f"{hostname} {day} {domain}".encode()
    chance = int.from_bytes(sha256(words).digest()[:8], "big") / (1 << 64)
    return (day + 1) * DAY_S + _SOONEST_S + chance * (_DELAY_S - _SOONEST_S)


def _batches(those: Sequence[T]) -> Iterator[Sequence[T]]:
    for at in range(0, len(those), _SIDE_BY_SIDE):
        yield those[at : at + _SIDE_BY_SIDE]


async def _each(coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run them side by side. What one raises is raised, and ends the others."""
    tasks = [Deferred.fromCoroutine(one) for one in coroutines]
    try:
        await gatherResults(tasks, consumeErrors=True)
    except BaseException as error:
        for task in tasks:
            task.cancel()
        if isinstance(error, FirstError):
            error.subFailure.raiseException()
        raise


# --- rows -------------------------------------------------------------------


def _unplanned(transaction: ITransaction, today: int) -> list[tuple[int, str]]:
    rows = transaction.execute(
        "SELECT DISTINCT day, domain FROM tls_result AS r WHERE day < ?"
        " AND NOT EXISTS (SELECT 1 FROM tls_report AS p"
        " WHERE p.day = r.day AND p.domain = r.domain)",
        (today,),
    )
    return [(day, domain) for day, domain in rows]


def _due(transaction: ITransaction, now: float) -> list[_Due]:
    rows = transaction.execute(
        "SELECT day, domain, address, attempts FROM tls_report WHERE due <= ?", (now,)
    )
    return [(day, domain, address, attempts) for day, domain, address, attempts in rows]


def _counts(transaction: ITransaction, day: int, domain: str) -> list[Count]:
    rows = transaction.execute(
        "SELECT policy, failure, sessions FROM tls_result WHERE day = ? AND domain = ?"
        " ORDER BY sessions DESC LIMIT ?",
        (day, domain, _COUNTS),
    )
    return [
        Count(read_policy(policy), read_failure(failure), sessions)
        for policy, failure, sessions in rows
    ]


def _begin(
    transaction: ITransaction,
    day: int,
    domain: str,
    rows: Sequence[tuple[int, str, str, float]],
) -> None:
    """Put a report on its way; forget what nobody wants to know."""
    if rows:
        transaction.executemany(
            "INSERT INTO tls_report (day, domain, address, due, attempts)"
            " VALUES (?, ?, ?, ?, 0)",
            rows,
        )
    else:
        _forget(transaction, day, domain)


def _again(
    transaction: ITransaction, day: int, domain: str, address: str, due: float
) -> None:
    transaction.execute(
        "UPDATE tls_report SET due = ?, attempts = attempts + 1"
        " WHERE day = ? AND domain = ? AND address = ?",
        (due, day, domain, address),
    )


def _finished(day: int, domain: str, address: str) -> Callable[[ITransaction], None]:
    """One address less; with the last of them all is forgotten."""

    def unit(transaction: ITransaction) -> None:
        transaction.execute(
            "DELETE FROM tls_report WHERE day = ? AND domain = ? AND address = ?",
            (day, domain, address),
        )
        ((left,),) = transaction.execute(
            "SELECT COUNT(*) FROM tls_report WHERE day = ? AND domain = ?",
            (day, domain),
        )
        if not left:
            _forget(transaction, day, domain)

    return unit


def _forget(transaction: ITransaction, day: int, domain: str) -> None:
    transaction.execute(
        "DELETE FROM tls_result WHERE day = ? AND domain = ?", (day, domain)
    )
