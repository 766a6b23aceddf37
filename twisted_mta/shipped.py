"""The policies that are built in, as plugins like any drop-in.

The comments of the settings are their manual in C{docs/policies.rst}. All of them
have no opinion on clients that log in or may relay.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from attrs import field, frozen
from zope.interface import implementer

from twisted_mta.config.units import Seconds
from twisted_mta.interfaces import IPolicy
from twisted_mta.mail.address import domain_name
from twisted_mta.plugin import Environment, IPlugin
from twisted_mta.policy.dnslist import DnsLists, List
from twisted_mta.policy.greylist import Greylist
from twisted_mta.policy.hello import Hello
from twisted_mta.policy.rate import Rate
from twisted_mta.policy.reverse import Reverse
from twisted_mta.policy.senderdomain import SenderDomain
from twisted_mta.policy.tarpit import Tarpit

# As L{twisted_mta.policy.action.Action}: what is read from a config has to stand here.
_Action = Literal["reject", "tempfail", "quarantine", "tag"]


def _time(seconds: float) -> Any:
    return field(default=Seconds(seconds))


@frozen(kw_only=True)
class ReverseConfig:
    """The client's address has a name that leads back to it (FCrDNS)."""

    # reject, tempfail, quarantine, or tag: add a field X-Policy.
    action: _Action = "tag"


@frozen(kw_only=True)
class HelloConfig:
    """The name at HELO is fully qualified, or the client's address in brackets, and
    none of ours."""

    # reject, tempfail, quarantine or tag.
    action: _Action = "reject"
    # Names that only this server has, besides its hostname.
    ours: tuple[str, ...] = ()
    # The name must have an address or a mail exchanger in the DNS.
    resolves: bool = False


@frozen(kw_only=True)
class SenderDomainConfig:
    """The sender's domain exists and takes mail."""

    # reject, tempfail, quarantine or tag.
    action: _Action = "reject"


@frozen(kw_only=True)
class ListConfig:
    """A list in the DNS."""

    # Such as zen.spamhaus.org.
    zone: str
    # What an address on it counts. Less than 0: it is a white list.
    weight: int = 1
    # The answers that count, such as 127.0.0.2. Empty: any.
    codes: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        if not domain_name(self.zone):
            raise ValueError(f"zone: '{self.zone}' is not a domain name")


@frozen(kw_only=True)
class DnsListConfig:
    """Lists of addresses in the DNS (RFC 5782), black and white. What a client is on
    is summed up."""

    # The lists, each with zone, weight and codes.
    lists: tuple[ListConfig, ...]
    # From this sum on a client is refused.
    reject: int = 1
    # From this sum on its mail is kept apart. null: never.
    quarantine: int | None = None
    # Down from this sum no other policy is asked of it. null: never.
    accept: int | None = None
    # How long all lists together may take. One that does not answer counts nothing.
    timeout: Seconds = _time(5)

    def __attrs_post_init__(self) -> None:
        if not self.lists:
            raise ValueError("lists: is empty; name a zone")


@frozen(kw_only=True)
class GreylistConfig:
    """Who is new is asked to come again (RFC 6647)."""

    # How long he has to wait. Postgrey: 300 s.
    delay: Seconds = _time(300)
    # Until when he may come again. Postgrey: 2 days.
    window: Seconds = _time(2 * 86400)
    # How long who came back is remembered. Postgrey: 35 days.
    keep: Seconds = _time(35 * 86400)
    # How often a network has come back when it need not any more. 0: always.
    # Postgrey: 5.
    trusted_after: int = 5


@frozen(kw_only=True)
class RateConfig:
    """How much one network may bring in a time."""

    # The time.
    interval: Seconds = _time(3600)
    # Connections in it. null: any number.
    connections: int | None = None
    # Messages in it.
    messages: int | None = None
    # Recipients in it.
    recipients: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.interval <= 0:
            raise ValueError("interval: must be more than 0")
        for name in ("connections", "messages", "recipients"):
            limit = getattr(self, name)
            if limit is not None and limit <= 0:
                raise ValueError(f"{name}: must be more than 0, or null")


@frozen(kw_only=True)
class TarpitConfig:
    """Who sends one message to very many is answered slowly."""

    # So many recipients of a message are answered at once.
    recipients: int = 50
    # How long each one after them takes; 30 s at most.
    delay: Seconds = _time(1)

    def __attrs_post_init__(self) -> None:
        if self.recipients < 0:
            raise ValueError("recipients: must not be less than 0")


def _reverse(config: ReverseConfig, environment: Environment) -> IPolicy:
    return Reverse(environment.name, environment.resolver, config.action)


def _hello(config: HelloConfig, environment: Environment) -> IPolicy:
    ours = (environment.hostname, *config.ours)
    return Hello(
        environment.name, environment.resolver, config.action, ours, config.resolves
    )


def _sender_domain(config: SenderDomainConfig, environment: Environment) -> IPolicy:
    return SenderDomain(environment.name, environment.resolver, config.action)


def _dns_lists(config: DnsListConfig, environment: Environment) -> IPolicy:
    return DnsLists(
        environment.name,
        environment.reactor,
        environment.resolver,
        [List(one.zone, one.weight, frozenset(one.codes)) for one in config.lists],
        reject=config.reject,
        quarantine=config.quarantine,
        accept=config.accept,
        timeout_s=config.timeout,
    )


def _greylist(config: GreylistConfig, environment: Environment) -> IPolicy:
    return Greylist(
        environment.name,
        environment.reactor,
        environment.ledger,
        delay_s=config.delay,
        window_s=config.window,
        keep_s=config.keep,
        trusted_after=config.trusted_after,
    )


def _rate(config: RateConfig, environment: Environment) -> IPolicy:
    limits = {
        "connections": config.connections,
        "messages": config.messages,
        "recipients": config.recipients,
    }
    return Rate(
        environment.name,
        environment.reactor,
        environment.rates,
        limits,
        config.interval,
    )


def _tarpit(config: TarpitConfig, environment: Environment) -> IPolicy:
    return Tarpit(environment.name, config.recipients, config.delay)


@implementer(IPlugin)
@frozen
class PolicyPlugin:
    """A policy that is built in."""

    name: str
    config: type
    make: Callable[[Any, Environment], IPolicy]
    kind: str = "policy"

    def build(self, config: Any, environment: Environment) -> IPolicy:
        """Make the policy."""
        return self.make(config, environment)


#: In the order in which they are best asked: what costs least first.
POLICIES: Sequence[PolicyPlugin] = (
    PolicyPlugin("rate", RateConfig, _rate),
    PolicyPlugin("dns_lists", DnsListConfig, _dns_lists),
    PolicyPlugin("reverse", ReverseConfig, _reverse),
    PolicyPlugin("hello", HelloConfig, _hello),
    PolicyPlugin("sender_domain", SenderDomainConfig, _sender_domain),
    PolicyPlugin("greylist", GreylistConfig, _greylist),
    PolicyPlugin("tarpit", TarpitConfig, _tarpit),
)
