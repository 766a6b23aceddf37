"""The form in which a message's envelope can be put to a server, by what the
server offers: SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), DSN (RFC
3461), REQUIRETLS (RFC 8689), DELIVERBY (RFC 2852), MT-PRIORITY (RFC 6710).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from twisted_mta.delivery.smtp.exchanger import ascii_domain
from twisted_mta.delivery.smtp.outcome import failed
from twisted_mta.delivery.smtp.work import Work
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import USUAL, Envelope
from twisted_mta.wire.smtp import client

# How much of a message is searched for the end of its header; headers beyond
# count as ASCII. Postfix's header_size_limit is 100 KB.
_HEADER_OCTETS = 128 * 1024


@dataclass(frozen=True, slots=True)
class Form:
    """Commands ready to be sent.

    @ivar mail: the MAIL command.
    @ivar rcpt: a RCPT command for each recipient that the server can be asked
        for.
    """

    mail: bytes
    rcpt: dict[Address, bytes]


class _Lacks(Exception):
    """A server lacks what a sender asks for.

    @ivar status: RFC 3463.
    """

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


async def fit(
    work: Work, batch: Sequence[Address], offers: client.Capabilities, remote: str
) -> Form | None:
    """Put the envelope for these recipients; settle those for whom the server
    lacks what it takes.

    @return: C{None} if none is left.
    @raise MailError: the content cannot be read.
    """
    job = work.job
    if offers.size is not None and job.size > offers.size:
        text = f"The message has {job.size} octets, the server takes {offers.size}"
        work.settle(batch, failed("5.3.4", text, remote))
        return None
    try:
        wishes = _wishes(job.envelope, offers, work.now)
    except _Lacks as lacks:
        work.settle(batch, failed(lacks.status, str(lacks), remote))
        return None
    utf8_header = job.envelope.smtputf8 and await _header_is_eight_bit(work)
    utf8 = "SMTPUTF8" in offers and (
        utf8_header or not all(_plain(a) for a in (job.envelope.sender, *batch))
    )
    reports = "DSN" in offers
    try:
        mail = client.mail(
            _spelt(job.envelope.sender, utf8),
            job.size if "SIZE" in offers else None,
            job.eight_bit and "8BITMIME" in offers,
            utf8,
            wishes,
        )
        if utf8_header and not utf8:
            raise ValueError
    except ValueError:
        work.settle(batch, failed("5.6.7", "The server does not do SMTPUTF8", remote))
        return None
    rcpt: dict[Address, bytes] = {}
    for recipient in batch:
        try:
            spelt = _spelt(recipient, utf8) or recipient
            asked = job.notifications.get(recipient)
            rcpt[recipient] = (
                client.rcpt(spelt)
                if asked is None or not reports
                else client.rcpt(spelt, client.recipient_parameters(asked, utf8))
            )
        except ValueError:
            text = "The address cannot be given to a server without SMTPUTF8"
            work.settle([recipient], failed("5.6.7", text, remote))
    return Form(mail, rcpt) if rcpt else None


def _wishes(
    envelope: Envelope, offers: client.Capabilities, now: float
) -> Sequence[str]:
    """What the sender asks of everyone who has the message, as parameters of MAIL.

    @raise _Lacks: the server does not do what is asked.
    """
    handling = envelope.handling
    if handling is USUAL:
        return ()
    said = []
    if handling.require_tls:  # RFC 8689 4.2.1
        if "REQUIRETLS" not in offers:
            raise _Lacks("5.7.30", "REQUIRETLS is asked for, and not offered")
        said.append("REQUIRETLS")
    if handling.by is not None:  # RFC 2852 4.1
        left = int(handling.by.seconds - (now - envelope.received_at))
        mode = "R" if handling.by.returns else "N"
        if "DELIVERBY" in offers:
            if handling.by.returns and left <= 0:
                raise _Lacks("5.4.7", "It could not be delivered in time")
            trace = "T" if handling.by.trace else ""
            said.append(f"BY={left};{mode}{trace}")
        elif handling.by.returns:
            raise _Lacks("5.3.3", "DELIVERBY is asked for, and not offered")
    if handling.priority and "MT-PRIORITY" in offers:  # RFC 6710 4.5
        said.append(f"MT-PRIORITY={handling.priority}")
    if "DSN" in offers:
        said += client.message_parameters(handling)
    return said


def _plain(address: Address | None) -> bool:
    """Whether it needs no SMTPUTF8: a domain has its A-labels."""
    return address is None or address.local.isascii()


def _spelt(address: Address | None, utf8: bool) -> Address | None:
    """The address as it goes out.

    @raise ValueError: there is no way to write it.
    """
    if address is None or address.ascii or utf8:
        return address
    if not address.local.isascii():
        raise ValueError(f"needs SMTPUTF8: {address}")
    return Address(address.local, ascii_domain(address.domain))


async def _header_is_eight_bit(work: Work) -> bool:
    if not work.job.prefix.isascii():
        return True
    begin = await work.content.read(0, _HEADER_OCTETS)
    return not begin.partition(b"\r\n\r\n")[0].isascii()
