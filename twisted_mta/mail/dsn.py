"""What a sender asks to be told of a recipient's mail (RFC 3461), as values.

It knows no wire syntax beyond xtext, and no reports: those are the queue's and
the intake's to write.
"""

import re
from dataclasses import dataclass
from enum import Flag, auto

from twisted_mta.mail.address import Address

_HEX = re.compile(r"\+([0-9A-F]{2})")
# RFC 3461 4: any CHAR between "!" and "~" but "+" and "=".
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_NOT_XCHAR = re.compile(r"[^!-*,-<>-~]")
# RFC 6533 3: a character as its number, within xtext or where UTF-8 may not be.
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")


class Notify(Flag):
    """Of what the sender wants to be told (RFC 3461 4.1)."""

    NEVER = 0
    SUCCESS = auto()
    FAILURE = auto()
    DELAY = auto()


@dataclass(frozen=True, slots=True)
class OriginalRecipient:
    """Whom the sender wrote to, whatever has become of the address since.

    @ivar type: of the address (RFC 3464 2.1.2), lower case: C{rfc822}, C{utf-8}.
    @ivar address: decoded.
    """

    type: str
    address: str

    @property
    def international(self) -> bool:
        """It cannot be written in ASCII."""
        return not self.address.isascii()


@dataclass(frozen=True, slots=True)
class Notification:
    """What is asked for one recipient.

    @ivar notify: C{None} if nothing was said, which means failures, and delays
        if this server tells of them.
    @ivar original: ORCPT, C{None} if it was not said.
    """

    notify: Notify | None = None
    original: OriginalRecipient | None = None

    @property
    def success(self) -> bool:
        """A delivery is told."""
        return self.notify is not None and Notify.SUCCESS in self.notify

    @property
    def failure(self) -> bool:
        """A failure is told."""
        return self.notify is None or Notify.FAILURE in self.notify

    @property
    def delay(self) -> bool:
        """A delay is told."""
        return self.notify is None or Notify.DELAY in self.notify


USUAL = Notification()
"""Nothing was said."""


def original(address: Address) -> OriginalRecipient:
    """An address of ours as an original recipient (RFC 3461 4.2, RFC 6533 3)."""
    return OriginalRecipient("rfc822" if address.ascii else "utf-8", str(address))


def decode_xtext(text: str) -> str:
    """RFC 3461 4.

    @raise ValueError: it is no xtext, or does not stand for printable ASCII.
    """
    if not _XTEXT.fullmatch(text):
        raise ValueError("not xtext")
    decoded = _HEX.sub(lambda match: chr(int(match[1], 16)), text)
    if not (decoded.isascii() and decoded.isprintable()):
        raise ValueError("not printable")
    return decoded


def encode_xtext(text: str) -> str:
    """Printable ASCII as xtext."""
    return _NOT_XCHAR.sub(lambda match: f"+{ord(match[0]):02X}", text)


def decode_original(text: str) -> OriginalRecipient:
    """The value of ORCPT: a type and an address (RFC 3461 4.2; RFC 6533 3, where
    the address may be in UTF-8, or have embedded characters).

    @raise ValueError: it is none.
    """
    type, semicolon, address = text.partition(";")
    type = type.lower()
    if not semicolon or not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,30}", type):
        raise ValueError("no address type")
    if type != "utf-8":
        return OriginalRecipient(type, _some(decode_xtext(address)))
    if not _EMBEDDED.sub("", address).isprintable():
        raise ValueError("not printable")
    if address.isascii():
        address = _HEX.sub(lambda match: chr(int(match[1], 16)), address)
    decoded = _EMBEDDED.sub(_embedded, address)
    if not decoded.isprintable():
        raise ValueError("not printable")
    return OriginalRecipient(type, _some(decoded))


def _embedded(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        raise ValueError("not a character")
    return chr(number)


def _some(address: str) -> str:
    if not address:
        raise ValueError("no address")
    return address


def encode_original(original: OriginalRecipient, utf8: bool = False) -> str:
    """The value of ORCPT.

    @param utf8: SMTPUTF8 was said, so it may be in UTF-8.
    """
    if original.type != "utf-8":
        return f"{original.type};{encode_xtext(original.address)}"
    return f"utf-8;{international(original.address, utf8)}"


def international(address: str, utf8: bool) -> str:
    """An address as utf-8-addr-unitext, or as utf-8-addr-xtext (RFC 6533 3)."""

    def embedded(match: re.Match[str]) -> str:
        char = match[0]
        return char if utf8 and ord(char) > 127 else f"\\x{{{ord(char):02X}}}"

    return _NOT_QCHAR.sub(embedded, address)
