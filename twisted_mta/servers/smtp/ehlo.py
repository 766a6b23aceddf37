"""What the answer to EHLO says is possible (RFC 5321 4.1.1.1)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from twisted_mta.servers.smtp import carriage
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.wire.smtp.attribute import XCLIENT, XFORWARD
from twisted_mta.wire.smtp.extension import EXTENSIONS, Offer

_XCLIENT, _XFORWARD = " ".join(sorted(XCLIENT)), " ".join(sorted(XFORWARD))


def capabilities(
    settings: SmtpSettings,
    offer: Offer,
    *,
    secure: bool,
    starttls: bool,
    mechanisms: str,
    now: float,
) -> Iterator[str]:
    """Extensions in the order of their table, and the words of those that have any.

    @param secure: TLS is on.
    @param starttls: it can begin.
    @param mechanisms: of AUTH; empty if nobody can log in now.
    @param now: seconds since the epoch.
    """
    possible = {
        "BINARYMIME": carriage.binary(offer),
        "REQUIRETLS": secure,  # RFC 8689 2
        "STARTTLS": starttls,
        "AUTH": bool(mechanisms),
    }
    words = {
        "SIZE": str(settings.message_size),
        "AUTH": mechanisms,
        "FUTURERELEASE": _longest_hold(settings.future_release_s, now),
        "NO-SOLICITING": " ".join(settings.no_soliciting),
        "LIMITS": f"RCPTMAX={settings.recipients}",
        "XCLIENT": _XCLIENT,
        "XFORWARD": _XFORWARD,
    }
    for keyword in EXTENSIONS:
        if keyword in offer.keywords and possible.get(keyword, True):
            said = words.get(keyword)
            yield f"{keyword} {said}" if said else keyword
    yield "HELP"


def _longest_hold(most_s: int, now: float) -> str:
    """RFC 4865 4: seconds, and the time that they come to."""
    if not most_s:
        return ""
    end = datetime.fromtimestamp(int(now) + most_s, UTC)
    return f"{most_s} {end:%Y-%m-%dT%H:%M:%SZ}"
