"""What a policy says of a transaction."""

from collections.abc import Sequence
from dataclasses import dataclass

from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.reply import Reply


@dataclass(frozen=True, slots=True)
class Verdict:
    """A refusal; no verdict at all (C{None}) means that the policy has no
    objection.

    @ivar reply: what the client is answered, 4yz or 5yz.
    @ivar reason: what the log says beyond the reply.
    @ivar disconnect: the connection ends after the reply.
    """

    reply: Reply
    reason: str = ""
    disconnect: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transaction has come when a policy is asked.

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
