"""What a policy says of a transaction, and what all of them together do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.reply import Reply


class Kind(Enum):
    """What is to be done."""

    REFUSE = "refuse"
    ACCEPT = "accept"
    QUARANTINE = "quarantine"
    TAG = "tag"
    DELAY = "delay"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An opinion; no verdict at all (C{None}) means that the policy has none. Made by
    the class methods as a rule.

    @ivar reply: of a refusal, what the client is answered, 4yz or 5yz.
    @ivar reason: what the log says beyond the reply.
    @ivar disconnect: the connection ends after the reply.
    @ivar field: of a tag, the header field's name and value.
    @ivar seconds: of a delay.
    """

    reply: Reply | None = None
    reason: str = ""
    disconnect: bool = False
    kind: Kind = Kind.REFUSE
    field: tuple[str, str] = ("", "")
    seconds: float = 0.0

    @classmethod
    def reject(
        cls,
        text: str,
        reason: str = "",
        *,
        status: str = "5.7.1",
        code: int = 550,
        disconnect: bool = False,
    ) -> Verdict:
        """Refuse for good. Those after it are not asked.

        @param text: for the sender: why, and what he can do.
        """
        return cls(Reply(code, status, (text,)), reason, disconnect)

    @classmethod
    def tempfail(
        cls,
        text: str,
        reason: str = "",
        *,
        status: str = "4.7.1",
        code: int = 451,
        disconnect: bool = False,
    ) -> Verdict:
        """Refuse for now: the client shall try again."""
        return cls(Reply(code, status, (text,)), reason, disconnect)

    @classmethod
    def accept(cls, reason: str) -> Verdict:
        """Ask no other policy of this client (at CONNECT and HELO), or of this
        transaction."""
        return cls(reason=reason, kind=Kind.ACCEPT)

    @classmethod
    def quarantine(cls, reason: str) -> Verdict:
        """Take the message, and keep it apart: in the recipient's mailbox for junk,
        or held in the queue. The others are asked."""
        return cls(reason=reason, kind=Kind.QUARANTINE)

    @classmethod
    def tag(cls, name: str, value: str, reason: str = "") -> Verdict:
        """Add a header field to the message. The others are asked.

        @param name: printable ASCII without a colon.
        @param value: of one line; what is none is replaced.
        """
        return cls(reason=reason, kind=Kind.TAG, field=(name, value))

    @classmethod
    def delay(cls, seconds: float, reason: str = "") -> Verdict:
        """Answer later (tarpitting). The others are asked, afterwards."""
        return cls(reason=reason, kind=Kind.DELAY, seconds=seconds)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What all policies of a stage came to.

    @ivar refusal: the first.
    @ivar exempt: one said that no other need be asked.
    @ivar quarantine: the message is to be kept apart.
    @ivar fields: to be added to it.
    """

    refusal: Verdict | None = None
    exempt: bool = False
    quarantine: bool = False
    fields: tuple[tuple[str, str], ...] = ()

    def also(self, later: Judgement) -> Judgement:
        """This and what was said after it at the same stage, of another recipient."""
        return Judgement(
            self.refusal or later.refusal,
            self.exempt or later.exempt,
            self.quarantine or later.quarantine,
            tuple(dict.fromkeys((*self.fields, *later.fields))),
        )


NOTHING = Judgement()
"""Nobody had an opinion."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transaction has come when a policy is asked.

    @ivar trusted: the client is one of ours: it has to log in before it can send
        (submission), or its network may relay. Of such a one most policies have no
        opinion.
    @ivar sender: C{None} for the null sender, and before MAIL.
    @ivar recipients: those accepted so far, and at RCPT, last, the one in
        question.
    @ivar size: what the client declared at MAIL, or at MESSAGE the octets that
        came; 0 if unknown.
    @ivar header: at MESSAGE, the header block as it came; else empty.
    """

    session: str
    origin: Origin
    sender: Address | None = None
    recipients: Sequence[Address] = ()
    size: int = 0
    header: bytes = b""
    trusted: bool = False
