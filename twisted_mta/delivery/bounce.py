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
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from twisted_mta.delivery.report import Action, Report
from twisted_mta.delivery.text import one_line
from twisted_mta.delivery.wording import WORD, bounded, clean, date, people, subject
from twisted_mta.mail import dsn
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import BOUNCE, LOCAL, USUAL, Body, Envelope, Handling
from twisted_mta.mail.ids import new_id, to_text
from twisted_mta.mail.route import Outcome

#: Octets of the original header that are returned. Postfix: bounce_size_limit
#: 50000.
HEADER_MOST = 50_000

# Longest line of mail, RFC 5322 2.1.1.
_LINE = 998

_MESSAGE_ID = re.compile(rb"^message-id:[ \t]*(<[!-;=?-~]{1,250}>)", re.I | re.M)

# Nobody reads warnings that answer these. Exim's delay_warning_condition.
_IMPERSONAL = re.compile(
    rb"^(?:precedence:[ \t]*(?:bulk|list|junk)|auto-submitted:[ \t]*auto-)", re.I | re.M
)


# What nobody was to read on its way is not to be read on its way back (RFC 8689 5).
_PRIVATE = Handling(require_tls=True)


def unwanted(header: bytes) -> bool:
    """Whether a warning of a delay would go to a machine or a mailing list."""
    return _IMPERSONAL.search(header) is not None


def compose(report: Report) -> tuple[Envelope, bytes]:
    """Write a notification.

    @return: its envelope, with the null sender so that it is never answered by
        another (RFC 5321 4.5.5), and its octets.
    """
    id = new_id()
    original = _excerpt(report.header)
    parts = _message(report, to_text(id), people(report, original), original)
    octets = b"".join(parts)
    envelope = Envelope(
        id=id,
        sender=None,
        recipients=(report.to,),
        received_at=report.now,
        origin=BOUNCE if _is_bounce(report) else LOCAL,
        body=Body.SEVEN_BIT if octets.isascii() else Body.EIGHT_BIT,
        smtputf8=report.international,
        handling=_PRIVATE if report.envelope.handling.require_tls else USUAL,
    )
    return envelope, octets


def _is_bounce(report: Report) -> bool:
    """Whether somebody is told if it cannot be delivered in its turn: of a failure, and
    only the first time."""
    return report.action is Action.FAILED and report.instead is None


def _to(report: Report) -> str:
    """Who is told, with a domain."""
    to = report.to
    return clean(to if to.domain else Address(to.local, report.hostname))


def _message(report: Report, id: str, told: str, original: bytes) -> Iterator[bytes]:
    boundary = f"{id}.{secrets.token_hex(12)}"
    kind = "global-" if report.international else ""
    status = f"message/{kind}delivery-status"
    yield _fields(
        ("From", f'"Mail Delivery System" <MAILER-DAEMON@{report.hostname}>'),
        ("To", f"<{_to(report)}>"),
        ("Subject", subject(report)),
        ("Date", date(report.now)),
        ("Message-ID", f"<{id}@{report.hostname}>"),
        *_threading(original),
        ("Auto-Submitted", "auto-replied"),
        ("MIME-Version", "1.0"),
        (
            "Content-Type",
            "multipart/report; report-type=delivery-status;\r\n"
            f'\tboundary="{boundary}"',
        ),
        *_encoding(told.isascii() and (report.whole or original).isascii()),
    )
    yield b"This is a delivery status notification in MIME format.\r\n"
    yield _part(boundary, "text/plain; charset=utf-8", told.encode(), "Notification")
    yield _part(boundary, status, _status(report), "Delivery report")
    what = "your message" if report.instead is None else "the notification"
    # Of an international message, whoever is told of it (RFC 6533 4.2, 5).
    utf8 = report.international or report.envelope.smtputf8
    if report.whole is not None:
        message = "message/global" if utf8 else "message/rfc822"
        yield _part(boundary, message, report.whole, what.capitalize())
    else:
        headers = "message/global-headers" if utf8 else "text/rfc822-headers"
        yield _part(boundary, headers, original, f"Header of {what}")
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


def _status(report: Report) -> bytes:
    """The second part: RFC 3464 2.2 for the message, 2.3 for each recipient."""
    # In the international form the text is UTF-8 (RFC 6533 3), else ASCII.
    charset = "utf-8" if report.international else "ascii"
    envid = report.envelope.handling.envid
    groups = [
        [
            *([f"Original-Envelope-Id: {one_line(envid)}"] if envid else ()),
            f"Reporting-MTA: dns; {report.hostname}",
            f"Arrival-Date: {date(report.envelope.received_at)}",
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
        yield f"Deliver-By-Date: {date(envelope.received_at + by.seconds)}"
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
    host = bounded(outcome.remote.partition("[")[0])
    if host:
        fields.append(f"Remote-MTA: dns; {host}")
    if outcome.diagnostic:
        # What was no SMTP reply is of a type of our own (RFC 3464 2.1.2).
        spoken = "smtp" if outcome.replied else "x-twisted-mta"
        said = _fold(report.said(outcome))
        fields.append(f"Diagnostic-Code: {spoken}; {said}")
    fields.append(f"Last-Attempt-Date: {date(report.now)}")
    if report.retry_until is not None:
        fields.append(f"Will-Retry-Until: {date(report.retry_until)}")
    return fields


def _shown(original: dsn.OriginalRecipient, report: Report) -> str:
    """An address with its type, for programs."""
    address = one_line(original.address)
    if original.type == "utf-8" and not report.international:
        address = dsn.international(address, utf8=False)
    return f"{original.type}; {bounded(address)}"


def _fold(value: str) -> str:
    """A long value over several lines (RFC 5322 2.2.3)."""
    lines = textwrap.wrap(value, WORD, break_on_hyphens=False)
    return "\r\n ".join(lines)


_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")


def _clean_status(status: str) -> str:
    return status if _STATUS.fullmatch(status) else "4.0.0"


def _excerpt(header: bytes) -> bytes:
    """The header block, whole fields of it, cut where it gets too long."""
    block, end, _ = header.partition(b"\r\n\r\n")
    if len(block) > HEADER_MOST or not end:
        block = block[:HEADER_MOST].rpartition(b"\r\n")[0]
    lines = re.split(rb"[\r\n\0]+", block)
    return b"".join(b"%b\r\n" % line[:_LINE] for line in lines if line)
