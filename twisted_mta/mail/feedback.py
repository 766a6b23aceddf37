"""Reports of complaints (Abuse Reporting Format, RFC 5965), read strictly.

A report is a multipart/report of three parts: words for people, fields for programs,
and the message it is about or its header. It trusts nothing in it: what does not have
that form is no report, and whether what it says is true is not judged here.
"""

import re
from typing import NamedTuple

from twisted_mta.mail import header, parameter, transfer
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.ids import from_text
from twisted_mta.mail.mime import scan
from twisted_mta.mail.structure import Part

# Recipients of one report: it is about one message to one person as a rule.
_RECIPIENTS = 10

# Traces that are looked at (Postfix: hopcount_limit 50), and octets of each.
_HOPS = 50
_TRACE = 1_000

# Octets of an address in its brackets (RFC 5321 4.5.3.1.3).
_PATH = 256

# What says that somebody does not want such mail (RFC 5965 7.3); "not-spam" (RFC 6430)
# says the opposite, "virus" and "auth-failure" nothing of the person.
_COMPLAINTS = frozenset({b"abuse", b"fraud", b"opt-out"})


class Feedback(NamedTuple):
    """A complaint.

    @ivar kind: such as C{"abuse"}.
    @ivar agent: the program that reports it, as it calls itself.
    @ivar recipients: who complained; empty if it does not say.
    @ivar sender: of the message's envelope, if it or the message says.
    @ivar message: the header block of the message.
    """

    kind: str
    agent: str
    recipients: tuple[Address, ...]
    sender: Address | None
    message: bytes


def read(octets: bytes) -> Feedback | None:
    """The complaint that a message reports, C{None} if it is no such report."""
    root = scan(octets).root
    described = root.content
    kind = parameter.octets(described.parameters, b"report-type") or b""
    if (described.type, described.subtype) != (b"multipart", b"report"):
        return None
    if kind.lower() != b"feedback-report" or len(root.children) != 3:
        return None
    fields, about = root.children[1:]
    if (fields.content.type, fields.content.subtype) != (
        b"message",
        b"feedback-report",
    ):
        return None
    block = _body(octets, fields)
    types = [each.lower() for each in header.every(block, b"Feedback-Type")]
    if len(types) != 1 or types[0] not in _COMPLAINTS:
        return None
    said = header.every(block, b"Original-Rcpt-To")[: _RECIPIENTS + 1]
    recipients = [_address(each) for each in said]
    if None in recipients or len(recipients) > _RECIPIENTS:
        return None
    message = _message(octets, about)
    sender = header.first(block, b"Original-Mail-From")
    if sender is None:
        sender = header.first(message, b"Return-Path")
    return Feedback(
        types[0].decode(),
        (header.first(block, b"User-Agent") or b"").decode("ascii", "replace"),
        tuple(each for each in recipients if each is not None),
        _address(sender or b""),
        message,
    )


def _body(octets: bytes, part: Part) -> bytes:
    body = octets[part.body_start : part.end]
    return transfer.decode(body, part.content.encoding)


def _message(octets: bytes, about: Part) -> bytes:
    """The header block of the message that a part holds."""
    described = about.content
    if (described.type, described.subtype) not in (
        (b"message", b"rfc822"),
        (b"text", b"rfc822-headers"),
    ):
        return b""
    body = _body(octets, about)
    return body[: header.body_start(body)]


def _address(value: bytes) -> Address | None:
    text = value.decode("utf-8", "replace").strip().removeprefix("<").removesuffix(">")
    try:
        return split(text) if len(text) <= _PATH else None
    except ValueError:
        return None


def passed(block: bytes, hostname: str) -> int | None:
    """The id under which a message was at a server of ours, by its own header.

    @param block: the message's header block.
    @return: C{None} if it says nothing of it.
    """
    ours = re.compile(
        rb"\bby "
        + re.escape(hostname.encode())
        + rb" \(twisted-mta\) .*?\bid ([0-9a-z]{13})\b",
        re.DOTALL,
    )
    for value in header.every(block, b"Received")[:_HOPS]:
        found = ours.search(value[:_TRACE])
        if found is not None:
            try:
                return from_text(found[1].decode())
            except ValueError:
                continue
    return None
