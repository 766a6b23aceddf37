"""What is asked of the channel to one host, as a value.

A demand is made of what the operator, the message and the next domain ask for
(L{twisted_mta.delivery.smtp.security}); a session holds its host to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from twisted_mta.delivery.smtp.settings import Tls
from twisted_mta.mail.tlsa import Tlsa
from twisted_mta.mail.tlsreport import Policy


class Proof(Enum):
    """By what a host's certificate is judged; the words of the log's C{verified=}."""

    NONE = "none"
    PKIX = "pkix"  # an authority vouches for the host's name
    DANE = "dane"  # the DNS says what it is
    # The same, but that the domain's mail goes to this host is not authentic.
    DANE_HOST = "dane-host"
    STS = "sts"  # an authority vouches for a name that the domain's policy has


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of one host.

    @ivar tls: C{NONE}, C{MAY}, C{ENCRYPT} or C{VERIFY}: what else there is has become
        one of these.
    @ivar proof: by what its certificate is judged.
    @ivar enforced: if the certificate is not right, the host gets no mail.
    @ivar promised: the host must promise TLS for the rest of the way (RFC 8689).
    @ivar name: as what it is spoken to (SNI); empty: the host's own.
    @ivar names: as which it may be certified.
    @ivar tlsa: records that are usable.
    @ivar counted: for whom reports are, and what they say that the host was held to;
        C{None}: they say nothing of it.
    @ivar result: what is wrong before it is spoken to, as reports call it.
    @ivar waived: whether there is TLS is all the same, to the message (RFC 8689 5) or
        the operator.
    """

    tls: Tls
    proof: Proof = Proof.NONE
    enforced: bool = True
    promised: bool = False
    name: str = ""
    names: tuple[str, ...] = ()
    tlsa: tuple[Tlsa, ...] = ()
    counted: tuple[str, Policy] | None = None
    result: str = ""
    waived: bool = False

    @property
    def required(self) -> bool:
        """Rather no mail than in the clear."""
        return self.tls.required or self.promised

    def same_as(self, other: Demand) -> bool:
        """Whether a channel that meets one meets the other, too; who is told of it is
        all the same."""
        return replace(self, counted=None, result="") == replace(
            other, counted=None, result=""
        )

    def in_clear(self) -> Demand:
        """The same without TLS, when it failed; that has been counted."""
        return replace(self, tls=Tls.NONE, proof=Proof.NONE, counted=None)
