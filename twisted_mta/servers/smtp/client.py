"""Who is at the other end of a session, as far as is known by now."""

from dataclasses import replace

from twisted_mta.interfaces import IPolicy
from twisted_mta.mail.account import Account
from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.verdict import Progress, Verdict
from twisted_mta.servers.smtp.reply import render
from twisted_mta.wire.smtp.extension import Offer


class Client:
    """What a session has learned of its client, and the policy's opinion of it.

    @ivar session: the connection's name in logs.
    @ivar origin: as envelopes have it; C{helo} is empty before HELO or EHLO.
    @ivar relays: its network may send anywhere without a login.
    @ivar offer: the extensions that it may use.
    @ivar extended: it said EHLO.
    @ivar account: who logged in.
    @ivar policy: the opinion on it and its mail, C{None} for none.
    @ivar leaving: the session ends with the answer that is being made.
    """

    def __init__(
        self,
        session: str,
        origin: Origin,
        relays: bool,
        offer: Offer,
        policy: IPolicy | None,
    ) -> None:
        self.session = session
        self.origin = origin
        self.relays = relays
        self.offer = offer
        self.extended = False
        self.account: Account | None = None
        self.leaving = False
        self.policy = policy

    def forget(self, tls: str) -> None:
        """TLS began: what was said in the clear is void (RFC 3207 4.2)."""
        self.extended = False
        self.account = None
        self.origin = replace(self.origin, helo="", login="", tls=tls, protocol="SMTP")

    def hello(self, name: str, extended: bool) -> None:
        """It said who it is."""
        self.extended = extended
        self.origin = replace(self.origin, helo=name, protocol=self._protocol())

    def log_in(self, account: Account) -> None:
        """It has shown whose it is."""
        self.account = account
        self.origin = replace(
            self.origin, login=str(account.address), protocol=self._protocol()
        )

    def _protocol(self) -> str:
        """RFC 3848."""
        if not self.extended:
            return "SMTP"
        secure = "S" if self.origin.tls else ""
        return f"ESMTP{secure}{'A' if self.account else ''}"

    def leave(self, goodbye: bytes) -> bytes:
        """End the session with this answer."""
        self.leaving = True
        return goodbye

    async def objection(self, stage: str, progress: Progress | None = None) -> bytes:
        """Ask the policy.

        @param stage: the name of the method of L{IPolicy}.
        @param progress: C{None} before there is a transaction.
        @return: the reply that refuses, or nothing.
        """
        if self.policy is None:
            return b""
        asked = progress or Progress(self.session, self.origin)
        verdict: Verdict | None = await getattr(self.policy, stage)(asked)
        if verdict is None:
            return b""
        self.leaving = self.leaving or verdict.disconnect
        return render(verdict.reply)
