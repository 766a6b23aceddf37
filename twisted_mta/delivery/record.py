"""Addresses and envelopes as the queue's rows hold them, and back.

What is read here was written here: no checks beyond those of Python.
"""

import json
import re
from typing import Any

from twisted_mta.mail.address import Address
from twisted_mta.mail.dsn import (
    USUAL,
    Notification,
    Notify,
    OriginalRecipient,
)
from twisted_mta.mail.envelope import USUAL as USUALLY
from twisted_mta.mail.envelope import (
    Body,
    DeliverBy,
    Envelope,
    Handling,
    Origin,
    Return,
)

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
    fields = {
        "id": envelope.id,
        "sender": None if sender is None else str(sender),
        "recipients": [str(recipient) for recipient in envelope.recipients],
        "received_at": envelope.received_at,
        "origin": {name: getattr(origin, name) for name in Origin.__slots__},
        "body": envelope.body.value,
        "smtputf8": envelope.smtputf8,
    }
    if envelope.handling != USUALLY:
        fields["handling"] = _written(envelope.handling)
    if envelope.quarantined:
        fields["quarantined"] = True
    return json.dumps(fields, separators=(",", ":"))


def _written(handling: Handling) -> dict[str, Any]:
    by, ret = handling.by, handling.ret
    return {
        "ret": None if ret is None else ret.value,
        "envid": handling.envid,
        "require_tls": handling.require_tls,
        "by": None if by is None else [by.seconds, by.returns, by.trace],
        "priority": handling.priority,
        "release_at": handling.release_at,
        "solicit": list(handling.solicit),
        "verp": handling.verp,
        "give_up_at": handling.give_up_at,
        "tls_waived": handling.tls_waived,
    }


def read_envelope(text: str) -> Envelope:
    """The envelope that L{write_envelope} wrote."""
    fields: dict[str, Any] = json.loads(text)
    sender = fields["sender"]
    fields["sender"] = None if sender is None else read_address(sender)
    fields["recipients"] = tuple(map(read_address, fields["recipients"]))
    fields["origin"] = Origin(**fields["origin"])
    # Rows of before there were bodies say whether it was 8BITMIME.
    eight_bit = fields.pop("eight_bit", False)
    fields["body"] = Body(fields.get("body", "8BITMIME" if eight_bit else "7BIT"))
    if "handling" in fields:
        fields["handling"] = _handling(fields["handling"])
    return Envelope(**fields)


def _handling(fields: dict[str, Any]) -> Handling:
    ret, by = fields["ret"], fields["by"]
    fields["ret"] = None if ret is None else Return(ret)
    fields["by"] = None if by is None else DeliverBy(*by)
    fields["solicit"] = tuple(fields.get("solicit", ()))
    return Handling(**fields)


def write_notification(notification: Notification) -> str:
    """What is asked for a recipient, as JSON; empty for the usual."""
    if notification == USUAL:
        return ""
    notify, original = notification.notify, notification.original
    return json.dumps(
        {
            "notify": None if notify is None else notify.value,
            "original": None if original is None else [original.type, original.address],
        },
        separators=(",", ":"),
    )


def read_notification(text: str) -> Notification:
    """What L{write_notification} wrote."""
    if not text:
        return USUAL
    fields = json.loads(text)
    notify, original = fields["notify"], fields["original"]
    return Notification(
        None if notify is None else Notify(notify),
        None if original is None else OriginalRecipient(*original),
    )
