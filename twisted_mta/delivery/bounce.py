"""Delivery status notifications: what a sender reads of what became of mail.

A multipart/report (RFC 6522, before it RFC 3462) of three parts: a text for
people, a message/delivery-status for programs (RFC 3464) and the header of the
message, or all of it. Where addresses are international it is the form of RFC
6533. This module writes octets; it knows no queue and no clock. It trusts neither
what the remote server said nor the original header: both end up inside lines and a
part of their own, cleaned and bounded.
"""

from __future__ import annotations

import re
import secrets
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import Enum

from twisted_mta.delivery.text import one_line
from twisted_mta.mail import dsn
from twisted_mta.mail.address import Address
from twisted_mta.mail.dsn import Notification
from twisted_mta.mail.envelope import USUAL, Body, Envelope, Handling
from twisted_mta.mail.ids import new_id, to_text
from twisted_mta.mail.route import Outcome

#: Octets of the original header that are returned. Postfix: bounce_size_limit
#: 50000.
HEADER_MOST = 50_000

# Longest line of mail, RFC 5322 2.1.1.
_LINE = 998

# Characters of a line that may have any: of at most 4 octets each they fit.
_WORD = 240

# Octets of an address, RFC 5321 4.5.3.1.3; a host's name has fewer.
_PATH = 256

_MESSAGE_ID = re.compile(rb"^message-id:[ \t]*(<[!-;=?-~]{1,250}>)", re.I | re.M)

# Nobody reads warnings that answer these. Exim's delay_warning_condition.
_IMPERSONAL = re.compile(
    rb"^(?:precedence:[ \t]*(?:bulk|list|junk)|auto-submitted:[ \t]*auto-)", re.I | re.M
)


# What nobody was to read on its way is not to be read on its way back (RFC 8689 5).
_PRIVATE = Handling(require_tls=True)


