"""The attributes of XCLIENT and XFORWARD (Postfix XCLIENT_README, XFORWARD_README)."""

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address

from twisted_mta.mail.dsn import decode_xtext
from twisted_mta.wire.smtp.grammar import hello_name
from twisted_mta.wire.smtp.syntax import SyntaxFault

_PORT = re.compile(r"[0-9]{1,5}")


def attributes(argument: str, known: frozenset[str]) -> dict[str, str | None]:
    """The argument of XCLIENT or XFORWARD: names and values in xtext.

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
            decoded = decode_xtext(value)
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
