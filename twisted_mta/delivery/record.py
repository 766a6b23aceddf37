"""Addresses and envelopes as the queue's rows hold them, and back.

What is read here was written here: no checks beyond those of Python.
"""

import json
import re
from typing import Any

from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Envelope, Origin

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def read_address(text: str) -> Address:
    """The address that C{str(address)} wrote."""
    if text.startswith('"'):
        local, _, domain = text.rpartition('"')
        return Address(_ESCAPED.sub(r"\1", local[1:]), domain.removeprefix("@"))
    local, at, domain = text.rpartition("@")
    return Address(local, domain) if at else Address(text, "")


def write_envelope(envelope: Envelope) -> str:
    """An envelope as JSON."""
    origin = envelope.origin
    sender = envelope.sender
    return json.dumps(
        {
            "id": envelope.id,
            "sender": None if sender is None else str(sender),
            "recipients": [str(recipient) for recipient in envelope.recipients],
            "received_at": envelope.received_at,
            "origin": {name: getattr(origin, name) for name in Origin.__slots__},
            "eight_bit": envelope.eight_bit,
            "smtputf8": envelope.smtputf8,
        },
        separators=(",", ":"),
    )


def read_envelope(text: str) -> Envelope:
    """The envelope that L{write_envelope} wrote."""
    fields: dict[str, Any] = json.loads(text)
    sender = fields["sender"]
    fields["sender"] = None if sender is None else read_address(sender)
    fields["recipients"] = tuple(map(read_address, fields["recipients"]))
    fields["origin"] = Origin(**fields["origin"])
    return Envelope(**fields)