class Action(Enum):
    """What became of the message (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


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


@dataclass(frozen=True, slots=True)
class Report:
    """What a notification tells.

    @ivar hostname: this server's name.
    @ivar envelope: of the message, which has a sender.
    @ivar header: the message's header block; at most L{HEADER_MOST} octets of
        it are returned.
    @ivar recipients: those it is about, each with the last attempt's outcome.
    @ivar now: when the attempt was, seconds since the epoch.
    @ivar action: what became of the message for all of them.
    @ivar retry_until: of a delay, when the server gives up.
    @ivar asked: what the sender asked to be told, where it is not the usual.
    @ivar whole: all of the message, to be returned instead of its header.
    """

    hostname: str
    envelope: Envelope
    header: bytes
    recipients: Sequence[tuple[Address, Outcome]]
    now: float
    action: Action = Action.FAILED
    retry_until: float | None = None
    asked: Mapping[Address, Notification] = field(default_factory=dict)
    whole: bytes | None = None

    @property
    def international(self) -> bool:
        """Some address cannot be written in ASCII."""
        addresses = [self.envelope.sender, *(who for who, _ in self.recipients)]
        originals = [one.original for one in self.asked.values()]
        return not all(
            address is None or address.ascii for address in addresses
        ) or any(one is not None and one.international for one in originals)


def unwanted(header: bytes) -> bool:
    """Whether a warning of a delay would go to a machine or a mailing list."""
    return _IMPERSONAL.search(header) is not None


def compose(report: Report) -> tuple[Envelope, bytes]:
    """Write a notification.

    @return: its envelope, with the null sender so that it is never answered by
        another (RFC 5321 4.5.5), and its octets.
    """
    sender = report.envelope.sender
    assert sender is not None
    id = new_id()
    original = _excerpt(report.header)
    people = _people(report)
    parts = _message(report, to_text(id), sender, people, original)
    octets = b"".join(parts)
    envelope = Envelope(
        id=id,
        sender=None,
        recipients=(sender,),
        received_at=report.now,
        body=Body.SEVEN_BIT if octets.isascii() else Body.EIGHT_BIT,
        smtputf8=report.international,
        handling=_PRIVATE if report.envelope.handling.require_tls else USUAL,
    )
    return envelope, octets


def _message(
    report: Report, id: str, sender: Address, people: str, original: bytes
) -> Iterator[bytes]:
    boundary = f"{id}.{secrets.token_hex(12)}"
    kind = "global-" if report.international else ""
    yield _fields(
        ("From", f'"Mail Delivery System" <MAILER-DAEMON@{report.hostname}>'),
        ("To", f"<{_clean(sender)}>"),
        ("Subject", _SUBJECTS[report.action]),
        ("Date", _date(report.now)),
        ("Message-ID", f"<{id}@{report.hostname}>"),
        *_threading(original),
        ("Auto-Submitted", "auto-replied"),
        ("MIME-Version", "1.0"),
        (
            "Content-Type",
            "multipart/report; report-type=delivery-status;\r\n"
            f'\tboundary="{boundary}"',
        ),
        *_encoding(people.isascii() and (report.whole or original).isascii()),
    )
    yield b"This is a delivery status notification in MIME format.\r\n"
    yield _part(boundary, "text/plain; charset=utf-8", people.encode(), "Notification")
    yield _part(
        boundary, f"message/{kind}delivery-status", _status(report), "Delivery report"
    )
    if report.whole is not None:
        message = "message/global" if kind else "message/rfc822"
        yield _part(boundary, message, report.whole, "Your message")
    else:
        headers = "message/global-headers" if kind else "text/rfc822-headers"
        yield _part(boundary, headers, original, "Header of your message")
    yield b"\r\n--%b--\r\n" % boundary.encode()


def _fields(*fields: tuple[str, str]) -> bytes:
    """Header fields and the empty line after them."""
    lines = [f"{name}: {value}\r\n" for name, value in fields]
    return "".join([*lines, "\r\n"]).encode()


def _part(boundary: str, type: str, body: bytes, description: str) -> bytes:
    head = _fields(
        ("Content-Type", type),
        ("Content-Description", description),
        *_encoding(body.isascii()),
    )
    return b"\r\n--%b\r\n%b%b" % (boundary.encode(), head, body)


def _encoding(seven_bit: bool) -> Sequence[tuple[str, str]]:
    return () if seven_bit else (("Content-Transfer-Encoding", "8bit"),)


def _threading(original: bytes) -> Sequence[tuple[str, str]]:
    """Show it beside the message, where a mail reader sorts by threads."""
    match = _MESSAGE_ID.search(original)
    if match is None:
        return ()
    id = match[1].decode("ascii")
    return ("In-Reply-To", id), ("References", id)


def _people(report: Report) -> str:
    """The first part: what happened, to whom, and what to do."""
    until = report.retry_until
    told = _TOLD[report.action].format(until=f" until {_date(until)}" if until else "")
    paragraphs = [f"This is the mail server {report.hostname}.", told]
    wrapped = [_wrap(paragraph) for paragraph in paragraphs]
    for recipient, outcome in report.recipients:
        lines = [f"<{_clean(recipient)}>"]
        if outcome.replied:
            lines.append(_wrap(f"{one_line(outcome.remote)} said:", "  "))
        if outcome.diagnostic:
            lines.append(_wrap(one_line(outcome.diagnostic), "    "))
        wrapped.append("\r\n".join(lines))
    return "\r\n\r\n".join(wrapped) + "\r\n"


def _wrap(paragraph: str, indent: str = "") -> str:
    # Words are left whole, for addresses and codes are copied from here, unless
    # a line would get too long for mail.
    lines = textwrap.wrap(
        paragraph,
        72,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\r\n".join(
        line[start : start + _WORD]
        for line in lines
        for start in range(0, len(line), _WORD)
    )


def _status(report: Report) -> bytes:
    """The second part: RFC 3464 2.2 for the message, 2.3 for each recipient."""
    # In the international form the text is UTF-8 (RFC 6533 3), else ASCII.
    charset = "utf-8" if report.international else "ascii"
    envid = report.envelope.handling.envid
    groups = [
        [
            *([f"Original-Envelope-Id: {one_line(envid)}"] if envid else ()),
            f"Reporting-MTA: dns; {report.hostname}",
            f"Arrival-Date: {_date(report.envelope.received_at)}",
            *_wishes(report.envelope),
        ]
    ]
    groups += [_recipient(report, *entry) for entry in report.recipients]
    text = "\r\n\r\n".join("\r\n".join(group) for group in groups)
    return (text + "\r\n").encode(charset, "replace")


def _wishes(envelope: Envelope) -> Iterator[str]:
    """When the sender wanted it to be where: RFC 2852 5, RFC 4865."""
    by, release_at = envelope.handling.by, envelope.handling.release_at
    if by is not None:
        yield f"Deliver-By-Date: {_date(envelope.received_at + by.seconds)}"
    if release_at:
        moment = datetime.fromtimestamp(int(release_at), UTC)
        yield f"Future-Release-Request: until; {moment:%Y-%m-%dT%H:%M:%SZ}"


def _recipient(report: Report, recipient: Address, outcome: Outcome) -> list[str]:
    fields = [
        f"Final-Recipient: {_shown(dsn.original(recipient), report)}",
        f"Action: {report.action.value}",
        f"Status: {_clean_status(outcome.status)}",
    ]
    original = report.asked.get(recipient, dsn.USUAL).original
    if original is not None:
        fields.insert(0, f"Original-Recipient: {_shown(original, report)}")
    host = _bounded(outcome.remote.partition("[")[0])
    if host:
        fields.append(f"Remote-MTA: dns; {host}")
    if outcome.diagnostic:
        # What was no SMTP reply is of a type of our own (RFC 3464 2.1.2).
        spoken = "smtp" if outcome.replied else "x-twisted-mta"
        said = _fold(one_line(outcome.diagnostic))
        fields.append(f"Diagnostic-Code: {spoken}; {said}")
    fields.append(f"Last-Attempt-Date: {_date(report.now)}")
    if report.retry_until is not None:
        fields.append(f"Will-Retry-Until: {_date(report.retry_until)}")
    return fields


def _shown(original: dsn.OriginalRecipient, report: Report) -> str:
    """An address with its type, for programs."""
    address = one_line(original.address)
    if original.type == "utf-8" and not report.international:
        address = dsn.international(address, utf8=False)
    return f"{original.type}; {_bounded(address)}"


def _fold(value: str) -> str:
    """A long value over several lines (RFC 5322 2.2.3)."""
    lines = textwrap.wrap(value, _WORD, break_on_hyphens=False)
    return "\r\n ".join(lines)


def _clean(address: Address) -> str:
    return _bounded(str(address))


def _bounded(name: str) -> str:
    return one_line(name).encode()[:_PATH].decode(errors="ignore")


_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")


def _clean_status(status: str) -> str:
    return status if _STATUS.fullmatch(status) else "4.0.0"


def _date(at: float) -> str:
    # Down, as Received has it: mail has not arrived before it was received.
    return format_datetime(datetime.fromtimestamp(int(at), UTC))


def _excerpt(header: bytes) -> bytes:
    """The header block, whole fields of it, cut where it gets too long."""
    block, end, _ = header.partition(b"\r\n\r\n")
    if len(block) > HEADER_MOST or not end:
        block = block[:HEADER_MOST].rpartition(b"\r\n")[0]
    lines = re.split(rb"[\r\n\0]+", block)
    return b"".join(b"%b\r\n" % line[:_LINE] for line in lines if line)
