"""The resolver: names to mail servers, addresses, texts, over the servers of
this machine or any that are named.

It asks recursive servers and does not walk the DNS itself. It remembers answers
for as long as they say, also that there is none (RFC 2308), and for a moment
that nobody could tell (RFC 9520); whoever asks what is just being asked waits
for the same answer. It trusts its servers to validate only if it is told to
(L{Answer.authentic}), and no answer to be small, short or sane: names are followed
for a bounded number of steps, every wait ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.TLSA
import dns.rdtypes.ANY.TXT
import dns.reversename
from dns.rdatatype import RdataType
from twisted.internet.defer import (
    Deferred,
    DeferredSemaphore,
    TimeoutError,
    succeed,
)
from twisted.internet.error import CannotListenError, ConnectError, ConnectionClosed
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mta.errors import NoSuchDomain, ResolverUnavailable
from twisted_mta.interfaces import IResolver
from twisted_mta.mail import tlsa
from twisted_mta.mail.lookup import Exchange, Located
from twisted_mta.mail.tlsa import Tlsa
from twisted_mta.net.dns import Garbled, Server, ask, question

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# How long anything is remembered at most: Unbound's cache-max-ttl and
# cache-max-negative-ttl; a failure for BIND's servfail-ttl.
_LONGEST_S = 86_400
_LONGEST_NEGATIVE_S = 3_600
_FAILURE_S = 1

# How far aliases are followed from answer to answer. Within one answer
# dnspython follows 16.
_MOST_CNAMES = 8

# Each question has a socket of its own, and sockets are finite.
_MOST_ASKING = 100

_MOST_SERVERS = 3  # as the C library: MAXNS

_GIVES_NO_ANSWER = (
    TimeoutError,
    ConnectError,
    ConnectionClosed,
    CannotListenError,
    Garbled,
)

_LOCALHOST = ("::1", "127.0.0.1")

_Key = tuple[str, RdataType]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the DNS says.

    @ivar exists: C{False} for NXDOMAIN.
    @ivar records: of the type that was asked for; empty if there are none.
    @ivar name: the name that has them, aliases followed, without the last dot.
    @ivar authentic: the server says that it validated the answer (AD), and is
        trusted in that.
    @ivar spoilt: there were TLSA records besides that cannot be read.
    """

    exists: bool
    records: tuple[dns.rdata.Rdata, ...]
    name: str
    authentic: bool
    spoilt: bool = False


