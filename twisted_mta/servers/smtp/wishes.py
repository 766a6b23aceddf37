"""What MAIL asks of everyone who has the message: whether it can be had here, and what
of it goes with the message.

DSN (RFC 3461), REQUIRETLS (RFC 8689), DELIVERBY (RFC 2852), FUTURERELEASE (RFC 4865),
MT-PRIORITY (RFC 6710), NO-SOLICITING (RFC 3865). It trusts the grammar, and that what
is not offered was refused.
"""

import math

from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import USUAL, Handling
from twisted_mta.servers.smtp import reply
from twisted_mta.servers.smtp.reply import made
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.wire.smtp.parameter import MailParameters

# Parameters that go with the message.
_HANDLING = frozenset(
    {
        *("RET", "ENVID", "REQUIRETLS", "BY", "MT-PRIORITY"),
        *("HOLDFOR", "HOLDUNTIL", "SOLICIT"),
    }
)


def refusal(
    parameters: MailParameters, settings: SmtpSettings, secure: bool, now: float
) -> bytes:
    """Why what MAIL asks for cannot be had, or nothing.

    @param secure: there is TLS.
    """
    if parameters.require_tls and not secure:
        return reply.NO_TLS_TO_REQUIRE
    if not set(settings.no_soliciting).isdisjoint(parameters.solicit):
        return reply.NO_SOLICITING
    return _hold_refusal(parameters, settings, now) if parameters.held else b""


def _hold_refusal(
    parameters: MailParameters, settings: SmtpSettings, now: float
) -> bytes:
    """Why a message cannot be held so long (RFC 4865 4), or nothing."""
    held_s, by = parameters.hold_for, parameters.by
    if held_s is None:
        held_s = math.ceil((parameters.hold_until or 0.0) - now)
    if held_s > settings.future_release_s:
        return reply.HELD_TOO_LONG
    if held_s < 0:
        return reply.HELD_UNTIL_PAST
    if by is not None and by.returns and by.seconds <= held_s:
        return reply.HELD_PAST_BY
    return b""


def answer(parameters: MailParameters, settings: SmtpSettings, trusted: bool) -> bytes:
    """The answer to a MAIL that is not refused.

    @param trusted: the client is one of ours.
    """
    asked = parameters.priority
    if asked and asked != (has := _priority(parameters, settings, trusted)):
        return made(250, "2.3.6", f"{has} is the priority that it has here")
    return reply.SENDER_OK


def verp(
    parameters: MailParameters,
    settings: SmtpSettings,
    sender: Address | None,
    login: Address | None,
) -> str:
    """The delimiters with which recipients are written into the sender, or nothing.
    Who may not ask for it was refused.

    @param login: of one of ours; C{None}: he may relay.
    """
    if sender is None or not sender.domain:
        return ""
    if parameters.verp:
        return parameters.verp
    who = login.key if login is not None else ""
    for wanted, account, delimiters in settings.verp:
        if wanted in ("", sender.key) and account in ("", who):
            return delimiters
    return ""


def handling(
    parameters: MailParameters,
    settings: SmtpSettings,
    trusted: bool,
    now: float,
    verp: str = "",
) -> Handling:
    """What goes with the message.

    @param now: when it is accepted.
    @param verp: see L{verp}.
    """
    if not parameters.keywords & _HANDLING and not verp:
        return USUAL
    return Handling(
        ret=parameters.ret,
        envid=parameters.envid,
        require_tls=parameters.require_tls,
        by=parameters.by,
        priority=_priority(parameters, settings, trusted),
        release_at=parameters.release_at(now),
        solicit=parameters.solicit,
        verp=verp,
    )


def _priority(parameters: MailParameters, settings: SmtpSettings, trusted: bool) -> int:
    """Who is none of ours goes before nobody (RFC 6710 leaves it to us)."""
    return min(parameters.priority, settings.highest_priority if trusted else 0)
