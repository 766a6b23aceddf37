"""The productions of SMTP commands, under the names that the RFCs give them.

Arguments of MAIL and RCPT become L{Address} values and typed L{parameters
<twisted_mta.wire.smtp.parameter>}. It knows no state and no limits but those on the
lengths of names. It trusts nothing: whatever the text, a value or L{SyntaxFault}
comes of it, and no control character is ever part of a value (RFC 5321 4.1.2, RFC
6531 3.3).
"""

import re
import unicodedata
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from twisted_mta.mail.address import Address
from twisted_mta.wire.smtp.parameter import (
    NO_PARAMETERS,
    NO_RCPT_PARAMETERS,
    MailParameters,
    RcptParameters,
    mail_parameters,
    rcpt_parameters,
)
from twisted_mta.wire.smtp.syntax import UTF8_NON_ASCII, SyntaxFault

# RFC 5321 4.5.3.1.1 to 4.5.3.1.3, in octets.
_LOCAL_OCTETS = 64
_DOMAIN_OCTETS = 255
_PATH_OCTETS = 256
_LABEL_OCTETS = 63

# RFC 5321 4.1.2, extended by RFC 6531 3.3. A label may hold an underscore,
# against the letter: hosts in the wild have them, and Postfix takes them.
_ATEXT = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~\-{UTF8_NON_ASCII}]"
_DOT_STRING = rf"{_ATEXT}+(?:\.{_ATEXT}+)*"
_QTEXT_SMTP = rf"[\x20\x21\x23-\x5b\x5d-\x7e{UTF8_NON_ASCII}]"
_QUOTED_STRING = rf'"(?:{_QTEXT_SMTP}|\\[\x20-\x7e])*"'
_LET_DIG = rf"[A-Za-z0-9_{UTF8_NON_ASCII}]"
_SUB_DOMAIN = rf"{_LET_DIG}(?:[A-Za-z0-9_\-{UTF8_NON_ASCII}]*{_LET_DIG})?"
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

# What HELO and EHLO may say goes into Received and the log: a domain or a
# literal by its characters, and not more than that.
_HELLO_NAME = re.compile(r"[A-Za-z0-9._:\-\[\]]{1,255}")

_CHUNK = re.compile(r"([0-9]{1,18})(?: +(LAST))? *", re.IGNORECASE)
_ETRN = re.compile(rf"(@?)({_DOMAIN})")
_AUTH = re.compile(r"([A-Za-z0-9_\-]{1,20})(?: +([\x21-\x7e]+))? *")  # RFC 4422 3.1
# The same few people write to each other: arguments that are remembered, of 2 KB
# at most (the command line's limit), for 0.2 us instead of 5.
_REMEMBERED = 2048


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
    parameters = mail_parameters(rest) if rest else NO_PARAMETERS
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
    parameters = rcpt_parameters(rest) if rest else NO_RCPT_PARAMETERS
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


def _address(
    atoms: str | None, quoted: str | None, domain: str, status: str
) -> Address:
    local = atoms if atoms is not None else _unquote(quoted or "")
    octets = len(local.encode())
    # One that has another address in it (SRS, VERP) is as long as a path may be; other
    # servers send and take those.
    if octets > _LOCAL_OCTETS and "=" not in local:
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
