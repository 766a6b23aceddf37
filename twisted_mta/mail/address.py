"""An Internet mail address as a value (RFC 5321 4.1.2, RFC 6531).

It knows no wire syntax beyond writing itself: what arrives is parsed in
L{twisted_mta.wire.smtp.grammar}. What it holds is decoded: a quoted local part
is kept without its quotes and escapes.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff"
_DOT_STRING = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*")


@dataclass(frozen=True, slots=True)
class Address:
    """Local part and domain.

    @ivar local: the local part, decoded, its case kept (RFC 5321 2.4).
    @ivar domain: lower case; a domain name or an address literal in its
        brackets; empty only for the bare C{postmaster} of RFC 5321 4.5.1.
    """

    local: str
    domain: str
    # Asked for by the log, the trace, the router and the directory: made once.
    _text: str = field(default="", init=False, repr=False, compare=False)

    def __str__(self) -> str:
        if not self._text:
            object.__setattr__(self, "_text", self._written())
        return self._text

    def _written(self) -> str:
        local = self.local
        if not _DOT_STRING.fullmatch(local):
            escaped = local.replace("\\", "\\\\").replace('"', '\\"')
            local = f'"{escaped}"'
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def key(self) -> str:
        """What an account or alias is looked up by: all lower case, since no
        server in use tells C{Bob} from C{bob} (against the letter of RFC 5321
        2.4, as Postfix does)."""
        return str(self).casefold()

    @property
    def ascii(self) -> bool:
        """Whether it can be written without SMTPUTF8 (RFC 6531)."""
        return self.local.isascii() and self.domain.isascii()


@lru_cache(maxsize=4096)
def split(text: str) -> Address:
    """An address that a person or a config wrote, such as C{bob@example.org}.

    @raise ValueError: it is not one C{local@domain} of plain atoms.
    """
    local, at, domain = text.strip().rpartition("@")
    if not at or not _DOT_STRING.fullmatch(local) or not domain_name(domain):
        raise ValueError(f"not an address: {text!r}")
    return Address(local, domain.lower())


_LETTER = r"A-Za-z0-9\u0080-\U0010ffff"
_LABEL = rf"[{_LETTER}](?:[{_LETTER}\-]*[{_LETTER}])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def domain_name(text: str) -> bool:
    """Whether this is a domain name by its form: at most 255 octets, labels of
    at most 63 (RFC 1035 2.3.4)."""
    return (
        len(text.encode()) <= 255
        and _DOMAIN.fullmatch(text) is not None
        and all(len(label.encode()) <= 63 for label in text.split("."))
    )
