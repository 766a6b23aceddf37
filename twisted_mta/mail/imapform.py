"""IMAP's ENVELOPE, BODY and BODYSTRUCTURE as ready octets (RFC 3501 7.4.2).

They are made once, when a message is stored, and joined into replies later.
Whatever the message, they are what RFC 3501's grammar allows: short printable
text is quoted, all else becomes a literal, NUL never appears, and line ends are
spaces. Nothing is decoded: clients do that. Octets may be eight bit, in
literals only.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

from twisted_mta.mail import addresslist, header
from twisted_mta.mail.addresslist import Entry
from twisted_mta.mail.content import PLAIN, Content
from twisted_mta.mail.parameter import Parameters
from twisted_mta.mail.structure import Kind, Part, Structure

QUOTED_MAX = 1000
"""Octets of a quoted string; what is longer is a literal, because clients
read a line at once and bound it (Python's imaplib: 1 MB)."""

# What Dovecot says in place of what an address lacks: NIL would mean a group.
_NO_LOCAL = b"MISSING_MAILBOX"
_NO_HOST = b"MISSING_DOMAIN"

_SAFE = re.compile(rb"[ !#-\[\]-~]{0,%d}" % QUOTED_MAX)
_ESCAPABLE = re.compile(rb"[ -~]{0,%d}" % QUOTED_MAX)
_CLEAN = bytes.maketrans(b"\r\n", b"  ")


def string(octets: bytes) -> bytes:
    """A quoted string or a literal (RFC 3501 4.3)."""
    if _SAFE.fullmatch(octets):
        return b'"%b"' % octets
    if _ESCAPABLE.fullmatch(octets):
        return b'"%b"' % octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    octets = octets.translate(_CLEAN, b"\0")
    return b"{%d}\r\n%b" % (len(octets), octets)


def nstring(octets: bytes | None) -> bytes:
    """A string, or NIL for C{None}."""
    return b"NIL" if octets is None else string(octets)


def _address(entry: Entry) -> bytes:
    local, host = entry.local, entry.host
    if host is not None:
        local, host = local or _NO_LOCAL, host or _NO_HOST
    return b"(%b %b %b %b)" % (
        nstring(entry.name),
        nstring(entry.route),
        nstring(local),
        nstring(host),
    )


def _addresses(values: Sequence[bytes]) -> bytes:
    """The list of a field. Several To, Cc or Bcc fields count as one (RFC 5322
    4.5.3), still of no more than L{addresslist.ENTRIES_MAX}."""
    if not values:
        return b"NIL"
    value = values[0] if len(values) == 1 else b", ".join(values)
    return _known(value) if len(value) <= _SHORT else _listed(value)


def _listed(value: bytes) -> bytes:
    entries = addresslist.parse(value)
    if not entries:
        return b"NIL"
    return b"(%b)" % b"".join([_address(entry) for entry in entries])


# The same few people write to each other: 4 us for a list that was seen before
# the last thousand others.
_SHORT = 200
_known = lru_cache(maxsize=1024)(_listed)

# A line end, then what may be the name of one of the fields, that is not longer
# than the longest: a literal first is searched for three times as fast as the
# alternatives of all names.
_ENVELOPE = re.compile(
    rb"\n([DSFRTCBIMdsfrtcbim][A-Za-z-]{1,10}+)[ \t]*+:"
    rb"([^\n]*+(?:\n[ \t][^\n]*+)*+)"
)
_NAMES = frozenset(
    b"date subject from sender reply-to to cc bcc in-reply-to message-id".split()
)


def envelope(block: bytes) -> bytes:
    """The ENVELOPE of a header block, with its parentheses. 8 us usually.

    Sender and Reply-To are those of From when missing or empty. Of fields that
    may be there once, the first counts. A list holds the first
    L{addresslist.ENTRIES_MAX} addresses, a string the first
    L{header.VALUE_MAX} octets.
    """
    values: dict[bytes, list[bytes]] = {}
    for field in islice(_ENVELOPE.finditer(b"\n" + block), header.FIELDS_MAX):
        name, value = field.groups()
        name = name.lower()
        if name in _NAMES:
            unfolded = header.unfold(value[: addresslist.FIELD_MAX])
            values.setdefault(name, []).append(unfolded)

    def once(name: bytes) -> bytes:
        found = values.get(name)
        return string(found[0][: header.VALUE_MAX]) if found else b"NIL"

    from_ = _addresses(values.get(b"from", [])[:1])
    sender = _addresses(values.get(b"sender", [])[:1])
    reply_to = _addresses(values.get(b"reply-to", [])[:1])
    return b"(%b)" % b" ".join(
        (
            once(b"date"),
            once(b"subject"),
            from_,
            from_ if sender == b"NIL" else sender,
            from_ if reply_to == b"NIL" else reply_to,
            _addresses(values.get(b"to", ())),
            _addresses(values.get(b"cc", ())),
            _addresses(values.get(b"bcc", ())),
            once(b"in-reply-to"),
            once(b"message-id"),
        )
    )


def _parameters(parameters: Parameters) -> bytes:
    """body-fld-param, RFC 3501 9."""
    if not parameters:
        return b"NIL"
    return b"(%b)" % b" ".join(
        [b"%b %b" % (string(name), string(value)) for name, value in parameters]
    )


def _charset(parameters: Parameters) -> Parameters:
    """Of a text, which has one even if it does not say so (RFC 2046 4.1.2)."""
    if any(name in (b"charset", b"charset*") for name, value in parameters):
        return parameters
    return ((b"charset", b"us-ascii"), *parameters)


def _extension(part: Part) -> bytes:
    """Disposition, language and location, with a space before each."""
    described = part.content
    if described[4:] == PLAIN[4:]:
        return b" NIL NIL NIL"
    disposition = b"NIL"
    if described.disposition is not None:
        kind, parameters = described.disposition
        disposition = b"(%b %b)" % (string(kind), _parameters(parameters))
    language = b"NIL"
    if described.language:
        language = b"(%b)" % b" ".join([string(tag) for tag in described.language])
    return b" %b %b %b" % (disposition, language, nstring(described.location))


def _multipart(part: Part, extended: bool) -> bytes:
    """body-type-mpart, RFC 3501 9."""
    children = b"".join([_part(child, extended) for child in part.children])
    described = part.content
    shown = b"(%b %b" % (children, string(described.subtype))
    if extended:
        shown += b" " + _parameters(described.parameters) + _extension(part)
    return shown + b")"


def _fields(described: Content) -> bytes:
    """body-fields, RFC 3501 9, without the size, and the type before them."""
    parameters = described.parameters
    if described.type == b"text":
        parameters = _charset(parameters)
    return b"%b %b %b %b %b %b" % (
        string(described.type),
        string(described.subtype),
        _parameters(parameters),
        nstring(described.id),
        nstring(described.description),
        string(described.encoding),
    )


# Most parts say their type, a charset and an encoding, and nothing more: a few
# different ones, whose fields are remembered.
_known_fields = lru_cache(maxsize=256)(_fields)
_SHORT_PARAMETER = 40


def _is_short(described: Content) -> bool:
    parameters = described.parameters
    return described[4:] == PLAIN[4:] and (
        not parameters
        or (len(parameters) == 1 and len(parameters[0][1]) <= _SHORT_PARAMETER)
    )


def _part(part: Part, extended: bool) -> bytes:
    """One part and those within it, a hundred deep at most (the scanner's
    limit)."""
    if part.kind is Kind.MULTIPART:
        return _multipart(part, extended)
    described = part.content
    short = _is_short(described)
    fields = _known_fields(described) if short else _fields(described)
    shown = b"(%b %d" % (fields, part.end - part.body_start)
    if part.kind is Kind.MESSAGE:
        message = part.children[0]
        shown += b" %b %b" % (envelope(message.header), _part(message, extended))
    if described.type == b"text" or part.kind is Kind.MESSAGE:
        shown += b" %d" % part.lines
    if extended:
        shown += b" %b%b" % (nstring(described.md5), _extension(part))
    return shown + b")"


def bodystructure(structure: Structure) -> bytes:
    """BODYSTRUCTURE with its parentheses, 9 us for a plain message."""
    return _part(structure.root, True)


def body(structure: Structure) -> bytes:
    """BODY with its parentheses: BODYSTRUCTURE without extension data."""
    return _part(structure.root, False)
