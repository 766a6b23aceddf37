"""The trace field that a server adds (RFC 5321 4.4), and what it shows of loops.

It is built from values that have passed the grammar of their commands, so no
line end or comment can be smuggled into it.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from twisted_mta.errors import BadContent, MailLoop, TooLarge
from twisted_mta.mail import date, header, lineend
from twisted_mta.mail.envelope import Envelope, Origin
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.verdict import Judgement
from twisted_mta.servers.smtp.settings import SmtpSettings

# What a policy cannot put into a field: policies are strangers' code.
_NO_NAME = re.compile(r"[^!-9;-~]")
_NO_TEXT = re.compile(r"[^ -~\u00a0-\U0010ffff]")
_TAG_MOST = 240  # RFC 5322 2.1.1: a line has 998 octets at most, a character 4

# How often a message may have been here before. A forward that comes back is
# legitimate once or twice; a loop is not going to end by itself.
_OWN_HOPS = 4


def received(envelope: Envelope, hostname: str) -> bytes:
    """The Received field of a message that comes in now. The recipient is
    named only when there is but one: more would tell on blind copies."""
    only = envelope.recipients[0] if len(envelope.recipients) == 1 else None
    recipient = f"\r\n\tfor <{only}>" if only else ""
    if envelope.handling.priority:  # RFC 6710's clause
        recipient += f"\r\n\tPRIORITY {envelope.handling.priority}"
    return (
        f"{_stamp(envelope.origin, hostname)}"
        f"\r\n\tid {to_text(envelope.id)}{recipient};"
        f"\r\n\t{_date(int(envelope.received_at))}\r\n"
    ).encode()


@lru_cache(maxsize=256)
def _stamp(origin: Origin, hostname: str) -> str:
    """All that is the same for every message of a client."""
    tls = f" ({origin.tls})" if origin.tls else ""
    return (
        f"Received: from {origin.helo} ({_literal(origin.host)})"
        f"\r\n\tby {hostname} (twisted-mta) with {origin.protocol}{tls}"
    )


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return date.render(datetime.fromtimestamp(second, UTC)).decode()


def _literal(host: str) -> str:
    """RFC 5321 4.1.3. A client at a unix socket has no address: it is here."""
    if not host or host.startswith("/"):
        return "localhost"
    return f"[IPv6:{host}]" if ":" in host else f"[{host}]"


def tags(judged: Iterable[Judgement]) -> bytes:
    """The fields that policies add, each once."""
    fields = dict.fromkeys(field for one in judged for field in one.fields)
    lines = [
        f"{_NO_NAME.sub('-', name)}: {_NO_TEXT.sub(' ', value)[:_TAG_MOST]}\r\n"
        for name, value in fields
    ]
    return "".join(lines).encode()


def solicits(block: bytes, refused: Sequence[str]) -> bool:
    """Whether a header says that the message is of a refused class (RFC 3865 2.7)."""
    if not refused or b"solicitation" not in block.lower():
        return False
    said = b",".join(header.every(block, b"Solicitation")).decode("ascii", "replace")
    return not {word.strip().lower() for word in said.split(",")}.isdisjoint(refused)


def check(block: bytes, settings: SmtpSettings) -> None:
    """Look at a header block for size, form and loops.

    @raise BadContent: it would be read otherwise behind our own fields, or by the next
        server: it begins with a folded line, or (of a binary message) has a line end
        that is none.
    @raise TooLarge: the block is over the limit.
    @raise MailLoop: it has passed too many servers, or this one too often.
    """
    if len(block) > settings.header_size:
        raise TooLarge("The header is larger than the limit")
    if block[:1] in (b" ", b"\t"):
        raise BadContent("The header begins with the rest of a field")
    if lineend.bare(block):
        raise BadContent("A line of the header ends with a bare CR or LF")
    # In most mail the word is not there often enough to look closer: 1 us.
    if block.lower().count(b"received") < min(_OWN_HOPS, settings.hops):
        return
    hops = header.every(block, b"Received")
    if len(hops) > settings.hops:
        raise MailLoop("Too many hops")
    by_us = re.compile(rb"\bby " + re.escape(settings.hostname.encode()) + rb"[\s;(]")
    if sum(1 for hop in hops if by_us.search(hop)) >= _OWN_HOPS:
        raise MailLoop("The message was here before")