@implementer(IResolver)
class Resolver:
    """Asks the DNS."""

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        servers: Sequence[Server],
        *,
        hosts: Mapping[str, Sequence[str]] | None = None,
        timeout_s: float = 3.0,
        rounds: int = 2,
        most_remembered: int = 10_000,
        validating: bool = False,
    ) -> None:
        """
        @param reactor: the clock; provides UDP and TCP.
        @param servers: recursive servers by IP address and port, see
            L{system_servers}.
        @param hosts: addresses of names that are not asked for, see
            L{system_hosts}.
        @param timeout_s: for one server to answer once, TCP included. The C
            library waits 5 s.
        @param rounds: how often each server is asked, as the C library's.
        @param most_remembered: how many answers are kept; the ones used
            longest ago go first.
        @param validating: the servers validate what they answer, and the way to them
            is safe, so that they are believed in that.
        """
        if not servers:
            raise ValueError("a resolver needs at least one server")
        self._reactor = reactor
        self._servers = list(servers)
        self._hosts = {**(hosts or {})}
        self._hosts.setdefault("localhost", _LOCALHOST)  # RFC 6761 6.3
        self._timeout_s = timeout_s
        self._rounds = rounds
        self._most_remembered = most_remembered
        self._validating = validating
        self._remembered: dict[_Key, tuple[float, Answer | None]] = {}
        self._asking: dict[_Key, list[Deferred[Answer | None]]] = {}
        self._sockets = DeferredSemaphore(_MOST_ASKING)

    async def mx(self, domain: str) -> Sequence[tuple[int, str]]:
        return list((await self.exchange(domain)).records)

    async def addresses(self, host: str) -> Sequence[str]:
        return list((await self.locate(host)).addresses)

    async def exchange(self, domain: str) -> Exchange:
        answer = await self.query(domain, RdataType.MX)
        if not answer.exists:
            raise NoSuchDomain
        records = cast("tuple[dns.rdtypes.ANY.MX.MX, ...]", answer.records)
        found = sorted((one.preference, _text(one.exchange)) for one in records)
        return Exchange(tuple(found), answer.name, answer.authentic)

    async def locate(self, host: str) -> Located:
        try:
            return Located((str(ip_address(host)),), host)
        except ValueError:
            pass
        named = self._hosts.get(host.lower())
        if named is not None:
            return Located(tuple(named), host)
        kinds = (RdataType.AAAA, RdataType.A)
        answers = [await asked for asked in [self._answer(host, k) for k in kinds]]
        known = [record.to_text() for a in answers if a for record in a.records]
        if not known and None in answers:  # some servers fail at AAAA alone
            raise _unavailable(host)
        said = [answer for answer in answers if answer is not None]
        secure = all(answer.authentic for answer in said)
        name = said[0].name
        aliased = self._validating and not secure and name != host.lower()
        alias_secure = aliased and (await self.query(host, RdataType.CNAME)).authentic
        return Located(tuple(known), name, secure, alias_secure)

    async def tlsa(self, name: str) -> Sequence[Tlsa]:
        answer = await self.query(name, RdataType.TLSA)
        if not answer.authentic:
            return ()
        records = cast("tuple[dns.rdtypes.ANY.TLSA.TLSA, ...]", answer.records)
        # In order, since servers give them in any, and reports are summed up by them.
        found = sorted(
            Tlsa(one.usage, one.selector, one.mtype, one.cert) for one in records
        )[: tlsa.MOST]
        return [*found, tlsa.UNREADABLE] if answer.spoilt else found

    async def txt(self, name: str) -> Sequence[bytes]:
        answer = await self.query(name, RdataType.TXT)
        records = cast("tuple[dns.rdtypes.ANY.TXT.TXT, ...]", answer.records)
        return [b"".join(record.strings) for record in records]

    async def ptr(self, host: str) -> Sequence[str]:
        name = dns.reversename.from_address(host.partition("%")[0])
        answer = await self.query(_text(name), RdataType.PTR)
        return [_text(dns.name.from_text(r.to_text())) for r in answer.records]

    async def query(self, name: str, kind: RdataType) -> Answer:
        """Any record type, TLSA for example.

        @raise ResolverUnavailable: no answer now.
        """
        answer = await self._answer(name, kind)
        if answer is None:
            raise _unavailable(name)
        return answer

    def _answer(self, name: str, kind: RdataType) -> Deferred[Answer | None]:
        """The answer, C{None} if nobody can tell. What is not remembered is
        asked for once, however many wait; the asking is nobody's own, so
        whoever stops waiting takes it from no one else."""
        key = (name.lower().removesuffix("."), kind)
        until, answer = self._remembered.get(key, (0.0, None))
        if until > self._reactor.seconds():
            self._remembered[key] = self._remembered.pop(key)  # used last
            return succeed(answer)
        waiting: Deferred[Answer | None] = Deferred()
        if key in self._asking:
            self._asking[key].append(waiting)
        else:
            self._asking[key] = [waiting]
            Deferred.fromCoroutine(self._find_out(key)).addErrback(
                lambda failure: self.log.failure("a bug in the resolver", failure)
            )
        return waiting

    async def _find_out(self, key: _Key) -> None:
        answer, for_s = None, float(_FAILURE_S)
        try:
            answer, for_s = await self._follow(*key)
        except ResolverUnavailable as error:
            self.log.info("dns: {kind} {name}: {text}", **_logged(key, error.text))
        finally:
            self._remember(key, answer, for_s)
            for waiting in self._asking.pop(key):
                waiting.callback(answer)

    def _remember(self, key: _Key, answer: Answer | None, for_s: float) -> None:
        self._remembered.pop(key, None)
        if for_s > 0:
            while len(self._remembered) >= self._most_remembered:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[key] = (self._reactor.seconds() + for_s, answer)

    async def _follow(self, text: str, kind: RdataType) -> tuple[Answer, float]:
        """Ask, and ask on where an answer ends with an alias.

        @return: the answer and for how many seconds it holds.
        @raise ResolverUnavailable:
        """
        try:
            name = dns.name.from_text(text)
        except (dns.exception.DNSException, UnicodeError):
            return Answer(False, (), text, False), 0  # no name: it cannot exist
        for_s, authentic = float(_LONGEST_S), self._validating
        for _ in range(_MOST_CNAMES):
            response = await self._ask_all(name, kind)
            try:
                chain = response.resolve_chaining()
            except dns.exception.DNSException as error:
                raise ResolverUnavailable(type(error).__name__)
            for_s = min(for_s, chain.minimum_ttl)
            spoilt = bool(response.errors)
            authentic = authentic and bool(response.flags & dns.flags.AD)
            name = chain.canonical_name
            exists = response.rcode() == dns.rcode.NOERROR
            authority = any(r.rdtype == RdataType.SOA for r in response.authority)
            if chain.answer is not None:
                found = tuple(chain.answer)
                return Answer(True, found, _text(name), authentic, spoilt), for_s
            if not chain.cnames or authority or not exists:
                # Without an SOA nothing says how long that holds (RFC 2308 5).
                for_s = min(for_s, _LONGEST_NEGATIVE_S) if authority else 0
                return Answer(exists, (), _text(name), authentic, spoilt), for_s
        raise ResolverUnavailable("too many aliases")

    async def _ask_all(
        self, name: dns.name.Name, kind: RdataType
    ) -> dns.message.QueryMessage:
        """Ask the servers in turn until one knows; it is asked first next time.

        @raise ResolverUnavailable: none does.
        """
        reason = ""
        await self._sockets.acquire()
        try:
            for server in self._servers[:] * self._rounds:
                asked = question(name, kind, self._validating)
                asking = ask(self._reactor, server, asked)
                try:
                    response = await Deferred.fromCoroutine(asking).addTimeout(
                        self._timeout_s, self._reactor
                    )
                except _GIVES_NO_ANSWER as error:
                    reason = type(error).__name__
                    continue
                if response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                    self._servers.remove(server)
                    self._servers.insert(0, server)
                    return response
                reason = dns.rcode.to_text(response.rcode())
        finally:
            self._sockets.release()
        raise ResolverUnavailable(reason)


def system_servers(path: str = "/etc/resolv.conf") -> list[Server]:
    """The servers that this machine asks (resolv.conf(5)); the machine itself
    if none is named."""
    lines = (line.split() for line in _lines(path))
    named = [words[1] for words in lines if words[0] == "nameserver" and words[1:]]
    return [(host, 53) for host in named[:_MOST_SERVERS]] or [("127.0.0.1", 53)]


def system_hosts(path: str = "/etc/hosts") -> dict[str, list[str]]:
    """The names that this machine knows without asking (hosts(5)), lower case."""
    hosts: dict[str, list[str]] = {}
    for line in _lines(path):
        address, *names = line.partition("#")[0].split() or [""]
        try:
            ip_address(address)
        except ValueError:
            continue
        for name in names:
            hosts.setdefault(name.lower(), []).append(address)
    return hosts


def _lines(path: str) -> Iterable[str]:
    try:
        text = Path(path).read_text(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()]


def _unavailable(name: str) -> ResolverUnavailable:
    return ResolverUnavailable(f"No DNS server can say anything about {name}")


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).removesuffix(".").lower()


def _logged(key: _Key, text: str) -> dict[str, str]:
    return {"name": key[0], "kind": dns.rdatatype.to_text(key[1]), "text": text}
