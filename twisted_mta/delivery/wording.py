"""The part of a notification that people read, which comes first.

What happened, to which message, to whom and why, and what to do. Of what servers and
headers say it shows what is safe on a line (L{twisted_mta.delivery.text}).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime

from twisted_mta.delivery.reason import meaning
from twisted_mta.delivery.report import Action, Report
from twisted_mta.delivery.text import one_line
from twisted_mta.mail import header, rfc2047
from twisted_mta.mail.address import Address
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.route import Outcome

#: Characters of a line that may have any: of at most 4 octets each they fit into the
#: 998 of RFC 5322 2.1.1.
WORD = 240

# Octets of an address, RFC 5321 4.5.3.1.3; a host's name has fewer.
_PATH = 256

# Characters of a subject that name a message.
_SUBJECT = 200

_SUBJECTS = {
    Action.FAILED: "Your message was not delivered",
    Action.DELAYED: "Your message is delayed",
    Action.DELIVERED: "Your message was delivered",
    Action.RELAYED: "Your message was relayed",
    Action.EXPANDED: "Your message went to a list of people",
}

_TOLD = {
    Action.FAILED: (
        "Your message could not be delivered to the recipients below, and will not "
        "be tried again. What each server answered stands beside its recipient; if "
        "you cannot make use of that, show it to your postmaster."
    ),
    Action.DELAYED: (
        "Your message has not yet been delivered to the recipients below. You need "
        "not do anything: it will be tried again{until}, and you will be told if it "
        "cannot be delivered by then."
    ),
    Action.DELIVERED: (
        "Your message was delivered to the recipients below. This says nothing of "
        "whether anybody has read it."
    ),
    Action.RELAYED: (
        "Your message was given to the servers of the recipients below. If these do "
        "not tell of deliveries this is the last that you hear, unless it cannot be "
        "delivered."
    ),
    Action.EXPANDED: (
        "Your message was delivered to the recipients below, each of whom stands for "
        "several people. You will not be told of them one by one, unless it cannot "
        "be delivered."
    ),
}

_SUBJECT_INSTEAD = "A notification was not delivered"
_TOLD_INSTEAD = (
    "A message could not be delivered, and its sender, who stands below, could not be "
    "told: what he should have read comes back here. You are told as the postmaster of "
    "this server, and nobody else is. Mostly such a message came with a false sender."
)

# What becomes of a message whose recipients are told of one by one, and why.
_WITH_REASONS = (Action.FAILED, Action.DELAYED)


def subject(report: Report) -> str:
    """The notification's own."""
    return _SUBJECTS[report.action] if report.instead is None else _SUBJECT_INSTEAD


def people(report: Report, block: bytes) -> str:
    """What people read, lines ended as in mail.

    @param block: the header block that is returned.
    """
    until = report.retry_until
    told = _TOLD_INSTEAD
    if report.instead is None:
        until_when = f" until {date(until)}" if until else ""
        told = _TOLD[report.action].format(until=until_when)
    paragraphs = [
        wrap(f"This is the mail server {report.hostname}."),
        wrap(told),
        "\r\n".join(_about(report, block)),
    ]
    paragraphs += ["\r\n".join(_recipient(report, *one)) for one in report.recipients]
    return "\r\n\r\n".join(paragraphs) + "\r\n"


def _about(report: Report, block: bytes) -> Iterator[str]:
    """Which message it was."""
    said = header.first(block, b"subject")
    if said and (text := one_line(rfc2047.decode(said), _SUBJECT)):
        yield wrap(f"Subject: {text}", "  ")
    yield f"  Received here: {date(report.envelope.received_at)}"
    yield f"  Its number here: {to_text(report.envelope.id)}"


def _recipient(report: Report, recipient: Address, outcome: Outcome) -> Iterator[str]:
    yield f"<{clean(recipient)}>"
    if report.action in _WITH_REASONS and (why := meaning(outcome.status)):
        yield wrap(why, "  ")
    if outcome.replied:
        yield wrap(f"{one_line(outcome.remote)} said:", "  ")
    if outcome.diagnostic:
        yield wrap(report.said(outcome), "    ")


def wrap(paragraph: str, indent: str = "") -> str:
    """Lines of at most 72 characters. Words are left whole, for addresses and codes are
    copied from here, unless a line would get too long for mail."""
    lines = textwrap.wrap(
        paragraph,
        72,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\r\n".join(
        line[start : start + WORD]
        for line in lines
        for start in range(0, len(line), WORD)
    )


def clean(address: Address) -> str:
    """An address that is safe, and not too long for a line."""
    return bounded(str(address))


def bounded(name: str) -> str:
    """A name that is safe, and not too long for a line."""
    return one_line(name).encode()[:_PATH].decode(errors="ignore")


def date(at: float) -> str:
    """A time as mail has it. Down, as Received has it: mail has not arrived before it
    was received."""
    return format_datetime(datetime.fromtimestamp(int(at), UTC))
