"""What the Content- fields of one part's header say (RFC 2045, 2183, 3282...).

Octets as they were written, without folding, comments and quotes; nothing is
decoded, nothing raises. What is missing or makes no sense has the default that
its RFC gives.
"""

import re
from typing import NamedTuple

from twisted_mta.mail import header, parameter
from twisted_mta.mail.parameter import Parameters

LANGUAGES_MAX = 128
"""Tags of one Content-Language field that are read, as for parameters."""


class Disposition(NamedTuple):
    """A Content-Disposition (RFC 2183).

    @ivar kind: such as C{b"attachment"}, in lower case.
    """

    kind: bytes
    parameters: Parameters


class Content(NamedTuple):
    """The description of one part.

    @ivar type: such as C{b"text"}, in lower case, as is C{subtype}.
    @ivar parameters: of the Content-Type; RFC 2231 pieces are put together.
    @ivar encoding: in lower case.
    """

    type: bytes = b"text"
    subtype: bytes = b"plain"
    parameters: Parameters = ()
    encoding: bytes = b"7bit"
    id: bytes | None = None
    description: bytes | None = None
    disposition: Disposition | None = None
    language: tuple[bytes, ...] = ()
    location: bytes | None = None
    md5: bytes | None = None


# RFC 2045 5.2: the type of a part that does not say, and of one that says
# something that cannot be understood.
PLAIN = Content()

# RFC 2046 5.1.5: the same inside a multipart/digest.
DIGEST = Content(type=b"message", subtype=b"rfc822")

# A line end, then the start of a name: a literal that is searched for quickly
# where alternatives of whole names are not.
_NAME = re.compile(rb"\n[Cc][Oo][Nn][Tt][Ee][Nn][Tt]-([A-Za-z0-9-]{2,25}+)[ \t]*+:")
_END = re.compile(rb"\n(?![ \t])")
_TOKEN = re.compile(rb"[^\s;()]++")
_TYPE = re.compile(rb"([^\s;/()<>@,\\\"=]++)\s*+/\s*+([^\s;/()<>@,\\\"=]++)")

_NAMES = frozenset(
    (
        b"type",
        b"transfer-encoding",
        b"id",
        b"description",
        b"disposition",
        b"language",
        b"location",
        b"md5",
    )
)


def _values(block: bytes) -> dict[bytes, bytes]:
    """The unfolded value of the first of each of the fields, by the name
    without its C{content-}."""
    values: dict[bytes, bytes] = {}
    at = 0
    block = b"\n" + block
    while found := _NAME.search(block, at):
        at = found.end()
        name = found[1].lower()
        if name not in _NAMES or name in values:
            continue
        stop = _END.search(block, at)
        end = stop.start() if stop else len(block)
        values[name] = header.unfold(block[at : min(end, at + header.VALUE_MAX)])
        if len(values) == len(_NAMES):
            break
        at = end
    return values


def _disposition(value: bytes) -> Disposition | None:
    kind, parameters = parameter.parse(value)
    return Disposition(kind.lower(), parameters) if kind else None


def _languages(value: bytes) -> tuple[bytes, ...]:
    tags = value.split(b",", LANGUAGES_MAX)[:LANGUAGES_MAX]
    return tuple(tag.strip() for tag in tags if tag.strip())


def parse(block: bytes, default: Content = PLAIN) -> Content:
    """Read a part's header block.

    @param default: what the part is when it has no Content-Type.
    """
    values = _values(block)
    if not values:
        return default
    type_, subtype, parameters = default[:3]
    if b"type" in values:
        value = values[b"type"]
        if found := _TYPE.match(value):
            type_, subtype = found[1].lower(), found[2].lower()
            parameters = parameter.parse(value)[1]
        else:
            type_, subtype, parameters = PLAIN[:3]
    encoding = _TOKEN.search(values.get(b"transfer-encoding", b""))
    return Content(
        type_,
        subtype,
        parameters,
        encoding[0].lower() if encoding else b"7bit",
        values.get(b"id"),
        values.get(b"description"),
        _disposition(values.get(b"disposition", b"")),
        _languages(values[b"language"]) if b"language" in values else (),
        values.get(b"location"),
        values.get(b"md5"),
    )
