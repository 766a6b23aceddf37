"""What is computed once when a message is stored, and kept beside it, so that
listing a mailbox reads rows and not messages."""

from typing import NamedTuple

from twisted_mta.mail import imapform
from twisted_mta.mail.mime import Structure


class Summary(NamedTuple):
    """A message in brief.

    @ivar envelope: IMAP's ENVELOPE list, ready for the wire (RFC 3501 7.4.2).
    @ivar bodystructure: IMAP's BODYSTRUCTURE list, likewise.
    @ivar body: IMAP's BODY list, likewise.
    @ivar sections: L{Structure.pack}: where the MIME parts lie.
    """

    envelope: bytes
    bodystructure: bytes
    body: bytes
    sections: bytes


def summarize(prefix: bytes, header: bytes, structure: Structure) -> Summary:
    """Sum up a message.

    @param prefix: the header fields kept before the content.
    @param header: the content's own header block.
    @param structure: the content's MIME structure.
    """
    return Summary(
        envelope=imapform.envelope(prefix + header),
        bodystructure=imapform.bodystructure(structure),
        body=imapform.body(structure),
        sections=structure.pack(),
    )


class Email(NamedTuple):
    """An immutable message on its way into mailboxes.

    @ivar content: the content's id in the ledger.
    @ivar prefix: the header fields that this server adds, kept beside the
        content: Return-Path, Received, what submission had to add.
    @ivar size: octets of prefix and content together (RFC822.SIZE).
    @ivar received_at: seconds since the epoch, UTC (INTERNALDATE).
    @ivar special_use: of the mailbox that it goes into, if there is one (RFC 6154);
        empty: INBOX.
    @ivar seen: it has been read.
    """

    content: int
    prefix: bytes
    size: int
    received_at: float
    summary: Summary
    special_use: str = ""
    seen: bool = False
