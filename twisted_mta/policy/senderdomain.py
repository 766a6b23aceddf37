"""Whether anybody could answer a sender: his domain takes mail."""

from __future__ import annotations

from twisted_mta.errors import NoSuchDomain, ResolverUnavailable
from twisted_mta.interfaces import IResolver
from twisted_mta.mail.verdict import Progress, Verdict
from twisted_mta.policy.action import Action, act, unanswered
from twisted_mta.policy.silent import Silent


class SenderDomain(Silent):
    """Asks at MAIL, as Postfix's reject_unknown_sender_domain. The null sender and
    address literals have no domain."""

    def __init__(self, name: str, resolver: IResolver, action: Action) -> None:
        super().__init__(name)
        self._resolver = resolver
        self._action = action

    async def mail(self, progress: Progress) -> Verdict | None:
        sender = progress.sender
        if progress.trusted or sender is None or sender.domain.startswith("["):
            return None
        try:
            domain = sender.domain.encode("idna").decode("ascii")
            why, status = await self._wrong(domain), "1.8"
        except UnicodeError:
            why, status = "cannot be a domain", "1.8"
        except ResolverUnavailable:
            what = f"The sender's domain {sender.domain}"
            return unanswered(self._action, self.name, what)
        if why == _NULL_MX:
            status = "7.27"  # RFC 7505 4.2
        if not why:
            return None
        text = f"Nobody could answer you: the domain {sender.domain} {why}"
        return act(self._action, self.name, text, f"{sender.domain} {why}", status)

    async def _wrong(self, domain: str) -> str:
        try:
            hosts = await self._resolver.mx(domain)
            if hosts:
                return _NULL_MX if [host for _, host in hosts] == [""] else ""
            found = await self._resolver.addresses(domain)
        except NoSuchDomain:
            return "does not exist"
        return "" if found else "has no mail exchanger and no address"


_NULL_MX = "takes no mail"
