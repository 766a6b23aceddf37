"""The extensions of SMTP that this server has, and what each brings.

The grammar reads the parameters of all of them; what a listener does not offer is
refused there (RFC 5321 4.1.1.11), so that an extension that is switched off is as if
it were not there.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Extension:
    """One of them.

    @ivar mail: the parameters of MAIL that it brings.
    @ivar rcpt: those of RCPT.
    """

    mail: frozenset[str] = frozenset()
    rcpt: frozenset[str] = frozenset()


#: By the keyword of EHLO.
EXTENSIONS: Mapping[str, Extension] = {
    "PIPELINING": Extension(),
    "SIZE": Extension(frozenset({"SIZE"})),
    "8BITMIME": Extension(frozenset({"BODY"})),
    "SMTPUTF8": Extension(frozenset({"SMTPUTF8"})),
    "ENHANCEDSTATUSCODES": Extension(),
    "CHUNKING": Extension(),
    "BINARYMIME": Extension(),  # a value of BODY more
    "DSN": Extension(frozenset({"RET", "ENVID"}), frozenset({"NOTIFY", "ORCPT"})),
    "DELIVERBY": Extension(frozenset({"BY"})),
    "FUTURERELEASE": Extension(frozenset({"HOLDFOR", "HOLDUNTIL"})),
    "MT-PRIORITY": Extension(frozenset({"MT-PRIORITY"})),
    "NO-SOLICITING": Extension(frozenset({"SOLICIT"})),
    "REQUIRETLS": Extension(frozenset({"REQUIRETLS"})),
    "PRDR": Extension(frozenset({"PRDR"})),
    "LIMITS": Extension(),
    "ETRN": Extension(),
    "VRFY": Extension(),
    "EXPN": Extension(),
    "XCLIENT": Extension(),
    "XFORWARD": Extension(),
    "XVERP": Extension(frozenset({"XVERP"})),
    "STARTTLS": Extension(),
    "AUTH": Extension(frozenset({"AUTH"})),
}


@dataclass(frozen=True, slots=True)
class Offer:
    """What is offered to a client.

    @ivar keywords: of the extensions.
    @ivar mail: parameters that MAIL may have.
    @ivar rcpt: parameters that RCPT may have.
    """

    keywords: frozenset[str]
    mail: frozenset[str]
    rcpt: frozenset[str]


@lru_cache(maxsize=256)
def offer(without: Set[str] = frozenset()) -> Offer:
    """All extensions but some, and those that cannot be without them.

    @param without: keywords; a frozenset.
    """
    if "8BITMIME" in without:  # RFC 6531 3.1
        without = without | {"SMTPUTF8"}
    offered = {word: one for word, one in EXTENSIONS.items() if word not in without}
    return Offer(
        frozenset(offered),
        frozenset().union(*(one.mail for one in offered.values())),
        frozenset().union(*(one.rcpt for one in offered.values())),
    )
