"""The history of messages, as it is written: within transactions that are made anyway.

Accepting mail adds one statement to a group of messages, however many these are, and
the end of attempts one to all that end together. What is written has a key that grows
with time, so it is appended to, and swept from the other end
(L{twisted_mta.delivery.sweep}). It is read in L{twisted_mta.delivery.story}.

Addresses and names that strangers chose come into it as one line each.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice

from zope.interface import implementer

from twisted_mta.delivery.settlement import Settlement, Told
from twisted_mta.delivery.text import one_line
from twisted_mta.interfaces import IHistory, ITransaction
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.filter import like
from twisted_mta.mail.history import Event, Kind
from twisted_mta.mail.ids import new_id
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import RELEASE

# Addresses of a message that are kept. Postfix: smtpd_recipient_limit 1000.
_NAMED = 1000

_ACCEPTED = (
    "INSERT INTO history (id, received_at, size, sender, protocol, host, port, helo,"
    " tls, login, listener, recipients, mailboxes, queued)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_HAPPENED = (
    f"INSERT INTO event ({', '.join(Event._fields)})"
    f" VALUES ({', '.join('?' * len(Event._fields))})"
)

Accepted = tuple[Envelope, int, Collection[Address], Collection[Address]]


@implementer(IHistory)
class History:
    """Writes the history, if one is kept.

    @param keep: if not, it writes nothing.
    """

    def __init__(self, keep: bool = True) -> None:
        self._keep = keep

    def accepted(self, transaction: ITransaction, messages: Sequence[Accepted]) -> None:
        """See L{IHistory.accepted}. 5 us a message."""
        if self._keep:
            transaction.executemany(_ACCEPTED, [_row(*each) for each in messages])

    def happened(self, transaction: ITransaction, events: Sequence[Event]) -> None:
        """See L{IHistory.happened}."""
        if self._keep and events:
            transaction.executemany(_HAPPENED, events)


def _row(
    envelope: Envelope,
    size: int,
    mailboxes: Collection[Address],
    queued: Collection[Address],
) -> tuple[str | int | float, ...]:
    """2 us, of which a half is the addresses."""
    sender, recipients, origin = envelope.sender, envelope.recipients, envelope.origin
    return (
        envelope.id,
        envelope.received_at,
        size,
        "" if sender is None else _lines((sender,)),
        origin.protocol,
        origin.host,
        origin.port,
        _line(origin.helo),
        origin.tls,
        _line(origin.login),
        origin.listener,
        _lines(recipients),
        _lines(mailboxes) if mailboxes else "",
        _lines(queued) if queued else "",
    )


def _line(text: str) -> str:
    # Nearly always: 0.1 us.
    return text if text.isascii() and text.isprintable() else one_line(text)


def _lines(addresses: Collection[Address]) -> str:
    """Addresses, a line each."""
    if len(addresses) == 1:
        (address,) = addresses
        return _line(str(address))
    return "\n".join([_line(str(one)) for one in islice(addresses, _NAMED)])


def also_for(transaction: ITransaction, message: int, recipient: Address) -> None:
    """A message waits for somebody whom its sender did not name, and is found so."""
    line = _line(str(recipient))
    transaction.execute(
        "UPDATE history SET queued = queued || ? WHERE id = ? AND queued <> ''"
        " AND ? || queued || ? NOT LIKE ? ESCAPE '!'",
        (f"\n{line}", message, "\n", "\n", like(f"*\n{line}\n*")),
    )


def attempted(
    job: Job, settlement: Settlement, now: float, who: str = ""
) -> list[Event]:
    """What an attempt was for each of its recipients.

    @param now: when it ended.
    @param who: the operator who returned the message instead of trying it.
    """
    failed = Kind.BOUNCED if who else Kind.FAILED
    events = _ended(job, settlement.failed, failed, now, who)
    events += _ended(job, settlement.deferred, Kind.DEFERRED, now, who)
    # What is released has gone on under another name, which is told where it does.
    if job.agent != RELEASE:
        events += _ended(job, settlement.delivered, Kind.DELIVERED, now, who)
    return events


def _ended(job: Job, told: Told, kind: Kind, now: float, who: str) -> list[Event]:
    return [
        Event(
            message_id=job.envelope.id,
            id=new_id(),
            at=now,
            kind=kind,
            who=who,
            recipient=_line(str(recipient)),
            agent=job.agent,
            next_hop=job.next_hop,
            remote=_line(outcome.remote),
            tls=_line(outcome.tls),
            status=outcome.status,
            text=one_line(outcome.diagnostic),
            uncertain=outcome.uncertain,
        )
        for recipient, outcome in told
    ]


def cut_short(
    message: int, agent: str, next_hop: str, began: float, now: float
) -> Event:
    """An attempt of which nobody will tell the end.

    @param began: when the row was taken for it, seconds since the epoch.
    """
    return Event(
        message_id=message,
        id=new_id(),
        at=now,
        kind=Kind.CUT_SHORT,
        agent=agent,
        next_hop=next_hop,
        # The time is a number, so that whoever shows it can show it in their zone.
        text=f"{began:.3f}",
        uncertain=True,
    )


def notified(message: int, notice: str, now: float) -> Event:
    """The sender is sent a notice.

    @param notice: its id as text.
    """
    return Event(message, new_id(), now, Kind.NOTIFIED, text=notice)


def resent(message: int, envelope: Envelope) -> Event:
    """A client sent it again, and was told that it was accepted.

    @param envelope: as it came this time.
    """
    at = envelope.received_at
    return Event(message, new_id(), at, Kind.RESENT, text=_line(envelope.origin.host))
