"""The form in which a message can be put to a server, by what the server offers.

SIZE (RFC 1870), SMTPUTF8 (RFC 6531), 8BITMIME (RFC 6152), BINARYMIME with CHUNKING
(RFC 3030), DSN (RFC 3461), REQUIRETLS (RFC 8689), DELIVERBY (RFC 2852), MT-PRIORITY
(RFC 6710), NO-SOLICITING (RFC 3865), XFORWARD (Postfix). A message that holds more than
the server takes is converted. What was held back here until its time (RFC 4865) is not
held back again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from twisted_mta.delivery.smtp.outcome import Unusable, failed
from twisted_mta.delivery.smtp.settings import Settings
from twisted_mta.delivery.smtp.source import Original
from twisted_mta.delivery.smtp.work import Work
from twisted_mta.mail.address import Address
from twisted_mta.mail.conversion import Conversion, convert
from twisted_mta.mail.domain import ascii_domain
from twisted_mta.mail.downgrade import Level, Unconvertible
from twisted_mta.mail.envelope import USUAL, Body
from twisted_mta.wire.smtp import client
from twisted_mta.wire.smtp.capabilities import Capabilities


@dataclass(frozen=True, slots=True)
class Form:
    """Commands ready to be sent, and content.

    @ivar mail: the MAIL command.
    @ivar rcpt: a RCPT command for each recipient that the server can be asked
        for.
    @ivar source: the message.
    @ivar size: its octets, C{None} if they are not known.
    @ivar binary: it goes as it is, in chunks.
    @ivar origin: what comes before MAIL, or nothing.
    """

    mail: bytes
    rcpt: dict[Address, bytes]
    source: Original | Conversion
    size: int | None = None
    binary: bool = False
    origin: bytes = b""


async def fit(
    work: Work,
    batch: Sequence[Address],
    offers: Capabilities,
    remote: str,
    settings: Settings,
) -> Form | None:
    """Put the message for these recipients; settle those for whom the server
    lacks what it takes.

    @return: C{None} if none is left.
    @raise Unusable: the message cannot go to this server, but perhaps to another.
    @raise MailError: the content cannot be read.
    """
    job = work.job
    if offers.size is not None and job.size > offers.size:
        text = f"The message has {job.size} octets, the server takes {offers.size}"
        work.settle(batch, failed("5.3.4", text, remote))
        return None
    asked = _asked(work, offers, remote)
    utf8_header = job.envelope.smtputf8 and not (await work.header()).isascii()
    utf8 = "SMTPUTF8" in offers and (
        utf8_header or not all(_plain(a) for a in (job.sender, *batch))
    )
    try:
        sender = spelt(job.sender, utf8)
        if utf8_header and not utf8:
            raise ValueError
    except ValueError:
        work.settle(batch, failed("5.6.7", "The server does not do SMTPUTF8", remote))
        return None
    rcpt = _recipients(work, batch, offers, remote, utf8)
    if not rcpt:
        return None
    source = Original(job, work.content)
    body, level = _carriage(work, offers)
    converted: Conversion | None = None
    if level is not None:
        try:
            converted = await _converted(work, source, level)
        except Unconvertible as error:
            work.settle(rcpt, failed("5.6.3", f"{error}", remote))
            return None
    size = job.size if converted is None else None
    said = size if "SIZE" in offers else None
    return Form(
        client.mail(sender, said, body, utf8, asked),
        rcpt,
        converted or source,
        size,
        body is Body.BINARY,
        client.xforward(job.envelope.origin, offers) if settings.xforward else b"",
    )


def _recipients(
    work: Work,
    batch: Sequence[Address],
    offers: Capabilities,
    remote: str,
    utf8: bool,
) -> dict[Address, bytes]:
    rcpt: dict[Address, bytes] = {}
    for recipient in batch:
        try:
            written = spelt(recipient, utf8) or recipient
            asked = work.job.notifications.get(recipient)
            rcpt[recipient] = (
                client.rcpt(written)
                if asked is None or "DSN" not in offers
                else client.rcpt(written, client.recipient_parameters(asked, utf8))
            )
        except ValueError:
            text = "The address cannot be given to a server without SMTPUTF8"
            work.settle([recipient], failed("5.6.7", text, remote))
    return rcpt


def _asked(work: Work, offers: Capabilities, remote: str) -> Sequence[str]:
    """What is asked of everybody on the way, as MAIL says it.

    @raise Unusable: the server cannot be asked, and so must not have the message.
    """
    handling = work.job.envelope.handling
    if handling is USUAL:
        return ()
    said = list(client.report_parameters(handling)) if "DSN" in offers else []
    if handling.require_tls:
        said.append("REQUIRETLS")
    if handling.by is not None:
        left_s = work.seconds_left(handling.by)
        if handling.by.returns:
            if "DELIVERBY" not in offers:  # RFC 2852 4.1.4
                text = "The server does not promise delivery by a time"
                raise Unusable(failed("5.3.3", text, remote))
            if left_s <= 0 or left_s < offers.soonest_s:
                text = f"It was to be delivered within {max(left_s, 0)} s from now"
                raise Unusable(failed("5.4.7", text, remote))
        if "DELIVERBY" in offers:
            said.append(client.by_parameter(handling.by, left_s))
    if handling.priority and "MT-PRIORITY" in offers:
        said.append(f"MT-PRIORITY={handling.priority}")
    if handling.solicit and "NO-SOLICITING" in offers:  # RFC 3865 2.7
        refused = {word.lower() for word in offers.keywords["NO-SOLICITING"]}
        if refused & set(handling.solicit):
            text = "The server takes no solicitations of that class"
            raise Unusable(failed("5.7.1", text, remote))
        said.append(f"SOLICIT={','.join(handling.solicit)}")
    return said


def _carriage(work: Work, offers: Capabilities) -> tuple[Body | None, Level | None]:
    """As what the content goes out, and what it is converted to, if it is."""
    binary = work.job.envelope.body is Body.BINARY
    if binary and "BINARYMIME" in offers and "CHUNKING" in offers:
        return Body.BINARY, None
    if "8BITMIME" in offers:
        body = Body.EIGHT_BIT if work.job.eight_bit else None
        return body, Level.EIGHT_BIT if binary else None
    convertible = binary or work.job.eight_bit
    return None, Level.SEVEN_BIT if convertible else None


async def _converted(work: Work, source: Original, level: Level) -> Conversion:
    """The message as it is converted, planned once for all batches and hosts.

    @raise Unconvertible: it cannot be.
    @raise MailError: the content cannot be read.
    """
    known = work.conversions.get(level)
    if known is None:
        binary = work.job.envelope.body is Body.BINARY
        known = work.conversions[level] = await convert(source, level, binary)
    return known


def _plain(address: Address | None) -> bool:
    """Whether it needs no SMTPUTF8: a domain has its A-labels."""
    return address is None or address.local.isascii()


def spelt(address: Address | None, utf8: bool) -> Address | None:
    """The address as it goes out.

    @raise ValueError: there is no way to write it.
    """
    if address is None or address.ascii or utf8:
        return address
    if not address.local.isascii():
        raise ValueError(f"needs SMTPUTF8: {address}")
    return Address(address.local, ascii_domain(address.domain))
