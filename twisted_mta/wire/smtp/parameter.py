"""The parameters of MAIL and RCPT (RFC 5321 4.1.2), typed.

Each is read by an entry of a table. All that any listener can offer are known here;
what one does not offer is refused by its session.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from twisted_mta.mail import dsn, verp
from twisted_mta.mail.dsn import Notification, Notify
from twisted_mta.mail.envelope import Body, DeliverBy, Return
from twisted_mta.wire.smtp.syntax import UTF8_NON_ASCII, SyntaxFault

# RFC 5321 4.1.2: esmtp-keyword, esmtp-value, which RFC 6531 3.3 widens.
_ESMTP_PARAM = re.compile(
    rf"([A-Za-z0-9][A-Za-z0-9\-]*)(?:=([\x21-\x3c\x3e-\x7e{UTF8_NON_ASCII}]+))?"
)
# Postfix VERP_README: its value has characters that no other may have.
_XVERP = re.compile(r"(XVERP)=([-=+]{2})", re.IGNORECASE)
_SIZE_VALUE = re.compile(r"[0-9]{1,20}")  # RFC 1870 4
# RFC 3461 4.4: 100 characters; 4.2: an address of 500.
_ENVID_MOST = 100
_ORCPT_MOST = 500
# RFC 2852 4: nine digits, a mode, perhaps a trace.
_BY = re.compile(r"([-+]?[0-9]{1,9});([NR])(T?)", re.IGNORECASE)
# RFC 4865 4: nine digits; a time as RFC 3339 5.6 has it.
_HOLDFOR = re.compile(r"[1-9][0-9]{0,8}")
_HOLDUNTIL = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})",
    re.IGNORECASE,
)
_PRIORITY = re.compile(r"-?[0-9]")  # RFC 6710 2
# RFC 3865 2: words of a domain's author, reversed and with its year.
_SOLICIT = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9.:_\-]{0,999}(?:,[A-Za-z0-9.:_\-]{1,1000})*"
)


@dataclass(frozen=True, slots=True)
class MailParameters:
    """What MAIL declares.

    @ivar size: octets (RFC 1870), C{None} if not said.
    @ivar body: what the content may hold (RFC 6152).
    @ivar smtputf8: RFC 6531.
    @ivar ret: what a report of failure returns (RFC 3461 4.3).
    @ivar envid: the sender's name for the message (RFC 3461 4.4), decoded.
    @ivar require_tls: RFC 8689.
    @ivar by: RFC 2852.
    @ivar priority: RFC 6710, -9 to 9.
    @ivar hold_for: seconds until it is released (RFC 4865); C{None} if not said.
    @ivar hold_until: the same as a time, seconds since the epoch.
    @ivar solicit: classes of solicitation that it belongs to (RFC 3865).
    @ivar prdr: each recipient shall have an answer of its own.
    @ivar verp: the delimiters of XVERP; empty if it was not said.
    @ivar keywords: all that were given, in upper case.
    """

    size: int | None = None
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    ret: Return | None = None
    envid: str = ""
    require_tls: bool = False
    by: DeliverBy | None = None
    priority: int = 0
    hold_for: int | None = None
    hold_until: float | None = None
    solicit: tuple[str, ...] = ()
    prdr: bool = False
    verp: str = ""
    keywords: frozenset[str] = frozenset()

    @property
    def held(self) -> bool:
        """It shall not go on its way at once."""
        return self.hold_for is not None or self.hold_until is not None

    def release_at(self, now: float) -> float:
        """When it shall go on its way, as an envelope has it."""
        if self.hold_for is not None:
            return now + self.hold_for
        return self.hold_until or 0.0


@dataclass(frozen=True, slots=True)
class RcptParameters:
    """What RCPT declares.

    @ivar notification: RFC 3461 4.1 and 4.2.
    @ivar keywords: all that were given, in upper case.
    """

    notification: Notification = dsn.USUAL
    keywords: frozenset[str] = frozenset()


NO_PARAMETERS = MailParameters()
NO_RCPT_PARAMETERS = RcptParameters()


# --- each reader takes the value and gives what is kept ---


def _bare(keyword: str, value: str | None) -> bool:
    if value is not None:
        raise SyntaxFault(501, "5.5.4", f"{keyword} takes no value")
    return True


def _size(value: str) -> int:
    if not _SIZE_VALUE.fullmatch(value):
        raise ValueError
    return int(value)


def _by(value: str) -> DeliverBy:
    match = _BY.fullmatch(value)
    if match is None:
        raise ValueError
    seconds, returns = int(match[1]), match[2].upper() == "R"
    if returns and seconds <= 0:  # RFC 2852 4: not with R
        raise ValueError
    return DeliverBy(seconds, returns, bool(match[3]))


def _hold_for(value: str) -> int:
    if not _HOLDFOR.fullmatch(value):
        raise ValueError
    return int(value)


def _hold_until(value: str) -> float:
    if not _HOLDUNTIL.fullmatch(value):
        raise ValueError
    return datetime.fromisoformat(value.upper()).timestamp()


def _priority(value: str) -> int:
    if not _PRIORITY.fullmatch(value):
        raise ValueError
    return int(value)


def _envid(value: str) -> str:
    decoded = dsn.decode_xtext(value)
    if len(decoded) > _ENVID_MOST:
        raise ValueError
    return decoded


def _solicit(value: str) -> tuple[str, ...]:
    if not _SOLICIT.fullmatch(value):
        raise ValueError
    return tuple(value.lower().split(","))


def _notify(value: str) -> Notify:
    words = value.upper().split(",")
    if words == ["NEVER"]:
        return Notify.NEVER
    notify = Notify.NEVER
    for word in words:
        notify |= _NOTIFY[word]
    return notify


def _original(value: str) -> dsn.OriginalRecipient:
    if len(value) > _ORCPT_MOST:
        raise ValueError
    return dsn.decode_original(value)


_NOTIFY = {
    "SUCCESS": Notify.SUCCESS,
    "FAILURE": Notify.FAILURE,
    "DELAY": Notify.DELAY,
}

# A keyword, the field that it sets, and what reads its value, which must be there
# unless there is nothing to read.
_Reader = Callable[[str], object] | None
_MAIL: Mapping[str, tuple[str, _Reader]] = {
    "SIZE": ("size", _size),
    "BODY": ("body", lambda value: Body(value.upper())),
    "SMTPUTF8": ("smtputf8", None),
    # RFC 4954 5: a server that trusts no client's word for a third party's
    # identity reads it as AUTH=<>, which asks for nothing.
    "AUTH": ("", lambda value: None),
    "RET": ("ret", lambda value: Return(value.upper())),
    "ENVID": ("envid", _envid),
    "REQUIRETLS": ("require_tls", None),
    "BY": ("by", _by),
    "MT-PRIORITY": ("priority", _priority),
    "HOLDFOR": ("hold_for", _hold_for),
    "HOLDUNTIL": ("hold_until", _hold_until),
    "SOLICIT": ("solicit", _solicit),
    "PRDR": ("prdr", None),
    "XVERP": ("verp", verp.delimiters),
}
# What a keyword without a value means, of those that may have one.
_IMPLIED = {"XVERP": verp.DELIMITERS}
_RCPT: Mapping[str, tuple[str, _Reader]] = {
    "NOTIFY": ("notify", _notify),
    "ORCPT": ("original", _original),
}


def _parameters(
    text: str, known: Mapping[str, tuple[str, _Reader]], verb: str
) -> tuple[dict[str, Any], frozenset[str]]:
    """The values by the field that they set, and all keywords.

    @raise SyntaxFault: one is not known, is there twice, or has a wrong value.
    """
    values: dict[str, Any] = {}
    seen: set[str] = set()
    for word in text.split(" "):
        if not word:
            continue
        match = _ESMTP_PARAM.fullmatch(word) or _XVERP.fullmatch(word)
        keyword = match[1].upper() if match else ""
        if match is None or keyword not in known:
            raise SyntaxFault(555, "5.5.4", f"Unsupported {verb} parameter")
        if keyword in seen:
            raise SyntaxFault(501, "5.5.4", f"{keyword} is given twice")
        seen.add(keyword)
        name, read = known[keyword]
        try:
            if read is None:
                values[name] = _bare(keyword, match[2])
            elif match[2] is None and keyword in _IMPLIED:
                values[name] = _IMPLIED[keyword]
            elif match[2] is None:
                raise ValueError
            else:
                values[name] = read(match[2])
        except (ValueError, KeyError):
            raise SyntaxFault(501, "5.5.4", f"Bad {keyword} value")
    values.pop("", None)
    return values, frozenset(seen)


def mail_parameters(text: str) -> MailParameters:
    """Those of MAIL, which are there.

    @raise SyntaxFault: one is wrong; 555 if it is not known.
    """
    values, keywords = _parameters(text, _MAIL, "MAIL")
    if {"HOLDFOR", "HOLDUNTIL"} <= keywords:
        raise SyntaxFault(501, "5.5.4", "HOLDFOR and HOLDUNTIL exclude each other")
    return MailParameters(**values, keywords=keywords)


def rcpt_parameters(text: str) -> RcptParameters:
    """Those of RCPT.

    @raise SyntaxFault: one is wrong; 555 if it is not known.
    """
    values, keywords = _parameters(text, _RCPT, "RCPT")
    if not keywords:
        return NO_RCPT_PARAMETERS
    return RcptParameters(Notification(**values), keywords)
