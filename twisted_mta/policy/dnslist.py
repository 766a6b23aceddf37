"""Lists of addresses in the DNS, black and white (RFC 5782)."""

from __future__ import annotations

import re
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, TypeVar

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

# Of what lists say, characters that a refusal carries. A line of a reply has 512
# octets (RFC 5321 4.5.3.1.5), and says where and who, too.
_TEXT_MOST = 200

_UNSAFE = re.compile(rb"[^!-~]+")

T = TypeVar("T")


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
    nothing, so that no list can stop the mail. Those for which a client is refused
    are asked why, if there is time left."""

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
        until = self._clock.seconds() + self._timeout_s
        answers = await _all(self._ask(each, key) for each in self._lists)
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
            why = await self._why(found, key, until - self._clock.seconds())
            return Verdict.reject(f"{text}: {why}" if why else text, reason)
        if self._quarantine is not None and score >= self._quarantine:
            return Verdict.quarantine(reason)
        if self._accept is not None and score <= self._accept:
            return Verdict.accept(reason)
        return Verdict.tag(FIELD, f"{self.name}; {reason}", reason)

    def _ask(self, one: List, key: str) -> Deferred[bool]:
        asked = self._in_time(self._listed(one, key), self._timeout_s)
        asked.addErrback(self._unanswered, one)
        return asked

    def _in_time(self, asking: Coroutine[Any, Any, T], left_s: float) -> Deferred[T]:
        return Deferred.fromCoroutine(asking).addTimeout(left_s, self._clock)

    async def _listed(self, one: List, key: str) -> bool:
        try:
            found = await self._resolver.addresses(f"{key}.{one.zone}")
        except NoSuchDomain:
            return False
        answers = {answer for answer in found if _is_answer(answer)}
        return bool(answers & one.codes if one.codes else answers)

    async def _why(self, found: Iterable[List], key: str, left_s: float) -> str:
        """What lists say of an address, the heaviest first: it is for its owner, and
        most often a URL (RFC 5782 2.1). Nothing if it does not come in time.

        @param left_s: seconds.
        """
        if left_s <= 0:
            return ""
        black = sorted(found, key=lambda each: -each.weight)
        said = await _all(
            self._in_time(self._says(each, key), left_s).addErrback(_late)
            for each in black
            if each.weight > 0
        )
        text = "; ".join(filter(None, dict.fromkeys(said)))
        return text if len(text) <= _TEXT_MOST else text[: _TEXT_MOST - 3] + "..."

    async def _says(self, one: List, key: str) -> str:
        try:
            texts = await self._resolver.txt(f"{key}.{one.zone}")
        except (NoSuchDomain, ResolverUnavailable):
            return ""
        return _cleaned(texts[0]) if texts else ""

    def _unanswered(self, failure: object, one: List) -> bool:
        failure.trap(ResolverUnavailable, TimeoutError)  # type: ignore[attr-defined]
        self.log.warn(
            "policy {policy}: {zone} does not answer", policy=self.name, zone=one.zone
        )
        return False


async def _all(asked: Iterable[Deferred[T]]) -> Sequence[T]:
    """What all come to; what one raises ends the waiting."""
    try:
        return await gatherResults(asked, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()


def _late(failure: object) -> str:
    failure.trap(TimeoutError)  # type: ignore[attr-defined]
    return ""


def _cleaned(text: bytes) -> str:
    """Of a record of somebody else's, what a reply can carry: printable ASCII."""
    return _UNSAFE.sub(b" ", text).decode("ascii").strip()


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
