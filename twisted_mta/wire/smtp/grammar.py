"""The productions of SMTP commands, under the names that the RFCs give them.

Arguments of MAIL and RCPT become L{Address} values and typed parameters. It
knows no state and no limits but those on the lengths of names. It trusts
nothing: whatever the text, a value or L{SyntaxFault} comes of it, and no control
character is ever part of a value (RFC 5321 4.1.2, RFC 6531 3.3).
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Any

from twisted_mta.mail import dsn
from twisted_mta.mail.address import Address
from twisted_mta.mail.dsn import Notification, Notify
from twisted_mta.mail.envelope import Body, DeliverBy, Return

# RFC 5321 4.5.3.1.1 to 4.5.3.1.3, in octets.
_LOCAL_OCTETS = 64
_DOMAIN_OCTETS = 255
_PATH_OCTETS = 256
_LABEL_OCTETS = 63

# Above ASCII everything but the C1 controls, line and paragraph separators and
# the marks that reorder text (Unicode's Bidi_Control): what makes a terminal or
# a reader of logs see something else. RFC 8264 disallows them in names anyway.
_UTF8_NON_ASCII = (
    r"\u00a0-\u061b\u061d-\u200d\u2010-\u2027\u202f-\u2065\u206a-\ud7ff"
    r"\ue000-\U0010ffff"
)

# RFC 5321 4.1.2, extended by RFC 6531 3.3. A label may hold an underscore,
# against the letter: hosts in the wild have them, and Postfix takes them.
_ATEXT = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~\-{_UTF8_NON_ASCII}]"
_DOT_STRING = rf"{_ATEXT}+(?:\.{_ATEXT}+)*"
_QTEXT_SMTP = rf"[\x20\x21\x23-\x5b\x5d-\x7e{_UTF8_NON_ASCII}]"
_QUOTED_STRING = rf'"(?:{_QTEXT_SMTP}|\\[\x20-\x7e])*"'
_LET_DIG = rf"[A-Za-z0-9_{_UTF8_NON_ASCII}]"
_SUB_DOMAIN = rf"{_LET_DIG}(?:[A-Za-z0-9_\-{_UTF8_NON_ASCII}]*{_LET_DIG})?"
_DOMAIN = rf"{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*"
_ADDRESS_LITERAL = r"\[[A-Za-z0-9.:\-]+\]"
_AT_DOMAIN = rf"@{_DOMAIN}"
_SOURCE_ROUTE = rf"(?:{_AT_DOMAIN}(?:,{_AT_DOMAIN})*:)?"
_MAILBOX = rf"(?:({_DOT_STRING})|({_QUOTED_STRING}))@({_DOMAIN}|{_ADDRESS_LITERAL})"

# "MAIL FROM: <a@b>" with a space is wrong (RFC 5321 3.3) and common.
_ARGUMENT = r"(?: +(.*))?"
_REVERSE_PATH = re.compile(
    rf"FROM: ?<(?:{_SOURCE_ROUTE}{_MAILBOX})?>{_ARGUMENT}", re.IGNORECASE | re.DOTALL
)
_FORWARD_PATH = re.compile(
    rf"TO: ?<(?:{_SOURCE_ROUTE}{_MAILBOX}|(postmaster))>{_ARGUMENT}",
    re.IGNORECASE | re.DOTALL,
)
_QUOTED_PAIR = re.compile(r"\\(.)")

# RFC 5321 4.1.2: esmtp-keyword, esmtp-value, which RFC 6531 3.3 widens.
_ESMTP_PARAM = re.compile(
    rf"([A-Za-z0-9][A-Za-z0-9\-]*)(?:=([\x21-\x3c\x3e-\x7e{_UTF8_NON_ASCII}]+))?"
)

# What HELO and EHLO may say goes into Received and the log: a domain or a
# literal by its characters, and not more than that.
_HELLO_NAME = re.compile(r"[A-Za-z0-9._:\-\[\]]{1,255}")

_SIZE_VALUE = re.compile(r"[0-9]{1,20}")  # RFC 1870 4
_CHUNK = re.compile(r"([0-9]{1,18})(?: +(LAST))? *", re.IGNORECASE)
_ETRN = re.compile(rf"(@?)({_DOMAIN})")
_AUTH = re.compile(r"([A-Za-z0-9_\-]{1,20})(?: +([\x21-\x7e]+))? *")  # RFC 4422 3.1
# The same few people write to each other: arguments that are remembered, of 2 KB
# at most (the command line's limit), for 0.2 us instead of 5.
_REMEMBERED = 2048

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
_PORT = re.compile(r"[0-9]{1,5}")
# RFC 3865 2: words of a domain's author, reversed and with its year.
_SOLICIT = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9.:_\-]{0,999}(?:,[A-Za-z0-9.:_\-]{1,1000})*"
)


class SyntaxFault(ValueError):
    """A command is not what the grammar says.

    @ivar code: the reply code, C{status}: the RFC 3463 status that explain it.
    """

    def __init__(self, code: int, status: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.status = status


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


def hello_name(argument: str) -> str:
    """The argument of HELO or EHLO.

    @raise SyntaxFault: there is none, or it can be no name.
    """
    name = argument.strip(" ")
    if not _HELLO_NAME.fullmatch(name):
        raise SyntaxFault(501, "5.5.4", "Say a domain name or address literal")
    return name


@lru_cache(maxsize=_REMEMBERED)
def mail_argument(argument: str) -> tuple[Address | None, MailParameters]:
    """The argument of MAIL: the sender, C{None} for C{<>}, and parameters.

    @raise SyntaxFault: it is none; 555 for a parameter not offered.
    """
    match = _REVERSE_PATH.fullmatch(argument)
    if match is None:
        raise SyntaxFault(501, "5.1.7", "Bad sender address syntax")
    atoms, quoted, domain, rest = match.groups()
    parameters = _mail_parameters(rest) if rest else NO_PARAMETERS
    if domain is None:
        return None, parameters
    address = _address(atoms, quoted, domain, "5.1.7")
    if not (parameters.smtputf8 or argument.isascii()):
        raise SyntaxFault(553, "5.6.7", "This address needs SMTPUTF8")
    return address, parameters


@lru_cache(maxsize=_REMEMBERED)
def rcpt_argument(argument: str, smtputf8: bool) -> tuple[Address, RcptParameters]:
    """The argument of RCPT. Source routes are read and not followed (RFC 5321
    4.1.1.3).

    @param smtputf8: the transaction's MAIL said SMTPUTF8.
    @return: the recipient, of the bare C{postmaster} without a domain; and what it
        declares.
    @raise SyntaxFault: it is none; 555 for a parameter not known.
    """
    match = _FORWARD_PATH.fullmatch(argument)
    if match is None:
        raise SyntaxFault(501, "5.1.3", "Bad recipient address syntax")
    atoms, quoted, domain, postmaster, rest = match.groups()
    parameters = _rcpt_parameters(rest) if rest else NO_RCPT_PARAMETERS
    if postmaster is not None:
        return Address("postmaster", ""), parameters
    if not (smtputf8 or argument.isascii()):
        raise SyntaxFault(553, "5.6.7", "This address needs SMTPUTF8")
    return _address(atoms, quoted, domain, "5.1.3"), parameters


def bdat_argument(argument: str) -> tuple[int, bool]:
    """The argument of BDAT (RFC 3030 2): octets, and whether it is the last.

    @raise SyntaxFault: it is none, or too large to be meant.
    """
    match = _CHUNK.fullmatch(argument)
    if match is None:
        raise SyntaxFault(501, "5.5.4", "Say BDAT size [LAST]")
    return int(match[1]), match[2] is not None


def auth_argument(argument: str) -> tuple[str, bytes | None]:
    """The argument of AUTH (RFC 4954 4): the mechanism and the initial
    response, still in base64; C{None} if there is none.

    @raise SyntaxFault: it is none.
    """
    match = _AUTH.fullmatch(argument)
    if match is None:
        raise SyntaxFault(501, "5.5.4", "Say AUTH mechanism [initial-response]")
    return match[1].upper(), match[2].encode() if match[2] else None


def etrn_argument(argument: str) -> str:
    """The argument of ETRN (RFC 1985 5.1): a domain, perhaps with C{@} before it.

    @raise SyntaxFault: it is none. Queues with names of their own (C{#}) are not
        known.
    """
    match = _ETRN.fullmatch(argument)
    if match is None:
        raise SyntaxFault(501, "5.5.4", "Say ETRN domain")
    return match[1] + _domain(match[2], "5.5.4")


def attributes(argument: str, known: frozenset[str]) -> dict[str, str | None]:
    """The argument of XCLIENT or XFORWARD (Postfix XCLIENT_README,
    XFORWARD_README): names and values in xtext.

    @return: by name; C{None} for what the client does not know.
    @raise SyntaxFault: it is none.
    """
    found: dict[str, str | None] = {}
    for word in argument.split():
        name, equals, value = word.partition("=")
        name = name.upper()
        if not equals or name not in known or name in found:
            raise SyntaxFault(501, "5.5.4", "Bad attribute")
        try:
            decoded = dsn.decode_xtext(value)
        except ValueError:
            raise SyntaxFault(501, "5.5.4", f"Bad {name} value")
        if decoded.upper() in ("[UNAVAILABLE]", "[TEMPUNAVAIL]", ""):
            found[name] = None
            continue
        try:
            found[name] = _ATTRIBUTES.get(name, str)(decoded)
        except ValueError:
            raise SyntaxFault(501, "5.5.4", f"Bad {name} value")
    if not found:
        raise SyntaxFault(501, "5.5.4", "Say name=value")
    return found


def _peer(value: str) -> str:
    if "%" in value:  # a zone (RFC 4007 11) may be any text, and means nothing here
        raise ValueError
    return str(ip_address(re.sub(r"(?i)^ipv6:", "", value)))


def _port(value: str) -> str:
    if not _PORT.fullmatch(value) or int(value) > 65535:
        raise ValueError
    return value


_ATTRIBUTES: Mapping[str, Callable[[str], str]] = {
    "ADDR": _peer,
    "DESTADDR": _peer,
    "PORT": _port,
    "DESTPORT": _port,
    "HELO": hello_name,
}

#: What XCLIENT may say.
XCLIENT = frozenset(
    {"NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT"}
)
#: What XFORWARD may say.
XFORWARD = frozenset({"NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE"})


def _address(
    atoms: str | None, quoted: str | None, domain: str, status: str
) -> Address:
    local = atoms if atoms is not None else _unquote(quoted or "")
    octets = len(local.encode())
    if octets > _LOCAL_OCTETS:
        raise SyntaxFault(501, status, "Local part too long")
    if domain.startswith("["):
        if not _literal(domain[1:-1]):
            raise SyntaxFault(501, status, "Bad address literal")
        domain = domain.lower()
    else:
        domain = _domain(domain, status)
    if octets + 1 + len(domain.encode()) > _PATH_OCTETS:
        raise SyntaxFault(501, status, "Address too long")
    return Address(local, domain)


def _domain(domain: str, status: str) -> str:
    # A-labels stay as they were given; U-labels compare in NFC (RFC 5890 2.3.2.1).
    if not domain.isascii():
        domain = unicodedata.normalize("NFC", domain)
    domain = domain.lower()
    octets = domain.encode()
    if len(octets) > _DOMAIN_OCTETS or (
        len(octets) > _LABEL_OCTETS
        and max(map(len, octets.split(b"."))) > _LABEL_OCTETS
    ):
        raise SyntaxFault(501, status, "Domain name too long")
    return domain


def _unquote(quoted: str) -> str:
    return _QUOTED_PAIR.sub(r"\1", quoted[1:-1])


def _literal(text: str) -> bool:
    """RFC 5321 4.1.3. Of General-address-literals none is registered."""
    try:
        if text[:5].lower() == "ipv6:":
            IPv6Address(text[5:])
        else:
            IPv4Address(text)
    except AddressValueError:
        return False
    return True


# --- parameters: each reader takes the value and gives what is kept ---


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
}
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
        match = _ESMTP_PARAM.fullmatch(word)
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
            elif match[2] is None:
                raise ValueError
            else:
                values[name] = read(match[2])
        except (ValueError, KeyError):
            raise SyntaxFault(501, "5.5.4", f"Bad {keyword} value")
    values.pop("", None)
    return values, frozenset(seen)


def _mail_parameters(text: str) -> MailParameters:
    values, keywords = _parameters(text, _MAIL, "MAIL")
    if {"HOLDFOR", "HOLDUNTIL"} <= keywords:
        raise SyntaxFault(501, "5.5.4", "HOLDFOR and HOLDUNTIL exclude each other")
    return MailParameters(**values, keywords=keywords)


def _rcpt_parameters(text: str) -> RcptParameters:
    values, keywords = _parameters(text, _RCPT, "RCPT")
    if not keywords:
        return NO_RCPT_PARAMETERS
    return RcptParameters(Notification(**values), keywords)
