"""What a submission server does for its users' messages (RFC 6409 4.2, 6 and 8).

It adds what a client left out, and holds the client to the addresses of its
login. What the client wrote is not changed, but for what the L{HeaderFilter
<twisted_mta.servers.smtp.headerfilter.HeaderFilter>} takes out.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from twisted_mta.errors import BadContent, NotPermitted
from twisted_mta.interfaces import IDirectory
from twisted_mta.mail import addresslist, date, header, mention
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.ids import to_text

# More authors than this do not write one message (and each is a question to
# the directory).
_AUTHORS = 20

# RFC 5322 2.2. Another server may take out what is not in it.
_NAME = re.compile(rb"[!-9;-~]+")


def fully_qualified(address: Address) -> bool:
    """Whether its domain means the same everywhere (RFC 6409 4.2): it has a dot,
    as Postfix's reject_non_fqdn_recipient asks, or is an address literal. What
    is a domain here without one is known elsewhere."""
    return "." in address.domain or address.domain.startswith("[")


def missing(block: bytes, envelope: Envelope, login: Address, hostname: str) -> bytes:
    """The fields that the message lacks (RFC 5322 3.6: Date and From must be,
    Message-ID should). Of one that a person sends on by hand they are those of the
    sending on (3.6.6); what its author left out is not for him to say.

    @param block: the header block as it came.
    """
    present = {field.name for field in header.fields(block)}
    again = any(name.startswith(b"resent-") for name in present)
    mark, prefix = ("Resent-", b"resent-") if again else ("", b"")
    added = []
    if prefix + b"from" not in present:
        added.append(f"{mark}From: <{login}>\r\n".encode())
    if prefix + b"date" not in present:
        moment = datetime.fromtimestamp(int(envelope.received_at), UTC)
        added.append(f"{mark}Date: ".encode() + b"%b\r\n" % date.render(moment))
    if prefix + b"message-id" not in present:
        id = f"<{to_text(envelope.id)}@{hostname}>"
        added.append(f"{mark}Message-ID: {id}\r\n".encode())
    return b"".join(added)


async def check_authors(block: bytes, account: Account, directory: IDirectory) -> None:
    """Every address of From must be one that the login may use.

    @raise NotPermitted: one is not, or From cannot be understood.
    @raise BadContent: there are several From fields: which one readers show is
        anybody's guess.
    """
    # A From that is past what is read could be shown by another's reader.
    every = list(header.fields(block))
    if len(every) == header.FIELDS_MAX:
        raise BadContent("The header has too many fields")
    if not _all_fields(block, every):
        raise BadContent("The header has a line that is no field")
    fields = [field for field in every if field.name == b"from"]
    if not fields:
        return
    if len(fields) > 1:
        raise BadContent("The message has several From fields")
    if fields[0].end - fields[0].value_start > header.VALUE_MAX:
        raise BadContent("The From field is too long")
    authors = _authors(header.value_of(block, fields[0]))
    if not 0 < len(authors) <= _AUTHORS:
        raise NotPermitted("The From field names nobody you may write as")
    for author in authors:
        if not await directory.may_send_as(account, author):
            raise NotPermitted("The From field names an address that is not yours")


def _all_fields(block: bytes, fields: Sequence[header.Field]) -> bool:
    """Whether a header block has nothing but fields, which end with a blank line."""
    if not fields and b":" not in block:
        return True  # a text by itself, as people send it to try
    at = 0
    for field in fields:
        if field.start != at or not _NAME.fullmatch(field.name):
            return False
        at = field.end
    return not block[at:].strip(b"\r\n")


def _authors(value: bytes) -> set[Address]:
    """Those that we read, and those that another program may.

    @raise NotPermitted: it is not UTF-8 (RFC 6532), or cannot be understood.
    """
    entries = addresslist.parse(value)
    read = [(e.local or b"", e.host) for e in entries if e.host is not None]
    mentioned = mention.addresses(value)
    if mentioned is None or len(entries) >= addresslist.ENTRIES_MAX:
        raise NotPermitted("The From field cannot be understood")
    hosts = {host.lower() for _, host in read}
    for local, host in mentioned:
        if local != mention.QUOTED:
            read.append((local, host))
        elif host.lower() not in hosts:
            raise NotPermitted("The From field cannot be understood")
    try:
        return {Address(local.decode(), host.decode().lower()) for local, host in read}
    except UnicodeDecodeError:
        raise NotPermitted("The From field is not UTF-8")
