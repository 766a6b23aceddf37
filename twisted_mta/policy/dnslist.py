"""Lists of addresses in the DNS, black and white (RFC 5782)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, ip_address
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, FirstError, TimeoutError, gatherResults
from twisted.logger import Logger

from twisted_mta.errors import NoSuchDomain, ResolverUnavailable
from twisted_mta.interfaces import IResolver
from twisted_mta.mail.verdict import Progress, Verdict
from twisted_mta.policy.action import FIELD
from twisted_mta.policy.silent import Silent

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# RFC 5782 2.1: an answer is in 127/8; 127.255.255.0/24 are errors by custom of those
# who run lists ("you may not ask").
_ANSWERS = IPv4Network("127.0.0.0/8")
_ERRORS = IPv4Network("127.255.255.0/24")


@dataclass(frozen=True, slots=True)
class List:
    """One list.

    @ivar zone: such as C{zen.spamhaus.org}.
    @ivar weight: what an address on it counts; less than 0 on a white list.
    @ivar codes: the answers that count; any if there are none.
    """

    zone: str
    weight: int = 1
    codes: frozenset[str] = frozenset()


class DnsLists(Silent):
    """Asks at CONNECT; all lists at once. One that does not answer in time counts
    nothing, so that no list can stop the mail."""

    log = Logger()

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        resolver: IResolver,
        lists: Sequence[List],
        *,
        reject: int,
        quarantine: int | None,
        accept: int | None,
        timeout_s: float,
    ) -> None:
        """
        @param reject: the sum of weights from which on a client is refused.
        @param quarantine: the same for keeping its mail apart; C{None}: never.
        @param accept: the sum down from which it is asked nothing more.
        @param timeout_s: for all answers.
        """
        super().__init__(name)
        self._clock = clock
        self._resolver = resolver
        self._lists = tuple(lists)
        self._reject = reject
        self._quarantine = quarantine
        self._accept = accept
        self._timeout_s = timeout_s

    async def connect(self, progress: Progress) -> Verdict | None:
        key = reversed_name(progress.origin.host)
        if progress.trusted or not key:
            return None
        asked = [self._ask(each, key) for each in self._lists]
        try:
            answers = await gatherResults(asked, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        found = [
            each for each, listed in zip(self._lists, answers, strict=True) if listed
        ]
        if not found:
            return None
        score = sum(each.weight for each in found)
        where = ", ".join(each.zone for each in found)
        reason = f"{progress.origin.host} is on {where}: {score}"
        if score >= self._reject:
            text = f"Your address {progress.origin.host} is listed at {where}"
            return Verdict.reject(text, reason)
        if self._quarantine is not None and score >= self._quarantine:
            return Verdict.quarantine(reason)
        if self._accept is not None and score <= self._accept:
            return Verdict.accept(reason)
        return Verdict.tag(FIELD, f"{self.name}; {reason}", reason)

    def _ask(self, one: List, key: str) -> Deferred[bool]:
        asked = Deferred.fromCoroutine(self._listed(one, key))
        asked.addTimeout(self._timeout_s, self._clock)
        asked.addErrback(self._unanswered, one)
        return asked

    async def _listed(self, one: List, key: str) -> bool:
        try:
            found = await self._resolver.addresses(f"{key}.{one.zone}")
        except NoSuchDomain:
            return False
        answers = {answer for answer in found if _is_answer(answer)}
        return bool(answers & one.codes if one.codes else answers)

    def _unanswered(self, failure: object, one: List) -> bool:
        failure.trap(ResolverUnavailable, TimeoutError)  # type: ignore[attr-defined]
        self.log.warn(
            "policy {policy}: {zone} does not answer", policy=self.name, zone=one.zone
        )
        return False


def _is_answer(text: str) -> bool:
    address = ip_address(text)
    return address.version == 4 and address in _ANSWERS and address not in _ERRORS


def reversed_name(host: str) -> str:
    """The name under which an address is on a list (RFC 5782 2.1, 2.4), empty for what
    is no address."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return ".".join(reversed(address.exploded.replace(":", "")))
        address = address.ipv4_mapped
    return ".".join(reversed(str(address).split(".")))
