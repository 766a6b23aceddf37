"""What becomes of a sender's wish to be told, where a recipient's mail goes (RFC 3461
5.2.7)."""

from collections.abc import Sequence
from dataclasses import replace

from twisted_mta.mail import dsn
from twisted_mta.mail.address import Address
from twisted_mta.mail.confirmation import Confirmation
from twisted_mta.mail.dsn import Notification
from twisted_mta.mail.route import Route, ToAgent


def informed(
    recipient: Address, routes: Sequence[Route], notification: Notification
) -> tuple[tuple[Route, ...], Sequence[Confirmation]]:
    """Routes that carry what the sender asks, and what he is told once the message
    is accepted.

    Who stands for several people is told of as one: a success is ours to tell, a
    failure of any of them is still told. The next server is told whom the sender
    wrote to, if an alias leads there.

    @param routes: of this recipient.
    """
    told: list[Confirmation] = []
    passed = notification
    if len(routes) > 1:
        if notification.success:
            told.append(Confirmation(recipient, notification, "expanded"))
            assert notification.notify is not None
            passed = replace(notification, notify=notification.notify & ~_SUCCESS)
    elif notification.success and not isinstance(routes[0], ToAgent):
        told.append(Confirmation(recipient, notification, "delivered"))
    return tuple(_with(route, recipient, passed) for route in routes), told


_SUCCESS = dsn.Notify.SUCCESS


def _with(route: Route, recipient: Address, notification: Notification) -> Route:
    if not isinstance(route, ToAgent):
        return route
    if notification.original is None and route.recipient != recipient:
        notification = replace(notification, original=dsn.original(recipient))
    return replace(route, notification=notification)
