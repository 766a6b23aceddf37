"""The ways that a message takes: which recipients share a row of the queue.

Those do who go by the same agent to the same next hop as the same message, which has a
sender and perhaps header fields of its own on a way from an address of ours
(L{twisted_mta.delivery.forward}). Who is reached twice, by himself and over an address
here, has the message once, and without the detour.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted_mta.delivery.forward import prefix
from twisted_mta.delivery.record import write_notification
from twisted_mta.interfaces import SqlValue
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.ids import new_id
from twisted_mta.mail.route import ToAgent

_Kind = tuple[str, str, bool, Address | None, Address | None]

# The first columns of the tables hop and recipient.
Rows = list[tuple[SqlValue, ...]]


def rows(
    envelope: Envelope, routes: Sequence[ToAgent], due: float
) -> tuple[Rows, Rows]:
    """Rows of hops: id, message, agent, next hop, held, due, sender, prefix. Rows of
    their recipients: hop, address, notification.

    @param due: when they are tried first.
    """
    if any(route.forwarder is not None for route in routes):
        routes = sorted(routes, key=lambda route: route.forwarder is not None)
    hops: dict[_Kind, int] = {}
    placed: set[tuple[str, str, str]] = set()
    recipients: Rows = []
    for route in routes:
        address = str(route.recipient)
        target = route.agent, route.next_hop, address
        if target in placed:
            continue
        placed.add(target)
        hold = route.hold or envelope.quarantined
        kind = (*target[:2], hold, route.sender, route.forwarder)
        if kind not in hops:
            hops[kind] = new_id()
        asked = write_notification(route.notification)
        recipients.append((hops[kind], address, asked))
    return [_hop(id, envelope, kind, due) for kind, id in hops.items()], recipients


def _hop(id: int, envelope: Envelope, kind: _Kind, due: float) -> tuple[SqlValue, ...]:
    agent, next_hop, hold, sender, forwarder = kind
    rewritten = None if sender is None else str(sender)
    own = prefix(forwarder)
    return id, envelope.id, agent, next_hop, int(hold), due, rewritten, own
