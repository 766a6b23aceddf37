"""Who is at the other end of a session, as far as is known by now, and what the
policies say of it."""

from collections.abc import Mapping
from dataclasses import replace

from twisted_mta.interfaces import IPolicyChain
from twisted_mta.mail.account import Account
from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.verdict import NOTHING, Judgement, Progress
from twisted_mta.servers.smtp.reply import render
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.wire.smtp.extension import Offer


class Client:
    """What a session has learned of its client, and the policy's opinion of it.

    @ivar session: the connection's name in logs.
    @ivar origin: as envelopes have it; C{helo} is empty before HELO or EHLO.
    @ivar relays: its network may send anywhere without a login.
    @ivar submits: it has to log in before it can send.
    @ivar offer: the extensions that it may use.
    @ivar extended: it said EHLO.
    @ivar account: who logged in.
    @ivar policies: the opinions on it and its mail, C{None} for none.
    @ivar judged: what they came to, by stage.
    @ivar speaks_for_another: it has said so (XCLIENT).
    @ivar leaving: the session ends with the answer that is being made.
    """

    def __init__(
        self,
        session: str,
        origin: Origin,
        relays: bool,
        offer: Offer,
        policies: IPolicyChain | None,
        submits: bool = False,
    ) -> None:
        self.session = session
        self.submits = submits
        self.origin = origin
        self.relays = relays
        self.offer = offer
        self.extended = False
        self.account: Account | None = None
        self.leaving = False
        self._lmtp = False
        self.speaks_for_another = False
        self.policies = policies
        self.judged: dict[str, Judgement] = {}

    def forget(self, tls: str) -> None:
        """TLS began: what was said in the clear is void (RFC 3207 4.2)."""
        self.extended = False
        self.account = None
        self.origin = replace(self.origin, helo="", login="", tls=tls, protocol="SMTP")

    def hello(self, name: str, extended: bool, lmtp: bool = False) -> None:
        """It said who it is."""
        self.extended = extended
        self._lmtp = lmtp
        self.origin = replace(self.origin, helo=name, protocol=self._protocol())

    def become(
        self,
        attributes: Mapping[str, str | None],
        account: Account | None,
        settings: SmtpSettings,
    ) -> None:
        """It speaks for another (XCLIENT), and begins anew as that one. What was said
        before is kept where nothing new is said, but not who it is itself.

        @param account: whose C{LOGIN} is.
        @param settings: say what that client may do.
        """
        origin = self.origin
        if "LOGIN" in attributes or not self.speaks_for_another:
            self.account = account
            origin = replace(origin, login=attributes.get("LOGIN") or "")
        self.speaks_for_another = True
        host = attributes.get("ADDR", origin.host) or ""
        port = attributes.get("PORT", str(origin.port)) or "0"
        self.origin = replace(
            origin,
            host=host,
            port=int(port),
            helo="",
            protocol="SMTP",
        )
        self.extended = False
        self.judged.clear()
        # What that one may do; it stays one who may speak for others, though.
        words = self.offer.keywords & {"XCLIENT", "XFORWARD"}
        offered = settings.offer(host)
        self.offer = replace(offered, keywords=offered.keywords | words)
        self.relays = not settings.submission and host in settings.relay_from

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
        if self._lmtp:  # RFC 3848 has LMTPS as well
            return "LMTPS" if self.origin.tls else "LMTP"
        secure = "S" if self.origin.tls else ""
        return f"ESMTP{secure}{'A' if self.account else ''}"

    def leave(self, goodbye: bytes) -> bytes:
        """End the session with this answer."""
        self.leaving = True
        return goodbye

    @property
    def trusted(self) -> bool:
        """It is one of ours, or has to show that before it can send: people at home
        are on lists of addresses at home, and their programs give odd names."""
        return self.submits or self.relays or self.account is not None

    async def judge(self, stage: str) -> bytes:
        """Ask the policies of the client itself.

        @param stage: C{"connect"} or C{"helo"}.
        @return: the reply that refuses, or nothing.
        """
        self.judged.pop(stage, None)  # said of another name
        if self.policies is None or self._exempt:
            return b""
        asked = Progress(self.session, self.origin, trusted=self.trusted)
        return self.keep(stage, await self.policies.ask(stage, asked), self.judged)

    def keep(
        self, stage: str, judgement: Judgement, kept: dict[str, Judgement]
    ) -> bytes:
        """Remember what was said at a stage, of each recipient that was taken.

        @param kept: with what was said at the others.
        @return: the reply that refuses, or nothing.
        """
        refusal = judgement.refusal
        if refusal is None or refusal.reply is None:
            kept[stage] = kept.get(stage, NOTHING).also(judgement)
            return b""
        self.leaving = self.leaving or refusal.disconnect
        return render(refusal.reply)

    @property
    def _exempt(self) -> bool:
        return any(judgement.exempt for judgement in self.judged.values())
