"""The ways that a message takes: which recipients share a row of the queue.

Those do who go by the same agent to the same next hop as the same message, which has a
sender and perhaps header fields of its own on a way from an address of ours
(L{twisted_mta.delivery.forward}). Who is reached twice, by himself and over an address
here, has the message once, and without the detour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted_mta.delivery.forward import prefix
from twisted_mta.delivery.record import write_notification
from twisted_mta.interfaces import SqlValue
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.ids import new_id
from twisted_mta.mail.route import ToAgent

_Kind = tuple[str, str, int, Address | None, Address | None]

# C{hop.held} of each route, and why if it is held.
_Held = Callable[[Envelope, Sequence[ToAgent]], Iterable[tuple[int, str]]]

# The first columns of the tables hop and recipient.
Rows = list[tuple[SqlValue, ...]]


def rows(
    envelope: Envelope, routes: Sequence[ToAgent], due: float, held: _Held
) -> tuple[Rows, Rows, set[str]]:
    """Rows of hops: id, message, agent, next hop, held, due, sender, prefix. Rows of
    their recipients: hop, address, notification. Why some are held.

    @param due: when they are tried first.
    @param held: says which routes are held.
    """
    if any(route.forwarder is not None for route in routes):
        routes = sorted(routes, key=lambda route: route.forwarder is not None)
    hops: dict[_Kind, int] = {}
    placed: set[tuple[str, str, str]] = set()
    recipients: Rows = []
    reasons: set[str] = set()
    for route, (hold, reason) in zip(routes, held(envelope, routes), strict=True):
        address = str(route.recipient)
        target = route.agent, route.next_hop, address
        if target in placed:
            continue
        placed.add(target)
        if reason:
            reasons.add(reason)
        kind = (*target[:2], hold, route.sender, route.forwarder)
        if kind not in hops:
            hops[kind] = new_id()
        asked = write_notification(route.notification)
        recipients.append((hops[kind], address, asked))
    found = [_hop(id, envelope, kind, due) for kind, id in hops.items()]
    return found, recipients, reasons


def _hop(id: int, envelope: Envelope, kind: _Kind, due: float) -> tuple[SqlValue, ...]:
    agent, next_hop, hold, sender, forwarder = kind
    rewritten = None if sender is None else str(sender)
    own = prefix(forwarder)
    return id, envelope.id, agent, next_hop, hold, due, rewritten, own
