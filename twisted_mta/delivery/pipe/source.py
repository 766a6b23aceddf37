"""A message as programs get it: with the fields that a last server adds (RFC 5321 4.4),
and lines that end as theirs do.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

from twisted_mta.delivery.pipe.settings import Settings
from twisted_mta.delivery.smtp.source import RUN_OCTETS, Original
from twisted_mta.interfaces import IContent
from twisted_mta.mail import header
from twisted_mta.mail.address import Address
from twisted_mta.mail.conversion import Conversion, convert
from twisted_mta.mail.downgrade import Level
from twisted_mta.mail.envelope import Body
from twisted_mta.mail.job import Job


async def loops(job: Job, content: IContent, recipient: Address) -> bool:
    """Whether it says that it was delivered to this recipient before, within its first
    64 KB, where the last server's fields are. Postfix: header_size_limit, 100 KB.

    @raise MailError: it cannot be read.
    """
    begin = await content.read(0, RUN_OCTETS)
    block = job.prefix + begin[: header.body_start(begin)]
    name = str(recipient).casefold()
    return any(
        value.decode("utf-8", "replace").casefold() == name
        for value in header.every(block, b"Delivered-To")
    )


async def runs(
    job: Job, content: IContent, recipients: Sequence[Address], settings: Settings
) -> AsyncIterator[bytes]:
    """The octets, in runs of a bounded size.

    @raise Unconvertible: its content is binary, and no lines can be made of it.
    @raise MailError: it cannot be read.
    """
    original = Original(job, content)
    source: Original | Conversion = original
    if settings.line_feed and job.envelope.body is Body.BINARY:
        # Octets that look like line ends would be changed.
        source = await convert(original, Level.EIGHT_BIT, True)
    yield _lines(_added(job, recipients, settings), settings)
    held = b""
    async for run in source.runs():
        octets = held + run
        held = b"\r" if settings.line_feed and octets.endswith(b"\r") else b""
        yield _lines(octets[: len(octets) - len(held)], settings)
    if held:
        yield held


def _lines(octets: bytes, settings: Settings) -> bytes:
    return octets.replace(b"\r\n", b"\n") if settings.line_feed else octets


def _added(job: Job, recipients: Sequence[Address], settings: Settings) -> bytes:
    sender = job.sender
    text = ""
    if settings.from_line:
        who = settings.spelling.null_sender if sender is None else str(sender)
        text += f"From {who}  {time.asctime(time.gmtime(job.envelope.received_at))}\r\n"
    if settings.return_path:
        text += f"Return-Path: <{sender or ''}>\r\n"
    if settings.delivered_to and settings.each:
        text += f"Delivered-To: {recipients[0]}\r\n"
    return text.encode()
