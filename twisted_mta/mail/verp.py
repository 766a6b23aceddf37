"""Senders with the recipient's name in them (VERP, variable envelope return paths).

A list that sends to C{bob@example.net} as C{owner+bob=example.net@lists.example} knows
whose address it is that a bounce tells of, whatever stands in the bounce. It is as of
Postfix's VERP_README: the two delimiters stand behind the sender's own name and in the
place of the recipient's C{@}, and whoever was written to is named, not whom his alias
leads to. Of each recipient the message goes on by itself.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from twisted_mta.mail.address import Address, domain_name
from twisted_mta.mail.domain import known_as
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.route import RELEASE, Route, ToAgent

#: Postfix: default_verp_delimiters.
DELIMITERS = "+="

# Postfix: verp_delimiter_filter.
_DELIMITERS = re.compile(r"[-=+]{2}")

# Octets of an address, see srs.
_ADDRESS_MOST = 254


def delimiters(text: str) -> str:
    """The same text.

    @raise ValueError: it is not two delimiters.
    """
    if not _DELIMITERS.fullmatch(text):
        raise ValueError("must be two of + - =")
    return text


def sender(owner: Address, recipient: Address, delimiters: str) -> Address:
    """The sender for one recipient; the owner himself where that would be longer than
    addresses are."""
    behind, between = delimiters[0], delimiters[1]
    domain = known_as(recipient.domain)
    named = f"{recipient.local}{between}{domain}" if domain else recipient.local
    made = Address(f"{owner.local}{behind}{named}", owner.domain)
    return made if len(str(made).encode()) <= _ADDRESS_MOST else owner


def read(made: Address, delimiters: str) -> tuple[Address, Address] | None:
    """The owner and the recipient of whom a sender may have been made, C{None} if it
    has not the form. It proves nothing: anybody can write such an address."""
    owner, _, named = made.local.partition(delimiters[0])
    local, between, domain = named.rpartition(delimiters[1])
    if not (owner and local and between and domain_name(domain)):
        return None
    return Address(owner, made.domain), Address(local, domain.lower())


def each(
    envelope: Envelope, recipient: Address, routes: Sequence[Route]
) -> tuple[Route, ...]:
    """A recipient's routes, as they are for who asked for it.

    @param envelope: of the message; its C{handling} says whether.
    """
    return written(envelope.sender, envelope.handling.verp, recipient, routes)


def written(
    owner: Address | None,
    delimiters: str,
    recipient: Address,
    routes: Sequence[Route],
) -> tuple[Route, ...]:
    """The same.

    @param delimiters: empty: as they are.
    """
    if not delimiters or owner is None:
        return tuple(routes)
    made = sender(owner, recipient, delimiters)
    return tuple(
        replace(route, sender=made)
        if isinstance(route, ToAgent) and route.agent != RELEASE
        else route
        for route in routes
    )
