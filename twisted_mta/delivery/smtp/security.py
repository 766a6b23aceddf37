"""From what everybody asks of the channel to what is asked of one host.

The operator asks (C{tls} of an agent), the message may ask for more or less (RFC 8689),
and the next domain may ask for more: by TLSA records of its hosts (DANE, RFC 7672),
which come first, or by a policy (MTA-STS, RFC 8461). What a domain asks for and cannot
be found out is no reason to do without: the host is not used now. How it went is
counted, for domains that want to know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted_mta.delivery.smtp.demand import Demand, Proof
from twisted_mta.delivery.smtp.exchanger import Host, read
from twisted_mta.delivery.smtp.outcome import TlsFailed, deferred, failed
from twisted_mta.delivery.smtp.settings import Settings, Tls
from twisted_mta.errors import ResolverUnavailable, Temporary
from twisted_mta.interfaces import IResolver, ITlsResults
from twisted_mta.mail import tlsa
from twisted_mta.mail.stspolicy import Mode, StsPolicy
from twisted_mta.mail.tlsa import Tlsa
from twisted_mta.mail.tlsreport import Failure, Kind, Policy

# Characters of a failure's reason that go into a report.
_REASON = 200

_Counted = tuple[str, Policy] | None


@dataclass(frozen=True, slots=True)
class Announced:
    """What a domain says of itself by MTA-STS.

    @ivar policy: C{None} if it has none that can be had.
    @ivar result: then, if it says that it has one: what is wrong, as RFC 8460 4.3.2
        calls it.
    """

    policy: StsPolicy | None = None
    result: str = ""


class Policies(Protocol):
    """Where policies come from."""

    def of(self, domain: str) -> Awaitable[Announced]:
        """What a domain says."""


@dataclass(frozen=True, slots=True)
class Site:
    """A next hop, as far as its channel goes.

    @ivar tls: what is asked of all its hosts.
    @ivar domain: whose mail it takes; empty if the operator named the host.
    """

    tls: Tls
    domain: str
    announced: Announced = Announced()


class Security:
    """Knows what to ask of hosts.

    @param policies: C{None}: nobody's policy is asked for.
    @param results: C{None}: nothing is counted.
    """

    def __init__(
        self,
        resolver: IResolver,
        settings: Settings,
        policies: Policies | None = None,
        results: ITlsResults | None = None,
    ) -> None:
        self._resolver = resolver
        self._tls = settings.tls
        self._policies = policies if settings.tls.by_policy else None
        self._results = results

    async def site(self, next_hop: str, tls: Tls) -> Site:
        """What is known of a next hop before its hosts are.

        @raise TlsFailed: what its domain asks for cannot be known now.
        """
        try:
            hop = read(next_hop)
        except ValueError:
            return Site(tls, "")  # it will not be found
        if not hop.exchanged:
            return Site(tls, "")
        if self._policies is None or tls in (Tls.NONE, Tls.WAIVED):
            return Site(tls, hop.name)
        try:
            return Site(tls, hop.name, await self._policies.of(hop.name))
        except Temporary as error:
            raise TlsFailed(deferred(error.status, error.text))

    async def demand(self, site: Site, host: Host) -> Demand:
        """What is asked of one of its hosts.

        @raise TlsFailed: it is not to be spoken to.
        """
        tls = site.tls
        if tls is Tls.WAIVED:
            return Demand(Tls.MAY, waived=True)
        if tls is Tls.NONE:
            return Demand(Tls.NONE, waived=True)
        promised = tls is Tls.PROMISED
        asked = self._tls if promised else tls
        if asked is Tls.VERIFY:  # nobody but the operator asks for that
            return Demand(Tls.VERIFY, Proof.PKIX, promised=promised)
        demand = await self._by_dns(site, host, asked) if asked.by_dns else None
        if demand is not None and host.standing.vouched and demand.tlsa:
            return demand
        by_policy = self._by_policy(site, host, promised)
        if promised and by_policy is None:
            return self._promised(site)  # this host may be anybody's
        if by_policy is not None and by_policy.enforced:
            return demand if demand is not None and demand.tlsa else by_policy
        if demand is not None:
            return demand
        if by_policy is not None:
            return by_policy
        least = Tls.ENCRYPT if asked.required else Tls.MAY
        kind = Kind.STS if site.announced.result else Kind.NONE
        return Demand(
            least,
            counted=_counted(site, kind, site.domain),
            result=site.announced.result,
        )

    def count(
        self, host: Host, demand: Demand, ours: str, result: str, why: str
    ) -> None:
        """Count a session.

        @param ours: our address, empty if there was no connection.
        @param result: how a report calls what went wrong; empty: nothing.
        """
        if self._results is None or demand.counted is None:
            return
        result = result or demand.result
        failure = None
        if result:
            failure = Failure(result, ours, host.name, host.address, why[:_REASON])
        self._results.count(*demand.counted, failure)

    # --- by whose word ---

    async def _by_dns(self, site: Site, host: Host, asked: Tls) -> Demand | None:
        """@return: C{None} if the DNS says nothing."""
        standing, only = host.standing, asked is Tls.DANE_ONLY
        promised = site.tls is Tls.PROMISED
        base = ""
        records: Sequence[Tlsa] = ()
        for base in standing.bases:
            try:
                records = await self._resolver.tlsa(f"_{host.port}._tcp.{base}")
            except ResolverUnavailable as error:
                text = f"The TLSA records of {base} cannot be known: {error.text}"
                counted = _counted(site, Kind.TLSA, base)
                raise self._refused(host, counted, text, "dnssec-invalid")
            if records:
                break
        usable = tlsa.best(records)
        strings = tuple(map(str, records))
        counted = _counted(site, Kind.TLSA, base or host.name, strings)
        if only and not (usable and standing.vouched):
            text = f"{host.name} has no TLSA records that can be used"
            raise self._refused(host, counted, text, "dane-required")
        if not records:
            return None
        if not usable:
            return Demand(Tls.ENCRYPT, counted=counted, promised=promised, name=base)
        return Demand(
            Tls.ENCRYPT,
            Proof.DANE if standing.vouched else Proof.DANE_HOST,
            promised=promised,
            name=base,
            names=tuple(dict.fromkeys((base, host.name, *standing.domains))),
            tlsa=usable,
            counted=counted,
        )

    def _by_policy(self, site: Site, host: Host, promised: bool) -> Demand | None:
        """@return: C{None} if the domain asks for nothing."""
        found = site.announced.policy
        if found is None or found.mode is Mode.NONE:
            return None
        enforced = found.mode is Mode.ENFORCE
        if promised and not enforced:
            return None
        policy = Policy(Kind.STS, site.domain, found.strings, found.hosts)
        counted = site.domain, policy.bounded()
        demand = Demand(
            Tls.ENCRYPT if enforced or self._tls is Tls.ENCRYPT else Tls.MAY,
            Proof.STS,
            enforced=enforced,
            promised=promised,
            names=(host.name,),
            counted=counted,
        )
        if found.names(host.name):
            return demand
        if enforced:
            text = f"{host.name} is not in the MTA-STS policy of {site.domain}"
            raise self._refused(host, counted, text, "validation-failure")
        return Demand(demand.tls, counted=counted, result="validation-failure")

    def _promised(self, site: Site) -> Demand:
        """RFC 8689 4.2.1: a certificate of a name is worth something if the name is."""
        if not site.domain:
            return Demand(Tls.VERIFY, Proof.PKIX, promised=True)
        text = "REQUIRETLS is asked for, and whom to verify cannot be known"
        if site.announced.result:
            raise TlsFailed(deferred("4.7.30", f"{text} now"))
        raise TlsFailed(failed("5.7.30", text))

    def _refused(
        self, host: Host, counted: _Counted, text: str, result: str
    ) -> TlsFailed:
        self.count(host, Demand(Tls.ENCRYPT, counted=counted), "", result, text)
        return TlsFailed(deferred("4.7.5", text, str(host)), result)


def _counted(
    site: Site, kind: Kind, domain: str, strings: tuple[str, ...] = ()
) -> _Counted:
    """@return: C{None} where the operator named the host: nobody else's affair."""
    if not site.domain:
        return None
    return site.domain, Policy(kind, domain, strings).bounded()
